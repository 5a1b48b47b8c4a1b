import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Catalog, CatalogNode, Pool } from './types.ts';
import { asBlockId, type Epoch, type NodeId, type PoolId } from '../ids.ts';
import { copiesPerNode, levelUpmap } from './placement-level.ts';
import { pgOf, placementHead, placementOrder, straw2Head, straw2Order, writeTargets } from './placement.ts';

function node(id: string, weight = 100, host = id, rack = 'r', zone = 'z'): CatalogNode {
  return { id: id as NodeId, storeId: id, address: `127.0.0.1:1`, weight, host, rack, zone };
}
function pool(change: Partial<Pool> = {}): Pool {
  return {
    id: 1 as PoolId,
    name: 'p',
    kind: 'filesystem',
    copies: 3,
    blockSizeBytes: 4 << 20,
    pgCount: 128,
    domain: 'node',
    upmap: {},
    placementEpoch: 1 as Epoch,
    ...change,
  };
}
function catalog(nodes: readonly CatalogNode[], p: Pool): Catalog {
  return {
    formatVersion: 1,
    clusterId: '0'.repeat(32),
    epoch: 1 as Epoch,
    nodes,
    voters: [],
    pools: [p],
    groups: [],
    tablets: [],
  };
}
const names = (count: number): CatalogNode[] => Array.from({ length: count }, (_, i) => node(`n${i}`));

describe('the head of an order', () => {
  const machine = fc.record({
    host: fc.nat(4),
    rack: fc.nat(2),
    weight: fc.integer({ min: 1, max: 9 }),
    draining: fc.boolean(),
  });
  it('is what the whole order begins with', () => {
    fc.assert(
      fc.property(
        fc.array(machine, { minLength: 1, maxLength: 12 }),
        fc.constantFrom('node' as const, 'host' as const, 'rack' as const),
        fc.nat(127),
        fc.integer({ min: 1, max: 6 }),
        fc.array(fc.nat(13), { maxLength: 4 }),
        (machines, domain, pg, count, exception) => {
          const nodes = machines.map(({ host, rack, weight, draining }, index): CatalogNode => ({
            ...node(`n${index}`, weight, `h${host}`, `r${rack}`),
            ...(draining ? { draining: true } : {}),
          }));
          const upmap = exception.length === 0 ? {} : { [pg]: exception.map((index) => `n${index}` as NodeId) };
          const p = pool({ domain, upmap });
          expect(straw2Head(nodes, p, pg, count)).toEqual(straw2Order(nodes, p, pg).slice(0, count));
          const whole = placementOrder(catalog(nodes, p), p, pg);
          expect(placementHead(catalog(nodes, p), p, pg, count).slice(0, count)).toEqual(whole.slice(0, count));
        },
      ),
    );
  });
});

describe('placement', () => {
  it('keeps its golden vectors: a change here would lose every block written before', () => {
    const p = pool({ pgCount: 1024 });
    const weighted = [node('alpha', 100), node('beta', 200), node('gamma', 50), node('delta', 4000)];
    const ids = [0, 1, 2, 3].map((fill) => pgOf(p, asBlockId(new Uint8Array(32).fill(fill))));
    const orders = [0, 1, 2, 3, 4, 1023].map((pg) =>
      straw2Order(weighted, p, pg)
        .map((n) => n[0])
        .join(''),
    );
    expect({ ids, orders }).toMatchInlineSnapshot(`
      {
        "ids": [
          245,
          269,
          557,
          832,
        ],
        "orders": [
          "dagb",
          "dabg",
          "dbag",
          "dabg",
          "dbag",
          "dbga",
        ],
      }
    `);
  });

  it('is a permutation of all nodes, whatever the input', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.stringMatching(/^[a-z0-9-]{1,12}$/), { minLength: 1, maxLength: 20 }),
        fc.nat(127),
        fc.constantFrom('node', 'host', 'rack', 'zone'),
        (ids, pg, domain) => {
          const nodes = ids.map((id, i) => node(id, (i % 5) * 100, `h${i % 7}`, `r${i % 3}`, `z${i % 2}`));
          const order = straw2Order(nodes, pool({ domain }), pg);
          expect([...order].sort()).toEqual([...ids].sort());
          expect(straw2Order([...nodes].reverse(), pool({ domain }), pg)).toEqual(order);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('spreads equal nodes evenly', () => {
    const p = pool({ pgCount: 8192 });
    const first = new Map<string, number>();
    const nodes = names(8);
    for (let pg = 0; pg < p.pgCount; pg++) {
      const head = straw2Order(nodes, p, pg)[0] as string;
      first.set(head, (first.get(head) ?? 0) + 1);
    }
    // 1024 expected, standard deviation 30: five of them.
    for (const count of first.values()) expect(Math.abs(count - 1024)).toBeLessThan(150);
  });

  it('spreads ids evenly over placement groups', () => {
    const p = pool({ pgCount: 16 });
    const counts = new Array<number>(16).fill(0);
    const id = new Uint8Array(32);
    for (let i = 0; i < 16_000; i++) {
      new DataView(id.buffer).setUint32(0, i);
      const pg = pgOf(p, asBlockId(id));
      counts[pg] = (counts[pg] ?? 0) + 1;
    }
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(160);
  });

  it('gives nodes their weight', () => {
    const p = pool({ pgCount: 8192 });
    const nodes = [node('a', 100), node('b', 200), node('c', 500)];
    const first = new Map<string, number>();
    for (let pg = 0; pg < p.pgCount; pg++) {
      const head = straw2Order(nodes, p, pg)[0] as string;
      first.set(head, (first.get(head) ?? 0) + 1);
    }
    expect(Math.abs((first.get('a') ?? 0) - 1024)).toBeLessThan(150);
    expect(Math.abs((first.get('b') ?? 0) - 2048)).toBeLessThan(200);
    expect(Math.abs((first.get('c') ?? 0) - 5120)).toBeLessThan(230);
  });

  it('moves only what an added node wins', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 3, max: 12 }),
        fc.integer({ min: 1, max: 1000 }),
        fc.nat(127),
        fc.constantFrom('node', 'rack'),
        (count, weight, pg, domain) => {
          const p = pool({ domain });
          const nodes = Array.from({ length: count }, (_, i) => node(`n${i}`, 100 + i, `h${i}`, `r${i % 4}`));
          const distinct = domain === 'rack' ? Math.min(4, count) : count;
          const copies = Math.min(3, distinct);
          const before = straw2Order(nodes, p, pg);
          const after = straw2Order([...nodes, node('new', weight, 'hn', 'r0')], p, pg);
          const gained = after.slice(0, copies).filter((n) => !before.slice(0, copies).includes(n));
          expect(gained.filter((n) => n !== 'new')).toEqual([]);
          if (domain === 'node') expect(after.filter((n) => n !== 'new')).toEqual(before);
        },
      ),
    );
  });

  it('keeps copies in distinct domains while there are enough, then in finer ones', () => {
    const nodes = [
      node('a1', 1, 'h1', 'ra'),
      node('a2', 1, 'h1', 'ra'),
      node('a3', 1, 'h2', 'ra'),
      node('b1', 1, 'h3', 'rb'),
      node('b2', 1, 'h3', 'rb'),
    ];
    for (let pg = 0; pg < 128; pg++) {
      const order = straw2Order(nodes, pool({ domain: 'rack' }), pg);
      const racks = order.slice(0, 2).map((id) => (id as string)[0]);
      expect(new Set(racks).size).toBe(2);
      const hosts = order.slice(0, 3).map((id) => nodes.find((n) => n.id === id)?.host);
      expect(new Set(hosts).size).toBe(3);
    }
  });

  it('puts upmap exceptions in front and ignores nodes that are gone', () => {
    const nodes = names(4);
    const plain = straw2Order(nodes, pool(), 5);
    const last = plain[3] as NodeId;
    const p = pool({ upmap: { 5: [last, 'gone' as NodeId, plain[0] as NodeId] } });
    expect(placementOrder(catalog(nodes, p), p, 5)).toEqual([last, plain[0], plain[1], plain[2]]);
    expect(() => placementOrder(catalog(nodes, p), p, 128)).toThrow(/outside/);
  });

  it('computes an order once a catalog', () => {
    const p = pool();
    const c = catalog(names(3), p);
    expect(placementOrder(c, p, 7)).toBe(placementOrder(c, p, 7));
  });

  it('skips nodes in writeTargets', () => {
    const order = ['a', 'b', 'c', 'd'] as NodeId[];
    expect(writeTargets(order, 2, () => false)).toEqual(['a', 'b']);
    expect(writeTargets(order, 2, (n) => n === 'a')).toEqual(['b', 'c']);
    expect(writeTargets(order, 3, (n) => n !== 'd')).toEqual(['d']);
  });

  it('levels copies to within one placement group of the share', () => {
    for (const count of [3, 4, 7]) {
      for (const copies of [1, 2, 3]) {
        const p = pool({ copies });
        const nodes = names(count);
        const levelled = { ...p, upmap: levelUpmap(catalog(nodes, p), p) };
        const share = (128 * copies) / count;
        const counts = copiesPerNode(catalog(nodes, levelled), levelled);
        for (const value of counts.values()) expect(Math.abs(value - share)).toBeLessThanOrEqual(1);
      }
    }
  });

  it('levels by weight, and keeps domains apart while it does', () => {
    const nodes = [node('a', 100, 'h1'), node('b', 100, 'h1'), node('c', 200, 'h2'), node('d', 300, 'h3')];
    const p = pool({ copies: 2, domain: 'host' });
    const levelled = { ...p, upmap: levelUpmap(catalog(nodes, p), p) };
    const c = catalog(nodes, levelled);
    for (let pg = 0; pg < 128; pg++) {
      const hosts = placementOrder(c, levelled, pg)
        .slice(0, 2)
        .map((id) => nodes.find((n) => n.id === id)?.host);
      expect(new Set(hosts).size).toBe(2);
    }
    const counts = copiesPerNode(c, levelled);
    expect(Math.abs((counts.get('d' as NodeId) ?? 0) - (256 * 3) / 7)).toBeLessThanOrEqual(2);
  });
});
