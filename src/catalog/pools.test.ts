import { describe, expect, it } from 'vitest';
import { UsageError } from '../errors.ts';
import { asBlockId, type HistoryId, type PoolId } from '../ids.ts';
import { KiB, LEVEL_WORK_MAX_COUNT, MiB } from '../limits.ts';
import { applyChange, firstCatalog } from './document.ts';
import { copiesPerNode } from './placement-level.ts';
import { pgOf, placementOf, placementOrder, wantedCopies } from './placement.ts';
import { parseChange } from './schema.ts';
import { testNode } from './testing.ts';
import type { Catalog, CatalogNode, NewPool, Pool, PoolSettings } from './types.ts';

function catalogOf(count: number, changes: (number: number) => Partial<CatalogNode> = () => ({})): Catalog {
  const nodes = Array.from({ length: count }, (_, index) => testNode(index + 1, changes(index + 1)));
  return firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '0'.repeat(16) as HistoryId, nodes });
}

const WANTED: NewPool = {
  name: 'scratch',
  kind: 'filesystem',
  copies: 2,
  blockSizeBytes: 256 * KiB,
  pgCount: 32,
  domain: 'host',
};

function create(catalog: Catalog, changes: Partial<NewPool> = {}): Catalog {
  return applyChange(catalog, { kind: 'createPool', pool: { ...WANTED, ...changes } });
}

function set(catalog: Catalog, changes: Partial<PoolSettings>, name = 'files'): Catalog {
  return applyChange(catalog, { kind: 'setPool', id: poolOf(catalog, name).id, set: changes });
}

function poolOf(catalog: Catalog, name = 'files'): Pool {
  return catalog.pools.find((pool) => pool.name === name)!;
}

function heads(catalog: Catalog, pool: Pool): string[][] {
  return Array.from({ length: pool.pgCount }, (_, pg) =>
    placementOrder(catalog, pool, pg).slice(0, wantedCopies(catalog, pool)),
  );
}

function spreadOf(catalog: Catalog, pool: Pool): number {
  const counts = [...copiesPerNode(catalog, pool).values()];
  return Math.max(...counts) - Math.min(...counts);
}

/** Copies of the new lists that are not where the blocks' old list had them, as a part of all. */
function movedPart(before: Catalog, after: Catalog): number {
  const [old, now] = [poolOf(before), poolOf(after)];
  const was = heads(before, old);
  const is = heads(after, now);
  const moved = is.map((head, pg) => head.filter((node) => !was[pg % old.pgCount]!.includes(node)).length);
  return moved.reduce((sum, count) => sum + count, 0) / (is.length * is[0]!.length);
}

describe('a new pool', () => {
  it('gets the next number and its lists, level from the start; the others stay as they are', () => {
    const before = catalogOf(5);
    const after = create(before);
    expect(poolOf(after, 'scratch')).toMatchObject({ ...WANTED, id: 3, placementEpoch: 2 });
    expect(spreadOf(after, poolOf(after, 'scratch'))).toBeLessThanOrEqual(1);
    expect(after.pools.slice(0, 2)).toEqual(before.pools);
    expect(poolOf(create(after, { name: 'more', kind: 'library' }), 'more').id).toBe(4);
  });

  it.each([
    [{ name: 'files' }, /there is a pool files already/],
    [{ copies: 4 }, /4 copies need as many nodes; the cluster has 3/],
    [{ domain: 'rack' as const }, /2 copies on different racks, but the nodes are in one rack/],
    [{ pgCount: 65_536 }, /65536 placement groups with 2 copies are too many/],
  ])('is refused as %j', (changes, said) => {
    expect(() => create(catalogOf(3), changes)).toThrow(UsageError);
    expect(() => create(catalogOf(3), changes)).toThrow(said);
  });

  it.each([
    [{ blockSizeBytes: 100_000 }, /power of two/],
    [{ blockSizeBytes: 8 * MiB }, /from 65536 to 4194304/],
    [{ pgCount: 100 }, /power of two/],
    [{ copies: 0 }, /copies/],
    [{ name: 'No Name' }, /a pool name is 1 to 64/],
  ])('%j is no message', (changes, said) => {
    expect(() => parseChange({ kind: 'createPool', pool: { ...WANTED, ...changes } })).toThrow(said);
  });
});

describe('a pool in use', () => {
  it('gets more placement groups: each begins with the list of the one whose blocks it has, few copies move', () => {
    const before = catalogOf(5);
    const after = set(before, { pgCount: 1024 });
    const [old, now] = [poolOf(before), poolOf(after)];
    expect(now).toMatchObject({ pgCount: 1024, placementEpoch: 2, copies: 3 });
    const ids = Array.from({ length: 500 }, (_, n) => asBlockId(new Uint8Array(32).fill(n % 251, 0, 8).fill(n, 8)));
    for (const id of ids) expect(pgOf(now, id) % old.pgCount).toBe(pgOf(old, id));
    // The first catalog is not level: what moves is what makes it so.
    expect(spreadOf(after, now)).toBeLessThanOrEqual(1);
    expect(movedPart(before, after)).toBeLessThan(0.1);
    const again = set(after, { pgCount: 2048 });
    expect(movedPart(after, again)).toBeLessThan(0.001);
  });

  it('is found by whoever has the old catalog: all nodes are in every order', () => {
    const before = catalogOf(5);
    const after = set(before, { pgCount: 256 });
    const id = asBlockId(new Uint8Array(32).fill(7));
    const [was, is] = [before, after].map((catalog) => placementOf(catalog, poolOf(catalog), id));
    expect([...was!].sort()).toEqual([...is!].sort());
  });

  it('keeps more or fewer copies: old lists are added to, or cut', () => {
    const two = set(catalogOf(6), { copies: 2 });
    expect(movedPart(catalogOf(6), two)).toBeLessThan(0.12);
    const three = set(two, { copies: 3 });
    const kept = heads(three, poolOf(three)).filter((head, pg) =>
      heads(two, poolOf(two))[pg]!.every((node) => head.includes(node)),
    );
    expect(kept.length).toBeGreaterThan(110);
    expect(spreadOf(three, poolOf(three))).toBeLessThanOrEqual(1);
  });

  it('spreads over another domain', () => {
    const racks = catalogOf(6, (number) => ({ rack: `r${number % 3}` }));
    const after = set(racks, { domain: 'rack' });
    for (const head of heads(after, poolOf(after)))
      expect(new Set(head.map((id) => Number(id.slice(1)) % 3)).size).toBe(3);
    expect(() => set(racks, { domain: 'zone' })).toThrow(/3 copies on different zones, but the nodes are in one zone/);
  });

  it('may have its block size changed without any move', () => {
    const before = catalogOf(3);
    const after = set(before, { blockSizeBytes: MiB });
    expect(poolOf(after)).toEqual({ ...poolOf(before), blockSizeBytes: MiB });
    expect(() => set(before, { blockSizeBytes: MiB }, 'library')).toThrow(/its programs choose how long/);
  });

  it('is refused fewer groups, too many groups, more copies than nodes', () => {
    expect(() => set(catalogOf(3), { pgCount: 64 })).toThrow(/there can be more of them, not fewer/);
    expect(() => set(catalogOf(3), { copies: 4 })).toThrow(/4 copies need as many nodes/);
    expect(() => set(catalogOf(3), { pgCount: 8_192 })).toThrow(
      expect.objectContaining({ remedy: expect.stringMatching(/--pgs 4096/) as string }),
    );
    const many = catalogOf(LEVEL_WORK_MAX_COUNT / 1_024);
    expect(() => set(many, { pgCount: 2_048 })).toThrow(/2048 placement groups with 3 copies are too many/);
    const change = { kind: 'setPool', id: 9 as PoolId, set: { copies: 1 } } as const;
    expect(() => applyChange(catalogOf(3), change)).toThrow(/no pool 9/);
  });

  it('goes on in fewer domains than copies where it was so, but is not brought there', () => {
    const oneHost = catalogOf(4, () => ({ host: 'h' }));
    expect(poolOf(set(set(oneHost, { copies: 2 }), { copies: 4 }))).toMatchObject({ copies: 4, domain: 'host' });
    const twoHosts = set(
      catalogOf(4, (number) => ({ host: `h${number % 2}` })),
      { copies: 2 },
    );
    expect(() => set(twoHosts, { copies: 3 })).toThrow(
      /3 copies on different hosts, but the nodes are in 2 different hosts/,
    );
  });

  it('counts a node that is out: back, it has its share', () => {
    const out = applyChange(catalogOf(5), { kind: 'setOut', id: testNode(5).id, out: true });
    const after = set(out, { pgCount: 512 });
    expect(copiesPerNode(after, poolOf(after)).has(testNode(5).id)).toBe(false);
    const back = applyChange(after, { kind: 'setOut', id: testNode(5).id, out: false });
    expect(spreadOf(back, poolOf(back))).toBeLessThanOrEqual(1);
  });
});
