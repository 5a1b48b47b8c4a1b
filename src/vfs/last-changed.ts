/** When keys were changed last, by a counter that grows: the last few thousand; of the others it is only known that it was before these. */

/** Remembered at least. */
const CHANGES_KEPT = 4_096;

export class LastChanged<Key> {
  /** Stamp of the last change, the oldest first. */
  readonly #stamps = new Map<Key, number>();
  #forgottenUpTo = 0;

  /** Stamps never go back. */
  note(key: Key, stamp: number): void {
    this.#stamps.delete(key);
    this.#stamps.set(key, stamp);
    if (this.#stamps.size < 2 * CHANGES_KEPT) return;
    for (const [oldest, changedAt] of this.#stamps) {
      this.#stamps.delete(oldest);
      this.#forgottenUpTo = changedAt;
      if (this.#stamps.size <= CHANGES_KEPT) break;
    }
  }

  /** Whether it was, or may have been, changed after that stamp. */
  isSince(key: Key, stamp: number): boolean {
    return stamp < this.#forgottenUpTo || (this.#stamps.get(key) ?? 0) > stamp;
  }
}
