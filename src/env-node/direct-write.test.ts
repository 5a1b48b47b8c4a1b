import fs from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { DIRECT_BYTES, type DiskFile } from '../env.ts';
import { KiB, MiB } from '../limits.ts';
import { NodeDisk } from './disk.ts';

let folder: string;
let path: string;
let file: DiskFile;
/** By way of which descriptors, how many bytes at a time, and where. */
let direct: { bytes: number; position: number }[];
let directFds: Set<number>;
/** What the system answers to direct writes, in turn; after that it writes. */
let answers: (number | NodeJS.ErrnoException)[];
let openFails: boolean;

const failure = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tatami-direct-'));
  path = join(folder, 'file');
  [direct, directFds, answers, openFails] = [[], new Set(), [], false];
  const { open, write, constants } = fs;
  vi.spyOn(fs, 'open').mockImplementation(((
    name: string,
    flags: number,
    ...rest: [unknown, ((error: Error | null, fd: number) => void)?]
  ) => {
    const done = rest[rest.length - 1] as (error: Error | null, fd: number) => void;
    if ((flags & constants.O_DIRECT) === 0) return open(name, flags, rest[0] as number, done);
    if (openFails) return done(failure('EINVAL'), 0);
    // As if the file system could, on those that cannot, too.
    open(name, flags & ~constants.O_DIRECT, (error, fd) => {
      directFds.add(fd);
      done(error, fd);
    });
  }) as typeof fs.open);
  vi.spyOn(fs, 'write').mockImplementation(((
    fd: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    position: number,
    done: (error: NodeJS.ErrnoException | null, count: number, bytes: Uint8Array) => void,
  ) => {
    if (!directFds.has(fd)) return write(fd, bytes, offset, length, position, done);
    expect([bytes.byteOffset + offset, length, position].map((at) => at % DIRECT_BYTES)).toEqual([0, 0, 0]);
    const answer = answers.shift() ?? length;
    if (typeof answer !== 'number') return done(answer, 0, bytes);
    direct.push({ bytes: answer, position });
    write(fd, bytes, offset, answer, position, done);
  }) as typeof fs.write);
  file = await new NodeDisk().open(path, 'exclusive');
});
afterEach(async () => {
  await file.close();
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const bytes = (length: number, seed = 1) => Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8) * seed) & 0xff);

async function content(): Promise<Buffer> {
  return await readFile(path);
}

it('whole sectors go directly, what lies in those at the ends does not', async () => {
  await file.write([bytes(100)], 0);
  const [head, data] = [bytes(80, 2), bytes(MiB, 3)];
  await file.writePast!([head, data], 100);
  expect(direct).toEqual([{ bytes: MiB - DIRECT_BYTES, position: DIRECT_BYTES }]);
  expect(Buffer.compare(await content(), Buffer.concat([bytes(100), head, data]))).toBe(0);
});

it('a long write goes in steps', async () => {
  await file.writePast!([bytes(3 * MiB), bytes(6 * MiB, 5), bytes(1)], 0);
  expect(direct.map((one) => one.bytes)).toEqual([4 * MiB, 4 * MiB, MiB]);
  expect(Buffer.compare(await content(), Buffer.concat([bytes(3 * MiB), bytes(6 * MiB, 5), bytes(1)]))).toBe(0);
});

it('a short write is as any other', async () => {
  await file.writePast!([bytes(200 * KiB)], 5);
  expect(directFds.size).toBe(0);
  expect((await content()).subarray(5)).toEqual(Buffer.from(bytes(200 * KiB)));
});

it.each([
  ['that the file system cannot be opened so', () => (openFails = true)],
  ['that it refuses the write', () => answers.push(failure('EINVAL'))],
  ['that it refuses a later one', () => answers.push(4 * MiB, failure('EINVAL'))],
  ['that it writes less', () => answers.push(5_000)],
])('all is written whatever happens: %s', async (_, arrange) => {
  arrange();
  for (const position of [17, 17 + 9 * MiB]) await file.writePast!([bytes(9 * MiB, position)], position);
  const expected = Buffer.concat([new Uint8Array(17), bytes(9 * MiB, 17), bytes(9 * MiB, 17 + 9 * MiB)]);
  expect(Buffer.compare(await content(), expected)).toBe(0);
});

it('a refusal is not asked for again', async () => {
  answers.push(failure('EINVAL'));
  await file.writePast!([bytes(MiB)], 0);
  await file.writePast!([bytes(MiB)], MiB);
  expect(direct).toEqual([]);
});

it('what an ordinary write would tell is told: the disk is full', async () => {
  answers.push(failure('ENOSPC'));
  await expect(file.writePast!([bytes(MiB)], 0)).rejects.toMatchObject({ code: 'ENOSPC' });
  await file.truncate(0);
  await file.writePast!([bytes(MiB)], 0);
  expect((await content()).length).toBe(MiB);
});

it('closing waits for it and closes both descriptors', async () => {
  const writing = file.writePast!([bytes(9 * MiB)], 3);
  await Promise.all([writing, file.close()]);
  expect((await content()).length).toBe(9 * MiB + 3);
  for (const fd of directFds) expect(() => fs.fstatSync(fd)).toThrow('EBADF');
  await expect(file.writePast!([bytes(1)], 0)).rejects.toMatchObject({ code: 'ERR_STATE' });
});

it('pieces of any length at any place', async () => {
  vi.restoreAllMocks();
  const lengths = fc.array(fc.oneof(fc.nat(5_000), fc.nat(MiB)), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(lengths, fc.nat(20_000), async (pieces, position) => {
      await file.truncate(0);
      const before = bytes(position, 7);
      await file.write([before], 0);
      const buffers = pieces.map((length, index) => bytes(length, index));
      await file.writePast!(buffers, position);
      expect(Buffer.compare(await content(), Buffer.concat([before, ...buffers]))).toBe(0);
    }),
    { numRuns: 30 },
  );
});
