/** Mounting a VfsOps: chooses the binding, checks what is needed, and hands back something that can be unmounted. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { FsError, TimeoutError, UsageError } from '../errors.ts';
import { MiB } from '../limits.ts';
import type { KernelNotifier, VfsOps } from '../vfs/ops.ts';
import {
  encodeInvalidateAttributes,
  encodeInvalidateEntry,
  encodeInvalidateInode,
  encodeStore,
} from './codec-notify.ts';
import { DEVICE_PATH, FuseDevice } from './device.ts';
import { findMount, type MountEntry } from './mount-table.ts';
import { FS_TYPE, inspectMountPoint, prepareMountPoint, readMountTable } from './mount-point.ts';
import { MAX_IO_BYTES } from './protocol.ts';
import { FuseSession } from './session.ts';
import { isThreadEnding } from './thread-signals.ts';
import { runTool, runUnmount } from './tools.ts';
import type { BindingName, FuseLog, FuseMount, FuseMountOptions, MountEnd } from './types.ts';

export { nativeBindingProblem } from './native.ts';
export { inspectMountPoint, type MountPointState } from './mount-point.ts';
export type { BindingName, FuseLog, FuseMount, FuseMountOptions, MountEnd } from './types.ts';

/**
 * Size of libuv's thread pool that a mount process wants: three notifications (and, without polling, two reads of the
 * device) may wait in it, the rest is for hashing and the sockets' name look-ups. It must be in the environment when the process starts
 * (`UV_THREADPOOL_SIZE`): the ES module loader of Node 20 uses the pool before the first line of a program runs, so
 * setting process.env there is too late (measured); only a CommonJS entry file, or a parent, can set it.
 */
export const MOUNT_THREAD_COUNT = 12;

/** Whether this process was started with enough threads for a mount. */
export function hasEnoughThreads(): boolean {
  return Number(process.env['UV_THREADPOOL_SIZE'] ?? 4) >= 6;
}

const DEFAULT_READ_AHEAD_BYTES = 4 * MiB;
/** The kernel asks INIT at once; slower than this is a machine that cannot work. */
const INIT_TIMEOUT_MS = 15_000;
const UNMOUNT_TIMEOUT_MS = 5_000;
/** Of a thread that was interrupted and waits on, it is looked this often whether it is killed. */
const INTERRUPTED_LOOK_MS = 200;

/** Which binding `auto` means on this machine, and why, in words. */
export function chooseBinding(wanted: FuseMountOptions['binding'] = 'auto'): { binding: BindingName; reason: string } {
  if (wanted !== 'auto') return { binding: wanted, reason: 'asked for' };
  if (process.geteuid?.() === 0)
    return { binding: 'dev-fuse', reason: 'this is root, which may mount /dev/fuse itself' };
  return {
    binding: 'fuse-native',
    reason: 'this is not root, so the setuid fusermount must mount (see docs/no-root-mount.md for its limits)',
  };
}

/**
 * Mounts `ops` at `mountPoint`, which must be an empty directory; a mount left there by a crash is removed first.
 * Resolves once the kernel and we have agreed on the protocol. Throws UsageError (missing, not empty, no device, no
 * permission, ...) or FsError EBUSY (something is mounted there), each with a remedy.
 */
export async function mountFuse(args: {
  readonly ops: VfsOps;
  readonly mountPoint: string;
  readonly options: FuseMountOptions;
  readonly log: FuseLog;
}): Promise<FuseMount> {
  const { ops, options, log } = args;
  const { binding } = chooseBinding(options.binding);
  if (!existsSync(DEVICE_PATH)) {
    throw new UsageError(`${DEVICE_PATH} does not exist, so nothing can be mounted.`, {
      remedy:
        'Load the kernel module with "modprobe fuse"; in a container, start it with "--device /dev/fuse --cap-add SYS_ADMIN".',
    });
  }
  const mountPoint = await prepareMountPoint(args.mountPoint, log);
  if (binding === 'fuse-native') {
    const { openThroughFusermount } = await import('./native.ts');
    return serve(
      binding,
      FuseDevice.adopt(openThroughFusermount(mountPoint, options), log),
      ops,
      mountPoint,
      options,
      log,
    );
  }
  const device = FuseDevice.open(log);
  try {
    await passToKernel(device.fd, mountPoint, options);
  } catch (error) {
    device.close();
    throw error;
  }
  return serve(binding, device, ops, mountPoint, options, log);
}

async function serve(
  binding: BindingName,
  device: FuseDevice,
  ops: VfsOps,
  mountPoint: string,
  options: FuseMountOptions,
  log: FuseLog,
): Promise<FuseMount> {
  const maxReadAheadBytes = options.maxReadAheadBytes ?? DEFAULT_READ_AHEAD_BYTES;
  let session!: FuseSession;
  let looking: NodeJS.Timeout | undefined;
  const lookAgain = (): void => {
    looking = session.lookAtInterrupted() ? setTimeout(lookAgain, INTERRUPTED_LOOK_MS) : undefined;
  };
  const ready = new Promise<void>((resolve) => {
    session = new FuseSession(ops, device, {
      maxReadAheadBytes,
      fileHandles: options.fileHandles !== false,
      log,
      onReady: resolve,
      isEnding: isThreadEnding,
      onInterrupted: () => (looking ??= setTimeout(lookAgain, INTERRUPTED_LOOK_MS)),
    });
  });
  device.start((message) => session.handle(message), options.outstandingReads ?? 0);
  const closed = device.closed.then((end) => {
    session.end();
    return end;
  });
  const entry = findMount(await readMountTable(), mountPoint);
  const mounted = new DeviceMount(binding, device, mountPoint, closed, entry, session);
  try {
    await settled(ready, closed);
    if (maxReadAheadBytes > 0) await raiseReadAhead(mounted.entry, maxReadAheadBytes, log);
    return mounted;
  } catch (error) {
    await mounted.unmount({ force: true });
    throw error;
  }
}

async function settled(ready: Promise<void>, closed: Promise<MountEnd>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new TimeoutError('The kernel did not begin to use the mount.', { remedy: 'See "dmesg" and try again.' }),
        ),
      INIT_TIMEOUT_MS,
    );
  });
  const gone = closed.then((end) => {
    throw new FsError('EIO', `The mount ended before it began (${end.reason}).`, {
      remedy: 'See the messages before this one; "tatami doctor" checks the machine.',
      cause: end.error,
    });
  });
  try {
    await Promise.race([ready, late, gone]);
  } finally {
    clearTimeout(timer);
    gone.catch(() => undefined);
  }
}

/** mount(8) does the system call with our descriptor, which it inherits as number 3. */
async function passToKernel(fd: number, mountPoint: string, options: FuseMountOptions): Promise<void> {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  const flags = [
    options.readOnly === true ? 'ro' : 'rw',
    ...(options.kernelFlags ?? []),
    'fd=3',
    'rootmode=40000',
    `user_id=${uid}`,
    `group_id=${gid}`,
    'default_permissions',
    ...(options.allowOther === false ? [] : ['allow_other']),
    `max_read=${MAX_IO_BYTES}`,
    // Kept by mount(8) in its own table; the kernel is not told.
    ...(options.umountHelper === true ? [`uhelper=${FS_TYPE}`] : []),
  ];
  const result = await runTool('mount', ['-i', '-t', FS_TYPE, '-o', flags.join(','), options.fsName, mountPoint], {
    inheritFd: fd,
  });
  if (result.code === 0) return;
  if (/permission denied|not permitted|superuser|must be root/i.test(result.message)) {
    throw new UsageError(`This user may not mount: ${result.message}`, {
      remedy: 'Run it as root (in a container, with "--cap-add SYS_ADMIN"), or choose "--binding fuse-native".',
    });
  }
  throw new UsageError(`Mounting failed: ${result.message || `mount ended with ${String(result.code)}`}`, {
    remedy: 'Run "tatami doctor" to see what this machine lacks.',
  });
}

/** INIT's max_readahead is capped by the device's own limit, 128 KiB by default: too little to keep several nodes busy. */
async function raiseReadAhead(entry: MountEntry | undefined, bytes: number, log: FuseLog): Promise<void> {
  if (entry === undefined) return;
  const path = `/sys/class/bdi/${entry.device}/read_ahead_kb`;
  try {
    await writeFile(path, String(Math.ceil(bytes / 1024)));
  } catch (error) {
    log(
      `Read-ahead stays at the system's setting, sequential reads will be slower: ${path} could not be written (${String(error)}).`,
    );
  }
}

class DeviceMount implements FuseMount {
  readonly binding: BindingName;
  readonly mountPoint: string;
  readonly notifier: KernelNotifier;
  readonly closed: Promise<MountEnd>;
  readonly entry: MountEntry | undefined;
  readonly #device: FuseDevice;
  #ended = false;

  constructor(
    binding: BindingName,
    device: FuseDevice,
    mountPoint: string,
    closed: Promise<MountEnd>,
    entry: MountEntry | undefined,
    session: FuseSession,
  ) {
    this.binding = binding;
    this.#device = device;
    this.mountPoint = mountPoint;
    this.entry = entry;
    this.closed = closed.then(async (end) => {
      // An aborted mount stays in the table as long as a program has a foot in it: every access then fails. Only a dead
      // mount is taken away: somebody may have mounted anew meanwhile.
      const left = (await this.#stillListed()) && (await inspectMountPoint(this.mountPoint)).state === 'stale';
      // What is mounted below would go with it.
      const isAlone = !(await readMountTable()).some((entry) => entry.mountPoint.startsWith(`${this.mountPoint}/`));
      if (left && isAlone) await runUnmount(this.mountPoint, 'lazy', UNMOUNT_TIMEOUT_MS);
      this.#ended = true;
      return left && end.reason === 'unmounted' ? { reason: 'aborted' } : end;
    });
    this.notifier = {
      get expiresNames() {
        return session.expiresNames;
      },
      invalidateInode: (ino) => device.notify('pages', encodeInvalidateInode(ino)),
      store: (ino, offset, data) => device.store(encodeStore(ino, offset, data), data),
      invalidateAttributes: (ino) => device.notify('attributes', encodeInvalidateAttributes(ino)),
      invalidateEntry: (parent, name) => {
        if (session.expiresNames) void device.notify('names', encodeInvalidateEntry(parent, name));
      },
    };
  }

  async unmount({ force = false }: { readonly force?: boolean } = {}): Promise<void> {
    if (this.#ended) return;
    const gentle = await runUnmount(this.mountPoint, 'plain', UNMOUNT_TIMEOUT_MS);
    if (gentle.code === 0 && (await this.#closedWithin(force ? UNMOUNT_TIMEOUT_MS : undefined))) return;
    if (this.#ended) return;
    if (!force) {
      throw new FsError('EBUSY', `${this.mountPoint} could not be unmounted: ${gentle.message}`, {
        remedy: `Close the programs that use it ("fuser -vm ${this.mountPoint}" lists them), or unmount by force.`,
      });
    }
    // Aborts the connection, so that whatever waits in it ends with an error; `closed` then takes the name away.
    await this.#abort();
    if (await this.#closedWithin(UNMOUNT_TIMEOUT_MS)) return;
    this.#device.abort();
    if (await this.#closedWithin(UNMOUNT_TIMEOUT_MS)) return;
    throw new FsError('EBUSY', `${this.mountPoint} was detached, but the kernel still holds its connection.`, {
      remedy: 'Ending this process releases it.',
    });
  }

  async #closedWithin(timeoutMs: number | undefined): Promise<boolean> {
    if (timeoutMs === undefined) return this.closed.then(() => true);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => (timer = setTimeout(() => resolve(false), timeoutMs)));
    try {
      return await Promise.race([this.closed.then(() => true), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #stillListed(): Promise<boolean> {
    const entry = findMount(await readMountTable(), this.mountPoint);
    return entry !== undefined && entry.device === this.entry?.device;
  }

  /**
   * Through fusectl, where the connection's number is the minor of the mount's device and its user may write. Containers
   * often lack it: then as root by umount -f, which needs a mount that is still there; else by closing the device.
   */
  async #abort(): Promise<void> {
    const minor = this.entry?.device.split(':')[1];
    if (minor === undefined) return;
    try {
      await writeFile(`/sys/fs/fuse/connections/${minor}/abort`, '1');
    } catch {
      const listed = await this.#stillListed();
      if (listed) await runUnmount(this.mountPoint, 'abort', UNMOUNT_TIMEOUT_MS);
      if (!listed || process.geteuid?.() !== 0) this.#device.abort();
    }
  }
}
