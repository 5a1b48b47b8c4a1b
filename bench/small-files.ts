/**
 * Files of 4 KiB, one after the other: create+write+close, stat of listed files, open+read+close, unlink. Each side does
 * the same work once before it is measured: the yardstick's process is a new one in each round.
 */
import { join } from 'node:path';
import { withEmptyMount } from './empty-mount.ts';
import { listedStats, median, smallFiles, spread } from './measure.ts';
import type { SmallFileRates } from './measure.ts';
import { pairRow } from './sequential.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

const GOALS: Partial<Record<keyof SmallFileRates, number>> = { create: 0.35, stat: 0.6 };

const LABELS: Record<keyof SmallFileRates, string> = {
  create: 'create+write+close 4 KiB',
  stat: 'stat of listed files',
  read: 'open+read+close 4 KiB',
  unlink: 'unlink',
};

export const smallFilesBenchmark: Benchmark = {
  name: 'small',
  about: '4 KiB files: create, stat, read, unlink, against an empty in-memory filesystem on the same binding',
  async run(context) {
    const ours: SmallFileRates[] = [];
    const empty: SmallFileRates[] = [];
    const count = context.smallFileCount;
    for (let round = 0; round < context.rounds; round++) {
      empty.push(await withEmptyMount(context, async (path) => warmSmallFiles(join(path, 'small'), count)));
      ours.push(warmSmallFiles(join(context.mountDirectory, 'small'), count));
      const last = ours.at(-1);
      await context.note(
        `small files round ${round + 1}: create ${last?.create.toFixed(0)}/s, stat ${last?.stat.toFixed(0)}/s`,
      );
    }
    const rows = (Object.keys(LABELS) as (keyof SmallFileRates)[]).map((key) =>
      pairRow(
        LABELS[key],
        ours.map((rates) => rates[key]),
        'empty mount',
        empty.map((rates) => rates[key]),
        GOALS[key],
        '/s',
      ),
    );
    rows.splice(2, 0, ...(await uncachedRow(context)));
    return rows;
  },
};

function warmSmallFiles(directory: string, count: number): SmallFileRates {
  smallFiles(directory, count);
  return smallFiles(directory, count);
}

/** The same stat where nothing may be answered from what was listed: every name on the path is asked for again. */
async function uncachedRow(context: BenchContext): Promise<Row[]> {
  const rates: number[] = [];
  const found = await context.withMount(['--attr-timeout-ms', '0'], (directory) => {
    for (let round = 0; round <= context.rounds; round++) {
      const rate = listedStats(directory, context.smallFileCount);
      // As above: the first round is for the processes to warm up.
      if (round > 0) rates.push(rate);
    }
  });
  if (!found) return [];
  return [{ name: '  attribute caching off', value: median(rates), unit: '/s', spread: spread(rates) }];
}
