/**
 * Many readers of one file at once, by calculation: the real ReaderTracker at each holder, and a model of the rest. Every
 * host sends with a given speed, one block after the other; a message takes a given time; a reader wants the file's
 * blocks in order, some at once, and keeps the latest. What src/blocks does with sockets is done with numbers here, so that
 * ten thousand readers take seconds.
 */
import { ReaderTracker } from '../../src/blocks/reader-tracker.ts';

export interface StormOptions {
  readonly readers: number;
  readonly holders: number;
  readonly blocks: number;
  readonly sharing: boolean;
  /** Of the uplink of each holder and reader. */
  readonly bytesPerMs?: number;
  /** Whether readers begin at once, or one after the other over so long. */
  readonly startSpreadMs?: number;
  /** Of each hundred readers so many never answer others. */
  readonly deafPercent?: number;
  readonly seed?: number;
}

export interface StormResult {
  readonly tookMs: number;
  /** Sent by the holders, as a multiple of the file. */
  readonly holderFiles: number;
  /** Bytes that all readers got, per ms. */
  readonly bytesPerMs: number;
  /** The most that one reader sent, as a multiple of the file. */
  readonly mostSentFiles: number;
}

const BLOCK_BYTES = 4 << 20;
const WINDOW = 8;
const CACHE_BLOCKS = 32;
const MESSAGE_MS = 0.3;
/** As in src/blocks/sharing.ts and block-service.ts. */
const REQUESTS_MAX = 16;
const PATIENCE_MS = 2_000;
const UNREACHABLE_MS = 500;
const BUSY_GETS = 2;

/** A heap of what is to happen. */
class Agenda {
  nowMs = 0;
  #order = 0;
  readonly #heap: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = [];

  after(ms: number, run: () => void): void {
    const heap = this.#heap;
    const item = { atMs: this.nowMs + ms, order: this.#order++, run };
    let at = heap.length;
    heap.push(item);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || !isBefore(item, parent)) break;
      heap[at] = parent;
      heap[up] = item;
      at = up;
    }
  }

  step(): boolean {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined) return false;
    if (heap.length > 0) {
      let at = 0;
      for (;;) {
        let down = 2 * at + 1;
        let child = heap[down];
        const right = heap[down + 1];
        if (child === undefined) break;
        if (right !== undefined && isBefore(right, child)) [down, child] = [down + 1, right];
        if (!isBefore(child, last)) break;
        heap[at] = child;
        at = down;
      }
      heap[at] = last;
    }
    this.nowMs = first.atMs;
    first.run();
    return true;
  }
}

function isBefore(a: { atMs: number; order: number }, b: { atMs: number; order: number }): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** Sends blocks one after the other. */
class Uplink {
  readonly #agenda: Agenda;
  readonly #blockMs: number;
  #freeMs = 0;
  queued = 0;
  sentBlocks = 0;

  constructor(agenda: Agenda, bytesPerMs: number) {
    this.#agenda = agenda;
    this.#blockMs = BLOCK_BYTES / bytesPerMs;
  }

  send(arrived: () => void): void {
    this.queued++;
    this.#freeMs = Math.max(this.#freeMs, this.#agenda.nowMs) + this.#blockMs;
    this.#agenda.after(this.#freeMs - this.#agenda.nowMs, () => {
      this.queued--;
      this.sentBlocks++;
      arrived();
    });
  }
}

interface ModelReader {
  readonly address: string;
  readonly uplink: Uplink;
  readonly deaf: boolean;
  /** Blocks here (true) or on their way, with who waits for them. */
  readonly cache: Map<number, true | (() => void)[]>;
  next: number;
  underWay: number;
  requests: number;
}

export function storm(options: StormOptions): StormResult {
  const { readers: count, holders: holderCount, blocks, sharing, bytesPerMs = 50_000, startSpreadMs = 0 } = options;
  const { deafPercent = 0 } = options;
  const agenda = new Agenda();
  let random = options.seed ?? 1;
  const below = (bound: number): number => {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    return Math.floor((random / 2 ** 32) * bound);
  };
  const holders = Array.from({ length: holderCount }, () => ({
    uplink: new Uplink(agenda, bytesPerMs),
    tracker: new ReaderTracker(),
  }));
  const readers = new Map<string, ModelReader>();
  let left = count;
  let endMs = 0;

  function fill(reader: ModelReader): void {
    while (reader.underWay < WINDOW && reader.next < blocks) {
      const block = reader.next++;
      reader.underWay++;
      reader.cache.set(block, []);
      ask(reader, block, false, []);
    }
    if (reader.underWay === 0 && reader.next === blocks) {
      endMs = agenda.nowMs;
      left--;
    }
  }

  function got(reader: ModelReader, block: number): void {
    const waiting = reader.cache.get(block);
    if (waiting === true) return;
    reader.cache.set(block, true);
    for (const [oldest, state] of reader.cache) {
      if (reader.cache.size <= CACHE_BLOCKS) break;
      if (state === true) reader.cache.delete(oldest);
    }
    for (const give of waiting ?? []) give();
    reader.underWay--;
    fill(reader);
  }

  function ask(reader: ModelReader, block: number, direct: boolean, gone: readonly string[]): void {
    const holder = holders[block % holderCount];
    if (holder === undefined) return;
    agenda.after(MESSAGE_MS, () => {
      if (!sharing) {
        holder.uplink.send(() => got(reader, block));
        return;
      }
      const answer = holder.tracker.ask(
        {
          ...{ key: String(block), bytes: BLOCK_BYTES, reader: reader.address, direct, gone },
          ...{ cacheBytes: CACHE_BLOCKS * BLOCK_BYTES, busy: holder.uplink.queued >= BUSY_GETS },
        },
        agenda.nowMs,
      );
      if (answer.peers.length === 0) holder.uplink.send(() => got(reader, block));
      else agenda.after(MESSAGE_MS, () => askPeer(reader, block, answer.peers, []));
    });
  }

  function askPeer(reader: ModelReader, block: number, peers: readonly string[], gone: readonly string[]): void {
    const [address, ...rest] = peers;
    const peer = address === undefined ? undefined : readers.get(address);
    if (address === undefined || peer === undefined) {
      ask(reader, block, true, gone);
      return;
    }
    let settled = false;
    const once = (run: () => void) => () => {
      if (settled) return;
      settled = true;
      run();
    };
    const elsewhere = once(() => askPeer(reader, block, rest, [...gone, address]));
    agenda.after(peer.deaf ? UNREACHABLE_MS : PATIENCE_MS, elsewhere);
    if (peer.deaf) return;
    agenda.after(MESSAGE_MS, () => {
      const state = peer.cache.get(block);
      if (state === undefined || peer.requests >= REQUESTS_MAX) {
        agenda.after(MESSAGE_MS, elsewhere);
        return;
      }
      peer.requests++;
      const give = () =>
        peer.uplink.send(() => {
          peer.requests--;
          once(() => got(reader, block))();
        });
      if (state === true) give();
      else state.push(give);
    });
  }

  for (let index = 0; index < count; index++) {
    const reader: ModelReader = {
      address: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}:7000`,
      uplink: new Uplink(agenda, bytesPerMs),
      deaf: below(100) < deafPercent,
      ...{ cache: new Map(), next: 0, underWay: 0, requests: 0 },
    };
    readers.set(reader.address, reader);
    agenda.after(startSpreadMs === 0 ? below(100) / 100 : below(startSpreadMs), () => fill(reader));
  }
  while (left > 0 && agenda.step());
  if (left > 0) throw new Error(`${left} readers never got all`);
  const sent = holders.reduce((sum, { uplink }) => sum + uplink.sentBlocks, 0);
  return {
    tookMs: endMs,
    holderFiles: sent / blocks,
    bytesPerMs: (count * blocks * BLOCK_BYTES) / endMs,
    mostSentFiles: Math.max(...[...readers.values()].map(({ uplink }) => uplink.sentBlocks)) / blocks,
  };
}
