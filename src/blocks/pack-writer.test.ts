import { beforeEach, describe, expect, it } from 'vitest';
import { sampleBytes } from '../../test/conformance/block-store.ts';
import { MemoryDisk } from '../env-memory.ts';
import type { PoolId } from '../ids.ts';
import { SILENT_LOGGER } from '../log.ts';
import { hashBlock } from './identity.ts';
import { PackFiles } from './pack-files.ts';
import { PACK_HEADER_BYTES, recordBytes } from './pack-format.ts';
import { PackWriter } from './pack-writer.ts';

const DIR = '/packs';
const PACK_1 = '/packs/0000000001.pack';
const BLOCK_BYTES = 5_000;

let disk: MemoryDisk;
let files: PackFiles;
let writer: PackWriter;
/** Of the records that became durable, by pack. */
let durable: [pack: number, seq: number][];
let uncertain: number[];
let suspects: number[];
let nextSeq: number;

beforeEach(async () => {
  disk = new MemoryDisk();
  await disk.mkdir(DIR);
  files = new PackFiles(disk, DIR);
  [durable, uncertain, suspects, nextSeq] = [[], [], [], 1];
  writer = new PackWriter({
    disk,
    dir: DIR,
    files,
    storeId: 'n1',
    salt: 7n,
    log: SILENT_LOGGER,
    nextPack: 1,
    onDurable: (written) => durable.push(...written.map(({ record, pack }) => [pack, record.seq] as [number, number])),
    onUncertain: (records) => uncertain.push(...records.map(({ seq }) => seq)),
    onSuspect: async (pack) => void suspects.push(pack),
    onFull: () => undefined,
  });
});

/** Appends a block; each has the next sequence number. */
async function append(): Promise<void> {
  const seq = nextSeq++;
  const data = sampleBytes(BLOCK_BYTES, seq);
  const { id, pageHashes } = hashBlock(data);
  await writer.append({ type: 'block', pool: 1 as PoolId, id, seq, generation: 0, pageHashes, data });
}

describe('failures that may pass', () => {
  it.each(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'] as const)(
    'end the writes that they hit, and no others, however many: %s',
    async (code) => {
      const again = disk.failNext({ op: 'open', path: DIR, code, times: Infinity });
      for (let i = 0; i < 5; i++) {
        await expect(append()).rejects.toMatchObject({
          code: 'ERR_UNAVAILABLE',
          cause: expect.objectContaining({ code }),
          remedy: expect.stringMatching(/tries again/),
        });
      }
      again();
      await append();
      expect(durable.map(([, seq]) => seq)).toEqual([6]);
      // Nothing of the others was ever on disk.
      expect(uncertain).toEqual([]);
      await writer.close();
    },
  );

  it('of a write leave the pack as it was', async () => {
    await append();
    const again = disk.failNext({ op: 'write', path: PACK_1, code: 'ENOMEM', times: Infinity });
    for (let i = 0; i < 5; i++) await expect(append()).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    again();
    await append();
    expect(durable).toEqual([
      [1, 1],
      [1, 7],
    ]);
    expect(suspects).toEqual([]);
    expect(uncertain).toEqual([2, 3, 4, 5, 6]);
    expect(files.sizeBytes(1)).toBe(PACK_HEADER_BYTES + 2 * recordBytes(BLOCK_BYTES));
    await writer.close();
  });

  it.each([
    ['EAGAIN', 'ERR_UNAVAILABLE'],
    // Where space is only claimed when data goes to disk.
    ['ENOSPC', 'ERR_NO_SPACE'],
  ] as const)('of a sync leave the pack behind, and writing goes on in the next: %s', async (fault, code) => {
    for (let pack = 1; pack <= 4; pack++) {
      // The first sync is that of the pack's header.
      disk.failNext({ op: 'datasync', path: DIR, code: fault, after: 1 });
      await expect(append()).rejects.toMatchObject({ code });
    }
    await append();
    expect(suspects).toEqual([1, 2, 3, 4]);
    expect(durable).toEqual([[5, 5]]);
    await writer.close();
  });

  it('do not count among those of the disk', async () => {
    disk.failNext({ op: 'open', path: DIR, code: 'EIO' });
    await expect(append()).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    disk.failNext({ op: 'open', path: DIR, code: 'EMFILE' });
    await expect(append()).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    await append();
    await writer.close();
  });
});

describe('failures of the disk', () => {
  it.each([
    ['open', 'EIO'],
    ['open', 'EROFS'],
    ['write', 'EIO'],
    ['datasync', 'EIO'],
  ] as const)('stop writing after two in a row: %s, %s', async (op, code) => {
    disk.failNext({ op, path: DIR, code, times: 2 });
    for (let i = 0; i < 2; i++) await expect(append()).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    await expect(append()).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
      remedy: expect.stringMatching(/replace the disk or restart/),
    });
    expect(durable).toEqual([]);
    await writer.close();
  });
});
