import { describe, expect, it } from 'vitest';
import { firstCatalog } from '../catalog/document.ts';
import type { CatalogNode } from '../catalog/types.ts';
import type { HistoryId, NodeId } from '../ids.ts';
import { assembleStatus } from './status.ts';
import type { NodeReport, NodeStatus } from './status.ts';

function node(number: number): CatalogNode {
  return {
    id: `n${number}` as NodeId,
    storeId: `${number}`.padStart(16, '0'),
    address: `127.0.0.1:${7400 + number}`,
    weight: 100,
    host: `h${number}`,
    rack: 'rack',
    zone: 'zone',
  };
}

function report(id: string, changes: Partial<NodeReport> = {}): NodeReport {
  return {
    id,
    storeId: '',
    pid: 1,
    version: '',
    uptimeMs: 1,
    catalogEpoch: 1,
    vote: { fit: true, reason: '' },
    usedBytes: 10,
    fileBytes: 10,
    freeBytes: 90,
    capacityBytes: 100,
    diskId: id,
    blockCount: 1,
    damage: [],
    handoffCount: 0,
    readBytes: 0,
    writtenBytes: 0,
    residentBytes: 0,
    groups: [
      { id: 'g0', role: 'primary', epoch: 1, loggedSeq: 5, committedSeq: 5, appliedSeq: 5, serving: true, detail: '' },
    ] as unknown as NodeReport['groups'],
    mounts: [],
    ...changes,
  };
}

function statusOf(states: readonly (Partial<NodeReport> | 'down')[], copies = 3) {
  const nodes = states.map((_, index) => node(index + 1));
  const catalog = firstCatalog({
    clusterId: 'ab'.repeat(16),
    historyId: '0123456789abcdef' as HistoryId,
    nodes,
    copies,
  });
  const answers = states.map((state, index): NodeStatus => {
    const own = nodes[index] as CatalogNode;
    if (state === 'down') return { ...own, state: 'down', reason: 'connection refused' };
    return { ...own, state: 'up', report: report(own.id, state) };
  });
  return assembleStatus(catalog, answers);
}

describe('health in words', () => {
  it('is healthy, without a word, when all is well', () => {
    expect(statusOf([{}, {}, {}])).toMatchObject({
      health: 'healthy',
      findings: [],
      usedBytes: 30,
      capacityBytes: 300,
    });
  });

  it('names a dead node and what its death costs', () => {
    const status = statusOf([{}, {}, 'down']);
    expect(status.health).toBe('degraded');
    expect(status.findings.map((finding) => finding.text).join('\n')).toMatch(/Node n3 .* is down: connection refused/);
    expect(status.findings.every((finding) => finding.remedy !== '')).toBe(true);
  });

  it('is unavailable when the primary cannot be reached, and says so first', () => {
    const status = statusOf(['down', {}, {}]);
    expect(status.health).toBe('unavailable');
    expect(status.findings[0]).toMatchObject({ severity: 'unavailable', remedy: expect.stringMatching(/n1/) });
  });

  it('reports damage, mended or not', () => {
    const record = { pool: 1, id: 'ab'.repeat(32), foundAtMs: 0 };
    expect(statusOf([{ damage: [{ ...record, healed: false }] }, {}, {}]).health).toBe('degraded');
    const mended = statusOf([{ damage: [{ ...record, healed: true }] }, {}, {}]);
    expect(mended.health).toBe('healthy');
    expect(mended.findings[0]?.text).toMatch(/Node n1 found 1 damaged/);
  });

  it('warns of full nodes, single copies and single nodes', () => {
    expect(statusOf([{ freeBytes: 2 }, {}, {}]).findings[0]?.text).toMatch(/Node n1 is full/);
    expect(statusOf([{}, {}, {}], 1).findings.some((finding) => finding.text.includes('keeps one copy'))).toBe(true);
    expect(statusOf([{}]).findings[0]?.text).toMatch(/One node/);
  });
});
