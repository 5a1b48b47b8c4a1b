/**
 * The filesystem as a kernel binding sees it: POSIX by inode, many calls at once. `Vfs` (vfs.ts) implements it over
 * meta and blocks; bench/ and the tests implement it in memory. Bindings (src/fuse) translate to and from it and know
 * nothing else. Failures are FsError; any other error is a bug and is answered with EIO and logged.
 */
import type { CancelSignal } from '../cancel.ts';
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { Attr, FileType, SetAttr } from '../meta/types.ts';

export { LOCK_END_MAX } from '../meta/locks.ts';

/** Answers known at once need no promise: it saves a turn of the event loop on the hot path. */
export type Maybe<T> = T | Promise<T>;

export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Fires when the calling thread was interrupted; the operation may then end with EINTR. */
  readonly signal?: CancelSignal;
}

export type Handle = number;

/**
 * ENOENT, for the file has lost its name since it was found under it, as a local filesystem says, too. A binding need not
 * have the path walked again, as it must when what it asked about may have been gone for long.
 */
export class RemovedMeanwhileError extends FsError {
  constructor() {
    super('ENOENT', 'the file was removed meanwhile');
  }
}

export interface Entry {
  readonly attr: Attr;
  /** How long the kernel may keep the name, and the attributes. */
  readonly entryTimeoutMs: number;
  readonly attrTimeoutMs: number;
}

export interface AttrReply {
  readonly attr: Attr;
  readonly attrTimeoutMs: number;
}

export interface Opened {
  readonly handle: Handle;
  /** Kernel pages of earlier opens are still right. */
  readonly keepCache: boolean;
}

export interface DirItem {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly type: FileType;
  /** Pass as `offset` to go on after this entry; opaque, > 0. */
  readonly nextOffset: number;
  /** Present for readdirplus unless name is `.` or `..`. */
  readonly entry?: Entry;
}

export interface StatFs {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly fileCount: number;
  readonly freeFileCount: number;
  readonly blockSizeBytes: number;
}

/** Bytes of a read, and what to call once they were copied out. */
export interface ReadResult {
  readonly chunks: readonly Uint8Array[];
  release?(): void;
}

/** Whose lock it is, and of which of the two kinds, which do not see each other. */
export interface LockOwner {
  /** posix: of a process, fcntl(2). flock: of an open file, flock(2). */
  readonly kind: 'posix' | 'flock';
  /** The kernel's number of 64 bits. */
  readonly owner: bigint;
}

export interface FileLock {
  readonly type: 'read' | 'write' | 'unlock';
  readonly start: number;
  /** Inclusive; LOCK_END_MAX: to the end of the file. */
  readonly end: number;
  readonly pid: number;
}

/** Open flags, as the Linux numbers in `flags` of open(2). */
export interface VfsOps {
  lookup(caller: Caller, parent: Ino, name: Uint8Array): Maybe<Entry>;
  /** The kernel drops `count` references of those that lookup, make and readdirplus gave. */
  forget(ino: Ino, count: number): void;
  /** An answer with attributes of this inode did not reach the kernel: the request was interrupted. */
  unseen?(ino: Ino): void;
  getattr(caller: Caller, ino: Ino, handle: Handle | undefined): Maybe<AttrReply>;
  setattr(caller: Caller, ino: Ino, set: SetAttr, handle: Handle | undefined): Maybe<AttrReply>;
  readlink(caller: Caller, ino: Ino): Maybe<Uint8Array>;
  /**
   * For type 'file', 'fifo', 'socket', 'char', 'block'. Here and below, `umask` is taken from the mode unless the directory
   * has a default access control list, which then says what is allowed.
   */
  mknod(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    type: FileType,
    mode: number,
    rdev: number,
    umask?: number,
  ): Maybe<Entry>;
  mkdir(caller: Caller, parent: Ino, name: Uint8Array, mode: number, umask?: number): Maybe<Entry>;
  symlink(caller: Caller, parent: Ino, name: Uint8Array, target: Uint8Array): Maybe<Entry>;
  link(caller: Caller, ino: Ino, newParent: Ino, newName: Uint8Array): Maybe<Entry>;
  unlink(caller: Caller, parent: Ino, name: Uint8Array): Maybe<void>;
  rmdir(caller: Caller, parent: Ino, name: Uint8Array): Maybe<void>;
  rename(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    options: { readonly noReplace: boolean; readonly exchange: boolean },
  ): Maybe<void>;
  open(caller: Caller, ino: Ino, flags: number): Maybe<Opened>;
  create(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    flags: number,
    umask?: number,
  ): Maybe<Entry & Opened>;
  /** O_TMPFILE: a file without a name, which `link` may give one. */
  tmpfile?(caller: Caller, parent: Ino, mode: number, flags: number, umask?: number): Maybe<Entry & Opened>;
  /** Fewer bytes than asked only at the end of the file. */
  read(caller: Caller, handle: Handle, offset: number, size: number): Maybe<ReadResult>;
  /**
   * Copies what it keeps of `data` before it returns or awaits. Resolves with the byte count. `flags`: of the open file as they
   * are by now (fcntl F_SETFL), if they may differ from those it was opened with.
   */
  write(caller: Caller, handle: Handle, offset: number, data: Uint8Array, flags?: number): Maybe<number>;
  /** The first lock that is in the way of this one, or type 'unlock'. */
  getlk(caller: Caller, handle: Handle, owner: LockOwner, lock: FileLock): Maybe<FileLock>;
  /** EAGAIN if it would have to wait and shall not. A wait ends with EINTR when the caller's signal fires. */
  setlk(caller: Caller, handle: Handle, owner: LockOwner, lock: FileLock, wait: boolean): Maybe<void>;
  /** On each close(2): dirty data is committed, write errors are reported, the owner's fcntl locks are given up. */
  flush(caller: Caller, handle: Handle, lockOwner: bigint): Maybe<void>;
  /** Last close: locks of the open file are given up. */
  release(handle: Handle): Maybe<void>;
  fsync(caller: Caller, handle: Handle, dataOnly: boolean): Maybe<void>;
  opendir(caller: Caller, ino: Ino): Maybe<Opened>;
  /**
   * Entries from `offset` (0 = start, else a nextOffset), `.` and `..` included. At most about maxEntries; an empty
   * answer ends the directory. With `plus`, each entry that the binding passes on counts as a lookup: it calls `kept`.
   */
  readdir(caller: Caller, handle: Handle, offset: number, maxEntries: number, plus: boolean): Maybe<readonly DirItem[]>;
  /** Somebody was told that an operation had ended which goes on: nobody will be told what comes of it. */
  abandoned?(): void;
  /** The kernel took a reference on this inode through readdirplus. */
  remember(ino: Ino): void;
  releasedir(handle: Handle): Maybe<void>;
  fsyncdir(caller: Caller, handle: Handle): Maybe<void>;
  statfs(caller: Caller): Maybe<StatFs>;
  getxattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<Uint8Array>;
  /** `killSetgid`: an access control list that is set takes the setgid bit, as the caller is not in the file's group. */
  setxattr(
    caller: Caller,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: 'any' | 'create' | 'replace',
    killSetgid?: boolean,
  ): Maybe<void>;
  listxattr(caller: Caller, ino: Ino): Maybe<readonly Uint8Array[]>;
  removexattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<void>;
  /** mode: FALLOC_FL_* bits; EOPNOTSUPP for what is not supported. */
  fallocate(caller: Caller, handle: Handle, offset: number, length: number, mode: number): Maybe<void>;
  /**
   * Copies up to `length` bytes between two open files (or within one) without moving them: the target's range then names the
   * same blocks. Resolves with how many; fewer than asked also within the file: ask again. 0 at the source's end.
   * EBADF, EINVAL (overlap in one file), EFBIG; EXDEV where the bytes themselves must be copied (another pool).
   */
  copyFileRange(
    caller: Caller,
    source: Handle,
    sourceOffset: number,
    target: Handle,
    targetOffset: number,
    length: number,
  ): Maybe<number>;
  /** SEEK_DATA 3, SEEK_HOLE 4; ENXIO past the end. */
  lseek(caller: Caller, handle: Handle, offset: number, whence: number): Maybe<number>;
}

/** What the filesystem may tell the kernel; given to it by the binding. */
export interface KernelNotifier {
  /** Resolves when its pages and attributes are dropped. */
  invalidateInode(ino: Ino): Promise<void>;
  invalidateAttributes(ino: Ino): Promise<void>;
  /**
   * Gives it bytes as the file's content from `offset` on, whole pages. Resolves when it has taken them (true) or has not, and looks at
   * the memory no more. What it is told of the inode's pages afterwards counts after them.
   */
  store(ino: Ino, offset: number, data: readonly Uint8Array[]): Promise<boolean>;
  /**
   * The next use of the name asks for it. Nothing is done where the kernel can only drop the name altogether: a program that is in
   * such a directory would no more know its path.
   */
  invalidateEntry(parent: Ino, name: Uint8Array): void;
  /** Whether it can. */
  readonly expiresNames: boolean;
}
