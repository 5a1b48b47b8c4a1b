import { describe, expect, it } from 'vitest';
import type { HistoryId, NodeId } from '../ids.ts';
import { REPAIR_AFTER_MS, nextAbsence } from './absence.ts';
import type { Presence } from './absence.ts';
import { applyChange, decodeCatalog, encodeCatalog, firstCatalog } from './document.ts';
import { activeNodes } from './membership.ts';
import { testNode } from './testing.ts';
import type { Catalog } from './types.ts';

const id = (number: number) => `n${number}` as NodeId;

function catalogOf(count: number, copies = 3): Catalog {
  const nodes = Array.from({ length: count }, (_, index) => testNode(index + 1));
  return firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes, copies });
}

/** Nodes that are not named have been up for long. */
const seen =
  (others: Readonly<Record<number, Presence>>) =>
  (node: NodeId): Presence =>
    others[Number(node.slice(1))] ?? { up: true, forMs: 1e9 };

const down = (forMs: number): Presence => ({ up: false, forMs });
const LONG = down(REPAIR_AFTER_MS);

describe('nextAbsence', () => {
  it('leaves out who is down for too long, and no sooner', () => {
    const catalog = catalogOf(5);
    expect(nextAbsence(catalog, seen({ 4: down(REPAIR_AFTER_MS - 1) }))).toBeUndefined();
    expect(nextAbsence(catalog, seen({ 4: LONG }))).toEqual({ kind: 'setOut', id: id(4), out: true });
  });

  it('goes by the time that is set', () => {
    const soon = applyChange(catalogOf(5), { kind: 'setRepairAfter', afterMs: 30_000 });
    expect(nextAbsence(soon, seen({ 4: down(30_000) }))).toEqual({ kind: 'setOut', id: id(4), out: true });
    const never = applyChange(soon, { kind: 'setRepairAfter', afterMs: null });
    expect(nextAbsence(never, seen({ 4: down(1e12) }))).toBeUndefined();
    expect(decodeCatalog(encodeCatalog(never))).toEqual(never);
  });

  it.each([
    ['three nodes and three copies', catalogOf(3), { 3: LONG }],
    ['two nodes', catalogOf(2, 2), { 2: LONG }],
  ])('leaves nobody out where no copy can be made for it: %s', (_, catalog, others) => {
    expect(nextAbsence(catalog, seen(others))).toBeUndefined();
  });

  it('leaves out who holds single copies: those are gone, but new blocks need not go past it', () => {
    expect(nextAbsence(catalogOf(4, 1), seen({ 3: LONG }))).toEqual({ kind: 'setOut', id: id(3), out: true });
  });

  it('leaves nobody out while more than half is down', () => {
    const catalog = catalogOf(5);
    expect(nextAbsence(catalog, seen({ 1: LONG, 2: LONG, 3: LONG }))).toBeUndefined();
    expect(nextAbsence(catalog, seen({ 1: LONG, 2: LONG }))).toBeDefined();
  });

  it('takes in who has come back to stay', () => {
    const out = applyChange(catalogOf(5), { kind: 'setOut', id: id(4), out: true });
    expect(nextAbsence(out, seen({ 4: LONG }))).toBeUndefined();
    expect(nextAbsence(out, seen({ 4: { up: true, forMs: 1_000 } }))).toBeUndefined();
    expect(nextAbsence(out, seen({ 4: { up: true, forMs: 5_000 } }))).toEqual({
      kind: 'setOut',
      id: id(4),
      out: false,
    });
  });

  it('has nothing to do with nodes that are being drained', () => {
    const drained = applyChange(catalogOf(5), { kind: 'setDraining', id: id(4), draining: true });
    expect(nextAbsence(drained, seen({ 4: LONG }))).toBeUndefined();
  });
});

describe('setOut', () => {
  it('moves placement and nothing else', () => {
    const before = catalogOf(4);
    const next = applyChange(before, { kind: 'setOut', id: id(2), out: true });
    expect(decodeCatalog(encodeCatalog(next))).toEqual(next);
    expect(activeNodes(next).map((node) => node.id)).toEqual([id(1), id(3), id(4)]);
    expect([next.groups, next.voters]).toEqual([before.groups, before.voters]);
    expect(next.pools.every((pool) => pool.placementEpoch === 2)).toBe(true);
    const back = applyChange(next, { kind: 'setOut', id: id(2), out: false });
    expect(back.nodes).toEqual(before.nodes);
    expect(back.pools.every((pool) => pool.placementEpoch === 3)).toBe(true);
  });

  it('counts in what is to be replicated: a node that is down is no reason to acknowledge with one copy', () => {
    const out = applyChange(catalogOf(3, 2), { kind: 'setOut', id: id(3), out: true });
    expect(out.groups[0]?.minReplicas).toBe(2);
    const joined = applyChange(out, {
      kind: 'putNode',
      node: { ...catalogOf(5).nodes[4]!, id: id(9) },
    });
    expect(joined.groups[0]?.minReplicas).toBe(2);
  });

  it('is refused for what makes no sense', () => {
    const out = applyChange(catalogOf(2), { kind: 'setOut', id: id(2), out: true });
    expect(() => applyChange(out, { kind: 'setOut', id: id(2), out: true })).toThrow(/out already/);
    expect(() => applyChange(out, { kind: 'setOut', id: id(1), out: true })).toThrow(/last one that takes data/);
    expect(() => applyChange(out, { kind: 'setOut', id: id(1), out: false })).toThrow(/in already/);
    expect(() => applyChange(out, { kind: 'putNode', node: catalogOf(2).nodes[1]! })).toThrow(/change of its own/);
  });
});
