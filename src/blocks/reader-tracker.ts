/**
 * What a holder knows of its readers: which of them it has lately given a block (or sent to somebody who has it), and
 * so to whom it can send the next one that asks while it is busy. Thus a file that many want at once leaves each holder
 * about once, and travels on from reader to reader. (V-FIELD let every joiner serve what it had; BitTorrent's trackers
 * and Dragonfly do the same.) Pure: no clock, no network.
 *
 * Whom to send a reader to: the one with the least to do, where each step away from the holder counts as half a block
 * to be sent: the tree of a block then gets as deep as the logarithm of its readers, and as all blocks count together,
 * each reader sends on about as much as it gets.
 *
 * Nothing here need be true. A reader that is sent to somebody who has nothing comes back, and says so.
 */
import type { Address } from '../env.ts';
import { isLoopback } from '../net/address.ts';

/** Blocks remembered: those of 32 GiB, some MiB of memory at the most. */
const BLOCKS_MAX = 8_192;
/** Readers remembered of one block; of more, those with the least to do. */
const READERS_MAX = 32;
/** Readers' caches have their own bounds; what was read so long ago is seldom still there. */
const KEPT_MS = 60_000;
/** Others to ask, told to one reader: the next after one that does not answer. */
const PEERS_MAX = 3;
/** What a reader was asked to send counts half after so long. */
const LOAD_HALF_LIFE_MS = 500;
const DEPTH_COST = 0.5;
/** Who was found without what it should have, or out of reach, so often is not named for a while, longer each time. */
const STRIKES_MAX = 3;
const BARRED_LEAST_MS = 2_000;
const BARRED_MOST_MS = 60_000;
const HOSTS_MAX = 16_384;

export interface ReaderAsk {
  /** Of the block, pool included. */
  readonly key: string;
  readonly bytes: number;
  /** Where the reader can be asked itself. */
  readonly reader: Address;
  /** Bytes that its cache holds. */
  readonly cacheBytes: number;
  /** It wants the block from here, whoever else has it. */
  readonly direct: boolean;
  /** It asked these, and got nothing. */
  readonly gone: readonly Address[];
  /** There is so much to do here that the reader had better ask others. */
  readonly busy: boolean;
}

export interface ReaderAnswer {
  /** Readers, the asking one left out, that may have the block. */
  readonly readerCount: number;
  /** Whom it shall ask; empty: it gets the block from here. */
  readonly peers: readonly Address[];
}

interface Reader {
  readonly address: Address;
  readonly depth: number;
  readonly sinceMs: number;
  /** The host's `givenBytes` then. */
  readonly atBytes: number;
}

interface Host {
  load: number;
  loadAtMs: number;
  /** What it was given, or sent to get, since it is known here. */
  givenBytes: number;
  cacheBytes: number;
  strikes: number;
  barCount: number;
  barredUntilMs: number;
}

export class ReaderTracker {
  /** By block, in order of last use. */
  readonly #blocks = new Map<string, Reader[]>();
  readonly #hosts = new Map<Address, Host>();

  /** Blocks of which a reader is known; for tests. */
  get blockCount(): number {
    return this.#blocks.size;
  }

  ask(ask: ReaderAsk, nowMs: number): ReaderAnswer {
    const { key, reader, gone } = ask;
    const own = this.#host(reader, nowMs);
    own.cacheBytes = ask.cacheBytes;
    for (const address of gone) this.#strike(address, nowMs);
    let readers = this.#blocks.get(key) ?? [];
    readers = readers.filter((one) => !gone.includes(one.address) && this.#mayHave(one, nowMs));
    const others = readers.filter((one) => one.address !== reader && this.#mayName(one.address, reader, nowMs));
    const chosen = ask.direct || !ask.busy ? [] : this.#choose(others, nowMs);
    const [parent] = chosen;
    if (parent !== undefined) this.#addLoad(parent.address, nowMs);
    own.givenBytes += ask.bytes;
    const depth = parent === undefined ? 0 : parent.depth + 1;
    readers = readers.filter((one) => one.address !== reader);
    readers.push({ address: reader, depth, sinceMs: nowMs, atBytes: own.givenBytes });
    if (readers.length > READERS_MAX) this.#dropWorst(readers, nowMs);
    this.#blocks.delete(key);
    this.#blocks.set(key, readers);
    if (this.#blocks.size > BLOCKS_MAX) this.#blocks.delete(this.#blocks.keys().next().value as string);
    return { readerCount: others.length, peers: chosen.map(({ address }) => address) };
  }

  /** Whether, for all that is known, it still has the block. */
  #mayHave(one: Reader, nowMs: number): boolean {
    const host = this.#hosts.get(one.address);
    return host !== undefined && nowMs - one.sinceMs < KEPT_MS && host.givenBytes - one.atBytes < host.cacheBytes;
  }

  /** A reader on this very machine has an address that means another one elsewhere. */
  #mayName(address: Address, to: Address, nowMs: number): boolean {
    const host = this.#hosts.get(address);
    return host !== undefined && host.barredUntilMs <= nowMs && isLoopback(address) === isLoopback(to);
  }

  #choose(others: readonly Reader[], nowMs: number): Reader[] {
    const costs = others.map((one) => ({ one, cost: this.#cost(one, nowMs) }));
    // The later one of equals: it is less likely to have dropped the block again.
    costs.sort((a, b) => a.cost - b.cost || b.one.sinceMs - a.one.sinceMs);
    return costs.slice(0, PEERS_MAX).map(({ one }) => one);
  }

  #cost(one: Reader, nowMs: number): number {
    return this.#load(this.#hosts.get(one.address), nowMs) + one.depth * DEPTH_COST;
  }

  #dropWorst(readers: Reader[], nowMs: number): void {
    let worst = 0;
    let worstCost = -1;
    readers.forEach((one, index) => {
      const cost = this.#cost(one, nowMs);
      if (cost > worstCost) [worst, worstCost] = [index, cost];
    });
    readers.splice(worst, 1);
  }

  #load(host: Host | undefined, nowMs: number): number {
    return host === undefined ? 0 : host.load * 2 ** (-(nowMs - host.loadAtMs) / LOAD_HALF_LIFE_MS);
  }

  #addLoad(address: Address, nowMs: number): void {
    const host = this.#host(address, nowMs);
    host.load = this.#load(host, nowMs) + 1;
    host.loadAtMs = nowMs;
  }

  #strike(address: Address, nowMs: number): void {
    const host = this.#hosts.get(address);
    if (host === undefined || host.barredUntilMs > nowMs) return;
    host.strikes++;
    if (host.strikes < STRIKES_MAX) return;
    host.strikes = 0;
    host.barredUntilMs = nowMs + Math.min(BARRED_MOST_MS, BARRED_LEAST_MS * 2 ** host.barCount);
    host.barCount++;
  }

  #host(address: Address, nowMs: number): Host {
    let host = this.#hosts.get(address);
    if (host !== undefined) return host;
    host = { load: 0, loadAtMs: nowMs, givenBytes: 0, cacheBytes: 0, strikes: 0, barCount: 0, barredUntilMs: 0 };
    this.#hosts.set(address, host);
    // The one that has been known for the longest time; if it reads still, it is known again at once.
    if (this.#hosts.size > HOSTS_MAX) this.#hosts.delete(this.#hosts.keys().next().value as Address);
    return host;
  }
}
