/**
 * The table's rows that are newer than the sorted store below: a memtable. Point reads go to a Map; the sorted view
 * that range reads need is brought up to date only when one comes, so that a stream of point operations never pays
 * for it.
 */

export interface RangeRead {
  readonly gte: string;
  readonly lt: string;
  readonly limit: number;
  readonly reverse: boolean;
}

export type Row = readonly [key: string, value: Uint8Array];
/** `undefined` = deleted here, whatever is below. */
export type OverlayRow = readonly [key: string, value: Uint8Array | undefined];

/** Keys per chunk of the sorted view: a splice moves at most this many. */
const CHUNK_KEY_COUNT = 512;
/** What a row costs beyond its key and value: the Map's slot, string and buffer headers. */
const ROW_OVERHEAD_BYTES = 100;

export class Overlay {
  readonly #rows = new Map<string, Uint8Array | undefined>();
  readonly #sorted = new SortedKeys();
  /** Keys that are in #rows and not yet in #sorted. */
  #unsorted: string[] = [];
  #bytes = 0;

  get size(): number {
    return this.#rows.size;
  }
  /** About the memory it takes. */
  get bytes(): number {
    return this.#bytes;
  }

  has(key: string): boolean {
    return this.#rows.has(key);
  }
  /** Undefined if absent or deleted: ask {@link Overlay.has} which. */
  get(key: string): Uint8Array | undefined {
    return this.#rows.get(key);
  }

  set(key: string, value: Uint8Array | undefined): void {
    const old = this.#rows.get(key);
    if (old === undefined && !this.#rows.has(key)) {
      this.#unsorted.push(key);
      this.#bytes += key.length + ROW_OVERHEAD_BYTES;
    } else if (old !== undefined) {
      this.#bytes -= old.length;
    }
    if (value !== undefined) this.#bytes += value.length;
    this.#rows.set(key, value);
  }

  /** Of its rows and deletions, in the order of their making. */
  rowKeys(): IterableIterator<string> {
    return this.#rows.keys();
  }

  entries(): IterableIterator<[string, Uint8Array | undefined]> {
    return this.#rows.entries();
  }

  clear(): void {
    if (this.#rows.size === 0) return;
    this.#rows.clear();
    this.#sorted.clear();
    this.#unsorted = [];
    this.#bytes = 0;
  }

  /** Keys in the range, deleted ones too, in the asked order. The overlay must not change meanwhile. */
  keys(gte: string, lt: string, reverse: boolean): Iterator<string> {
    for (const key of this.#unsorted) this.#sorted.insert(key);
    if (this.#unsorted.length > 0) this.#unsorted = [];
    return reverse ? this.#sorted.descending(gte, lt) : this.#sorted.ascending(gte, lt);
  }
}

/** A sorted list of strings in chunks: insertion by two binary searches and a short splice. */
export class SortedKeys {
  #chunks: string[][] = [];

  clear(): void {
    this.#chunks = [];
  }

  /** The key must not be present. */
  insert(key: string): void {
    if (this.#chunks.length === 0) {
      this.#chunks.push([key]);
      return;
    }
    const at = this.#chunkFor(key);
    const chunk = this.#chunks[at]!;
    chunk.splice(lowerBound(chunk, key), 0, key);
    if (chunk.length > CHUNK_KEY_COUNT) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK_KEY_COUNT / 2));
  }

  *ascending(gte: string, lt: string): Generator<string, void, void> {
    if (this.#chunks.length === 0) return;
    let at = this.#chunkFor(gte);
    let index = lowerBound(this.#chunks[at]!, gte);
    for (; at < this.#chunks.length; at++, index = 0) {
      const chunk = this.#chunks[at]!;
      for (; index < chunk.length; index++) {
        if (chunk[index]! >= lt) return;
        yield chunk[index]!;
      }
    }
  }

  *descending(gte: string, lt: string): Generator<string, void, void> {
    if (this.#chunks.length === 0) return;
    let at = this.#chunkFor(lt);
    let index = lowerBound(this.#chunks[at]!, lt) - 1;
    for (;;) {
      const chunk = this.#chunks[at]!;
      for (; index >= 0; index--) {
        if (chunk[index]! < gte) return;
        yield chunk[index]!;
      }
      if (at === 0) return;
      index = this.#chunks[--at]!.length - 1;
    }
  }

  /** Index of the last chunk that starts at or before the key; the first chunk if none does. */
  #chunkFor(key: string): number {
    let low = 0;
    let high = this.#chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#chunks[middle]![0]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

function lowerBound(sorted: readonly string[], key: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The rows of several overlays as one sorted list, where an earlier overlay hides a later one's row of the same key.
 * Stops after `limit` rows that are not deletions: no row of the store below beyond the last of them can be wanted.
 */
export function mergeOverlays(overlays: readonly Overlay[], read: RangeRead): OverlayRow[] {
  const used = overlays.filter((overlay) => overlay.size > 0);
  const iterators = used.map((overlay) => overlay.keys(read.gte, read.lt, read.reverse));
  const heads = iterators.map((iterator) => nextKey(iterator));
  const merged: OverlayRow[] = [];
  let live = 0;
  while (live < read.limit) {
    let best = -1;
    for (let i = 0; i < heads.length; i++) {
      const head = heads[i];
      if (head === undefined) continue;
      const least = best < 0 ? undefined : heads[best]!;
      if (least === undefined || (read.reverse ? head > least : head < least)) best = i;
    }
    if (best < 0) break;
    const key = heads[best]!;
    const value = used[best]!.get(key);
    merged.push([key, value]);
    if (value !== undefined) live++;
    for (let i = best; i < heads.length; i++) if (heads[i] === key) heads[i] = nextKey(iterators[i]!);
  }
  return merged;
}

function nextKey(iterator: Iterator<string>): string | undefined {
  const next = iterator.next();
  return next.done === true ? undefined : next.value;
}
