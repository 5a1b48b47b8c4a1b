/** One reader of one file that 1, 2 or 4 machines hold, each with an uplink of 50 MB/s: the machines' uplinks add up. */
import { MiB } from '../src/limits.ts';
import { median, megabytesPerSecond, spread } from './measure.ts';
import { NetCluster, said } from './net-cluster.ts';
import type { Benchmark, Row } from './types.ts';

const NODE_COUNTS = [1, 2, 4];
const UPLINK_MEGABITS = 400;
const UPLINK_BYTES_PER_MS = UPLINK_MEGABITS * 125;
/** Of the uplinks together. */
const GOAL = 0.7;
const SIZE_MOST_BYTES = 512 * MiB;

async function read(cluster: NetCluster, sizeBytes: number): Promise<number> {
  const reader = cluster.client(1, 'alone', sizeBytes);
  try {
    await said(reader, /ready\n/);
    const done = said(reader, /[\d.]+\n/);
    reader.stdin.write('go\n');
    return megabytesPerSecond(sizeBytes, Number(await done));
  } finally {
    reader.kill('SIGKILL');
  }
}

export const scaleOut: Benchmark = {
  name: 'scale-out',
  byNameOnly: true,
  about: 'one reader of one file from 1, 2 and 4 machines with 50 MB/s each, against their uplinks together',
  async run(context) {
    const rows: Row[] = [];
    const sizeBytes = Math.min(context.sizeBytes, SIZE_MOST_BYTES);
    for (const nodeCount of NODE_COUNTS) {
      const cluster = new NetCluster(context.workDirectory, nodeCount, 1, UPLINK_MEGABITS);
      try {
        await cluster.start(1);
        await cluster.write(sizeBytes);
        const speeds: number[] = [];
        for (let round = 0; round < context.rounds; round++) speeds.push(await read(cluster, sizeBytes));
        const uplinks = (nodeCount * UPLINK_BYTES_PER_MS) / 1_000;
        await context.note(`one reader from ${nodeCount} machine(s): ${median(speeds).toFixed(0)} MB/s`);
        rows.push({
          name: `one reader, ${nodeCount} machine${nodeCount === 1 ? '' : 's'}`,
          value: median(speeds),
          unit: 'MB/s',
          yardstick: { name: 'their uplinks', value: uplinks },
          ratio: median(speeds) / uplinks,
          goal: { atLeast: GOAL },
          spread: spread(speeds),
        });
      } finally {
        await cluster.destroy();
      }
    }
    return rows;
  },
};
