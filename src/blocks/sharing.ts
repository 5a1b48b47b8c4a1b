/**
 * Every reader serves: what a client keeps of the blocks it has read, it gives to other readers, and gets from them what a
 * busy holder sends it for (reader-tracker.ts is the holder's side; docs/protocol.md, "Readers serve readers").
 *
 * Only whoever proves in the handshake that it has the cluster's key is let in, on both sides. What comes is verified
 * against the id as everything is, so a peer that lies or rots costs time only.
 *
 * Invariant: what a peer does not give soon, a holder is asked for.
 */
import type { CancelSignal } from '../cancel.ts';
import type { Address, Clock } from '../env.ts';
import { BlockNotFoundError, CorruptionError, OverloadedError, PeerUnreachableError, TimeoutError } from '../errors.ts';
import { blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';
import type { Channel, HandlerReply, IncomingRequest, Network } from '../net/types.ts';
import { blockMethods, parseBlock } from './block-messages.ts';
import { ByteBudget } from './byte-budget.ts';
import { verifyBlock } from './identity.ts';
import { ReplyTimes } from './reply-times.ts';

/** Sent to peers at once: two, so that the first has all of its block soon and can go on with it. */
const SEND_BUDGET_BYTES = 2 * BLOCK_MAX_BYTES;
/** Peers' requests that may wait for a block or their turn; more are told to go elsewhere. */
export const SHARE_REQUESTS_MAX = 64;
/** Of these, so many that the reader is ahead of others who wait for it. */
const AHEAD_COUNT = 2;
/**
 * So often a holder is asked for the names of others, but no more after so many that took too long; then for the block, which
 * it may refuse while it is crowded; and in the end without a word of others, which it never does.
 */
export const SHARE_ROUNDS = 3;
export const SHARE_TIMEOUTS = 2;
export const SHARE_ROUNDS_MAX = 6;
/**
 * How long to wait for a peer, who may still be getting the block itself. In a storm all take long, so it follows what
 * the others took. A peer that stands still is noticed by its silence (PEER_DOWN_AFTER_MS) at the latest.
 */
export const PATIENCE = { leastMs: 1_000, mostMs: 10_000, unknownMs: 3_000, factor: 3 } as const;
/** A peer in the same room answers in milliseconds; a firewall never does. */
const DIAL_TIMEOUT_MS = 500;
/** Connections to peers kept: a reader is sent to ever others. */
const PEERS_MAX = 32;
/** A peer that cannot be reached, or that sent wrong bytes, is not asked again for this long. */
const AVOIDED_MS = 30_000;
const AVOIDED_MAX = 1_024;
/** Blocks of which the number of copies elsewhere is remembered. */
const COUNTS_MAX = 16_384;
/** How long many readers are believed to want the same after one sign of it. */
const TOGETHER_MS = 5_000;

/** A block in a cache, held until `release`. */
export interface SharedBlock {
  /** Resolves when it is there; undefined: it is. Rejects if it cannot be had. */
  readonly loading: Promise<void> | undefined;
  /** Verified bytes, whole; undefined if it is not (or no longer) there. */
  readonly data: () => Uint8Array | undefined;
  readonly release: () => void;
}

/** A cache whose blocks are given to others. */
export interface ShareSource {
  readonly maxBytes: number;
  /** It reads from a disk: asked when no other source has the block. */
  readonly isSlow?: boolean;
  /** The whole block, if it is there or on its way. */
  share(pool: PoolId, id: BlockId): SharedBlock | undefined;
}

export interface ShareUsage {
  /** Blocks and bytes that peers gave, and that were given to peers. */
  readonly gotCount: number;
  readonly gotBytes: number;
  readonly gaveCount: number;
  readonly gaveBytes: number;
  /** Blocks for which peers were asked in vain. */
  readonly missedCount: number;
}

interface Limits {
  readonly signal: CancelSignal;
  readonly timeoutMs: number;
}

export interface PeerResult {
  readonly data: Uint8Array | undefined;
  /** Who does not have it or cannot be reached, and who had too much to do or took too long. */
  readonly gone: readonly Address[];
  readonly slow: readonly Address[];
  /** The last one asked took too long. */
  readonly timedOut: boolean;
}

export class BlockSharing {
  readonly #network: Pick<Network, 'dial' | 'handle'>;
  readonly #clock: Clock;
  readonly #sources = new Set<ShareSource>();
  readonly #budget = new ByteBudget(SEND_BUDGET_BYTES);
  readonly #times = new ReplyTimes(PATIENCE);
  /** In order of last use. */
  readonly #peers = new Map<Address, Promise<Channel>>();
  readonly #avoidedUntilMs = new Map<Address, number>();
  /** Copies elsewhere, in order of last use. */
  readonly #counts = new Map<string, number>();
  #requestCount = 0;
  #readBytes = 0;
  #togetherUntilMs = Number.NEGATIVE_INFINITY;
  #closed = false;
  #usage = { gotCount: 0, gotBytes: 0, gaveCount: 0, gaveBytes: 0, missedCount: 0 };

  /** Registers its handler: call before `network.listen`. */
  constructor(network: Pick<Network, 'dial' | 'handle'>, clock: Clock) {
    this.#network = network;
    this.#clock = clock;
    network.handle(blockMethods.share, (request) => this.#give(request));
  }

  usage(): ShareUsage {
    return this.#usage;
  }

  /** Bytes that the caches hold when they are full. */
  get cacheBytes(): number {
    let sum = 0;
    for (const { maxBytes } of this.#sources) sum += maxBytes;
    return sum;
  }

  /** Bytes of whole blocks that were read, for the caches. */
  get readBytes(): number {
    return this.#readBytes;
  }

  wasRead(bytes: number): void {
    this.#readBytes += bytes;
  }

  /** Offers a cache's blocks to others. Returns what ends that. */
  addSource(source: ShareSource): () => void {
    this.#sources.add(source);
    return () => void this.#sources.delete(source);
  }

  /** A holder said how many other readers may have a block. */
  note(pool: PoolId, id: BlockId, readerCount: number): void {
    if (readerCount === 0) return;
    this.#noteTogether();
    this.#count(pool, id, readerCount);
  }

  /** Other readers that, as far as is known, have the block: what has most of them is dropped first. */
  copiesElsewhere(pool: PoolId, id: BlockId): number {
    return this.#counts.get(keyOf(pool, id)) ?? 0;
  }

  /** Whether many read the same now. */
  isTogether(): boolean {
    return this.#togetherUntilMs > this.#clock.monotonicMs();
  }

  /**
   * Whether others wait for what is here. Who runs ahead of them takes what they need: the way out of the holders, and
   * the place in its cache of what they have not yet got.
   */
  isAhead(): boolean {
    return this.#requestCount >= AHEAD_COUNT;
  }

  /** For how long `get` should take at the most. */
  patienceMs(peers: readonly Address[], bytes: number): number {
    return Math.max(...peers.map((peer) => this.#times.slowAfterMs(peer, bytes)));
  }

  /**
   * Asks one after the other, but nobody after one that took too long: by then the holder knows of better ones.
   * Verified bytes, in `into` where they fit. Rejects only when the signal fires.
   */
  async get(
    peers: readonly Address[],
    pool: PoolId,
    id: BlockId,
    into: Uint8Array | undefined,
    limits: Limits,
  ): Promise<PeerResult> {
    const gone: Address[] = [];
    const slow: Address[] = [];
    let timedOut = false;
    const deadlineMs = this.#clock.monotonicMs() + limits.timeoutMs;
    for (const peer of peers) {
      const leftMs = deadlineMs - this.#clock.monotonicMs();
      if (leftMs <= 0 || this.#closed) break;
      try {
        const data = await this.#getFrom(peer, pool, id, into, { signal: limits.signal, timeoutMs: leftMs });
        if (data !== undefined) {
          this.#usage.gotCount++;
          this.#usage.gotBytes += data.length;
          return { data, gone, slow, timedOut };
        }
      } catch (error) {
        limits.signal.throwIfAborted();
        timedOut = error instanceof TimeoutError;
        if (timedOut || error instanceof OverloadedError) {
          slow.push(peer);
          if (timedOut) break;
          continue;
        }
        if (error instanceof PeerUnreachableError || error instanceof CorruptionError) this.#avoid(peer);
      }
      gone.push(peer);
    }
    this.#usage.missedCount++;
    return { data: undefined, gone, slow, timedOut };
  }

  close(): void {
    this.#closed = true;
    this.#sources.clear();
    for (const peer of this.#peers.values()) closeLater(peer);
    this.#peers.clear();
  }

  async #getFrom(
    peer: Address,
    pool: PoolId,
    id: BlockId,
    into: Uint8Array | undefined,
    limits: Limits,
  ): Promise<Uint8Array | undefined> {
    if ((this.#avoidedUntilMs.get(peer) ?? Number.NEGATIVE_INFINITY) > this.#clock.monotonicMs()) return undefined;
    const startedMs = this.#clock.monotonicMs();
    const channel = await this.#connect(peer);
    limits.signal.throwIfAborted();
    const timeoutMs = Math.min(limits.timeoutMs, this.#times.slowAfterMs(peer, BLOCK_MAX_BYTES));
    const target = into === undefined ? {} : { into };
    const reply = await channel.call(blockMethods.share, { pool, id }, { ...limits, timeoutMs, ...target });
    verifyBlock(id, reply.payload);
    this.#times.add(peer, reply.payload.length, this.#clock.monotonicMs() - startedMs);
    return reply.payload;
  }

  async #connect(peer: Address): Promise<Channel> {
    let opening = this.#peers.get(peer);
    if (opening === undefined) {
      const dialled = this.#dial(peer);
      const forget = (): void => {
        // Another may have taken its place.
        if (this.#peers.get(peer) === dialled) this.#peers.delete(peer);
      };
      // Whoever waits hears of a failure.
      dialled.then((channel) => channel.onClose(forget)).catch(() => undefined);
      opening = dialled;
    }
    this.#peers.delete(peer);
    this.#peers.set(peer, opening);
    if (this.#peers.size > PEERS_MAX) {
      const [oldest] = this.#peers;
      if (oldest !== undefined) {
        this.#peers.delete(oldest[0]);
        closeLater(oldest[1]);
      }
    }
    try {
      const channel = await opening;
      if (channel.closed) throw new PeerUnreachableError(`the reader at ${peer} has gone away`);
      return channel;
    } catch (error) {
      if (this.#peers.get(peer) === opening) this.#peers.delete(peer);
      throw error instanceof TimeoutError ? new PeerUnreachableError(error.message, { cause: error }) : error;
    }
  }

  async #dial(peer: Address): Promise<Channel> {
    const channel = await this.#network.dial(peer, DIAL_TIMEOUT_MS);
    if (this.#closed) channel.close();
    return channel;
  }

  #avoid(peer: Address): void {
    this.#avoidedUntilMs.delete(peer);
    this.#avoidedUntilMs.set(peer, this.#clock.monotonicMs() + AVOIDED_MS);
    if (this.#avoidedUntilMs.size > AVOIDED_MAX) {
      this.#avoidedUntilMs.delete(this.#avoidedUntilMs.keys().next().value as Address);
    }
  }

  /** Gives a block to a peer, once it is here. */
  async #give(request: IncomingRequest): Promise<HandlerReply> {
    const { pool, id } = parseBlock(request.header);
    if (this.#requestCount >= SHARE_REQUESTS_MAX) throw new OverloadedError('this reader serves enough others already');
    const block = this.#find(pool, id);
    if (block === undefined) throw this.#missing(id);
    this.#requestCount++;
    // Who is ahead of all others meets no other reader at the holders; but the others come to it.
    this.#noteTogether();
    let giveBack: (() => void) | undefined;
    const ended = () => {
      this.#requestCount--;
      giveBack?.();
      block.release();
    };
    try {
      // A failure to get it is not the asking one's to hear of: it asks elsewhere.
      await block.loading?.catch(() => undefined);
      request.signal.throwIfAborted();
      giveBack = await this.#budget.take(block.data()?.length ?? 0, request.signal);
      const data = block.data();
      if (data === undefined) throw this.#missing(id);
      this.#usage.gaveCount++;
      this.#usage.gaveBytes += data.length;
      this.#count(pool, id, this.copiesElsewhere(pool, id) + 1);
      return { header: null, payload: [data], release: ended };
    } catch (error) {
      ended();
      throw error;
    }
  }

  #noteTogether(): void {
    this.#togetherUntilMs = this.#clock.monotonicMs() + TOGETHER_MS;
  }

  #find(pool: PoolId, id: BlockId): SharedBlock | undefined {
    for (const slow of [false, true]) {
      for (const source of this.#sources) {
        if ((source.isSlow === true) !== slow) continue;
        const block = source.share(pool, id);
        if (block !== undefined) return block;
      }
    }
    return undefined;
  }

  #missing(id: BlockId): BlockNotFoundError {
    return new BlockNotFoundError(`block ${blockIdToHex(id)} is not in the cache of this reader`);
  }

  #count(pool: PoolId, id: BlockId, count: number): void {
    const key = keyOf(pool, id);
    this.#counts.delete(key);
    this.#counts.set(key, count);
    if (this.#counts.size > COUNTS_MAX) this.#counts.delete(this.#counts.keys().next().value as string);
  }
}

function keyOf(pool: PoolId, id: BlockId): string {
  return `${pool}:${blockIdToHex(id)}`;
}

function closeLater(peer: Promise<Channel>): void {
  peer.then((channel) => channel.close()).catch(() => undefined);
}
