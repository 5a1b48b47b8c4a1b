/**
 * Which process serves a mount point, and what became of its last data: for `tatami umount`, which knows no more than the
 * directory. One small file each, in a directory of this user on this machine.
 *
 * ```
 * DIR/HASH.json         the mount's process, while it runs
 * DIR/HASH.ended.json   how it ended: which files could not be written
 * ```
 *
 * Mount points are named without symbolic links, as the kernel names them.
 */
import { createHash } from 'node:crypto';
import { lstat, mkdir, readFile, readlink, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FsError } from '../errors.ts';
import { readRecord, removeRecord, writeRecord } from './process-record.ts';
import type { ProcessRecord } from './process-record.ts';

/** Files named in one message; the log has all of them. */
const NAMED_MAX_COUNT = 20;

export interface MountEnding {
  readonly pid: number;
  /** Paths within the filesystem. */
  readonly lost: readonly string[];
}

/** A name for the mount point that fits a file's. */
export function mountHash(mountPoint: string): string {
  return createHash('sha256').update(mountPoint).digest('hex').slice(0, 12);
}

/** Undefined if this user has no directory that others cannot write to. */
async function registryDirectory(): Promise<string | undefined> {
  const uid = process.geteuid?.() ?? 0;
  const runtime = process.env['XDG_RUNTIME_DIR'];
  const candidates = [
    ...(uid === 0 ? ['/run/tatamifs'] : runtime === undefined ? [] : [join(runtime, 'tatamifs')]),
    `/tmp/tatamifs-${uid}`,
  ];
  for (const path of candidates) {
    try {
      await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
      // In /tmp somebody else may have made it first.
      const found = await lstat(path);
      if (found.isDirectory() && found.uid === uid && (found.mode & 0o022) === 0) return path;
    } catch {
      continue;
    }
  }
  return undefined;
}

/** This process serves the mount point from now on. */
export async function registerMount(own: {
  readonly pid: number;
  readonly realMountPoint: string;
  readonly closeTimeoutMs: number;
}): Promise<void> {
  const directory = await registryDirectory();
  if (directory === undefined) return;
  const path = join(directory, mountHash(own.realMountPoint));
  await rm(`${path}.ended.json`, { force: true });
  const logFile = await readlink('/proc/self/fd/2').catch(() => undefined);
  await writeRecord(`${path}.json`, {
    role: 'mount',
    name: own.realMountPoint,
    ...own,
    ...(logFile?.startsWith('/') === true ? { logFile } : {}),
  });
}

/** It serves it no longer. */
export async function mountEnded(mountPoint: string, lost: readonly string[]): Promise<void> {
  const directory = await registryDirectory();
  if (directory === undefined) return;
  const path = join(directory, mountHash(mountPoint));
  const ending: MountEnding = { pid: process.pid, lost };
  await writeFile(`${path}.ended.tmp`, `${JSON.stringify(ending)}\n`);
  await rename(`${path}.ended.tmp`, `${path}.ended.json`);
  await removeRecord(`${path}.json`);
}

/** The process that serves it, or served it last and did not say that it ended. */
export async function registeredMount(mountPoint: string): Promise<ProcessRecord | undefined> {
  const directory = await registryDirectory();
  return directory === undefined ? undefined : await readRecord(join(directory, `${mountHash(mountPoint)}.json`));
}

/** How the process `pid` ended; told once. Undefined if it did not say. */
export async function takeMountEnding(mountPoint: string, pid: number): Promise<MountEnding | undefined> {
  const directory = await registryDirectory();
  if (directory === undefined) return undefined;
  const path = join(directory, mountHash(mountPoint));
  try {
    const ending = JSON.parse(await readFile(`${path}.ended.json`, 'utf8')) as MountEnding;
    if (ending.pid !== pid) return undefined;
    await rm(`${path}.ended.json`, { force: true });
    return ending;
  } catch {
    return undefined;
  }
}

/** Nobody will say anything more about it. */
export async function forgetMount(mountPoint: string): Promise<void> {
  const directory = await registryDirectory();
  if (directory !== undefined) await rm(join(directory, `${mountHash(mountPoint)}.json`), { force: true });
}

/** For whoever unmounts: data was lost, and whose. */
export function lostFilesError(mountPoint: string, lost: readonly string[], logFile: string | undefined): FsError {
  const named = lost.slice(0, NAMED_MAX_COUNT).map((path) => `\n  ${path}`);
  const more = lost.length > named.length ? `\n  and ${lost.length - named.length} more` : '';
  const count = lost.length === 1 ? '1 file has lost' : `${lost.length} files have lost`;
  return new FsError(
    'EIO',
    `${mountPoint} is unmounted, but ${count} what was written last: the nodes could not be reached, or had no room${named.join('')}${more}`,
    {
      remedy: `Write ${lost.length === 1 ? 'it' : 'them'} again. ${logFile === undefined ? "The mount's log" : logFile} says why; \`tatami status\`, what to do.`,
    },
  );
}

/** For whoever unmounts: nobody knows whether data was lost. */
export function silentEndError(mountPoint: string, logFile = "the mount's log"): FsError {
  return new FsError(
    'EIO',
    `${mountPoint} is unmounted, but its process ended without saying whether all was written`,
    {
      remedy: `See ${logFile}. Files that were closed or fsynced before are stored.`,
    },
  );
}
