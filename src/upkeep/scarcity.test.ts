import { describe, expect, it } from 'vitest';
import { applyChange, firstCatalog } from '../catalog/document.ts';
import { testNode } from '../catalog/testing.ts';
import type { Catalog, CatalogChange } from '../catalog/types.ts';
import type { BlockId, HistoryId, NodeId, PoolId } from '../ids.ts';
import type { CopyWork } from './repair-plan.ts';
import { mayMakeScarce, Scarcity } from './scarcity.ts';

function catalogOf(count: number, copies: number): Catalog {
  const nodes = Array.from({ length: count }, (_, index) => testNode(index + 1));
  const catalog = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes, copies });
  return { ...catalog, groups: catalog.groups.map((group) => ({ ...group, learners: [] })) };
}

const n = (number: number) => `n${number}` as NodeId;
const fresh = { ...testNode(9), id: n(9) };
const drain: CatalogChange = { kind: 'setDraining', id: n(5), draining: true };
const out: CatalogChange = { kind: 'setOut', id: n(5), out: true };
const back: CatalogChange = { kind: 'setOut', id: n(5), out: false };
const remove: CatalogChange = { kind: 'removeNode', id: n(5) };

const change = (catalog: Catalog, ...changes: readonly CatalogChange[]): Catalog =>
  changes.reduce((last, one) => applyChange(last, one), catalog);

describe('whether a change may leave blocks with too few copies', () => {
  const of = (before: Catalog, changes: readonly CatalogChange[], wasSettled = true): boolean => {
    const now = change(before, ...changes);
    return mayMakeScarce(before, now, now.pools[0]!, wasSettled);
  };
  const five = catalogOf(5, 3);

  it.each<[string, boolean, Catalog, CatalogChange[]]>([
    ['a node joins', false, five, [{ kind: 'putNode', node: fresh }]],
    ['a node joins where there were fewer than copies', true, catalogOf(2, 3), [{ kind: 'putNode', node: fresh }]],
    ['a node is drained', false, five, [drain]],
    ['a node is left out', true, five, [out]],
    ['a node that was left out is taken in', false, change(five, out), [back]],
    ['a node that was left out is removed', false, change(five, out), [remove]],
    ['a node is removed', true, five, [remove]],
    ['a node is removed and another joins', true, five, [remove, { kind: 'putNode', node: fresh }]],
    ['a drained node is removed', false, change(five, drain), [remove]],
    ['a node is replaced', true, five, [{ kind: 'replaceNode', id: n(5), node: fresh }]],
    ['a node is removed where one copy is wanted', false, catalogOf(5, 1), [remove]],
    ['more copies are wanted', true, five, [{ kind: 'setPool', id: 1 as PoolId, set: { copies: 4 } }]],
    ['fewer copies are wanted', false, five, [{ kind: 'setPool', id: 1 as PoolId, set: { copies: 2 } }]],
  ])('%s: %s', (_, expected, before, changes) => {
    expect(of(before, changes)).toBe(expected);
  });

  it('a node is removed that was drained, and not all was done', () => {
    expect(of(change(five, drain), [remove], false)).toBe(true);
  });

  it('a new pool has no blocks', () => {
    const [pool] = five.pools;
    expect(mayMakeScarce({ ...five, pools: [] }, five, pool!, false)).toBe(false);
  });
});

describe('Scarcity', () => {
  const before = catalogOf(5, 3);
  const after = change(before, remove);
  const copies = (count: number, isScarce = true): CopyWork[] =>
    Array.from({ length: count }, (_, index) => ({
      ...{ id: new Uint8Array(32).fill(index) as BlockId, lengthBytes: 10, generation: 0 },
      ...{ to: n(2), copies: 2, isScarce },
    }));
  const start = (catalog: Catalog, { isEmpty = false, isSettled = true } = {}): Scarcity => {
    const scarcity = new Scarcity({ isEmpty: () => isEmpty, isSettled: () => isSettled });
    scarcity.note(catalog);
    return scarcity;
  };
  const [pool] = after.pools;
  const first = (scarcity: Scarcity) => scarcity.report(after.pools).find((one) => one.pool === pool!.id);

  it('knows of none while nothing has happened', () => {
    expect(start(before).report(before.pools)).toEqual([]);
  });

  it('is unsure from the change until a walk is through, and counts meanwhile', () => {
    const scarcity = start(before);
    scarcity.note(after);
    expect(first(scarcity)).toEqual({ pool: 1, count: 0, bytes: 0, unsure: true });
    scarcity.begin(pool!);
    scarcity.found([...copies(3), ...copies(4, false)]);
    expect(first(scarcity)).toEqual({ pool: 1, count: 3, bytes: 30, unsure: true });
    scarcity.copied(copies(1)[0]!);
    scarcity.copied(copies(1, false)[0]!);
    expect(first(scarcity)).toEqual({ pool: 1, count: 2, bytes: 20, unsure: true });
    scarcity.end(pool!, { count: 1, bytes: 10 });
    expect(first(scarcity)).toEqual({ pool: 1, count: 1, bytes: 10, unsure: false });
  });

  it('keeps what is left while the next walk looks for it again', () => {
    const scarcity = start(before);
    scarcity.end(pool!, { count: 2, bytes: 20 });
    scarcity.begin(pool!);
    expect(first(scarcity)).toMatchObject({ count: 2 });
    scarcity.found(copies(3));
    expect(first(scarcity)).toMatchObject({ count: 3 });
    for (const task of copies(3)) scarcity.copied(task);
    expect(first(scarcity)).toMatchObject({ count: 2 });
    scarcity.end(pool!, { count: 0, bytes: 0 });
    expect(first(scarcity)).toBeUndefined();
  });

  it('keeps what a walk had found that was broken off', () => {
    const scarcity = start(before);
    scarcity.begin(pool!);
    scarcity.found(copies(3));
    scarcity.breakOff();
    expect(first(scarcity)).toMatchObject({ count: 3 });
    // Of what is done between walks nothing counts.
    scarcity.found(copies(4));
    scarcity.begin(pool!);
    expect(first(scarcity)).toMatchObject({ count: 3 });
    scarcity.breakOff();
    scarcity.breakOff();
    expect(first(scarcity)).toMatchObject({ count: 3 });
  });

  it('is unsure before it has seen a catalog', () => {
    const scarcity = new Scarcity({ isEmpty: () => false, isSettled: () => true });
    expect(first(scarcity)).toMatchObject({ unsure: true });
  });

  it('is still unsure after a walk by a placement before the change', () => {
    const scarcity = start(before);
    scarcity.begin(before.pools[0]!);
    scarcity.note(after);
    scarcity.end(before.pools[0]!, { count: 0, bytes: 0 });
    expect(first(scarcity)).toMatchObject({ unsure: true });
  });

  it('is unsure after a start with a placement that is not settled, unless there are no blocks', () => {
    expect(first(start(before, { isSettled: false }))).toMatchObject({ unsure: true });
    const empty = start(before, { isSettled: false, isEmpty: true });
    expect(empty.report(after.pools)).toEqual([]);
    empty.note(after);
    expect(empty.report(after.pools)).toEqual([]);
  });
});
