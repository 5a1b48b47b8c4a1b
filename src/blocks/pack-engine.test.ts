import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sampleBytes } from '../../test/conformance/block-store.ts';
import { MemoryDisk } from '../env-memory.ts';
import { NodeClock } from '../env-node.ts';
import { CorruptionError } from '../errors.ts';
import type { BlockId, PoolId } from '../ids.ts';
import { MiB, PAGE_BYTES } from '../limits.ts';
import { SILENT_LOGGER } from '../log.ts';
import { hashBlock, verifyPages } from './identity.ts';
import { PackEngine, type PackEngineOptions } from './pack-engine.ts';
import { PACK_HEADER_BYTES, recordBytes, recordHeadBytes } from './pack-format.ts';

const POOL = 1 as PoolId;
const OTHER_POOL = 0xffffffff as PoolId;
const PACK_1 = '/store/packs/0000000001.pack';
const PACK_2 = '/store/packs/0000000002.pack';

let disk: MemoryDisk;
let engine: PackEngine;

const open = async (options: Partial<PackEngineOptions> = {}): Promise<PackEngine> => {
  engine = await PackEngine.open({ disk, clock: new NodeClock(), path: '/store', storeId: 'n1', ...options });
  return engine;
};
const reopen = async (options: Partial<PackEngineOptions> = {}): Promise<PackEngine> => {
  await engine.close();
  return await open(options);
};
const put = async (data: Uint8Array, generation = 0, pool = POOL): Promise<BlockId> => {
  const { id, pageHashes } = hashBlock(data);
  await engine.put(pool, id, pageHashes, data, generation);
  return id;
};
/** The whole block, verified. */
const read = async (id: BlockId, pool = POOL): Promise<Uint8Array | undefined> => {
  const run = await engine.read(pool, id, 0, 64, true);
  if (run === undefined) return undefined;
  verifyPages(id, run.blockBytes, run.pageHashes, 0, run.data);
  const copy = new Uint8Array(run.data);
  run.release();
  return copy;
};
const generations = async (pool = POOL): Promise<number[]> => {
  const found: number[] = [];
  for await (const { generation } of engine.list(pool)) found.push(generation);
  return found.sort((a, b) => a - b);
};

beforeEach(async () => {
  disk = new MemoryDisk();
  await open();
});
afterEach(async () => {
  await engine.close();
});

describe('PackEngine', () => {
  it('keeps pools apart', async () => {
    const id = await put(sampleBytes(100));
    await put(sampleBytes(100), 3, OTHER_POOL);
    expect(await engine.delete(POOL, id)).toBe(true);
    expect(engine.has(POOL, id)).toBeUndefined();
    expect(engine.has(OTHER_POOL, id)).toBe(100);
    expect(await generations(OTHER_POOL)).toEqual([3]);
    await reopen();
    expect(engine.has(POOL, id)).toBeUndefined();
    expect(await read(id, OTHER_POOL)).toEqual(sampleBytes(100));
  });

  it('reads runs of pages, with and without their hashes', async () => {
    const data = sampleBytes(3 * PAGE_BYTES + 10);
    const { id, pageHashes } = hashBlock(data);
    await put(data);
    for (const [first, count] of [
      [0, 1],
      [0, 64],
      [1, 2],
      [3, 1],
      [3, 9],
      [4, 1],
      [0, 0],
    ] as const) {
      for (const wantHashes of [true, false]) {
        const run = (await engine.read(POOL, id, first, count, wantHashes))!;
        expect(Buffer.compare(run.data, data.subarray(first * PAGE_BYTES, (first + count) * PAGE_BYTES))).toBe(0);
        expect(run).toMatchObject({ blockBytes: data.length, firstPage: first });
        expect(Buffer.compare(run.pageHashes, wantHashes ? pageHashes : new Uint8Array(0))).toBe(0);
        run.release();
        run.release();
      }
    }
    await expect(engine.read(POOL, id, -1, 1, true)).rejects.toMatchObject({ code: 'ERR_STATE' });
  });

  it('writes one block once, however many put it at once', async () => {
    const { id, pageHashes } = hashBlock(sampleBytes(5000));
    const results = await Promise.all(
      Array.from({ length: 10 }, () => engine.put(POOL, id, pageHashes, sampleBytes(5000), 0)),
    );
    expect(results.filter(({ existed }) => !existed)).toHaveLength(1);
    expect(engine.usage().fileBytes).toBe(PACK_HEADER_BYTES + recordBytes(5000));
    const mixed = await Promise.all([
      engine.delete(POOL, id),
      engine.put(POOL, id, pageHashes, sampleBytes(5000), 0),
      engine.delete(POOL, id),
    ]);
    expect(mixed).toEqual([true, { existed: false }, true]);
    expect(engine.has(POOL, id)).toBeUndefined();
  });

  it('shares one sync among many puts', async () => {
    let syncCount = 0;
    disk.setDelay((op) => {
      if (op === 'datasync') syncCount++;
      return undefined;
    });
    await Promise.all(Array.from({ length: 200 }, (_, index) => put(sampleBytes(100, index))));
    expect(syncCount).toBeLessThan(10);
  });

  it('renews durably, whether by put or by renew, also when the index is lost', async () => {
    const id = await put(sampleBytes(10), 2);
    await put(sampleBytes(10), 5);
    expect(await generations()).toEqual([5]);
    expect(await engine.renew(POOL, id, 4)).toBe(true);
    expect(await engine.renew(POOL, id, 9)).toBe(true);
    expect(await engine.renew(POOL, hashBlock(sampleBytes(11)).id, 9)).toBe(false);
    disk.crash();
    await disk.remove('/store/index');
    await open();
    expect(await generations()).toEqual([9]);
  });

  it('rebuilds a lost or damaged index and resurrects nothing', async () => {
    const kept = await put(sampleBytes(70_000));
    const gone = await put(sampleBytes(70_000, 2));
    await engine.delete(POOL, gone);
    for (const lose of [
      async (): Promise<void> => await disk.remove('/store/index'),
      async (): Promise<void> => {
        const kv = await disk.openKv('/store/index');
        await kv.batch([{ key: Buffer.from('c'), value: Buffer.from('{"nextSeq":-1}') }], { sync: true });
        await kv.close();
      },
    ]) {
      await engine.close();
      await lose();
      await open();
      expect(Buffer.compare((await read(kept))!, sampleBytes(70_000))).toBe(0);
      expect(engine.has(POOL, gone)).toBeUndefined();
      expect(engine.usage()).toMatchObject({ blockCount: 1, liveBytes: 70_000 });
    }
  });

  it('restores a lost STORE file from a pack', async () => {
    const id = await put(sampleBytes(50));
    await engine.close();
    await disk.remove('/store/STORE');
    await open();
    expect(await read(id)).toEqual(sampleBytes(50));
  });

  it('refuses another store, a newer format and a second process', async () => {
    await expect(
      PackEngine.open({ disk, clock: new NodeClock(), path: '/store', storeId: 'n1' }),
    ).rejects.toMatchObject({ code: 'EBUSY' });
    await engine.close();
    await expect(open({ storeId: 'n2' })).rejects.toMatchObject({ code: 'ERR_FORMAT', info: { found: 'n1' } });
    await open();
  });

  describe('damage', () => {
    it('in the data of one block is that block alone; a later put heals it', async () => {
      const ids = [await put(sampleBytes(5000, 1)), await put(sampleBytes(5000, 2)), await put(sampleBytes(5000, 3))];
      disk.corrupt(PACK_1, PACK_HEADER_BYTES + recordBytes(5000) + recordHeadBytes(5000) + 77);
      await expect(read(ids[1]!)).rejects.toThrow(CorruptionError);
      await engine.markDamaged(POOL, ids[1]!);
      expect(engine.has(POOL, ids[1]!)).toBeUndefined();
      expect(engine.usage()).toMatchObject({ blockCount: 2, liveBytes: 10_000, damaged: [{ pool: POOL, id: ids[1] }] });
      disk.crash();
      await open();
      expect(engine.usage().damaged).toEqual([{ pool: POOL, id: ids[1] }]);
      expect(await read(ids[0]!)).toEqual(sampleBytes(5000, 1));
      expect(await read(ids[2]!)).toEqual(sampleBytes(5000, 3));
      await put(sampleBytes(5000, 2));
      expect(await read(ids[1]!)).toEqual(sampleBytes(5000, 2));
      await reopen();
      expect(engine.usage()).toMatchObject({ blockCount: 3, damaged: [] });
    });

    it('of a record head is noticed by the engine, and hides nothing behind it from a rebuild', async () => {
      const ids = [await put(sampleBytes(5000, 1)), await put(sampleBytes(5000, 2)), await put(sampleBytes(5000, 3))];
      disk.corrupt(PACK_1, PACK_HEADER_BYTES + recordBytes(5000) + 50);
      await expect(engine.read(POOL, ids[1]!, 0, 64, true)).rejects.toThrow(CorruptionError);
      expect(engine.usage().damaged).toHaveLength(1);
      await engine.close();
      await disk.remove('/store/index');
      await open();
      expect(await read(ids[0]!)).toEqual(sampleBytes(5000, 1));
      expect(engine.has(POOL, ids[1]!)).toBeUndefined();
      expect(await read(ids[2]!)).toEqual(sampleBytes(5000, 3));
    });

    it('of the disk itself (EIO, a missing file) is CorruptionError, and remembered', async () => {
      const id = await put(sampleBytes(5000));
      disk.failNext({ op: 'read', path: PACK_1 });
      await expect(engine.read(POOL, id, 0, 64, true)).rejects.toThrow(CorruptionError);
      expect(engine.usage().damaged).toEqual([{ pool: POOL, id }]);
      await put(sampleBytes(5000));
      expect(await read(id)).toEqual(sampleBytes(5000));
      await engine.close();
      await disk.remove(PACK_1);
      await open();
      expect(engine.has(POOL, id)).toBeUndefined();
      expect(engine.usage()).toMatchObject({ blockCount: 0, damaged: [{ pool: POOL, id }] });
      await put(sampleBytes(5000));
      expect(await read(id)).toEqual(sampleBytes(5000));
      expect(engine.usage().damaged).toEqual([]);
    });

    it('found by compaction is not copied, and stays reported until healed or deleted', async () => {
      const bad = await put(sampleBytes(5000, 1));
      const good = await put(sampleBytes(5000, 2));
      for (const seed of [3, 4, 5, 6]) await engine.delete(POOL, await put(sampleBytes(5000, seed)));
      disk.corrupt(PACK_1, PACK_HEADER_BYTES + 2000);
      expect(await engine.compact()).toBeGreaterThan(20_000);
      expect(await disk.exists(PACK_1)).toBe(false);
      expect(await read(good)).toEqual(sampleBytes(5000, 2));
      expect(engine.usage().damaged).toEqual([{ pool: POOL, id: bad }]);
      await reopen();
      expect(engine.usage().damaged).toEqual([{ pool: POOL, id: bad }]);
      expect(await engine.delete(POOL, bad)).toBe(true);
      expect(engine.usage().damaged).toEqual([]);
    });
  });

  it.each([
    ['header', 0],
    ['records', 1],
  ])('opens with a place in the %s of a pack that cannot be read, and finds what is around it', async (_, after) => {
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 20; seed++) ids.push(await put(sampleBytes(900, seed)));
    await engine.close();
    await disk.remove('/store/index');
    // Of much at once; the same in smaller pieces can be read.
    disk.failNext({ op: 'read', path: PACK_1, after });
    await open();
    for (const [index, id] of ids.entries()) expect(await read(id)).toEqual(sampleBytes(900, index + 1));
  });

  it('does not take a pack stored inside a block for records', async () => {
    await engine.close();
    await open({ storeId: 'n1' });
    const inner = await put(sampleBytes(3000, 1));
    await engine.delete(POOL, inner);
    // A copy of the pack, with a live block record and its tombstone, as the data of another block.
    const pack = await disk.readFile(PACK_1);
    const outer = await put(pack.slice());
    disk.corrupt(PACK_1, pack.length + 20);
    await engine.close();
    await disk.remove('/store/index');
    await open();
    expect(engine.has(POOL, outer)).toBeUndefined();
    expect(engine.usage().blockCount).toBe(0);
  });

  describe('space', () => {
    it('is refused beyond the capacity, and comes back by delete and compact', async () => {
      await reopen({ capacityBytes: 100_000 });
      const ids: BlockId[] = [];
      await expect(
        (async (): Promise<void> => {
          for (let seed = 1; ; seed++) ids.push(await put(sampleBytes(9000, seed)));
        })(),
      ).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
      expect(ids).toHaveLength(10);
      for (const id of ids) expect(await read(id)).toBeDefined();
      for (const id of ids.slice(0, 8)) expect(await engine.delete(POOL, id)).toBe(true);
      await expect(put(sampleBytes(9000, 99))).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
      expect(await engine.compact()).toBeGreaterThan(70_000);
      await put(sampleBytes(9000, 99));
      expect(await read(ids[9]!)).toEqual(sampleBytes(9000, 10));
      expect(engine.usage().blockCount).toBe(3);
    });

    it('keeps the reserve for deletes', async () => {
      disk.setCapacity(disk.usedBytes + 200_000);
      await reopen({ reserveBytes: 60_000 });
      const ids: BlockId[] = [];
      await expect(
        (async (): Promise<void> => {
          for (let seed = 1; ; seed++) ids.push(await put(sampleBytes(9000, seed)));
        })(),
      ).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
      expect(ids.length).toBeGreaterThan(8);
      expect(engine.usage().freeBytes).toBeLessThan(10_000);
      for (const id of ids) expect(await engine.delete(POOL, id)).toBe(true);
    });

    it('ending in the middle of a write leaves a store that works', async () => {
      const before = await put(sampleBytes(9000, 1));
      const takeBack = disk.failNext({ op: 'write', path: PACK_1, code: 'ENOSPC' });
      await expect(put(sampleBytes(9000, 2))).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
      takeBack();
      const after = await put(sampleBytes(9000, 3));
      disk.crash();
      await open();
      expect(await read(before)).toEqual(sampleBytes(9000, 1));
      expect(await read(after)).toEqual(sampleBytes(9000, 3));
      expect(engine.usage().blockCount).toBe(2);
    });

    it('of packs that are wholly dead comes back without a copy', async () => {
      await reopen({ packMaxBytes: 20_000 });
      const ids: BlockId[] = [];
      for (let seed = 1; seed <= 6; seed++) ids.push(await put(sampleBytes(9000, seed)));
      await Promise.all(ids.map((id) => engine.delete(POOL, id)));
      await engine.compact();
      await engine.compact();
      expect(engine.usage()).toMatchObject({ blockCount: 0, liveBytes: 0 });
      expect(engine.usage().fileBytes).toBeLessThan(3000);
      await engine.close();
      await disk.remove('/store/index');
      await open();
      expect(engine.usage().blockCount).toBe(0);
    });

    it('that comes back leaves numbers of packs that are not used again', async () => {
      await reopen({ packMaxBytes: 20_000 });
      const ids: BlockId[] = [];
      for (let seed = 1; seed <= 6; seed++) ids.push(await put(sampleBytes(9000, seed)));
      const packs = async (): Promise<string[]> => (await disk.readdir('/store/packs')).sort();
      const newest = (await packs()).at(-1)!;
      await Promise.all(ids.map((id) => engine.delete(POOL, id)));
      // At last nothing is left that a pack would be kept for.
      while ((await packs()).length > 0 && (await engine.compact()) > 0);
      expect(await packs()).toEqual([]);
      await reopen({});
      await put(sampleBytes(9000, 7));
      expect((await packs())[0]! > newest).toBe(true);
    });
  });

  describe('a failing sync', () => {
    it('fails the puts that waited for it, and the store goes on in another pack', async () => {
      const before = await put(sampleBytes(9000, 1));
      disk.failNext({ op: 'datasync', path: PACK_1 });
      await expect(put(sampleBytes(9000, 2))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
      const after = await put(sampleBytes(9000, 3));
      expect(await disk.exists(PACK_2)).toBe(true);
      // What the failed sync covered does not count, though the system still shows it.
      disk.killProcess();
      await open();
      expect(await read(before)).toEqual(sampleBytes(9000, 1));
      expect(await read(after)).toEqual(sampleBytes(9000, 3));
      expect(engine.has(POOL, hashBlock(sampleBytes(9000, 2)).id)).toBeUndefined();
    });

    it('is not told of as damage at the next opening', async () => {
      const id = await put(sampleBytes(9000, 1));
      await reopen();
      disk.failNext({ op: 'datasync', path: PACK_1 });
      await expect(put(sampleBytes(9000, 2))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
      const told: string[] = [];
      await reopen({ log: { ...SILENT_LOGGER, error: (_, message) => void told.push(message) } });
      expect(told).toEqual([]);
      expect(await read(id)).toEqual(sampleBytes(9000, 1));
    });

    it('of a delete does not take a block that is put afterwards, index lost or not', async () => {
      const id = await put(sampleBytes(9000, 1));
      const failedPut = hashBlock(sampleBytes(9000, 2)).id;
      disk.failNext({ op: 'datasync', path: PACK_1 });
      await expect(engine.delete(POOL, id)).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
      expect(engine.has(POOL, id)).toBe(9000);
      expect(await engine.renew(POOL, id, 5)).toBe(false);
      await put(sampleBytes(9000, 1));
      disk.failNext({ op: 'datasync', path: PACK_2 });
      await expect(put(sampleBytes(9000, 2))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
      expect(await engine.delete(POOL, failedPut)).toBe(false);
      disk.killProcess();
      await disk.remove('/store/index');
      await open();
      expect(engine.has(POOL, id)).toBe(9000);
      expect(engine.has(POOL, failedPut)).toBeUndefined();
    });

    it('twice in a row stops writing; reading goes on', async () => {
      const before = await put(sampleBytes(9000, 1));
      disk.failNext({ op: 'datasync', path: '/packs/', times: 2 });
      await expect(put(sampleBytes(9000, 2))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
      await expect(put(sampleBytes(9000, 3))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
      await expect(put(sampleBytes(9000, 4))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
      expect(await read(before)).toEqual(sampleBytes(9000, 1));
    });
  });

  it('reads on while packs are rewritten under it', async () => {
    await reopen({ packMaxBytes: 100_000 });
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 30; seed++) ids.push(await put(sampleBytes(9000, seed)));
    for (let index = 0; index < 30; index += 3) {
      await engine.delete(POOL, ids[index]!);
      await engine.delete(POOL, ids[index + 1]!);
    }
    let compacted = false;
    const compaction = engine.compact().finally(() => (compacted = true));
    while (!compacted) {
      await Promise.all(
        ids.filter((_, index) => index % 3 === 2).map(async (id) => expect(await read(id)).toBeDefined()),
      );
    }
    expect(await compaction).toBeGreaterThan(100_000);
    expect(engine.usage().blockCount).toBe(10);
  });

  it('loses nothing when a compaction that was told to end is told to go on again', async () => {
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 12; seed++) ids.push(await put(sampleBytes(9000, seed)));
    for (const id of ids.splice(0, 3)) await engine.delete(POOL, id);
    for (let noAt = 0; noAt < 16; noAt++) {
      let asked = 0;
      await engine.compact({ deadShare: 0.01, mayGoOn: () => asked++ !== noAt });
      for (const [index, id] of ids.entries()) expect(await read(id)).toEqual(sampleBytes(9000, index + 4));
    }
  });

  it('ends the pack that is written to although its writers never pause', async () => {
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 10; seed++) ids.push(await put(sampleBytes(9000, seed)));
    for (const id of ids.slice(1)) await engine.delete(POOL, id);
    disk.setDelay((op) => (op === 'datasync' ? new Promise((resolve) => setImmediate(resolve)) : undefined));
    let isOver = false;
    let count = 0;
    const write = async (): Promise<void> => {
      while (!isOver && count < 400) await put(sampleBytes(10, 100 + count++));
    };
    // The second begins while the first one waits for its sync: one of them always does.
    const first = write();
    await new Promise((resolve) => setImmediate(resolve));
    const writers = Promise.all([first, write()]);
    const freed = await engine.compact();
    isOver = true;
    const countThen = count;
    await writers;
    expect(freed).toBeGreaterThan(50_000);
    expect(countThen).toBeLessThan(100);
    expect(await read(ids[0]!)).toEqual(sampleBytes(9000, 1));
  });

  it('compacts on after a pack has gone whose going could not be made durable', async () => {
    await reopen({ packMaxBytes: 40_000 });
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 12; seed++) ids.push(await put(sampleBytes(9000, seed)));
    for (const id of [...ids.slice(0, 4), ...ids.slice(4, 7)]) await engine.delete(POOL, id);
    disk.failNext({ op: 'syncDir', path: 'packs' });
    await expect(engine.compact()).rejects.toMatchObject({ code: 'EIO' });
    expect(await engine.compact()).toBeGreaterThan(20_000);
    expect(engine.usage()).toMatchObject({ blockCount: 5, damaged: [] });
    for (const [index, id] of ids.slice(7).entries()) expect(await read(id)).toEqual(sampleBytes(9000, index + 8));
  });

  it('gives back what was deleted while another compaction was under way', async () => {
    await reopen({ packMaxBytes: 40_000 });
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 12; seed++) ids.push(await put(sampleBytes(9000, seed)));
    for (const id of ids.slice(0, 3)) await engine.delete(POOL, id);
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    disk.setDelay((op) => (op === 'unlink' ? gate : undefined));
    const first = engine.compact();
    await expect.poll(() => disk.exists(PACK_1)).toBe(false);
    for (const id of ids.slice(4, 8)) await engine.delete(POOL, id);
    const second = engine.compact();
    go();
    await first;
    expect(await second).toBeGreaterThan(30_000);
    expect(await disk.exists(PACK_2)).toBe(false);
    for (const id of [...ids.slice(3, 4), ...ids.slice(8)]) expect(await read(id)).toBeDefined();
  });

  it('keeps the blocks around a bad place of a pack that it rewrites', async () => {
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 20; seed++) ids.push(await put(sampleBytes(900, seed)));
    for (const id of ids.splice(0, 12)) await engine.delete(POOL, id);
    const lost = ids[3]!;
    disk.corrupt(PACK_1, PACK_HEADER_BYTES + 15 * recordBytes(900) + recordHeadBytes(900) + 10);
    // The scan can read nothing, at once or in its pieces of 4 KiB.
    disk.failNext({ op: 'read', path: PACK_1, times: 7 });
    expect(await engine.compact()).toBeGreaterThan(10_000);
    expect(await disk.exists(PACK_1)).toBe(false);
    expect(engine.usage()).toMatchObject({ blockCount: 7, damaged: [{ pool: POOL, id: lost }] });
    await reopen();
    for (const [index, id] of ids.entries())
      if (id !== lost) expect(await read(id)).toEqual(sampleBytes(900, index + 13));
  });

  it('takes no pack that could not be read for one that is damaged', async () => {
    const ids: BlockId[] = [];
    for (let seed = 1; seed <= 20; seed++) ids.push(await put(sampleBytes(9000, seed)));
    for (const id of ids.splice(0, 12)) await engine.delete(POOL, id);
    disk.failNext({ op: 'read', path: PACK_1, code: 'ENOMEM', after: 1 });
    await expect(engine.compact()).rejects.toMatchObject({ code: 'ENOMEM' });
    expect(engine.usage()).toMatchObject({ blockCount: 8, damaged: [] });
    await engine.compact();
    for (const [index, id] of ids.entries()) expect(await read(id)).toEqual(sampleBytes(9000, index + 13));
  });

  it('keeps a tombstone as long as another pack holds the record that it deletes', async () => {
    await reopen({ packMaxBytes: 40_000 });
    const gone = await put(sampleBytes(9000, 1));
    for (const seed of [2, 3, 4]) await put(sampleBytes(9000, seed));
    const filler = [await put(sampleBytes(9000, 5)), await put(sampleBytes(9000, 6))];
    expect(await disk.exists(PACK_2)).toBe(true);
    for (const id of [gone, ...filler]) await engine.delete(POOL, id);
    // Pack 1 is mostly live and stays; pack 2, with the tombstone, goes.
    await engine.compact();
    expect(await disk.exists(PACK_1)).toBe(true);
    expect(await disk.exists(PACK_2)).toBe(false);
    await engine.close();
    await disk.remove('/store/index');
    await open({ packMaxBytes: 40_000 });
    expect(engine.has(POOL, gone)).toBeUndefined();
    expect(engine.usage().blockCount).toBe(3);
  });

  it('leaves no row of a tombstone that a crash makes it read again, when nothing is left for it to delete', async () => {
    await reopen({ packMaxBytes: 40_000 });
    const gone: BlockId[] = [];
    for (const seed of [1, 2, 3, 4]) gone.push(await put(sampleBytes(9000, seed)));
    const kept = await put(sampleBytes(9000, 5));
    for (const id of gone) await engine.delete(POOL, id);
    await engine.compact();
    expect(await disk.exists(PACK_1)).toBe(false);
    disk.crash();
    await open();
    expect(await read(kept)).toEqual(sampleBytes(9000, 5));
    expect(engine.usage().blockCount).toBe(1);
    await engine.close();
    const kv = await disk.openKv('/store/index');
    const rows: Uint8Array[] = [];
    for await (const [key] of kv.scan({ gte: Uint8Array.of(0x62), lt: Uint8Array.of(0x63) })) rows.push(key);
    await kv.close();
    expect(rows.map((row) => Buffer.from(row).subarray(5).toString('hex'))).toEqual([
      Buffer.from(kept).toString('hex'),
    ]);
  });

  it('makes the name of a pack durable that a process died making', async () => {
    disk.setDelay((op) => (op === 'syncDir' ? new Promise(() => undefined) : undefined));
    void put(sampleBytes(10)).catch(() => undefined);
    for (let turn = 0; turn < 1000 && !(await disk.exists(PACK_1)); turn++) await Promise.resolve();
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    disk.setDelay(undefined);
    disk.killProcess();
    await open();
    const id = await put(sampleBytes(20));
    disk.crash();
    await open();
    expect(await read(id)).toEqual(sampleBytes(20));
  });

  it('opens without a scan after it was closed in order', async () => {
    for (let seed = 1; seed <= 20; seed++) await put(sampleBytes(9000, seed));
    await engine.close();
    let readBytes = 0;
    disk.setDelay((op, bytes) => {
      if (op === 'read') readBytes += bytes;
      return undefined;
    });
    await open();
    expect(engine.usage()).toMatchObject({ blockCount: 20, liveBytes: 180_000 });
    expect(readBytes).toBeLessThan(1000);
    // And appends to the same pack.
    await put(sampleBytes(9000, 21));
    expect(await disk.exists(PACK_2)).toBe(false);
  });

  it('refuses what is no block', async () => {
    const { id, pageHashes } = hashBlock(sampleBytes(10));
    await expect(engine.put(POOL, id, pageHashes, new Uint8Array(0), 0)).rejects.toMatchObject({
      code: 'ERR_TOO_LARGE',
    });
    await expect(engine.put(POOL, id, pageHashes, new Uint8Array(4 * MiB + 1), 0)).rejects.toMatchObject({
      code: 'ERR_TOO_LARGE',
    });
    await expect(engine.put(POOL, id, pageHashes.subarray(1), sampleBytes(10), 0)).rejects.toMatchObject({
      code: 'ERR_STATE',
    });
  });
});
