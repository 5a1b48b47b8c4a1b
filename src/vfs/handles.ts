/** What is open in this mount: numbers given to the kernel or the API, and what they stand for. */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { DirHandle } from './dir-handle.ts';
import type { FileData } from './file-data.ts';
import type { Inode } from './inode-table.ts';
import type { Handle } from './ops.ts';
import { ReadAhead } from './read-ahead.ts';

/** Linux's numbers for the flags of open(2) that are looked at here. */
export const O_ACCMODE = 3;
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_DSYNC = 0o10000;
export const O_DIRECT = 0o40000;
export const O_NOATIME = 0o1000000;
export const O_SYNC = 0o4010000;

export class FileHandle {
  readonly inode: Inode;
  readonly file: FileData;
  readonly canRead: boolean;
  readonly canWrite: boolean;
  readonly appends: boolean;
  /** Each write is on disk before it returns. */
  readonly syncs: boolean;
  /** The kernel keeps nothing of what is read through it. */
  readonly bypassesPages: boolean;
  /** Reads through it change no access time. */
  readonly leavesAtime: boolean;
  readonly ahead = new ReadAhead();
  /** Background errors of the file that this handle has reported. */
  errorsSeen: number;
  /** The version as of which the kernel drops its pages when it ends the open; it may never get that answer. */
  pagesVersion: number | undefined;
  /** Closed: nothing that comes for it later is of use. */
  isReleased = false;
  /** A lock was asked for through it. */
  hasLocked = false;
  /** Locks that were taken through it ended with the session: whoever believes to hold them must not go on. */
  locksLost = false;

  constructor(inode: Inode, file: FileData, flags: number) {
    this.inode = inode;
    this.file = file;
    const mode = flags & O_ACCMODE;
    this.canRead = mode !== O_WRONLY;
    this.canWrite = mode !== O_RDONLY;
    this.appends = (flags & O_APPEND) !== 0;
    this.syncs = (flags & (O_DSYNC | O_SYNC)) !== 0;
    this.bypassesPages = (flags & O_DIRECT) !== 0;
    this.leavesAtime = (flags & O_NOATIME) !== 0;
    this.errorsSeen = file.errorCount;
  }

  /** The kernel uses it: it has ended the open, and has no older pages. */
  used(): void {
    if (this.pagesVersion === undefined) return;
    this.inode.pageVersion = this.pagesVersion;
    this.pagesVersion = undefined;
  }

  /** Throws EIO if locks were lost, until it is closed. */
  checkLocks(): void {
    if (!this.locksLost) return;
    throw new FsError('EIO', 'the locks taken through this handle were lost: the servers did not hear of this mount', {
      remedy: 'Close the file and open it again.',
    });
  }

  /** Throws a background write's error, once per handle. */
  reportError(): void {
    if (this.errorsSeen === this.file.errorCount) return;
    this.errorsSeen = this.file.errorCount;
    this.file.errorTold?.();
    throw this.file.lastError ?? new FsError('EIO');
  }
}

export class HandleTable {
  readonly #open = new Map<Handle, FileHandle | DirHandle>();
  #next = 1;

  add(opened: FileHandle | DirHandle): Handle {
    const handle = this.#next++;
    this.#open.set(handle, opened);
    return handle;
  }

  file(handle: Handle): FileHandle {
    const found = this.#open.get(handle);
    if (!(found instanceof FileHandle)) throw new FsError('EBADF', `no open file has handle ${handle}`);
    return found;
  }

  directory(handle: Handle): DirHandle {
    const found = this.#open.get(handle);
    if (found === undefined || found instanceof FileHandle)
      throw new FsError('EBADF', `no open directory has handle ${handle}`);
    return found;
  }

  /** Undefined if it is not open. */
  inoOf(handle: Handle): Ino | undefined {
    const found = this.#open.get(handle);
    return found instanceof FileHandle ? found.inode.ino : found?.ino;
  }

  /** Undefined if it is not open. */
  remove(handle: Handle): FileHandle | DirHandle | undefined {
    const found = this.#open.get(handle);
    this.#open.delete(handle);
    return found;
  }

  numbers(): Handle[] {
    return [...this.#open.keys()];
  }
}
