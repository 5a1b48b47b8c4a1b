/**
 * A Disk in memory that can fill up, fail, be slow, and forget at a crash what was not synced: the disk of the simulator,
 * of `tatamifs/testing` and of many unit tests. Modelled on LevelDB's fault-injection Env and FoundationDB's
 * AsyncFileNonDurable.
 */
import { DIRECT_BYTES, type Disk, type DiskFile, type Kv, type OpenMode, type Random } from '../env.ts';
import { FsError, StateError, type Errno } from '../errors.ts';
import { MemoryKv, MemoryKvState } from './kv.ts';
import { contentsOf, DISK_PAGE_BYTES, FileNode, partsOf, Tree, type Node } from './tree.ts';

export type DiskOp =
  | 'open'
  | 'read'
  | 'write'
  | 'datasync'
  | 'truncate'
  | 'readdir'
  | 'mkdir'
  | 'unlink'
  | 'rename'
  | 'remove'
  | 'syncDir'
  | 'kvGet'
  | 'kvBatch'
  | 'kvSync'
  | 'kvScan';

/** What a disk fails with: also what no operation of ours ends with. */
export type DiskErrno = Errno | 'EMFILE' | 'ENFILE';

export interface Fault {
  /** Default: any operation. */
  readonly op?: DiskOp;
  /** Part of the path; default: any. */
  readonly path?: string;
  /** Default EIO. */
  readonly code?: DiskErrno;
  /** Matching operations that still succeed; default 0. */
  readonly after?: number;
  /** Matching operations that then fail; default 1. */
  readonly times?: number;
}

export interface MemoryDiskOptions {
  /** Default: no bound. */
  readonly capacityBytes?: number;
  /** How long an operation takes; resolves when it is done. Default: no time at all. */
  readonly delay?: (op: DiskOp, bytes: number) => Promise<void> | undefined;
}

export interface CrashOptions {
  /** Decides what of the unsynced survives; without it nothing does. */
  readonly random?: Random;
  /** Unsynced batches of a key-value store survive in any order; default: the oldest first. */
  readonly anyKvOrder?: boolean;
}

/** What `space` tells of a disk without bound. */
const UNBOUNDED_BYTES = 2 ** 40;

let diskCount = 0;

export class MemoryDisk implements Disk {
  readonly #name = `memory ${++diskCount}`;
  readonly #tree = new Tree();
  readonly #locks = new Map<string, object>();
  /** Ends of the chains of atomic writes under way, by path: two to one path would share its `.tmp`. */
  readonly #atomicWrites = new Map<string, Promise<void>>();
  readonly #openKvs = new Set<MemoryKvState>();
  #delay: MemoryDiskOptions['delay'];
  #capacityBytes: number;
  /** Of pages in files; key-value stores are counted when asked for. */
  #pageBytes = 0;
  readonly #kvs = new Set<MemoryKvState>();
  #faults: { fault: Fault; after: number; times: number }[] = [];
  /** Grows when the process that used the disk died: its handles are worth nothing then. */
  #generation = 0;

  constructor(options: MemoryDiskOptions = {}) {
    this.#capacityBytes = options.capacityBytes ?? Infinity;
    this.#delay = options.delay;
  }

  // What a test does to it

  get usedBytes(): number {
    let used = this.#pageBytes;
    for (const kv of this.#kvs) used += kv.map.bytes;
    return used;
  }

  setCapacity(bytes: number): void {
    this.#capacityBytes = bytes;
  }

  setDelay(delay: MemoryDiskOptions['delay']): void {
    this.#delay = delay;
  }

  /** Makes operations fail that match. Returns what takes the fault back. */
  failNext(fault: Fault = {}): () => void {
    const entry = { fault, after: fault.after ?? 0, times: fault.times ?? 1 };
    this.#faults.push(entry);
    return () => {
      this.#faults = this.#faults.filter((other) => other !== entry);
    };
  }

  /** Flips the bits of `mask` in one byte of a file. */
  corrupt(path: string, position: number, mask = 0xff): void {
    this.#tree.file(path).corrupt(position, mask);
  }

  /**
   * Flips the bits of `mask` in one byte of what a key-value store holds: of all its keys and values in a row, the one at
   * `position` (modulo their length).
   */
  corruptKv(path: string, position: number, mask = 0xff): void {
    this.#tree.directory(path).kv?.corrupt(position, mask);
  }

  /** The process died, the operating system lives on: open handles and locks end, nothing written is lost. */
  killProcess(): void {
    this.#generation++;
    this.#locks.clear();
    this.#openKvs.clear();
    this.#atomicWrites.clear();
    for (const node of contentsOf(this.#tree.root)) if (node instanceof FileNode) node.openCount = 0;
    this.#recount();
  }

  /** Power loss: what was not synced is lost, or part of it. Handles and locks end. */
  crash(options: CrashOptions = {}): void {
    this.killProcess();
    this.#tree.crash(options.random, options.anyKvOrder ?? false);
    this.#recount();
  }

  // Disk

  open(path: string, mode: OpenMode): Promise<DiskFile> {
    return this.#run('open', path, 0, () => {
      const node = this.#openNode(path, mode);
      return new MemoryFile(this, path, node, this.#generation, mode === 'direct');
    });
  }

  async readFile(path: string): Promise<Uint8Array> {
    const file = await this.open(path, 'read');
    try {
      const content = new Uint8Array(await file.sizeBytes());
      const count = await file.read(content, 0);
      return content.subarray(0, count);
    } finally {
      await file.close();
    }
  }

  writeFileAtomic(path: string, data: Uint8Array): Promise<void> {
    const content = new Uint8Array(data);
    const writeNow = (): Promise<void> => this.#writeAtomic(path, content);
    const write = (this.#atomicWrites.get(path) ?? Promise.resolve()).then(writeNow, writeNow);
    this.#atomicWrites.set(path, write);
    const forget = (): void => {
      if (this.#atomicWrites.get(path) === write) this.#atomicWrites.delete(path);
    };
    write.then(forget, forget);
    return write;
  }

  async #writeAtomic(path: string, content: Uint8Array): Promise<void> {
    const temporary = `${path}.tmp`;
    const file = await this.open(temporary, 'create');
    try {
      await file.truncate(0);
      await file.write([content], 0);
      await file.datasync();
    } finally {
      await file.close();
    }
    await this.rename(temporary, path);
    await this.syncDir(partsOf(path).slice(0, -1).join('/'));
  }

  readdir(path: string): Promise<string[]> {
    return this.#run('readdir', path, 0, () =>
      [...this.#tree.directory(path).entries.keys()].sort((a, b) => (a < b ? -1 : 1)),
    );
  }

  async exists(path: string): Promise<boolean> {
    try {
      return this.#tree.find(path) !== undefined;
    } catch {
      return false;
    }
  }

  mkdir(path: string, _mode?: number): Promise<void> {
    return this.#run('mkdir', path, 0, () => this.#tree.makeDirectories(path));
  }

  unlink(path: string): Promise<void> {
    return this.#run('unlink', path, 0, () => {
      const node = this.#tree.file(path);
      this.#tree.change({ ...this.#tree.place(path), node: undefined });
      this.#drop(node);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#run('rename', from, 0, () => {
      const node = this.#tree.find(from);
      if (!node) throw new FsError('ENOENT', `ENOENT: no such file or directory, rename '${from}' -> '${to}'`);
      const source = this.#tree.place(from);
      const target = this.#tree.place(to);
      const replaced = target.directory.entries.get(target.name);
      if (replaced === node) return;
      if (replaced && replaced.kind !== node.kind) {
        throw new FsError(replaced.kind === 'directory' ? 'EISDIR' : 'ENOTDIR', `rename '${from}' -> '${to}'`);
      }
      if (replaced?.kind === 'directory' && (replaced.entries.size > 0 || replaced.kv)) {
        throw new FsError('ENOTEMPTY', `ENOTEMPTY: directory not empty, rename '${from}' -> '${to}'`);
      }
      this.#tree.change({ ...source, node: undefined }, { ...target, node });
      if (replaced) this.#drop(replaced);
    });
  }

  remove(path: string): Promise<void> {
    return this.#run('remove', path, 0, () => {
      const node = this.#tree.find(path);
      if (!node) return;
      this.#tree.change({ ...this.#tree.place(path), node: undefined });
      this.#drop(node);
    });
  }

  syncDir(path: string): Promise<void> {
    return this.#sync('syncDir', path, () => this.#tree.beginSync(this.#tree.directory(path)));
  }

  async space(): Promise<{ totalBytes: number; freeBytes: number; diskId: string }> {
    const totalBytes = Math.min(this.#capacityBytes, UNBOUNDED_BYTES);
    return { totalBytes, freeBytes: Math.max(0, totalBytes - this.usedBytes), diskId: this.#name };
  }

  async lock(path: string): Promise<{ release(): Promise<void> }> {
    const key = partsOf(path).join('/');
    if (this.#locks.has(key)) throw new FsError('EBUSY', `${path} is locked by another process`);
    const owner = {};
    this.#locks.set(key, owner);
    return {
      release: async () => {
        if (this.#locks.get(key) === owner) this.#locks.delete(key);
      },
    };
  }

  openKv(path: string): Promise<Kv> {
    return this.#run('open', path, 0, () => {
      this.#tree.makeDirectories(path);
      const directory = this.#tree.directory(path);
      directory.kv ??= new MemoryKvState();
      if (this.#openKvs.has(directory.kv)) throw new FsError('EBUSY', `the database ${path} is in use`);
      this.#openKvs.add(directory.kv);
      this.#kvs.add(directory.kv);
      return this.#kvHandle(path, directory.kv);
    });
  }

  // For its handles

  /** @internal */
  readFrom(file: MemoryFile, buffer: Uint8Array, position: number): Promise<number> {
    return this.#run('read', file.path, buffer.length, () => file.node.read(buffer, position), file.generation);
  }

  /** @internal */
  writeTo(file: MemoryFile, buffers: readonly Uint8Array[], position: number): Promise<void> {
    const lengthBytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    const write = (): void => this.#write(file, buffers, lengthBytes, position);
    return this.#run('write', file.path, lengthBytes, write, file.generation);
  }

  /** As writeTo, and takes no time. @internal */
  writeNowTo(file: MemoryFile, data: Uint8Array, position: number): void {
    this.#checkAlive(file.path, file.generation);
    this.#failIfAsked('write', file.path);
    this.#write(file, [data], data.length, position);
  }

  #write(file: MemoryFile, buffers: readonly Uint8Array[], lengthBytes: number, position: number): void {
    const growthBytes = file.node.newPageCount(position, lengthBytes) * DISK_PAGE_BYTES;
    this.#needSpace(growthBytes);
    let at = position;
    for (const buffer of buffers) {
      file.node.write(buffer, at);
      at += buffer.length;
    }
    this.#pageBytes += growthBytes;
  }

  /** @internal */
  syncFile(file: MemoryFile): Promise<void> {
    return this.#sync('datasync', file.path, () => file.node.beginSync(), file.generation);
  }

  /** @internal */
  truncateFile(file: MemoryFile, sizeBytes: number): Promise<void> {
    const truncate = (): void => {
      const before = file.node.storedBytes;
      file.node.truncate(sizeBytes);
      this.#pageBytes += file.node.storedBytes - before;
    };
    return this.#run('truncate', file.path, 0, truncate, file.generation);
  }

  /** @internal */
  closeFile(file: MemoryFile): void {
    if (file.generation !== this.#generation) return;
    file.node.openCount--;
    this.#free(file.node);
  }

  // Inside

  #openNode(path: string, mode: OpenMode): FileNode {
    const existing = this.#tree.find(path);
    if (existing && mode === 'exclusive') throw new FsError('EEXIST', `EEXIST: file already exists, '${path}'`);
    let node: FileNode;
    if (existing || mode === 'read' || mode === 'direct' || mode === 'write') {
      node = this.#tree.file(path);
    } else {
      node = new FileNode();
      this.#tree.change({ ...this.#tree.place(path), node });
    }
    node.openCount++;
    return node;
  }

  #kvHandle(path: string, state: MemoryKvState): Kv {
    const generation = this.#generation;
    return new MemoryKv(state, {
      check: (op) => {
        this.#checkAlive(path, generation);
        this.#failIfAsked(op, path);
      },
      batch: async (_state, ops, sync) => {
        const bytes = ops.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0);
        const apply = (): number => {
          if (this.#capacityBytes !== Infinity) this.#needSpace(state.growthBytes(ops));
          return state.apply(ops);
        };
        const number = await this.#run('kvBatch', path, bytes, apply, generation);
        if (sync) await this.#sync('kvSync', path, () => () => state.sync(number), generation);
      },
      closed: () => {
        if (generation === this.#generation) this.#openKvs.delete(state);
      },
    });
  }

  /** An operation whose effect is there at once and whose caller hears of it when the time it takes has passed. */
  async #run<T>(op: DiskOp, path: string, bytes: number, act: () => T, generation = this.#generation): Promise<T> {
    this.#checkAlive(path, generation);
    this.#failIfAsked(op, path);
    const result = act();
    await this.#delay?.(op, bytes);
    this.#checkAlive(path, generation);
    return result;
  }

  /** A sync: covers what was given before it, and has its effect at its end. */
  async #sync(op: DiskOp, path: string, begin: () => () => void, generation = this.#generation): Promise<void> {
    this.#checkAlive(path, generation);
    this.#failIfAsked(op, path);
    const finish = begin();
    await this.#delay?.(op, 0);
    this.#checkAlive(path, generation);
    finish();
  }

  #checkAlive(path: string, generation: number): void {
    if (generation !== this.#generation) throw new FsError('EIO', `${path}: the machine crashed, open it anew`);
  }

  #failIfAsked(op: DiskOp, path: string): void {
    for (const entry of this.#faults) {
      const { fault } = entry;
      if ((fault.op !== undefined && fault.op !== op) || (fault.path !== undefined && !path.includes(fault.path))) {
        continue;
      }
      if (entry.after > 0) {
        entry.after--;
        continue;
      }
      if (--entry.times <= 0) this.#faults = this.#faults.filter((other) => other !== entry);
      const code = fault.code ?? 'EIO';
      throw new FsError(code as Errno, `${code}: fault injected into ${op}, '${path}'`);
    }
  }

  #needSpace(growthBytes: number): void {
    if (growthBytes > 0 && this.usedBytes + growthBytes > this.#capacityBytes) {
      throw new FsError('ENOSPC', 'ENOSPC: no space left on device');
    }
  }

  #drop(node: Node): void {
    for (const content of contentsOf(node)) {
      if (content instanceof MemoryKvState) this.#kvs.delete(content);
      else {
        content.linked = false;
        this.#free(content);
      }
    }
  }

  /** Gives a file's space back once it has neither a name nor a handle. */
  #free(node: FileNode): void {
    if (node.linked || node.openCount > 0 || node.freed) return;
    // The pages stay: a crash may undo the unlink.
    node.freed = true;
    this.#pageBytes -= node.storedBytes;
  }

  #recount(): void {
    this.#pageBytes = 0;
    this.#kvs.clear();
    for (const content of contentsOf(this.#tree.root)) {
      if (content instanceof MemoryKvState) this.#kvs.add(content);
      else this.#pageBytes += content.storedBytes;
    }
  }
}

class MemoryFile implements DiskFile {
  readonly #disk: MemoryDisk;
  #closed = false;
  readonly path: string;
  readonly node: FileNode;
  readonly generation: number;
  readonly #isDirect: boolean;

  constructor(disk: MemoryDisk, path: string, node: FileNode, generation: number, isDirect: boolean) {
    this.#disk = disk;
    this.path = path;
    this.node = node;
    this.generation = generation;
    this.#isDirect = isDirect;
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    this.#check();
    if (this.#isDirect && [buffer.byteOffset, buffer.length, position].some((at) => at % DIRECT_BYTES !== 0)) {
      throw new FsError('EINVAL', `EINVAL: a direct read of ${buffer.length} bytes at ${position}, '${this.path}'`);
    }
    return this.#disk.readFrom(this, buffer, position);
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    this.#check();
    return this.#disk.writeTo(this, buffers, position);
  }

  writeNow(data: Uint8Array, position: number): void {
    this.#check();
    this.#disk.writeNowTo(this, data, position);
  }

  async datasync(): Promise<void> {
    this.#check();
    return this.#disk.syncFile(this);
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#check();
    return this.#disk.truncateFile(this, sizeBytes);
  }

  async sizeBytes(): Promise<number> {
    this.#check();
    return this.node.sizeBytes;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#disk.closeFile(this);
  }

  #check(): void {
    if (this.#closed) throw new StateError(`${this.path} is used after it was closed`);
  }
}
