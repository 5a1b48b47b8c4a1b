/** What a benchmark is, and what it reports. */

/** One line of the table: what tatamifs did, beside what the machine itself did in the same minutes. */
export interface Row {
  readonly name: string;
  /** Median over the rounds. */
  readonly value: number;
  readonly unit: 'MB/s' | '/s' | 'MiB' | 'us' | 'ms' | 's' | 'x';
  /** What it is held against, measured in alternate runs; absent for figures that stand alone. */
  readonly yardstick?: { readonly name: string; readonly value: number };
  /** value / yardstick (median of the pairs' ratios where there are pairs). */
  readonly ratio?: number;
  /** Ratio (or, without a yardstick, bound) that we want to reach. */
  readonly goal?: { readonly atLeast?: number; readonly atMost?: number };
  /** Lowest and highest of the rounds. */
  readonly spread: readonly [number, number];
}

export interface BenchContext {
  /** A directory on the disk under test, for raw files and clusters; removed afterwards. */
  readonly workDirectory: string;
  /** Directory inside the mount under test. */
  readonly mountDirectory: string;
  /** Data directory of the cluster under test, if it is on this machine and may be restarted for cold runs. */
  readonly dataDirectory: string | undefined;
  /** Where plots go. */
  readonly resultsDirectory: string;
  readonly sizeBytes: number;
  readonly rounds: number;
  readonly smallFileCount: number;
  /** Files of the largest directory; undefined: as the benchmark has it. */
  readonly largestDirectoryCount: number | undefined;
  /** Stops and starts the cluster and its mount, and drops the page cache. Throws where that is not possible. */
  readonly restartCold: () => Promise<void>;
  /**
   * Runs the work on the same cluster, mounted once more with these options; it gets the path of a directory that it may
   * make there. False, and nothing done, where the cluster is not on this machine.
   */
  readonly withMount: (
    options: readonly string[],
    work: (directory: string) => Promise<void> | void,
  ) => Promise<boolean>;
  /** Also lets the program hear that it is interrupted: most of a benchmark is synchronous. */
  readonly note: (line: string) => Promise<void>;
}

export interface Benchmark {
  readonly name: string;
  readonly about: string;
  /** Takes minutes, or what not every machine has: only where it is named. */
  readonly byNameOnly?: true;
  run(context: BenchContext): Promise<readonly Row[]>;
}
