import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { connectCluster } from '../../client.ts';
import { UsageError } from '../../errors.ts';
import { MOUNT_THREAD_COUNT, mountFuse } from '../../fuse/mount.ts';
import { GiB, MiB, OP_TIMEOUT_MS } from '../../limits.ts';
import { sentences } from '../../log.ts';
import { clientLabel } from '../client-label.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { findCluster } from '../cluster-files.ts';
import { processLogger } from '../logger.ts';
import { tuneForLongRun } from '../long-running.ts';
import { lostFilesError, mountEnded, mountHash, registerMount } from '../mount-registry.ts';
import { print } from '../output.ts';
import { writeRecord } from '../process-record.ts';
import { realEnv } from '../real-env.ts';
import { removeLogs } from '../rotate-log.ts';
import { spawnBackground, tellParent } from '../spawn.ts';

export interface MountOptions extends WhereOptions {
  readonly foreground?: boolean;
  readonly readOnly?: boolean;
  readonly localReads?: boolean;
  readonly attrTimeoutMs?: number;
  readonly share?: boolean;
  readonly shareListen?: string;
  /** MiB. */
  readonly cacheMemory?: number;
  readonly cacheDir?: string;
  /** GiB. */
  readonly cacheSize?: number;
  /** Seconds. */
  readonly timeout?: number;
  readonly binding: 'auto' | 'dev-fuse' | 'fuse-native';
}

const READY_TIMEOUT_MS = 40_000;
/** Of a cache on disk, unless it is said. */
export const CACHE_SIZE_GIB = 10;

/** Mounts in the background, or serves the mount in the foreground. */
export async function mount(directory: string, options: MountOptions): Promise<void> {
  const path = resolve(directory);
  if (options.cacheSize !== undefined && options.cacheDir === undefined) {
    throw new UsageError('--cache-size is of a cache on disk: --cache-dir is missing', {
      remedy: 'Name a directory of this machine with --cache-dir DIR; for memory it is --cache-memory MIB.',
    });
  }
  if (options.foreground === true) return serve(path, options);
  const where = await findCluster(options);
  const logFile =
    where.files === undefined ? logWithoutDirectory(path) : join(where.files.logPath, `mount-${mountHash(path)}.log`);
  await spawnBackground({
    args: ['mount', path, '--foreground', ...repeatArguments(options)],
    logFile,
    name: 'mount',
    timeoutMs: READY_TIMEOUT_MS,
    threadCount: MOUNT_THREAD_COUNT,
  });
  print(`mounted at ${path}; unmount with \`tatami umount ${directory}\``);
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
    ...(options.cacheDir === undefined ? [] : ['--cache-dir', resolve(options.cacheDir)]),
    ...(options.cacheSize === undefined ? [] : ['--cache-size', String(options.cacheSize)]),
    ...(options.attrTimeoutMs === undefined ? [] : ['--attr-timeout-ms', String(options.attrTimeoutMs)]),
    ...(options.timeout === undefined ? [] : ['--timeout', String(options.timeout)]),
    ...['--binding', options.binding],
  ];
}

/** Where a mount without a data directory of its own logs, in the background. */
function logWithoutDirectory(path: string): string {
  return join(tmpdir(), `tatami-mount-${mountHash(path)}.log`);
}

async function serve(path: string, options: MountOptions): Promise<void> {
  tuneForLongRun();
  const inBackground = process.send !== undefined;
  let signalled = false;
  const stopped = new Promise<void>((settle) => {
    const stop = () => {
      signalled = true;
      settle();
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
    process.on('SIGHUP', stop);
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
  const vfs = client.openVfs(options.attrTimeoutMs === undefined ? {} : { attrTimeoutMs: options.attrTimeoutMs });
  const record = where.files === undefined ? undefined : join(where.files.runPath, `mount-${mountHash(path)}.json`);
  // Another process may serve this very mount point: its record is not ours to remove.
  let realMountPoint: string | undefined;
  let lost: readonly string[];
  try {
    const mounted = await mountFuse({
      ops: vfs,
      mountPoint: path,
      options: {
        binding: options.binding,
        readOnly: options.readOnly === true,
        fsName: `tatamifs:${where.key.clusterId.slice(0, 8)}`,
      },
      log: sentences(log),
    });
    vfs.setNotifier(mounted.notifier);
    realMountPoint = mounted.mountPoint;
    const ours = { pid: process.pid, mountPoint: path, realMountPoint, closeTimeoutMs: timeoutMs };
    await registerMount(ours);
    if (record !== undefined) await writeRecord(record, { role: 'mount', name: path, ...ours });
    await tellParent({ kind: 'ready', detail: path });
    log.info({ path }, 'mounted');
    await Promise.race([stopped, mounted.closed]);
    if (signalled) await mounted.unmount({ force: true });
    log.info({ path, sharing: client.sharing?.usage(), diskCache: client.diskCache?.usage }, 'unmounted');
  } finally {
    lost = await vfs.close();
    for (const item of lost) log.error({ path: item }, 'not written: the data of this file is lost');
    if (realMountPoint !== undefined) await mountEnded(realMountPoint, lost);
    await client.close();
    if (record !== undefined && realMountPoint !== undefined) await rm(record, { force: true });
  }
  if (lost.length > 0) throw lostFilesError(path, lost, undefined);
  // It ended in order: nobody needs what it said.
  if (inBackground && where.files === undefined) await removeLogs(logWithoutDirectory(path));
}
