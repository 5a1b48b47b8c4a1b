import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeCluster, FakeNetwork, pattern, POOL } from '../../test/support/fake-block-cluster.ts';
import { MemoryDisk } from '../env-memory.ts';
import { UsageError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { MiB } from '../limits.ts';
import { createBlockClient, type ClusterBlockClient } from './block-client.ts';
import { DISK_CACHE_LEAST_BYTES, DiskCache, type DiskCacheOptions } from './disk-cache.ts';
import { hashBlock } from './identity.ts';

const FOLDER = '/cache/tatami-cache-1';

let cluster: FakeCluster;
let disk: MemoryDisk;
const caches: DiskCache[] = [];

beforeEach(async () => {
  cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
  disk = new MemoryDisk();
});
afterEach(async () => {
  for (const cache of caches.splice(0)) await cache.close();
});

/** As after a start of the mount. */
async function open(more: Partial<DiskCacheOptions> = {}): Promise<{ cache: DiskCache; client: ClusterBlockClient }> {
  for (const old of caches.splice(0)) await old.close();
  const { clock } = cluster;
  const cache = await DiskCache.open({ disk, clock, directory: '/cache', maxBytes: DISK_CACHE_LEAST_BYTES, ...more });
  caches.push(cache);
  return { cache, client: readerWith(cache) };
}

function readerWith(cache: DiskCache): ClusterBlockClient {
  const network = new FakeNetwork(cluster.hub, 'reader');
  cluster.hub.networks.set('reader' as NodeId, network);
  const catalog = { current: () => cluster.catalog };
  return createBlockClient({ network, catalog, env: { clock: cluster.clock }, kept: cache });
}

/** A block on the nodes. */
async function stored(seed: number, length = 300_000): Promise<{ id: BlockId; data: Uint8Array }> {
  const data = pattern(length, seed + 1);
  const { id } = await cluster.client.put(POOL, data);
  return { id, data };
}

async function read(client: ClusterBlockClient, { id, data }: { id: BlockId; data: Uint8Array }): Promise<void> {
  const got = await cluster.settle(client.readBlock(POOL, id, data.length));
  expect(Buffer.compare(got, data)).toBe(0);
}

/** Calls for blocks that nodes got meanwhile. */
async function asked(work: () => Promise<unknown>): Promise<number> {
  const before = cluster.hub.calls.length;
  await work();
  return cluster.hub.calls.slice(before).filter(({ method }) => method === 'block.get').length;
}

async function until(holds: () => boolean): Promise<void> {
  for (let round = 0; !holds(); round++) {
    if (round > 10_000) throw new Error('it never came');
    await turn();
  }
}

const written = (cache: DiskCache, count: number) =>
  until(() => cache.usage.blockCount >= count && cache.usage.writingCount === 0);

describe('a cache on disk', () => {
  it('has what was read once, whole or in part, with no node up, and after a restart', async () => {
    const block = await stored(1);
    const first = await open();
    expect(await asked(() => read(first.client, block))).toBe(1);
    await written(first.cache, 1);
    cluster.hub.kill('n1' as NodeId);
    cluster.hub.kill('n2' as NodeId);
    expect(await asked(() => read(first.client, block))).toBe(0);
    const { client, cache } = await open();
    expect(await asked(() => read(client, block))).toBe(0);
    const part = new Uint8Array(1_000);
    await cluster.settle(client.read(POOL, block.id, block.data.length, 150_000, part));
    expect(Buffer.compare(part, block.data.subarray(150_000, 151_000))).toBe(0);
    const end = await cluster.settle(client.readRange(POOL, block.id, undefined, block.data.length - 5, 100));
    expect(Buffer.compare(end, block.data.subarray(-5))).toBe(0);
    expect(cache.usage).toMatchObject({ blockCount: 1, hitCount: 3, missCount: 0 });
  });

  it('stays within its bound, drops what was used longest ago, and of that what most others have', async () => {
    const blocks = [];
    for (let seed = 0; seed < 10; seed++) blocks.push(await stored(seed, 4 * MiB));
    const many = blocks[2] as { id: BlockId };
    const copiesElsewhere = (_pool: PoolId, id: BlockId) => (blockIdToHex(id) === blockIdToHex(many.id) ? 5 : 0);
    const { client, cache } = await open({ copiesElsewhere });
    for (const block of blocks.slice(0, 7)) {
      await read(client, block);
      await written(cache, 1);
    }
    // The first is used again: the second is now the oldest.
    await read(client, blocks[0]!);
    for (const block of blocks.slice(7)) {
      await read(client, block);
      await until(() => cache.usage.writingCount === 0);
      expect(cache.usage.usedBytes).toBeLessThanOrEqual(DISK_CACHE_LEAST_BYTES);
      expect(disk.usedBytes).toBeLessThan(DISK_CACHE_LEAST_BYTES + MiB);
    }
    const gone = [];
    for (const [index, { id }] of blocks.entries()) if (cache.find(id) === undefined) gone.push(index);
    expect(gone).toEqual([1, 2, 3]);
    // A smaller one, the next time, gives back the rest.
    const { cache: smaller } = await open({ maxBytes: DISK_CACHE_LEAST_BYTES });
    expect(smaller.usage.blockCount).toBe(7);
  });

  it('never gives a wrong byte: what is damaged or torn is thrown away and read from the nodes', async () => {
    const block = await stored(3);
    const { cache } = await open();
    await read(readerWith(cache), block);
    await written(cache, 1);
    const name = blockIdToHex(block.id);
    const file = `${FOLDER}/${name.slice(0, 2)}/${name}-${block.data.length}`;
    for (const damage of [
      () => Promise.resolve(disk.corrupt(file, 200_000)),
      () => Promise.resolve(disk.corrupt(file, 1)),
      async () => {
        const open = await disk.open(file, 'write');
        await open.truncate(1_000);
        await open.close();
      },
      () => disk.unlink(file),
    ]) {
      await damage();
      // One that does not know the page list.
      const client = readerWith(cache);
      const part = new Uint8Array(70_000);
      const wholly = await asked(async () => {
        await cluster.settle(client.read(POOL, block.id, block.data.length, 195_000, part));
        await read(client, block);
      });
      expect(wholly).toBeGreaterThan(0);
      expect(Buffer.compare(part, block.data.subarray(195_000, 265_000))).toBe(0);
      await written(cache, 1);
      expect(await asked(() => read(client, block))).toBe(0);
    }
  });

  it('removes what a crash left half-written, and nothing that is not its own', async () => {
    const { id } = hashBlock(pattern(100));
    const name = blockIdToHex(id);
    const folder = `${FOLDER}/${name.slice(0, 2)}`;
    await disk.mkdir(folder);
    await disk.mkdir('/cache/photos');
    for (const path of [
      `${folder}/${name}-100.tmp`,
      `${folder}/notes.txt`,
      `/cache/${name}-100.tmp`,
      '/cache/photos/a',
    ]) {
      await (await disk.open(path, 'create')).close();
    }
    const { cache } = await open();
    expect(cache.usage.blockCount).toBe(0);
    expect(await disk.readdir(folder)).toEqual(['notes.txt']);
    expect(await disk.readdir('/cache')).toEqual([`${name}-100.tmp`, 'photos', 'tatami-cache-1']);
  });

  it('lets reads go on when its disk is full, fails or hangs, and is tried again after a while', async () => {
    const blocks = [];
    for (let seed = 0; seed < 6; seed++) blocks.push(await stored(seed, MiB));
    const { client, cache } = await open();
    for (const block of blocks.slice(0, 3)) await read(client, block);
    await written(cache, 3);
    disk.setCapacity(disk.usedBytes + 1_000);
    await read(client, blocks[3]!);
    // It gave some of the room back.
    await until(() => cache.usage.writingCount === 0 && cache.usage.blockCount === 2);
    disk.setCapacity(Infinity);
    cluster.clock.nowMs += 61_000;
    await read(client, blocks[3]!);
    await written(cache, 3);
    disk.failNext({ op: 'read' });
    await read(client, blocks[3]!);
    expect(cache.find(blocks[3]!.id)).toBeUndefined();
    cluster.clock.nowMs += 61_000;
    // What could not be read is not tried again.
    expect(cache.find(blocks[3]!.id)).toBeUndefined();
    await read(client, blocks[3]!);
    await written(cache, 3);
    let answer: () => void = () => undefined;
    const hung = new Promise<void>((resolve) => (answer = resolve));
    disk.setDelay((op) => (op === 'read' ? hung : undefined));
    const before = cluster.clock.nowMs;
    await read(client, blocks[3]!);
    expect(cluster.clock.nowMs - before).toBeLessThan(3_000);
    answer();
    disk.setDelay(undefined);
  });

  it('gives other readers what it has, and only what is right', async () => {
    const block = await stored(4);
    const { client, cache } = await open();
    expect(cache.share(POOL, block.id)).toBeUndefined();
    await read(client, block);
    await written(cache, 1);
    const shared = cache.share(POOL, block.id);
    expect(shared?.data()).toBeUndefined();
    await shared?.loading;
    expect(Buffer.compare(shared?.data() ?? new Uint8Array(), block.data)).toBe(0);
    shared?.release();
    expect(shared?.data()).toBeUndefined();
    const name = blockIdToHex(block.id);
    disk.corrupt(`${FOLDER}/${name.slice(0, 2)}/${name}-${block.data.length}`, 100_000);
    const wrong = cache.share(POOL, block.id);
    await wrong?.loading;
    expect(wrong?.data()).toBeUndefined();
    wrong?.release();
    expect(cache.usage.blockCount).toBe(0);
  });

  it('is one mount at a time', async () => {
    await open();
    const again = DiskCache.open({
      disk,
      clock: cluster.clock,
      directory: '/cache',
      maxBytes: DISK_CACHE_LEAST_BYTES,
    });
    await expect(again).rejects.toThrow(UsageError);
    await expect(again).rejects.toThrow(/another mount.*\/cache/);
    await expect(DiskCache.open({ disk, clock: cluster.clock, directory: '/other', maxBytes: MiB })).rejects.toThrow(
      /at least/,
    );
    disk.failNext({ op: 'mkdir', code: 'EACCES' });
    await expect(
      DiskCache.open({ disk, clock: cluster.clock, directory: '/x', maxBytes: DISK_CACHE_LEAST_BYTES }),
    ).rejects.toThrow(/\/x cannot be used for a cache/);
  });
});
