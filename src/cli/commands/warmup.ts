import { lstat, open, readdir, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { UsageError } from '../../errors.ts';
import { FS_TYPE, readMountTable } from '../../fuse/mount-point.ts';
import { findMount } from '../../fuse/mount-table.ts';
import { MiB } from '../../limits.ts';
import { EXIT } from '../exit-codes.ts';
import { childPath, nameFields, shownName } from '../file-names.ts';
import { listenForInterruption } from '../interruption.ts';
import { bytes, note, print, printJson, progress } from '../output.ts';

export interface WarmupOptions {
  readonly jobs?: number;
  readonly json?: boolean;
}

const JOBS = 4;
/** What the kernel asks for at once is far less; a larger buffer saves calls. */
const READ_BYTES = MiB;
/** Failures printed one by one; all of them are in the JSON. */
const FAILURES_SHOWN = 100;

interface Failure {
  readonly path: Buffer;
  readonly error: string;
}

interface Found {
  readonly path: Buffer;
  readonly sizeBytes: number;
}

/** Reads every file below `path` once. */
export async function warmup(path: string, options: WarmupOptions): Promise<void> {
  const top = await topOf(path);
  const interruption = listenForInterruption();
  const { signal } = interruption;
  const failures: Failure[] = [];
  const fail = (at: Buffer, error: unknown): void => {
    const { code, message } = error as NodeJS.ErrnoException;
    failures.push({ path: at, error: code ?? message });
  };
  const startedMs = performance.now();
  try {
    const files: Found[] = [];
    await findFiles(Buffer.from(top), files, fail, signal);
    const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const bar = progress(`warmup ${path}`, totalBytes, bytes);
    let doneBytes = 0;
    let fileCount = 0;
    const queue = files.values();
    const work = async (): Promise<void> => {
      const buffer = new Uint8Array(READ_BYTES);
      for (const file of queue) {
        try {
          await readAll(file.path, buffer, signal, (count) => bar.update((doneBytes += count)));
          fileCount++;
        } catch (error) {
          signal.throwIfAborted();
          fail(file.path, error);
        }
      }
    };
    try {
      await Promise.all(Array.from({ length: options.jobs ?? JOBS }, work));
    } finally {
      bar.end();
    }
    const ms = performance.now() - startedMs;
    if (options.json === true) {
      printJson({
        fileCount,
        bytes: doneBytes,
        ms: Math.round(ms),
        failures: failures.map(({ path: at, error }) => ({ ...nameFields('path', at), error })),
      });
    } else {
      for (const { path: at, error } of failures.slice(0, FAILURES_SHOWN)) print(`${shownName(at)}: ${error}`);
      if (failures.length > FAILURES_SHOWN) {
        print(`... and ${failures.length - FAILURES_SHOWN} more that could not be read (all of them: --json)`);
      }
      print(
        `${fileCount} files, ${bytes(doneBytes)} read in ${(ms / 1000).toFixed(1)} s` +
          (failures.length === 0 ? '' : `; ${failures.length} could not be read`),
      );
      if (failures.length > 0) note('`tatami status` and `tatami fsck` say what is wrong with the cluster.');
    }
    if (failures.length > 0) process.exitCode = EXIT.unhealthy;
  } finally {
    interruption.end();
  }
}

async function topOf(path: string): Promise<string> {
  const top = await realpath(path).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`cannot look at ${path}: ${error.message}`, { remedy: 'Give a path within a mount.' });
  });
  const table = await readMountTable();
  let at = top;
  while (findMount(table, at) === undefined && at !== dirname(at)) at = dirname(at);
  if (findMount(table, at)?.fsType === FS_TYPE) return top;
  throw new UsageError(`${path} is not in a mount of tatamifs`, {
    remedy: 'Mount the cluster with `tatami mount`, and give a path below the mount point.',
  });
}

/** Depth first, in the order of the directories; not into other filesystems that are mounted below. */
async function findFiles(
  path: Buffer,
  files: Found[],
  fail: (path: Buffer, error: unknown) => void,
  signal: AbortSignal,
  device?: number,
): Promise<void> {
  signal.throwIfAborted();
  try {
    const stats = await lstat(path);
    if (device !== undefined && stats.dev !== device) return;
    if (stats.isFile()) files.push({ path, sizeBytes: stats.size });
    if (!stats.isDirectory()) return;
    for (const name of await readdir(path, 'buffer')) {
      await findFiles(childPath(path, name), files, fail, signal, stats.dev);
    }
  } catch (error) {
    signal.throwIfAborted();
    fail(path, error);
  }
}

async function readAll(
  path: Buffer,
  buffer: Uint8Array,
  signal: AbortSignal,
  read: (count: number) => void,
): Promise<void> {
  const file = await open(path, 'r');
  try {
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return;
      read(bytesRead);
    }
  } finally {
    await file.close();
  }
}
