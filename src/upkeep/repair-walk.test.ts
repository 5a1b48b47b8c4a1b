import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../test/support/fake-block-cluster.ts';
import { firstCatalog } from '../catalog/document.ts';
import { placementOf } from '../catalog/placement.ts';
import { testNode } from '../catalog/testing.ts';
import type { Catalog, Pool } from '../catalog/types.ts';
import type { BlockId, HistoryId, NodeId } from '../ids.ts';
import { Cancellation } from '../cancel.ts';
import type { Network } from '../net/types.ts';
import type { CopyWork, HeldBlock } from './repair-plan.ts';
import { walkPool } from './repair-walk.ts';
import type { WalkRule } from './repair-walk.ts';

const block: HeldBlock = { id: new Uint8Array(32).fill(7) as BlockId, lengthBytes: 100, generation: 0 };

let catalog: Catalog;
let pool: Pool;
/** The nodes in the order of the block. */
let order: readonly NodeId[];
/** Who has it. */
let held: Set<NodeId>;
let asked: NodeId[];
let found: CopyWork[];
let copied: CopyWork[];
/** Nodes to which nothing can be copied. */
let refusing: Set<NodeId>;

function setUp(nodes: number, copies: number): void {
  const all = Array.from({ length: nodes }, (_, index) => testNode(index + 1));
  catalog = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes: all, copies });
  pool = catalog.pools[0]!;
  order = placementOf(catalog, pool, block.id);
}

beforeEach(() => {
  asked = [];
  found = [];
  copied = [];
  refusing = new Set();
});

/** The walk of the first of the places that hold the block. */
function walk(places: readonly number[], rule: WalkRule = {}) {
  const nodes = places.map((place) => order[place]!);
  const [self] = nodes as [NodeId];
  held = new Set(nodes);
  const call = (node: NodeId) => {
    asked.push(node);
    return Promise.resolve({ header: { lengths: [held.has(node) ? block.lengthBytes : null], settledEpoch: 0 } });
  };
  return walkPool(
    {
      engine: {
        list: async function* () {
          yield await Promise.resolve(block);
        },
      },
      blocks: {
        copyTo: (node) => Promise.resolve(!refusing.has(node)),
        oweTo: () => Promise.resolve(true),
        isBusy: () => false,
      },
      network: { call } as unknown as Network,
      clock: new VirtualClock(),
      signal: new Cancellation().signal,
      onScanned: () => undefined,
      onFound: (tasks) => found.push(...tasks),
      onCopied: (task) => copied.push(task),
    },
    { self, catalog, pool, viewOf: () => 'up', isSettled: () => false },
    new Map(),
    rule,
  );
}

const scarce = () => found.map(({ to, copies, isScarce }) => [order.indexOf(to), copies, isScarce]);

describe('a walk', () => {
  it('counts the copies that are elsewhere than where they belong, however many are wanted', async () => {
    setUp(6, 3);
    // The first and the second have it, and one that should not: it is misplaced, and not scarce.
    const { missing } = await walk([0, 1, 5]);
    expect(missing.count).toBe(1);
    expect(scarce()).toEqual([[2, 3, false]]);
    expect(copied).toEqual(found);
    setUp(7, 4);
    found = [];
    await walk([0, 5, 6]);
    expect(scarce()).toEqual([
      [1, 3, true],
      [2, 3, false],
      [3, 3, false],
    ]);
  });

  it('asks nobody else where nothing is lacking', async () => {
    setUp(6, 3);
    await walk([0, 1, 2]);
    expect(asked.sort()).toEqual([order[1], order[2]].sort());
    expect(found).toEqual([]);
  });

  it.each([{}, { onlyScarce: true }])('tells what is still scarce when it ends: %o', async (rule) => {
    setUp(6, 3);
    refusing = new Set([order[1]!]);
    const { open, scarce: left } = await walk([0], rule);
    expect([open.count, left]).toEqual([1, { count: 1, bytes: 100 }]);
    refusing = new Set();
    expect((await walk([0], rule)).scarce).toEqual({ count: 0, bytes: 0 });
    refusing = new Set([order[2]!]);
    // Misplaced only.
    expect((await walk([0, 1, 4], rule)).scarce).toEqual({ count: 0, bytes: 0 });
  });
});
