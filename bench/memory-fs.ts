/**
 * A complete filesystem in memory: the double of `Vfs` for tests of the kernel bindings, and the yardstick of the
 * benchmarks ("an empty filesystem on the same binding": whatever a real one costs is measured against this). Every
 * answer is synchronous unless a test asks otherwise, and errors are made once, without a stack.
 */
import { FsError, type Errno } from '../src/errors.ts';
import { ROOT_INO, type Ino, type PoolId } from '../src/ids.ts';
import { NAME_MAX_BYTES } from '../src/limits.ts';
import type { Attr, FileType, SetAttr } from '../src/meta/types.ts';
import type {
  AttrReply,
  Caller,
  DirItem,
  Entry,
  FileLock,
  Handle,
  LockOwner,
  Maybe,
  Opened,
  ReadResult,
  StatFs,
  VfsOps,
} from '../src/vfs/ops.ts';

export interface MemoryFsOptions {
  /** How long the kernel may keep names and attributes. Default 1000. */
  readonly timeoutMs?: number;
  /** Total capacity shown by statfs and enforced on writes. Default 64 GiB. */
  readonly capacityBytes?: number;
  /** Called before each read; a promise delays it, a rejection is its answer. */
  readonly beforeRead?: (caller: Caller, ino: Ino, offset: number, size: number) => Promise<void> | undefined;
}

interface Child {
  readonly name: Uint8Array;
  readonly node: Node;
}

const O_ACCMODE = 3;
const O_TRUNC = 0o1000;
const S_ISGID = 0o2000;
const EMPTY = new Uint8Array(0);
/** Synthetic files are served from this. */
const ZEROS = new Uint8Array(1024 * 1024);

const errors = new Map<Errno, FsError>();
function fsError(errno: Errno): FsError {
  let error = errors.get(errno);
  if (error === undefined) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    error = new FsError(errno);
    Error.stackTraceLimit = limit;
    errors.set(errno, error);
  }
  return error;
}

let lastNs = 0n;
/** Strictly growing, so that each change shows. */
function nowNs(): bigint {
  const now = BigInt(Date.now()) * 1_000_000n;
  lastNs = now > lastNs ? now : lastNs + 1n;
  return lastNs;
}

/** One character per byte: any name is a key. */
const keyOf = (name: Uint8Array): string =>
  Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');

class Node {
  readonly ino: Ino;
  readonly type: FileType;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: number;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  version = 1;
  /** Files: capacity may exceed the size. Symlinks: the target. */
  data: Uint8Array = EMPTY;
  sizeBytes = 0;
  /** Reads as zeros of sizeBytes; holds no data. */
  synthetic = false;
  children: Map<string, Child> | undefined;
  parent: Node | undefined;
  xattrs: Map<string, Uint8Array> | undefined;
  lookupCount = 0;
  openCount = 0;

  constructor(ino: Ino, type: FileType, mode: number, uid: number, gid: number, rdev: number) {
    this.ino = ino;
    this.type = type;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.rdev = rdev;
    this.nlink = type === 'directory' ? 2 : 1;
    this.atimeNs = this.mtimeNs = this.ctimeNs = nowNs();
    if (type === 'directory') this.children = new Map();
  }

  attr(): Attr {
    return {
      ino: this.ino,
      type: this.type,
      mode: this.mode,
      uid: this.uid,
      gid: this.gid,
      nlink: this.nlink,
      sizeBytes: this.children?.size ?? this.sizeBytes,
      storedBytes: this.type === 'file' ? this.sizeBytes : 0,
      atimeNs: this.atimeNs,
      mtimeNs: this.mtimeNs,
      ctimeNs: this.ctimeNs,
      rdev: this.rdev,
      version: this.version,
      generation: 1,
      pool: 1 as PoolId,
      parent: this.parent?.ino ?? (this.ino === ROOT_INO ? 0 : ROOT_INO),
      hasAcl: false,
      hasDefaultAcl: false,
      hasXattrs: false,
    };
  }

  changed(): void {
    this.mtimeNs = this.ctimeNs = nowNs();
    this.version++;
  }
}

interface OpenFile {
  readonly node: Node;
  readonly flags: number;
  /** Directories: the entries as they were when the listing began. */
  listing: Child[] | undefined;
}

export class MemoryFs implements VfsOps {
  readonly #options: MemoryFsOptions;
  readonly #nodes = new Map<Ino, Node>();
  readonly #open = new Map<Handle, OpenFile>();
  readonly #timeoutMs: number;
  readonly #capacityBytes: number;
  readonly root: Node;
  #nextIno = 2;
  #nextHandle = 1;
  #usedBytes = 0;

  constructor(options: MemoryFsOptions = {}) {
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 1000;
    this.#capacityBytes = options.capacityBytes ?? 64 * 1024 ** 3;
    this.root = new Node(ROOT_INO, 'directory', 0o755, process.getuid?.() ?? 0, process.getgid?.() ?? 0, 0);
    this.root.lookupCount = 1;
    this.#nodes.set(ROOT_INO, this.root);
  }

  /** Inodes that are held in memory, handles that are open: for leak checks. */
  get counts(): { inodes: number; handles: number } {
    return { inodes: this.#nodes.size, handles: this.#open.size };
  }

  /** Adds a file of `sizeBytes` zeros to the root; it takes no memory. */
  addZeros(name: string, sizeBytes: number): Ino {
    const node = this.#insert(
      this.root,
      Buffer.from(name),
      'file',
      0o644,
      { uid: this.root.uid, gid: this.root.gid, pid: 0 },
      0,
    );
    node.synthetic = true;
    node.sizeBytes = sizeBytes;
    return node.ino;
  }

  lookup(_caller: Caller, parent: Ino, name: Uint8Array): Entry {
    if (name.length > NAME_MAX_BYTES) throw fsError('ENAMETOOLONG');
    const child = this.#directory(parent).children!.get(keyOf(name));
    if (child === undefined) throw fsError('ENOENT');
    return this.#entry(child.node);
  }

  forget(ino: Ino, count: number): void {
    const node = this.#nodes.get(ino);
    if (node === undefined) return;
    node.lookupCount -= count;
    this.#reap(node);
  }

  remember(ino: Ino): void {
    this.#node(ino).lookupCount++;
  }

  getattr(_caller: Caller, ino: Ino, _handle?: Handle): AttrReply {
    return { attr: this.#node(ino).attr(), attrTimeoutMs: this.#timeoutMs };
  }

  setattr(_caller: Caller, ino: Ino, set: SetAttr, _handle?: Handle): AttrReply {
    const node = this.#node(ino);
    if (set.mode !== undefined) node.mode = set.mode;
    if (set.uid !== undefined) node.uid = set.uid;
    if (set.gid !== undefined) node.gid = set.gid;
    if (set.sizeBytes !== undefined) {
      if (node.type !== 'file') throw fsError(node.type === 'directory' ? 'EISDIR' : 'EINVAL');
      this.#resize(node, set.sizeBytes);
    }
    const now = nowNs();
    if (set.atimeNs !== undefined) node.atimeNs = set.atimeNs === 'now' ? now : set.atimeNs;
    if (set.mtimeNs !== undefined) node.mtimeNs = set.mtimeNs === 'now' ? now : set.mtimeNs;
    node.ctimeNs = now;
    return { attr: node.attr(), attrTimeoutMs: this.#timeoutMs };
  }

  readlink(_caller: Caller, ino: Ino): Uint8Array {
    const node = this.#node(ino);
    if (node.type !== 'symlink') throw fsError('EINVAL');
    return node.data;
  }

  mknod(caller: Caller, parent: Ino, name: Uint8Array, type: FileType, mode: number, rdev: number, umask = 0): Entry {
    return this.#entry(this.#insert(this.#directory(parent), name, type, mode & ~umask, caller, rdev));
  }

  mkdir(caller: Caller, parent: Ino, name: Uint8Array, mode: number, umask = 0): Entry {
    return this.#entry(this.#insert(this.#directory(parent), name, 'directory', mode & ~umask, caller, 0));
  }

  symlink(caller: Caller, parent: Ino, name: Uint8Array, target: Uint8Array): Entry {
    const node = this.#insert(this.#directory(parent), name, 'symlink', 0o777, caller, 0);
    node.data = Buffer.from(target);
    node.sizeBytes = target.length;
    return this.#entry(node);
  }

  link(_caller: Caller, ino: Ino, newParent: Ino, newName: Uint8Array): Entry {
    const node = this.#node(ino);
    const parent = this.#directory(newParent);
    if (node.type === 'directory') throw fsError('EPERM');
    this.#checkNew(parent, newName);
    parent.children!.set(keyOf(newName), { name: newName, node });
    parent.changed();
    node.nlink++;
    node.ctimeNs = nowNs();
    return this.#entry(node);
  }

  unlink(_caller: Caller, parentIno: Ino, name: Uint8Array): void {
    const parent = this.#directory(parentIno);
    const child = parent.children!.get(keyOf(name));
    if (child === undefined) throw fsError('ENOENT');
    if (child.node.type === 'directory') throw fsError('EISDIR');
    parent.children!.delete(keyOf(name));
    parent.changed();
    this.#dropLink(child.node);
  }

  rmdir(_caller: Caller, parentIno: Ino, name: Uint8Array): void {
    const parent = this.#directory(parentIno);
    const child = parent.children!.get(keyOf(name));
    if (child === undefined) throw fsError('ENOENT');
    if (child.node.children === undefined) throw fsError('ENOTDIR');
    if (child.node.children.size > 0) throw fsError('ENOTEMPTY');
    parent.children!.delete(keyOf(name));
    parent.nlink--;
    parent.changed();
    this.#dropLink(child.node);
  }

  rename(
    _caller: Caller,
    parentIno: Ino,
    name: Uint8Array,
    newParentIno: Ino,
    newName: Uint8Array,
    { noReplace, exchange }: { readonly noReplace: boolean; readonly exchange: boolean },
  ): void {
    const from = this.#directory(parentIno);
    const to = this.#directory(newParentIno);
    if (newName.length > NAME_MAX_BYTES) throw fsError('ENAMETOOLONG');
    const moved = from.children!.get(keyOf(name))?.node;
    if (moved === undefined) throw fsError('ENOENT');
    const victim = to.children!.get(keyOf(newName))?.node;
    for (let above: Node | undefined = to; above !== undefined; above = above.parent)
      if (above === moved) throw fsError('EINVAL');
    if (exchange) {
      if (victim === undefined) throw fsError('ENOENT');
      this.#place(to, newName, moved, from);
      this.#place(from, name, victim, to);
    } else {
      if (victim !== undefined && noReplace) throw fsError('EEXIST');
      if (victim === moved) return;
      if (victim !== undefined) {
        if (victim.children !== undefined && moved.children === undefined) throw fsError('EISDIR');
        if (victim.children === undefined && moved.children !== undefined) throw fsError('ENOTDIR');
        if (victim.children !== undefined && victim.children.size > 0) throw fsError('ENOTEMPTY');
        if (victim.children !== undefined) to.nlink--;
        to.children!.delete(keyOf(newName));
        this.#dropLink(victim);
      }
      from.children!.delete(keyOf(name));
      this.#place(to, newName, moved, from);
    }
    moved.ctimeNs = nowNs();
    from.changed();
    to.changed();
  }

  open(_caller: Caller, ino: Ino, flags: number): Opened {
    const node = this.#node(ino);
    if (node.type !== 'file') throw fsError(node.type === 'directory' ? 'EISDIR' : 'ENXIO');
    if (flags & O_TRUNC && (flags & O_ACCMODE) !== 0) this.#resize(node, 0);
    return { handle: this.#openHandle(node, flags), keepCache: true };
  }

  create(caller: Caller, parent: Ino, name: Uint8Array, mode: number, flags: number, umask = 0): Entry & Opened {
    const directory = this.#directory(parent);
    const existing = directory.children!.get(keyOf(name))?.node;
    if (existing !== undefined) {
      if (flags & 0o200) throw fsError('EEXIST');
      return { ...this.#entry(existing), ...this.open(caller, existing.ino, flags) };
    }
    const node = this.#insert(directory, name, 'file', mode & ~umask, caller, 0);
    node.lookupCount++;
    return {
      attr: node.attr(),
      attrTimeoutMs: this.#timeoutMs,
      entryTimeoutMs: this.#timeoutMs,
      handle: this.#openHandle(node, flags),
      keepCache: true,
    };
  }

  read(caller: Caller, handle: Handle, offset: number, size: number): Maybe<ReadResult> {
    const { node } = this.#handle(handle);
    const wait = this.#options.beforeRead?.(caller, node.ino, offset, size);
    return wait === undefined ? this.#readNow(node, offset, size) : wait.then(() => this.#readNow(node, offset, size));
  }

  #readNow(node: Node, offset: number, size: number): ReadResult {
    const end = Math.min(offset + size, node.sizeBytes);
    if (offset >= end) return { chunks: [] };
    if (!node.synthetic) return { chunks: [node.data.subarray(offset, end)] };
    const chunks: Uint8Array[] = [];
    for (let left = end - offset; left > 0; left -= ZEROS.length)
      chunks.push(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
    return { chunks };
  }

  write(_caller: Caller, handle: Handle, offset: number, data: Uint8Array): number {
    const { node } = this.#handle(handle);
    const end = offset + data.length;
    if (end > node.sizeBytes) this.#grow(node, end);
    node.data.set(data, offset);
    node.changed();
    return data.length;
  }

  getlk(_caller: Caller, _handle: Handle, _owner: LockOwner, lock: FileLock): FileLock {
    return { ...lock, type: 'unlock' };
  }

  /** There is one mount, and nobody measures locks with it: everything is granted. */
  setlk(): void {}

  flush(_caller: Caller, _handle: Handle, _lockOwner: bigint): void {}

  release(handle: Handle): void {
    const { node } = this.#handle(handle);
    this.#open.delete(handle);
    node.openCount--;
    this.#reap(node);
  }

  fsync(_caller: Caller, _handle: Handle, _dataOnly: boolean): void {}

  opendir(_caller: Caller, ino: Ino): Opened {
    return { handle: this.#openHandle(this.#directory(ino), 0), keepCache: false };
  }

  readdir(_caller: Caller, handle: Handle, offset: number, maxEntries: number, plus: boolean): readonly DirItem[] {
    const open = this.#handle(handle);
    const node = open.node;
    if (offset === 0 || open.listing === undefined) open.listing = [...node.children!.values()];
    const items: DirItem[] = [];
    if (offset <= 0) items.push({ name: Buffer.from('.'), ino: node.ino, type: 'directory', nextOffset: 1 });
    if (offset <= 1)
      items.push({ name: Buffer.from('..'), ino: node.parent?.ino ?? node.ino, type: 'directory', nextOffset: 2 });
    for (let i = Math.max(0, offset - 2); i < open.listing.length && items.length < maxEntries; i++) {
      const child = open.listing[i]!;
      if (node.children!.get(keyOf(child.name))?.node !== child.node) continue;
      const item = { name: child.name, ino: child.node.ino, type: child.node.type, nextOffset: i + 3 };
      items.push(
        plus
          ? {
              ...item,
              entry: { attr: child.node.attr(), attrTimeoutMs: this.#timeoutMs, entryTimeoutMs: this.#timeoutMs },
            }
          : item,
      );
    }
    return items;
  }

  releasedir(handle: Handle): void {
    this.release(handle);
  }

  fsyncdir(_caller: Caller, _handle: Handle): void {}

  statfs(_caller: Caller): StatFs {
    return {
      totalBytes: this.#capacityBytes,
      freeBytes: this.#capacityBytes - this.#usedBytes,
      fileCount: this.#nodes.size,
      freeFileCount: 1_000_000_000,
      blockSizeBytes: 4096,
    };
  }

  getxattr(_caller: Caller, ino: Ino, name: Uint8Array): Uint8Array {
    const value = this.#node(ino).xattrs?.get(keyOf(name));
    if (value === undefined) throw fsError('ENODATA');
    return value;
  }

  setxattr(_caller: Caller, ino: Ino, name: Uint8Array, value: Uint8Array, mode: 'any' | 'create' | 'replace'): void {
    const node = this.#node(ino);
    const key = keyOf(name);
    node.xattrs ??= new Map();
    if (mode === 'create' && node.xattrs.has(key)) throw fsError('EEXIST');
    if (mode === 'replace' && !node.xattrs.has(key)) throw fsError('ENODATA');
    node.xattrs.set(key, Buffer.from(value));
    node.ctimeNs = nowNs();
  }

  listxattr(_caller: Caller, ino: Ino): readonly Uint8Array[] {
    return [...(this.#node(ino).xattrs?.keys() ?? [])].map((name) => Buffer.from(name, 'latin1'));
  }

  removexattr(_caller: Caller, ino: Ino, name: Uint8Array): void {
    if (this.#node(ino).xattrs?.delete(keyOf(name)) !== true) throw fsError('ENODATA');
  }

  fallocate(_caller: Caller, handle: Handle, offset: number, length: number, mode: number): void {
    const { node } = this.#handle(handle);
    const [keepSize, punch, zero] = [1, 2, 16];
    if (mode & ~(keepSize | punch | zero)) throw fsError('EOPNOTSUPP');
    if (!(mode & keepSize) && offset + length > node.sizeBytes) this.#resize(node, offset + length);
    if (mode & (punch | zero)) node.data.fill(0, offset, Math.min(offset + length, node.sizeBytes));
    node.changed();
  }

  copyFileRange(_caller: Caller, source: Handle, from: number, target: Handle, to: number, length: number): number {
    const { node } = this.#handle(source);
    const data = Buffer.from(node.data.subarray(from, Math.min(from + length, node.sizeBytes)));
    if (data.length > 0) this.write(_caller, target, to, data);
    return data.length;
  }

  lseek(_caller: Caller, handle: Handle, offset: number, whence: number): number {
    const { node } = this.#handle(handle);
    if (offset >= node.sizeBytes) throw fsError('ENXIO');
    if (whence === 3) return offset;
    if (whence === 4) return node.sizeBytes;
    throw fsError('EINVAL');
  }

  #node(ino: Ino): Node {
    const node = this.#nodes.get(ino);
    if (node === undefined) throw fsError('ESTALE');
    return node;
  }

  #directory(ino: Ino): Node {
    const node = this.#node(ino);
    if (node.children === undefined) throw fsError('ENOTDIR');
    if (node.nlink === 0) throw fsError('ENOENT');
    return node;
  }

  #handle(handle: Handle): OpenFile {
    const open = this.#open.get(handle);
    if (open === undefined) throw fsError('EBADF');
    return open;
  }

  #entry(node: Node): Entry {
    node.lookupCount++;
    return { attr: node.attr(), attrTimeoutMs: this.#timeoutMs, entryTimeoutMs: this.#timeoutMs };
  }

  #openHandle(node: Node, flags: number): Handle {
    const handle = this.#nextHandle++;
    this.#open.set(handle, { node, flags, listing: undefined });
    node.openCount++;
    return handle;
  }

  #checkNew(parent: Node, name: Uint8Array): void {
    if (name.length > NAME_MAX_BYTES) throw fsError('ENAMETOOLONG');
    if (parent.children!.has(keyOf(name))) throw fsError('EEXIST');
  }

  #insert(parent: Node, name: Uint8Array, type: FileType, mode: number, owner: Caller, rdev: number): Node {
    this.#checkNew(parent, name);
    const inherit = (parent.mode & S_ISGID) !== 0;
    const node = new Node(
      this.#nextIno++ as Ino,
      type,
      inherit && type === 'directory' ? mode | S_ISGID : mode,
      owner.uid,
      inherit ? parent.gid : owner.gid,
      rdev,
    );
    node.parent = parent;
    this.#nodes.set(node.ino, node);
    parent.children!.set(keyOf(name), { name, node });
    if (type === 'directory') parent.nlink++;
    parent.changed();
    return node;
  }

  #place(directory: Node, name: Uint8Array, node: Node, from: Node): void {
    directory.children!.set(keyOf(name), { name, node });
    if (node.children !== undefined && from !== directory) {
      from.nlink--;
      directory.nlink++;
    }
    node.parent = directory;
  }

  #dropLink(node: Node): void {
    node.nlink = node.type === 'directory' ? 0 : node.nlink - 1;
    node.ctimeNs = nowNs();
    this.#reap(node);
  }

  #reap(node: Node): void {
    if (node.nlink > 0 || node.openCount > 0 || node.lookupCount > 0) return;
    this.#usedBytes -= node.data.length;
    this.#nodes.delete(node.ino);
  }

  #resize(node: Node, sizeBytes: number): void {
    if (sizeBytes > node.sizeBytes) {
      if (!node.synthetic) this.#grow(node, sizeBytes);
    } else if (!node.synthetic) {
      node.data.fill(0, sizeBytes, node.sizeBytes);
    }
    node.sizeBytes = sizeBytes;
    node.changed();
  }

  /** Beyond the size the capacity is always zero. */
  #grow(node: Node, sizeBytes: number): void {
    if (node.synthetic) throw fsError('EPERM');
    if (sizeBytes > node.data.length) {
      const capacity = node.data.length === 0 ? sizeBytes : Math.max(sizeBytes, node.data.length * 2);
      if (this.#usedBytes + capacity - node.data.length > this.#capacityBytes || capacity > 2 ** 32)
        throw fsError('ENOSPC');
      const data = Buffer.alloc(capacity);
      data.set(node.data);
      this.#usedBytes += capacity - node.data.length;
      node.data = data;
    }
    node.sizeBytes = sizeBytes;
  }
}
