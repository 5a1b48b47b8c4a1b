import { describe, expect, it } from 'vitest';
import { blockMethods } from '../blocks/block-messages.ts';
import { placementOf } from '../catalog/placement.ts';
import { applyChange, firstCatalog } from '../catalog/document.ts';
import { testNode } from '../catalog/testing.ts';
import type { Catalog } from '../catalog/types.ts';
import type { BlockId, HistoryId, NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import { giveUpSurplus, holdersInstead } from './surplus.ts';

const nodes = Array.from({ length: 5 }, (_, index) => testNode(index + 1));
const first = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes, copies: 2 });
const SELF = 'n1' as NodeId;

const ids = Array.from({ length: 60 }, (_, index) => new Uint8Array(32).fill(index) as BlockId);
const pool = first.pools[0]!;
const unwanted = ids.filter((id) => holdersInstead(SELF, first, pool, id) !== undefined);

/** This node holds all blocks; the others answer as told. */
class Bench {
  catalog: Catalog = first;
  readonly given: BlockId[] = [];
  readonly copied: [NodeId, BlockId][] = [];
  answer = (_node: NodeId, asked: readonly BlockId[]): unknown => this.fine(asked.length);
  isDown = (_node: NodeId): boolean => false;

  fine(count: number, changes: object = {}): object {
    return { present: new Array<boolean>(count).fill(true), generation: 7, settledEpoch: 1, ...changes };
  }

  run() {
    const network = {
      peer: (node: NodeId) => ({ state: this.isDown(node) ? 'down' : 'up' }),
      call: (node: NodeId, method: string, header: { ids: readonly BlockId[] }) => {
        expect(method).toBe(blockMethods.renew);
        return Promise.resolve({ header: this.answer(node, header.ids) });
      },
    } as unknown as Network;
    return giveUpSurplus(
      {
        self: SELF,
        network,
        catalog: { current: () => this.catalog },
        signal: new AbortController().signal,
        engine: {
          async *list() {
            for (const id of ids) yield await Promise.resolve({ id, lengthBytes: 10, generation: 5 });
          },
        },
        blocks: {
          giveUp: (_pool, blocks) => {
            this.given.push(...blocks.map((block) => block.id));
            return Promise.resolve(blocks.length);
          },
          copyTo: (node, _pool, id) => {
            this.copied.push([node, id]);
            return Promise.resolve(true);
          },
        },
      },
      pool,
    );
  }
}

describe('giveUpSurplus', () => {
  it('gives up what others are to hold and do, and nothing else', async () => {
    const bench = new Bench();
    expect(unwanted.length).toBeGreaterThan(10);
    expect(unwanted.length).toBeLessThan(ids.length);
    expect(await bench.run()).toEqual({
      givenUp: { count: unwanted.length, bytes: 10 * unwanted.length },
      keptCount: 0,
    });
    expect(bench.given).toEqual(unwanted);
    for (const id of bench.given) expect(placementOf(first, pool, id).slice(0, 2)).not.toContain(SELF);
  });

  it.each([
    ['has settled an older placement', { settledEpoch: 0 }],
    ['has settled a newer placement', { settledEpoch: 2 }],
    ['has it under a lower stamp', { generation: 4 }],
    ['answers something else', { present: 'yes' }],
  ])('keeps a copy of which one wanted holder %s', async (_, changes) => {
    const bench = new Bench();
    bench.answer = (node, asked) => bench.fine(asked.length, node === 'n2' ? changes : {});
    const result = await bench.run();
    expect(result.keptCount).toBeGreaterThan(0);
    for (const id of bench.given) expect(holdersInstead(SELF, first, pool, id)).not.toContain('n2');
    expect(bench.given).toHaveLength(unwanted.length - result.keptCount);
    expect(bench.copied).toEqual([]);
  });

  it('keeps a copy of which one wanted holder is down or does not answer', async () => {
    const bench = new Bench();
    bench.isDown = (node) => node === 'n2';
    bench.answer = (node, asked) => {
      if (node === 'n3') throw new Error('cut off');
      return bench.fine(asked.length);
    };
    await bench.run();
    expect(bench.given.length).toBeGreaterThan(0);
    for (const id of bench.given) {
      const holders = holdersInstead(SELF, first, pool, id);
      expect(holders).not.toContain('n2');
      expect(holders).not.toContain('n3');
    }
  });

  it('gives a copy to a wanted holder that lacks it, and keeps its own for now', async () => {
    const bench = new Bench();
    bench.answer = (node, asked) => bench.fine(asked.length, node === 'n2' ? { present: asked.map(() => false) } : {});
    const { keptCount } = await bench.run();
    expect(bench.copied).toHaveLength(keptCount);
    expect(new Set(bench.copied.map(([node]) => node))).toEqual(new Set(['n2']));
    for (const [, id] of bench.copied) expect(bench.given).not.toContain(id);
  });

  it('gives up nothing when placement has changed meanwhile', async () => {
    const bench = new Bench();
    bench.answer = (_, asked) => {
      bench.catalog = applyChange(first, { kind: 'setOut', id: 'n5' as NodeId, out: true });
      return bench.fine(asked.length);
    };
    expect((await bench.run()).givenUp.count).toBe(0);
    expect(bench.given).toEqual([]);
  });

  it('gives up nothing on a node that is being drained or is out', async () => {
    for (const change of [
      { kind: 'setDraining', id: SELF, draining: true },
      { kind: 'setOut', id: SELF, out: true },
    ] as const) {
      const bench = new Bench();
      bench.catalog = applyChange(first, change);
      bench.answer = (_, asked) => bench.fine(asked.length, { settledEpoch: 2 });
      expect(await bench.run()).toEqual({ givenUp: { count: 0, bytes: 0 }, keptCount: 0 });
    }
  });
});
