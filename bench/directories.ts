/**
 * Large directories: N empty files in one directory, and in a tree of 100 a directory, for N from 1,000 on, each ten times
 * the one before. What it costs for each entry to make, list, stat, walk, look up and remove them, in time and in processor
 * time of mount and nodes, and what memory these take. What is flat costs the same at every size.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TatamiError } from '../src/errors.ts';
import { median, spread } from './measure.ts';
import { cpuMs, MemoryPeaks, programs, type Program } from './programs.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

const CLIENT = fileURLToPath(new URL('./directories-client.js', import.meta.url));
const SHAPES = ['one directory', 'tree'] as const;
export type Shape = (typeof SHAPES)[number];
/** Files of one directory of the tree. */
export const FILES_A_DIRECTORY = 100;
const FIRST_COUNT = 1_000;
const WARM_UP = 'warm-up';
/** What the others are held against: at the first size much of the time is start and compiler. */
const BASE_COUNT = 10_000;
const DEFAULT_LARGEST_COUNT = 100_000;
/** Made through the mount, after the others were made by the library: one program at a time is all that the kernel lets into a directory. */
const BY_MOUNT_COUNT = 1_000;
const LOOKUP_COUNT = 2_000;
/** Up to this size a step is so short that it is repeated. */
const REPEAT_UP_TO_COUNT = 10_000;
const REPEATS = 3;
/** "Flat within 1.5 times." */
const GOAL = 1 / 1.5;
/** Names and attributes are kept for less than by default, so that a step need not wait a minute to find nothing of the one before. */
const KEPT_LEAST_S = 10;
/** But for longer than a program takes from reading a name to looking at it. */
const NAMES_A_SECOND = 20_000;
const QUIET_LOOK_MS = 2_000;
/** Of one processor, all nodes together. */
const QUIET_SHARE = 0.1;
const QUIET_WAIT_MOST_MS = 300_000;
const MOUNT_MOST_MIB = 512;
const NODE_MOST_MIB = 300;

interface Measured {
  readonly rates: readonly number[];
  /** Of mount and of all nodes, microseconds for each entry. */
  readonly mountUs: number;
  readonly nodesUs: number;
}

/** By step. */
type Steps = Map<string, Measured>;

export const largeDirectories: Benchmark = {
  name: 'directories',
  about: 'directories and trees of 1,000 files and more (--entries N: up to N): each step per entry, and memory',
  byNameOnly: true,
  async run(context) {
    const data = context.dataDirectory;
    if (data === undefined) return [];
    const largest = context.largestDirectoryCount ?? DEFAULT_LARGEST_COUNT;
    const rows: Row[] = [];
    // The other mount has nothing to do.
    const idle = new Set(programs(data).map(({ role, pid }) => (role === 'mount' ? pid : 0)));
    const keptS = Math.max(KEPT_LEAST_S, Math.ceil(largest / NAMES_A_SECOND));
    await context.withMount(['--metadata-cache', String(keptS)], async (base) => {
      mkdirSync(base);
      const running = programs(data).filter(({ pid }) => !idle.has(pid));
      const memory = new MemoryPeaks(running);
      const place: Place = { context, data, running, memory, base, coldAfterMs: 1_200 * keptS };
      try {
        for (const shape of SHAPES) rows.push(...(await measureShape(place, shape, largest)));
      } finally {
        await memory.close();
      }
    });
    return rows;
  },
};

interface Place {
  readonly context: BenchContext;
  readonly data: string;
  readonly running: readonly Program[];
  readonly memory: MemoryPeaks;
  /** A directory on the mount. */
  readonly base: string;
  /** What mount and kernel have learned is not believed any more. */
  readonly coldAfterMs: number;
}

async function measureShape(place: Place, shape: Shape, largest: number): Promise<Row[]> {
  const { context, running, memory } = place;
  const rows: Row[] = [];
  // Once beforehand, so that what is measured is compiled in all processes.
  await measure(place, shape, Math.min(BASE_COUNT, largest), WARM_UP);
  let base: Steps | undefined;
  for (let count = FIRST_COUNT; count <= largest; count *= 10) {
    memory.reset();
    const steps = await measure(place, shape, count, `of-${count}`);
    if (count === BASE_COUNT) base = steps;
    const label = `${shape}, ${count.toLocaleString('en')}`;
    for (const [step, measured] of steps) rows.push(rateRow(`${label}: ${step}`, measured, base?.get(step)));
    for (const program of running) rows.push(await memoryRow(context, label, program, memory.mostMiB(program.pid)));
  }
  return rows;
}

function rateRow(name: string, measured: Measured, base: Measured | undefined): Row {
  const value = median(measured.rates);
  const row = { name, value, unit: '/s', spread: spread(measured.rates) } as const;
  if (base === undefined || base === measured) return row;
  const reference = median(base.rates);
  const yardstick = { name: `at ${BASE_COUNT.toLocaleString('en')}`, value: reference };
  return { ...row, yardstick, ratio: value / reference, goal: { atLeast: GOAL } };
}

async function memoryRow(context: BenchContext, label: string, program: Program, value: number): Promise<Row> {
  await context.note(`${label}: ${program.name}, most memory ${value.toFixed(0)} MiB`);
  const goal = { atMost: program.role === 'mount' ? MOUNT_MOST_MIB : NODE_MOST_MIB };
  return { name: `${label}: ${program.name}, most memory`, value, unit: 'MiB', goal, spread: [value, value] };
}

async function measure(place: Place, shape: Shape, count: number, name: string): Promise<Steps> {
  const { context, data, running, base } = place;
  const directory = join(base, `${shape.replace(' ', '-')}-${name}`);
  const steps: Steps = new Map();
  const step = async (what: string, entries: number, repeats: number, work: () => number): Promise<void> => {
    const rates: number[] = [];
    let [mountMs, nodesMs] = [0, 0];
    for (let repeat = 0; repeat < repeats; repeat++) {
      // What mount and kernel have learned in the step before is not believed any more.
      if (name !== WARM_UP) await sleep(place.coldAfterMs);
      const before = cpuMs(running);
      rates.push(work());
      const after = cpuMs(running);
      mountMs += after.mountMs - before.mountMs;
      nodesMs += after.nodesMs - before.nodesMs;
    }
    const [mountUs, nodesUs] = [mountMs, nodesMs].map((ms) => (ms * 1_000) / (entries * repeats)) as [number, number];
    steps.set(what, { rates, mountUs, nodesUs });
    await context.note(
      `${shape}, ${count}${name === WARM_UP ? ' (warm-up)' : ''}: ${what} ${median(rates).toFixed(0)} /s; ` +
        `${mountUs.toFixed(0)} us of the mount's processor time and ${nodesUs.toFixed(0)} us of the nodes' for each`,
    );
  };
  const timed = (entries: number, work: () => void) => () => {
    const started = performance.now();
    work();
    return (entries * 1_000) / (performance.now() - started);
  };

  const byMount = Math.min(BY_MOUNT_COUNT, count / 2);
  const byLibrary = count - byMount;
  mkdirSync(directory);
  await step('create by the library, 64 at once, last quarter', byLibrary, 1, () => {
    const args = [CLIENT, data, `/${basename(base)}/${basename(directory)}`, shape, String(byLibrary)];
    return Number(execFileSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' }));
  });
  await untilQuiet(place);
  await step(
    'create+close',
    byMount,
    1,
    timed(byMount, () => {
      for (let index = byLibrary; index < count; index++) {
        if (shape === 'tree' && index % FILES_A_DIRECTORY === 0) mkdirSync(join(directory, directoryOf(index)));
        closeSync(openSync(join(directory, pathOf(shape, index)), 'wx'));
      }
    }),
  );

  const repeats = count <= REPEAT_UP_TO_COUNT ? REPEATS : 1;
  const directories = shape === 'tree' ? Math.ceil(count / FILES_A_DIRECTORY) : 0;
  const lists = (script: string, expected: number) => timed(count, () => expectLines(script, directory, expected));
  const recursive = shape === 'tree' ? 'R' : '';
  // Blank lines, headings and totals of `ls -R`, and of `ls -f` the entries . and ..
  const [namesLines, statsLines] =
    shape === 'tree' ? [count + 5 * directories + 3, count + 4 * directories + 2] : [count + 2, count + 1];
  await step('readdir (ls -f)', count, repeats, lists(`ls -f${recursive}`, namesLines));
  await step('readdir and stat (ls -lU)', count, repeats, lists(`ls -lU${recursive}`, statsLines));
  await step('find', count, repeats, lists('find', count + directories + 1));
  await step('du', count, repeats, lists('du -s', 1));
  await step(
    'stat of a name at random',
    LOOKUP_COUNT,
    repeats,
    timed(LOOKUP_COUNT, () => {
      for (let done = 0, index = 0; done < LOOKUP_COUNT; done++) {
        index = (index + LOOKUP_STEP) % count;
        statSync(join(directory, pathOf(shape, index)));
      }
    }),
  );
  await step(
    'rm -r',
    count,
    1,
    timed(count, () => execFileSync('rm', ['-r', directory])),
  );
  return steps;
}

/** After as many files as a library makes in a minute, nodes put their tables together for some time: that is not how large the directory is. */
async function untilQuiet({ context, running }: Place): Promise<void> {
  const startedMs = performance.now();
  for (;;) {
    const before = cpuMs(running).nodesMs;
    await sleep(QUIET_LOOK_MS);
    const waitedMs = performance.now() - startedMs;
    if (cpuMs(running).nodesMs - before < QUIET_LOOK_MS * QUIET_SHARE || waitedMs > QUIET_WAIT_MOST_MS) {
      return await context.note(`nodes are quiet after ${(waitedMs / 1_000).toFixed(0)} s`);
    }
  }
}

/** Prime, and no divisor of a size: names come in no order, and none twice before all others. */
const LOOKUP_STEP = 611_953;

/** Path of a file within its directory or tree. Names without leading zeros: their order is not that of their making. */
export function pathOf(shape: Shape, index: number): string {
  return shape === 'tree' ? `${directoryOf(index)}/file-${index}` : `file-${index}`;
}

export function directoryOf(index: number): string {
  return `directory-${Math.floor(index / FILES_A_DIRECTORY)}`;
}

/** Runs a command on the directory; every entry must be told, none twice. */
function expectLines(command: string, directory: string, expected: number): void {
  const script = `set -o pipefail; ${command} "$0" | wc -l`;
  const ran = spawnSync('bash', ['-c', script, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  const lines = Number(ran.stdout);
  if (ran.status === 0 && lines === expected) return;
  throw new TatamiError('ERR_BENCH', `${command} ended with ${ran.status} and told ${lines} lines, not ${expected}`);
}
