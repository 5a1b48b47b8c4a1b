/**
 * How much of its bound a cache uses. Memory that a process touches for the first time costs a page fault for every 4 KiB,
 * which is more than reading the same bytes again from the kernel's cache; so a cache starts small, works in memory that
 * it has used before, and grows only where that pays: by what was asked for again after it had been dropped, and would
 * still be here if the whole bound had been used (the ghosts of ARC: Megiddo and Modha, 2003). Pure.
 */
export class CacheGoal {
  readonly maxBytes: number;
  #bytes: number;
  /** Dropped for want of room within the goal, oldest first; what was dropped for the bound itself is no evidence. */
  readonly #ghosts = new Map<string, number>();
  #ghostBytes = 0;

  constructor(firstBytes: number, maxBytes: number) {
    this.maxBytes = maxBytes;
    this.#bytes = Math.min(firstBytes, maxBytes);
  }

  /** What to use now. Never falls. */
  get bytes(): number {
    return this.#bytes;
  }

  /** An entry has left the cache to keep it within the goal. */
  dropped(key: string, bytes: number): void {
    if (this.#bytes >= this.maxBytes) return;
    this.#forget(key);
    this.#ghosts.set(key, bytes);
    this.#ghostBytes += bytes;
    for (const oldest of this.#ghosts.keys()) {
      if (this.#bytes + this.#ghostBytes <= this.maxBytes) return;
      this.#forget(oldest);
    }
  }

  /** Something is asked for that is not here. */
  missed(key: string): void {
    const bytes = this.#forget(key);
    if (bytes === undefined) return;
    this.#bytes = Math.min(this.maxBytes, this.#bytes + bytes);
    if (this.#bytes === this.maxBytes) {
      this.#ghosts.clear();
      this.#ghostBytes = 0;
    }
  }

  #forget(key: string): number | undefined {
    const bytes = this.#ghosts.get(key);
    if (bytes === undefined) return undefined;
    this.#ghosts.delete(key);
    this.#ghostBytes -= bytes;
    return bytes;
  }
}
