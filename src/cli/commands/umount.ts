import { readFile, readdir, readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FsError, UsageError } from '../../errors.ts';
import { readMountTable } from '../../fuse/mount-point.ts';
import { findMount } from '../../fuse/mount-table.ts';
import { runUnmount } from '../../fuse/tools.ts';
import { print } from '../output.ts';

const GONE_TIMEOUT_MS = 35_000;

/** Unmounts; the mount process writes what is dirty and ends by itself. */
export async function umount(directory: string, options: { force?: boolean }): Promise<void> {
  const path = await mountPointOf(directory);
  if (!(await isMounted(path))) {
    throw new UsageError(`${path} is not a mount of tatamifs`, { remedy: 'See `grep tatamifs /proc/mounts`.' });
  }
  const gentle = await runUnmount(path, 'plain', GONE_TIMEOUT_MS);
  if (gentle.code !== 0) {
    if (options.force !== true) {
      const users = await usersOf(path);
      const who = users.length > 0 ? `is in use by ${users.join(', ')}` : `could not be unmounted: ${gentle.message}`;
      throw new FsError('EBUSY', `${path} ${who}`, {
        remedy: 'End what uses it, or use --force: files open there get errors.',
      });
    }
    const lazy = await runUnmount(path, 'lazy');
    if (lazy.code !== 0) {
      throw new FsError('EPERM', `${path} could not be unmounted: ${lazy.message}`, {
        remedy: 'Run it as root, or as the user who mounted it.',
      });
    }
  }
  const deadline = performance.now() + GONE_TIMEOUT_MS;
  while ((await isMounted(path)) && performance.now() < deadline) await sleep(20);
  print(`unmounted ${path}`);
}

/** As Linux's MAXSYMLINKS. */
const LINKS_FOLLOWED_MAX = 40;

/**
 * The mount point that a path leads to. The mount table is asked before each step: a mount whose process is gone, or
 * hangs, must not be touched.
 */
async function mountPointOf(directory: string): Promise<string> {
  let path = resolve(directory);
  for (let links = 0; links < LINKS_FOLLOWED_MAX; links++) {
    path = join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path));
    if (await isMounted(path)) return path;
    const target = await readlink(path).catch(() => undefined);
    if (target === undefined) return path;
    path = resolve(dirname(path), target);
  }
  return path;
}

async function isMounted(path: string): Promise<boolean> {
  return findMount(await readMountTable(), path)?.fsType.startsWith('fuse') ?? false;
}

/** Processes with a working directory or an open file below the mount point: what keeps it busy. */
async function usersOf(path: string): Promise<string[]> {
  const users: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const links = [`/proc/${pid}/cwd`, `/proc/${pid}/exe`];
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) links.push(`/proc/${pid}/fd/${fd}`);
    const targets = await Promise.all(links.map((link) => readlink(link).catch(() => '')));
    if (!targets.some((target) => target === path || target.startsWith(`${path}/`))) continue;
    const name = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim();
    users.push(`${name} (pid ${pid})`);
  }
  return users;
}
