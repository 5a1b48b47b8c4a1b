/**
 * Eight readers, each on a machine of its own (a network namespace with an uplink of 50 MB/s), read one file at once that
 * two other machines hold: with readers serving readers, against without.
 */
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/limits.ts';
import { median, spread } from './measure.ts';
import { NetHosts, type HostProcess } from './net-hosts.ts';
import { tatami } from './tatami.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

const CLIENT = fileURLToPath(new URL('./boot-storm-client.js', import.meta.url));
const TATAMI = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const HOLDERS = 2;
const READERS = 8;
const UPLINK_MEGABITS = 400;
const SIZE_MOST_BYTES = 512 * MiB;

interface Storm {
  readonly megabytesPerSecond: number;
  /** As a multiple of the file. */
  readonly sentByHolders: number;
}

async function said(child: HostProcess, wanted: RegExp): Promise<string> {
  let text = '';
  child.stdout.setEncoding('utf8');
  for (;;) {
    const [chunk] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown];
    if (typeof chunk !== 'string') throw new Error(`a process ended early: ${text}`);
    text += chunk;
    const found = wanted.exec(text);
    if (found !== null) return found[0];
  }
}

async function storm(hosts: NetHosts, mode: 'share' | 'alone', args: string[], sizeBytes: number): Promise<Storm> {
  const readers = Array.from({ length: READERS }, (_, index) =>
    hosts.spawn(HOLDERS + 1 + index, CLIENT, mode, ...args, String(sizeBytes)),
  );
  try {
    await Promise.all(readers.map((reader) => said(reader, /ready\n/)));
    const sentByHolders = (): number =>
      Array.from({ length: HOLDERS }, (_, index) => hosts.sentBytes(index + 1)).reduce((sum, sent) => sum + sent, 0);
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

async function measure(context: BenchContext, hosts: NetHosts, nodes: HostProcess[]): Promise<readonly Row[]> {
  const directory = join(context.workDirectory, 'boot-storm');
  mkdirSync(directory);
  const key = join(directory, 'key');
  const sizeBytes = Math.min(context.sizeBytes, SIZE_MOST_BYTES);
  const addresses = [1, 2].map((host) => `${hosts.address(host)}:7400`);
  const [first = '', second = ''] = addresses;
  const data = (host: number) => join(directory, `n${host}`);
  const own = (host: number) => ['--data', data(host), '--key-file', key];
  tatami('init', ...own(1), '--listen', first, '--id', 'n1', '--host', 'h1', '--copies', '2');
  const start = async (host: number, ...args: string[]) => {
    const node = hosts.spawn(host, TATAMI, 'node', ...args);
    nodes.push(node);
    await said(node, /serves at/);
    node.stdout.resume();
  };
  await start(1, ...own(1));
  await start(2, 'join', first, ...own(2), '--listen', second, '--id', 'n2', '--host', 'h2');
  const args = [addresses.join(','), key];
  const writer = hosts.spawn(HOLDERS + 1, CLIENT, 'write', ...args, String(sizeBytes));
  const [code] = (await once(writer, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`the writer ended with ${code}`);
  const alone: Storm[] = [];
  const shared: Storm[] = [];
  for (let round = 0; round < context.rounds; round++) {
    alone.push(await storm(hosts, 'alone', args, sizeBytes));
    shared.push(await storm(hosts, 'share', args, sizeBytes));
    const words = ({ megabytesPerSecond, sentByHolders }: Storm) =>
      `${megabytesPerSecond.toFixed(0)} MB/s in all, holders sent ${sentByHolders.toFixed(2)} x the file`;
    const [without, sharing] = [alone.at(-1), shared.at(-1)];
    if (without === undefined || sharing === undefined) break;
    await context.note(`boot storm round ${round + 1}: ${words(without)}; sharing: ${words(sharing)}`);
  }
  const speeds = shared.map(({ megabytesPerSecond }) => megabytesPerSecond);
  const speedsAlone = alone.map(({ megabytesPerSecond }) => megabytesPerSecond);
  const sent = shared.map(({ sentByHolders }) => sentByHolders);
  return [
    {
      name: `${READERS} readers at once, all together`,
      value: median(speeds),
      unit: 'MB/s',
      yardstick: { name: 'without sharing', value: median(speedsAlone) },
      ratio: median(speeds.map((speed, round) => speed / (speedsAlone[round] ?? NaN))),
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
    const hosts = new NetHosts(HOLDERS + READERS, UPLINK_MEGABITS);
    const nodes: HostProcess[] = [];
    try {
      return await measure(context, hosts, nodes);
    } finally {
      const exits = nodes.filter((node) => node.exitCode === null).map((node) => once(node, 'exit'));
      for (const node of nodes) node.kill('SIGKILL');
      await Promise.all(exits);
      hosts.destroy();
      rmSync(join(context.workDirectory, 'boot-storm'), { recursive: true, force: true });
    }
  },
};
