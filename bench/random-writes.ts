/**
 * A file that is written at random, as databases do: 8 KiB writes with an fsync each, and how fast it is read in order
 * afterwards, before and after it was put together (docs/decisions/0016-compaction.md).
 */
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { UsageError } from '../src/errors.ts';
import { freshBytes, megabytesPerSecond, readFileTimed, writeFileTimed } from './measure.ts';
import { pairRow } from './sequential.ts';
import { tatami } from './tatami.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

const PIECE_BYTES = 8 * 1024;
const SYNCED_MS = 3_000;
/** One write in each so many bytes of the file: a block of 4 MiB is then in some hundred pieces. */
const BYTES_PER_WRITE = 64 * 1024;
const READ_GOAL = 0.8;

export const randomWrites: Benchmark = {
  name: 'random-writes',
  about:
    '8 KiB writes at random with an fsync each; then the file read in order, cold, before and after it was put together',
  byNameOnly: true,
  async run(context) {
    const { dataDirectory, mountDirectory, sizeBytes } = context;
    if (dataDirectory === undefined) {
      throw new UsageError('what was written is put together through the cluster', {
        remedy: 'Give --data DIR of a one-machine cluster, or leave out --mount.',
      });
    }
    const raw = join(context.workDirectory, 'raw-random');
    const ordered = join(mountDirectory, 'ordered');
    const scattered = join(mountDirectory, 'scattered');
    try {
      writeFileTimed(raw, sizeBytes);
      writeFileTimed(ordered, sizeBytes);
      writeFileTimed(scattered, sizeBytes);
      return await measure(context, dataDirectory, { raw, ordered, scattered });
    } finally {
      for (const path of [raw, ordered, scattered]) rmSync(path, { force: true });
    }
  },
};

async function measure(
  context: BenchContext,
  data: string,
  { raw, ordered, scattered }: Readonly<Record<'raw' | 'ordered' | 'scattered', string>>,
): Promise<Row[]> {
  const { sizeBytes } = context;
  const synced: number[] = [];
  const rawSynced: number[] = [];
  const pieces: number[] = [];
  const whole: number[] = [];
  const before: number[] = [];
  const after: number[] = [];
  const cold = async (path: string): Promise<number> => {
    await context.restartCold();
    return megabytesPerSecond(sizeBytes, readFileTimed(path));
  };
  for (let round = 0; round < context.rounds; round++) {
    rawSynced.push(syncedWrites(raw, sizeBytes));
    synced.push(syncedWrites(scattered, sizeBytes));
    scatter(scattered, sizeBytes);
    before.push(await cold(ordered));
    pieces.push(await cold(scattered));
    tatami('compact', `/${basename(context.mountDirectory)}/${basename(scattered)}`, '--data', data);
    whole.push(await cold(scattered));
    after.push(await cold(ordered));
    const [rate, inPieces, together, inOrder] = [synced, pieces, whole, after].map((all) => all.at(-1)?.toFixed(0));
    await context.note(
      `random-writes round ${round + 1}: ${rate} writes/s; read in pieces ${inPieces} MB/s, put together ${together}, in order ${inOrder}`,
    );
  }
  return [
    pairRow('8 KiB random write + fsync', synced, 'raw disk', rawSynced, undefined, '/s'),
    pairRow('cold read, in small pieces', pieces, 'written in order', before),
    pairRow('cold read, put together', whole, 'written in order', after, READ_GOAL),
  ];
}

/** Writes a second. */
function syncedWrites(path: string, sizeBytes: number): number {
  const fd = openSync(path, 'r+');
  const started = performance.now();
  let count = 0;
  try {
    for (; performance.now() - started < SYNCED_MS; count += 1) {
      writeSync(fd, freshBytes(PIECE_BYTES), 0, PIECE_BYTES, randomPlace(sizeBytes));
      fsyncSync(fd);
    }
  } finally {
    closeSync(fd);
  }
  return (count / (performance.now() - started)) * 1_000;
}

function scatter(path: string, sizeBytes: number): void {
  const fd = openSync(path, 'r+');
  try {
    for (let left = Math.floor(sizeBytes / BYTES_PER_WRITE); left > 0; left -= 1) {
      writeSync(fd, freshBytes(PIECE_BYTES), 0, PIECE_BYTES, randomPlace(sizeBytes));
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function randomPlace(sizeBytes: number): number {
  return Math.floor(Math.random() * Math.floor(sizeBytes / PIECE_BYTES)) * PIECE_BYTES;
}
