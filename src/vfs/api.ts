/**
 * The filesystem for programs, without a kernel: the manners of node:fs/promises, by path, over the same vfs that a
 * mount uses. Errors have Node's form (`code`, `errno`, `syscall`, `path`). Calls act as one user; permission bits are
 * kept and shown, but (as with a mount without default_permissions) not enforced here.
 */
import type { Readable, Writable } from 'node:stream';
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { Attr, SetAttr } from '../meta/types.ts';
import { asNode, nodeError, type Where } from './api-errors.ts';
import { flagsOf, modeOf } from './api-flags.ts';
import { encodingOf, FileHandle, timeNs } from './api-handle.ts';
import type { Encoding, EncodingOption, TimeLike, WriteInput } from './api-handle.ts';
import { pathText, walk, walkToName, type PathLike, type Place, type Walked } from './api-path.ts';
import { BigIntStats, Dirent, Stats, type FileSystemStats } from './api-stats.ts';
import { readStream, writeStream, type StreamOptions } from './api-streams.ts';
import { copyTree, Directory, join, listDirectory, removeTree, type ListedEntry } from './api-tree.ts';
import { compactTree, type CompactFilesOptions, type CompactProgress } from './api-compact.ts';
import { cloneTree, type CloneOptions, type CloneProgress } from './clone-tree.ts';
import { O_ACCMODE, O_CREAT, O_EXCL, O_RDONLY, O_TRUNC, O_WRONLY } from './handles.ts';
import type { Caller, Handle } from './ops.ts';
import type { Vfs } from './vfs.ts';

export { Directory } from './api-tree.ts';
export { FileHandle } from './api-handle.ts';
export { BigIntStats, Dirent, Stats } from './api-stats.ts';
export type { FileSystemStats } from './api-stats.ts';
export type { PathLike } from './api-path.ts';
export type { NodeFsError } from './api-errors.ts';
export type { Encoding, EncodingOption, LockOptions, ReadOptions, TimeLike, WriteInput } from './api-handle.ts';
export type { CompactFilesOptions, CompactProgress } from './api-compact.ts';
export type { CloneError, CloneOptions, CloneProgress } from './clone-tree.ts';
export type { StreamOptions } from './api-streams.ts';

/** As whom a {@link FileSystem} acts: owner of what it makes. */
export interface User {
  /** Number of the user. */
  readonly uid: number;
  /** Number of the group. */
  readonly gid: number;
  /** Bits taken from the modes of new files and directories; 0o022 unless given. */
  readonly umask?: number;
}

/** How {@link FileSystem.readdir} lists. */
export interface ReaddirOptions {
  /** How names are decoded; `buffer` gives their bytes. Default: `utf8`. */
  readonly encoding?: Encoding | 'buffer' | null;
  /** Gives {@link Dirent}s, which know the type of what they name, without a question more. */
  readonly withFileTypes?: boolean;
  /** Lists what is below, too; names are then paths from the directory. */
  readonly recursive?: boolean;
}

const COPYFILE_EXCL = 1;
const COPYFILE_FICLONE_FORCE = 4;

/**
 * The files of a cluster, by path, with the manners of `node:fs/promises`: same names, arguments, results and errors
 * (a {@link NodeFsError} with `code`, `errno`, `syscall`, `path`). Made by `connect()` of `tatamifs`.
 *
 * Paths begin at the root of the cluster; symbolic links never lead out of it. Strings are UTF-8, and a `Uint8Array`
 * names what is not. A program's own writes are seen at once by all its calls; other programs and mounts see them once
 * the file is closed, and names and attributes up to a second later (close-to-open, as NFS has it). Data is checked
 * against its hash when read: what cannot be had intact is an `EIO`, never other bytes.
 *
 * Besides the errors that each method names, all may reject with `EIO` when the cluster cannot answer before the
 * deadline (30 s) and `ENAMETOOLONG`, `ENOTDIR`, `ELOOP` for impossible paths; those that write, with `ENOSPC`.
 */
export class FileSystem {
  /**
   * The inode-based filesystem beneath, for kernel bindings and measurements.
   *
   * @internal
   */
  readonly vfs: Vfs;
  readonly #caller: Caller;
  readonly #umask: number;
  readonly #afterClose: (() => Promise<void>) | undefined;

  /** @internal Programs call `connect()`, or `TestCluster.connect()` in tests. */
  constructor(vfs: Vfs, user: User = { uid: 0, gid: 0 }, afterClose?: () => Promise<void>) {
    this.vfs = vfs;
    this.#caller = { uid: user.uid, gid: user.gid, pid: 0 };
    this.#umask = user.umask ?? 0o022;
    this.#afterClose = afterClose;
  }

  #walk(path: PathLike, follow: boolean): Promise<Walked> {
    return walk(this.vfs, this.#caller, path, follow);
  }

  #toName(path: PathLike): Promise<Place | undefined> {
    return walkToName(this.vfs, this.#caller, path);
  }

  async #found(path: PathLike, follow: boolean): Promise<Attr> {
    const { attr } = await this.#walk(path, follow);
    if (attr === undefined) throw new FsError('ENOENT');
    return attr;
  }

  /** Where a new name goes; `exists` is thrown if there is something. */
  async #place(path: PathLike, directory: boolean): Promise<Place> {
    const place = await this.#toName(path);
    if (place !== undefined) return place;
    const walked = await this.#walk(path, false);
    if (walked.attr !== undefined || walked.name === undefined) throw new FsError('EEXIST');
    if (walked.wantsDirectory && !directory) throw new FsError('ENOENT');
    return { parent: walked.parent, name: walked.name };
  }

  // Files

  /**
   * Opens a file, or a directory for reading (of which only `stat`, `sync` and the attributes are of use then).
   *
   * @param flags - as in `node:fs`: `r`, `r+`, `w`, `wx`, `a`, ... or a combination of Linux's `O_*` bits
   * @param mode - permissions of a file that is made, less the umask; a string is octal
   * @returns the open file: close it, or hold it by `await using`
   * @throws ENOENT; EEXIST for `x`; EISDIR when a directory would be written
   */
  async open(path: PathLike, flags: string | number = 'r', mode: number | string = 0o666): Promise<FileHandle> {
    const bits = flagsOf(flags);
    const permissions = modeOf(mode);
    return await asNode({ syscall: 'open', path: pathText(path) }, () => this.#open(path, bits, permissions));
  }

  async #open(path: PathLike, flags: number, mode: number): Promise<FileHandle> {
    const creates = (flags & O_CREAT) !== 0;
    const exclusive = creates && (flags & O_EXCL) !== 0;
    const make = (ino: Ino, handle: Handle | undefined): FileHandle =>
      new FileHandle(this.vfs, this.#caller, ino, handle, () => Promise.resolve(this.vfs.fsyncdir(this.#caller, 0)));
    const create = async ({ parent, name }: Place): Promise<FileHandle> => {
      const made = await this.vfs.create(this.#caller, parent, name, mode, flags, this.#umask);
      return make(made.attr.ino, made.handle);
    };
    const place = exclusive ? await this.#toName(path) : undefined;
    if (place !== undefined) return await create(place);
    const walked = await this.#walk(path, !exclusive);
    if (walked.attr === undefined) {
      const { parent, name } = walked;
      if (!creates || name === undefined) throw new FsError('ENOENT');
      if (walked.wantsDirectory) throw new FsError('EISDIR');
      return await create({ parent, name });
    }
    if (exclusive) throw new FsError('EEXIST');
    const { ino, type } = walked.attr;
    if (type === 'directory') {
      if (creates || (flags & O_ACCMODE) !== O_RDONLY) throw new FsError('EISDIR');
      return make(ino, undefined);
    }
    const { handle } = await this.vfs.open(this.#caller, ino, flags);
    return make(ino, handle);
  }

  /**
   * The whole content: a string if an encoding is given, else a Buffer. Many blocks are read at once, from many nodes.
   *
   * @throws ENOENT; EISDIR
   */
  async readFile(
    path: PathLike,
    options: Encoding | { readonly encoding: Encoding; readonly flag?: string | number },
  ): Promise<string>;
  async readFile(
    path: PathLike,
    options?: null | { readonly encoding?: null; readonly flag?: string | number },
  ): Promise<Buffer>;
  async readFile(path: PathLike, options?: EncodingOption): Promise<Buffer | string>;
  async readFile(path: PathLike, options?: EncodingOption): Promise<Buffer | string> {
    const flag = typeof options === 'object' ? options?.flag : undefined;
    await using file = await this.open(path, flag ?? 'r');
    return await file.readFile(options);
  }

  /**
   * Replaces the content (or, by `flag`, appends to it), making the file if it is missing. When it resolves, two nodes
   * have it, and every other client that opens the file sees it; `flush` waits until it is on disk on both, for the case
   * that both lose their power.
   * An error leaves what was committed until then: it is not atomic. (Write a new file and rename it, for that.)
   *
   * @throws ENOENT if the directory is missing; EISDIR; ENOSPC
   */
  async writeFile(
    path: PathLike,
    data: WriteInput,
    options?:
      | Encoding
      | null
      | {
          readonly encoding?: Encoding | null;
          readonly mode?: number | string;
          readonly flag?: string | number;
          readonly flush?: boolean;
        },
  ): Promise<void> {
    const given = typeof options === 'object' && options !== null ? options : {};
    const file = await this.open(path, given.flag ?? 'w', given.mode ?? 0o666);
    try {
      await file.writeFile(data, encodingOf(options));
      if (given.flush === true) await file.sync();
    } catch (error) {
      await file.close().catch(() => undefined);
      throw error;
    }
    await file.close();
  }

  /**
   * Adds to the end, making the file if it is missing. Appends never overwrite each other, nor does one of less than a block
   * lie within another, from whatever client they come.
   */
  async appendFile(
    path: PathLike,
    data: WriteInput,
    options?:
      | Encoding
      | null
      | { readonly encoding?: Encoding | null; readonly mode?: number | string; readonly flag?: string | number },
  ): Promise<void> {
    const given = typeof options === 'object' && options !== null ? options : { encoding: options ?? null };
    await this.writeFile(path, data, { ...given, flag: given.flag ?? 'a' });
  }

  /**
   * A stream of the bytes from `start` to `end` (inclusive), or of all. The file is opened when the stream starts; read-ahead
   * keeps several nodes busy. Errors, of opening too, come as `error` events.
   */
  createReadStream(
    path: PathLike,
    options: Encoding | (StreamOptions & { readonly flags?: string | number }) = {},
  ): Readable {
    const given: StreamOptions & { readonly flags?: string | number } =
      typeof options === 'string' ? { encoding: options } : options;
    return readStream(() => this.open(path, given.flags ?? 'r'), given);
  }

  /**
   * A stream into the file: replaced, or, if `start` is given, overwritten from there. Its `finish` says that everything
   * is committed, as after {@link FileHandle.close}.
   */
  createWriteStream(
    path: PathLike,
    options: Encoding | (StreamOptions & { readonly flags?: string | number; readonly mode?: number }) = {},
  ): Writable {
    const given: StreamOptions & { readonly flags?: string | number; readonly mode?: number } =
      typeof options === 'string' ? { encoding: options } : options;
    const flags = given.flags ?? (given.start === undefined ? 'w' : 'r+');
    return writeStream(() => this.open(path, flags, given.mode ?? 0o666), given);
  }

  /**
   * Cuts the file to `length` bytes, or extends it by a hole that reads as zeros.
   *
   * @throws ENOENT; EISDIR; EINVAL for what is no file
   */
  async truncate(path: PathLike, length = 0): Promise<void> {
    await asNode({ syscall: 'open', path: pathText(path) }, async () => {
      const attr = await this.#found(path, true);
      if (attr.type === 'directory') throw new FsError('EISDIR');
      if (attr.type !== 'file') throw new FsError('EINVAL');
      await this.vfs.setattr(this.#caller, attr.ino, { sizeBytes: Math.max(0, length) }, undefined);
    });
  }

  /**
   * Copies content and mode without moving bytes: the copy names the blocks of the source, see {@link FileHandle.copyTo}.
   *
   * @param mode - 1 (`COPYFILE_EXCL`): EEXIST if the target exists, else it is replaced; 4 (`COPYFILE_FICLONE_FORCE`): EXDEV if
   * bytes would have to be moved, since the target is kept in another pool. 2 (`COPYFILE_FICLONE`) changes nothing.
   * @throws ENOENT; EISDIR; EEXIST; ENOSPC
   */
  async copyFile(source: PathLike, target: PathLike, mode = 0): Promise<void> {
    const where = { syscall: 'copyfile', path: pathText(source), dest: pathText(target) };
    await asNode(where, async () => {
      const attr = await this.#found(source, true);
      if (attr.type === 'directory') throw new FsError('EISDIR');
      const existing = await this.#walk(target, true);
      if (existing.attr !== undefined && (mode & COPYFILE_EXCL) !== 0) throw new FsError('EEXIST');
      if (existing.attr !== undefined && existing.attr.ino === attr.ino) return;
      if ((mode & COPYFILE_FICLONE_FORCE) !== 0) {
        const place = existing.attr ?? (await this.vfs.getattr(this.#caller, existing.parent, undefined)).attr;
        if (place.pool !== attr.pool) throw new FsError('EXDEV', 'the target is kept in another pool');
      }
      await using from = await this.#open(source, O_RDONLY, 0);
      const flags = O_WRONLY | O_CREAT | O_TRUNC | ((mode & COPYFILE_EXCL) === 0 ? 0 : O_EXCL);
      const to = await this.#open(target, flags, attr.mode);
      try {
        await from.copyTo(to);
      } finally {
        await to.close();
      }
    });
  }

  /**
   * Copies a file or, with `recursive`, a tree; links are copied as links.
   *
   * @param options - `force` false keeps what exists at the target (and `errorOnExist` makes that an EEXIST)
   * @throws `ERR_FS_EISDIR` for a directory without `recursive`; EINVAL for a copy into itself
   */
  async cp(
    source: PathLike,
    target: PathLike,
    options: { readonly recursive?: boolean; readonly force?: boolean; readonly errorOnExist?: boolean } = {},
  ): Promise<void> {
    await copyTree(this, source, target, options);
  }

  /**
   * Clones a file, link or whole tree without moving bytes: files name the same blocks, and everything keeps its mode,
   * owner, times, extended attributes, holes and hard links within the tree; directories also their pools. (A file alone goes
   * to the pool of its new directory; if that is another, its bytes are copied.) It takes a few questions to the servers for each
   * entry, whatever the files' sizes. What is changed meanwhile may be in it or not: it is no snapshot.
   *
   * The clone appears at `target` when it is whole. Until then it is beside it, under a name that begins with
   * `.tatami-clone-`; of one that fails it is removed again. Links are not followed.
   *
   * @returns what was made
   * @throws {@link CloneError}: ENOENT; EEXIST if there is something at `target`; EINVAL for a tree into itself; EINTR by the
   * `signal`. Its `path` says at which entry of the source it failed.
   */
  async clone(source: PathLike, target: PathLike, options: CloneOptions = {}): Promise<CloneProgress> {
    const [sourcePath, targetPath] = [pathText(source), pathText(target)];
    return await asNode({ syscall: 'clone', path: sourcePath, dest: targetPath }, async () => {
      const attr = await this.#found(source, false);
      const walked = await this.#walk(target, false);
      if (walked.attr !== undefined || walked.name === undefined) throw new FsError('EEXIST');
      if (walked.wantsDirectory && attr.type !== 'directory') throw new FsError('ENOTDIR');
      const { parent, name } = walked;
      return await cloneTree(this.vfs, this.#caller, { source: attr, sourcePath, parent, name, targetPath }, options);
    });
  }

  /**
   * Puts a file, or all files of a tree, together where they are in many small pieces, as after a database has written them:
   * they are then read in order about as fast as files that were written in order. Mounts do this by themselves some seconds after the
   * writing; this is for what was written by one that was gone before.
   *
   * Neither content nor times change, holes stay, and what anybody writes meanwhile is not touched. The space of what was
   * put together comes back with the next garbage collection.
   *
   * @returns what was done
   * @throws ENOENT; EINVAL for what is neither file nor directory; EINTR by the `signal`
   */
  async compact(path: PathLike, options: CompactFilesOptions = {}): Promise<CompactProgress> {
    return await asNode({ syscall: 'compact', path: pathText(path) }, async () => {
      const attr = await this.#found(path, true);
      if (attr.type !== 'file' && attr.type !== 'directory') throw new FsError('EINVAL');
      return await compactTree(this.vfs, this.#caller, attr, options);
    });
  }

  // Attributes

  /**
   * Attributes of what the path names, links followed. Sizes are bytes, `...Ns` nanoseconds since 1970.
   *
   * @throws ENOENT
   */
  async stat(path: PathLike, options: { readonly bigint: true }): Promise<BigIntStats>;
  async stat(path: PathLike, options?: { readonly bigint?: false }): Promise<Stats>;
  async stat(path: PathLike, options?: { readonly bigint?: boolean }): Promise<Stats | BigIntStats> {
    const attr = await asNode({ syscall: 'stat', path: pathText(path) }, () => this.#found(path, true));
    return options?.bigint === true ? new BigIntStats(attr) : new Stats(attr);
  }

  /** As {@link FileSystem.stat}, but of a symbolic link itself. */
  async lstat(path: PathLike, options: { readonly bigint: true }): Promise<BigIntStats>;
  async lstat(path: PathLike, options?: { readonly bigint?: false }): Promise<Stats>;
  async lstat(path: PathLike, options?: { readonly bigint?: boolean }): Promise<Stats | BigIntStats> {
    const attr = await asNode({ syscall: 'lstat', path: pathText(path) }, () => this.#found(path, false));
    return options?.bigint === true ? new BigIntStats(attr) : new Stats(attr);
  }

  /** Whether {@link FileSystem.stat} would succeed. False also when the cluster cannot tell: to act on it, try the act. */
  async exists(path: PathLike): Promise<boolean> {
    return await this.stat(path).then(
      () => true,
      () => false,
    );
  }

  /**
   * Checks the permission bits for this user, as access(2) does. Other calls do not: bits are kept and shown, but only a
   * mount has them enforced (by the kernel).
   *
   * @param mode - bits: 4 read, 2 write, 1 execute; 0 asks only whether it is there
   * @throws EACCES; ENOENT
   */
  async access(path: PathLike, mode = 0): Promise<void> {
    await asNode({ syscall: 'access', path: pathText(path) }, async () => {
      const attr = await this.#found(path, true);
      const { uid, gid } = this.#caller;
      if (uid === 0) {
        if ((mode & 1) !== 0 && attr.type !== 'directory' && (attr.mode & 0o111) === 0) throw new FsError('EACCES');
        return;
      }
      const shift = attr.uid === uid ? 6 : attr.gid === gid ? 3 : 0;
      if ((mode & ~(attr.mode >> shift) & 7) !== 0) throw new FsError('EACCES');
    });
  }

  async #set(syscall: string, path: PathLike, follow: boolean, set: () => SetAttr): Promise<void> {
    await asNode({ syscall, path: pathText(path) }, async () => {
      const { ino } = await this.#found(path, follow);
      await this.vfs.setattr(this.#caller, ino, set(), undefined);
    });
  }
  /** Sets the permission bits; a string is octal. */
  async chmod(path: PathLike, mode: number | string): Promise<void> {
    const bits = modeOf(mode);
    await this.#set('chmod', path, true, () => ({ mode: bits }));
  }
  /** Sets owner and group, links followed; -1 leaves one as it is. */
  async chown(path: PathLike, uid: number, gid: number): Promise<void> {
    await this.#set('chown', path, true, () => ownerOf(uid, gid));
  }
  /** As {@link FileSystem.chown}, but of a symbolic link itself. */
  async lchown(path: PathLike, uid: number, gid: number): Promise<void> {
    await this.#set('lchown', path, false, () => ownerOf(uid, gid));
  }
  /** Sets the times of access and change of content, links followed; a bigint is nanoseconds, see {@link TimeLike}. */
  async utimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
    await this.#set('utime', path, true, () => ({ atimeNs: timeNs(atime), mtimeNs: timeNs(mtime) }));
  }
  /** As {@link FileSystem.utimes}, but of a symbolic link itself. */
  async lutimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
    await this.#set('lutime', path, false, () => ({ atimeNs: timeNs(atime), mtimeNs: timeNs(mtime) }));
  }

  /**
   * Space of the cluster: what the nodes' block files take and what their disks have left (each disk once), divided by
   * the copies that the filesystem's pool keeps. So `bavail * bsize` is what new data can fill if it is all different;
   * what was deleted counts as used until the next garbage collection. Kept for 1 s, so that it is cheap to ask often.
   */
  async statfs(path: PathLike = '/'): Promise<FileSystemStats> {
    return await asNode({ syscall: 'statfs', path: pathText(path) }, async () => {
      await this.#found(path, true);
      const space = await this.vfs.statfs(this.#caller);
      const bsize = 4096;
      const bfree = Math.floor(space.freeBytes / bsize);
      const blocks = Math.floor(space.totalBytes / bsize);
      return {
        type: 0x7461_7461,
        bsize,
        blocks,
        bfree,
        bavail: bfree,
        files: space.fileCount,
        ffree: space.freeFileCount,
      };
    });
  }

  // Extended attributes

  /**
   * The value of an extended attribute, links followed (node:fs has no such calls; these are Linux's).
   *
   * @throws ENODATA if there is no such attribute
   */
  async getxattr(path: PathLike, name: string): Promise<Buffer> {
    return await this.#onInode('getxattr', path, async (ino) =>
      Buffer.from(await this.vfs.getxattr(this.#caller, ino, Buffer.from(name))),
    );
  }
  /**
   * Sets an extended attribute, links followed.
   *
   * @param name - with its namespace (`user.comment`), at most 255 bytes
   * @param value - at most 64 KiB; a string is stored as UTF-8
   * @param mode - `create`: EEXIST if it is there; `replace`: ENODATA if it is not
   * @throws ERANGE for a value or name that is too long
   */
  async setxattr(
    path: PathLike,
    name: string,
    value: Uint8Array | string,
    mode: 'any' | 'create' | 'replace' = 'any',
  ): Promise<void> {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    await this.#onInode('setxattr', path, (ino) =>
      this.vfs.setxattr(this.#caller, ino, Buffer.from(name), bytes, mode),
    );
  }
  /** Removes an extended attribute; ENODATA if it is not there. */
  async removexattr(path: PathLike, name: string): Promise<void> {
    await this.#onInode('removexattr', path, (ino) => this.vfs.removexattr(this.#caller, ino, Buffer.from(name)));
  }
  /** Names of the extended attributes, in no order. */
  async listxattr(path: PathLike): Promise<string[]> {
    return await this.#onInode('listxattr', path, async (ino) =>
      (await this.vfs.listxattr(this.#caller, ino)).map((name) => Buffer.from(name).toString()),
    );
  }
  async #onInode<T>(syscall: string, path: PathLike, work: (ino: Ino) => T | Promise<T>): Promise<T> {
    return await asNode({ syscall, path: pathText(path) }, async () => work((await this.#found(path, true)).ino));
  }

  // Directories

  /**
   * Makes a directory; with `recursive` also what is missing on the way, and then an existing one is no error.
   *
   * @returns with `recursive`, the first directory that was made, if any
   * @throws EEXIST; ENOENT if the directory above is missing
   */
  async mkdir(
    path: PathLike,
    options: number | string | { readonly recursive?: boolean; readonly mode?: number | string } = {},
  ): Promise<string | undefined> {
    const given = typeof options === 'object' ? options : { mode: options };
    const mode = modeOf(given.mode ?? 0o777);
    const where: Where = { syscall: 'mkdir', path: pathText(path) };
    if (given.recursive === true) return await asNode(where, () => this.#mkdirAll(pathText(path), mode));
    await asNode(where, async () => {
      const { parent, name } = await this.#place(path, true);
      await this.vfs.mkdir(this.#caller, parent, name, mode, this.#umask);
    });
    return undefined;
  }

  async #mkdirAll(path: string, mode: number): Promise<string | undefined> {
    const names = path.split('/').filter((name) => name !== '');
    let first: string | undefined;
    for (let depth = 1; depth <= names.length; depth += 1) {
      const here = `/${names.slice(0, depth).join('/')}`;
      const walked = await this.#walk(here, true);
      if (walked.attr !== undefined) {
        if (walked.attr.type === 'directory') continue;
        throw new FsError(depth === names.length ? 'EEXIST' : 'ENOTDIR');
      }
      if (walked.name === undefined) throw new FsError('ENOENT');
      try {
        await this.vfs.mkdir(this.#caller, walked.parent, walked.name, mode, this.#umask);
        first ??= here;
      } catch (error) {
        // Somebody else was faster.
        if (!(error instanceof FsError) || error.code !== 'EEXIST') throw error;
      }
    }
    return first;
  }

  /**
   * What is in a directory, without `.` and `..`, in no promised order: names, their bytes or {@link Dirent}s, by the
   * options. All at once; for millions of entries use {@link FileSystem.opendir}.
   *
   * @throws ENOENT; ENOTDIR
   */
  async readdir(
    path: PathLike,
    options: { readonly withFileTypes: true; readonly recursive?: boolean; readonly encoding?: Encoding | null },
  ): Promise<Dirent[]>;
  async readdir(
    path: PathLike,
    options: { readonly encoding: 'buffer'; readonly withFileTypes?: false; readonly recursive?: false } | 'buffer',
  ): Promise<Buffer[]>;
  async readdir(
    path: PathLike,
    options?:
      | { readonly encoding?: Encoding | null; readonly withFileTypes?: false; readonly recursive?: boolean }
      | Encoding
      | null,
  ): Promise<string[]>;
  async readdir(
    path: PathLike,
    options?: ReaddirOptions | Encoding | 'buffer' | null,
  ): Promise<string[] | Buffer[] | Dirent[]> {
    const given = typeof options === 'object' && options !== null ? options : { encoding: options ?? null };
    const top = pathText(path);
    const names: string[] = [];
    const buffers: Buffer[] = [];
    const entries: Dirent[] = [];
    const list = async (directory: PathLike, text: string, prefix: string): Promise<void> => {
      const deeper: string[] = [];
      for await (const { name, type } of this.#list(directory)) {
        if (given.encoding === 'buffer') {
          buffers.push(Buffer.from(name));
          continue;
        }
        const decoded = Buffer.from(name).toString(given.encoding ?? 'utf8');
        names.push(prefix + decoded);
        if (given.withFileTypes === true) entries.push(new Dirent(decoded, text, type));
        if (given.recursive === true && type === 'directory') deeper.push(decoded);
      }
      for (const name of deeper) await list(join(text, name), join(text, name), `${prefix}${name}/`);
    };
    await asNode({ syscall: 'scandir', path: top }, () => list(path, top, ''));
    if (given.withFileTypes === true) return entries;
    return given.encoding === 'buffer' ? buffers : names;
  }

  async *#list(path: PathLike): AsyncGenerator<ListedEntry> {
    const attr = await this.#found(path, true);
    if (attr.type !== 'directory') throw new FsError('ENOTDIR');
    yield* listDirectory(this.vfs, this.#caller, attr.ino);
  }

  /** An open directory: iterate it, or read() until null; it closes itself at the end of an iteration. */
  async opendir(path: PathLike): Promise<Directory> {
    const text = pathText(path);
    const entries = this.#list(path);
    const attr = await asNode({ syscall: 'opendir', path: text }, () => this.#found(path, true));
    if (attr.type !== 'directory') throw nodeError('ENOTDIR', { syscall: 'opendir', path: text });
    return new Directory(text, entries);
  }

  /** Removes an empty directory; ENOTEMPTY, ENOTDIR or ENOENT otherwise. */
  async rmdir(path: PathLike): Promise<void> {
    await asNode({ syscall: 'rmdir', path: pathText(path) }, async () => {
      const place = await this.#toName(path);
      if (place !== undefined) return await this.vfs.rmdir(this.#caller, place.parent, place.name);
      const walked = await this.#walk(path, false);
      if (walked.attr === undefined) throw new FsError('ENOENT');
      if (walked.attr.type !== 'directory') throw new FsError('ENOTDIR');
      if (walked.dots === '.') throw new FsError('EINVAL');
      if (walked.dots === '..') throw new FsError('ENOTEMPTY');
      if (walked.name === undefined) throw new FsError('EBUSY');
      await this.vfs.rmdir(this.#caller, walked.parent, walked.name);
    });
  }

  /**
   * Removes a file or link; with `recursive`, a tree; with `force`, a missing path is no error. Space is given back by
   * the next garbage collection (`tatami gc`).
   *
   * @throws `ERR_FS_EISDIR` for a directory without `recursive`; ENOENT; EBUSY for the root
   */
  async rm(path: PathLike, options: { readonly recursive?: boolean; readonly force?: boolean } = {}): Promise<void> {
    const text = pathText(path);
    let walked: Walked;
    try {
      walked = await asNode({ syscall: 'lstat', path: text }, async () => {
        const found = await this.#walk(path, false);
        if (found.attr === undefined) throw new FsError('ENOENT');
        return found;
      });
    } catch (error) {
      if (options.force === true && (error as { code?: string }).code === 'ENOENT') return;
      throw error;
    }
    const { attr, parent, name } = walked;
    if (attr?.type === 'directory') {
      if (options.recursive !== true) {
        const error = new Error(`Path is a directory: rm returned EISDIR (is a directory) ${text}`);
        throw Object.assign(error, { code: 'ERR_FS_EISDIR', errno: 21, syscall: 'rm', path: text });
      }
      await asNode({ syscall: 'rm', path: text }, async () => {
        if (name === undefined) throw new FsError('EBUSY', 'the root stays');
        await removeTree(this.vfs, this.#caller, attr.ino);
        await this.vfs.rmdir(this.#caller, parent, name);
      });
      return;
    }
    await asNode({ syscall: 'rm', path: text }, async () => {
      if (name !== undefined) await this.vfs.unlink(this.#caller, parent, name);
    });
  }

  // Names

  /** Removes a name; what it named goes with its last name and its last open handle. EISDIR for a directory; ENOENT. */
  async unlink(path: PathLike): Promise<void> {
    await asNode({ syscall: 'unlink', path: pathText(path) }, async () => {
      const place = await this.#toName(path);
      if (place !== undefined) return await this.vfs.unlink(this.#caller, place.parent, place.name);
      const walked = await this.#walk(path, false);
      if (walked.attr === undefined) throw new FsError('ENOENT');
      if (walked.attr.type === 'directory' || walked.name === undefined) throw new FsError('EISDIR');
      await this.vfs.unlink(this.#caller, walked.parent, walked.name);
    });
  }

  /**
   * Moves a name, atomically: what was at `to` is replaced, and nobody sees neither. Within the whole cluster, whatever
   * the directories.
   *
   * @throws ENOENT; ENOTEMPTY if `to` is a directory with entries; EISDIR, ENOTDIR if only one of both is a directory;
   * EINVAL for a directory into itself; EBUSY for the root
   */
  async rename(from: PathLike, to: PathLike): Promise<void> {
    await asNode({ syscall: 'rename', path: pathText(from), dest: pathText(to) }, async () => {
      const options = { noReplace: false, exchange: false };
      const fromPlace = await this.#toName(from);
      const toPlace = fromPlace === undefined ? undefined : await this.#toName(to);
      if (fromPlace !== undefined && toPlace !== undefined) {
        const { parent, name } = fromPlace;
        return await this.vfs.rename(this.#caller, parent, name, toPlace.parent, toPlace.name, options);
      }
      const old = await this.#walk(from, false);
      if (old.attr === undefined) throw new FsError('ENOENT');
      const next = await this.#walk(to, false);
      if (old.name === undefined || next.name === undefined) throw new FsError('EBUSY');
      if (next.wantsDirectory && next.attr === undefined && old.attr.type !== 'directory') throw new FsError('ENOTDIR');
      await this.vfs.rename(this.#caller, old.parent, old.name, next.parent, next.name, options);
    });
  }

  /** Gives a file a further name (a hard link); EEXIST if that exists, EPERM for a directory. */
  async link(existing: PathLike, path: PathLike): Promise<void> {
    await asNode({ syscall: 'link', path: pathText(existing), dest: pathText(path) }, async () => {
      const { ino } = await this.#found(existing, false);
      const { parent, name } = await this.#place(path, false);
      await this.vfs.link(this.#caller, ino, parent, name);
    });
  }

  /** Makes a symbolic link to `target`, which need not exist and is kept as given (at most 4095 bytes); EEXIST. */
  async symlink(target: PathLike, path: PathLike): Promise<void> {
    await asNode({ syscall: 'symlink', path: pathText(target), dest: pathText(path) }, async () => {
      const { parent, name } = await this.#place(path, false);
      const bytes = typeof target === 'string' ? Buffer.from(target) : target;
      if (bytes.length === 0) throw new FsError('ENOENT');
      await this.vfs.symlink(this.#caller, parent, name, bytes);
    });
  }

  /** The target of a symbolic link, as it was given: decoded, or its bytes with `buffer`. EINVAL for what is no link. */
  async readlink(path: PathLike, options: { readonly encoding: 'buffer' } | 'buffer'): Promise<Buffer>;
  async readlink(path: PathLike, options?: { readonly encoding?: Encoding | null } | Encoding | null): Promise<string>;
  async readlink(
    path: PathLike,
    options?: { readonly encoding?: Encoding | 'buffer' | null } | Encoding | 'buffer' | null,
  ): Promise<string | Buffer> {
    const encoding = (typeof options === 'string' ? options : options?.encoding) ?? 'utf8';
    const target = await asNode({ syscall: 'readlink', path: pathText(path) }, async () => {
      const attr = await this.#found(path, false);
      if (attr.type !== 'symlink') throw new FsError('EINVAL');
      return Buffer.from(await this.vfs.readlink(this.#caller, attr.ino));
    });
    return encoding === 'buffer' ? target : target.toString(encoding);
  }

  /** The path from the root without symbolic links, `.` and `..`; ENOENT if something on it is missing. */
  async realpath(path: PathLike): Promise<string> {
    return await asNode({ syscall: 'realpath', path: pathText(path) }, async () => {
      const walked = await this.#walk(path, true);
      if (walked.attr === undefined) throw new FsError('ENOENT');
      return `/${walked.names.map((name) => Buffer.from(name).toString()).join('/')}`;
    });
  }

  /** Everything written through this filesystem is on disk on two nodes when it resolves. */
  async sync(): Promise<void> {
    await asNode({ syscall: 'sync' }, () => this.vfs.sync());
  }

  /**
   * Writes what is not yet stored, lets go of all open files and closes the connection. It ends in any case.
   *
   * @param timeoutMs - how long to try while nodes are away; default 30 s
   * @throws EIO whose `path` names the files whose last writes could not be stored
   */
  async close(timeoutMs?: number): Promise<void> {
    try {
      const lost = await this.vfs.close(timeoutMs);
      if (lost.length > 0) {
        throw nodeError('EIO', { syscall: 'close', path: lost.join(', ') });
      }
    } finally {
      await this.#afterClose?.();
    }
  }

  /** As {@link FileSystem.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function ownerOf(uid: number, gid: number): SetAttr {
  return { ...(uid < 0 ? {} : { uid }), ...(gid < 0 ? {} : { gid }) };
}
