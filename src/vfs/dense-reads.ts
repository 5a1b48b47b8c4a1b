/**
 * Of which blocks of files so much is read at random that the rest is likely to be wanted too. One read is no sign of it; but of who has
 * read at several places of a block, as many reads again are to be expected as there were. What is brought for nothing is bounded: by
 * how much in a time, and by never bringing a block again soon. Pure bookkeeping, of bounded memory.
 */
import type { Ino } from '../ids.ts';

export interface DenseReadsOptions {
  /** Reads longer ago than this, up to twice as long, do not count; no block is brought again before. */
  readonly keptMs: number;
  /** At most this much is brought within that time. */
  readonly maxBytes: number;
  /** Blocks that are remembered, up to twice as many. */
  readonly blocksMax: number;
}

interface Seen {
  /** Times that it was read at another page than the last. */
  places: number;
  lastPage: number;
  /** When it was brought. */
  broughtMs: number;
}

export class DenseReads {
  readonly #options: DenseReadsOptions;
  #current = new Map<string, Seen>();
  #before = new Map<string, Seen>();
  #turnMs = -Infinity;
  #broughtBytes = 0;

  constructor(options: DenseReadsOptions) {
    this.#options = options;
  }

  /**
   * Notes a read of `page` of the block that begins at `offset` of the file; true if the block is to be brought now, as that was the
   * `wanted`-th place. Who says true has promised `bytes`.
   */
  note(read: { ino: Ino; offset: number; page: number; bytes: number; wanted: number }, nowMs: number): boolean {
    const { keptMs, maxBytes } = this.#options;
    const seen = this.#seen(`${read.ino}:${read.offset}`, nowMs);
    if (read.page === seen.lastPage) return false;
    seen.lastPage = read.page;
    seen.places += 1;
    if (seen.places < read.wanted || nowMs - seen.broughtMs < keptMs) return false;
    if (this.#broughtBytes + read.bytes > maxBytes) return false;
    this.#broughtBytes += read.bytes;
    seen.broughtMs = nowMs;
    seen.places = 0;
    return true;
  }

  #seen(key: string, nowMs: number): Seen {
    const { keptMs, blocksMax } = this.#options;
    const isOver = nowMs >= this.#turnMs;
    if (isOver || this.#current.size >= blocksMax) {
      // So long ago that neither counts.
      this.#before = nowMs >= this.#turnMs + keptMs ? new Map<string, Seen>() : this.#current;
      this.#current = new Map();
      if (isOver) {
        this.#broughtBytes = 0;
        this.#turnMs = nowMs + keptMs;
      }
    }
    let seen = this.#current.get(key);
    if (seen === undefined) {
      seen = this.#before.get(key) ?? { places: 0, lastPage: -1, broughtMs: -Infinity };
      this.#before.delete(key);
      this.#current.set(key, seen);
    }
    return seen;
  }
}
