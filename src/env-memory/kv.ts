/**
 * The key-value store of a MemoryDisk: what it holds, and how to go back to what was synced.
 */
import type { Kv, KvOp, KvRange, KvRow, Random } from '../env.ts';
import { StateError } from '../errors.ts';
import { fromKey, SortedMap, toKey, type SortedMapKey } from './sorted-map.ts';

interface Change {
  readonly key: SortedMapKey;
  readonly before: Uint8Array | undefined;
  readonly after: Uint8Array | undefined;
}

/** Rows of a page. */
const PAGE_COUNT = 100;

export class MemoryKvState {
  readonly map = new SortedMap();
  /** Batches not yet synced, oldest first, each with what undoes it. */
  #unsynced: Change[][] = [];
  /** Batches ever applied. Invariant: the oldest unsynced one has the number #appliedCount - #unsynced.length. */
  #appliedCount = 0;

  /** Bytes by which the batch would make the store grow. */
  growthBytes(ops: readonly KvOp[]): number {
    let growth = 0;
    for (const { key, value } of ops) {
      if (value === undefined) continue;
      const before = this.map.get(toKey(key));
      growth += before === undefined ? key.length + value.length : value.length - before.length;
    }
    return growth;
  }

  /** Applies a batch; its number is what `sync` takes. */
  apply(ops: readonly KvOp[]): number {
    const changes: Change[] = [];
    for (const { key: bytes, value } of ops) {
      const key = toKey(bytes);
      const after = value === undefined ? undefined : new Uint8Array(value);
      changes.push({ key, before: this.map.put(key, after), after });
    }
    this.#unsynced.push(changes);
    return ++this.#appliedCount;
  }

  /** Flips bits of one byte of all keys and values; what was there before is then durable nowhere. */
  corrupt(position: number, mask: number): void {
    if (this.map.bytes === 0) return;
    let at = position % this.map.bytes;
    for (const [key, value] of this.map.entries({ gte: '', lt: '\u0100' })) {
      if (at < key.length) {
        const flipped = key.slice(0, at) + String.fromCharCode(key.charCodeAt(at) ^ mask) + key.slice(at + 1);
        this.map.put(key, undefined);
        this.map.put(flipped, value);
        return;
      }
      at -= key.length;
      if (at < value.length) {
        const flipped = new Uint8Array(value);
        flipped[at] = (flipped[at] ?? 0) ^ mask;
        this.map.put(key, flipped);
        return;
      }
      at -= value.length;
    }
  }

  /** Makes the batches up to this number durable. */
  sync(upTo: number): void {
    const oldest = this.#appliedCount - this.#unsynced.length;
    if (upTo > oldest) this.#unsynced.splice(0, upTo - oldest);
  }

  /**
   * Power loss. With `random`, some of the unsynced batches survive: the first few of them, or with `anyOrder` any of
   * them. (LevelDB's log survives as a prefix unless its unsynced pages reached the disk out of order.)
   */
  crash(random: Random | undefined, anyOrder: boolean): void {
    const lost = this.#unsynced;
    this.#unsynced = [];
    for (const changes of lost.toReversed()) {
      for (const { key, before } of changes.toReversed()) this.map.put(key, before);
    }
    if (!random || lost.length === 0) return;
    const kept = anyOrder ? lost.filter(() => random.below(2) === 1) : lost.slice(0, random.below(lost.length + 1));
    for (const changes of kept) for (const { key, after } of changes) this.map.put(key, after);
  }
}

/** What stands between a MemoryKv and its content: the disk, which may be full, slow, broken or gone. */
export interface KvGate {
  /** Throws if the operation must fail. */
  check(op: 'kvGet' | 'kvScan'): void;
  batch(state: MemoryKvState, ops: readonly KvOp[], sync: boolean): Promise<void>;
  closed(): void;
}

const OPEN_GATE: KvGate = {
  check: () => {},
  batch: async (state, ops, sync) => {
    const number = state.apply(ops);
    if (sync) state.sync(number);
  },
  closed: () => {},
};

/** A Kv in memory: by itself for unit tests, or as a MemoryDisk opens it. */
export class MemoryKv implements Kv {
  readonly #state: MemoryKvState;
  readonly #gate: KvGate;
  #isClosed = false;

  constructor(state = new MemoryKvState(), gate: KvGate = OPEN_GATE) {
    this.#state = state;
    this.#gate = gate;
  }

  get count(): number {
    return this.#state.map.count;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.#check();
    this.#gate.check('kvGet');
    const value = this.#state.map.get(toKey(key));
    return value && new Uint8Array(value);
  }

  async batch(ops: readonly KvOp[], options: { sync: boolean }): Promise<void> {
    this.#check();
    await this.#gate.batch(this.#state, ops, options.sync);
  }

  async *scan(range: KvRange): AsyncGenerator<KvRow> {
    for await (const page of this.scanPages(range)) yield* page;
  }

  async *scanPages(range: KvRange): AsyncGenerator<readonly KvRow[]> {
    this.#check();
    this.#gate.check('kvScan');
    let left = range.limit ?? Infinity;
    if (left <= 0) return;
    const keys = { gte: toKey(range.gte), lt: toKey(range.lt), reverse: range.reverse ?? false };
    let page: KvRow[] = [];
    for (const [key, value] of this.#state.map.entries(keys)) {
      page.push([fromKey(key), new Uint8Array(value)]);
      if (--left <= 0) break;
      if (page.length < PAGE_COUNT) continue;
      yield page;
      page = [];
    }
    if (page.length > 0) yield page;
  }

  /** Closing again does nothing. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#gate.closed();
  }

  #check(): void {
    if (this.#isClosed) throw new StateError('the key-value store is used after it was closed');
  }
}
