/**
 * Files and directories in memory, each with what a crash would leave of it.
 *
 * A file is a list of pages. What was written and not synced is lost page by page, in no order. Names are lost operation
 * by operation: a rename whole or not at all, and two changes of one name never the later without the earlier.
 */
import type { Random } from '../env.ts';
import { FsError } from '../errors.ts';
import type { MemoryKvState } from './kv.ts';

/** Unit in which a crash loses data: that of the page cache. */
export const DISK_PAGE_BYTES = 4096;

export class FileNode {
  readonly kind = 'file';
  sizeBytes = 0;
  /** A page that others may share (#own tells) is replaced, never changed. A missing one reads as zeros. */
  #pages = new Map<number, Uint8Array>();
  #durablePages = new Map<number, Uint8Array>();
  #durableSizeBytes = 0;
  /** Pages that may differ between #pages and #durablePages. */
  readonly #dirty = new Set<number>();
  /** Pages made since a sync last took note of them: nobody else has them. */
  readonly #own = new Set<number>();
  openCount = 0;
  linked = true;
  /** Its space was given back: neither name nor handle is left. */
  freed = false;

  get storedBytes(): number {
    return this.#pages.size * DISK_PAGE_BYTES;
  }

  read(target: Uint8Array, position: number): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - position));
    for (let done = 0; done < length;) {
      const inPage = (position + done) % DISK_PAGE_BYTES;
      const count = Math.min(DISK_PAGE_BYTES - inPage, length - done);
      const page = this.#pages.get(Math.floor((position + done) / DISK_PAGE_BYTES));
      if (page) target.set(page.subarray(inPage, inPage + count), done);
      else target.fill(0, done, done + count);
      done += count;
    }
    return length;
  }

  /** Pages that writing there would add. */
  newPageCount(position: number, lengthBytes: number): number {
    if (lengthBytes === 0) return 0;
    let count = 0;
    const last = Math.floor((position + lengthBytes - 1) / DISK_PAGE_BYTES);
    for (let page = Math.floor(position / DISK_PAGE_BYTES); page <= last; page++) if (!this.#pages.has(page)) count++;
    return count;
  }

  write(data: Uint8Array, position: number): void {
    // One copy for all whole pages, which are parts of it.
    let copy: Uint8Array | undefined;
    for (let done = 0; done < data.length;) {
      const index = Math.floor((position + done) / DISK_PAGE_BYTES);
      const inPage = (position + done) % DISK_PAGE_BYTES;
      const count = Math.min(DISK_PAGE_BYTES - inPage, data.length - done);
      if (count < DISK_PAGE_BYTES) this.#ownPage(index).set(data.subarray(done, done + count), inPage);
      else {
        copy ??= new Uint8Array(data);
        this.#pages.set(index, copy.subarray(done, done + count));
        this.#own.add(index);
        this.#dirty.add(index);
      }
      done += count;
    }
    if (data.length > 0) this.sizeBytes = Math.max(this.sizeBytes, position + data.length);
  }

  truncate(sizeBytes: number): void {
    const firstGone = Math.ceil(sizeBytes / DISK_PAGE_BYTES);
    if (sizeBytes < this.sizeBytes) {
      for (const index of [...this.#pages.keys()]) {
        if (index < firstGone) continue;
        this.#pages.delete(index);
        this.#own.delete(index);
        this.#dirty.add(index);
      }
      const inPage = sizeBytes % DISK_PAGE_BYTES;
      if (inPage > 0 && this.#pages.has(firstGone - 1)) {
        this.#ownPage(firstGone - 1).fill(0, inPage);
      }
    }
    this.sizeBytes = sizeBytes;
  }

  /** The page, to be changed. */
  #ownPage(index: number): Uint8Array {
    const page = this.#pages.get(index);
    if (page !== undefined && this.#own.has(index)) return page;
    const made = page?.slice() ?? new Uint8Array(DISK_PAGE_BYTES);
    this.#pages.set(index, made);
    this.#own.add(index);
    this.#dirty.add(index);
    return made;
  }

  /** Notes what is in the file now; calling the result makes that durable, and nothing written since. */
  beginSync(): () => void {
    const pages = [...this.#dirty].map((index) => [index, this.#pages.get(index)] as const);
    const sizeBytes = this.sizeBytes;
    this.#own.clear();
    return () => {
      for (const [index, page] of pages) {
        if (page) this.#durablePages.set(index, page);
        else this.#durablePages.delete(index);
        if (this.#pages.get(index) === page) this.#dirty.delete(index);
      }
      this.#durableSizeBytes = sizeBytes;
    };
  }

  /** Power loss: each unsynced page is old or new, by chance (without `random`: old), and so is the size. */
  crash(random: Random | undefined): void {
    for (const index of this.#dirty) {
      const page = this.#pages.get(index);
      if (!random || random.below(2) === 0) continue;
      if (page) this.#durablePages.set(index, page);
      else this.#durablePages.delete(index);
    }
    if (random?.below(2) === 1) this.#durableSizeBytes = this.sizeBytes;
    this.#dirty.clear();
    this.#own.clear();
    this.openCount = 0;
    this.#pages = new Map(this.#durablePages);
    // What is past the end of the surviving size is not the file's any more.
    this.sizeBytes = Infinity;
    this.truncate(this.#durableSizeBytes);
    this.#dirty.clear();
    this.#own.clear();
    this.#durablePages = new Map(this.#pages);
  }

  /** Changes a byte on the platter, as a failing disk does. */
  corrupt(position: number, mask: number): void {
    for (const pages of [this.#pages, this.#durablePages]) {
      const index = Math.floor(position / DISK_PAGE_BYTES);
      const page = pages.get(index)?.slice();
      if (!page) continue;
      const inPage = position % DISK_PAGE_BYTES;
      page[inPage] = (page[inPage] as number) ^ mask;
      pages.set(index, page);
    }
  }
}

export class DirectoryNode {
  readonly kind = 'directory';
  readonly entries = new Map<string, Node>();
  readonly durableEntries = new Map<string, Node>();
  /** Present if a key-value store lives here. */
  kv: MemoryKvState | undefined;
}

export type Node = FileNode | DirectoryNode;

/** One change of a name. `node` undefined: the name is gone. */
interface Slot {
  readonly directory: DirectoryNode;
  readonly name: string;
  readonly node: Node | undefined;
}

/** Names, by directory, of a set of slots. */
class Names {
  readonly #names = new Map<DirectoryNode, Set<string>>();

  add(slots: readonly Slot[]): void {
    for (const { directory, name } of slots) {
      const names = this.#names.get(directory);
      if (names) names.add(name);
      else this.#names.set(directory, new Set([name]));
    }
  }

  hasAny(slots: readonly Slot[]): boolean {
    return slots.some(({ directory, name }) => this.#names.get(directory)?.has(name));
  }
}

export class Tree {
  readonly root = new DirectoryNode();
  /** Changes of names not yet durable, oldest first; the slots of one entry go together. */
  #pending: (readonly Slot[])[] = [];

  find(path: string): Node | undefined {
    let node: Node | undefined = this.root;
    for (const part of partsOf(path)) {
      if (node.kind !== 'directory') throw new FsError('ENOTDIR', `ENOTDIR: not a directory, '${path}'`);
      node = node.entries.get(part);
      if (!node) return undefined;
    }
    return node;
  }

  file(path: string): FileNode {
    const node = this.find(path);
    if (!node) throw new FsError('ENOENT', `ENOENT: no such file or directory, '${path}'`);
    if (node.kind !== 'file') throw new FsError('EISDIR', `EISDIR: is a directory, '${path}'`);
    return node;
  }

  directory(path: string): DirectoryNode {
    const node = this.find(path);
    if (!node) throw new FsError('ENOENT', `ENOENT: no such file or directory, '${path}'`);
    if (node.kind !== 'directory') throw new FsError('ENOTDIR', `ENOTDIR: not a directory, '${path}'`);
    return node;
  }

  /** The directory of a path and the name in it. */
  place(path: string): { directory: DirectoryNode; name: string } {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) throw new FsError('EINVAL', `EINVAL: the root has no name, '${path}'`);
    return { directory: this.directory(parts.join('/')), name };
  }

  change(...slots: Slot[]): void {
    for (const { directory, name, node } of slots) {
      if (node) directory.entries.set(name, node);
      else directory.entries.delete(name);
    }
    this.#pending.push(slots);
  }

  /** Makes the directories that are missing, durably. */
  makeDirectories(path: string): void {
    let directory = this.root;
    for (const name of partsOf(path)) {
      const next = directory.entries.get(name);
      if (next?.kind === 'file') throw new FsError('ENOTDIR', `ENOTDIR: not a directory, '${path}'`);
      const node = next ?? new DirectoryNode();
      if (!next) {
        this.change({ directory, name, node });
        this.#makeDurable([{ directory, name, node }]);
      }
      directory = node;
    }
  }

  /** Notes what names the directory has now; calling the result makes that durable. */
  beginSync(directory: DirectoryNode): () => void {
    const before = new Set(this.#pending.filter((slots) => slots.some((slot) => slot.directory === directory)));
    return () => {
      for (const slots of before) this.#makeDurable(slots);
    };
  }

  /** Makes durable what changed these names so far, and what that in turn came after. */
  #makeDurable(wanted: readonly Slot[]): void {
    const names = new Names();
    names.add(wanted);
    const rest: (readonly Slot[])[] = [];
    const done: (readonly Slot[])[] = [];
    for (const slots of this.#pending.toReversed()) {
      if (names.hasAny(slots)) {
        names.add(slots);
        done.push(slots);
      } else {
        rest.push(slots);
      }
    }
    for (const slots of done.toReversed()) applyDurably(slots);
    this.#pending = rest.toReversed();
  }

  /** Power loss. Without `random` nothing survives that was not synced. */
  crash(random: Random | undefined, anyOrder: boolean): void {
    const lost = new Names();
    for (const slots of this.#pending) {
      if (random && !lost.hasAny(slots) && random.below(2) === 1) applyDurably(slots);
      else lost.add(slots);
    }
    this.#pending = [];
    const visit = (directory: DirectoryNode): void => {
      directory.entries.clear();
      directory.kv?.crash(random, anyOrder);
      for (const [name, node] of directory.durableEntries) {
        directory.entries.set(name, node);
        if (node.kind === 'directory') visit(node);
        else {
          node.linked = true;
          node.freed = false;
          node.crash(random);
        }
      }
    };
    visit(this.root);
  }
}

function applyDurably(slots: readonly Slot[]): void {
  for (const { directory, name, node } of slots) {
    if (node) directory.durableEntries.set(name, node);
    else directory.durableEntries.delete(name);
  }
}

export function partsOf(path: string): string[] {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return parts;
}

/** All files and key-value stores at and below a node. */
export function* contentsOf(node: Node): Generator<FileNode | MemoryKvState> {
  if (node.kind === 'file') {
    yield node;
    return;
  }
  if (node.kv) yield node.kv;
  for (const child of node.entries.values()) yield* contentsOf(child);
}
