/**
 * One handle's read-ahead: the window doubles while reads follow each other, from one block up to the handle's share
 * of the cache, and falls to nothing when they do not. Pure bookkeeping; read-path.ts fetches.
 */
import type { CachedBlock } from './block-cache.ts';
import { READ_PAGE_BYTES } from './options.ts';

/** The kernel sends a stream's requests several at a time, and they may overtake each other by this much. */
const REORDER_BYTES = 4 * 1024 * 1024;
/**
 * The kernel does not ask for what it has of a file: a stream that passes over what was read at random has gaps. None longer
 * than the read itself counts, though: random reads may be near each other.
 */
const GAP_BYTES = READ_PAGE_BYTES;

export class ReadAhead {
  /** Where the next read begins if it follows. */
  #expected = 0;
  /** Reads in a row that followed. */
  #run = 0;
  #lastBlock = -1;
  /** Blocks to keep fetched beyond the reader; 0 while reads are random. */
  windowBlocks = 0;
  /** Everything of the file up to here has been asked for. */
  frontier = 0;
  lastReadMs = 0;
  /** The last block's length of which was noted in how many pieces it is. */
  notedBlock = -1;
  /** Fetched ahead for this handle and perhaps not yet read. */
  readonly outstanding = new Set<CachedBlock>();

  get isSequential(): boolean {
    return this.#run > 0;
  }

  /** Notes a read; true if the sequence was broken. */
  note(offset: number, end: number, blockSizeBytes: number, maxBlocks: number, nowMs: number): boolean {
    this.lastReadMs = nowMs;
    const gap = offset - this.#expected;
    const passedOver = gap >= 0 && gap <= Math.min(GAP_BYTES, end - offset);
    const follows = passedOver || (this.#run >= 2 && Math.abs(gap) <= REORDER_BYTES);
    if (!follows) {
      const wasSequential = this.#run > 0;
      // Who goes to the start reads on from there, most likely.
      this.#run = offset === 0 ? 1 : 0;
      this.#lastBlock = -1;
      this.windowBlocks = 0;
      this.frontier = 0;
      this.#expected = end;
      return wasSequential;
    }
    this.#run += 1;
    if (end > this.#expected) this.#expected = end;
    const block = Math.floor((this.#expected - 1) / blockSizeBytes);
    if (this.#run >= 2 && block > this.#lastBlock) {
      this.windowBlocks = this.windowBlocks === 0 ? 1 : this.windowBlocks * 2;
      this.#lastBlock = block;
    }
    if (this.windowBlocks > maxBlocks) this.windowBlocks = maxBlocks;
    if (this.frontier < this.#expected) this.frontier = this.#expected;
    return false;
  }

  /** Up to where the file should have been asked for now. */
  goal(blockSizeBytes: number): number {
    if (this.windowBlocks === 0) return 0;
    return (Math.floor(this.#expected / blockSizeBytes) + 1 + this.windowBlocks) * blockSizeBytes;
  }
}
