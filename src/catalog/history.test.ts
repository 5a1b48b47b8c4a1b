import { describe, expect, it } from 'vitest';
import type { Epoch, HistoryId, NodeId } from '../ids.ts';
import { applyChange, firstCatalog } from './document.ts';
import { factsOf } from './history.ts';
import { parseCatalog } from './schema.ts';
import type { Catalog, CatalogChange, CatalogNode, Group } from './types.ts';

const id = (name: string): NodeId => name as NodeId;
const node = (name: string): CatalogNode => ({
  ...{ id: id(name), storeId: name.slice(1).padStart(16, '0'), address: `${name}:7400`, weight: 1 },
  ...{ host: name, rack: 'r', zone: 'z' },
});
const first = firstCatalog({
  clusterId: 'ab'.repeat(16),
  historyId: '1'.repeat(16) as HistoryId,
  nodes: ['n1', 'n2', 'n3'].map(node),
  atMs: 1_000,
});
const after = (catalog: Catalog, change: CatalogChange, atMs: number): Catalog =>
  parseCatalog(applyChange(catalog, change, String(atMs).padStart(16, '0'), atMs));
const withGroup = (catalog: Catalog, changes: Partial<Group>, atMs: number): Catalog => {
  const [old] = catalog.groups as [Group];
  const group = { ...old, ...changes, epoch: (old.epoch + 1) as Epoch };
  return after(catalog, { kind: 'putGroup', group, expectedGroupEpoch: old.epoch }, atMs);
};
const latest = (catalog: Catalog) => catalog.recent?.at(-1)?.facts;

describe('what a change means', () => {
  it('a fail-over: promotion, then appointment, and since when', () => {
    expect(first.groups[0]?.since).toEqual({ primaryMs: 1_000, secondaryMs: 1_000 });
    const promoted = withGroup(first, { primary: id('n2'), secondary: null, learners: [id('n1'), id('n3')] }, 2_000);
    expect(latest(promoted)).toEqual([{ kind: 'promotion', group: 'g0', groupEpoch: 2, node: 'n2', from: 'n1' }]);
    expect(promoted.groups[0]?.since).toEqual({ primaryMs: 2_000, secondaryMs: 2_000 });
    const whole = withGroup(promoted, { secondary: id('n3'), learners: [id('n1')] }, 3_000);
    expect(latest(whole)).toEqual([{ kind: 'appointment', group: 'g0', groupEpoch: 3, node: 'n3' }]);
    expect(whole.groups[0]?.since).toEqual({ primaryMs: 2_000, secondaryMs: 3_000 });
    const restarted = withGroup(whole, { lastActivated: { epoch: 4 as Epoch, members: [id('n2'), id('n3')] } }, 4_000);
    expect(latest(restarted)).toEqual([{ kind: 'group-epoch', group: 'g0', groupEpoch: 4, node: 'n2' }]);
    expect(restarted.groups[0]?.since).toEqual({ primaryMs: 2_000, secondaryMs: 3_000 });
    const alone = withGroup(restarted, { secondary: null, learners: [id('n1'), id('n3')] }, 5_000);
    expect(latest(alone)).toEqual([{ kind: 'secondary-dropped', group: 'g0', groupEpoch: 5, node: 'n3' }]);
    const forced = withGroup(alone, { historyId: '2'.repeat(16) as HistoryId }, 6_000);
    expect(latest(forced)).toEqual([{ kind: 'group-forced', group: 'g0', groupEpoch: 6, node: 'n2' }]);
  });

  it('nodes, voters and pools', () => {
    const joined = after(first, { kind: 'putNode', node: { ...node('n4'), kind: 'witness' } }, 2_000);
    expect(latest(joined)).toEqual([{ kind: 'node-joined', node: 'n4', address: 'n4:7400', witness: true }]);
    const voters = after(joined, { kind: 'putVoters', voters: ['n1', 'n2', 'n3', 'n4'].map(id) }, 3_000);
    expect(latest(voters)).toEqual([{ kind: 'voters-changed', voters: ['n1', 'n2', 'n3', 'n4'] }]);
    // A node with data changes the learners of each group and the placement of each pool: that is no news of its own.
    const more = after(first, { kind: 'putNode', node: node('n5') }, 2_000);
    expect(latest(more)).toEqual([{ kind: 'node-joined', node: 'n5', address: 'n5:7400' }]);
    expect(more.groups[0]?.since).toEqual({ primaryMs: 1_000, secondaryMs: 1_000 });
    const moved = after(more, { kind: 'putNode', node: { ...node('n5'), address: 'x:1' } }, 3_000);
    expect(latest(moved)).toEqual([{ kind: 'node-changed', node: 'n5', address: 'x:1' }]);
    const draining = after(moved, { kind: 'setDraining', id: id('n5'), draining: true }, 3_500);
    expect(latest(draining)).toEqual([{ kind: 'node-draining', node: 'n5', draining: true }]);
    const removed = after(moved, { kind: 'removeNode', id: id('n5') }, 4_000);
    expect(latest(removed)).toEqual([{ kind: 'node-removed', node: 'n5' }]);
    const pool = after(first, { kind: 'setPool', id: first.pools[0]!.id, set: { copies: 2, pgCount: 256 } }, 2_000);
    expect(latest(pool)).toEqual([
      {
        kind: 'pool-changed',
        pool: 'files',
        changes: ['copies 2 instead of 3', 'placement groups 256 instead of 128'],
      },
    ]);
    const settings = { copies: 1, blockSizeBytes: 65_536, pgCount: 8, domain: 'node' } as const;
    const made = after(first, { kind: 'createPool', pool: { name: 'x', kind: 'library', ...settings } }, 2_000);
    expect(latest(made)).toEqual([
      {
        kind: 'pool-created',
        pool: 'x',
        settings: ['for programs', 'copies 1', 'block size 65536', 'placement groups 8', 'domain node'],
      },
    ]);
  });

  it('says nothing of what is as it was', () => {
    expect(factsOf(first, first)).toEqual([]);
  });
});
