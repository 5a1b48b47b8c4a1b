import { tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { connectCluster } from '../../client.ts';
import { FsError, UsageError } from '../../errors.ts';
import { MOUNT_THREAD_COUNT, mountFuse } from '../../fuse/mount.ts';
import { ROOT_INO } from '../../ids.ts';
import { GiB, MiB, OP_TIMEOUT_MS } from '../../limits.ts';
import { sentences } from '../../log.ts';
import { directoryAt, SubdirectoryOps } from '../../vfs/subdirectory.ts';
import type { Vfs } from '../../vfs/vfs.ts';
import { clientLabel } from '../client-label.ts';
import type { Where, WhereOptions } from '../cluster-files.ts';
import { findCluster } from '../cluster-files.ts';
import { processLogger } from '../logger.ts';
import { parseMountOptions, type MountSettings } from '../mount-options.ts';
import { tuneForLongRun } from '../long-running.ts';
import { lostFilesError, mountEnded, mountHash, registerMount } from '../mount-registry.ts';
import { print } from '../output.ts';
import { removeRecord, writeRecord } from '../process-record.ts';
import { realEnv } from '../real-env.ts';
import { removeLogs } from '../rotate-log.ts';
import { SYSLOG, spawnBackground, tellParent } from '../spawn.ts';

export interface MountOptions extends WhereOptions, MountSettings {
  readonly foreground?: boolean;
  /** As of mount(8), with commas between. */
  readonly options?: string;
  /** umount(8) shall wait for the mount's process. */
  readonly umountHelper?: boolean;
}

const READY_TIMEOUT_MS = 40_000;
/** Of a cache on disk, unless it is said. */
export const CACHE_SIZE_GIB = 10;

/** Mounts in the background, or serves the mount in the foreground. */
export async function mount(directory: string, given: MountOptions): Promise<void> {
  const path = resolve(directory);
  const options = withListed(given);
  if (options.cacheSize !== undefined && options.cacheDir === undefined) {
    throw new UsageError('--cache-size (cache_size=) is of a cache on disk: --cache-dir (cache_dir=) is missing', {
      remedy: 'Name a directory of this machine with --cache-dir DIR; for memory it is --cache-memory MIB.',
    });
  }
  if (options.foreground === true) return serve(path, options);
  await mountInBackground(path, options);
  print(`mounted at ${path}; unmount with \`tatami umount ${directory}\``);
}

/**
 * `path` is absolute. Resolves once the mount serves; its process goes on. `elseLog`: where it logs if nothing is said and the cluster
 * has no directory for it; by default a file that is removed when the mount ends in order.
 */
export async function mountInBackground(path: string, given: MountOptions, elseLog?: string): Promise<void> {
  const where = await findCluster(given);
  const options =
    given.log === undefined && where.files === undefined && elseLog !== undefined ? { ...given, log: elseLog } : given;
  const { log } = options;
  await spawnBackground({
    args: ['mount', path, '--foreground', ...repeatArguments(options)],
    logFile: log === undefined ? usualLog(path, where) : log === SYSLOG ? SYSLOG : resolve(log),
    name: 'mount',
    timeoutMs: READY_TIMEOUT_MS,
    threadCount: MOUNT_THREAD_COUNT,
  });
}

function usualLog(path: string, where: Where): string {
  if (where.files === undefined) return logWithoutDirectory(path);
  return join(where.files.logPath, `mount-${mountHash(path)}.log`);
}

/** With what `-o` lists; an option of its own on the command line counts more. */
function withListed(options: MountOptions): MountOptions {
  if (options.options === undefined) return options;
  const { settings, remount } = parseMountOptions(options.options);
  if (remount) {
    throw new UsageError('option remount: only mount(8) can do that', { remedy: 'Run: mount -o remount,ro DIR' });
  }
  // Of options that are turned off, commander says so also when nothing was given.
  const localReads = options.localReads === false ? false : (settings.localReads ?? true);
  return { ...settings, ...options, localReads };
}

function repeatArguments(options: MountOptions): string[] {
  return [
    ...(options.data === undefined ? [] : ['--data', resolve(options.data)]),
    ...(options.connect === undefined ? [] : ['--connect', options.connect]),
    ...(options.keyFile === undefined ? [] : ['--key-file', resolve(options.keyFile)]),
    ...(options.readOnly === true ? ['--read-only'] : []),
    ...(options.localReads === false ? ['--no-local-reads'] : []),
    ...(options.share === true ? ['--share'] : []),
    ...(options.shareListen === undefined ? [] : ['--share-listen', options.shareListen]),
    ...(options.cacheMemory === undefined ? [] : ['--cache-memory', String(options.cacheMemory)]),
    ...(options.prefetch === undefined ? [] : ['--prefetch', String(options.prefetch)]),
    ...(options.cacheDir === undefined ? [] : ['--cache-dir', resolve(options.cacheDir)]),
    ...(options.cacheSize === undefined ? [] : ['--cache-size', String(options.cacheSize)]),
    ...(options.attrTimeoutMs === undefined ? [] : ['--attr-timeout-ms', String(options.attrTimeoutMs)]),
    ...(options.metadataCache === undefined ? [] : ['--metadata-cache', String(options.metadataCache)]),
    ...(options.compactAfter === undefined ? [] : ['--compact-after', String(options.compactAfter)]),
    ...(options.timeout === undefined ? [] : ['--timeout', String(options.timeout)]),
    ...(options.subdir === undefined ? [] : ['--subdir', options.subdir]),
    ...(options.allowOther === true ? ['--allow-other'] : []),
    ...(options.fsName === undefined ? [] : ['--fs-name', options.fsName]),
    ...(options.umountHelper === true ? ['--umount-helper'] : []),
    ...(options.log === undefined ? [] : ['--log', options.log]),
    ...(options.kernelFlags === undefined ? [] : ['-o', options.kernelFlags.join(',')]),
    ...(options.binding === undefined ? [] : ['--binding', options.binding]),
  ];
}

/** Of this machine, or what of it this process may use (cgroups). */
function memoryBytes(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Infinity);
}

/** Where a mount without a data directory of its own logs, in the background. */
function logWithoutDirectory(path: string): string {
  return join(tmpdir(), `tatami-mount-${mountHash(path)}.log`);
}

async function serve(path: string, options: MountOptions): Promise<void> {
  tuneForLongRun();
  const inBackground = process.send !== undefined;
  let signalled = false;
  let forgetParent = (): unknown => undefined;
  const stopped = new Promise<void>((settle) => {
    const stop = () => {
      signalled = true;
      settle();
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
    process.on('SIGHUP', stop);
    // Whoever wanted the mount was ended before it was ready.
    if (inBackground) process.once('disconnect', stop);
    forgetParent = () => process.off('disconnect', stop);
  });
  const log = processLogger('tatami-mount');
  const where = await findCluster(options);
  const env = realEnv(where.key);
  const label = clientLabel(`mount ${path}`);
  const localReads = options.localReads !== false;
  const timeoutMs = options.timeout === undefined ? OP_TIMEOUT_MS : options.timeout * 1_000;
  const share =
    options.share === true || options.shareListen !== undefined ? { listen: options.shareListen } : undefined;
  const readCacheBytes = options.cacheMemory === undefined ? undefined : options.cacheMemory * MiB;
  const diskCache =
    options.cacheDir === undefined
      ? undefined
      : { directory: resolve(options.cacheDir), maxBytes: (options.cacheSize ?? CACHE_SIZE_GIB) * GiB };
  const client = await connectCluster({
    ...{ env, ...where, label, log, timeoutMs, localReads, share, readCacheBytes, diskCache },
  });
  // It may be started anywhere, and must not keep that place from being unmounted.
  if (inBackground) process.chdir('/');
  const kernelFlags = options.kernelFlags ?? [];
  const times = kernelFlags.includes('nodiratime') ? 'relative-but-directories' : 'relative';
  const accessTimes = kernelFlags.includes('relatime') && options.readOnly !== true ? times : 'unchanged';
  // Who may only read writes nothing, in the background either.
  const compactAfter = options.readOnly === true ? 0 : options.compactAfter;
  const limits = {
    prefetchBytes: options.prefetch === undefined ? memoryBytes() / 4 : options.prefetch * MiB,
    ...(options.attrTimeoutMs === undefined ? {} : { attrTimeoutMs: options.attrTimeoutMs }),
    ...(options.metadataCache === undefined ? {} : { watchedMs: options.metadataCache * 1_000 }),
    ...(compactAfter === undefined ? {} : { compactAfterMs: compactAfter * 1_000 }),
  };
  const vfs = client.openVfs(limits, accessTimes);
  const record = where.files === undefined ? undefined : join(where.files.runPath, `mount-${mountHash(path)}.json`);
  // Another process may serve this very mount point: its record is not ours to remove.
  let realMountPoint: string | undefined;
  let lost: readonly string[];
  try {
    const below = options.subdir === undefined ? undefined : await openSubdirectory(vfs, options.subdir);
    const mounted = await mountFuse({
      ops: below ?? vfs,
      mountPoint: path,
      options: {
        readOnly: options.readOnly === true,
        kernelFlags: kernelFlags.includes('relatime') ? kernelFlags : ['noatime', ...kernelFlags],
        fileHandles: below === undefined,
        umountHelper: options.umountHelper === true,
        fsName: options.fsName ?? `tatamifs:${where.key.clusterId.slice(0, 8)}`,
        ...(options.binding === undefined ? {} : { binding: options.binding }),
        ...(options.allowOther === true ? { allowOther: true } : {}),
      },
      log: sentences(log),
    });
    vfs.setNotifier(below?.notifierFor(mounted.notifier) ?? mounted.notifier);
    realMountPoint = mounted.mountPoint;
    const ours = { pid: process.pid, mountPoint: path, realMountPoint, closeTimeoutMs: timeoutMs };
    try {
      await registerMount(ours);
      if (record !== undefined) await writeRecord(record, { role: 'mount', name: path, ...ours });
    } catch (error) {
      // Nobody would know whom to end.
      await mounted.unmount({ force: true }).catch(() => undefined);
      throw error;
    }
    forgetParent();
    await tellParent({ kind: 'ready', detail: path });
    log.info({ path }, 'mounted');
    await Promise.race([stopped, mounted.closed]);
    if (signalled) await mounted.unmount({ force: true });
    log.info({ path, sharing: client.sharing?.usage(), diskCache: client.diskCache?.usage }, 'unmounted');
  } finally {
    lost = await vfs.close();
    for (const item of lost) log.error({ path: item }, 'not written: the data of this file is lost');
    if (realMountPoint !== undefined) {
      await mountEnded(realMountPoint, lost).catch((error: unknown) =>
        log.warn({ error: String(error) }, 'who unmounts cannot be told how that went'),
      );
    }
    await client.close();
    if (record !== undefined) await removeRecord(record);
  }
  if (lost.length > 0) throw lostFilesError(path, lost, undefined);
  // It ended in order: nobody needs what it said.
  if (inBackground && where.files === undefined && options.log === undefined)
    await removeLogs(logWithoutDirectory(path));
}

/** Undefined: it is all of the filesystem. */
async function openSubdirectory(vfs: Vfs, subdir: string): Promise<SubdirectoryOps | undefined> {
  try {
    const top = await directoryAt(vfs, { uid: 0, gid: 0, pid: process.pid }, subdir);
    return top === ROOT_INO ? undefined : new SubdirectoryOps(vfs, top);
  } catch (error) {
    const code = error instanceof FsError ? error.code : undefined;
    if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ELOOP') throw error;
    throw new UsageError(`there is no directory ${subdir} in the filesystem (${code})`, {
      remedy: 'Make it in a mount of the whole, or leave out --subdir (subdir=).',
      cause: error,
    });
  }
}
