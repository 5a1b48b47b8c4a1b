import { describe, expect, it } from 'vitest';
import type { Pool } from '../catalog/types.ts';
import { repairProgress, scarcePools } from './repair-progress.ts';
import type { RepairReport } from './repair.ts';
import type { ScarceReport } from './scarcity.ts';
import type { NodeStatus } from './status.ts';

const pools = [{ id: 1, placementEpoch: 7 }] as unknown as Pool[];

function node(id: string, repair?: Partial<RepairReport>): NodeStatus {
  const settled = [{ pool: 1, epoch: 7 }];
  const zero = { missingCount: 0, missingBytes: 0, copiedCount: 0, copiedBytes: 0 };
  const report = repair === undefined ? undefined : { repair: { settled, ...zero, ...repair } };
  return { id, state: report === undefined ? 'down' : 'up', report } as unknown as NodeStatus;
}

const of = (...nodes: NodeStatus[]) => repairProgress({ pools, nodes, balancePaused: false });

describe('repairProgress', () => {
  it('is done when everybody who is up is', () => {
    expect(of(node('n1', { copiedCount: 2, copiedBytes: 20 }), node('n2'), node('n3', { copiedCount: 1 }))).toEqual({
      ...{ done: true, working: [], leftBytes: 0, bytesPerSecond: 0, secondsLeft: undefined },
      ...{ copiedCount: 3, copiedBytes: 20, postponedBytes: 0, waitsForBalance: false },
      ...{ scarceCount: 0, scarceBytes: 0 },
    });
  });

  it.each([
    ['has not begun', { settled: [] }],
    ['has finished with an older placement', { settled: [{ pool: 1, epoch: 6 }] }],
    ['looks through its blocks', { scannedCount: 0 }],
    ['could not make a copy', { missingCount: 1, missingBytes: 5 }],
  ])('is not while one %s', (_, repair) => {
    expect(of(node('n1', {}), node('n2', repair))).toMatchObject({ done: false, working: ['n2'] });
  });

  it('adds up what is left and how fast it goes', () => {
    const n1 = node('n1', { scannedCount: 9, leftBytes: 900, bytesPerSecond: 100 });
    const n2 = node('n2', { scannedCount: 9, leftBytes: 100, bytesPerSecond: 150 });
    expect(of(n1, n2)).toMatchObject({ leftBytes: 1_000, bytesPerSecond: 250, secondsLeft: 4 });
    expect(of(node('n1', { missingCount: 1, missingBytes: 5 }))).toMatchObject({
      leftBytes: 5,
      secondsLeft: undefined,
    });
  });

  it('waits for an operator when only what is paused is left', () => {
    const waits = node('n1', { settled: [], postponedCount: 2, postponedBytes: 20 });
    const at = (balancePaused: boolean, ...nodes: NodeStatus[]) => repairProgress({ pools, nodes, balancePaused });
    expect(at(true, waits, node('n2', {}))).toMatchObject({ done: false, postponedBytes: 20, waitsForBalance: true });
    expect(at(false, waits, node('n2', {}))).toMatchObject({ done: false, postponedBytes: 20, waitsForBalance: false });
    expect(at(true, waits, node('n2', { scannedCount: 1 }))).toMatchObject({ waitsForBalance: false });
    expect(at(true, node('n1', {}))).toMatchObject({ done: true, waitsForBalance: false });
  });
});

describe('scarcePools', () => {
  const files = { id: 1, name: 'files', copies: 3, placementEpoch: 7 } as Pool;
  const library = { id: 2, name: 'library', copies: 2, placementEpoch: 7 } as Pool;
  /** Each with the catalog of that epoch. */
  const told = (id: string, epoch: number, ...scarce: readonly ScarceReport[]): NodeStatus => {
    const status = node(id, { scarce });
    return { ...status, report: { ...status.report!, catalogEpoch: epoch } };
  };
  const scarceIn = (...nodes: NodeStatus[]) => scarcePools({ pools: [files, library], nodes });
  const three = (count: number, unsure = false): ScarceReport => ({ pool: 1, count, bytes: 10 * count, unsure });

  it('adds up what the nodes see to, by pool', () => {
    expect(scarceIn(told('n1', 7), told('n2', 8))).toEqual([]);
    expect(scarceIn(told('n1', 7, three(2)), told('n2', 7, three(0, true)), told('n3', 7, three(3)))).toEqual([
      { name: 'files', wanted: 3, count: 5, bytes: 50, unsure: ['n2'] },
    ]);
    expect(scarceIn(told('n1', 7, { ...three(1), pool: 2 }))).toMatchObject([{ name: 'library', wanted: 1, count: 1 }]);
    const both = repairProgress({ pools, nodes: [told('n1', 7, three(2)), told('n2', 7, three(3))] });
    expect(both).toMatchObject({ scarceCount: 5, scarceBytes: 50 });
  });

  it('takes a node that has not heard of the placement for one that is not sure', () => {
    expect(scarceIn(told('n1', 7), told('n2', 6))).toMatchObject([
      { name: 'files', count: 0, unsure: ['n2'] },
      { name: 'library', unsure: ['n2'] },
    ]);
  });

  it('knows nothing of nodes of earlier versions, that are down, or hold no data', () => {
    const witness = { ...told('n3', 6), kind: 'witness' } as NodeStatus;
    expect(scarceIn(node('n1', {}), node('n2'), witness)).toEqual([]);
    expect(repairProgress({ pools, nodes: [node('n1', {})] })).toMatchObject({ scarceCount: 0, scarceBytes: 0 });
  });
});
