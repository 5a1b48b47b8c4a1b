/**
 * Verified block bytes kept for reading: whole blocks for sequential readers, 64 KiB pages for random ones, in one
 * least-recently-used order under one bound, of which pages use less until more of them pays (of many files they are read once, and
 * memory that was not used before costs more than the read). Readers get views and hold the entry until the bytes were copied out.
 */
import { chooseDropped } from '../blocks/drop-choice.ts';
import type { SharedBlock } from '../blocks/sharing.ts';
import type { BlockClient, BlockRef } from '../blocks/types.ts';
import type { CancelSignal } from '../cancel.ts';
import type { Clock } from '../env.ts';
import { blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import { READ_CACHE_PAGES_FIRST_BYTES } from '../limits.ts';
import { untilDeadline } from './async.ts';
import { CacheGoal } from './cache-goal.ts';
import { READ_PAGE_BYTES } from './options.ts';
import { inOrderOfUse, UseCounter, UseOrder } from './use-order.ts';

export type Priority = 'foreground' | 'readahead';

/** A whole block or one page of it. */
export class CachedBlock {
  readonly key: string;
  readonly bytes: number;
  /** What it is, if it is a whole block. */
  readonly ref: BlockRef | undefined;
  /** A buffer of its own, which the block client takes back; undefined while it is on its way, and again once it was evicted. */
  data: Uint8Array | undefined;
  loading: Promise<void> | undefined;
  /** Readers that still look at data. */
  refs = 0;
  /** Read ahead and not yet asked for. */
  ahead = false;
  used = 0;
  newer: CachedBlock | undefined;
  older: CachedBlock | undefined;

  constructor(key: string, bytes: number, ref?: BlockRef) {
    this.key = key;
    this.bytes = bytes;
    this.ref = ref;
  }
}

export class BlockCache {
  readonly #goal: CacheGoal;
  readonly #blocks: BlockClient;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #entries = new Map<string, CachedBlock>();
  readonly #whole: UseOrder<CachedBlock>;
  readonly #pages: UseOrder<CachedBlock>;
  /** How much of the goal pages use. */
  readonly #pageGoal: CacheGoal;
  #aheadBytes = 0;

  /** `firstBytes`: how much is used until it shows that more of it pays (default: all). */
  constructor(options: {
    maxBytes: number;
    firstBytes?: number;
    blocks: BlockClient;
    clock: Clock;
    timeoutMs: number;
  }) {
    const { firstBytes = options.maxBytes, maxBytes } = options;
    this.#goal = new CacheGoal(firstBytes, maxBytes);
    this.#pageGoal = new CacheGoal(Math.min(firstBytes, READ_CACHE_PAGES_FIRST_BYTES), maxBytes);
    const uses = new UseCounter();
    this.#whole = new UseOrder(uses);
    this.#pages = new UseOrder(uses);
    this.#blocks = options.blocks;
    this.#clock = options.clock;
    this.#timeoutMs = options.timeoutMs;
  }

  get maxBytes(): number {
    return this.#goal.maxBytes;
  }
  get bytes(): number {
    return this.#whole.bytes + this.#pages.bytes;
  }
  /** Bytes fetched or being fetched ahead of their readers. */
  get aheadBytes(): number {
    return this.#aheadBytes;
  }
  get maxAheadBytes(): number {
    return this.maxBytes / 2;
  }
  /** Blocks to have read ahead at most, of all readers. */
  get aheadCount(): number {
    return this.#blocks.aheadCount?.() ?? Infinity;
  }
  /** Half for what was used; what is read ahead may take more than the other half of the goal, up to half of the bound. */
  get #roomBytes(): number {
    const half = this.#goal.bytes / 2;
    return half + Math.max(half, this.#aheadBytes);
  }

  /** The whole block's entry, if it is here or on its way. */
  find(ref: BlockRef): CachedBlock | undefined {
    return this.#entries.get(keyOf(ref));
  }

  /** Counts as use, for the order of eviction and for read-ahead. */
  touch(entry: CachedBlock): void {
    if (entry.ahead) this.settleAhead(entry);
    this.#orderOf(entry).touch(entry);
  }

  /** A reader that raised `refs` is done with the entries. */
  release(entries: readonly CachedBlock[]): void {
    for (const entry of entries) entry.refs -= 1;
    this.#evict();
  }

  /** The entry is no longer somebody's read-ahead. */
  settleAhead(entry: CachedBlock): void {
    if (!entry.ahead) return;
    entry.ahead = false;
    this.#aheadBytes -= entry.bytes;
  }

  /** Starts to fetch the whole block unless it is here; `entry.loading` tells when it is. `beside`: blocks that may be wanted soon. */
  load(ref: BlockRef, priority: Priority, beside?: Iterable<BlockRef>): CachedBlock {
    const key = keyOf(ref);
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const entry = this.#add(key, ref.blockBytes, ref);
    if (priority === 'readahead') {
      entry.ahead = true;
      this.#aheadBytes += entry.bytes;
    }
    const { pool, id, blockBytes } = ref;
    this.#fetch([entry], async (signal) => [
      await this.#blocks.readBlock(pool, id, blockBytes, { signal, priority, ...(beside !== undefined && { beside }) }),
    ]);
    return entry;
  }

  /** As load for pages [first, first + count): one entry each; missing neighbours are fetched together. */
  loadPages(ref: BlockRef, first: number, count: number, beside: Iterable<BlockRef>): CachedBlock[] {
    const key = keyOf(ref);
    const pages: CachedBlock[] = [];
    let missing: CachedBlock[] = [];
    const flush = (end: number): void => {
      if (missing.length === 0) return;
      const batch = missing;
      missing = [];
      const { pool, id, blockBytes } = ref;
      this.#fetch(batch, (signal) =>
        this.#blocks.readPages(pool, id, blockBytes, end - batch.length, batch.length, {
          signal,
          priority: 'foreground',
          beside,
        }),
      );
    };
    for (let page = first; page < first + count; page += 1) {
      const pageKey = `${key}#${page}`;
      let entry = this.#entries.get(pageKey);
      if (entry === undefined) {
        entry = this.#add(pageKey, Math.min(READ_PAGE_BYTES, ref.blockBytes - page * READ_PAGE_BYTES));
        missing.push(entry);
      } else {
        flush(page);
      }
      pages.push(entry);
    }
    flush(first + count);
    return pages;
  }

  /** The block's page, if it is here. */
  page(ref: BlockRef, page: number): CachedBlock | undefined {
    return this.#entries.get(`${keyOf(ref)}#${page}`);
  }

  /** Whether so many bytes can be read ahead without pushing out what others read ahead. */
  hasRoomAhead(bytes: number): boolean {
    return this.#aheadBytes + bytes <= this.maxAheadBytes;
  }

  /** The whole block for another reader, held until it is released. Does not count as use: nobody here wants it. */
  share(pool: PoolId, id: BlockId): SharedBlock | undefined {
    const entry = this.#entries.get(`${pool}:${blockIdToHex(id)}`);
    if (entry === undefined) return undefined;
    entry.refs += 1;
    let held = true;
    return {
      loading: entry.loading,
      data: () => entry.data,
      release: () => {
        if (!held) return;
        held = false;
        this.release([entry]);
      },
    };
  }

  clear(): void {
    for (const entry of [...this.#entries.values()]) if (entry.loading === undefined) this.#remove(entry);
  }

  /** `read` brings the bytes of each entry. */
  #fetch(entries: readonly CachedBlock[], read: (signal: CancelSignal) => Promise<readonly Uint8Array[]>): void {
    const loading = this.#attempts(read).then(
      (buffers) => {
        entries.forEach((entry, index) => {
          entry.data = buffers[index];
          entry.loading = undefined;
        });
        this.#evict();
      },
      (error: unknown) => {
        for (const entry of entries) {
          entry.loading = undefined;
          this.#remove(entry);
        }
        throw error;
      },
    );
    // Whoever waits sees the error; read-ahead does not wait.
    loading.catch(() => {});
    for (const entry of entries) entry.loading = loading;
  }

  /** Tries until the deadline while the condition may pass. */
  async #attempts<T>(read: (signal: CancelSignal) => Promise<T>): Promise<T> {
    return await untilDeadline(this.#clock, this.#clock.monotonicMs() + this.#timeoutMs, 'reading a block', read);
  }

  #add(key: string, bytes: number, ref?: BlockRef): CachedBlock {
    this.#goal.missed(key);
    const entry = new CachedBlock(key, bytes, ref);
    if (ref === undefined) this.#pageGoal.missed(key);
    this.#entries.set(key, entry);
    this.#orderOf(entry).add(entry);
    this.#evict();
    return entry;
  }

  /**
   * Foreground reads may exceed the bound while everything is looked at: they are few. What was read ahead stays until it
   * is asked for or its reader stops: of several streams the slowest would otherwise lose, to blocks that others are
   * done with, what it needs next (a file read four ways was fetched twice). It is half of the cache at most.
   */
  #evict(): void {
    while (this.bytes > this.#roomBytes && this.#dropOne(this.#goal, this.#whole.oldest));
    while (this.#pages.bytes > this.#pageGoal.bytes && this.#dropOne(this.#pageGoal, undefined));
  }

  /** One of the pages and, from `whole` on, of the whole blocks that were used longest ago; false if nothing can be dropped. */
  #dropOne(goal: CacheGoal, whole: CachedBlock | undefined): boolean {
    const candidates = droppable(inOrderOfUse(whole, this.#pages.oldest));
    const dropped = chooseDropped(candidates, (entry) => this.#copiesElsewhere(entry));
    if (dropped === undefined) return false;
    this.#remove(dropped);
    goal.dropped(dropped.key, dropped.bytes);
    return true;
  }

  #orderOf({ ref }: CachedBlock): UseOrder<CachedBlock> {
    return ref === undefined ? this.#pages : this.#whole;
  }

  #copiesElsewhere({ ref }: CachedBlock): number {
    return ref === undefined ? 0 : (this.#blocks.copiesElsewhere?.(ref.pool, ref.id) ?? 0);
  }

  #remove(entry: CachedBlock): void {
    if (this.#entries.get(entry.key) !== entry) return;
    this.settleAhead(entry);
    this.#entries.delete(entry.key);
    this.#orderOf(entry).remove(entry);
    const { data } = entry;
    entry.data = undefined;
    // Readers that still look at it keep it: it is then left to the collector.
    if (data !== undefined && entry.refs === 0) this.#blocks.recycle?.(data);
  }
}

function* droppable(entries: Iterable<CachedBlock>): Generator<CachedBlock> {
  for (const entry of entries) {
    if (entry.refs === 0 && !entry.ahead && entry.loading === undefined && entry.data !== undefined) yield entry;
  }
}

function keyOf(ref: BlockRef): string {
  return `${ref.pool}:${blockIdToHex(ref.id)}`;
}
