/**
 * The filesystem of one mount: POSIX by inode over metadata and blocks, as kernel bindings and the API above call it.
 * Permission checks are the kernel's (default_permissions); callers of the API act as the user they were given.
 *
 * How data is kept consistent is told in docs/architecture.md; by file: write-back.ts (writing), read-path.ts
 * (reading), mount-state.ts (what replies change), name-ops.ts, file-ops.ts, dir-ops.ts, xattr-ops.ts (operations).
 */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import { FsError, TimeoutError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { NAME_MAX_BYTES } from '../limits.ts';
import type { FileType, SetAttr } from '../meta/types.ts';
import { withDeadline } from './async.ts';
import { CloneOps } from './clone-ops.ts';
import type { Compacted } from './compactor.ts';
import { OpDeadlines } from './op-deadlines.ts';
import { DataOps } from './data-ops.ts';
import { DirOps } from './dir-ops.ts';
import { FileOps } from './file-ops.ts';
import { toFsError } from './fs-errors.ts';
import { LockOps } from './lock-ops.ts';
import { MountState } from './mount-state.ts';
import { NameOps, type NewInode } from './name-ops.ts';
import type {
  AttrReply,
  Caller,
  DirItem,
  Entry,
  FileLock,
  Handle,
  KernelNotifier,
  LockOwner,
  Maybe,
  Opened,
  ReadResult,
  StatFs,
  VfsOps,
} from './ops.ts';
import { blockSizeOf, type VfsOptions } from './options.ts';
import { XattrOps } from './xattr-ops.ts';

/** All is committed by then; whether it is on the servers' disks, too, is not worth a long wait for nodes that are gone. */
const CLOSE_SYNC_TIMEOUT_MS = 5_000;
/** df asks often and nothing depends on its exactness. */
const SPACE_KEPT_MS = 1_000;
/** There is no table of inodes that could be full. */
const FILE_COUNT_MAX = 2 ** 40;

export interface VfsUsage {
  readonly dirtyBytes: number;
  readonly dirtyPeakBytes: number;
  readonly cachedBytes: number;
  readonly readAheadBytes: number;
  /** Given to the kernel ahead of who reads at random, since the mount began. */
  readonly prefetchedBytes: number;
  readonly inodeCount: number;
  /** In the background, since the mount began. */
  readonly compacted: Compacted;
}

export class Vfs implements VfsOps {
  readonly #state: MountState;
  readonly #names: NameOps;
  readonly #files: FileOps;
  readonly #data: DataOps;
  readonly #clones: CloneOps;
  readonly #locks: LockOps;
  readonly #dirs: DirOps;
  readonly #xattrs: XattrOps;
  readonly #deadlines: OpDeadlines;
  #space: { readonly untilMs: number; readonly answer: Promise<StatFs> } | undefined;
  #closed: Promise<string[]> | undefined;

  constructor(options: VfsOptions) {
    this.#state = new MountState(options);
    this.#names = new NameOps(this.#state);
    this.#files = new FileOps(this.#state, this.#names);
    this.#data = new DataOps(this.#state, this.#files);
    this.#clones = new CloneOps(this.#state, options.blocks);
    this.#locks = new LockOps(this.#state);
    this.#dirs = new DirOps(this.#state);
    this.#xattrs = new XattrOps(this.#state);
    this.#deadlines = new OpDeadlines(this.#state.clock, this.#state.limits.timeoutMs);
  }

  /** The binding's way to tell the kernel to forget what it keeps of a file when a lock is taken. */
  setNotifier(notifier: KernelNotifier): void {
    this.#state.watched.kernel.notifier = notifier;
  }

  lookup(caller: Caller, parent: Ino, name: Uint8Array): Maybe<Entry> {
    return this.#bound('lookup', parent, this.#names.lookup(caller, parent, name), this.#forgetEntry);
  }
  forget(ino: Ino, count: number): void {
    const { inodes } = this.#state;
    const inode = inodes.get(ino);
    inodes.forget(ino, count);
    // A fifo that had lost its name: nobody has it open any more.
    if (inode?.orphan === true && !inode.gone && inode.kernelRefs === 0 && inode.openCount === 0) {
      this.#state.closedLast(inode);
    }
  }
  abandoned(): void {
    this.#state.watched.tellOwn();
  }
  /** What the kernel was told last is not known: the next open tells it anew. */
  unseen(ino: Ino): void {
    this.#state.inodes.get(ino)?.unseen();
  }
  remember(ino: Ino): void {
    const inode = this.#state.inodes.get(ino);
    if (inode !== undefined) inode.kernelRefs += 1;
  }
  getattr(caller: Caller, ino: Ino, _handle: Handle | undefined): Maybe<AttrReply> {
    return this.#bound('getattr', ino, this.#files.getattr(caller, ino), () => this.unseen(ino));
  }
  setattr(caller: Caller, ino: Ino, set: SetAttr, handle: Handle | undefined): Maybe<AttrReply> {
    return this.#bound('setattr', ino, this.#files.setattr(caller, ino, set, handle), () => this.unseen(ino));
  }
  readlink(caller: Caller, ino: Ino): Maybe<Uint8Array> {
    return this.#bound('readlink', ino, this.#names.readlink(caller, ino));
  }
  mknod(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    type: FileType,
    mode: number,
    rdev: number,
    umask?: number,
  ): Maybe<Entry> {
    return this.#make('mknod', caller, parent, name, { type, mode, umask: umask ?? 0, rdev });
  }
  mkdir(caller: Caller, parent: Ino, name: Uint8Array, mode: number, umask?: number): Maybe<Entry> {
    return this.#make('mkdir', caller, parent, name, { type: 'directory', mode, umask: umask ?? 0 });
  }
  symlink(caller: Caller, parent: Ino, name: Uint8Array, target: Uint8Array): Maybe<Entry> {
    return this.#make('symlink', caller, parent, name, { type: 'symlink', mode: 0o777, umask: 0, target });
  }
  #make(what: string, caller: Caller, parent: Ino, name: Uint8Array, made: NewInode): Maybe<Entry> {
    return this.#bound(what, parent, this.#names.makeEntry(caller, parent, name, made), this.#forgetEntry);
  }
  link(caller: Caller, ino: Ino, newParent: Ino, newName: Uint8Array): Maybe<Entry> {
    return this.#bound('link', ino, this.#names.link(caller, ino, newParent, newName), this.#forgetEntry);
  }
  unlink(caller: Caller, parent: Ino, name: Uint8Array): Maybe<void> {
    return this.#bound('unlink', parent, this.#names.unlink(caller, parent, name));
  }
  rmdir(caller: Caller, parent: Ino, name: Uint8Array): Maybe<void> {
    return this.#bound('rmdir', parent, this.#names.rmdir(caller, parent, name));
  }
  rename(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    options: { readonly noReplace: boolean; readonly exchange: boolean },
  ): Maybe<void> {
    return this.#bound('rename', parent, this.#names.rename(caller, parent, name, newParent, newName, options));
  }

  open(caller: Caller, ino: Ino, flags: number): Maybe<Opened> {
    return this.#bound('open', ino, this.#files.open(caller, ino, flags), ({ handle }) => this.release(handle));
  }
  create(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    flags: number,
    umask?: number,
  ): Maybe<Entry & Opened> {
    return this.#bound('create', parent, this.#files.create(caller, parent, name, mode, umask ?? 0, flags), (made) => {
      this.release(made.handle);
      this.#forgetEntry(made);
    });
  }
  tmpfile(caller: Caller, parent: Ino, mode: number, flags: number, umask?: number): Maybe<Entry & Opened> {
    return this.#bound('create', parent, this.#files.tmpfile(caller, parent, mode, umask ?? 0, flags), (made) => {
      this.release(made.handle);
      this.#forgetEntry(made);
    });
  }
  read(caller: Caller, handle: Handle, offset: number, size: number): Maybe<ReadResult> {
    if (!this.#locks.isIdle) this.#locks.checkCertain(handle);
    const result = this.#data.read(caller, handle, offset, size);
    return this.#boundHandle('read', handle, result, (late) => late.release?.());
  }
  write(caller: Caller, handle: Handle, offset: number, data: Uint8Array, flags?: number): Maybe<number> {
    return this.#boundHandle('write', handle, this.#data.write(caller, handle, offset, data, flags));
  }
  getlk(caller: Caller, handle: Handle, owner: LockOwner, lock: FileLock): Maybe<FileLock> {
    return this.#boundHandle('getlk', handle, this.#locks.getlk(caller, handle, owner, lock));
  }
  /** Waiting for others has no deadline; its steps have. */
  setlk(caller: Caller, handle: Handle, owner: LockOwner, lock: FileLock, wait: boolean): Maybe<void> {
    const result = this.#locks.setlk(caller, handle, owner, lock, wait);
    return wait ? result : this.#boundHandle('setlk', handle, result);
  }
  flush(caller: Caller, handle: Handle, lockOwner: bigint): Maybe<void> {
    return this.#boundHandle('close', handle, this.#flush(caller, handle, lockOwner));
  }
  #flush(caller: Caller, handle: Handle, lockOwner: bigint): Maybe<void> {
    return this.#locks.isIdle ? this.#data.flush(caller, handle) : this.#flushAndUnlock(caller, handle, lockOwner);
  }
  /** What was written under a lock is committed before others may have it, and they may although that failed. */
  async #flushAndUnlock(caller: Caller, handle: Handle, lockOwner: bigint): Promise<void> {
    try {
      await this.#data.flush(caller, handle);
    } finally {
      await this.#locks.closed(handle, lockOwner);
    }
  }
  release(handle: Handle): void {
    const opened = this.#files.release(handle);
    if (opened !== undefined) this.#locks.released(opened);
  }
  fsync(_caller: Caller, handle: Handle, _dataOnly: boolean): Maybe<void> {
    return this.#boundHandle('fsync', handle, this.#data.fsync(handle));
  }
  fallocate(caller: Caller, handle: Handle, offset: number, length: number, mode: number): Maybe<void> {
    return this.#boundHandle('fallocate', handle, this.#data.fallocate(caller, handle, offset, length, mode));
  }
  copyFileRange(
    caller: Caller,
    source: Handle,
    sourceOffset: number,
    target: Handle,
    targetOffset: number,
    length: number,
  ): Maybe<number> {
    const result = this.#clones.copyRange(caller, source, sourceOffset, target, targetOffset, length);
    return this.#boundHandle('copy_file_range', target, result);
  }
  lseek(caller: Caller, handle: Handle, offset: number, whence: number): Maybe<number> {
    return this.#boundHandle('lseek', handle, this.#data.lseek(caller, handle, offset, whence));
  }

  opendir(_caller: Caller, ino: Ino): Maybe<Opened> {
    return this.#dirs.opendir(ino);
  }
  readdir(
    caller: Caller,
    handle: Handle,
    offset: number,
    maxEntries: number,
    plus: boolean,
  ): Maybe<readonly DirItem[]> {
    const result = this.#dirs.readdir(caller, handle, offset, maxEntries, plus);
    return this.#boundHandle('readdir', handle, result, (late) => {
      for (const { entry } of late) if (entry !== undefined) this.unseen(entry.attr.ino);
    });
  }
  releasedir(handle: Handle): void {
    this.#dirs.releasedir(handle);
  }
  fsyncdir(_caller: Caller, handle: Handle): Maybe<void> {
    return this.#boundHandle('fsync', handle, this.#state.sync());
  }

  getxattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<Uint8Array> {
    return this.#bound('getxattr', ino, this.#xattrs.getxattr(caller, ino, name));
  }
  setxattr(
    caller: Caller,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: 'any' | 'create' | 'replace',
    killSetgid?: boolean,
  ): Maybe<void> {
    return this.#bound('setxattr', ino, this.#xattrs.setxattr(caller, ino, name, value, mode, killSetgid ?? false));
  }
  listxattr(caller: Caller, ino: Ino): Maybe<readonly Uint8Array[]> {
    return this.#bound('listxattr', ino, this.#xattrs.listxattr(caller, ino));
  }
  removexattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<void> {
    return this.#bound('removexattr', ino, this.#xattrs.removexattr(caller, ino, name));
  }

  /** Within the deadline, and a failure that is not the caller's own is logged with the path. */
  #bound<T>(what: string, ino: Ino, result: Maybe<T>, giveBack?: (late: T) => void): Maybe<T> {
    if (!(result instanceof Promise)) return result;
    const bounded = this.#deadlines.bound(what, result, giveBack) as Promise<T>;
    bounded.catch((error: unknown) => this.#state.operationFailed(what, ino, error));
    return bounded;
  }

  #boundHandle<T>(what: string, handle: Handle, result: Maybe<T>, giveBack?: (late: T) => void): Maybe<T> {
    if (!(result instanceof Promise)) return result;
    return this.#bound(what, this.#state.handles.inoOf(handle) ?? ROOT_INO, result, giveBack);
  }

  readonly #forgetEntry = ({ attr: { ino } }: Entry): void => {
    this.unseen(ino);
    this.forget(ino, 1);
  };

  /** Space as a file of the root's pool sees it: raw bytes divided by the number of copies. */
  statfs(_caller: Caller): Maybe<StatFs> {
    const now = this.#state.clock.monotonicMs();
    if (this.#space === undefined || this.#space.untilMs <= now) {
      const answer = this.#statfs();
      answer.catch(() => (this.#space = undefined));
      this.#space = { untilMs: now + SPACE_KEPT_MS, answer };
    }
    return this.#space.answer;
  }

  async #statfs(): Promise<StatFs> {
    const { catalog, clock, inodes, limits } = this.#state;
    const { pools } = catalog.current();
    const rootPool = inodes.get(ROOT_INO)?.attr.pool;
    const pool = pools.find(({ id }) => id === rootPool) ?? pools.find(({ kind }) => kind === 'filesystem') ?? pools[0];
    if (pool === undefined) throw new FsError('EIO', 'the catalog has no pool');
    try {
      const [space, counts] = await withDeadline(clock, limits.timeoutMs, 'statfs', () =>
        Promise.all([this.#state.space(), this.#state.meta.query<'statfs'>({ op: 'statfs' })]),
      );
      return {
        totalBytes: Math.floor(space.totalBytes / pool.copies),
        freeBytes: Math.floor(space.freeBytes / pool.copies),
        fileCount: FILE_COUNT_MAX,
        freeFileCount: FILE_COUNT_MAX - counts.inodeCount,
        blockSizeBytes: blockSizeOf(catalog, pool.id),
      };
    } catch (error) {
      if (error instanceof FsError) throw error;
      throw new FsError('EIO', 'the space of the cluster is not known', { cause: error });
    }
  }

  /** Everything written so far is committed and on disk when it resolves; rejects with the first failure. */
  async sync(): Promise<void> {
    await this.#bound('sync', ROOT_INO, this.#sync());
  }

  async #sync(): Promise<void> {
    const files = [...this.#state.writeBack.dirtyFiles()];
    const before = files.map((file) => file.errorCount);
    await Promise.all(files.map(async (file) => this.#state.writeBack.flush(file)));
    const failed = files.find((file, index) => file.errorCount !== before[index]);
    if (failed !== undefined) throw failed.lastError ?? new FsError('EIO');
    await this.#state.sync();
  }

  /** Puts the file together where it is in many pieces. `signal`: no more of it (EINTR); what is done stays. */
  async compact(
    ino: Ino,
    options: { readonly signal?: CancelSignal; readonly onProgress?: (done: Compacted) => void } = {},
  ): Promise<Compacted> {
    const { signal = new Cancellation(), onProgress = () => {} } = options;
    const file = this.#state.inodes.get(ino)?.data;
    if (file !== undefined) await this.#state.writeBack.flush(file);
    try {
      return await this.#state.compactor.compactFile(ino, signal, onProgress);
    } catch (error) {
      throw signal.aborted ? new FsError('EINTR') : toFsError(error, 'compacting');
    }
  }

  /** Whether the root can be reached: a cheap question to the servers. */
  async ping(): Promise<void> {
    await this.#state.query<'getattr'>({ op: 'getattr', ino: ROOT_INO });
  }

  usage(): VfsUsage {
    const { memory, cache, inodes, compactor, prefetch } = this.#state;
    return {
      dirtyBytes: memory.usedBytes,
      dirtyPeakBytes: memory.peakBytes,
      cachedBytes: cache.bytes,
      readAheadBytes: cache.aheadBytes,
      prefetchedBytes: prefetch.storedBytes,
      inodeCount: inodes.size,
      compacted: compactor.done,
    };
  }

  /** The longest name, for pathconf. */
  get nameMaxBytes(): number {
    return NAME_MAX_BYTES;
  }

  /**
   * Writes everything and lets go of what is open. Ends after `timeoutMs` (an operation's deadline, unless told) in any case; resolves with the paths of
   * files that lost written data, as far as no program was told of it.
   */
  close(timeoutMs = this.#state.limits.timeoutMs): Promise<string[]> {
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  async #close(timeoutMs: number): Promise<string[]> {
    const { writeBack, clock, handles, accessTimes } = this.#state;
    this.#state.compactor.stop();
    this.#state.prefetch.stop();
    this.#state.watched.close();
    let stuck: string[] = [];
    try {
      await withDeadline(clock, timeoutMs, 'writing back', async () => {
        await Promise.all([...writeBack.dirtyFiles()].map(async (file) => writeBack.flush(file)));
        for (const handle of handles.numbers()) this.release(handle);
        await accessTimes.flush();
        await this.#state.settled();
        if (this.#state.isUnsynced) await this.#state.sync(Math.min(timeoutMs, CLOSE_SYNC_TIMEOUT_MS));
      });
    } catch (error) {
      if (!(error instanceof TimeoutError)) this.#state.log.warn({ error: String(error) }, 'closing the filesystem');
      stuck = await Promise.all([...writeBack.dirtyFiles()].map((file) => this.#state.pathOf(file.inode.ino)));
    }
    this.#state.isClosed = true;
    writeBack.stop();
    this.#state.endSharing();
    this.#state.cache.clear();
    return [...new Set([...this.#state.lostPaths(), ...stuck])];
  }
}
