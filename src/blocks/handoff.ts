/**
 * Later copies, remembered on disk until they are made. The first node of a chain answers when two nodes have a block;
 * what the third and later are still owed stands in this queue (target node, pool, block), so that neither a restart
 * here nor an absence there loses it. Per target one worker pushes with bounded concurrency and backs off while the
 * target cannot take anything.
 *
 * Key: 'h', length of the node's name, its name, pool (4 bytes, big-endian), id. Value: format version, generation.
 */
import { FormatError } from '../errors.ts';
import { asBlockId, BLOCK_ID_BYTES, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import type { Clock, Kv, KvOp, Timer } from '../env.ts';

const PREFIX = 0x68;
const VALUE_VERSION = 1;
const VALUE_BYTES = 9;
/** Pushes in progress to one target: enough to keep its disk busy, few enough to leave room for clients. */
const PUSHES_PER_TARGET = 2;
/** Entries read from disk at once. */
const SCAN_COUNT = 64;
const BACKOFF_MIN_MS = 200;
/** A target that comes back is told by `wake`, so this only bounds what nobody told us. */
const BACKOFF_MAX_MS = 10_000;

export interface HandoffEntry {
  readonly node: NodeId;
  readonly pool: PoolId;
  readonly id: BlockId;
  /** The copy is stamped at least this. */
  readonly generation: number;
}

export type PushOutcome =
  /** The target has it, or nobody wants it there any more: forget the entry. */
  | 'done'
  /** Not now for this block alone (it is still being received here): look at it again later. */
  | 'later'
  /** The target takes nothing now: wait before the next try. */
  | 'targetUnavailable';

export interface HandoffOptions {
  readonly kv: Kv;
  readonly clock: Clock;
  /** Must not reject. `isRetry`: tried before (or before a restart): the target may have it already. */
  readonly push: (entry: HandoffEntry, isRetry: boolean) => Promise<PushOutcome>;
}

interface Owed {
  readonly key: Uint8Array;
  readonly generation: number;
}

interface Worker {
  readonly node: NodeId;
  running: boolean;
  /** Set by wake while running: look again before going idle. */
  again: boolean;
  backoffMs: number;
  timer: Timer | undefined;
  /** What it has on disk may have been tried before. */
  isRetry: boolean;
}

export class Handoff {
  readonly #options: HandoffOptions;
  readonly #workers = new Map<NodeId, Worker>();
  #pendingCount = 0;
  #closed = false;
  #batch: { readonly owed: Map<string, Owed>; readonly written: Promise<void> } | undefined;
  #lastWrite: Promise<unknown> = Promise.resolve();
  readonly #running = new Set<Promise<void>>();
  /** Entries being pushed, by key, until they are forgotten; true: added again since the push began. */
  readonly #pushing = new Map<string, boolean>();

  private constructor(options: HandoffOptions) {
    this.#options = options;
  }

  /** Reads what was left by the last run and goes on with it. */
  static async open(options: HandoffOptions): Promise<Handoff> {
    const handoff = new Handoff(options);
    const nodes = new Set<NodeId>();
    for await (const [key] of options.kv.scan({ gte: Uint8Array.of(PREFIX), lt: Uint8Array.of(PREFIX + 1) })) {
      nodes.add(decodeKey(key).node);
      handoff.#pendingCount++;
    }
    for (const node of nodes) {
      handoff.#worker(node).isRetry = true;
      handoff.wake(node);
    }
    return handoff;
  }

  /** Copies still owed. */
  pendingCount(): number {
    return this.#pendingCount;
  }

  /** Durable on return: all entries that come while a write is under way share the next one. */
  add(entries: readonly HandoffEntry[]): Promise<void> {
    if (entries.length === 0) return Promise.resolve();
    if (this.#batch === undefined) {
      const owed = new Map<string, Owed>();
      const written = this.#lastWrite.then(() => {
        this.#batch = undefined;
        return this.#write([...owed.values()]);
      });
      this.#batch = { owed, written };
      this.#lastWrite = written.catch(() => undefined);
    }
    for (const entry of entries) {
      const key = encodeKey(entry);
      const name = nameOf(key);
      if (this.#pushing.has(name)) this.#pushing.set(name, true);
      const before = this.#batch.owed.get(name)?.generation ?? 0;
      this.#batch.owed.set(name, { key, generation: Math.max(before, entry.generation) });
    }
    return this.#batch.written;
  }

  /** What is owed already keeps its generation if that is higher: a copy below it could be swept while a file names it. */
  async #write(owed: readonly Owed[]): Promise<void> {
    let added = 0;
    const ops = owed.map(({ key, generation }): KvOp => {
      const known = this.#options.kv.get(key);
      if (known === undefined) added++;
      const before = known === undefined ? 0 : decodeValue(known);
      return { key, value: encodeValue(Math.max(before, generation)) };
    });
    this.#pendingCount += added;
    try {
      await this.#options.kv.batch(ops, { sync: true });
    } catch (error) {
      this.#pendingCount -= added;
      throw error;
    }
  }

  /** There is something new for the node. While it is being waited for, that changes nothing. */
  notify(node: NodeId): void {
    if (this.#worker(node).timer === undefined) this.wake(node);
  }

  /** The node may have come back: push now, whatever the backoff says. */
  wake(node: NodeId): void {
    if (this.#closed) return;
    const worker = this.#worker(node);
    worker.timer?.cancel();
    worker.timer = undefined;
    if (worker.running) {
      worker.again = true;
      return;
    }
    worker.running = true;
    const run = this.#run(worker).finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  /** Stops pushing; what is owed stays on disk. The Kv is the caller's to close. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const worker of this.#workers.values()) worker.timer?.cancel();
    await Promise.all(this.#running);
    await this.#lastWrite;
  }

  #worker(node: NodeId): Worker {
    let worker = this.#workers.get(node);
    if (worker === undefined) {
      worker = { node, running: false, again: false, backoffMs: BACKOFF_MIN_MS, timer: undefined, isRetry: false };
      this.#workers.set(node, worker);
    }
    return worker;
  }

  /** Rounds until nothing is left for the target or it takes nothing. Never rejects. */
  async #run(worker: Worker): Promise<void> {
    let outcome: RoundOutcome;
    do {
      worker.again = false;
      outcome = await this.#round(worker).catch((): RoundOutcome => 'blocked');
      if (outcome === 'progress') worker.backoffMs = BACKOFF_MIN_MS;
    } while (!this.#closed && (outcome === 'progress' || (worker.again && outcome === 'empty')));
    worker.running = false;
    if (this.#closed) return;
    if (outcome === 'empty') {
      worker.isRetry = false;
      worker.backoffMs = BACKOFF_MIN_MS;
      return;
    }
    worker.isRetry = true;
    worker.timer = this.#options.clock.setTimer(worker.backoffMs, () => this.wake(worker.node));
    worker.backoffMs = Math.min(BACKOFF_MAX_MS, worker.backoffMs * 2);
  }

  /** One walk over all that is owed to the target. */
  async #round(worker: Worker): Promise<RoundOutcome> {
    const [start, end] = keyRange(worker.node);
    let from = start;
    let done = 0;
    let left = 0;
    for (;;) {
      const entries: HandoffEntry[] = [];
      let last: Uint8Array | undefined;
      for await (const [key, value] of this.#options.kv.scan({ gte: from, lt: end, limit: SCAN_COUNT })) {
        entries.push({ ...decodeKey(key), generation: decodeValue(value) });
        last = key;
      }
      const result = await this.#pushAll(worker, entries);
      done += result.done;
      left += entries.length - result.done;
      if (result.blocked || this.#closed) return done > 0 && !this.#closed && !result.blocked ? 'progress' : 'blocked';
      if (last === undefined || entries.length < SCAN_COUNT) break;
      from = after(last);
    }
    if (left > 0) return done > 0 ? 'progress' : 'blocked';
    return done > 0 ? 'progress' : 'empty';
  }

  async #pushAll(worker: Worker, entries: readonly HandoffEntry[]): Promise<{ done: number; blocked: boolean }> {
    const finished: HandoffEntry[] = [];
    let next = 0;
    let blocked = false;
    const lane = async (): Promise<void> => {
      while (!blocked && !this.#closed) {
        const entry = entries[next++];
        if (entry === undefined) return;
        this.#pushing.set(nameOf(encodeKey(entry)), false);
        const outcome = await this.#options.push(entry, worker.isRetry);
        if (outcome === 'done') finished.push(entry);
        else if (outcome === 'targetUnavailable') blocked = true;
      }
    };
    try {
      await Promise.all(Array.from({ length: PUSHES_PER_TARGET }, lane));
      if (finished.length > 0) {
        const removed = this.#lastWrite.then(() => this.#remove(finished));
        this.#lastWrite = removed.catch(() => undefined);
        await removed;
      }
    } finally {
      for (const entry of entries) this.#pushing.delete(nameOf(encodeKey(entry)));
    }
    return { done: finished.length, blocked };
  }

  /** Not synced: an entry that comes back after a power loss is pushed again, which renews what is there. */
  async #remove(finished: readonly HandoffEntry[]): Promise<void> {
    const ops: KvOp[] = [];
    for (const entry of finished) {
      const key = encodeKey(entry);
      const value = this.#options.kv.get(key);
      // One that was added again meanwhile, by another put, still has to be pushed.
      if (this.#pushing.get(nameOf(key)) === true) continue;
      if (value !== undefined && decodeValue(value) === entry.generation) ops.push({ key });
    }
    await this.#options.kv.batch(ops, { sync: false });
    this.#pendingCount -= ops.length;
  }
}

type RoundOutcome = 'empty' | 'progress' | 'blocked';

function keyPrefix(node: NodeId): Buffer {
  const name = Buffer.from(node, 'latin1');
  return Buffer.concat([Uint8Array.of(PREFIX, name.length), name]);
}

function encodeKey(entry: Omit<HandoffEntry, 'generation'>): Uint8Array {
  const prefix = keyPrefix(entry.node);
  const key = new Uint8Array(prefix.length + 4 + BLOCK_ID_BYTES);
  key.set(prefix);
  new DataView(key.buffer).setUint32(prefix.length, entry.pool);
  key.set(entry.id, prefix.length + 4);
  return key;
}

function decodeKey(key: Uint8Array): Omit<HandoffEntry, 'generation'> {
  const nameBytes = key[1] ?? 0;
  const poolAt = 2 + nameBytes;
  if (key[0] !== PREFIX || key.length !== poolAt + 4 + BLOCK_ID_BYTES)
    throw new FormatError('the queue of later copies has a key of another format');
  return {
    node: Buffer.from(key.subarray(2, poolAt)).toString('latin1') as NodeId,
    pool: new DataView(key.buffer, key.byteOffset, key.byteLength).getUint32(poolAt) as PoolId,
    id: asBlockId(Uint8Array.prototype.slice.call(key, poolAt + 4)),
  };
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

function keyRange(node: NodeId): [Uint8Array, Uint8Array] {
  const prefix = keyPrefix(node);
  return [prefix, Buffer.concat([prefix, Buffer.alloc(5 + BLOCK_ID_BYTES, 0xff)])];
}

function after(key: Uint8Array): Uint8Array {
  return Buffer.concat([key, Uint8Array.of(0)]);
}

function encodeValue(generation: number): Uint8Array {
  const value = new Uint8Array(VALUE_BYTES);
  value[0] = VALUE_VERSION;
  new DataView(value.buffer).setFloat64(1, generation);
  return value;
}

function decodeValue(value: Uint8Array): number {
  if (value[0] !== VALUE_VERSION || value.length !== VALUE_BYTES) {
    throw new FormatError(`the queue of later copies is of format ${value[0]}, this program reads ${VALUE_VERSION}`, {
      remedy: 'Use the newer version of tatamifs that wrote it.',
    });
  }
  return new DataView(value.buffer, value.byteOffset, value.byteLength).getFloat64(1);
}
