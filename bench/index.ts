/** All benchmarks, and what runs them: sets up, measures in alternate runs, prints one table. */
import { blockStores } from './blocks.ts';
import { largeDirectories } from './directories.ts';
import { libraryRead } from './library-read.ts';
import { manyBlocks } from './many-blocks.ts';
import { memoryWhileStreaming } from './memory.ts';
import { metadataRates } from './metadata.ts';
import { placement } from './placement.ts';
import { singleOperations } from './operations.ts';
import { repairUnderReads } from './repair.ts';
import { coldRead, sequentialWrite } from './sequential.ts';
import { randomWrites } from './random-writes.ts';
import { bootStorm } from './boot-storm.ts';
import { scaleOut } from './scale-out.ts';
import { calculatedStorm } from './storm.ts';
import { slowHolder } from './slow-holder.ts';
import { smallFilesBenchmark } from './small-files.ts';
import type { Benchmark } from './types.ts';

export type { BenchContext, Benchmark, Row } from './types.ts';

export const BENCHMARKS: readonly Benchmark[] = [
  sequentialWrite,
  coldRead,
  smallFilesBenchmark,
  singleOperations,
  randomWrites,
  libraryRead,
  blockStores,
  metadataRates,
  memoryWhileStreaming,
  manyBlocks,
  placement,
  slowHolder,
  bootStorm,
  scaleOut,
  calculatedStorm,
  repairUnderReads,
  largeDirectories,
];
