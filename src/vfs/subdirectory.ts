/**
 * A filesystem of which only what is below one directory can be seen: that directory is the root. For `subdir=` of mounts.
 *
 * The kernel calls every root inode 1, so the directory's number is replaced by that on the way out and put back on the way in; all others stay as they are.
 * Nothing leads out: the kernel goes up by what it knows itself, and names below the root are all that it can ask for. What
 * it could reach by number alone (file handles: {@link FuseMountOptions.fileHandles} of src/fuse) must be off for such a mount.
 */
import { FsError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import type { Attr, FileType, SetAttr } from '../meta/types.ts';
import { walk } from './api-path.ts';
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

/**
 * The directory that `path` leads to, symbolic links resolved within the filesystem.
 *
 * @throws FsError ENOENT if there is none, ENOTDIR if it is something else, and what the servers answer (EIO).
 */
export async function directoryAt(ops: VfsOps, caller: Caller, path: string): Promise<Ino> {
  const { attr } = await walk(ops, caller, path, true);
  if (attr === undefined) throw new FsError('ENOENT', `there is no ${path} in the filesystem`);
  if (attr.type !== 'directory') throw new FsError('ENOTDIR', `${path} is not a directory of the filesystem`);
  return attr.ino;
}

/** `ops` below the directory `top`. Once `top` is removed, everything that is asked of the root ends with ESTALE. */
export class SubdirectoryOps implements VfsOps {
  readonly #ops: VfsOps;
  readonly #top: Ino;
  /** Open handles of the root: its `..` is itself. */
  readonly #rootHandles = new Set<Handle>();

  constructor(ops: VfsOps, top: Ino) {
    this.#ops = ops;
    this.#top = top;
  }

  /** For the filesystem below: what it tells the kernel, in the kernel's numbers. */
  notifierFor(kernel: KernelNotifier): KernelNotifier {
    const told = (ino: Ino, tell: (inKernel: Ino) => Promise<void>): Promise<void> =>
      // The root of all is not what the kernel calls 1.
      ino === ROOT_INO ? Promise.resolve() : tell(ino === this.#top ? ROOT_INO : ino);
    return {
      expiresNames: kernel.expiresNames,
      invalidateInode: (ino) => told(ino, (inKernel) => kernel.invalidateInode(inKernel)),
      invalidateAttributes: (ino) => told(ino, (inKernel) => kernel.invalidateAttributes(inKernel)),
      // Files only, and no file is a root.
      store: (ino, offset, data) => kernel.store(ino, offset, data),
      invalidateEntry: (parent, name) => {
        if (parent !== ROOT_INO) kernel.invalidateEntry(parent === this.#top ? ROOT_INO : parent, name);
      },
    };
  }

  /** The filesystem's number of what the kernel calls `ino`. */
  #inner(ino: Ino): Ino {
    // The kernel was told 1: it cannot have got this number from here.
    if (ino === this.#top) throw new FsError('ESTALE');
    return ino === ROOT_INO ? this.#top : ino;
  }

  #attr(attr: Attr): Attr {
    const { ino, parent } = attr;
    if (ino === this.#top) return { ...attr, ino: ROOT_INO, parent: 0 };
    return parent === this.#top ? { ...attr, parent: ROOT_INO } : attr;
  }

  readonly #entry = <T extends Entry>(entry: T): T => ({ ...entry, attr: this.#attr(entry.attr) });
  readonly #reply = (reply: AttrReply): AttrReply => ({ ...reply, attr: this.#attr(reply.attr) });

  /** `ENOENT` is about the name, unless the root itself is gone: then it is said so. */
  #named<T>(parent: Ino, caller: Caller, result: Maybe<T>): Maybe<T> {
    if (parent !== ROOT_INO || !isPromise(result)) return result;
    return result.catch(async (error: unknown) => {
      if (error instanceof FsError && error.code === 'ENOENT') await this.#checkRoot(caller);
      throw error;
    });
  }

  async #checkRoot(caller: Caller): Promise<void> {
    try {
      await this.#ops.getattr(caller, this.#top, undefined);
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENOENT') {
        throw new FsError('ESTALE', 'the directory that is mounted was removed');
      }
      throw error;
    }
  }

  lookup(caller: Caller, parent: Ino, name: Uint8Array): Maybe<Entry> {
    return after(this.#named(parent, caller, this.#ops.lookup(caller, this.#inner(parent), name)), this.#entry);
  }
  abandoned(): void {
    this.#ops.abandoned?.();
  }
  unseen(ino: Ino): void {
    this.#ops.unseen?.(this.#inner(ino));
  }
  forget(ino: Ino, count: number): void {
    this.#ops.forget(this.#inner(ino), count);
  }
  remember(ino: Ino): void {
    this.#ops.remember(this.#inner(ino));
  }
  getattr(caller: Caller, ino: Ino, handle: Handle | undefined): Maybe<AttrReply> {
    return after(this.#ops.getattr(caller, this.#inner(ino), handle), this.#reply);
  }
  setattr(caller: Caller, ino: Ino, set: SetAttr, handle: Handle | undefined): Maybe<AttrReply> {
    return after(this.#ops.setattr(caller, this.#inner(ino), set, handle), this.#reply);
  }
  readlink(caller: Caller, ino: Ino): Maybe<Uint8Array> {
    return this.#ops.readlink(caller, this.#inner(ino));
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
    return after(this.#ops.mknod(caller, this.#inner(parent), name, type, mode, rdev, umask), this.#entry);
  }
  mkdir(caller: Caller, parent: Ino, name: Uint8Array, mode: number, umask?: number): Maybe<Entry> {
    return after(this.#ops.mkdir(caller, this.#inner(parent), name, mode, umask), this.#entry);
  }
  symlink(caller: Caller, parent: Ino, name: Uint8Array, target: Uint8Array): Maybe<Entry> {
    return after(this.#ops.symlink(caller, this.#inner(parent), name, target), this.#entry);
  }
  link(caller: Caller, ino: Ino, newParent: Ino, newName: Uint8Array): Maybe<Entry> {
    return after(this.#ops.link(caller, this.#inner(ino), this.#inner(newParent), newName), this.#entry);
  }
  unlink(caller: Caller, parent: Ino, name: Uint8Array): Maybe<void> {
    return this.#named(parent, caller, this.#ops.unlink(caller, this.#inner(parent), name));
  }
  rmdir(caller: Caller, parent: Ino, name: Uint8Array): Maybe<void> {
    return this.#named(parent, caller, this.#ops.rmdir(caller, this.#inner(parent), name));
  }
  rename(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    options: { readonly noReplace: boolean; readonly exchange: boolean },
  ): Maybe<void> {
    const root = newParent === ROOT_INO ? newParent : parent;
    const done = this.#ops.rename(caller, this.#inner(parent), name, this.#inner(newParent), newName, options);
    return this.#named(root, caller, done);
  }

  open(caller: Caller, ino: Ino, flags: number): Maybe<Opened> {
    return this.#ops.open(caller, this.#inner(ino), flags);
  }
  create(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    flags: number,
    umask?: number,
  ): Maybe<Entry & Opened> {
    return after(this.#ops.create(caller, this.#inner(parent), name, mode, flags, umask), this.#entry<Entry & Opened>);
  }
  tmpfile(caller: Caller, parent: Ino, mode: number, flags: number, umask?: number): Maybe<Entry & Opened> {
    if (this.#ops.tmpfile === undefined) throw new FsError('EOPNOTSUPP');
    return after(this.#ops.tmpfile(caller, this.#inner(parent), mode, flags, umask), this.#entry<Entry & Opened>);
  }
  read(caller: Caller, handle: Handle, offset: number, size: number): Maybe<ReadResult> {
    return this.#ops.read(caller, handle, offset, size);
  }
  write(caller: Caller, handle: Handle, offset: number, data: Uint8Array, flags?: number): Maybe<number> {
    return this.#ops.write(caller, handle, offset, data, flags);
  }
  getlk(caller: Caller, handle: Handle, owner: LockOwner, lock: FileLock): Maybe<FileLock> {
    return this.#ops.getlk(caller, handle, owner, lock);
  }
  setlk(caller: Caller, handle: Handle, owner: LockOwner, lock: FileLock, wait: boolean): Maybe<void> {
    return this.#ops.setlk(caller, handle, owner, lock, wait);
  }
  flush(caller: Caller, handle: Handle, lockOwner: bigint): Maybe<void> {
    return this.#ops.flush(caller, handle, lockOwner);
  }
  release(handle: Handle): Maybe<void> {
    return this.#ops.release(handle);
  }
  fsync(caller: Caller, handle: Handle, dataOnly: boolean): Maybe<void> {
    return this.#ops.fsync(caller, handle, dataOnly);
  }
  fallocate(caller: Caller, handle: Handle, offset: number, length: number, mode: number): Maybe<void> {
    return this.#ops.fallocate(caller, handle, offset, length, mode);
  }
  copyFileRange(
    caller: Caller,
    from: Handle,
    fromOffset: number,
    to: Handle,
    toOffset: number,
    length: number,
  ): Maybe<number> {
    return this.#ops.copyFileRange(caller, from, fromOffset, to, toOffset, length);
  }
  lseek(caller: Caller, handle: Handle, offset: number, whence: number): Maybe<number> {
    return this.#ops.lseek(caller, handle, offset, whence);
  }

  opendir(caller: Caller, ino: Ino): Maybe<Opened> {
    return after(this.#ops.opendir(caller, this.#inner(ino)), (opened) => {
      if (ino === ROOT_INO) this.#rootHandles.add(opened.handle);
      return opened;
    });
  }
  readdir(
    caller: Caller,
    handle: Handle,
    offset: number,
    maxEntries: number,
    plus: boolean,
  ): Maybe<readonly DirItem[]> {
    const ofRoot = this.#rootHandles.has(handle);
    return after(this.#ops.readdir(caller, handle, offset, maxEntries, plus), (items) =>
      items.map((item) => this.#item(item, ofRoot)),
    );
  }
  #item(item: DirItem, ofRoot: boolean): DirItem {
    // The first two; no other name is of one or two dots.
    if (ofRoot && item.nextOffset <= 2 && item.name[0] === 0x2e) return { ...item, ino: ROOT_INO };
    if (item.entry !== undefined) return { ...item, entry: this.#entry(item.entry) };
    return item.ino === this.#top ? { ...item, ino: ROOT_INO } : item;
  }
  releasedir(handle: Handle): Maybe<void> {
    this.#rootHandles.delete(handle);
    return this.#ops.releasedir(handle);
  }
  fsyncdir(caller: Caller, handle: Handle): Maybe<void> {
    return this.#ops.fsyncdir(caller, handle);
  }
  statfs(caller: Caller): Maybe<StatFs> {
    return this.#ops.statfs(caller);
  }

  getxattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<Uint8Array> {
    return this.#ops.getxattr(caller, this.#inner(ino), name);
  }
  setxattr(
    caller: Caller,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: 'any' | 'create' | 'replace',
    killSetgid?: boolean,
  ): Maybe<void> {
    return this.#ops.setxattr(caller, this.#inner(ino), name, value, mode, killSetgid);
  }
  listxattr(caller: Caller, ino: Ino): Maybe<readonly Uint8Array[]> {
    return this.#ops.listxattr(caller, this.#inner(ino));
  }
  removexattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<void> {
    return this.#ops.removexattr(caller, this.#inner(ino), name);
  }
}

function isPromise<T>(value: Maybe<T>): value is Promise<T> {
  return value instanceof Promise;
}

function after<T, R>(result: Maybe<T>, then: (value: T) => R): Maybe<R> {
  return isPromise(result) ? result.then(then) : then(result);
}
