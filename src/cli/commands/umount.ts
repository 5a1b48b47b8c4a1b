import { readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FsError, TimeoutError, UsageError } from '../../errors.ts';
import { FS_TYPE, readMountTable } from '../../fuse/mount-point.ts';
import { findMount, type MountEntry } from '../../fuse/mount-table.ts';
import { runUnmount } from '../../fuse/tools.ts';
import { forgetMount, lostFilesError, registeredMount, silentEndError, takeMountEnding } from '../mount-registry.ts';
import { namespacesWith, usersOf } from '../mount-users.ts';
import { note, print } from '../output.ts';
import { MOUNT_END_MARGIN_MS, isAlive, isStopped, waitGone } from '../process-record.ts';
import type { ProcessRecord } from '../process-record.ts';

/** umount(8) may look at the mount's root first, which takes as long as an operation without its servers. */
const UMOUNT_TIMEOUT_MS = 35_000;
/** The kernel takes a mount out of its table within moments of unmounting it. */
const GONE_TIMEOUT_MS = 5_000;
/** What a mount takes to end its connection when told to, at most; it is then taken away. */
const ABORT_TIMEOUT_MS = 12_000;
/** After this the user is told what is waited for. */
const SLOW_MS = 2_000;

/**
 * Unmounts, and waits until the mount's process has written what was left, or has given it up: then it is an error that
 * names the files.
 */
export async function umount(directory: string, options: { force?: boolean; quiet?: boolean }): Promise<void> {
  const path = await mountPointOf(directory);
  const entry = await mountAt(path);
  if (entry === undefined) {
    throw new UsageError(`${path} is not a mount of tatamifs`, { remedy: 'See `grep tatamifs /proc/mounts`.' });
  }
  const record = await registeredMount(path);
  const wasAlive = record !== undefined && (await isAlive(record));
  const stopped = record !== undefined && (await isStopped(record));
  if (stopped && options.force !== true) throw stoppedError(path, record);
  const gentle = stopped ? undefined : await runUnmount(path, 'plain', UMOUNT_TIMEOUT_MS);
  if (gentle?.code !== 0) {
    if (options.force !== true) {
      const users = await usersOf(path);
      const reason = gentle?.message ?? '';
      const who = users.length > 0 ? `is in use by ${users.join(', ')}` : `could not be unmounted: ${reason}`;
      throw new FsError('EBUSY', `${path} ${who}`, {
        remedy: 'End what uses it, or use --force: files open there get errors.',
      });
    }
    // The process itself aborts the connection, so that what waits in it ends, and writes what it has.
    if (record !== undefined && !stopped) await endMount(record);
    if (await isMounted(path)) await detach(path);
  }
  const deadline = performance.now() + GONE_TIMEOUT_MS;
  while ((await isMounted(path)) && performance.now() < deadline) await sleep(20);
  if (stopped) throw stoppedError(path, record);
  if (wasAlive) await waitForEnd(path, record, entry.device, options.force === true);
  else if (record !== undefined) {
    await forgetMount(path);
    note(`its process (pid ${record.pid}) had ended before: what was not closed or fsynced then is lost`);
  }
  if (options.quiet !== true) print(`unmounted ${path}`);
}

async function endMount(record: ProcessRecord): Promise<void> {
  if (!(await isAlive(record))) return;
  try {
    process.kill(record.pid, 'SIGTERM');
  } catch {
    // It ended between the look and the signal, or is another user's: then its name is taken away.
  }
  await waitGone([record], ABORT_TIMEOUT_MS);
}

async function detach(path: string): Promise<void> {
  const lazy = await runUnmount(path, 'lazy');
  if (lazy.code === 0 || !(await isMounted(path))) return;
  throw new FsError('EPERM', `${path} could not be unmounted: ${lazy.message}`, {
    remedy: 'Run it as root, or as the user who mounted it.',
  });
}

/** The process writes what is dirty, says how that went, and ends. */
async function waitForEnd(path: string, record: ProcessRecord, device: string, force: boolean): Promise<void> {
  if (!(await waitGone([record], SLOW_MS))) {
    const elsewhere = await namespacesWith(device);
    if (elsewhere.length > 0 && !force) {
      throw new FsError(
        'EBUSY',
        `${path} is unmounted here, but other mount namespaces have it: ${elsewhere.join(', ')}`,
        {
          remedy: `Unmount it there, too, or end it for all of them with \`kill ${record.pid}\`: what is left is then written.`,
        },
      );
    }
    if (elsewhere.length > 0) await endMount(record);
    note(`waiting for the mount's process (pid ${record.pid}) to write what is left; Ctrl-C leaves it to itself`);
    await waitGone([record], (record.closeTimeoutMs ?? 0) + MOUNT_END_MARGIN_MS);
  }
  const ending = await takeMountEnding(path, record.pid);
  if (ending !== undefined) {
    if (ending.lost.length > 0) throw lostFilesError(path, ending.lost, record.logFile);
    return;
  }
  await forgetMount(path);
  if (await isAlive(record)) {
    throw new TimeoutError(`${path} is unmounted, but its process (pid ${record.pid}) does not end`, {
      remedy: `See ${record.logFile ?? "the mount's log"}; end it with \`kill -9 ${record.pid}\` if it hangs.`,
    });
  }
  throw silentEndError(path, record.logFile);
}

function stoppedError(path: string, record: ProcessRecord): FsError {
  return new FsError('EBUSY', `the process of ${path} (pid ${record.pid}) is stopped and cannot write what is left`, {
    remedy: `Let it go on with \`kill -CONT ${record.pid}\`, then unmount; --force only takes the name away.`,
  });
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
  return (await mountAt(path)) !== undefined;
}

async function mountAt(path: string): Promise<MountEntry | undefined> {
  const entry = findMount(await readMountTable(), path);
  return entry?.fsType === FS_TYPE ? entry : undefined;
}
