/**
 * The measurement: in each round every system in turn, each set up on an empty directory, measured and taken away before
 * the next, so that only one of them runs at a time; the yardsticks in the same round.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TatamiError } from '../../src/errors.ts';
import { withEmptyMount } from '../empty-mount.ts';
import { dropPageCache } from '../measure.ts';
import { glusterFs } from './gluster.ts';
import { mooseFs } from './moosefs.ts';
import { PeerSystem } from './system.ts';
import { tatamiFs } from './tatami-peer.ts';
import type { PeerKind, Step, StepResult } from './types.ts';
import type { Job, WorkerMessage } from './workloads.ts';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

/** Steps that follow each other in one process; before each group but the first everything is started afresh. */
const PHASES: readonly (readonly Step[])[] = [
  ['write'],
  ['read'],
  ['read4'],
  ['random', 'randomLater'],
  ['create', 'createLater'],
  ['list', 'readSmall', 'readSmallAgain', 'unlink', 'listLater', 'readSmallLater', 'unlinkLater'],
];

/** Ours first. */
export function allSystems(version: string): PeerKind[] {
  return [tatamiFs(version), glusterFs, mooseFs];
}

export interface CompareOptions {
  /** On the disk under test; what is made in there is removed. */
  readonly workDirectory: string;
  readonly sizeBytes: number;
  readonly smallFileCount: number;
  readonly rounds: number;
  readonly signal: AbortSignal;
  readonly note: (line: string) => void;
}

export type Results = Partial<Record<Step, StepResult>>;

export interface Round {
  /** By the system's name. */
  readonly systems: Readonly<Record<string, Results>>;
  readonly raw: Results;
  readonly empty: Results;
}

export async function compare(all: readonly PeerKind[], options: CompareOptions): Promise<Round[]> {
  const rounds: Round[] = [];
  for (let round = 0; round < options.rounds; round++) {
    const raw = await rawDisk(options);
    const empty = await emptyMount(options);
    const systems: Record<string, Results> = {};
    // Whoever is first in one round is last in the next.
    for (let turn = 0; turn < all.length; turn++) {
      const kind = all[(turn + round) % all.length];
      if (kind === undefined) continue;
      const results = await measure(kind, join(options.workDirectory, `system-${turn}`), options);
      systems[kind.name] = results;
      options.note(`round ${round + 1} of ${options.rounds}: ${kind.name}: ${inShort(results)}`);
    }
    rounds.push({ systems, raw, empty });
  }
  return rounds;
}

function inShort(results: Results): string {
  return Object.entries(results)
    .map(([step, { value }]) => `${step} ${value.toFixed(0)}`)
    .join(', ');
}

async function measure(kind: PeerKind, directory: string, options: CompareOptions): Promise<Results> {
  const { signal } = options;
  const system = new PeerSystem(kind, directory);
  try {
    signal.throwIfAborted();
    await system.setUp();
    await system.mount();
    dropPageCache();
    const results: Results = {};
    for (const [index, steps] of PHASES.entries()) {
      signal.throwIfAborted();
      if (index > 0) await system.restartCold();
      signal.throwIfAborted();
      const { sandbox } = system;
      const start = (job: string): ChildProcess => sandbox.fork(WORKER, [job]);
      const kill = (child: ChildProcess): void => sandbox.killForked(child);
      Object.assign(results, await work({ steps, directory: system.mountPoint, large: 'large' }, options, start, kill));
    }
    return results;
  } finally {
    await system.tearDown();
  }
}

type Work = Pick<Job, 'steps' | 'directory' | 'large'>;

/** One worker's steps. Rejects when the worker fails, and when the signal comes, after it has been ended. */
async function work(
  what: Work,
  options: CompareOptions,
  start: (job: string) => ChildProcess,
  kill: (child: ChildProcess) => void,
): Promise<Results> {
  const { sizeBytes, smallFileCount, signal, workDirectory } = options;
  const job: Job = { ...what, sizeBytes, smallFileCount, device: statSync(workDirectory).dev };
  const child = start(JSON.stringify(job));
  const onAbort = (): void => kill(child);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await new Promise<Results>((resolve, reject) => {
      const results: Results = {};
      let failure = 'it ended without a word';
      child.on('message', (message: WorkerMessage) => {
        if (message.kind === 'failed') failure = message.message;
        else results[message.result.step] = message.result;
      });
      child.once('error', reject);
      child.once('close', (code) => {
        if (signal.aborted) reject(signal.reason as Error);
        else if (code === 0) resolve(results);
        else reject(new TatamiError('ERR_BENCH', `${what.steps.join(', ')} in ${what.directory}: ${failure}`));
      });
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** The work of a yardstick is done out here, where no namespace is. */
function workHere(what: Work, options: CompareOptions): Promise<Results> {
  const start = (job: string): ChildProcess => fork(WORKER, [job], { execArgv: [] });
  return work(what, options, start, (child) => void child.kill('SIGKILL'));
}

async function rawDisk(options: CompareOptions): Promise<Results> {
  const large = 'raw-disk';
  const results: Results = {};
  try {
    for (const step of ['write', 'read', 'read4', 'random'] as const) {
      options.signal.throwIfAborted();
      dropPageCache();
      Object.assign(results, await workHere({ steps: [step], directory: options.workDirectory, large }, options));
    }
    return results;
  } finally {
    rmSync(join(options.workDirectory, large), { force: true });
  }
}

async function emptyMount(options: CompareOptions): Promise<Results> {
  return withEmptyMount(options, async (directory) => {
    const results: Results = {};
    for (const step of ['read', 'read4'] as const) {
      // Else it would be the kernel's own pages, and not the filesystem's answer.
      dropPageCache();
      Object.assign(results, await workHere({ steps: [step], directory, large: 'zeros' }, options));
    }
    return results;
  });
}
