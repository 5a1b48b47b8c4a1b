/** Timing, medians, page cache, and load that reads and writes files as an application does. */
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { UsageError } from '../src/errors.ts';
import { MiB } from '../src/limits.ts';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? high : (high + (sorted[middle - 1] ?? NaN)) / 2;
}

export function spread(values: readonly number[]): readonly [number, number] {
  return [Math.min(...values), Math.max(...values)];
}

/** Drops clean pages, names and inodes of the whole machine. Needs root. */
export function dropPageCache(): void {
  spawnSync('sync');
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
  } catch (error) {
    throw new UsageError('the page cache cannot be dropped here', {
      cause: error,
      remedy: 'Run the benchmark as root, on the machine itself rather than in a container.',
    });
  }
}

/** MB/s (10^6 bytes). */
export function megabytesPerSecond(bytes: number, ms: number): number {
  return bytes / 1000 / ms;
}

/** 4 MiB that do not compress and differ from call to call: equal blocks would be stored once. */
export function freshBytes(length = 4 * MiB): Uint8Array {
  return randomFillSync(new Uint8Array(length));
}

/**
 * Writes a file of the size in 1 MiB writes, fsyncs, closes; returns milliseconds. Contents are made unique per MiB by
 * a counter laid into random bytes, which costs next to nothing while the clock runs.
 */
export function writeFileTimed(path: string, sizeBytes: number): number {
  const buffer = Buffer.from(freshBytes(MiB));
  const started = performance.now();
  const fd = openSync(path, 'w');
  try {
    for (let at = 0; at < sizeBytes; at += buffer.length) {
      buffer.writeDoubleLE(at, 0);
      buffer.writeDoubleLE(started + at, 32 * 1024);
      writeAll(fd, buffer.subarray(0, Math.min(buffer.length, sizeBytes - at)));
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return performance.now() - started;
}

function writeAll(fd: number, data: Uint8Array): void {
  for (let done = 0; done < data.length;) done += writeSync(fd, data, done, data.length - done);
}

/** Reads a file in 1 MiB reads; returns milliseconds. */
export function readFileTimed(path: string): number {
  const buffer = new Uint8Array(MiB);
  const started = performance.now();
  const fd = openSync(path, 'r');
  try {
    while (readSync(fd, buffer, 0, buffer.length, null) > 0);
  } finally {
    closeSync(fd);
  }
  return performance.now() - started;
}

/** Reads `ways` equal parts of a file at once; returns milliseconds. */
export async function readParallelTimed(path: string, ways: number): Promise<number> {
  const { size } = statSync(path);
  const part = Math.ceil(size / ways / MiB) * MiB;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: ways }, async (_, way) => {
      const file = await open(path, 'r');
      try {
        const buffer = new Uint8Array(MiB);
        const end = Math.min(size, (way + 1) * part);
        for (let at = way * part; at < end;) {
          const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - at), at);
          if (bytesRead === 0) break;
          at += bytesRead;
        }
      } finally {
        await file.close();
      }
    }),
  );
  return performance.now() - started;
}

/** Of random reads: odd, so that all of a power of two of pages come by. */
const RANDOM_STEP = 0x9e3779b1;

/** Random 4 KiB reads for about `forMs`, without the first `skipped` of their fixed order; returns reads per second. */
export function randomReads(path: string, forMs: number, skipped = 0): number {
  const pages = Math.floor(statSync(path).size / 4096);
  const buffer = new Uint8Array(4096);
  const fd = openSync(path, 'r');
  try {
    const started = performance.now();
    let count = 0;
    // A fixed sequence that visits pages in no order (a full-period step over a power-of-two-free range).
    let page = Number((7919n + BigInt(skipped) * BigInt(RANDOM_STEP)) % BigInt(pages));
    while (performance.now() - started < forMs) {
      readSync(fd, buffer, 0, 4096, page * 4096);
      page = (page + RANDOM_STEP) % pages;
      count++;
    }
    return (count * 1000) / (performance.now() - started);
  } finally {
    closeSync(fd);
  }
}

export interface SmallFileRates {
  readonly create: number;
  readonly stat: number;
  readonly read: number;
  readonly unlink: number;
}

/** Creates, lists and stats, reads and unlinks files of 4 KiB, one after the other; each per second. */
export function smallFiles(directory: string, count: number): SmallFileRates {
  rmSync(directory, { recursive: true, force: true });
  const create = createFiles(directory, count);
  const stat = statsOf(directory);
  const read = readFiles(directory, count);
  const unlink = unlinkFiles(directory, count);
  rmSync(directory, { recursive: true, force: true });
  return { create, stat, read, unlink };
}

/** Makes a directory, and files of 4 KiB in it: open, write, close. */
export function createFiles(directory: string, count: number): number {
  const data = freshBytes(4096);
  mkdirSync(directory);
  return perSecond(count, (index) => {
    const fd = openSync(`${directory}/file-${index}`, 'w');
    writeSync(fd, data);
    closeSync(fd);
  });
}

/** Opens, reads and closes what `createFiles` has made. */
export function readFiles(directory: string, count: number): number {
  const buffer = new Uint8Array(8192);
  return perSecond(count, (index) => {
    const fd = openSync(`${directory}/file-${index}`, 'r');
    readSync(fd, buffer);
    closeSync(fd);
  });
}

export function unlinkFiles(directory: string, count: number): number {
  return perSecond(count, (index) => unlinkSync(`${directory}/file-${index}`));
}

/** Stats per second, the listing included, of a directory made for it. */
export function listedStats(directory: string, count: number): number {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  for (let index = 0; index < count; index++) closeSync(openSync(`${directory}/file-${index}`, 'w'));
  const stat = statsOf(directory);
  rmSync(directory, { recursive: true, force: true });
  return stat;
}

/** Lists a directory and stats each name. */
export function statsOf(directory: string): number {
  const started = performance.now();
  const names = readdirSync(directory);
  for (const name of names) statSync(`${directory}/${name}`);
  return (names.length * 1000) / (performance.now() - started);
}

function perSecond(count: number, work: (index: number) => void): number {
  const started = performance.now();
  for (let index = 0; index < count; index++) work(index);
  return (count * 1000) / (performance.now() - started);
}

/** A step that visits all of `to` places in no order: no two of them again before all others. */
export function coprimeNear(from: number, to: number): number {
  const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));
  let step = Math.max(1, from);
  while (divisor(step, to) !== 1) step++;
  return step;
}
