import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HistoryId, NodeId } from '../ids.ts';
import { applyChange, firstCatalog } from './document.ts';
import { majorityOf } from './paxos.ts';
import type { Catalog, CatalogNode } from './types.ts';
import { firstVoters, nextVoters } from './voters.ts';
import type { VoterView } from './voters.ts';
import { testNode as node } from './testing.ts';
const nodes = (count: number, changes: (number: number) => Partial<CatalogNode> = () => ({})) =>
  Array.from({ length: count }, (_, index) => node(index + 1, changes(index + 1)));

function catalogOf(members: readonly CatalogNode[], voters?: readonly string[]): Catalog {
  const catalog = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes: members });
  return voters === undefined ? catalog : { ...catalog, voters: voters as NodeId[] };
}

const UP: VoterView = { up: true, fit: true, gone: false };
const viewOf =
  (exceptions: Record<string, Partial<VoterView>> = {}) =>
  (id: NodeId): VoterView => ({ ...UP, ...exceptions[id] });
const DOWN = { up: false };
const GONE = { up: false, gone: true };
const LOST = { fit: false };

describe('the first voters', () => {
  it.each([
    [1, 1],
    [2, 1],
    [3, 3],
    [4, 3],
    [5, 5],
    [9, 5],
  ])('of %i nodes: %i', (count, voters) => {
    expect(firstVoters(nodes(count))).toHaveLength(voters);
  });

  it('stay three where five nodes share fewer machines', () => {
    expect(firstVoters(nodes(6, (number) => ({ host: `h${number % 3}` })))).toEqual(['n1', 'n2', 'n3']);
  });

  it('are spread over zones first, then racks, then hosts', () => {
    expect(firstVoters(nodes(6, (number) => ({ zone: `z${Math.floor((number - 1) / 2)}`, host: 'h' })))).toEqual([
      ...['n1', 'n3', 'n5'],
    ]);
    expect(firstVoters(nodes(4, (number) => ({ rack: number < 3 ? 'a' : 'b' })))).toEqual(['n1', 'n2', 'n3']);
  });
});

describe('the next voters', () => {
  const next = (catalog: Catalog, exceptions?: Record<string, Partial<VoterView>>) =>
    nextVoters(catalog, viewOf(exceptions));

  it('are those that are, when all is well', () => {
    expect(next(catalogOf(nodes(3)))).toBeUndefined();
    expect(next(catalogOf(nodes(5)), { n1: DOWN, n2: DOWN })).toBeUndefined();
  });

  it('grow from one only when two more are up, so that an even number does not last', () => {
    const catalog = catalogOf(nodes(3), ['n1']);
    expect(next(catalog, { n3: DOWN })).toBeUndefined();
    expect(next(catalog, { n3: LOST })).toBeUndefined();
    expect(next(catalog)).toEqual(['n1', 'n2']);
    expect(next(catalogOf(nodes(3), ['n1', 'n2']))).toEqual(['n1', 'n2', 'n3']);
    // The third went away in between: back to one, which needs no second.
    expect(next(catalogOf(nodes(3), ['n1', 'n2']), { n3: DOWN })).toEqual(['n1']);
  });

  it('replace who is gone or has lost its votes: first one more, then one less', () => {
    expect(next(catalogOf(nodes(4)), { n2: DOWN })).toBeUndefined();
    expect(next(catalogOf(nodes(4)), { n2: GONE })).toEqual(['n1', 'n2', 'n3', 'n4']);
    expect(next(catalogOf(nodes(4)), { n2: LOST })).toEqual(['n1', 'n2', 'n3', 'n4']);
    expect(next(catalogOf(nodes(4), ['n1', 'n2', 'n3', 'n4']), { n2: LOST })).toEqual(['n1', 'n3', 'n4']);
    expect(next(catalogOf(nodes(3)), { n2: LOST })).toBeUndefined();
    expect(next(catalogOf(nodes(4)), { n2: GONE, n4: DOWN })).toBeUndefined();
  });

  it('replace who is gone also where there are too few nodes up for the voters that are wanted', () => {
    const few = catalogOf(nodes(5), ['n1', 'n2', 'n3']);
    expect(next(few, { n5: DOWN })).toBeUndefined();
    expect(next(few, { n2: GONE, n5: DOWN })).toEqual(['n1', 'n2', 'n3', 'n4']);
    const grown = catalogOf(nodes(5), ['n1', 'n2', 'n3', 'n4']);
    expect(next(grown, { n2: GONE, n5: DOWN })).toEqual(['n1', 'n3', 'n4']);
  });

  it('never leave fewer up than must agree', () => {
    // Removing the one that lost its votes would leave two of which one is down.
    expect(next(catalogOf(nodes(4), ['n1', 'n2', 'n3', 'n4']), { n2: LOST, n1: DOWN, n3: DOWN })).toBeUndefined();
  });

  it('shrink when nodes have left', () => {
    expect(next(catalogOf(nodes(2), ['n1', 'n2']))).toEqual(['n1']);
    expect(next(catalogOf(nodes(4), ['n1', 'n2', 'n3', 'n4']))).toEqual(['n1', 'n2', 'n3']);
  });

  it('take a witness as well as any', () => {
    const members = [node(1), node(2), node(3, { kind: 'witness' })];
    expect(next(catalogOf(members, ['n1']))).toEqual(['n1', 'n2']);
    expect(next(catalogOf(members, ['n1', 'n2']))).toEqual(['n1', 'n2', 'n3']);
  });

  it('come to rest, one change at a time, whatever is up', () => {
    const view = fc.record({ up: fc.boolean(), fit: fc.boolean(), gone: fc.boolean() });
    const member = fc.record({ zone: fc.constantFrom('a', 'b'), rack: fc.constantFrom('r', 's'), view });
    fc.assert(
      fc.property(
        fc.array(member, { minLength: 1, maxLength: 9 }),
        fc.array(fc.nat(8), { maxLength: 5 }),
        (all, picks) => {
          const members = all.map(({ zone, rack }, index) => node(index + 1, { zone, rack }));
          const views = new Map(all.map((each, index) => [`n${index + 1}`, each.view]));
          const chosen = [...new Set(picks.map((pick) => `n${(pick % all.length) + 1}`))];
          let catalog = catalogOf(members, chosen.length === 0 ? undefined : chosen);
          for (let steps = 0; ; steps++) {
            const voters = nextVoters(catalog, (id) => views.get(id)!);
            if (voters === undefined) break;
            // Checked there: exactly one more or one less.
            catalog = applyChange(catalog, { kind: 'putVoters', voters });
            const able = voters.filter((id) => views.get(id)!.up && views.get(id)!.fit);
            expect(able.length).toBeGreaterThanOrEqual(majorityOf(voters.length));
            expect(steps).toBeLessThan(20);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
