/**
 * Inode rows as the sorted store has them, lately written or read: a directory listed with attributes reads one for each
 * name, and a point read of the store costs ten times a look into a Map.
 *
 * Invariant: a row here is equal to the store's.
 */
import { keyFromBytes, keyToBytes } from './keys.ts';

/** Some 250 bytes each with key and Map slot. */
const ROWS_KEPT = 32_768;
/** Dropped at a time, oldest first. */
const DROPPED_AT_ONCE = 2_048;
/** First character of an inode's key (keys.ts). */
const INODE = 'i'.charCodeAt(0);

export class RowCache {
  /**
   * As text, a byte a character: a row that was just written lies in a piece of 8 KiB with others and with messages of the same time, and
   * would keep all of it; one that was read has a buffer of its own, which costs more than what is in it.
   */
  readonly #rows = new Map<string, string>();

  get size(): number {
    return this.#rows.size;
  }

  get(key: string): Uint8Array | undefined {
    const row = this.#rows.get(key);
    return row === undefined ? undefined : keyToBytes(row);
  }

  /** The store has this row now, or (undefined) none of this key. Rows of other kinds are not kept. */
  learn(key: string, value: Uint8Array | undefined): void {
    if (key.charCodeAt(0) !== INODE) return;
    if (value === undefined) {
      this.#rows.delete(key);
      return;
    }
    if (this.#rows.size >= ROWS_KEPT) this.#makeRoom();
    this.#rows.set(key, keyFromBytes(value));
  }

  clear(): void {
    this.#rows.clear();
  }

  #makeRoom(): void {
    let dropped = 0;
    for (const key of this.#rows.keys()) {
      this.#rows.delete(key);
      if (++dropped >= DROPPED_AT_ONCE) return;
    }
  }
}
