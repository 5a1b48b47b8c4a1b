/**
 * The layers of the table: two overlays in memory over the sorted store. The active one takes writes; the frozen one is
 * being written to the store. Reads see active, then frozen, then the store (or its rows that are kept in memory).
 */
import type { Kv, KvOp, KvRow } from '../env.ts';
import { keyFromBytes, keyToBytes } from './keys.ts';
import { mergeOverlays, Overlay, type OverlayRow, type RangeRead, type Row } from './overlay.ts';
import { RowCache } from './row-cache.ts';
import type { PointReader, RangeReads } from './transaction.ts';

export class Table implements PointReader {
  readonly #kv: Kv;
  #active = new Overlay();
  #frozen: Overlay | undefined;
  readonly #stored = new RowCache();
  /**
   * Scans whose snapshot of the store is not yet taken. Invariant: a frozen overlay is not written before the scans
   * begun earlier have theirs, or they would see commands applied after they began.
   */
  readonly #openingScans = new Set<Promise<void>>();

  constructor(kv: Kv) {
    this.#kv = kv;
  }

  /** Of the overlay that takes writes. */
  get activeBytes(): number {
    return this.#active.bytes;
  }
  get overlayBytes(): number {
    return this.#active.bytes + (this.#frozen?.bytes ?? 0);
  }
  get hasFrozen(): boolean {
    return this.#frozen !== undefined;
  }

  get(key: string): Uint8Array | undefined {
    if (this.#active.has(key)) return this.#active.get(key);
    if (this.#frozen?.has(key) === true) return this.#frozen.get(key);
    const known = this.#stored.get(key);
    if (known !== undefined) return known;
    const value = this.#kv.get(keyToBytes(key));
    if (value !== undefined) this.#stored.learn(key, value);
    return value;
  }

  set(key: string, value: Uint8Array | undefined): void {
    this.#active.set(key, value);
  }

  absorb(writes: Overlay): void {
    for (const [key, value] of writes.entries()) this.#active.set(key, value);
  }

  /** Rows of all ranges, from the table as it is at the call, under `top`. */
  read(reads: RangeReads, top?: Overlay): Promise<Row[][]> {
    const overlays = [top, this.#active, this.#frozen].filter((overlay) => overlay !== undefined);
    return Promise.all(reads.map((read) => this.#merge(read, mergeOverlays(overlays, read))));
  }

  async #merge(read: RangeRead, newer: OverlayRow[]): Promise<Row[]> {
    const rows: Row[] = [];
    let at = 0;
    // Each newer row hides at most one of the store's.
    const scan = this.scan(read.gte, read.lt, read.limit + newer.length, read.reverse);
    try {
      for (let next = await scan.first; next.done !== true && rows.length < read.limit; next = await scan.next()) {
        for (const [bytes, stored] of next.value) {
          const key = keyFromBytes(bytes);
          let hidden = false;
          for (; at < newer.length && rows.length < read.limit; at++) {
            const [newerKey, value] = newer[at]!;
            if (read.reverse ? newerKey < key : newerKey > key) break;
            hidden ||= newerKey === key;
            if (value !== undefined) rows.push([newerKey, value]);
          }
          if (rows.length >= read.limit) break;
          if (!hidden) rows.push([key, stored]);
        }
      }
    } finally {
      await scan.close();
    }
    for (; at < newer.length && rows.length < read.limit; at++) {
      const [key, value] = newer[at]!;
      if (value !== undefined) rows.push([key, value]);
    }
    return rows;
  }

  /** Rows of the store alone. Once `first` has resolved, they come from one snapshot. */
  scan(gte: string, lt: string, limit?: number, reverse = false): StoreScan {
    const range = { gte: keyToBytes(gte), lt: keyToBytes(lt), reverse, ...(limit !== undefined && { limit }) };
    const iterator = this.#kv.scanPages(range)[Symbol.asyncIterator]();
    const first = iterator.next();
    const opened = (): void => void this.#openingScans.delete(opening);
    const opening: Promise<void> = first.then(opened, opened);
    this.#openingScans.add(opening);
    return { first, next: () => iterator.next(), close: async () => void (await iterator.return?.()) };
  }

  /** Turns the active overlay into the frozen one, which must not be there. */
  freeze(): void {
    this.#frozen = this.#active;
    this.#active = new Overlay();
  }

  /** Writes the frozen overlay in one synced batch and drops it. After an error it is still there: try again. */
  async writeFrozen(): Promise<void> {
    const frozen = this.#frozen;
    if (frozen === undefined) return;
    await Promise.all(this.#openingScans);
    const ops: KvOp[] = [];
    for (const [key, value] of frozen.entries()) {
      ops.push(value === undefined ? { key: keyToBytes(key) } : { key: keyToBytes(key), value });
    }
    await this.#kv.batch(ops, { sync: true });
    // Until here the frozen rows hid those of the cache.
    for (const [key, value] of frozen.entries()) this.#stored.learn(key, value);
    this.#frozen = undefined;
  }

  /** Forgets what is not in the store. */
  clear(): void {
    this.#active = new Overlay();
    this.#frozen = undefined;
    this.#stored.clear();
  }
}

/** Pages of rows. */
export interface StoreScan {
  readonly first: Promise<IteratorResult<readonly KvRow[]>>;
  next(): Promise<IteratorResult<readonly KvRow[]>>;
  close(): Promise<void>;
}
