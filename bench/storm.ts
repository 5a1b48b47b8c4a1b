/** A boot storm by calculation: many readers of one file at once, with readers serving readers and without. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { curvesSvg } from './curves.ts';
import { storm, type StormResult } from './storm-model.ts';
import type { Benchmark, Row } from './types.ts';

const READER_COUNTS = [10, 100, 1_000, 10_000];
const HOLDERS = 2;
/** Of 4 MiB each. */
const BLOCKS = 32;

export const calculatedStorm: Benchmark = {
  name: 'storm',
  byNameOnly: true,
  about: 'by calculation: 10 to 10,000 readers of one file at once, readers serving readers, against without',
  async run(context) {
    const rows: Row[] = [];
    const results: { readonly readers: number; readonly shared: StormResult; readonly alone: StormResult }[] = [];
    for (const readers of READER_COUNTS) {
      const options = { readers, holders: HOLDERS, blocks: BLOCKS };
      const shared = storm({ ...options, sharing: true });
      const alone = storm({ ...options, sharing: false });
      results.push({ readers, shared, alone });
      const row = (name: string, unit: Row['unit'], value: number, without: number, goal?: Row['goal']): Row => ({
        name: `${readers} readers: ${name}`,
        value,
        unit,
        yardstick: { name: 'without sharing', value: without },
        ...(goal === undefined ? {} : { goal }),
        spread: [value, value],
      });
      rows.push(
        row('all have the file', 'ms', shared.tookMs, alone.tookMs),
        row('sent by the holders / the file', 'x', shared.holderFiles, alone.holderFiles, { atMost: 2 }),
        row('most that one reader sent', 'x', shared.mostSentFiles, 0),
      );
      await context.note(
        `${readers} readers: ${Math.round(shared.tookMs)} ms, without sharing ${Math.round(alone.tookMs)} ms`,
      );
    }
    const curve = (name: string, y: (result: (typeof results)[number]) => number) => ({
      name,
      points: results.map((result) => [result.readers, y(result)] as const),
    });
    const svg = await curvesSvg({
      title: `A file of ${BLOCKS * 4} MiB read by all at once from ${HOLDERS} holders; every uplink 50 MB/s (calculated)`,
      panels: [
        {
          ...{ x: 'readers', y: 'seconds until all have it' },
          curves: [
            curve('readers serve readers', ({ shared }) => shared.tookMs / 1_000),
            curve('holders alone', ({ alone }) => alone.tookMs / 1_000),
          ],
        },
        {
          ...{ x: 'readers', y: 'sent by the holders, files' },
          curves: [
            curve('readers serve readers', ({ shared }) => shared.holderFiles),
            curve('holders alone', ({ alone }) => alone.holderFiles),
          ],
        },
      ],
    });
    if (svg === undefined) {
      await context.note('no plot: vega is not installed; npm install vega');
    } else {
      const path = join(context.resultsDirectory, 'storm.svg');
      writeFileSync(path, svg);
      await context.note(`written: ${path}`);
    }
    return rows;
  },
};
