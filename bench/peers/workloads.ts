/** The work: the same for every system, done by a process of its own (worker.ts) with nothing else in it. */
import { join } from 'node:path';
import { rmSync } from 'node:fs';
import { KiB, MiB } from '../../src/limits.ts';
import {
  createFiles,
  megabytesPerSecond,
  randomReads,
  readFileTimed,
  readFiles,
  readParallelTimed,
  smallFiles,
  statsOf,
  unlinkFiles,
  writeFileTimed,
} from '../measure.ts';
import type { Step, StepResult } from './types.ts';

export interface Job {
  /** One after the other, in one process. */
  readonly steps: readonly Step[];
  /** Inside the mount (or, for the yardsticks, wherever). */
  readonly directory: string;
  readonly sizeBytes: number;
  readonly smallFileCount: number;
  /** Of the disk under test: what `stat` calls `dev`. */
  readonly device: number;
  /** Name of the large file in `directory`. */
  readonly large: string;
}

/** Names that make a step of small files: compiled code and open connections on each side, before the clock runs. */
const WARM_UP_FILES = 500;
const RANDOM_READ_MS = 3_000;
const RANDOM_READ_BYTES = 4 * KiB;
/** Of the order of random reads, so far on that none of the first seconds' pages comes by once more. */
const RANDOM_READ_LATER = 100_000;

export interface Measured {
  readonly value: number;
  readonly units: number;
}

/** What must be done before the clock of a step runs. */
export function prepareStep(step: Step, job: Job): void {
  if (step === 'create') smallFiles(join(job.directory, 'warm-up'), Math.min(WARM_UP_FILES, job.smallFileCount));
}

export async function runStep(step: Step, job: Job): Promise<Measured> {
  const { sizeBytes, smallFileCount: count } = job;
  const file = join(job.directory, job.large);
  const small = join(job.directory, 'small');
  const later = join(job.directory, 'small-later');
  const large = (ms: number): Measured => ({ value: megabytesPerSecond(sizeBytes, ms), units: sizeBytes / MiB });
  switch (step) {
    case 'write':
      return large(writeFileTimed(file, sizeBytes));
    case 'read':
      return large(readFileTimed(file));
    case 'read4':
      return large(await readParallelTimed(file, 4));
    case 'random':
      return randomly(randomReads(file, RANDOM_READ_MS));
    case 'randomLater':
      return randomly(randomReads(file, RANDOM_READ_MS, RANDOM_READ_LATER));
    case 'create':
      return { value: createFiles(small, count), units: count };
    case 'createLater':
      return { value: createFiles(later, count), units: count };
    case 'list':
      return { value: statsOf(small), units: count };
    case 'listLater':
      return { value: statsOf(later), units: count };
    case 'readSmall':
    case 'readSmallAgain':
      return { value: readFiles(small, count), units: count };
    case 'readSmallLater':
      return { value: readFiles(later, count), units: count };
    case 'unlink':
      return { value: unlinkedAll(small, count), units: count };
    case 'unlinkLater':
      return { value: unlinkedAll(later, count), units: count };
  }
}

function randomly(value: number): Measured {
  return { value, units: (value * RANDOM_READ_MS) / 1000 };
}

function unlinkedAll(directory: string, count: number): number {
  const value = unlinkFiles(directory, count);
  rmSync(directory, { recursive: true });
  return value;
}

/** What one step reads or writes, for people. */
export const RANDOM_READ_TEXT = `${RANDOM_READ_BYTES / KiB} KiB reads at random for ${RANDOM_READ_MS / 1000} s`;

export type WorkerMessage =
  { readonly kind: 'step'; readonly result: StepResult } | { readonly kind: 'failed'; readonly message: string };
