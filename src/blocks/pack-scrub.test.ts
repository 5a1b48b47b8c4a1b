/** Damage of every kind in packs and index, at rest and while the store is open: found, told, and the index made anew. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sampleBytes } from '../../test/conformance/block-store.ts';
import { MemoryDisk } from '../env-memory.ts';
import { NodeClock } from '../env-node.ts';
import { blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import { MiB } from '../limits.ts';
import { hashBlock, verifyBlock } from './identity.ts';
import { PackEngine, type PackEngineOptions } from './pack-engine.ts';
import { PACK_HEADER_BYTES, recordBytes, RECORD_HEADER_BYTES } from './pack-format.ts';

const POOL = 1 as PoolId;
const PACK_1 = '/store/packs/0000000001.pack';
const INDEX = '/store/index';
const NO_GAPS: ReadonlySet<number> = new Set();

let disk: MemoryDisk;
let engine: PackEngine;

const open = async (options: Partial<PackEngineOptions> = {}): Promise<PackEngine> =>
  (engine = await PackEngine.open({ disk, clock: new NodeClock(), path: '/store', storeId: 'n1', ...options }));
const reopen = async (options: Partial<PackEngineOptions> = {}): Promise<PackEngine> => {
  await engine.close();
  return await open(options);
};
const put = async (data: Uint8Array, generation = 0): Promise<BlockId> => {
  const { id, pageHashes } = hashBlock(data);
  await engine.put(POOL, id, pageHashes, data, generation);
  return id;
};
const read = async (id: BlockId): Promise<Uint8Array | undefined> => {
  const run = await engine.read(POOL, id, 0, 64, false);
  if (run === undefined) return undefined;
  const data = new Uint8Array(run.data);
  run.release();
  return (verifyBlock(id, data), data);
};

interface Found {
  suspects: Set<string>;
  faults: string[];
  gaps: string[];
  blocks: number;
  rewritten: number;
}

/** A whole pass, as the Scrubber makes it, that heals nothing. */
async function scrub(budgetBytes = MiB, withGaps = NO_GAPS): Promise<Found> {
  const { scrub: target } = engine;
  const found: Found = { suspects: new Set(), faults: [], gaps: [], blocks: 0, rewritten: 0 };
  for (const { pack, endBytes } of target.extents()) {
    for (let offset = 0; offset < endBytes;) {
      const part = await target.scrubPack({ pack, offset, endBytes, budgetBytes }, undefined);
      if (part === undefined) break;
      for (const { id } of part.suspects) found.suspects.add(blockIdToHex(id));
      if (part.indexFault !== undefined) {
        found.faults.push(part.indexFault);
        await target.reindex(part.indexFault);
      }
      found.gaps.push(...part.gaps.map((gap) => `${pack}:${gap.offset}`));
      found.blocks += part.blockCount;
      offset = part.nextOffset;
    }
  }
  for (let row: string | undefined, more = true; more;) {
    const part = await target.scrubRows(row, 3, undefined, withGaps);
    for (const { id } of part.suspects) found.suspects.add(blockIdToHex(id));
    found.rewritten += part.rewrittenCount;
    if (part.indexFault !== undefined) {
      found.faults.push(part.indexFault);
      await target.reindex(part.indexFault);
    }
    if (part.indexFault === undefined || part.next !== row) row = part.next;
    more = row !== undefined || (part.indexFault !== undefined && part.costBytes === 0);
  }
  return found;
}

beforeEach(async () => {
  disk = new MemoryDisk();
  await open();
});
afterEach(async () => {
  await engine.close();
});

describe('a scrub', () => {
  it('of a store in order finds nothing, whatever happened to its blocks', async () => {
    const ids = [];
    for (let size = 1; size < 20; size++) ids.push(await put(sampleBytes(size * 5_000, size), size));
    for (const id of ids.slice(0, 5)) await engine.delete(POOL, id);
    await put(sampleBytes(5_000, 1), 30);
    await engine.renew(POOL, ids[9] as BlockId, 40);
    await engine.compact();
    expect(await scrub(10_000)).toEqual({ suspects: new Set(), faults: [], gaps: [], blocks: 15, rewritten: 0 });
    await reopen();
    expect(await scrub()).toMatchObject({ suspects: new Set(), faults: [], gaps: [], blocks: 15 });
  });

  it('names the live blocks whose data, page list or header has rotted, and no dead ones', async () => {
    const [a, b, c, d] = [1, 2, 3, 4].map((seed) => sampleBytes(70_000, seed)) as [Uint8Array, ...Uint8Array[]];
    const ids: BlockId[] = [];
    for (const data of [a, b, c, d]) ids.push(await put(data as Uint8Array));
    await engine.delete(POOL, ids[3] as BlockId);
    const at = (index: number, offset: number) => PACK_HEADER_BYTES + index * recordBytes(70_000) + offset;
    await engine.close();
    disk.corrupt(PACK_1, at(0, 30_000), 1); // data
    disk.corrupt(PACK_1, at(1, RECORD_HEADER_BYTES + 5), 1); // page list
    disk.corrupt(PACK_1, at(2, 2), 1); // magic
    disk.corrupt(PACK_1, at(3, 30_000), 1); // deleted: nobody's
    await open();
    const found = await scrub();
    expect(found.suspects).toEqual(new Set(ids.slice(0, 3).map((id) => blockIdToHex(id))));
    expect(found).toMatchObject({ faults: [], gaps: [`1:${at(1, 0)}`] });
    // Only the head of the second one is damaged: its bytes need no other copy.
    expect(await engine.salvage(POOL, ids[1] as BlockId)).toEqual(b);
    expect(await engine.salvage(POOL, ids[0] as BlockId)).toBeUndefined();
  });

  it('writes tombstones and renewals again that were lost', async () => {
    await engine.close();
    disk = new MemoryDisk();
    await open({ packMaxBytes: 3 * recordBytes(1000) });
    const deleted = await put(sampleBytes(1000, 1));
    const renewed = await put(sampleBytes(1000, 2));
    await put(sampleBytes(1000, 3));
    await put(sampleBytes(1000, 4));
    const [, second] = engine.scrub.extents();
    const at = second?.endBytes ?? 0;
    await engine.delete(POOL, deleted);
    await engine.renew(POOL, renewed, 9);
    const pack2 = '/store/packs/0000000002.pack';
    disk.corrupt(pack2, at + 50, 1);
    disk.corrupt(pack2, at + RECORD_HEADER_BYTES + 50, 1);
    const found = await scrub(MiB, new Set([2]));
    expect(found.rewritten).toBeGreaterThanOrEqual(2);
    // Without the index, which would otherwise still know.
    await engine.close();
    await disk.remove(INDEX);
    await open();
    expect(engine.has(POOL, deleted)).toBeUndefined();
    expect(engine.stampOf(POOL, renewed)).toBe(9);
  });
});

describe('a damaged index', () => {
  it.each([...Array(60).keys()])(
    '(flip %i) is found and made anew, and what it says is right or refused',
    async (n) => {
      const kept = new Map<string, Uint8Array>();
      const ids: BlockId[] = [];
      for (let seed = 1; seed <= 12; seed++) {
        const data = sampleBytes(900 + seed, seed);
        ids.push(await put(data, seed));
        kept.set(blockIdToHex(ids.at(-1) as BlockId), data);
      }
      for (const id of ids.splice(0, 2)) {
        await engine.delete(POOL, id);
        kept.delete(blockIdToHex(id));
      }
      await engine.renew(POOL, ids[3] as BlockId, 77);
      if (n % 2 === 0) {
        await engine.close();
        disk.corruptKv(INDEX, n * 7919, 1 << (n % 8));
        await open();
      } else {
        // Rows are in memory until they are written.
        await reopen();
        disk.corruptKv(INDEX, n * 7919, 1 << (n % 8));
      }
      for (const id of ids) {
        const got = await read(id).catch((error: unknown) => (error as { code: string }).code);
        expect(['ERR_UNAVAILABLE', undefined, kept.get(blockIdToHex(id))]).toContainEqual(got);
      }
      await put(sampleBytes(5_000, 99));
      await scrub();
      for (const id of ids) expect(await read(id)).toEqual(kept.get(blockIdToHex(id)));
      expect(await scrub()).toMatchObject({ suspects: new Set(), faults: [], gaps: [], blocks: 11 });
      expect(engine.stampOf(POOL, ids[3] as BlockId)).toBe(77);
      expect(engine.usage()).toMatchObject({ blockCount: 11 });
      await reopen();
      expect(engine.usage()).toMatchObject({ blockCount: 11 });
    },
  );

  it('is made anew while blocks are put, deleted and marked damaged, and misses none of it', async () => {
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 40; seed++) ids.push(await put(sampleBytes(2_000, seed)));
    const work = async (): Promise<void> => {
      for (let seed = 41; seed <= 60; seed++) ids.push(await put(sampleBytes(2_000, seed)));
      await engine.delete(POOL, ids[0] as BlockId);
      await engine.markDamaged(POOL, ids[1] as BlockId);
      await engine.compact();
    };
    await Promise.all([engine.scrub.reindex('test'), work()]);
    await engine.scrub.reindex('again');
    const check = async (): Promise<void> => {
      expect(engine.usage()).toMatchObject({ blockCount: 58, damaged: [{ id: ids[1] }] });
      expect(engine.has(POOL, ids[0] as BlockId)).toBeUndefined();
      for (const id of ids.slice(2)) expect(await read(id)).toBeDefined();
    };
    await check();
    expect(engine.scrub.reindexed).toMatchObject({ count: 2, running: false });
    expect((await disk.readdir('/store')).filter((name) => name.startsWith('index'))).toEqual(['index-2']);
    await reopen();
    await check();
  });

  it('made anew knows where a pack ends whose sync failed meanwhile', async () => {
    const before = await put(sampleBytes(2_000, 1));
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    disk.setDelay((op) => (op === 'read' ? gate : undefined));
    const making = engine.scrub.reindex('test');
    await expect.poll(() => disk.exists('/store/index-1')).toBe(true);
    disk.failNext({ op: 'datasync', path: PACK_1 });
    await expect(put(sampleBytes(2_000, 2))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    go();
    await making;
    disk.setDelay(undefined);
    const after = await put(sampleBytes(2_000, 3));
    disk.killProcess();
    await open();
    expect(await read(before)).toBeDefined();
    expect(await read(after)).toBeDefined();
    expect(engine.has(POOL, hashBlock(sampleBytes(2_000, 2)).id)).toBeUndefined();
  });

  it('that cannot be made anew is tried again when it is needed', async () => {
    const id = await put(sampleBytes(2_000, 1));
    disk.failNext({ op: 'open', path: 'index-1' });
    await expect(engine.scrub.reindex('test')).rejects.toThrow();
    expect(await read(id)).toBeDefined();
    await engine.scrub.reindex('test');
    expect(await read(id)).toBeDefined();
  });
});
