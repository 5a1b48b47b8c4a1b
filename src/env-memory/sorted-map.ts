/**
 * A sorted map from byte strings to byte strings with cheap snapshots: what LevelDB is to the real disk.
 *
 * Two levels: a list of chunks, each a sorted run of entries. A snapshot shares both; a change copies the list and the
 * one chunk it touches first, if a snapshot may still look at them. Keys are held as strings of code units 0..255, whose
 * order is that of the bytes.
 */

/** Large enough that the list stays short, small enough that inserting into the middle is cheap. */
const CHUNK_MAX_ENTRIES = 256;

interface Chunk {
  /** Snapshot count at which it was made: an older one may be shared. */
  readonly stamp: number;
  readonly keys: string[];
  readonly values: Uint8Array[];
}

export type SortedMapKey = string;

export function toKey(bytes: Uint8Array): SortedMapKey {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

export function fromKey(key: SortedMapKey): Uint8Array {
  return new Uint8Array(Buffer.from(key, 'latin1'));
}

export interface Range {
  readonly gte: SortedMapKey;
  readonly lt: SortedMapKey;
  readonly reverse?: boolean;
}

export class SortedMap {
  // Invariant: no chunk is empty; keys ascend within a chunk and from one chunk to the next.
  #chunks: Chunk[] = [];
  #chunksShared = false;
  #stamp = 0;
  #bytes = 0;
  #count = 0;

  /** Of all keys and values. */
  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#count;
  }

  get(key: SortedMapKey): Uint8Array | undefined {
    const chunk = this.#chunks[chunkFor(this.#chunks, key)];
    if (!chunk) return undefined;
    const index = lowerBound(chunk.keys, key);
    return chunk.keys[index] === key ? chunk.values[index] : undefined;
  }

  /** Sets, or with undefined deletes. Returns the value before. The map keeps `value` itself: it must not change. */
  put(key: SortedMapKey, value: Uint8Array | undefined): Uint8Array | undefined {
    const at = chunkFor(this.#chunks, key);
    const seen = this.#chunks[at];
    const index = seen ? lowerBound(seen.keys, key) : 0;
    const exists = seen?.keys[index] === key;
    const before = exists ? seen.values[index] : undefined;
    if (!exists && value === undefined) return undefined;

    const chunk = this.#own(at);
    if (value === undefined) {
      chunk.keys.splice(index, 1);
      chunk.values.splice(index, 1);
      if (chunk.keys.length === 0) this.#chunks.splice(at, 1);
      this.#count--;
      this.#bytes -= key.length + (before?.length ?? 0);
    } else if (exists) {
      chunk.values[index] = value;
      this.#bytes += value.length - (before?.length ?? 0);
    } else {
      chunk.keys.splice(index, 0, key);
      chunk.values.splice(index, 0, value);
      if (chunk.keys.length > CHUNK_MAX_ENTRIES) this.#split(at, chunk, index);
      this.#count++;
      this.#bytes += key.length + value.length;
    }
    return before;
  }

  /** Entries of the range as they are now, whatever is changed while they are walked through. */
  entries(range: Range): Iterable<readonly [SortedMapKey, Uint8Array]> {
    this.#chunksShared = true;
    this.#stamp++;
    return range.reverse ? descending(this.#chunks, range) : ascending(this.#chunks, range);
  }

  /** The chunk at an index, copied first if a snapshot may share it. */
  #own(at: number): Chunk {
    if (this.#chunksShared) {
      this.#chunks = this.#chunks.slice();
      this.#chunksShared = false;
    }
    let chunk = this.#chunks[at];
    if (chunk?.stamp !== this.#stamp) {
      chunk = { stamp: this.#stamp, keys: chunk?.keys.slice() ?? [], values: chunk?.values.slice() ?? [] };
      this.#chunks[at] = chunk;
    }
    return chunk;
  }

  #split(at: number, chunk: Chunk, insertedAt: number): void {
    // Keys that arrive in order fill the chunks; others leave them half full.
    const middle = insertedAt === chunk.keys.length - 1 ? insertedAt : chunk.keys.length >> 1;
    const right: Chunk = { stamp: this.#stamp, keys: chunk.keys.splice(middle), values: chunk.values.splice(middle) };
    this.#chunks.splice(at + 1, 0, right);
  }
}

function* ascending(chunks: readonly Chunk[], { gte, lt }: Range): Generator<readonly [string, Uint8Array]> {
  for (let at = chunkFor(chunks, gte); at < chunks.length; at++) {
    const { keys, values } = chunks[at] as Chunk;
    for (let index = lowerBound(keys, gte); index < keys.length; index++) {
      const key = keys[index] as string;
      if (key >= lt) return;
      yield [key, values[index] as Uint8Array];
    }
  }
}

function* descending(chunks: readonly Chunk[], { gte, lt }: Range): Generator<readonly [string, Uint8Array]> {
  for (let at = Math.min(chunkFor(chunks, lt), chunks.length - 1); at >= 0; at--) {
    const { keys, values } = chunks[at] as Chunk;
    for (let index = lowerBound(keys, lt) - 1; index >= 0; index--) {
      const key = keys[index] as string;
      if (key < gte) return;
      yield [key, values[index] as Uint8Array];
    }
  }
}

/** Index of the last chunk that begins at or before the key; 0 if none does. */
function chunkFor(chunks: readonly Chunk[], key: string): number {
  let low = 0;
  let high = chunks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (((chunks[middle] as Chunk).keys[0] as string) <= key) low = middle + 1;
    else high = middle;
  }
  return Math.max(low - 1, 0);
}

/** Index of the first key that is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
