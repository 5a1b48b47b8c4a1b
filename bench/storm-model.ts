/**
 * Many readers of one file at once, by calculation: the real ReaderTracker at each holder, and a model of the rest. Every
 * host sends with a given speed, one block after the other; a message takes a given time; a reader wants the file's
 * blocks in order, some at once, and keeps the latest. What src/blocks does with sockets is done with numbers here, so that
 * ten thousand readers take seconds.
 */
import { ReaderTracker } from '../src/blocks/reader-tracker.ts';
import { ReplyTimes } from '../src/blocks/reply-times.ts';
import { PATIENCE, SHARE_REQUESTS_MAX, SHARE_ROUNDS, SHARE_ROUNDS_MAX, SHARE_TIMEOUTS } from '../src/blocks/sharing.ts';

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
/** A connection that cannot be made. */
const UNREACHABLE_MS = 500;

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

/** Sends blocks one after the other; what is no longer wanted when its turn comes is left out. */
class Uplink {
  readonly #agenda: Agenda;
  readonly #blockMs: number;
  readonly #waiting: { readonly wanted: () => boolean; readonly ended: (sent: boolean) => void }[] = [];
  #busy = false;
  queued = 0;
  sentBlocks = 0;

  constructor(agenda: Agenda, bytesPerMs: number) {
    this.#agenda = agenda;
    this.#blockMs = BLOCK_BYTES / bytesPerMs;
  }

  send(ended: (sent: boolean) => void, wanted: () => boolean = () => true): void {
    this.queued++;
    this.#waiting.push({ wanted, ended });
    if (!this.#busy) this.#next();
  }

  #next(): void {
    const next = this.#waiting.shift();
    this.#busy = next !== undefined;
    if (next === undefined) return;
    const isWanted = next.wanted();
    this.#agenda.after(isWanted ? this.#blockMs : 0, () => {
      this.queued--;
      if (isWanted) this.sentBlocks++;
      next.ended(isWanted);
      this.#next();
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
  readBytes: number;
  /** Doubles with each block, as read-ahead does. */
  window: number;
  readonly times: ReplyTimes;
}

/** Of one reader for one block. */
interface Tries {
  readonly round: number;
  readonly timeouts: number;
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
    while (reader.underWay < Math.min(WINDOW, reader.window) && reader.next < blocks) {
      const block = reader.next++;
      reader.underWay++;
      reader.cache.set(block, []);
      ask(reader, block, { round: 0, timeouts: 0 }, [], []);
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
    reader.readBytes += BLOCK_BYTES;
    reader.underWay--;
    reader.window *= 2;
    fill(reader);
  }

  function ask(
    reader: ModelReader,
    block: number,
    tries: Tries,
    gone: readonly string[],
    slow: readonly string[],
  ): void {
    const direct = tries.round >= SHARE_ROUNDS || tries.timeouts >= SHARE_TIMEOUTS;
    const holder = holders[block % holderCount];
    if (holder === undefined) return;
    agenda.after(MESSAGE_MS, () => {
      if (!sharing || tries.round >= SHARE_ROUNDS_MAX) {
        holder.uplink.send(() => got(reader, block));
        return;
      }
      const answer = holder.tracker.ask(
        {
          ...{ key: String(block), reader: reader.address, direct, gone, slow },
          ...{ readBytes: reader.readBytes },
          ...{ cacheBytes: CACHE_BLOCKS * BLOCK_BYTES, underWay: holder.uplink.queued },
        },
        agenda.nowMs,
      );
      if (answer.peers.length === 0) holder.uplink.send(() => got(reader, block));
      else agenda.after(MESSAGE_MS, () => askPeer(reader, block, answer.peers, [], [], tries));
    });
  }

  function askPeer(
    reader: ModelReader,
    block: number,
    peers: readonly string[],
    gone: readonly string[],
    slow: readonly string[],
    tries: Tries,
  ): void {
    const [address, ...rest] = peers;
    const peer = address === undefined ? undefined : readers.get(address);
    if (address === undefined || peer === undefined) {
      ask(reader, block, { ...tries, round: tries.round + 1 }, gone, slow);
      return;
    }
    let settled = false;
    const once = (run: () => void) => () => {
      if (settled) return;
      settled = true;
      run();
    };
    const elsewhere = (why: 'gone' | 'overloaded' | 'slow') =>
      once(() => {
        const [stillGone, stillSlow] = why === 'gone' ? [[...gone, address], slow] : [gone, [...slow, address]];
        if (why !== 'slow') askPeer(reader, block, rest, stillGone, stillSlow, tries);
        else askPeer(reader, block, [], stillGone, stillSlow, { ...tries, timeouts: tries.timeouts + 1 });
      });
    const startedMs = agenda.nowMs;
    agenda.after(
      peer.deaf ? UNREACHABLE_MS : reader.times.slowAfterMs(address, BLOCK_BYTES),
      elsewhere(peer.deaf ? 'gone' : 'slow'),
    );
    if (peer.deaf) return;
    agenda.after(MESSAGE_MS, () => {
      const state = peer.cache.get(block);
      if (state === undefined || peer.requests >= SHARE_REQUESTS_MAX) {
        agenda.after(MESSAGE_MS, elsewhere(state === undefined ? 'gone' : 'overloaded'));
        return;
      }
      peer.requests++;
      const give = () =>
        peer.uplink.send(
          (sent) => {
            peer.requests--;
            if (!sent) return;
            once(() => {
              reader.times.add(address, BLOCK_BYTES, agenda.nowMs - startedMs);
              got(reader, block);
            })();
          },
          () => !settled,
        );
      if (state === true) give();
      else state.push(give);
    });
  }

  for (let index = 0; index < count; index++) {
    const reader: ModelReader = {
      address: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}:7000`,
      uplink: new Uplink(agenda, bytesPerMs),
      deaf: below(100) < deafPercent,
      ...{ cache: new Map(), next: 0, underWay: 0, requests: 0, readBytes: 0, window: 1 },
      times: new ReplyTimes(PATIENCE),
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
