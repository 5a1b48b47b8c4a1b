/** Who comes or goes moves no more than the shares require, and afterwards everyone has its share. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyChange, firstCatalog } from './document.ts';
import type { Catalog, CatalogChange, CatalogNode, FailureDomain } from './types.ts';
import type { HistoryId, NodeId } from '../ids.ts';
import { copiesPerNode, levelUpmap } from './placement-level.ts';
import { placementOrder, wantedCopies } from './placement.ts';
import { testNode as node } from './testing.ts';

function levelCatalog(nodes: readonly CatalogNode[], copies = 3, domain: FailureDomain = 'host'): Catalog {
  const plain = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes, copies });
  const inDomain = { ...plain, pools: plain.pools.map((pool) => ({ ...pool, domain })) };
  return { ...inDomain, pools: inDomain.pools.map((pool) => ({ ...pool, upmap: levelUpmap(inDomain, pool) })) };
}

function heads(catalog: Catalog): (readonly NodeId[])[] {
  const pool = catalog.pools[0]!;
  const copies = wantedCopies(catalog, pool);
  return Array.from({ length: pool.pgCount }, (_, pg) => placementOrder(catalog, pool, pg).slice(0, copies));
}

/** Copies that are on another node afterwards. */
function movedCount(before: Catalog, after: Catalog): number {
  const old = heads(before);
  return heads(after).reduce((sum, head, pg) => sum + head.filter((id) => !old[pg]!.includes(id)).length, 0);
}

function spreadOf(catalog: Catalog, keyOf: (node: CatalogNode) => string): number[] {
  const nodes = new Map(catalog.nodes.map((each) => [each.id, each]));
  return heads(catalog).map((head) => new Set(head.map((id) => keyOf(nodes.get(id)!))).size);
}

function counts(catalog: Catalog): number[] {
  return [...copiesPerNode(catalog, catalog.pools[0]!).values()];
}

const join = (catalog: Catalog, added: CatalogNode): Catalog => applyChange(catalog, { kind: 'putNode', node: added });

describe('a node that comes', () => {
  it('gets its share, and nothing else moves', () => {
    const before = levelCatalog([1, 2, 3, 4, 5].map((number) => node(number)));
    const after = join(join(before, node(6)), node(7));
    const least = (128 * 3 * 2) / 7;
    expect(movedCount(before, after)).toBeLessThanOrEqual(1.05 * least);
    expect(Math.max(...counts(after)) - Math.min(...counts(after))).toBeLessThanOrEqual(1);
  });

  it('does so on one machine, too', () => {
    const before = levelCatalog(
      [1, 2, 3, 4].map((number) => node(number, { host: 'one' })),
      2,
    );
    const after = join(before, node(5, { host: 'one' }));
    expect(movedCount(before, after)).toBeLessThanOrEqual(Math.ceil((128 * 2) / 5));
    expect(Math.max(...counts(after)) - Math.min(...counts(after))).toBeLessThanOrEqual(1);
  });

  it('makes lists longer that were too short, and keeps what they had', () => {
    const one = levelCatalog([node(1)]);
    const three = join(join(one, node(2)), node(3));
    expect(heads(three).every((head) => new Set(head).size === 3)).toBe(true);
    expect(movedCount(one, three)).toBe(2 * 128);
    const four = join(three, node(4));
    expect(movedCount(three, four)).toBe(96);
    expect(counts(four)).toEqual([96, 96, 96, 96]);
  });

  it('takes copies out of a domain that they share, as soon as there is another one', () => {
    const before = levelCatalog([node(1), node(2, { host: 'h1' }), node(3, { host: 'h3' })], 2);
    expect(spreadOf(before, ({ host }) => host)).toEqual(new Array(128).fill(2));
    const crowded = levelCatalog([node(1), node(2, { host: 'h1' })], 2);
    const spread = join(crowded, node(3, { host: 'h3' }));
    expect(spreadOf(spread, ({ host }) => host)).toEqual(new Array(128).fill(2));
  });

  it.each([10, 100])('of unequal size, in three racks: %d nodes', (count) => {
    const unequal = (number: number): CatalogNode =>
      node(number, { weight: 100 * (1 + (number % 4)), rack: `r${number % 3}` });
    const nodes = Array.from({ length: count }, (_, index) => unequal(index + 1));
    const before = levelCatalog(nodes, 3, 'rack');
    const after = join(before, unequal(count + 1));
    expect(spreadOf(after, ({ rack }) => rack)).toEqual(new Array(128).fill(3));
    // What it gets is not its share of all, where its rack is larger or smaller than a third.
    const gained = counts(after).at(-1)!;
    expect(movedCount(before, after)).toBeLessThanOrEqual(Math.ceil(1.05 * gained));
  });
});

describe('whoever comes and goes', () => {
  it('lists stay whole, of nodes that are there, and as spread as they can be', () => {
    const change = fc.oneof(
      fc.record({ kind: fc.constant('join' as const), host: fc.nat(5), weight: fc.integer({ min: 1, max: 1_000 }) }),
      fc.record({ kind: fc.constantFrom('drain' as const, 'out' as const, 'remove' as const), which: fc.nat(20) }),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 8 }), fc.integer({ min: 1, max: 3 }), (changes, copies) => {
        let catalog = levelCatalog(
          [1, 2, 3].map((number) => node(number)),
          copies,
        );
        let next = 4;
        for (const each of changes) {
          catalog = applied(catalog, commandOf(catalog, each, next++)) ?? catalog;
          const pool = catalog.pools[0]!;
          const active = catalog.nodes.filter((one) => one.draining !== true && one.out !== true);
          for (const head of heads(catalog)) {
            expect(new Set(head).size).toBe(Math.min(pool.copies, active.length));
            expect(head.every((id) => active.some((one) => one.id === id))).toBe(true);
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});

type Step =
  | { readonly kind: 'join'; readonly host: number; readonly weight: number }
  | { readonly kind: 'drain' | 'out' | 'remove'; readonly which: number };

function commandOf({ nodes }: Catalog, step: Step, number: number): CatalogChange {
  if (step.kind === 'join') {
    return { kind: 'putNode', node: node(number, { host: `h${step.host}`, weight: step.weight }) };
  }
  const { id, draining, out } = nodes[step.which % nodes.length]!;
  if (step.kind === 'drain') return { kind: 'setDraining', id, draining: draining !== true };
  return step.kind === 'out' ? { kind: 'setOut', id, out: out !== true } : { kind: 'removeNode', id };
}

/** Undefined where it is refused: the last node that takes data, one that serves. */
function applied(catalog: Catalog, change: CatalogChange): Catalog | undefined {
  try {
    return applyChange(catalog, change);
  } catch {
    return undefined;
  }
}
