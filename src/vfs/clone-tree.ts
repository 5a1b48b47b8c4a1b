/**
 * A file or a whole tree cloned: everything in it is made anew, with its attributes, and files name the blocks that the
 * source's name. It is made beside its place under another name and moved there when it is whole, so that nobody sees half
 * of it; what was made of one that fails is removed again.
 *
 * It is no snapshot: each file is as it was when its turn came.
 */
import { aclName } from '../meta/acl.ts';
import { Cancellation, type CancelSignal } from '../cancel.ts';
import { FsError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import type { Attr } from '../meta/types.ts';
import { asNode, type NodeFsError } from './api-errors.ts';
import { isDots, join, removeTree } from './api-tree.ts';
import { copyRange } from './copy-range.ts';
import { O_CREAT, O_EXCL, O_RDONLY, O_WRONLY } from './handles.ts';
import type { Caller, DirItem, VfsOps } from './ops.ts';
import { POOL_XATTR } from './pools.ts';

/** Files (and links, pipes, ...) under way: enough that the servers' answers are never waited for one by one. */
const FILES_AT_ONCE = 16;
/** Entries asked for at a time. */
const DIRECTORY_STEP = 512;
/** Names tried for what is not yet whole: those of earlier clones that were killed are left alone. */
const NAMES_TRIED_MAX = 100;
const PARTIAL_PREFIX = '.tatami-clone-';

/** How far a clone is, and at its end what it has made. */
export interface CloneProgress {
  /** Directories, files, links and all else, further names of one file included. */
  readonly entryCount: number;
  /** Regular files, each once. */
  readonly fileCount: number;
  /** Of these files' lengths. */
  readonly bytes: number;
}

/** See {@link FileSystem.clone}. */
export interface CloneOptions {
  /** Ends it: what was made is removed again, and it rejects with EINTR. */
  readonly signal?: AbortSignal;
  /** Called after each step. */
  readonly onProgress?: (progress: CloneProgress) => void;
}

/** What a clone rejects with. */
export interface CloneError extends NodeFsError {
  /** Path of what was made and could not be removed again. */
  readonly leftBehind?: string;
}

export interface CloneRequest {
  readonly source: Attr;
  /** For errors. */
  readonly sourcePath: string;
  readonly parent: Ino;
  readonly name: Uint8Array;
  readonly targetPath: string;
}

/** The clone appears under its name whole, or not at all. EEXIST; EINVAL into itself. */
export async function cloneTree(
  ops: VfsOps,
  caller: Caller,
  request: CloneRequest,
  options: CloneOptions,
): Promise<CloneProgress> {
  const { source, parent } = request;
  if (source.type === 'directory' && (await isWithin(ops, caller, parent, source.ino))) {
    throw new FsError('EINVAL', 'a tree cannot be cloned into itself');
  }
  const { signal } = options;
  // Listened to by all that is under way, for which an AbortSignal would warn.
  const stop = new Cancellation();
  const onAbort = (): void => stop.abort();
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener('abort', onAbort);
  try {
    return await cloneAside(ops, caller, request, new TreeClone(ops, { ...caller, signal: stop }, stop, options));
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Makes it under another name, and moves it when it is whole. */
async function cloneAside(
  ops: VfsOps,
  caller: Caller,
  { source, sourcePath, parent, name, targetPath }: CloneRequest,
  tree: TreeClone,
): Promise<CloneProgress> {
  for (let count = 0; ; count += 1) {
    const partial = Buffer.from(`${PARTIAL_PREFIX}${source.ino}-${count}`);
    try {
      await tree.run(source, parent, partial, sourcePath);
      await ops.rename(caller, parent, partial, parent, name, { noReplace: true, exchange: false });
      return tree.progress();
    } catch (error) {
      // That name is another's; nothing is made yet.
      if (!tree.hasBegun) {
        if (count < NAMES_TRIED_MAX && codeOf(error) === 'EEXIST') continue;
        throw error;
      }
      try {
        await remove(ops, caller, parent, partial);
      } catch {
        throw Object.assign(error as Error, { leftBehind: join(directoryOf(targetPath), partial.toString()) });
      }
      throw error;
    }
  }
}

function codeOf(error: unknown): unknown {
  return (error as { readonly code?: unknown }).code;
}

function directoryOf(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  return trimmed.slice(0, trimmed.lastIndexOf('/') + 1) || '/';
}

/** Whether the directory is the other one or below it. */
async function isWithin(ops: VfsOps, caller: Caller, directory: Ino, other: Ino): Promise<boolean> {
  for (let at = directory; ;) {
    if (at === other) return true;
    if (at === ROOT_INO) return false;
    const { attr } = await ops.getattr(caller, at, undefined);
    if (attr.parent === 0) return false;
    at = attr.parent;
  }
}

async function remove(ops: VfsOps, caller: Caller, parent: Ino, name: Uint8Array): Promise<void> {
  const { attr } = await ops.lookup(caller, parent, name);
  ops.forget(attr.ino, 1);
  if (attr.type !== 'directory') return await ops.unlink(caller, parent, name);
  await removeTree(ops, caller, attr.ino);
  await ops.rmdir(caller, parent, name);
}

class TreeClone {
  readonly #ops: VfsOps;
  readonly #caller: Caller;
  readonly #stop: CancelSignal;
  readonly #options: CloneOptions;
  /** By the source's number: what has several names is made once. */
  readonly #linked = new Map<Ino, Promise<Ino>>();
  readonly #running = new Set<Promise<void>>();
  /** Directories that are made; their times are set when nothing changes in them any more. */
  readonly #directories: { readonly attr: Attr; readonly ino: Ino; readonly path: string }[] = [];
  #error: { readonly reason: unknown } | undefined;
  #entryCount = 0;
  #fileCount = 0;
  #bytes = 0;
  /** Something was made. */
  hasBegun = false;

  constructor(ops: VfsOps, caller: Caller, stop: CancelSignal, options: CloneOptions) {
    this.#ops = ops;
    this.#caller = caller;
    this.#stop = stop;
    this.#options = options;
  }

  progress(): CloneProgress {
    return { entryCount: this.#entryCount, fileCount: this.#fileCount, bytes: this.#bytes };
  }

  /** Nothing is under way any more when it settles. */
  async run(attr: Attr, parent: Ino, name: Uint8Array, path: string): Promise<void> {
    this.#error = undefined;
    try {
      await this.#entry(attr, parent, name, path);
      await this.#settled();
      for (const { attr: of, ino, path: at } of this.#directories.splice(0)) {
        await this.#start(at, () => this.#finish(of, ino));
      }
      await this.#settled();
    } catch (error) {
      this.#error ??= { reason: error };
      await Promise.all(this.#running);
      throw this.#error.reason;
    }
  }

  async #settled(): Promise<void> {
    await Promise.all(this.#running);
    this.#check();
  }

  /** Throws what has failed before. */
  #check(): void {
    if (this.#error !== undefined) throw this.#error.reason;
    if (this.#stop.aborted) throw new FsError('EINTR', 'the clone was given up');
  }

  /** Waits until few enough others are under way, then begins. */
  async #start(path: string, work: () => Promise<void>): Promise<void> {
    while (this.#running.size >= FILES_AT_ONCE) await Promise.race(this.#running);
    this.#check();
    const task = asNode({ syscall: 'clone', path }, work)
      .catch((error: unknown) => void (this.#error ??= { reason: error }))
      .finally(() => void this.#running.delete(task));
    this.#running.add(task);
  }

  async #entry(attr: Attr, parent: Ino, name: Uint8Array, path: string): Promise<void> {
    if (attr.type === 'directory') return await this.#directory(attr, parent, name, path);
    await this.#start(path, () => this.#leaf(attr, parent, name));
  }

  #made(what: 'file' | 'other' = 'other'): void {
    this.hasBegun = true;
    this.#entryCount += 1;
    if (what === 'file') this.#fileCount += 1;
    this.#options.onProgress?.(this.progress());
  }

  async #directory(attr: Attr, parent: Ino, name: Uint8Array, path: string): Promise<void> {
    const ops = this.#ops;
    const caller = this.#caller;
    this.#check();
    const ino = await asNode({ syscall: 'clone', path }, async () => {
      // Nobody else's until it has the mode of its model.
      const made = await ops.mkdir(caller, parent, name, 0o700);
      this.#made();
      this.#forget(made.attr.ino);
      // Files are made in the pool of their directory, and only there do they share blocks.
      if (made.attr.pool !== attr.pool) {
        const pool = await ops.getxattr(caller, attr.ino, POOL_XATTR);
        await ops.setxattr(caller, made.attr.ino, POOL_XATTR, pool, 'any');
      }
      await this.#disinherit(made.attr);
      return made.attr.ino;
    });
    this.#directories.push({ attr, ino, path });
    for await (const item of this.#list(attr.ino, path)) {
      const below = join(path, Buffer.from(item.name).toString());
      // As it is by the listing; a file is asked about again when it is opened.
      const itsAttr = item.entry?.attr ?? (await this.#ask(item.ino, below));
      await this.#entry(itsAttr, ino, item.name, below);
    }
  }

  #ask(ino: Ino, path: string): Promise<Attr> {
    return asNode({ syscall: 'clone', path }, async () => {
      return (await this.#ops.getattr(this.#caller, ino, undefined)).attr;
    });
  }

  async *#list(directory: Ino, path: string): AsyncGenerator<DirItem> {
    const ops = this.#ops;
    const { handle } = await ops.opendir(this.#caller, directory);
    try {
      for (let offset = 0; ;) {
        const from = offset;
        const items = await asNode({ syscall: 'clone', path }, () =>
          ops.readdir(this.#caller, handle, from, DIRECTORY_STEP, true),
        );
        const last = items.at(-1);
        if (last === undefined) return;
        offset = last.nextOffset;
        for (const item of items) if (!isDots(item.name)) yield item;
      }
    } finally {
      await ops.releasedir(handle);
    }
  }

  /** Whatever is no directory. */
  async #leaf(attr: Attr, parent: Ino, name: Uint8Array): Promise<void> {
    const known = this.#linked.get(attr.ino);
    if (known !== undefined) {
      const entry = await this.#ops.link(this.#caller, await known, parent, name);
      this.#forget(entry.attr.ino);
      return this.#made();
    }
    const made = attr.type === 'file' ? this.#file(attr, parent, name) : this.#special(attr, parent, name);
    if (attr.nlink > 1) {
      this.#linked.set(attr.ino, made);
      // It is told of by the one that waits for it here.
      made.catch(() => undefined);
    }
    await made;
  }

  async #special(attr: Attr, parent: Ino, name: Uint8Array): Promise<Ino> {
    const ops = this.#ops;
    const entry =
      attr.type === 'symlink'
        ? await ops.symlink(this.#caller, parent, name, await ops.readlink(this.#caller, attr.ino))
        : await ops.mknod(this.#caller, parent, name, attr.type, 0o600, attr.rdev);
    this.#made();
    const { ino } = entry.attr;
    this.#forget(ino);
    await this.#disinherit(entry.attr);
    await this.#finish(attr, ino);
    return ino;
  }

  async #file(listed: Attr, parent: Ino, name: Uint8Array): Promise<Ino> {
    const ops = this.#ops;
    const caller = this.#caller;
    const source = (await ops.open(caller, listed.ino, O_RDONLY)).handle;
    try {
      const { attr } = await ops.getattr(caller, listed.ino, source);
      const made = await ops.create(caller, parent, name, 0o600, O_WRONLY | O_CREAT | O_EXCL);
      this.#made('file');
      const { ino } = made.attr;
      this.#forget(ino);
      await this.#disinherit(made.attr);
      try {
        const onCopied = (bytes: number): void => {
          this.#bytes += bytes;
          this.#options.onProgress?.(this.progress());
          this.#check();
        };
        const range = { source, from: 0, target: made.handle, to: 0, length: attr.sizeBytes, onCopied };
        if (attr.sizeBytes > 0) await copyRange(ops, caller, { ino: listed.ino, ...range });
        await ops.flush(caller, made.handle, 0n);
      } finally {
        await ops.release(made.handle);
      }
      await this.#finish(attr, ino);
      return ino;
    } finally {
      await ops.release(source);
    }
  }

  /** What it got from the directory in which it was made: its model may let fewer in. */
  async #disinherit({ ino, hasAcl, hasDefaultAcl }: Attr): Promise<void> {
    if (hasAcl) await this.#ops.removexattr(this.#caller, ino, aclName('access'));
    if (hasDefaultAcl) await this.#ops.removexattr(this.#caller, ino, aclName('default'));
  }

  /** The attributes, of which the times come last: all else changes them. */
  async #finish(attr: Attr, ino: Ino): Promise<void> {
    const ops = this.#ops;
    const caller = this.#caller;
    for (const name of await ops.listxattr(caller, attr.ino)) {
      await ops.setxattr(caller, ino, name, await ops.getxattr(caller, attr.ino, name), 'any');
    }
    const { mode, uid, gid, atimeNs, mtimeNs } = attr;
    await ops.setattr(caller, ino, { mode, uid, gid, atimeNs, mtimeNs }, undefined);
  }

  /** What made it counts as one of a kernel's references. */
  #forget(ino: Ino): void {
    this.#ops.forget(ino, 1);
  }
}
