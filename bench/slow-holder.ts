/**
 * One of three holders stops and goes on (SIGSTOP, SIGCONT), again and again: what whole blocks take a program then,
 * against the same reads without that. Three nodes, three copies of each block, all read through the nodes.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/limits.ts';
import { median, spread } from './measure.ts';
import { tatami } from './tatami.ts';
import type { Benchmark } from './types.ts';

const CLIENT = fileURLToPath(new URL('./slow-holder-client.js', import.meta.url));
/** No group's primary or secondary is there in a new cluster: it is the blocks that are looked at. */
const SLOW_NODE = 'n3';
const STOPPED_MS = 400;
const RUNNING_MS = 400;
const READS = 600;
/** 256 blocks and more: with the reads in random order none is in the client's cache. */
const FILE_BYTES_LEAST = 512 * MiB;
const GOAL = 2;

interface Client {
  readonly latencies: Promise<readonly number[]>;
  /** Warm, and connected to every holder: one that is stopped before is not asked at all. */
  readonly ready: Promise<unknown>;
  readonly isRunning: () => boolean;
}

function client(mode: 'write' | 'read', data: string, sizeBytes: number): Client {
  const child = spawn(process.execPath, [CLIENT, mode, data, String(sizeBytes), String(READS)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ready = once(child.stdout, 'data');
  const ended = once(child, 'close').then(() => {
    if (child.exitCode !== 0) throw new Error(`the client ended with ${child.exitCode}`);
    return JSON.parse(said.replace('ready\n', '')) as number[];
  });
  return { latencies: ended, ready, isRunning: () => child.exitCode === null && child.signalCode === null };
}

/** Stops the process in bursts while `goOn`. */
async function stopInBursts(pid: number, goOn: () => boolean): Promise<void> {
  try {
    while (goOn()) {
      process.kill(pid, 'SIGSTOP');
      await sleep(STOPPED_MS);
      process.kill(pid, 'SIGCONT');
      await sleep(RUNNING_MS);
    }
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

/** By the process, from its files: shows whether the slow holder took part at all. */
function bytesRead(pid: number): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1] ?? NaN);
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

export const slowHolder: Benchmark = {
  name: 'slow-holder',
  byNameOnly: true,
  about: 'p99 of reading whole blocks while one of three holders stops and goes on, against without',
  async run(context) {
    const data = join(context.workDirectory, 'slow-holder');
    const sizeBytes = Math.max(context.sizeBytes, FILE_BYTES_LEAST);
    const steady: number[] = [];
    const bursts: number[] = [];
    tatami('up', '--data', data, '--no-mount', '--detach', '--nodes', '3', '--copies', '3');
    try {
      await client('write', data, sizeBytes).latencies;
      const record = JSON.parse(readFileSync(join(data, 'run', `${SLOW_NODE}.json`), 'utf8')) as { pid: number };
      for (let round = 0; round < context.rounds; round++) {
        const without = await client('read', data, sizeBytes).latencies;
        const reader = client('read', data, sizeBytes);
        await reader.ready;
        const servedBefore = bytesRead(record.pid);
        const [during] = await Promise.all([reader.latencies, stopInBursts(record.pid, reader.isRunning)]);
        const served = (bytesRead(record.pid) - servedBefore) / MiB;
        steady.push(percentile(without, 0.99));
        bursts.push(percentile(during, 0.99));
        const words = (name: string, values: readonly number[]) =>
          `${name} p50 ${percentile(values, 0.5).toFixed(1)}, p95 ${percentile(values, 0.95).toFixed(1)}, p99 ` +
          `${percentile(values, 0.99).toFixed(1)}, most ${Math.max(...values).toFixed(0)} ms`;
        await context.note(
          `slow holder round ${round + 1}: ${words('without', without)}; ${words('with', during)}; it served ${served.toFixed(0)} MiB meanwhile`,
        );
      }
    } finally {
      tatami('down', '--data', data);
      rmSync(data, { recursive: true, force: true });
    }
    const ratios = bursts.map((value, round) => value / (steady[round] ?? NaN));
    return [
      {
        name: 'p99 of 4 MiB reads, one holder of three slow',
        value: median(bursts),
        unit: 'ms',
        yardstick: { name: 'no holder slow', value: median(steady) },
        ratio: median(ratios),
        goal: { atMost: GOAL },
        spread: spread(bursts),
      },
    ];
  },
};
