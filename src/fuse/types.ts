/** What the parts of the kernel binding share. */
import type { KernelNotifier } from '../vfs/ops.ts';

/** Where the binding reports what nobody waits for: whole sentences. */
export type FuseLog = (text: string) => void;

/** A sentence and the error behind it, with its stack: for errors that point to a bug. */
export function withCause(sentence: string, error: unknown): string {
  return `${sentence} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}

export type BindingName = 'dev-fuse' | 'fuse-native';

/** Why a mount ended: somebody unmounted it, its connection was aborted (umount -f), or the binding failed. */
export interface MountEnd {
  readonly reason: 'unmounted' | 'aborted' | 'failed';
  readonly error?: unknown;
}

export interface FuseMount {
  readonly binding: BindingName;
  /** Absolute, symbolic links resolved. */
  readonly mountPoint: string;
  readonly notifier: KernelNotifier;
  /** Resolves, never rejects, once the kernel asks nothing any more. */
  readonly closed: Promise<MountEnd>;
  /**
   * Unmounts and waits for {@link FuseMount.closed}. Without `force` it fails with FsError EBUSY while programs use
   * the mount, and nothing has changed then. With it their open files end in errors and the mount is gone.
   */
  unmount(options?: { readonly force?: boolean }): Promise<void>;
}

export interface FuseMountOptions {
  /** `auto`: dev-fuse as root, else fuse-native (which only mounts: the protocol is ours with both). */
  readonly binding?: 'auto' | BindingName;
  readonly readOnly?: boolean;
  /** Whether users other than the one who mounts may use it; access is checked by mode bits either way. Default true as root, else false. */
  readonly allowOther?: boolean;
  /**
   * Further flags of mount(8) that the kernel obeys by itself: nosuid, nodev, noexec, noatime, nodiratime, relatime. Without root
   * those that fusermount does not know (nodiratime, relatime) are left out: what serves the mount keeps access times, and not the kernel.
   */
  readonly kernelFlags?: readonly string[];
  /**
   * False: no inode can be had by a file handle alone (open_by_handle_at, NFS export), as long as the kernel does not have it
   * from a name. Default true.
   */
  readonly fileHandles?: boolean;
  /**
   * dev-fuse: umount(8) shall call /sbin/umount.fuse.tatamifs, if there is one, which waits until all is written. It looks for one only for
   * mounts of which mount(8) keeps a note. Default false.
   */
  readonly umountHelper?: boolean;
  /** Shown as the source in /proc/mounts and df. */
  readonly fsName: string;
  /** How far the kernel reads ahead of a sequential reader. Default 4 MiB; 0 leaves the system's own setting. */
  readonly maxReadAheadBytes?: number;
  /** dev-fuse: reads of the device waiting in the thread pool at once; default 0: the event loop polls the device instead. */
  readonly outstandingReads?: number;
}
