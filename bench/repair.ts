/**
 * Two of five nodes are lost for good, one after the other (SIGKILL): how long until each block has its three copies again,
 * and how fast a program reads meanwhile, against the same program just before. No read may fail.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findCluster } from '../src/cli/cluster-files.ts';
import { realEnv } from '../src/cli/real-env.ts';
import { connectCatalog } from '../src/client.ts';
import { repairProgress } from '../src/upkeep/repair-progress.ts';
import { collectStatus } from '../src/upkeep/status.ts';
import { median, spread } from './measure.ts';
import { tatami } from './tatami.ts';
import type { Benchmark } from './types.ts';

const CLIENT = fileURLToPath(new URL('./repair-client.js', import.meta.url));
/** Neither is primary nor secondary: it is the blocks that are looked at. */
const LOST = ['n5', 'n4'] as const;
const AFTER = '5s';
const STEADY_MS = 10_000;
const LOOK_MS = 500;
const DEADLINE_MS = 600_000;
const GOAL = 0.7;

/** By a connection of this process: to start the command again and again would take what is to be measured. */
async function watch(data: string) {
  const where = await findCluster({ data });
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: 'bench' });
  return {
    isOut: async (id: string) =>
      (await collectStatus(client)).nodes.some((node) => node.id === id && node.out === true),
    progress: async () => repairProgress(await collectStatus(client)),
    close: () => client.close(),
  };
}

interface Reader {
  /** So far. */
  readonly bytes: () => number;
  /** Rejects if a read failed. */
  stop(): Promise<void>;
}

function reader(data: string, sizeBytes: number): Reader {
  const child = spawn(process.execPath, [CLIENT, 'read', data, String(sizeBytes)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let bytes = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => (bytes = Number(text.trim().split('\n').at(-1))));
  const closed = once(child, 'close');
  return {
    bytes: () => {
      if (child.exitCode !== null) throw new Error(`a read failed: the reader ended with ${child.exitCode}`);
      return bytes;
    },
    async stop() {
      child.stdin.end();
      await closed;
      if (child.exitCode !== 0) throw new Error(`a read failed: the reader ended with ${child.exitCode}`);
    },
  };
}

/** Bytes a second (in MB) that the reader gets while `work` lasts. */
async function speedDuring(from: Reader, work: () => Promise<void>): Promise<number> {
  const [bytes, startMs] = [from.bytes(), performance.now()];
  await work();
  return (from.bytes() - bytes) / (performance.now() - startMs) / 1_000;
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + DEADLINE_MS;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error('the copies were not all made in time');
    await sleep(LOOK_MS);
  }
}

export const repairUnderReads: Benchmark = {
  name: 'repair',
  byNameOnly: true,
  about: 'two of five nodes lost, one after the other: time until all copies are back, and reading meanwhile',
  async run(context) {
    const data = join(context.workDirectory, 'repair');
    const before: number[] = [];
    const during: number[] = [];
    const rates: number[] = [];
    const times: number[] = [];
    tatami('up', '--data', data, '--no-mount', '--detach', '--nodes', '5', '--copies', '3');
    try {
      execFileSync(process.execPath, [CLIENT, 'write', data, String(context.sizeBytes)], { stdio: 'inherit' });
      tatami('repair', '--data', data, '--after', AFTER);
      const watched = await watch(data);
      const reading = reader(data, context.sizeBytes);
      for (const lost of LOST) {
        await until(() => reading.bytes() > 0);
        await sleep(STEADY_MS / 2);
        const steady = await speedDuring(reading, () => sleep(STEADY_MS));
        const record = JSON.parse(readFileSync(join(data, 'run', `${lost}.json`), 'utf8')) as { pid: number };
        process.kill(record.pid, 'SIGKILL');
        await until(() => watched.isOut(lost));
        const copiedBefore = (await watched.progress()).copiedBytes;
        const startMs = performance.now();
        const meanwhile = await speedDuring(reading, () => until(async () => (await watched.progress()).done));
        const tookMs = performance.now() - startMs;
        const megabytes = ((await watched.progress()).copiedBytes - copiedBefore) / 1e6;
        before.push(steady);
        during.push(meanwhile);
        rates.push((megabytes * 1_000) / tookMs);
        times.push(tookMs);
        await context.note(
          `${lost} lost: ${megabytes.toFixed(0)} MB copied in ${(tookMs / 1_000).toFixed(1)} s; reading ${steady.toFixed(0)} MB/s before, ${meanwhile.toFixed(0)} meanwhile`,
        );
      }
      await reading.stop();
      await watched.close();
      // Names what lacks a copy, if anything does.
      tatami('fsck', '--data', data);
    } finally {
      tatami('down', '--data', data);
      rmSync(data, { recursive: true, force: true });
    }
    return [
      {
        name: 'reading during repair',
        value: median(during),
        unit: 'MB/s',
        yardstick: { name: 'just before', value: median(before) },
        ratio: median(during.map((value, index) => value / (before[index] ?? NaN))),
        goal: { atLeast: GOAL },
        spread: spread(during),
      },
      { name: '  copies made meanwhile', value: median(rates), unit: 'MB/s', spread: spread(rates) },
      { name: '  until all copies are back', value: median(times), unit: 'ms', spread: spread(times) },
    ];
  },
};
