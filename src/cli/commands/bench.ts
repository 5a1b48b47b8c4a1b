import { spawnSync } from 'node:child_process';
import type { SpawnSyncOptions } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BENCHMARKS } from '../../../bench/index.ts';
import type { BenchContext, Row } from '../../../bench/index.ts';
import { dropPageCache } from '../../../bench/measure.ts';
import { CLUSTER_FILE } from '../../cluster-location.ts';
import { TatamiError, UsageError } from '../../errors.ts';
import { GiB, MiB } from '../../limits.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { EXIT } from '../exit-codes.ts';
import { listenForInterruption } from '../interruption.ts';
import { note, print, printJson, table } from '../output.ts';
import { MAIN, ROOT } from '../places.ts';

export interface BenchOptions extends WhereOptions {
  readonly mount?: string;
  readonly sizeMib?: number;
  readonly rounds?: number;
  readonly json?: boolean;
  readonly files?: number;
  /** Of `directories`. */
  readonly entries?: number;
  /** Of `peers`. */
  readonly install?: boolean;
  /** Where plots and reports go. */
  readonly results?: string;
  readonly systems?: string;
}

/** By itself: it starts and stops all that it measures. */
const PEERS = 'peers';
const DEFAULT_SIZE_MIB = 1024;
const DEFAULT_ROUNDS = 3;
const SMALL_FILES = 2_000;

/** Runs benchmarks on a given mount, or on a cluster of three nodes and two copies started for the purpose. */
export async function bench(names: readonly string[], options: BenchOptions): Promise<void> {
  if (names.includes(PEERS)) return peers(names, options);
  const wanted =
    names.length === 0 ? BENCHMARKS.filter(({ byNameOnly }) => byNameOnly !== true) : names.map(findBenchmark);
  const interruption = listenForInterruption({ insistent: false });
  const setUp = await prepare(options, interruption.signal);
  // A benchmark does not look up from its work: what it uses is taken from under it.
  const endNow = () => {
    setUp.end();
    process.exit(EXIT.interrupted);
  };
  if (interruption.signal.aborted) endNow();
  interruption.signal.addEventListener('abort', endNow);
  try {
    const rows: Row[] = [];
    const context: BenchContext = {
      ...setUp.places,
      resultsDirectory: resultsDirectory(options.results),
      sizeBytes: (options.sizeMib ?? DEFAULT_SIZE_MIB) * MiB,
      rounds: options.rounds ?? DEFAULT_ROUNDS,
      smallFileCount: options.files ?? SMALL_FILES,
      largestDirectoryCount: options.entries,
      restartCold: setUp.restartCold,
      withMount: (mountOptions, work) => withMount(setUp.places, mountOptions, work),
      note: async (line) => {
        note(line);
        await hearSignals();
      },
    };
    for (const [index, benchmark] of wanted.entries()) {
      note(`[${index + 1} of ${wanted.length}] ${benchmark.name}: ${benchmark.about}`);
      await hearSignals();
      rows.push(...(await benchmark.run(context)));
    }
    const [cpu] = cpus();
    const machine = `${cpus().length} x ${cpu?.model.trim() ?? 'CPU'}, ${(totalmem() / GiB).toFixed(0)} GiB, Node ${process.versions.node}`;
    if (options.json === true) {
      printJson({
        machine,
        date: new Date().toISOString(),
        sizeBytes: context.sizeBytes,
        rounds: context.rounds,
        rows,
      });
    } else {
      print(`\n${machine}; ${context.rounds} rounds, medians, large file ${context.sizeBytes / MiB} MiB\n`);
      print(renderRows(rows));
    }
  } finally {
    // Programs that a benchmark runs are interrupted with it, and their errors come before our own signal.
    await hearSignals();
    setUp.end();
    interruption.end();
  }
}

async function peers(names: readonly string[], options: BenchOptions): Promise<void> {
  if (names.length > 1 || options.mount !== undefined) {
    throw new UsageError('peers starts and stops all that it measures', {
      remedy: 'Name it alone, and without --mount.',
    });
  }
  const { benchPeers } = await import('./bench-peers.ts');
  await benchPeers({
    sizeBytes: (options.sizeMib ?? DEFAULT_SIZE_MIB) * MiB,
    rounds: options.rounds ?? DEFAULT_ROUNDS,
    smallFileCount: options.files ?? SMALL_FILES,
    install: options.install === true,
    json: options.json === true,
    systems: options.systems,
    resultsDirectory: resultsDirectory(options.results),
  });
}

/** Of the checkout that this was built from, where it is one; and made if need be. */
function resultsDirectory(wanted: string | undefined): string {
  const own = join(ROOT, 'bench', 'results');
  const directory = resolve(wanted ?? (existsSync(own) ? own : '.'));
  mkdirSync(directory, { recursive: true });
  return directory;
}

/** Ctrl-C can reach a program that is being started before it has a session of its own: that is no failure of its. */
async function prepare(options: BenchOptions, interrupted: AbortSignal): Promise<SetUp> {
  try {
    return options.mount === undefined ? ownCluster() : givenMount(options.mount, options.data);
  } catch (error) {
    await hearSignals();
    throw interrupted.aborted ? interrupted.reason : error;
  }
}

function findBenchmark(name: string) {
  const found = BENCHMARKS.find((benchmark) => benchmark.name === name);
  if (found !== undefined) return found;
  throw new UsageError(`there is no benchmark ${name}`, {
    remedy: `Choose from: ${BENCHMARKS.map((benchmark) => `${benchmark.name} (${benchmark.about})`).join('; ')}; or, alone, ${PEERS} (GlusterFS and MooseFS).`,
  });
}

interface SetUp {
  readonly places: Pick<BenchContext, 'workDirectory' | 'mountDirectory' | 'dataDirectory'>;
  readonly restartCold: () => Promise<void>;
  /** Idempotent. */
  readonly end: () => void;
}

/** In a session of its own: Ctrl-C is for the benchmark, which then stops what it has started. */
function tatami(...args: string[]): void {
  const options: SpawnSyncOptions & { detached: boolean } = { stdio: ['ignore', 'ignore', 'inherit'], detached: true };
  const { status, error } = spawnSync(process.execPath, [MAIN, ...args], options);
  if (error !== undefined) throw error;
  if (status !== 0) throw new TatamiError('ERR_BENCH', `tatami ${args[0]} ended with ${status}`);
}

/** A signal that has come is heard when the event loop has polled. */
async function hearSignals(): Promise<void> {
  await sleep(20);
}

/** Runs `work` the first time only. */
function once(work: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    work();
  };
}

function ownCluster(): SetUp {
  const workDirectory = mkdtempSync(resolve('tatami-bench-'));
  const data = join(workDirectory, 'data');
  const mount = join(workDirectory, 'mnt');
  const up = () => tatami('up', '--data', data, '--mount', mount, '--detach');
  note(`starting three nodes with two copies in ${workDirectory}`);
  const mountDirectory = join(mount, `bench-${process.pid}`);
  const end = once(() => {
    if (existsSync(join(data, CLUSTER_FILE))) tatami('down', '--data', data);
    rmSync(workDirectory, { recursive: true, force: true });
  });
  try {
    tatami('up', '--data', data, '--mount', mount, '--nodes', '3', '--copies', '2', '--detach');
    mkdirSync(mountDirectory);
  } catch (error) {
    end();
    throw error;
  }
  return {
    places: { workDirectory, mountDirectory, dataDirectory: data },
    async restartCold() {
      tatami('down', '--data', data);
      dropPageCache();
      up();
    },
    end,
  };
}

function givenMount(mount: string, data: string | undefined): SetUp {
  const workDirectory = mkdtempSync(resolve('tatami-bench-'));
  const mountDirectory = join(resolve(mount), `bench-${process.pid}`);
  try {
    mkdirSync(mountDirectory);
  } catch (error) {
    rmSync(workDirectory, { recursive: true, force: true });
    throw new UsageError(`cannot write below ${resolve(mount)}: ${(error as Error).message}`, {
      cause: error,
      remedy: 'Give an existing mount with --mount, or leave it out.',
    });
  }
  return {
    places: { workDirectory, mountDirectory, dataDirectory: data === undefined ? undefined : resolve(data) },
    async restartCold() {
      if (data === undefined) {
        throw new UsageError('a cold read restarts nodes and mount', {
          remedy: 'Give --data DIR of a one-machine cluster, or leave out --mount.',
        });
      }
      tatami('down', '--data', data);
      dropPageCache();
      tatami('up', '--data', data, '--mount', resolve(mount), '--detach');
    },
    end: once(() => {
      rmSync(mountDirectory, { recursive: true, force: true });
      rmSync(workDirectory, { recursive: true, force: true });
    }),
  };
}

async function withMount(
  places: SetUp['places'],
  options: readonly string[],
  work: (directory: string) => Promise<void> | void,
): Promise<boolean> {
  const { dataDirectory, workDirectory } = places;
  if (dataDirectory === undefined) return false;
  const mount = mkdtempSync(join(workDirectory, 'mount-'));
  tatami('mount', mount, '--data', dataDirectory, ...options);
  try {
    await work(join(mount, `bench-mount-${process.pid}`));
  } finally {
    tatami('umount', mount);
  }
  return true;
}

function renderRows(rows: readonly Row[]): string {
  return table(
    ['measure', 'tatamifs', 'unit', 'range', 'against', 'its figure', 'ratio', 'goal', ''],
    rows.map((row) => [
      row.name,
      figure(row.value),
      row.unit,
      `${figure(row.spread[0])}-${figure(row.spread[1])}`,
      row.yardstick?.name ?? '',
      row.yardstick === undefined ? '' : figure(row.yardstick.value),
      row.ratio === undefined ? '' : row.ratio.toFixed(2),
      goalText(row),
      verdict(row),
    ]),
  );
}

function goalText(row: Row): string {
  if (row.goal?.atLeast !== undefined) return `>= ${row.goal.atLeast}`;
  return row.goal?.atMost === undefined ? '' : `<= ${row.goal.atMost}`;
}

function verdict(row: Row): string {
  if (row.goal === undefined) return '';
  const value = row.ratio ?? row.value;
  const { atLeast = -Infinity, atMost = Infinity } = row.goal;
  return value >= atLeast && value <= atMost ? 'reached' : 'not reached';
}

function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
