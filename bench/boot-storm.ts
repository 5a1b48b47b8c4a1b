/**
 * Eight readers, each on a machine of its own (a network namespace with an uplink of 50 MB/s), read one file at once that
 * two other machines hold: with readers serving readers, against without.
 */
import { once } from 'node:events';
import { MiB } from '../src/limits.ts';
import { median, spread } from './measure.ts';
import { NetCluster, said } from './net-cluster.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

const HOLDERS = 2;
const READERS = 8;
const UPLINK_MEGABITS = 400;
const SIZE_MOST_BYTES = 512 * MiB;

interface Storm {
  readonly megabytesPerSecond: number;
  /** As a multiple of the file. */
  readonly sentByHolders: number;
}

async function storm(cluster: NetCluster, mode: 'share' | 'alone', sizeBytes: number): Promise<Storm> {
  const readers = Array.from({ length: READERS }, (_, index) => cluster.client(index + 1, mode, sizeBytes));
  try {
    await Promise.all(readers.map((reader) => said(reader, /ready\n/)));
    const sentByHolders = (): number =>
      Array.from({ length: HOLDERS }, (_, index) => cluster.hosts.sentBytes(index + 1)).reduce((a, b) => a + b, 0);
    const before = sentByHolders();
    const started = performance.now();
    const done = readers.map((reader) => said(reader, /[\d.]+\n/));
    for (const reader of readers) reader.stdin.write('go\n');
    await Promise.all(done);
    const ms = performance.now() - started;
    const sent = sentByHolders() - before;
    const exits = readers.map((reader) => once(reader, 'exit'));
    for (const reader of readers) reader.stdin.write('end\n');
    await Promise.all(exits);
    return { megabytesPerSecond: (READERS * sizeBytes) / 1000 / ms, sentByHolders: sent / sizeBytes };
  } finally {
    for (const reader of readers) reader.kill('SIGKILL');
  }
}

async function measure(context: BenchContext, cluster: NetCluster): Promise<readonly Row[]> {
  const sizeBytes = Math.min(context.sizeBytes, SIZE_MOST_BYTES);
  await cluster.start(HOLDERS);
  await cluster.write(sizeBytes);
  const rounds: { readonly alone: Storm; readonly shared: Storm }[] = [];
  for (let round = 0; round < context.rounds; round++) {
    const alone = await storm(cluster, 'alone', sizeBytes);
    const shared = await storm(cluster, 'share', sizeBytes);
    rounds.push({ alone, shared });
    const words = ({ megabytesPerSecond, sentByHolders }: Storm) =>
      `${megabytesPerSecond.toFixed(0)} MB/s in all, holders sent ${sentByHolders.toFixed(2)} x the file`;
    await context.note(`boot storm round ${round + 1}: ${words(alone)}; sharing: ${words(shared)}`);
  }
  const speeds = rounds.map(({ shared }) => shared.megabytesPerSecond);
  const sent = rounds.map(({ shared }) => shared.sentByHolders);
  return [
    {
      name: `${READERS} readers at once, all together`,
      value: median(speeds),
      unit: 'MB/s',
      yardstick: { name: 'without sharing', value: median(rounds.map(({ alone }) => alone.megabytesPerSecond)) },
      ratio: median(rounds.map(({ alone, shared }) => shared.megabytesPerSecond / alone.megabytesPerSecond)),
      goal: { atLeast: 2 },
      spread: spread(speeds),
    },
    {
      name: '  sent by the holders / the file',
      value: median(sent),
      unit: 'x',
      goal: { atMost: 2 },
      spread: spread(sent),
    },
  ];
}

export const bootStorm: Benchmark = {
  name: 'boot-storm',
  byNameOnly: true,
  about: 'eight machines with 50 MB/s each read one file at once, readers serving readers, against without',
  async run(context) {
    const cluster = new NetCluster(context.workDirectory, HOLDERS, READERS, UPLINK_MEGABITS);
    try {
      return await measure(context, cluster);
    } finally {
      await cluster.destroy();
    }
  },
};
