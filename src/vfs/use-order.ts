/** Entries of a cache in the order of their last use, and their bytes. Orders that count uses together can be walked as one. Pure. */

export interface Ordered<T> {
  readonly bytes: number;
  /** Number of the last use, over all orders of one counter. */
  used: number;
  newer: T | undefined;
  older: T | undefined;
}

export class UseCounter {
  #last = 0;

  next(): number {
    return ++this.#last;
  }
}

export class UseOrder<T extends Ordered<T>> {
  readonly #counter: UseCounter;
  #newest: T | undefined;
  #oldest: T | undefined;
  #bytes = 0;

  constructor(counter: UseCounter) {
    this.#counter = counter;
  }

  get bytes(): number {
    return this.#bytes;
  }
  get oldest(): T | undefined {
    return this.#oldest;
  }

  add(entry: T): void {
    this.#link(entry);
    this.#bytes += entry.bytes;
  }

  remove(entry: T): void {
    this.#unlink(entry);
    this.#bytes -= entry.bytes;
  }

  /** It was used now. */
  touch(entry: T): void {
    if (this.#newest === entry) {
      entry.used = this.#counter.next();
      return;
    }
    this.#unlink(entry);
    this.#link(entry);
  }

  #link(entry: T): void {
    entry.used = this.#counter.next();
    entry.older = this.#newest;
    entry.newer = undefined;
    if (this.#newest !== undefined) this.#newest.newer = entry;
    this.#newest = entry;
    this.#oldest ??= entry;
  }

  #unlink(entry: T): void {
    if (entry.older !== undefined) entry.older.newer = entry.newer;
    else this.#oldest = entry.newer;
    if (entry.newer !== undefined) entry.newer.older = entry.older;
    else this.#newest = entry.older;
  }
}

/** All entries of two orders of one counter, the one used longest ago first. */
export function* inOrderOfUse<T extends Ordered<T>>(one: T | undefined, other: T | undefined): Generator<T> {
  let [first, second] = [one, other];
  while (first !== undefined && second !== undefined) {
    if (first.used > second.used) [first, second] = [second, first];
    yield first;
    first = first.newer;
  }
  for (let rest = first ?? second; rest !== undefined; rest = rest.newer) yield rest;
}
