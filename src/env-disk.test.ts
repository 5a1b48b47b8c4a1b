/**
 * What a Disk promises, asked of both: the real one and the one in memory.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIRECT_BYTES, type Disk, type Kv } from './env.ts';
import { MemoryDisk } from './env-memory.ts';
import { createNodeEnv } from './env-node.ts';
import { BufferPool } from './net/buffer-pool.ts';

const ascii = (text: string): Uint8Array => Buffer.from(text, 'latin1');
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

const worlds: { name: string; make: () => Promise<{ disk: Disk; root: string; end: () => Promise<void> }> }[] = [
  { name: 'memory', make: async () => ({ disk: new MemoryDisk(), root: '/root', end: async () => {} }) },
  {
    name: 'node',
    make: async () => {
      const root = await mkdtemp(join(tmpdir(), 'tatami-disk-'));
      return { disk: createNodeEnv().disk, root, end: () => rm(root, { recursive: true }) };
    },
  },
];

it('the memory disk refuses direct reads that are not of whole sectors', async () => {
  const disk = new MemoryDisk();
  await disk.writeFileAtomic('/file', new Uint8Array(10_000));
  const file = await disk.open('/file', 'direct');
  const memory = new Uint8Array(2 * DIRECT_BYTES);
  for (const [from, to, position] of [
    [3, 3 + DIRECT_BYTES, 0],
    [0, 100, 0],
    [0, DIRECT_BYTES, 512],
  ] as const) {
    await expect(file.read(memory.subarray(from, to), position)).rejects.toMatchObject({ code: 'EINVAL' });
  }
});

describe.each(worlds)('the $name disk', ({ make }) => {
  let disk: Disk;
  let root: string;
  let end: () => Promise<void>;
  let count = 0;
  beforeAll(async () => {
    ({ disk, root, end } = await make());
  });
  afterAll(() => end());
  const folder = async (): Promise<string> => {
    const path = `${root}/${++count}/a/b`;
    await disk.mkdir(path);
    return path;
  };

  it('reads past the page cache, in whole sectors and up to the end', async () => {
    const path = `${await folder()}/file`;
    const written = await disk.open(path, 'exclusive');
    const content = Uint8Array.from({ length: 3 * DIRECT_BYTES + 700 }, (_, at) => (at * 7 + (at >> 9)) & 0xff);
    await written.write([content], 0);
    await written.close();
    const file = await disk.open(path, 'direct').catch((error: { code?: string }) => error.code);
    // Nobody promises that a file system can do it.
    if (file === undefined || typeof file === 'string') return expect(file).toBe('EINVAL');
    const memory = new BufferPool().takeAligned(8 * DIRECT_BYTES);
    for (const [position, length] of [
      [0, 1],
      [1, 2],
      [1, 3],
      [3, 2],
      [0, 8],
      [4, 1],
    ] as const) {
      const start = position * DIRECT_BYTES;
      const buffer = memory.fill(0).subarray(0, length * DIRECT_BYTES);
      const expected = content.subarray(start, start + buffer.length);
      expect(await file.read(buffer, start)).toBe(expected.length);
      expect(Buffer.compare(buffer.subarray(0, expected.length), expected)).toBe(0);
    }
    await file.close();
  });

  it('reads and writes at positions, many buffers at once', async () => {
    const path = `${await folder()}/file`;
    const file = await disk.open(path, 'exclusive');
    await file.write([ascii('hello'), new Uint8Array(0), ascii(' world')], 5000);
    await file.write([], 0);
    expect(await file.sizeBytes()).toBe(5011);
    const buffer = new Uint8Array(20).fill(7);
    expect(await file.read(buffer, 4998)).toBe(13);
    expect(text(buffer.subarray(0, 13))).toBe('\0\0hello world');
    expect(await file.read(buffer, 5011)).toBe(0);
    expect(await file.read(buffer, 9999)).toBe(0);
    expect(await file.read(new Uint8Array(0), 0)).toBe(0);
    await file.truncate(5003);
    await file.truncate(5006);
    expect(await file.read(buffer, 5000)).toBe(6);
    expect(text(buffer.subarray(0, 6))).toBe('hel\0\0\0');
    await file.datasync();
    await file.close();
    await file.close();
    await expect(file.read(buffer, 0)).rejects.toMatchObject({ code: 'ERR_STATE' });
    expect((await disk.readFile(path)).length).toBe(5006);
  });

  it('writes more buffers than one system call takes', async () => {
    const path = `${await folder()}/file`;
    const buffers = Array.from({ length: 3000 }, (_, index) => Uint8Array.of(index % 251, index % 13));
    const file = await disk.open(path, 'create');
    await file.write(buffers, 3);
    await file.close();
    expect(Buffer.concat(buffers).equals((await disk.readFile(path)).subarray(3))).toBe(true);
  });

  it('finishes what is under way before a file closes', async () => {
    const path = `${await folder()}/file`;
    const file = await disk.open(path, 'create');
    const writes = Array.from({ length: 20 }, (_, index) =>
      file.write([new Uint8Array(1000).fill(index)], index * 1000),
    );
    await file.close();
    await Promise.all(writes);
    expect((await disk.readFile(path)).length).toBe(20_000);
  });

  it('is exact about what exists', async () => {
    const path = await folder();
    await expect(disk.open(`${path}/x`, 'read')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(disk.open(`${path}/x`, 'write')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(disk.open(`${path}/no/x`, 'create')).rejects.toMatchObject({ code: 'ENOENT' });
    await (await disk.open(`${path}/x`, 'create')).close();
    await (await disk.open(`${path}/x`, 'create')).close();
    await expect(disk.open(`${path}/x`, 'exclusive')).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(disk.readFile(`${path}/y`)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(disk.readdir(`${path}/y`)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(disk.unlink(`${path}/y`)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(disk.rename(`${path}/y`, `${path}/z`)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(disk.mkdir(`${path}/x/y`)).rejects.toMatchObject({ code: 'ENOTDIR' });
    await disk.remove(`${path}/y`);
    expect(await disk.exists(`${path}/x`)).toBe(true);
    expect(await disk.exists(`${path}/y`)).toBe(false);
    expect(await disk.exists(`${path}/x/y`)).toBe(false);
  });

  it('lists, renames over, removes trees', async () => {
    const path = await folder();
    for (const name of ['b', 'a', 'é', 'Z', 'a.1']) await disk.writeFileAtomic(`${path}/${name}`, ascii(name));
    expect(await disk.readdir(path)).toEqual(['Z', 'a', 'a.1', 'b', 'é']);
    await disk.rename(`${path}/a`, `${path}/b`);
    expect(text(await disk.readFile(`${path}/b`))).toBe('a');
    await disk.mkdir(`${path}/deep/er`);
    await disk.mkdir(`${path}/deep/er`);
    await disk.writeFileAtomic(`${path}/deep/er/f`, ascii('f'));
    await disk.syncDir(`${path}/deep`);
    await disk.remove(`${path}/deep`);
    await disk.unlink(`${path}/Z`);
    expect(await disk.readdir(path)).toEqual(['a.1', 'b', 'é']);
  });

  it('keeps an unlinked file for those who have it open', async () => {
    const path = `${await folder()}/file`;
    const file = await disk.open(path, 'create');
    await file.write([ascii('still here')], 0);
    await disk.unlink(path);
    const buffer = new Uint8Array(10);
    expect(await file.read(buffer, 0)).toBe(10);
    await file.close();
  });

  it('writes atomically, also twice at once', async () => {
    const path = `${await folder()}/file`;
    await Promise.all(['one', 'two', 'three'].map((content) => disk.writeFileAtomic(path, ascii(content))));
    expect(text(await disk.readFile(path))).toBe('three');
    expect(await disk.exists(`${path}.tmp`)).toBe(false);
  });

  it('gives a lock to one at a time', async () => {
    const path = `${await folder()}/lock`;
    const lock = await disk.lock(path);
    await expect(disk.lock(path)).rejects.toMatchObject({ code: 'EBUSY' });
    await lock.release();
    await lock.release();
    const again = await disk.lock(path);
    await expect(disk.lock(path)).rejects.toMatchObject({ code: 'EBUSY' });
    await again.release();
    expect(await disk.exists(path)).toBe(false);
  });

  it('tells its space', async () => {
    const { totalBytes, freeBytes } = await disk.space(root);
    expect(totalBytes).toBeGreaterThan(0);
    expect(freeBytes).toBeLessThanOrEqual(totalBytes);
    expect(freeBytes).toBeGreaterThan(0);
  });

  describe('its key-value store', () => {
    const entries = async (kv: Kv, range: Parameters<Kv['scan']>[0]): Promise<string[]> => {
      const found: string[] = [];
      for await (const [key, value] of kv.scan(range)) found.push(`${text(key)}=${text(value)}`);
      return found;
    };
    const all = { gte: new Uint8Array(0), lt: new Uint8Array(20).fill(0xff) };

    it('gets, deletes, scans', async () => {
      const path = `${await folder()}/kv`;
      let kv = await disk.openKv(path, { cacheBytes: 1 << 20, writeBufferBytes: 1 << 20 });
      await expect(disk.openKv(path)).rejects.toMatchObject({ code: 'EBUSY' });
      const value = ascii('1');
      await kv.batch(
        [
          { key: ascii('a'), value },
          { key: ascii('b'), value: new Uint8Array(0) },
        ],
        { sync: false },
      );
      value[0] = 0;
      await kv.batch(
        [{ key: ascii('c'), value: ascii('3') }, { key: ascii('zz') }, { key: ascii('\xff'), value: ascii('4') }],
        { sync: true },
      );
      await kv.batch([], { sync: true });
      expect(text(kv.get(ascii('a')) ?? ascii('?'))).toBe('1');
      expect(kv.get(ascii('b'))?.length).toBe(0);
      expect(Buffer.isBuffer(kv.get(ascii('a')))).toBe(false);
      expect(kv.get(ascii('bb'))).toBeUndefined();
      expect(await entries(kv, all)).toEqual(['a=1', 'b=', 'c=3', '\xff=4']);
      expect(await entries(kv, { gte: ascii('b'), lt: ascii('\xff') })).toEqual(['b=', 'c=3']);
      expect(await entries(kv, { gte: ascii('b'), lt: ascii('\xff'), reverse: true, limit: 1 })).toEqual(['c=3']);
      expect(await entries(kv, { ...all, limit: 0 })).toEqual([]);
      expect(await entries(kv, { gte: ascii('c'), lt: ascii('b') })).toEqual([]);
      await kv.batch([{ key: ascii('a') }, { key: ascii('a'), value: ascii('2') }, { key: ascii('c') }], {
        sync: false,
      });
      await kv.close();
      kv = await disk.openKv(path);
      expect(await entries(kv, all)).toEqual(['a=2', 'b=', '\xff=4']);
      await kv.close();
    });

    it('does batches in the order in which they are given, and what they hold at that time', async () => {
      const kv = await disk.openKv(`${await folder()}/kv`);
      const value = new Uint8Array(2);
      const writes = Array.from({ length: 300 }, (_, index) => {
        value[0] = index >> 8;
        value[1] = index & 255;
        return kv.batch([{ key: ascii('k'), value }], { sync: index % 50 === 0 });
      });
      await Promise.all(writes);
      expect([...(kv.get(ascii('k')) ?? [])]).toEqual([299 >> 8, 299 & 255]);
      const last = kv.batch([{ key: ascii('last'), value }], { sync: false });
      await kv.close();
      await last;
      await expect(kv.batch([{ key: ascii('x'), value }], { sync: true })).rejects.toThrow();
    });

    it('scans one snapshot', async () => {
      const kv = await disk.openKv(`${await folder()}/kv`);
      const key = (index: number): Uint8Array => ascii(String(index).padStart(6, '0'));
      const ops = Array.from({ length: 2500 }, (_, index) => ({ key: key(index), value: key(index) }));
      await kv.batch(ops, { sync: false });
      let seen = 0;
      for await (const [found, value] of kv.scan(all)) {
        expect(text(found)).toBe(text(value));
        if (seen++ % 500 === 0) {
          await kv.batch(
            [
              { key: key(seen + 300), value: ascii('changed') },
              { key: key(2400) },
              { key: key(9000 + seen), value: ascii('new') },
            ],
            { sync: false },
          );
        }
      }
      expect(seen).toBe(2500);
      // A scan that is left early leaves nothing open.
      for await (const [found] of kv.scan({ ...all, reverse: true })) {
        expect(Buffer.isBuffer(found)).toBe(false);
        expect(text(found)).toBe('011001');
        break;
      }
      await kv.close();
    });

    it('agrees with a plain map', async () => {
      const kv = await disk.openKv(`${await folder()}/kv`);
      const model = new Map<string, string>();
      const key = fc.uint8Array({ minLength: 1, maxLength: 2 });
      const op = fc.record({ key, value: fc.option(fc.uint8Array({ maxLength: 3 }), { nil: undefined }) });
      await fc.assert(
        fc.asyncProperty(fc.array(op, { maxLength: 40 }), key, key, fc.boolean(), async (ops, gte, lt, reverse) => {
          await kv.batch(
            ops.map((o) => (o.value === undefined ? { key: o.key } : { key: o.key, value: o.value })),
            { sync: false },
          );
          for (const o of ops) {
            if (o.value === undefined) model.delete(text(o.key));
            else model.set(text(o.key), text(o.value));
          }
          const expected = [...model]
            .filter(([k]) => k >= text(gte) && k < text(lt))
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([k, v]) => `${k}=${v}`);
          expect(await entries(kv, { gte, lt, reverse })).toEqual(reverse ? expected.reverse() : expected);
        }),
        { numRuns: 60 },
      );
      await kv.close();
    });
  });
});
