import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startRealCluster, type RealCluster } from '../../test/support/real-block-cluster.ts';
import { createMemoryEnv, createMemoryWorld, MemoryDisk } from '../env-memory.ts';
import type { DiskFile, Env, OpenMode } from '../env.ts';
import { BlockNotFoundError, CancelledError } from '../errors.ts';
import type { BlockId, PoolId } from '../ids.ts';
import { createBlockClient } from './block-client.ts';
import type { IdsRequest } from './block-messages.ts';
import { hashBlock } from './identity.ts';
import { DIRECT_LEAST_BYTES } from './local-blocks.ts';
import { PackEngine } from './pack-engine.ts';
import type { BlockEngine, BlockRef } from './types.ts';

const POOL = 1 as PoolId;
const KiB = 1024;

/** Three nodes whose packs lie on one disk, which the client sees as well. */
let disk: MemoryDisk;
let cluster: RealCluster;
let open: Env['disk']['open'];
let opened: string[];
let modes: OpenMode[];
let clientEnv: Env;
/** Answers reads of open files of the client, if it is set, when it likes. */
let slow: ((path: string, answer: () => Promise<number>) => Promise<number>) | undefined;
const reads = vi.fn();

beforeEach(async () => {
  disk = new MemoryDisk();
  opened = [];
  modes = [];
  slow = undefined;
  reads.mockClear();
  open = async (path, mode) => {
    const file = await disk.open(path, mode);
    return withRead(file, (buffer, position) => {
      const answer = () => file.read(buffer, position);
      return slow === undefined ? answer() : slow(path, answer);
    });
  };
  const world = createMemoryWorld();
  const clientDisk = new Proxy(disk, {
    get: (target, name) =>
      name === 'open'
        ? (path: string, mode: OpenMode) => {
            opened.push(path);
            modes.push(mode);
            return open(path, mode);
          }
        : (Reflect.get(target, name) as () => unknown).bind(target),
  });
  const envOf = (host: string): Env => {
    const env = world.envOf(host);
    return { ...createMemoryEnv({ ...env, disk: host === 'client' ? clientDisk : disk }), isOwnHost: () => true };
  };
  const engineOf = async (host: string): Promise<BlockEngine> => {
    const engine = await PackEngine.open({ disk, clock: envOf(host).clock, path: `/${host}`, storeId: host });
    const read = engine.read.bind(engine);
    engine.read = (...args) => {
      reads(host);
      return read(...args);
    };
    return engine;
  };
  clientEnv = envOf('client');
  cluster = await startRealCluster(
    (host) => (host === 'client' ? clientEnv : envOf(host)),
    (host) => `${host}:7000`,
    3,
    {},
    engineOf,
  );
});
afterEach(() => cluster.close());

function bytes(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * seed + (i >> 8) * 7) & 0xff);
}

async function read(id: BlockId, data: Uint8Array): Promise<void> {
  expect(Buffer.compare(await cluster.client.readBlock(POOL, id, data.length), data)).toBe(0);
}

/** Flips a byte of the block in a pack file. */
async function damage(path: string, data: Uint8Array): Promise<void> {
  const at = Buffer.from(await disk.readFile(path)).indexOf(Buffer.from(data.subarray(1000, 1100)));
  expect(at).toBeGreaterThan(0);
  const file = await disk.open(path, 'write');
  await file.write([Uint8Array.of((data[1000] ?? 0) ^ 1)], at);
  await file.close();
}

it('gives pages in buffers of their own, of which each can be given back', async () => {
  const data = bytes(200_000, 3);
  const { id } = await cluster.client.put(POOL, data);
  for (const [first, count] of [
    [0, 1],
    [1, 1],
    [3, 1],
    [1, 3],
    [0, 4],
  ] as const) {
    const pages = await cluster.client.readPages(POOL, id, data.length, first, count);
    expect(pages.map(({ length }) => length)).toEqual(
      Array.from({ length: count }, (_, at) => Math.min(64 * KiB, data.length - (first + at) * 64 * KiB)),
    );
    expect(new Set(pages.map(({ buffer }) => buffer)).size).toBe(count);
    expect(Buffer.compare(Buffer.concat(pages), data.subarray(first * 64 * KiB, (first + count) * 64 * KiB))).toBe(0);
    for (const page of pages) cluster.client.recycle(page.fill(0xdb));
  }
  expect(reads).not.toHaveBeenCalled();
});

it('keeps no more than the page of what came with its list from a node', async () => {
  const data = bytes(200_000, 5);
  const { id } = await cluster.client.put(POOL, data);
  open = () => Promise.reject(Object.assign(new Error('not yours'), { code: 'EACCES' }));
  const pages = await cluster.client.readPages(POOL, id, data.length, 1, 1);
  expect(reads).toHaveBeenCalled();
  expect(Buffer.compare(Buffer.concat(pages), data.subarray(64 * KiB, 128 * KiB))).toBe(0);
  expect(pages.map(({ buffer }) => buffer.byteLength)).toEqual([64 * KiB]);
});

it('asks for less ahead only while the disks of all nodes are here', async () => {
  expect(cluster.client.aheadCount()).toBe(4);
  const data = bytes(1_000);
  const { id } = await cluster.client.put(POOL, data);
  open = () => Promise.reject(Object.assign(new Error('not yours'), { code: 'EACCES' }));
  await read(id, data);
  expect(cluster.client.aheadCount()).toBe(undefined);
});

it('reads whole blocks and ranges past the nodes', async () => {
  for (const length of [1, 300, 64 * KiB, 64 * KiB + 1, 1_000_000]) {
    const data = bytes(length, length);
    const { id } = await cluster.client.put(POOL, data);
    await read(id, data);
    if (length > 70_000) {
      const target = new Uint8Array(5_000);
      for (const offset of [0, 65_000, length - 5_000]) {
        await cluster.client.read(POOL, id, length, offset, target);
        expect(Buffer.compare(target, data.subarray(offset, offset + 5_000))).toBe(0);
      }
      const range = await cluster.client.readRange(POOL, id, undefined, length - 10, 100);
      expect(Buffer.compare(range, data.subarray(-10))).toBe(0);
    }
  }
  expect(opened.length).toBeGreaterThan(0);
  expect(reads).not.toHaveBeenCalled();
});

it('reads large blocks past the page cache, wherever they begin in the pack', async () => {
  const sizes = [DIRECT_LEAST_BYTES, DIRECT_LEAST_BYTES + 1, 1_000_003, 4096 * 200, 4 * 1024 * KiB];
  const blocks = await Promise.all(
    sizes.map(async (size) => {
      const data = bytes(size, size);
      return { data, id: (await cluster.client.put(POOL, data)).id };
    }),
  );
  for (let round = 0; round < 3; round++) {
    for (const { data, id } of blocks) {
      const block = await cluster.client.readBlock(POOL, id, data.length);
      expect(Buffer.compare(block, data)).toBe(0);
      // Its memory is used for the next one.
      cluster.client.recycle(block.fill(0xdb));
    }
  }
  expect(new Set(modes)).toEqual(new Set(['direct']));
  expect(reads).not.toHaveBeenCalled();
});

it('gives programs ordinary memory, which a web API takes, read through the page cache', async () => {
  const { network, catalog } = cluster;
  const client = createBlockClient({ network, catalog: { current: () => catalog }, env: clientEnv });
  const data = bytes(1_000_000, 21);
  const { id } = await client.put(POOL, data);
  const block = await client.readBlock(POOL, id, data.length);
  expect(Buffer.compare(Buffer.from(await new Response(block).arrayBuffer()), data)).toBe(0);
  expect(new Set(modes)).toEqual(new Set(['read']));
  await client.close();
});

it('reads what is short, and parts of blocks, through the page cache', async () => {
  const data = bytes(DIRECT_LEAST_BYTES - 1, 7);
  await read((await cluster.client.put(POOL, data)).id, data);
  const large = bytes(DIRECT_LEAST_BYTES * 2, 9);
  const { id } = await cluster.client.put(POOL, large);
  const [page] = await cluster.client.readPages(POOL, id, large.length, 2, 1);
  expect(Buffer.compare(page ?? large, large.subarray(128 * KiB, 192 * KiB))).toBe(0);
  expect(new Set(modes)).toEqual(new Set(['read']));
});

it.each(['open', 'read'] as const)(
  'a file system that refuses a direct %s is read through the page cache',
  async (what) => {
    const refused = (): Promise<never> => Promise.reject(Object.assign(new Error('EINVAL'), { code: 'EINVAL' }));
    open = async (path, mode) => {
      if (mode !== 'direct') return await disk.open(path, mode);
      if (what === 'open') return await refused();
      return withRead(await disk.open(path, mode), refused);
    };
    const data = bytes(1_000_000, 3);
    const { id } = await cluster.client.put(POOL, data);
    for (let round = 0; round < 10; round++) await read(id, data);
    expect(reads).not.toHaveBeenCalled();
    // Each of two nodes was tried once.
    expect(modes.filter((mode) => mode === 'direct').length).toBeLessThanOrEqual(2);
    expect(modes.filter((mode) => mode === 'read').length).toBeGreaterThan(0);
  },
);

it('a damaged copy is read around, and its node told, which heals it', async () => {
  const data = bytes(200_000, 3);
  const { id } = await cluster.client.put(POOL, data);
  await read(id, data);
  await damage(opened[0] ?? '', data);
  await read(id, data);
  const damaged = () => cluster.nodes.flatMap((node) => [...node.service.damageLog()]);
  await vi.waitFor(() => expect(damaged()).toMatchObject([{ healed: true }]));
  await read(id, data);
});

it('a pack that is gone is no reason to give up on the node', async () => {
  const data = bytes(100_000, 5);
  const { id } = await cluster.client.put(POOL, data);
  open = () => Promise.reject(Object.assign(new Error('no such file'), { code: 'ENOENT' }));
  await read(id, data);
  expect(reads).toHaveBeenCalledTimes(1);
  open = (path, mode) => disk.open(path, mode);
  for (let round = 0; round < 4; round++) await read(id, data);
  expect(reads).toHaveBeenCalledTimes(1);
  const unknown = hashBlock(bytes(50, 9)).id;
  await expect(cluster.client.readBlock(POOL, unknown, 50)).rejects.toThrow(BlockNotFoundError);
});

it('what may not be opened, or is another store, is read through the nodes from then on', async () => {
  const data = bytes(100_000, 7);
  const { id } = await cluster.client.put(POOL, data);
  open = () => Promise.reject(Object.assign(new Error('permission denied'), { code: 'EACCES' }));
  for (let round = 0; round < 6; round++) await read(id, data);
  expect(reads).toHaveBeenCalledTimes(6);
  expect(opened.length).toBeLessThanOrEqual(2);
});

it('another store under the same path is not believed', async () => {
  const data = bytes(100_000, 8);
  const { id } = await cluster.client.put(POOL, data);
  open = (_path, mode) => disk.open('/n1/STORE', mode);
  for (let round = 0; round < 6; round++) await read(id, data);
  expect(reads).toHaveBeenCalledTimes(6);
  expect(opened.length).toBeLessThanOrEqual(2);
});

/** Data of packs whose path is `chosen` never comes. */
function hang(chosen: (path: string) => boolean): void {
  open = async (path, mode) => {
    const file = await disk.open(path, mode);
    return withRead(file, (buffer, position) =>
      position === 0 || !chosen(path) ? file.read(buffer, position) : new Promise(() => undefined),
    );
  };
}

function withRead(file: DiskFile, read: DiskFile['read']): DiskFile {
  return {
    read,
    write: (buffers, position) => file.write(buffers, position),
    datasync: () => file.datasync(),
    truncate: (sizeBytes) => file.truncate(sizeBytes),
    sizeBytes: () => file.sizeBytes(),
    close: () => file.close(),
  };
}

it('a disk that hangs is overtaken by another copy', async () => {
  const data = bytes(100_000, 11);
  const { id } = await cluster.client.put(POOL, data);
  let first: string | undefined;
  hang((path) => path === (first ??= path));
  await read(id, data);
  expect(first).toBeDefined();
});

describe('a page of a block whose place and page list are known', () => {
  let data: Uint8Array;
  let id: BlockId;
  const page = async (number: number): Promise<void> => {
    const [found] = await cluster.client.readPages(POOL, id, data.length, number, 1);
    const expected = data.subarray(number * 64 * KiB, (number + 1) * 64 * KiB);
    expect(Buffer.compare(found ?? data, expected)).toBe(0);
    expect(found?.buffer.byteLength).toBe(expected.length);
    cluster.client.recycle(found?.fill(0xdb) ?? data);
  };
  const asked = vi.fn();
  beforeEach(async () => {
    data = bytes(300_000, 17);
    ({ id } = await cluster.client.put(POOL, data));
    await page(0);
    asked.mockClear();
    const call = cluster.network.call.bind(cluster.network);
    vi.spyOn(cluster.network, 'call').mockImplementation((...args: Parameters<typeof call>) => {
      asked(args[1]);
      return call(...args);
    });
  });

  it('is read without a question to anybody', async () => {
    await Promise.all([1, 2, 3, 4, 1, 2, 3, 4].map(page));
    for (let round = 0; round < 40; round++) await Promise.all(Array.from({ length: 16 }, (_, at) => page(at % 5)));
    expect(asked).not.toHaveBeenCalled();
    expect(reads).not.toHaveBeenCalled();
  });

  it('is found by the usual way when the disk fails', async () => {
    const first = opened[0] ?? '';
    let failed = 0;
    slow = (path, answer) => {
      if (path !== first) return answer();
      failed++;
      return Promise.reject(Object.assign(new Error('input/output error'), { code: 'EIO' }));
    };
    for (const number of [1, 2, 3, 4]) await page(number);
    // It is left alone from then on.
    expect(failed).toBe(1);
  });

  it('is found by the usual way, and its node told, when it is damaged', async () => {
    await damage(opened[0] ?? '', data);
    await page(0);
    const damaged = () => cluster.nodes.flatMap((node) => [...node.service.damageLog()]);
    await vi.waitFor(() => expect(damaged()).toMatchObject([{ healed: true }]));
  });

  it('is found by the usual way when the disk hangs, also when it answers later', async () => {
    const late: (() => void)[] = [];
    const first = opened[0] ?? '';
    slow = (path, answer) => (path === first ? new Promise((resolve) => late.push(() => resolve(answer()))) : answer());
    await page(2);
    expect(late.length).toBeGreaterThan(0);
    for (const answer of late) answer();
    slow = undefined;
    await page(3);
  });

  it('is not waited for by who closes', async () => {
    const first = opened[0] ?? '';
    slow = (path, answer) => (path === first ? new Promise(() => undefined) : answer());
    const reading = page(2);
    await cluster.close();
    await expect(reading).rejects.toThrow();
  });
});

describe('blocks that may be read next', () => {
  let blocks: { readonly pool: PoolId; readonly id: BlockId; readonly blockBytes: number; readonly data: Uint8Array }[];
  /** Each question, and how many blocks it names. */
  const asked = vi.fn();
  let answers: Promise<unknown>[];
  const page = async (index: number, beside: Iterable<BlockRef> = [], number = index % 4): Promise<void> => {
    const { id, data } = blocks[index]!;
    const [found] = await cluster.client.readPages(POOL, id, data.length, number, 1, { beside });
    expect(Buffer.compare(found ?? data, data.subarray(number * 64 * KiB, (number + 1) * 64 * KiB))).toBe(0);
  };
  const block = async (index: number, beside: Iterable<BlockRef> = []): Promise<void> => {
    const { id, data } = blocks[index]!;
    const found = await cluster.client.readBlock(POOL, id, data.length, { beside });
    expect(Buffer.compare(found, data)).toBe(0);
    cluster.client.recycle(found.fill(0xdb));
  };
  beforeEach(async () => {
    blocks = [];
    for (let seed = 1; seed <= 12; seed++) {
      const data = bytes(200_000, seed);
      blocks.push({ pool: POOL, id: (await cluster.client.put(POOL, data)).id, blockBytes: data.length, data });
    }
    asked.mockClear();
    answers = [];
    const call = cluster.network.call.bind(cluster.network);
    vi.spyOn(cluster.network, 'call').mockImplementation((...args: Parameters<typeof call>) => {
      asked(args[1], (args[2] as Partial<IdsRequest>).ids?.length ?? 1);
      const answer = call(...args);
      answers.push(answer.catch(() => undefined));
      return answer;
    });
  });
  const answered = async (): Promise<void> => {
    await Promise.all(answers);
    await new Promise(setImmediate);
  };
  const questions = (others: number): unknown[] => [
    ...Array.from({ length: 3 }, () => ['block.places', others]),
    ['block.where', 1],
  ];

  it.each([
    ['pages of them', page],
    ['short ones as a whole', block],
  ] as const)('are asked for beside one that is read, and %s read without a question', async (_what, read) => {
    await read(0, blocks);
    await answered();
    for (let round = 0; round < 3; round++) for (let index = 0; index < 12; index++) await read(index, blocks);
    expect(asked.mock.calls).toEqual(questions(11));
    expect(reads).not.toHaveBeenCalled();
  });

  it('are of the same pool, and no more than one question may name', async () => {
    await page(0, [blocks[0]!, { ...blocks[1]!, pool: 2 as PoolId }, blocks[2]!]);
    await answered();
    expect(asked.mock.calls).toEqual(questions(1));
    asked.mockClear();
    let looked = 0;
    const many = function* (): Generator<BlockRef> {
      for (; looked < 300; looked++) yield { pool: POOL, id: hashBlock(bytes(100, looked)).id, blockBytes: 100 };
    };
    await page(3, many());
    expect(asked.mock.calls).toEqual(questions(64));
    expect(looked).toBeLessThanOrEqual(65);
  });

  it('are asked for once by who reads several at once', async () => {
    await Promise.all(blocks.map((_, index) => page(index, blocks)));
    expect(asked.mock.calls.filter(([method]) => method === 'block.places')).toHaveLength(3);
  });

  it.each([
    // The list ends where the data begins.
    ['page lists', -10, page],
    ['bytes', 1_000, block],
  ] as const)(
    'are read by the usual way, and their node told, when their %s are damaged there',
    async (_what, from, read) => {
      await read(0, blocks);
      await answered();
      // Of each block one of its two copies, as either may be read first.
      for (const [index, { data }] of blocks.slice(1).entries()) {
        const hosts = index % 2 === 0 ? ['n1', 'n2', 'n3'] : ['n3', 'n2', 'n1'];
        for (const host of hosts) {
          const path = (opened[0] ?? '').replace(/^.n\d/, `/${host}`);
          const pack = Buffer.from(await disk.readFile(path));
          const at = pack.indexOf(Buffer.from(data.subarray(0, 100)));
          if (at < 0) continue;
          const file = await disk.open(path, 'write');
          await file.write([Uint8Array.of((pack[at + from] ?? 0) ^ 1)], at + from);
          await file.close();
          break;
        }
      }
      for (let round = 0; round < 2; round++) for (let index = 0; index < 12; index++) await read(index);
      const healed = () => cluster.nodes.flatMap((node) => node.service.damageLog().map((found) => found.healed));
      await vi.waitFor(() => expect(new Set(healed())).toEqual(new Set([true])));
    },
  );

  it('are not waited for by who closes', async () => {
    await page(0, blocks);
    await cluster.close();
    await answered();
  });
});

it('who waits for a disk that hangs can give up', async () => {
  const data = bytes(100_000, 12);
  const { id } = await cluster.client.put(POOL, data);
  hang(() => true);
  const given = new AbortController();
  const reading = cluster.client.readBlock(POOL, id, data.length, { signal: given.signal });
  await vi.waitFor(() => expect(opened.length).toBeGreaterThan(0));
  given.abort();
  await expect(reading).rejects.toThrow(CancelledError);
});
