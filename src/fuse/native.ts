/**
 * Mounting without root. Only the setuid `fusermount` may then mount, and it hands the descriptor of /dev/fuse over a
 * Unix socket, which Node cannot receive. The addon `fuse-native` (libfuse 2) can: its `mount` first gets the
 * descriptor, then builds libfuse's own request loop over it. That loop is path-based and has defects (it passes atime
 * as mtime, knows no callers, ...), so it is kept from starting: libfuse refuses an option that it does not know, at
 * a point where the mount is already made and nothing has been read from it. From there on our own session serves the
 * descriptor, exactly as for root. What remains different is listed in docs/no-root-mount.md.
 */
import { accessSync, constants, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { UsageError } from '../errors.ts';
import { DEVICE_PATH } from './device.ts';
import { MAX_IO_BYTES } from './protocol.ts';
import type { FuseMountOptions } from './types.ts';

/** The part of the addon that is used. */
interface NativeBinding {
  readonly sizeof_fuse_thread_t: number;
  fuse_native_mount(
    mountPoint: string,
    options: string,
    thread: Buffer,
    self: object,
    malloc: () => Buffer,
    handlers: readonly (() => void)[],
    implemented: Uint32Array,
  ): void;
  fuse_native_unmount(mountPoint: string, thread: Buffer): void;
}

/** Unknown to libfuse, which names it on stderr when it refuses it; the name says that this is meant to be so. */
const REFUSED_OPTION = 'tatamifs_reads_the_device_itself';
const OPERATION_COUNT = 35;
/** Of the flags that root may give. */
const UNKNOWN_TO_FUSERMOUNT = new Set(['nodiratime', 'relatime']);
const INSTALL = 'Install it with "apt-get install fuse" (as root), or mount as root.';

/** The addon links handles that live in these buffers into the event loop: they must never be collected. */
const immortal: Buffer[] = [];

/** What mounting without root needs and this machine lacks; undefined if nothing. For `tatami doctor`. */
export function nativeBindingProblem(): UsageError | undefined {
  try {
    checkDevice();
    findFusermount();
    loadBinding();
    return undefined;
  } catch (error) {
    return error as UsageError;
  }
}

/** Mounts at `mountPoint` and returns the descriptor to serve. Blocks for some milliseconds while fusermount runs. */
export function openThroughFusermount(mountPoint: string, options: FuseMountOptions): number {
  checkDevice();
  findFusermount();
  const binding = loadBinding();
  if (options.allowOther === true) checkAllowOther();
  const before = new Set(deviceDescriptors());
  const thread = Buffer.alloc(binding.sizeof_fuse_thread_t);
  immortal.push(thread);
  const flags = [
    options.readOnly === true ? 'ro' : 'rw',
    ...(options.kernelFlags ?? []).filter((flag) => !UNKNOWN_TO_FUSERMOUNT.has(flag)),
    'default_permissions',
    ...(options.allowOther === true ? ['allow_other'] : []),
    // A comma would start another option.
    `fsname=${options.fsName.replaceAll(',', '_')}`,
    'subtype=tatamifs',
    `max_read=${MAX_IO_BYTES}`,
    REFUSED_OPTION,
  ];
  const handlers = new Array<() => void>(OPERATION_COUNT).fill(() => undefined);
  try {
    binding.fuse_native_mount(
      mountPoint,
      `-o${flags.join(',')}`,
      thread,
      {},
      () => Buffer.alloc(0),
      handlers,
      new Uint32Array(OPERATION_COUNT),
    );
  } catch {
    // Always: either mounting failed, then there is no descriptor, or libfuse refused the option as it should.
  }
  const fd = deviceDescriptors().find((candidate) => !before.has(candidate));
  if (fd === undefined) {
    throw new UsageError(`fusermount could not mount at ${mountPoint}; it says why on stderr.`, {
      remedy:
        'Use a directory that this user owns, and a machine (or container) whose users may mount; "tatami doctor" checks it.',
    });
  }
  // Lets the process end: the handle that the addon put into the event loop stays there, but no longer counts.
  binding.fuse_native_unmount(mountPoint, thread);
  return fd;
}

function deviceDescriptors(): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === DEVICE_PATH;
      } catch {
        return false;
      }
    });
}

/** fusermount opens it with the rights of the user. */
function checkDevice(): void {
  try {
    accessSync(DEVICE_PATH, constants.R_OK | constants.W_OK);
  } catch (cause) {
    throw new UsageError(`${DEVICE_PATH} may not be opened by this user.`, {
      remedy: `Allow it with "chmod 666 ${DEVICE_PATH}" (as root; Debian's own setting), or mount as root.`,
      cause,
    });
  }
}

function findFusermount(): string {
  for (const directory of [...(process.env['PATH'] ?? '').split(':'), '/usr/bin', '/bin']) {
    const path = join(directory, 'fusermount');
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  throw new UsageError('The program fusermount, with which users other than root mount, is missing.', {
    remedy: INSTALL,
  });
}

function loadBinding(): NativeBinding {
  const require = createRequire(import.meta.url);
  let addon: string;
  try {
    addon = require.resolve('fuse-native/package.json');
  } catch (cause) {
    throw new UsageError(
      'The optional package fuse-native, with which users other than root mount, is not installed.',
      {
        remedy: 'Run "npm install fuse-native", or mount as root.',
        cause,
      },
    );
  }
  try {
    const load = createRequire(addon)('node-gyp-build') as (directory: string) => unknown;
    const binding = load(dirname(addon)) as Partial<NativeBinding>;
    if (
      typeof binding.fuse_native_mount === 'function' &&
      typeof binding.fuse_native_unmount === 'function' &&
      typeof binding.sizeof_fuse_thread_t === 'number'
    ) {
      return binding as NativeBinding;
    }
  } catch (cause) {
    if (/libfuse/.test(String(cause)))
      throw new UsageError('The library libfuse.so.2, which fuse-native needs, is missing.', {
        remedy: INSTALL,
        cause,
      });
    throw new UsageError(`The package fuse-native cannot be loaded: ${String(cause)}`, {
      remedy: 'Mount as root, which does not need it.',
      cause,
    });
  }
  throw new UsageError('The installed fuse-native is of a version that is not known.', {
    remedy: 'Run "npm install fuse-native@2.2.6", or mount as root.',
  });
}

function checkAllowOther(): void {
  if (process.geteuid?.() === 0) return;
  let configuration = '';
  try {
    configuration = readFileSync('/etc/fuse.conf', 'utf8');
  } catch {
    // Missing: nothing is allowed.
  }
  if (/^\s*user_allow_other\s*$/m.test(configuration)) return;
  throw new UsageError('This user may not let other users into the mount.', {
    remedy: 'Add the line "user_allow_other" to /etc/fuse.conf (as root), or leave allowOther off.',
  });
}
