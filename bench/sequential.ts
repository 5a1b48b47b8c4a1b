/**
 * Large files through the mount: write with fsync, cold read, cold read four ways, warm read, random 4 KiB.
 *
 * Cold: page cache dropped, nodes and mount started afresh. Yardsticks are taken in alternate runs: the same bytes on
 * the raw disk below the cluster, and an empty filesystem on the same kernel binding.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { withEmptyMount } from './empty-mount.ts';
import {
  dropPageCache,
  median,
  megabytesPerSecond,
  randomReads,
  readFileTimed,
  readParallelTimed,
  spread,
  writeFileTimed,
} from './measure.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

/** Copies of the cluster under test; the write goal counts every copy's bytes on the one disk. */
const COPIES = 2;
const READ_GOAL = 0.8;
/** An empty filesystem's read costs the kernel's half of the work; ours may cost as much again. */
const EMPTY_SHARE = 0.5;
const WRITE_GOAL = 0.7;
const RANDOM_READ_MS = 3_000;

export const sequentialWrite: Benchmark = {
  name: 'write',
  about: 'sequential write of one file with fsync, against the raw disk divided by the copies',
  async run(context) {
    const ours: number[] = [];
    const raw: number[] = [];
    for (let round = 0; round < context.rounds; round++) {
      raw.push(timedWrite(join(context.workDirectory, 'raw-write'), context.sizeBytes));
      ours.push(timedWrite(join(context.mountDirectory, 'write'), context.sizeBytes));
      await context.note(
        `write round ${round + 1}: ${ours.at(-1)?.toFixed(0)} MB/s, raw ${raw.at(-1)?.toFixed(0)} MB/s`,
      );
    }
    const share = raw.map((value) => value / COPIES);
    return [pairRow('sequential write + fsync', ours, `raw disk / ${COPIES}`, share, WRITE_GOAL)];
  },
};

function timedWrite(path: string, sizeBytes: number): number {
  const speed = megabytesPerSecond(sizeBytes, writeFileTimed(path, sizeBytes));
  rmSync(path);
  return speed;
}

export const coldRead: Benchmark = {
  name: 'read',
  about: 'cold reads (one and four ways), warm read and random 4 KiB reads of one file',
  async run(context) {
    const raw = join(context.workDirectory, 'raw-read');
    const file = join(context.mountDirectory, 'read');
    writeFileTimed(raw, context.sizeBytes);
    writeFileTimed(file, context.sizeBytes);
    try {
      const rows = [...(await coldRows(context, raw, file)), ...warmRows(context, raw, file)];
      return rows;
    } finally {
      rmSync(raw, { force: true });
      rmSync(file, { force: true });
    }
  },
};

async function coldRows(context: BenchContext, raw: string, file: string): Promise<Row[]> {
  const speed = (ms: number) => megabytesPerSecond(context.sizeBytes, ms);
  const one: number[] = [];
  const four: number[] = [];
  const random: number[] = [];
  const rawRandom: number[] = [];
  const least: number[] = [];
  const fourLeast: number[] = [];
  const rawOne: number[] = [];
  const emptyOne: number[] = [];
  for (let round = 0; round < context.rounds; round++) {
    dropPageCache();
    const rawSpeed = speed(readFileTimed(raw));
    dropPageCache();
    const rawFour = speed(await readParallelTimed(raw, 4));
    dropPageCache();
    rawRandom.push(randomReads(raw, RANDOM_READ_MS));
    const empty = await withEmptyMount(context, async (directory) => {
      const large = join(directory, 'zeros');
      const one = speed(readFileTimed(large));
      // Else the second read would be the kernel's own pages, and not the filesystem's answer.
      dropPageCache();
      return { one, four: speed(await readParallelTimed(large, 4)) };
    });
    await context.restartCold();
    one.push(speed(readFileTimed(file)));
    await context.restartCold();
    four.push(speed(await readParallelTimed(file, 4)));
    await context.restartCold();
    random.push(randomReads(file, RANDOM_READ_MS));
    rawOne.push(rawSpeed);
    emptyOne.push(empty.one);
    least.push(Math.min(rawSpeed, EMPTY_SHARE * empty.one));
    fourLeast.push(Math.min(rawFour, EMPTY_SHARE * empty.four));
    await context.note(
      `read round ${round + 1}: ${one.at(-1)?.toFixed(0)} MB/s, four ways ${four.at(-1)?.toFixed(0)}; ` +
        `raw ${rawSpeed.toFixed(0)}, ${rawFour.toFixed(0)}; empty mount ${empty.one.toFixed(0)}, ${empty.four.toFixed(0)}`,
    );
  }
  const name = `min(raw, ${EMPTY_SHARE} x empty mount)`;
  return [
    pairRow('cold sequential read', one, name, least, READ_GOAL),
    pairRow('cold 4-way read', four, name, fourLeast, READ_GOAL),
    pairRow('cold random 4 KiB read', random, 'raw disk', rawRandom, undefined, '/s'),
    { name: '  raw disk, cold read', value: median(rawOne), unit: 'MB/s', spread: spread(rawOne) },
    { name: '  empty mount, read', value: median(emptyOne), unit: 'MB/s', spread: spread(emptyOne) },
  ];
}

function warmRows(context: BenchContext, raw: string, file: string): Row[] {
  const speed = (ms: number) => megabytesPerSecond(context.sizeBytes, ms);
  readFileTimed(file);
  readFileTimed(raw);
  const ours: number[] = [];
  const yardstick: number[] = [];
  for (let round = 0; round < context.rounds; round++) {
    yardstick.push(speed(readFileTimed(raw)));
    ours.push(speed(readFileTimed(file)));
  }
  return [pairRow('warm read', ours, 'raw disk, warm', yardstick)];
}

/** A row from rounds measured in pairs. */
export function pairRow(
  name: string,
  ours: readonly number[],
  yardstickName: string,
  yardstick: readonly number[],
  atLeast?: number,
  unit: Row['unit'] = 'MB/s',
): Row {
  return {
    name,
    value: median(ours),
    unit,
    yardstick: { name: yardstickName, value: median(yardstick) },
    ratio: median(ours.map((value, index) => value / (yardstick[index] ?? NaN))),
    ...(atLeast === undefined ? {} : { goal: { atLeast } }),
    spread: spread(ours),
  };
}
