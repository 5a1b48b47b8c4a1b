/** Files of 4 KiB, one after the other: create+write+close, stat of listed files, open+read+close, unlink. */
import { join } from 'node:path';
import { withEmptyMount } from './empty-mount.ts';
import { smallFiles } from './measure.ts';
import type { SmallFileRates } from './measure.ts';
import { pairRow } from './sequential.ts';
import type { Benchmark } from './types.ts';

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
    for (let round = 0; round < context.rounds; round++) {
      empty.push(
        await withEmptyMount(context, async (path) => smallFiles(join(path, 'small'), context.smallFileCount)),
      );
      ours.push(smallFiles(join(context.mountDirectory, 'small'), context.smallFileCount));
      const last = ours.at(-1);
      context.note(
        `small files round ${round + 1}: create ${last?.create.toFixed(0)}/s, stat ${last?.stat.toFixed(0)}/s`,
      );
    }
    return (Object.keys(LABELS) as (keyof SmallFileRates)[]).map((key) =>
      pairRow(
        LABELS[key],
        ours.map((rates) => rates[key]),
        'empty mount',
        empty.map((rates) => rates[key]),
        GOALS[key],
        '/s',
      ),
    );
  },
};
