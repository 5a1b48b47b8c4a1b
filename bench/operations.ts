/**
 * Single operations that no other benchmark has: locks taken and given up (fcntl, of a range), entries listed, and a file of
 * 10 GiB cloned, with the bytes that this moved. By programs, through the mount; Node has no fcntl locks, so Python is used.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GiB, MiB } from '../src/limits.ts';
import { withEmptyMount } from './empty-mount.ts';
import { createFiles, median, spread, writeFileTimed } from './measure.ts';
import { programs } from './programs.ts';
import { pairRow } from './sequential.ts';
import { tatami } from './tatami.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

const LISTED_COUNT = 5_000;
const LISTINGS = 5;
const LIST_CLIENT = fileURLToPath(new URL('./directories-client.js', import.meta.url));
const CLONED_BYTES = 10 * GiB;
/** Written, and named again and again by a larger file: clones move no bytes, so that it is soon made. */
const PIECE_BYTES = 128 * MiB;
const LOCK_SECONDS = 1.5;

/** Prints pairs of lock and unlock a second; with two files, each by a process of its own, in turn. */
const LOCKER = `
import fcntl, os, sys, time
files = [os.open(path, os.O_RDWR | os.O_CREAT) for path in sys.argv[2:]]
def pair(fd):
    fcntl.lockf(fd, fcntl.LOCK_EX, 4096, 8192)
    fcntl.lockf(fd, fcntl.LOCK_UN, 4096, 8192)
def rate(turn):
    for _ in range(50): turn()
    done, start = 0, time.monotonic()
    while time.monotonic() - start < float(sys.argv[1]):
        turn()
        done += 1
    return done / (time.monotonic() - start)
if len(files) == 1:
    print(rate(lambda: pair(files[0])))
else:
    there, back = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(there[1])
        while os.read(there[0], 1):
            pair(files[1])
            os.write(back[1], b'x')
        os._exit(0)
    def turn():
        pair(files[0])
        os.write(there[1], b'x')
        os.read(back[0], 1)
    print(2 * rate(turn))
`;
/** Makes a file of so many bytes out of another. */
const REPEATER = `
import os, sys
source, target = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
size, piece, at = int(sys.argv[3]), os.fstat(source).st_size, 0
while at < size:
    at += os.copy_file_range(source, target, min(piece - at % piece, size - at), at % piece, at)
os.close(target)
`;

export const singleOperations: Benchmark = {
  name: 'operations',
  about: 'fcntl lock and unlock (one program; two mounts in turn), entries listed, clone of a file of 10 GiB',
  async run(context) {
    const rows = await listedRow(context);
    if (spawnSync('python3', ['--version']).status !== 0) {
      await context.note('locks and clones are left out: there is no python3');
      return rows;
    }
    return [...rows, ...(await lockRows(context)), ...(await cloneRows(context))];
  },
};

/** By readdir alone. */
function listings(directory: string): number {
  readdirSync(directory);
  const started = performance.now();
  let told = 0;
  for (let turn = 0; turn < LISTINGS; turn++) told += readdirSync(directory).length;
  return (told * 1_000) / (performance.now() - started);
}

async function listedRow(context: BenchContext): Promise<Row[]> {
  const ours: number[] = [];
  const empty: number[] = [];
  const directory = join(context.mountDirectory, 'listed');
  makeFiles(context, directory);
  for (let round = 0; round < context.rounds; round++) {
    empty.push(
      await withEmptyMount(context, async (path) => {
        createFiles(join(path, 'listed'), LISTED_COUNT);
        return listings(join(path, 'listed'));
      }),
    );
    ours.push(listings(directory));
  }
  await context.note(`readdir: ${median(ours).toFixed(0)} entries/s`);
  rmSync(directory, { recursive: true });
  return [pairRow('readdir, entries', ours, 'empty mount', empty, undefined, '/s')];
}

function makeFiles(context: BenchContext, directory: string): void {
  if (context.dataDirectory === undefined) return void createFiles(directory, LISTED_COUNT);
  mkdirSync(directory);
  const path = `/${basename(context.mountDirectory)}/${basename(directory)}`;
  execFileSync(process.execPath, [LIST_CLIENT, context.dataDirectory, path, 'one directory', String(LISTED_COUNT)]);
}

async function lockRows(context: BenchContext): Promise<Row[]> {
  const file = join(context.mountDirectory, 'locked');
  const alone = repeated(context, () => python(LOCKER, String(LOCK_SECONDS), file));
  const rows: Row[] = [{ name: 'fcntl lock + unlock, one program', ...alone, unit: '/s' }];
  if (context.dataDirectory !== undefined) {
    const second = mkdtempSync(join(context.workDirectory, 'second-'));
    tatami('mount', second, '--data', context.dataDirectory);
    try {
      const other = join(second, basename(context.mountDirectory), 'locked');
      const inTurn = repeated(context, () => python(LOCKER, String(LOCK_SECONDS), file, other));
      rows.push({ name: '  two programs on two mounts, in turn', ...inTurn, unit: '/s' });
    } finally {
      tatami('umount', second);
    }
  }
  await context.note(`lock + unlock: ${rows.map(({ value }) => value.toFixed(0)).join(' /s, in turn ')} /s`);
  rmSync(file);
  return rows;
}

async function cloneRows(context: BenchContext): Promise<Row[]> {
  const [piece, large, clone] = ['piece', 'large', 'clone'].map((name) => join(context.mountDirectory, name)) as [
    string,
    string,
    string,
  ];
  writeFileTimed(piece, PIECE_BYTES);
  python(REPEATER, piece, large, String(CLONED_BYTES));
  const moved: number[] = [];
  const seconds = repeated(context, () => {
    const before = writtenMiB(context);
    const started = performance.now();
    execFileSync('cp', [large, clone]);
    const took = (performance.now() - started) / 1_000;
    moved.push(writtenMiB(context) - before);
    rmSync(clone);
    return took;
  });
  for (const path of [piece, large]) rmSync(path);
  await context.note(`clone of 10 GiB: ${seconds.value.toFixed(2)} s, ${median(moved).toFixed(1)} MiB moved`);
  const rows: Row[] = [{ name: 'clone of 10 GiB (cp)', ...seconds, unit: 's' }];
  if (context.dataDirectory === undefined) return rows;
  return [
    ...rows,
    { name: '  moved: written by mount and nodes', value: median(moved), unit: 'MiB', spread: spread(moved) },
  ];
}

/** What mount and nodes have given to the kernel: messages, answers, files. */
function writtenMiB({ dataDirectory }: BenchContext): number {
  if (dataDirectory === undefined) return 0;
  let bytes = 0;
  for (const { pid } of programs(dataDirectory)) {
    bytes += Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
  }
  return bytes / MiB;
}

function repeated(context: BenchContext, work: () => number): Pick<Row, 'value' | 'spread'> {
  const values = Array.from({ length: context.rounds }, work);
  return { value: median(values), spread: spread(values) };
}

function python(script: string, ...args: string[]): number {
  return Number(execFileSync('python3', ['-c', script, ...args], { encoding: 'utf8' }));
}
