import { describe, expect, it } from 'vitest';
import { applyChange, firstCatalog } from '../catalog/document.ts';
import type { CatalogChange, CatalogNode } from '../catalog/types.ts';
import type { HistoryId, NodeId } from '../ids.ts';
import { assembleStatus } from './status.ts';
import type { NodeReport, NodeStatus } from './status.ts';
import { outlookInWords } from './outlook.ts';
import type { ScarceReport } from './scarcity.ts';
import { votersInWords } from './voter-health.ts';
import { testNode as node } from '../catalog/testing.ts';

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

function statusOf(states: readonly (Partial<NodeReport> | 'down')[], copies = 3, changes: CatalogChange[] = []) {
  const first = states.map((_, index) => node(index + 1));
  const before = firstCatalog({
    clusterId: 'ab'.repeat(16),
    historyId: '0123456789abcdef' as HistoryId,
    nodes: first,
    copies,
  });
  const catalog = changes.reduce((last, change) => applyChange(last, change), before);
  const { nodes } = catalog;
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

  it('says of a dead node when its blocks get their copies elsewhere, and when they do', () => {
    const text = (states: readonly (Partial<NodeReport> | 'down')[], changes: CatalogChange[], copies = 3): string =>
      statusOf(states, copies, changes).findings[0]!.text;
    expect(text([{}, {}, 'down'], [])).toMatch(/Blocks it holds have one copy less\.$/);
    expect(text([{}, {}, {}, 'down'], [])).toMatch(
      /one copy less; if it stays down, they get it elsewhere after 10 min/,
    );
    const never: CatalogChange = { kind: 'setRepairAfter', afterMs: null };
    expect(text([{}, {}, {}, 'down'], [never])).toMatch(/by themselves: `tatami repair --after` was set to never/);
    const out: CatalogChange = { kind: 'setOut', id: 'n4' as NodeId, out: true };
    expect(text([{}, {}, {}, 'down'], [out])).toMatch(/its blocks get their copies on other nodes/);
  });

  it('is unavailable when the primary cannot be reached, and says so first', () => {
    const status = statusOf(['down', {}, {}]);
    expect(status.health).toBe('unavailable');
    expect(status.findings[0]).toMatchObject({
      severity: 'unavailable',
      remedy: expect.stringMatching(/n2 takes over/),
    });
    const both = statusOf(['down', 'down', {}]);
    expect(both.findings[0]).toMatchObject({ severity: 'unavailable', remedy: expect.stringMatching(/voters/) });
    const five = statusOf(['down', 'down', {}, {}, {}]);
    expect(five.findings[0]).toMatchObject({ severity: 'unavailable', remedy: expect.stringMatching(/n1 or n2/) });
  });

  it('reports damage, mended or not', () => {
    const record = { pool: 1, id: 'ab'.repeat(32), foundAtMs: 0 };
    expect(statusOf([{ damage: [{ ...record, healed: false }] }, {}, {}]).health).toBe('degraded');
    const mended = statusOf([{ damage: [{ ...record, healed: true }] }, {}, {}]);
    expect(mended.health).toBe('healthy');
    expect(mended.findings[0]?.text).toMatch(/Node n1 found 1 damaged/);
  });

  describe('while blocks have fewer copies than their pool wants', () => {
    const settled = [1, 2].map((pool) => ({ pool, epoch: 1 }));
    const zero = { settled, missingCount: 0, missingBytes: 0, copiedCount: 0, copiedBytes: 0 };
    const told = (...scarce: readonly ScarceReport[]): Partial<NodeReport> => ({ repair: { ...zero, scarce } });
    const three: ScarceReport = { pool: 1, count: 3, bytes: 3_000, unsure: false };

    it('is degraded, and says how much that is', () => {
      const status = statusOf([told(three), told(), told({ ...three, count: 2 })]);
      expect(status.health).toBe('degraded');
      expect(status.findings).toEqual([
        {
          severity: 'degraded',
          text: 'Pool files has blocks with fewer than 3 copies: 5 copies are still to be made.',
          remedy: expect.stringMatching(/`tatami repair` shows how far/),
        },
      ]);
    });

    it('is so also where it is not known yet, and says who has to look', () => {
      const unsure = { ...three, count: 0, bytes: 0, unsure: true };
      const status = statusOf([told(unsure), told(), told(unsure)]);
      expect(status.health).toBe('degraded');
      expect(status.findings[0]?.text).toBe(
        'Pool files may have blocks with fewer than 3 copies: n1, n3 are still looking through theirs.',
      );
      expect(statusOf([told(unsure), told(three), told()]).findings[0]?.text).toBe(
        'Pool files has blocks with fewer than 3 copies: 3 copies are still to be made, and n1 is still looking through its own.',
      );
    });

    it('is healthy where blocks only have to be moved, and with nodes that do not tell', () => {
      const moving = { ...zero, settled: [], scarce: [], missingCount: 4, missingBytes: 4_000, postponedCount: 9 };
      expect(statusOf([{ repair: moving }, { repair: { ...zero, settled: [], missingCount: 4 } }, {}])).toMatchObject({
        health: 'healthy',
        findings: [],
      });
    });

    it('says that one more failure may cost them, where two copies are kept', () => {
      const texts = (copies: number): string[] =>
        statusOf([told(three), told(), told()], copies).ifFails.map((each) => outlookInWords(each));
      expect(texts(2).every((text) => /blocks of pool files of which copies are still to be made/.test(text))).toBe(
        true,
      );
      expect(texts(3).some((text) => /still to be made/.test(text))).toBe(false);
    });
  });

  it('warns of full nodes, single copies and single nodes', () => {
    expect(statusOf([{ freeBytes: 2 }, {}, {}]).findings[0]?.text).toMatch(/Node n1 is full/);
    const none = { usedBytes: 0, fileBytes: 0, freeBytes: 0, capacityBytes: 0 };
    expect(statusOf([{}, none, {}]).findings[0]?.text).toMatch(/Node n2 is full/);
    expect(statusOf([{}, {}, {}], 1).findings.some((finding) => finding.text.includes('keeps one copy'))).toBe(true);
    expect(statusOf([{}]).findings[0]?.text).toMatch(/One node/);
  });

  it('R10: names the only voter of two nodes, and what mends it', () => {
    const [finding] = statusOf([{}, {}]).findings;
    expect(finding).toMatchObject({ severity: 'note', text: expect.stringMatching(/Node n1 alone votes/) });
    expect(finding?.remedy).toMatch(/tatami witness/);
  });

  it('says which voters are up, and what one more failure would cost', () => {
    expect(votersInWords(statusOf([{}, {}, {}]).voters)).toBe('n1 n2 n3: any one may fail');
    expect(votersInWords(statusOf([{}, {}, {}, {}, {}]).voters)).toBe('n1 n2 n3 n4 n5: any 2 may fail');
    const one = statusOf([{}, 'down', {}]);
    expect(one.voters.map((voter) => voter.state)).toEqual(['up', 'down', 'up']);
    expect(one.findings.some(({ text }) => /Without voter n2, the loss of one more/.test(text))).toBe(true);
    const two = statusOf([{}, 'down', 'down']);
    expect(votersInWords(two.voters)).toBe('n1 n2 (down) n3 (down): the catalog cannot change now');
    expect(two.findings.find(({ text }) => text.startsWith('The catalog cannot change'))?.remedy).toMatch(/^Bring 1/);
  });

  it('R11: names a voter that lost its votes', () => {
    const status = statusOf([{}, { vote: { fit: false, reason: 'its votes.json is missing' } }, {}]);
    expect(status.voters[1]).toEqual({ id: 'n2', state: 'lost', reason: 'its votes.json is missing' });
    expect(status.findings.find(({ text }) => text.includes('never votes'))?.text).toMatch(
      /n2 .*votes.json is missing/,
    );
    expect(status.health).toBe('degraded');
  });
});

describe('what a further failure would cost', () => {
  const outlook = (states: readonly (Partial<NodeReport> | 'down')[], copies?: number) =>
    statusOf(states, copies).ifFails.map((each) => `${each.impact}: ${outlookInWords(each)}`);

  it('three nodes: a pause for the two that serve, nothing for the third', () => {
    expect(outlook([{}, {}, {}])).toEqual([
      'pause: if n1 fails now: file operations stand still for some 3 s, then n2 serves and n3 becomes secondary',
      'pause: if n2 fails now: changes stand still for some 2 s, then n3 becomes secondary',
      'none: if n3 fails now: everything goes on',
    ]);
    expect(outlook([{}, {}, {}, {}, {}]).at(-1)).toBe('none: if any one of n3 n4 n5 fails now: everything goes on');
  });

  it('three nodes with one down: whoever fails next, files cannot be used, and what to do', () => {
    const [first] = statusOf([{}, {}, 'down']).ifFails;
    expect(first).toMatchObject({ nodes: ['n1'], impact: 'outage', remedy: 'Bring n3 back.' });
    expect(first?.effects[0]).toMatch(/^files cannot be used until it is back: without its vote nobody can take over/);
    expect(outlook([{}, {}, 'down'])[1]).toMatch(/^outage: if n2 fails now: .*without its vote it cannot be left out/);
    expect(outlook([{}, {}, 'down'], 2)[0]).toMatch(
      /blocks that only it and the nodes that are down have cannot be read/,
    );
  });

  it('R10: two nodes: the one with the vote must not fail; a witness is the remedy', () => {
    const [first, second] = statusOf([{}, {}]).ifFails;
    expect(first).toMatchObject({ nodes: ['n1'], impact: 'outage', remedy: expect.stringMatching(/tatami witness/) });
    expect(second).toMatchObject({ nodes: ['n2'], impact: 'outage' });
    expect(second?.effects).toEqual([
      'changes stand still for some 2 s, then n1 serves alone',
      'file data cannot be written: a block goes to 2 nodes',
    ]);
    expect(statusOf([{}]).ifFails[0]).toMatchObject({ nodes: ['n1'], impact: 'outage' });
  });

  it('a node that is out does not count once repair is done', () => {
    const out: CatalogChange = { kind: 'setOut', id: 'n5' as NodeId, out: true };
    const repaired: NonNullable<NodeReport['repair']> = {
      settled: [1, 2].map((pool) => ({ pool, epoch: 2 })),
      ...{ missingCount: 0, missingBytes: 0, copiedCount: 0, copiedBytes: 0 },
    };
    const unread = /blocks that only it and the nodes that are down have cannot be read/;
    const last = (repair: NonNullable<NodeReport['repair']>) =>
      outlookInWords(statusOf([{ repair }, { repair }, { repair }, { repair }, 'down'], 2, [out]).ifFails.at(-1)!);
    expect(last({ ...repaired, missingCount: 1 })).toMatch(unread);
    expect(last(repaired)).not.toMatch(unread);
  });

  it('a single copy is named', () => {
    expect(outlook([{}, {}, {}], 1)[0]).toMatch(/blocks that only it has cannot be read/);
  });
});
