/**
 * What a holder knows of its readers: which of them it has lately given a block (or sent to somebody who has it), and
 * so to whom it can send the next one that asks while it is busy. Thus a file that many want at once leaves each holder
 * about once, and travels on from reader to reader. (V-FIELD let every joiner serve what it had; BitTorrent's trackers
 * and Dragonfly do the same.) Pure: no clock, no network.
 *
 * Whom to send a reader to: the one with the least to do, where each step away from the holder counts as half a block
 * to be sent: the tree of a block then gets as deep as the logarithm of its readers, and as all blocks count together,
 * each reader sends on about as much as it gets. (An account of when each reader should have and have sent each block
 * was tried: by the model in bench/storm-model.ts it did worse, as two holders know nothing of each other's.)
 *
 * Nothing here need be true. A reader that is sent to somebody who has nothing comes back, and says so.
 */
import type { Address } from '../env.ts';
import { isLoopback } from '../net/address.ts';
import { ReaderList, type Reader } from './reader-list.ts';

/** Blocks remembered: those of 32 GiB, some MiB of memory at the most. */
const BLOCKS_MAX = 8_192;
/** Readers remembered of one block; of more, those with the least to do. Fewer would make a deep tree of thousands of readers. */
const READERS_MAX = 1_024;
/** Readers remembered of all blocks, some 200 bytes each. */
const ALL_READERS_MAX = 131_072;
/** Readers' caches have their own bounds; what was read so long ago is seldom still there. */
const KEPT_MS = 60_000;
/** Others to ask, told to one reader: the next after one that does not answer. */
const PEERS_MAX = 3;
/** What a reader was asked to send counts half after so long. */
const LOAD_HALF_LIFE_MS = 2_000;
const DEPTH_COST = 0.5;
/** A reader far down the tree has the block later; after some of these it counts as near. */
const DEPTH_HALF_LIFE_MS = 1_000;
/** With so many other requests under way, and for so long after, a holder sends its readers to each other... */
const BUSY_COUNT = 2;
const BUSY_LINGER_MS = 1_000;
/** ... at any time once a block has so many readers that began so lately: there will be more of them... */
const WANTED_COUNT = 2;
const WANTED_MS = 5_000;
/** ... and whoever was sent to others so lately: it reads what many read. */
const STORM_MS = 5_000;
/** With so many it refers even whoever has asked in vain: peers are sooner done than such a queue. */
const CROWDED_COUNT = 16;
/** Who was found without what it should have, or out of reach, so often is not named for a while, longer each time. */
const STRIKES_MAX = 3;
const BARRED_LEAST_MS = 2_000;
const BARRED_MOST_MS = 60_000;
const HOSTS_MAX = 16_384;
/** Who was sent to others for a block has it after so long, or has come back. */
const WAITS_MOST_MS = 15_000;

export interface ReaderAsk {
  /** Of the block, pool included. */
  readonly key: string;
  /** Where the reader can be asked itself. */
  readonly reader: Address;
  /** Bytes that its cache holds, and all that has gone through it: what is older than the one is no longer there. */
  readonly cacheBytes: number;
  readonly readBytes: number;
  /** It has asked others in vain, and wants the block from here. */
  readonly direct: boolean;
  /** It asked these: they do not have the block, or cannot be reached. */
  readonly gone: readonly Address[];
  /** It asked these, too: they had too much to do, or took too long. */
  readonly slow: readonly Address[];
  /** Other requests for blocks that the holder has now. */
  readonly underWay: number;
}

export interface ReaderAnswer {
  /** Readers, the asking one left out, that may have the block. */
  readonly readerCount: number;
  /** Whom it shall ask; empty: it gets the block from here. */
  readonly peers: readonly Address[];
}

interface Host {
  readonly address: Address;
  readonly isLoopback: boolean;
  /** Blocks that others were sent to it for, the older ones counting less. */
  load: number;
  loadAtMs: number;
  /** When it was last sent to others. */
  referredMs: number;
  /** As it last said. */
  readBytes: number;
  cacheBytes: number;
  strikes: number;
  barCount: number;
  barredUntilMs: number;
}

export class ReaderTracker {
  /** By block, in order of last use. */
  readonly #blocks = new Map<string, ReaderList>();
  #readerCount = 0;
  readonly #hosts = new Map<Address, Host>();
  #busyUntilMs = Number.NEGATIVE_INFINITY;

  readonly #allReadersMax: number;

  constructor(allReadersMax = ALL_READERS_MAX) {
    this.#allReadersMax = allReadersMax;
  }

  /** Blocks of which a reader is known; for tests. */
  get blockCount(): number {
    return this.#blocks.size;
  }

  /** Of all blocks together. */
  get readerCount(): number {
    return this.#readerCount;
  }

  ask(ask: ReaderAsk, nowMs: number): ReaderAnswer {
    const { key, reader, gone, slow } = ask;
    const own = this.#host(reader, nowMs);
    own.cacheBytes = ask.cacheBytes;
    // Requests overtake each other.
    own.readBytes = Math.max(own.readBytes, ask.readBytes);
    for (const address of gone) this.#strike(address, nowMs);
    const readers = this.#blocks.get(key) ?? new ReaderList();
    const countBefore = readers.count;
    for (const address of gone) readers.delete(address);
    const waiting = readers.waitingFor(reader, nowMs - WAITS_MOST_MS);
    const sample = readers.sample().filter((one) => {
      const mayHave = this.#mayHave(one, nowMs);
      if (!mayHave) readers.delete(one.address);
      return mayHave;
    });
    const others = sample.filter(
      ({ address }) => !waiting.has(address) && !slow.includes(address) && this.#mayName(address, own, nowMs),
    );
    const isBusy = this.#isBusy(ask.underWay, others, nowMs) || nowMs - own.referredMs < STORM_MS;
    const isServed = ask.direct ? ask.underWay < CROWDED_COUNT : !isBusy;
    const chosen = isServed ? [] : this.#choose(others, nowMs);
    const [parent] = chosen;
    if (parent !== undefined) {
      this.#addLoad(parent.address, nowMs);
      own.referredMs = nowMs;
    }
    const depth = parent === undefined ? 0 : parent.depth + 1;
    const parents = chosen.map(({ address }) => address);
    readers.put({ address: own.address, parents, depth, sinceMs: nowMs, atBytes: ask.readBytes });
    if (readers.count > READERS_MAX) this.#dropWorst(readers, sample, nowMs);
    this.#blocks.delete(key);
    this.#blocks.set(key, readers);
    this.#readerCount += readers.count - countBefore;
    this.#dropOldest();
    // Of a long list those beyond the sample count as they are.
    return { readerCount: others.length + Math.max(0, readers.count - 1 - sample.length), peers: parents };
  }

  #isBusy(underWay: number, others: readonly Reader[], nowMs: number): boolean {
    if (underWay >= BUSY_COUNT) this.#busyUntilMs = nowMs + BUSY_LINGER_MS;
    if (nowMs < this.#busyUntilMs) return true;
    return others.filter(({ sinceMs }) => nowMs - sinceMs < WANTED_MS).length >= WANTED_COUNT;
  }

  /** Whether, for all that is known, it still has the block. */
  #mayHave(one: Reader, nowMs: number): boolean {
    const host = this.#hosts.get(one.address);
    return host !== undefined && nowMs - one.sinceMs < KEPT_MS && host.readBytes - one.atBytes < host.cacheBytes;
  }

  /** A reader on this very machine has an address that means another one elsewhere. */
  #mayName(address: Address, to: Host, nowMs: number): boolean {
    const host = this.#hosts.get(address);
    return host !== undefined && host.barredUntilMs <= nowMs && host.isLoopback === to.isLoopback;
  }

  #choose(others: readonly Reader[], nowMs: number): Reader[] {
    const costs = others.map((one) => ({ one, cost: this.#cost(one, nowMs) }));
    // The later one of equals: it is less likely to have dropped the block again.
    costs.sort((a, b) => a.cost - b.cost || b.one.sinceMs - a.one.sinceMs);
    return costs.slice(0, PEERS_MAX).map(({ one }) => one);
  }

  #cost(one: Reader, nowMs: number): number {
    const depth = one.depth * 2 ** (-(nowMs - one.sinceMs) / DEPTH_HALF_LIFE_MS);
    return this.#load(this.#hosts.get(one.address), nowMs) + depth * DEPTH_COST;
  }

  #dropWorst(readers: ReaderList, sample: readonly Reader[], nowMs: number): void {
    let worst: Reader | undefined;
    let worstCost = -1;
    for (const one of sample) {
      const cost = this.#cost(one, nowMs);
      if (cost > worstCost) [worst, worstCost] = [one, cost];
    }
    if (worst !== undefined) readers.delete(worst.address);
  }

  #dropOldest(): void {
    for (const [key, readers] of this.#blocks) {
      if (this.#blocks.size <= BLOCKS_MAX && this.#readerCount <= this.#allReadersMax) return;
      this.#blocks.delete(key);
      this.#readerCount -= readers.count;
    }
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
    host = {
      ...{ address, isLoopback: isLoopback(address) },
      ...{ load: 0, loadAtMs: nowMs, referredMs: Number.NEGATIVE_INFINITY, readBytes: 0, cacheBytes: 0 },
      ...{ strikes: 0, barCount: 0, barredUntilMs: 0 },
    };
    this.#hosts.set(address, host);
    // The one that has been known for the longest time; if it reads still, it is known again at once.
    if (this.#hosts.size > HOSTS_MAX) this.#hosts.delete(this.#hosts.keys().next().value as Address);
    return host;
  }
}
