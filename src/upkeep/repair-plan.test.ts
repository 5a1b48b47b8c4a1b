import { describe, expect, it } from 'vitest';
import { levelUpmap } from '../catalog/placement-level.ts';
import { placementOf } from '../catalog/placement.ts';
import { applyChange, firstCatalog } from '../catalog/document.ts';
import { testNode } from '../catalog/testing.ts';
import type { Catalog, Pool } from '../catalog/types.ts';
import type { BlockId, HistoryId, NodeId } from '../ids.ts';
import { onlyTheScarce, planCopies, wantedHolders, whomElseToAsk, whomToAsk } from './repair-plan.ts';
import type { HeldBlock, NodeView, RepairView } from './repair-plan.ts';

function catalogOf(count: number, copies: number): Catalog {
  const nodes = Array.from({ length: count }, (_, index) => testNode(index + 1));
  const plain = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes, copies });
  return { ...plain, pools: plain.pools.map((pool) => ({ ...pool, upmap: levelUpmap(plain, pool) })) };
}

const blocks: readonly HeldBlock[] = Array.from({ length: 200 }, (_, index) => ({
  id: new Uint8Array(32).fill(index) as BlockId,
  lengthBytes: 1_000 + index,
  generation: 0,
}));

/** All that is held where, and what each node would do about it. */
class Bench {
  catalog: Catalog;
  readonly held = new Map<number, Set<NodeId>>();
  readonly views = new Map<NodeId, NodeView>();
  readonly settled = new Set<NodeId>();

  constructor(count: number, copies: number) {
    this.catalog = catalogOf(count, copies);
    blocks.forEach((block, index) => this.held.set(index, new Set(this.#order(block.id).slice(0, copies))));
  }

  get pool(): Pool {
    return this.catalog.pools[0]!;
  }
  #order(id: BlockId): readonly NodeId[] {
    return placementOf(this.catalog, this.pool, id);
  }
  drain(id: string): void {
    this.catalog = applyChange(this.catalog, { kind: 'setDraining', id: id as NodeId, draining: true });
  }
  view(self: NodeId): RepairView {
    return {
      self,
      catalog: this.catalog,
      pool: this.pool,
      viewOf: (node) => this.views.get(node) ?? 'up',
      isSettled: (node) => this.settled.has(node),
    };
  }
  plan(self: NodeId) {
    const own = blocks.map((_, index) => index).filter((index) => this.held.get(index)?.has(self));
    const up = (index: number) =>
      new Set([...this.held.get(index)!].filter((node) => (this.views.get(node) ?? 'up') === 'up'));
    return planCopies(
      this.view(self),
      own.map((index) => blocks[index]!),
      (index) => up(own[index]!),
    );
  }
  /** Everyone that is up does what it plans. How many copies that were, by target. */
  round(): Map<NodeId, number> {
    const made = new Map<NodeId, number>();
    for (const { id } of this.catalog.nodes) {
      if ((this.views.get(id) ?? 'up') !== 'up') continue;
      for (const { to, id: block } of this.plan(id).work) {
        this.held.get(blocks.findIndex((each) => each.id === block))!.add(to);
        made.set(to, (made.get(to) ?? 0) + 1);
      }
    }
    return made;
  }
  missing(): number {
    return blocks.filter((block, index) =>
      wantedHolders(this.view('n1' as NodeId), block.id).some((node) => !this.held.get(index)!.has(node)),
    ).length;
  }
}

const id = (number: number) => `n${number}` as NodeId;
const sum = (made: Map<NodeId, number>) => [...made.values()].reduce((a, b) => a + b, 0);

describe('planning copies', () => {
  it('wants nothing while everything is where it belongs', () => {
    const b = new Bench(5, 3);
    expect(b.missing()).toBe(0);
    for (let number = 1; number <= 5; number++) {
      expect(b.plan(id(number))).toEqual({ work: [], owed: [], missingCount: 0, missingBytes: 0, postponed: [] });
    }
  });

  it('empties a drained node in one round: each of its blocks is copied once, by many, to many', () => {
    const b = new Bench(6, 3);
    const onDrained = [...b.held.values()].filter((nodes) => nodes.has(id(2))).length;
    b.drain('n2');
    expect(b.plan(id(2)).missingCount).toBe(onDrained);
    const sources = [1, 3, 4, 5, 6].filter((number) => b.plan(id(number)).work.length > 0);
    expect(sources.length).toBeGreaterThan(3);
    // Others hold each block, too: the drained node itself has nothing to send.
    expect(b.plan(id(2)).work).toEqual([]);
    const made = b.round();
    expect(sum(made)).toBe(onDrained);
    expect(made.size).toBeGreaterThan(3);
    expect(made.has(id(2))).toBe(false);
    expect([b.missing(), b.plan(id(2)).missingCount, sum(b.round())]).toEqual([0, 0, 0]);
  });

  it('lets a drained node send what it alone has, and what those before it leave undone', () => {
    const alone = new Bench(3, 1);
    alone.drain('n2');
    const { work, missingCount } = alone.plan(id(2));
    expect(work.length).toBe(missingCount);
    expect(work.length).toBeGreaterThan(0);
    const left = new Bench(3, 2);
    left.drain('n2');
    left.settled.add(id(1)).add(id(3));
    expect(left.plan(id(2)).work.length).toBe(left.plan(id(2)).missingCount);
  });

  it('fills a new node with its share, and moves nothing else', () => {
    const b = new Bench(4, 2);
    const fresh = { ...b.catalog.nodes[0]!, id: id(9), storeId: '9'.repeat(16), address: 'h:1', host: 'h9' };
    b.catalog = applyChange(b.catalog, { kind: 'putNode', node: fresh });
    const made = b.round();
    expect([...made.keys()]).toEqual(['n9']);
    expect(b.missing()).toBe(0);
  });

  it('makes the copies of a removed node again from the others', () => {
    const b = new Bench(5, 2);
    const { groups } = b.catalog;
    b.catalog = applyChange(
      { ...b.catalog, groups: groups.map((g) => ({ ...g, learners: [] })) },
      { kind: 'removeNode', id: id(5) },
    );
    for (const nodes of b.held.values()) nodes.delete(id(5));
    b.round();
    expect(b.missing()).toBe(0);
    expect([...b.held.values()].every((nodes) => nodes.size >= 2)).toBe(true);
  });

  it('waits for a node that is away, and replaces one that is gone', () => {
    const b = new Bench(5, 3);
    for (const nodes of b.held.values()) nodes.delete(id(5));
    b.views.set(id(5), 'away');
    const plans = [1, 2, 3, 4].map((number) => b.plan(id(number)));
    expect(plans.flatMap((plan) => plan.work)).toEqual([]);
    expect(new Set(plans.flatMap((plan) => plan.owed).map((owed) => owed.to))).toEqual(new Set([id(5)]));
    b.views.set(id(5), 'gone');
    b.round();
    expect([...b.held.values()].every((nodes) => nodes.size >= 3)).toBe(true);
  });

  it('does not wait where one copy is left, and does these first', () => {
    const b = new Bench(4, 3);
    b.views.set(id(4), 'away').set(id(3), 'away');
    const single = [...b.held.entries()].filter(
      ([, nodes]) => nodes.has(id(3)) && nodes.has(id(4)) && nodes.has(id(1)),
    );
    for (const [, nodes] of b.held) for (const down of [id(3), id(4)]) nodes.delete(down);
    for (const [, nodes] of single) nodes.delete(id(2));
    const { work } = b.plan(id(1));
    expect(work.filter((task) => task.copies === 1).length).toBe(single.length);
    expect(work.map((task) => task.copies)).toEqual([...work.map((task) => task.copies)].sort());
    expect(work.every((task) => task.to === id(2))).toBe(true);
  });

  it('passes over full nodes, and asks nobody who is away', () => {
    const b = new Bench(4, 2);
    b.views.set(id(2), 'full').set(id(3), 'away');
    expect([...whomToAsk(b.view(id(1)), blocks).keys()]).toEqual(['n4']);
    expect(wantedHolders(b.view(id(1)), blocks[0]!.id)).not.toContain(id(2));
  });
});

describe('what is scarce', () => {
  /** Which copies of a block are scarce, if so many of five nodes want it and these hold it: places in its order. */
  const scarceOf = (copies: number, ...held: readonly number[]): (readonly [place: number, isScarce: boolean])[] => {
    const b = new Bench(5, copies);
    const order = wantedHolders({ ...b.view(id(1)), pool: { ...b.pool, copies: 5 } }, blocks[0]!.id);
    const [self = id(1), ...others] = held.map((place) => order[place]!);
    const { work } = planCopies(b.view(self), [blocks[0]!], () => new Set(others));
    return work.map(({ to, isScarce }) => [order.indexOf(to), isScarce] as const);
  };

  it('is a copy without which there are too few, wherever the others are', () => {
    expect(scarceOf(3, 0, 1)).toEqual([[2, true]]);
    expect(scarceOf(3, 0, 1, 2)).toEqual([]);
    expect(scarceOf(3, 0, 1, 4)).toEqual([[2, false]]);
  });

  it('is of several copies that a block lacks where it belongs as many as it has too few', () => {
    expect(scarceOf(3, 0, 4)).toEqual([
      [1, true],
      [2, false],
    ]);
    expect(scarceOf(3, 4)).toEqual([
      [0, true],
      [1, true],
      [2, false],
    ]);
  });

  it('is the copy that stands in for one on a node that is away, and what that one is owed is not', () => {
    const b = new Bench(4, 2);
    b.views.set(id(4), 'away');
    for (const [index, nodes] of b.held) {
      if (!nodes.has(id(1)) || !nodes.delete(id(4))) continue;
      const { work, owed } = planCopies(b.view(id(1)), [blocks[index]!], () => new Set());
      expect([work.map((task) => task.isScarce), owed.map((task) => task.isScarce)]).toEqual([[true], [false]]);
    }
  });
});

describe('only what is scarce', () => {
  it('asks everybody about what a wanted holder lacks, and nobody about the rest', () => {
    const b = new Bench(4, 2);
    const own = blocks.filter((_, index) => b.held.get(index)!.has(id(1)));
    const nobody = () => new Set<NodeId>();
    const all = (index: number) => b.held.get(blocks.indexOf(own[index]!))!;
    const asked = whomToAsk(b.view(id(1)), own);
    expect(whomElseToAsk(b.view(id(1)), own, all, asked, Infinity).size).toBe(0);
    const others = whomElseToAsk(b.view(id(1)), own, nobody, asked, Infinity);
    own.forEach((_, index) => {
      const whom = [2, 3, 4].filter((number) =>
        [asked, others].some((questions) => questions.get(id(number))?.includes(index) === true),
      );
      expect(whom).toEqual([2, 3, 4]);
    });
    b.views.set(id(3), 'away');
    expect(whomElseToAsk(b.view(id(1)), own, nobody, asked, Infinity).has(id(3))).toBe(false);
    const one = () => new Set([id(4)]);
    expect(whomElseToAsk(b.view(id(1)), own, one, asked, 2).size).toBeGreaterThan(0);
    expect(whomElseToAsk(b.view(id(1)), own, one, asked, 1).size).toBe(0);
  });

  it('copies a block that has too few copies, and puts off one that has enough elsewhere', () => {
    const b = new Bench(3, 2);
    const [block] = blocks;
    const [first, second, third] = wantedHolders({ ...b.view(id(1)), pool: { ...b.pool, copies: 3 } }, block!.id);
    const plan = (...others: NodeId[]) => {
      const view = b.view(first!);
      return onlyTheScarce(
        view,
        planCopies(view, [block!], () => new Set(others)),
      );
    };
    expect(plan()).toMatchObject({ work: [{ to: second, copies: 1 }], postponed: [] });
    expect(plan(third!)).toMatchObject({ work: [], postponed: [{ to: second, copies: 2 }], missingCount: 1 });
    expect(plan(second!)).toMatchObject({ work: [], postponed: [], missingCount: 0 });
  });
});
