/**
 * Files that are read at random, brought into the kernel's page cache ahead of their readers: block by block, once a block was read at
 * several places (dense-reads.ts). What the kernel has it reads without asking the mount, some hundred times as fast.
 *
 * The kernel takes what it is given, whatever it knows by then. So nothing is given to it while anybody has the file open for writing here,
 * cuts it, or is opening it; and whoever begins that waits for what is on its way ({@link untilStored}), before the kernel is answered.
 * Invariant: bytes that are on their way to the kernel are as of `inode.pageVersion`, or its pages are dropped after them.
 */
import { Cancellation } from '../cancel.ts';
import type { BlockClient } from '../blocks/types.ts';
import type { Extent } from '../meta/types.ts';
import { DenseReads } from './dense-reads.ts';
import type { FileData } from './file-data.ts';
import type { FileHandle } from './handles.ts';
import type { Inode } from './inode-table.ts';
import type { MountState } from './mount-state.ts';
import {
  PREFETCH_AT_ONCE,
  PREFETCH_BLOCKS_KEPT,
  PREFETCH_KEPT_MS,
  PREFETCH_PAGES,
  PREFETCH_SHARE_FAR,
  PREFETCH_SHARE_NEAR,
  PREFETCH_WAITING_MAX,
  READ_PAGE_BYTES,
} from './options.ts';

type BlockExtent = Extract<Extent, { kind: 'block' }>;

/** The kernel's own pages, of which only whole ones are given. */
const KERNEL_PAGE_BYTES = 4096;
/** Shorter blocks are read whole anyway. */
const LEAST_PAGES = 4;
const LEAST_PLACES = 2;

/** A block that is being brought, and how far. */
interface Wanted {
  readonly file: FileData;
  readonly extent: BlockExtent;
  nextPage: number;
}

export class Prefetch {
  readonly #state: MountState;
  readonly #blocks: BlockClient;
  readonly #reads: DenseReads;
  readonly #end = new Cancellation();
  #waiting: Wanted[] = [];
  #working = 0;
  /** Given to the kernel so far. */
  storedBytes = 0;

  constructor(state: MountState, blocks: BlockClient) {
    this.#state = state;
    this.#blocks = blocks;
    this.#reads = new DenseReads({
      keptMs: PREFETCH_KEPT_MS,
      maxBytes: state.limits.prefetchBytes,
      blocksMax: PREFETCH_BLOCKS_KEPT,
    });
  }

  /** A read at random came from the kernel, of the extent's block at byte `from`: it has not got that. */
  readAtRandom({ file, bypassesPages }: FileHandle, extent: BlockExtent, from: number): void {
    const { limits, clock, watched } = this.#state;
    if (watched.kernel.notifier === undefined || bypassesPages || !isWhole(extent)) return;
    const pages = Math.ceil(extent.lengthBytes / READ_PAGE_BYTES);
    // What does not fit into memory would only push itself out.
    if (pages < LEAST_PAGES || file.inode.attr.sizeBytes > limits.prefetchBytes) return;
    if (this.#end.aborted || !isQuiet(file) || this.#waiting.length >= PREFETCH_WAITING_MAX) return;
    const isNear = this.#blocks.aheadCount?.() !== undefined;
    const read = {
      ino: file.inode.ino,
      offset: extent.offset,
      page: Math.floor(from / READ_PAGE_BYTES),
      bytes: extent.lengthBytes,
      wanted: Math.max(LEAST_PLACES, Math.ceil(pages * (isNear ? PREFETCH_SHARE_NEAR : PREFETCH_SHARE_FAR))),
    };
    if (!this.#reads.note(read, clock.monotonicMs())) return;
    this.#waiting.push({ file, extent, nextPage: 0 });
    while (this.#working < PREFETCH_AT_ONCE) {
      this.#working += 1;
      this.#state.background(this.#work().finally(() => (this.#working -= 1)));
    }
  }

  stop(): void {
    this.#end.abort();
    this.#waiting = [];
  }

  async #work(): Promise<void> {
    for (let [wanted] = this.#waiting; wanted !== undefined; [wanted] = this.#waiting) {
      const first = wanted.nextPage;
      wanted.nextPage += PREFETCH_PAGES;
      const isLast = wanted.nextPage * READ_PAGE_BYTES >= wanted.extent.lengthBytes;
      if (isLast) this.#forget(wanted);
      if (!(await this.#bring(wanted, first))) this.#forget(wanted);
    }
  }

  #forget(wanted: Wanted): void {
    this.#waiting = this.#waiting.filter((other) => other !== wanted);
  }

  /** Some pages of the block; false if the rest is not to be had or not wanted any more. */
  async #bring(wanted: Wanted, firstPage: number): Promise<boolean> {
    if (!this.#isWanted(wanted)) return false;
    const { pool, id, blockBytes } = wanted.extent;
    const count = Math.min(PREFETCH_PAGES, Math.ceil(blockBytes / READ_PAGE_BYTES) - firstPage);
    let pages: readonly Uint8Array[];
    try {
      const options = { signal: this.#end.signal, priority: 'readahead' } as const;
      pages = await this.#blocks.readPages(pool, id, blockBytes, firstPage, count, options);
    } catch {
      // Whoever reads it himself is told.
      return false;
    }
    const isStored = await this.#store(wanted, firstPage * READ_PAGE_BYTES, pages);
    for (const page of pages) this.#blocks.recycle?.(page);
    return isStored;
  }

  /** `start`: in the block. */
  async #store(wanted: Wanted, start: number, pages: readonly Uint8Array[]): Promise<boolean> {
    const { file, extent } = wanted;
    const { inode } = file;
    const { notifier } = this.#state.watched.kernel;
    // Who is opening it decides by what the kernel has.
    const { opens } = this.#state;
    while (inode.opening > 0 && opens.size > 0 && !this.#end.aborted) await Promise.allSettled(opens);
    // From here on nothing is waited for until it is on its way.
    if (notifier === undefined || inode.opening > 0 || !this.#isWanted(wanted)) return false;
    // The page of the kernel's that the file ends in is the kernel's to fill.
    const leftBytes = wholeBytes(extent.lengthBytes) - start;
    const given = pages
      .map((page, index) => page.subarray(0, Math.max(0, leftBytes - index * READ_PAGE_BYTES)))
      .filter(({ length }) => length > 0);
    let end = extent.offset + start;
    for (const { length } of given) end += length;
    if (given.length === 0 || end > inode.toldSizeBytes) return false;
    const { version } = inode.attr;
    const storing = notifier.store(inode.ino, extent.offset + start, given);
    const stores = (inode.stores ??= new Set());
    stores.add(storing);
    const isTaken = await storing;
    stores.delete(storing);
    if (stores.size === 0) inode.stores = undefined;
    if (isTaken) for (const { length } of given) this.storedBytes += length;
    // Others did that: of what they wrote there the kernel has what was before, and perhaps the end of the file.
    if (inode.attr.version !== version) {
      inode.unseen();
      this.#state.dropPages(inode);
    }
    return isTaken;
  }

  #isWanted({ file, extent }: Wanted): boolean {
    if (this.#end.aborted || !isQuiet(file)) return false;
    const now = file.extents.at(file.extents.find(extent.offset))?.extent;
    return now?.kind === 'block' && isSame(now, extent);
  }
}

/** Resolves once the kernel has what is on its way to it; undefined if nothing is. */
export function untilStored({ stores }: Inode): Promise<unknown> | undefined {
  return stores && Promise.all(stores);
}

/** Nobody changes the file here, and what is known of it is what the kernel's pages show. */
function isQuiet(file: FileData): boolean {
  const { inode, extents } = file;
  const { version } = inode.attr;
  const isOpenForReading = inode.data === file && inode.openCount > 0 && inode.writers === 0 && !inode.gone;
  return (
    isOpenForReading &&
    file.isClean &&
    !inode.isLockedHere &&
    extents.version === version &&
    inode.pageVersion === version
  );
}

/** It begins where its block does, and where a page of the kernel's does. */
function isWhole({ offset, blockOffset }: BlockExtent): boolean {
  return blockOffset === 0 && offset % KERNEL_PAGE_BYTES === 0;
}

function isSame(a: BlockExtent, b: BlockExtent): boolean {
  return (
    a.offset === b.offset &&
    a.lengthBytes === b.lengthBytes &&
    a.blockOffset === b.blockOffset &&
    a.pool === b.pool &&
    Buffer.compare(a.id, b.id) === 0
  );
}

function wholeBytes(bytes: number): number {
  return bytes - (bytes % KERNEL_PAGE_BYTES);
}
