/** Resident memory of the mount and the nodes while a file four times the usual size streams in and out. */
import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { MiB } from '../src/limits.ts';
import type { Benchmark, Row } from './types.ts';

const STREAMER = fileURLToPath(new URL('./streamer.js', import.meta.url));
const SAMPLE_MS = 250;
const MOUNT_MOST_MIB = 512;
const NODE_MOST_MIB = 300;

export const memoryWhileStreaming: Benchmark = {
  name: 'memory',
  about: 'resident memory of mount and nodes while streaming 4 times the size, in and out',
  async run(context) {
    if (context.dataDirectory === undefined) return [];
    const path = join(context.mountDirectory, 'stream');
    const samples = { mount: [] as number[], node: [] as number[] };
    const runDirectory = join(context.dataDirectory, 'run');
    const timer = setInterval(() => {
      for (const name of readdirSync(runDirectory).filter((file) => file.endsWith('.json'))) {
        const { role, pid } = JSON.parse(readFileSync(join(runDirectory, name), 'utf8')) as {
          role: string;
          pid: number;
        };
        const resident = residentMiB(pid);
        if (resident !== undefined) samples[role === 'mount' ? 'mount' : 'node'].push(resident);
      }
    }, SAMPLE_MS);
    try {
      const child = fork(STREAMER, [path, String(4 * context.sizeBytes)]);
      const code = await new Promise((resolve) => child.once('close', resolve));
      if (code !== 0) throw new Error(`the streamer ended with code ${String(code)}`);
    } finally {
      clearInterval(timer);
      rmSync(path, { force: true });
    }
    return [
      memoryRow('mount process, most resident', samples.mount, MOUNT_MOST_MIB),
      memoryRow('node process, most resident', samples.node, NODE_MOST_MIB),
      lateRow('mount process, second half / first half', samples.mount),
      lateRow('node process, second half / first half', samples.node),
    ];
  },
};

function memoryRow(name: string, samples: readonly number[], atMost: number): Row {
  const most = Math.max(...samples);
  return { name, value: most, unit: 'MiB', goal: { atMost }, spread: [Math.min(...samples), most] };
}

/** Flat over time: the mean of the second half is not above that of the first by more than a fifth. */
function lateRow(name: string, samples: readonly number[]): Row {
  const middle = Math.floor(samples.length / 2);
  const mean = (part: readonly number[]) => part.reduce((sum, value) => sum + value, 0) / Math.max(1, part.length);
  const first = mean(samples.slice(0, middle));
  const second = mean(samples.slice(middle));
  return {
    name,
    value: second,
    unit: 'MiB',
    yardstick: { name: 'first half', value: first },
    ratio: second / first,
    goal: { atMost: 1.2 },
    spread: [first, second],
  };
}

function residentMiB(pid: number): number | undefined {
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
    return (pages * 4096) / MiB;
  } catch {
    return undefined;
  }
}
