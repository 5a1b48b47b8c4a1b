import { describe, expect, it } from 'vitest';
import { RemovedError, UsageError } from '../errors.ts';
import type { Epoch, HistoryId, NodeId } from '../ids.ts';
import { applyChange, decodeCatalog, encodeCatalog, firstCatalog } from './document.ts';
import { activeNodes, removalOf } from './membership.ts';
import type { Catalog, CatalogChange, CatalogNode, Group } from './types.ts';
import { testNode as node } from './testing.ts';

const id = (number: number) => `n${number}` as NodeId;

function catalogOf(count: number): Catalog {
  const nodes = Array.from({ length: count }, (_, index) => node(index + 1));
  return firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes });
}

function after(catalog: Catalog, ...changes: readonly CatalogChange[]): Catalog {
  const last = changes.reduce((before, change) => applyChange(before, change), catalog);
  // Whatever the changes are, the result is a catalog that can be read again.
  expect(decodeCatalog(encodeCatalog(last))).toEqual(last);
  return last;
}

function group(catalog: Catalog): Group {
  const [only] = catalog.groups;
  if (only === undefined) throw new Error('no group');
  return only;
}

const drain = (number: number, draining = true): CatalogChange => ({ kind: 'setDraining', id: id(number), draining });
const remove = (number: number): CatalogChange => ({ kind: 'removeNode', id: id(number) });

describe('draining', () => {
  it('takes a node out of placement and of what replication counts on', () => {
    const next = after(catalogOf(3), drain(3));
    expect(next.nodes[2]?.draining).toBe(true);
    expect(activeNodes(next).map((each) => each.id)).toEqual(['n1', 'n2']);
    expect(group(next)).toMatchObject({ epoch: 2, minReplicas: 1, lastActivated: { epoch: 2, members: ['n1', 'n2'] } });
    expect(next.pools.every((pool) => pool.placementEpoch === 2)).toBe(true);
  });

  it('is undone as if it had never been', () => {
    const next = after(catalogOf(3), drain(3), drain(3, false));
    expect(next.nodes).toEqual(catalogOf(3).nodes);
    expect(group(next)).toMatchObject({ epoch: 3, minReplicas: 2 });
  });

  it('survives that the node comes back at another address', () => {
    const drained = after(catalogOf(3), drain(3));
    const moved = { ...drained.nodes[2]!, address: '127.0.0.1:9' };
    expect(after(drained, { kind: 'putNode', node: moved }).nodes[2]?.draining).toBe(true);
    expect(() => applyChange(drained, { kind: 'putNode', node: node(3) })).toThrow(/change of its own/);
  });

  it('leaves one node that takes data', () => {
    const one = after(catalogOf(2), drain(2));
    expect(() => applyChange(one, drain(1))).toThrow(/last one that takes data/);
    expect(() => applyChange(one, drain(2))).toThrow(/being drained already/);
    expect(() => applyChange(one, drain(1, false))).toThrow(/is not being drained/);
    expect(() => applyChange(one, drain(7))).toThrow(/no node n7/);
  });

  it('of a witness moves nothing', () => {
    const before = after(catalogOf(2), { kind: 'putNode', node: node(3, { kind: 'witness' }) });
    const next = after(before, drain(3));
    expect([next.groups, next.pools]).toEqual([before.groups, before.pools]);
  });
});

describe('removing', () => {
  it('takes the node out of everything, its vote too, and remembers it', () => {
    const next = after(catalogOf(3), drain(3), remove(3));
    expect(next.nodes.map((each) => each.id)).toEqual(['n1', 'n2']);
    expect(next.voters).toEqual(['n1', 'n2']);
    expect(group(next)).toMatchObject({ learners: [], minReplicas: 1, epoch: 3 });
    expect(next.removed).toEqual([{ id: 'n3', storeId: node(3).storeId, epoch: 3 }]);
    expect(removalOf(next, node(3).storeId)?.message).toMatch(/n3 was removed .*catalog 3/);
    expect(removalOf(next, node(1).storeId)).toBeUndefined();
  });

  it('lowers what the groups need when a node that was not drained goes: one epoch, not two', () => {
    const next = after(catalogOf(3), remove(3));
    expect(group(next)).toMatchObject({ epoch: 2, minReplicas: 1, lastActivated: { epoch: 2, members: ['n1', 'n2'] } });
    expect(group(after(catalogOf(4), remove(4)))).toMatchObject({ epoch: 2, minReplicas: 2 });
  });

  it('neither lets its store nor its name come back', () => {
    const gone = after(catalogOf(4), remove(4));
    const back = (changes: Partial<CatalogNode>) => () =>
      applyChange(gone, { kind: 'putNode', node: node(4, changes) });
    expect(back({})).toThrow(RemovedError);
    expect(back({ storeId: 'f'.repeat(16) })).toThrow(/name is not used twice|was removed/);
    expect(back({ id: id(5) })).toThrow(RemovedError);
    expect(back({ id: id(5), storeId: 'f'.repeat(16) })).not.toThrow();
  });

  it('refuses what serves, what is not there, what is gone already, and the last of each', () => {
    expect(() => applyChange(catalogOf(3), remove(1))).toThrow(/still serves g0/);
    expect(() => applyChange(catalogOf(3), remove(2))).toThrow(/still serves g0/);
    expect(() => applyChange(catalogOf(3), remove(9))).toThrow(/no node n9/);
    expect(() => applyChange(after(catalogOf(4), remove(4)), remove(4))).toThrow(/was removed in catalog 2/);
    const witnessAlone = { ...catalogOf(2), voters: [id(2)] };
    const handed = { ...group(witnessAlone), secondary: null, learners: [id(2)] };
    expect(() => applyChange({ ...witnessAlone, groups: [handed] }, remove(2))).toThrow(/only voter/);
  });
});

describe('replacing', () => {
  const replacement = (changes: Partial<CatalogNode> = {}): CatalogChange => ({
    kind: 'replaceNode',
    id: id(3),
    node: node(4, changes),
  });

  it('puts the new node in the place of the old one, in one change', () => {
    const before = catalogOf(3);
    const pools = before.pools.map((pool) => ({ ...pool, upmap: { 5: [id(3), id(1)], 6: [id(2)] } }));
    const next = after({ ...before, pools }, replacement({ host: 'h3' }));
    expect(next.nodes.map((each) => [each.id, each.placedAs])).toEqual([
      ['n1', undefined],
      ['n2', undefined],
      ['n4', 'n3'],
    ]);
    expect(next.voters).toEqual(['n1', 'n2']);
    expect(next.pools[0]?.upmap).toEqual({ 5: ['n4', 'n1'], 6: ['n2'] });
    expect(group(next)).toMatchObject({ epoch: 2, learners: ['n4'], minReplicas: 2 });
    expect(next.removed?.map((gone) => gone.id)).toEqual(['n3']);
  });

  it('again, of the replacement, keeps the first name in placement', () => {
    const next = after(catalogOf(3), replacement(), { kind: 'replaceNode', id: id(4), node: node(5) });
    expect(next.nodes.at(-1)).toMatchObject({ id: 'n5', placedAs: 'n3' });
    expect(group(next).learners).toEqual(['n5']);
  });

  it('refuses a name or a store that was there before, and another kind of node', () => {
    expect(() => applyChange(catalogOf(3), replacement({ id: id(2) }))).toThrow(/has a node n2 already/);
    const gone = after(catalogOf(4), remove(4));
    expect(() => applyChange(gone, replacement())).toThrow(RemovedError);
    expect(() => applyChange(catalogOf(3), replacement({ kind: 'witness' }))).toThrow(UsageError);
    expect(() => applyChange(catalogOf(3), replacement({ id: id(3), storeId: 'e'.repeat(16) }))).toThrow(/already/);
  });
});

describe('R9: forcing a group', () => {
  const force = (from: number, historyId = '2'.repeat(16), epoch = 1): CatalogChange => ({
    kind: 'forceGroup',
    group: group(catalogOf(3)).id,
    from: id(from),
    historyId: historyId as HistoryId,
    expectedGroupEpoch: epoch as Epoch,
  });

  it('begins a new history from one copy, not yet activated', () => {
    const next = after(catalogOf(4), force(3));
    expect(group(next)).toMatchObject({
      epoch: 2,
      historyId: '2'.repeat(16),
      primary: 'n3',
      secondary: null,
      learners: ['n1', 'n2', 'n4'],
      lastActivated: { epoch: 1, members: ['n3'] },
      forced: { from: 'n3', historyId: '1'.repeat(16), epoch: 2 },
    });
  });

  it('is compared with the epoch, and refuses the same history and nodes that hold nothing', () => {
    expect(() => applyChange(catalogOf(3), force(3, undefined, 7))).toThrow(/at epoch 1, not 7/);
    expect(() => applyChange(catalogOf(3), force(3, '1'.repeat(16)))).toThrow(/new history/);
    expect(() => applyChange(catalogOf(3), force(9))).toThrow(/no node n9/);
    const withWitness = after(catalogOf(2), { kind: 'putNode', node: node(3, { kind: 'witness' }) });
    expect(() => applyChange(withWitness, force(3))).toThrow(/no node n3 that could hold/);
  });
});
