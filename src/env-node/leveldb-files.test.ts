import { createHash } from 'node:crypto';
import { promises as fsp } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeDisk } from './disk.ts';
import { crc32c } from './crc32c.ts';
import { checkLog, checkTable } from './leveldb-files.ts';

const disk = new NodeDisk();
let folder: string;

beforeEach(async () => (folder = await fsp.mkdtemp(join(tmpdir(), 'tatami-leveldb-'))));
afterEach(() => fsp.rm(folder, { recursive: true, force: true }));

/** A store with several tables and a log, closed; its files that matter. */
async function store(compression = false): Promise<string[]> {
  const path = join(folder, 'db');
  const kv = await disk.openKv(path, { compression, writeBufferBytes: 64 * 1024 });
  for (let batch = 0; batch < 30; batch++) {
    const ops = Array.from({ length: 100 }, (_, index) => {
      const key = createHash('sha256').update(`${batch} ${index}`).digest();
      return { key, value: Buffer.concat([key, Buffer.alloc(20, batch)]) };
    });
    await kv.batch(ops, { sync: batch % 7 === 0 });
  }
  await kv.close();
  const names = (await fsp.readdir(path)).filter((name) => /\.(ldb|log)$|^MANIFEST/.test(name));
  return names.map((name) => join(path, name));
}

describe('crc32c', () => {
  it('is that of RFC 3720', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index))).toBe(0x46dd794e);
    expect(crc32c(Buffer.from('xx123456789y'), 2, 11)).toBe(0xe3069283);
  });
});

describe('the check of LevelDB files', () => {
  it('finds nothing in a store in order, open or closed, and none where there is none', async () => {
    await store();
    const path = join(folder, 'db');
    expect(await disk.checkKv(path, Infinity)).toMatchObject({ looked: true });
    expect(await disk.checkKv(path, 1000)).toMatchObject({ looked: false });
    const kv = await disk.openKv(path, { compression: false });
    expect((await disk.checkKv(path, Infinity)).damage).toBeUndefined();
    await kv.close();
    expect(await disk.checkKv(join(folder, 'nothing'), Infinity)).toEqual({ bytes: 0, looked: true });
  });

  it('notices every flipped bit that counts', async () => {
    const files = await store();
    expect(files.some((file) => file.endsWith('.ldb'))).toBe(true);
    for (const file of files) {
      const bytes = new Uint8Array(await fsp.readFile(file));
      const check = (): string | undefined =>
        file.endsWith('.ldb') ? checkTable(bytes) : checkLog(bytes, file.endsWith('.log'));
      expect(check()).toBeUndefined();
      // Between the handles and the magic a footer has padding that nobody reads.
      const isPadding = (at: number): boolean =>
        file.endsWith('.ldb') && at > bytes.length - 40 && at < bytes.length - 8;
      const step = Math.max(1, Math.floor(bytes.length / 150));
      for (let at = 0; at < bytes.length; at += step) {
        if (isPadding(at)) continue;
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
        const found = check();
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
        if (found !== undefined) continue;
        // What nothing stands behind could be a torn end.
        expect(file.endsWith('.log')).toBe(true);
        expect(checkLog(bytes, false)).toBeUndefined();
        expect(at).toBeGreaterThan(bytes.length - 2 * 32_768);
      }
    }
  });

  it('takes a torn end of a log for what it is, and not that of a manifest', async () => {
    const files = await store();
    const log = files.find((file) => file.endsWith('.log')) ?? '';
    const bytes = new Uint8Array(await fsp.readFile(log));
    const torn = bytes.slice(0, bytes.length - 5);
    expect(checkLog(torn, true)).toBeUndefined();
    expect(checkLog(torn, false)).toContain('damaged');
    expect(checkLog(Buffer.concat([bytes, new Uint8Array(1000)]), true)).toBeUndefined();
  });

  it('refuses what it cannot look into', async () => {
    const files = await store(true);
    const table = files.find((file) => file.endsWith('.ldb')) ?? '';
    const bytes = new Uint8Array(await fsp.readFile(table));
    expect(checkTable(bytes.subarray(0, 20))).toContain('too short');
    expect(checkTable(bytes.subarray(0, bytes.length - 1))).toContain('does not end');
  });
});
