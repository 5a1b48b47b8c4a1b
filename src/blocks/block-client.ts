/**
 * What vfs (and ReplicatedStore) see of the cluster's blocks: put on two nodes, read verified from the best holder.
 * Bounds how much is under way, so that a thousand callers do not become a thousand blocks in memory.
 */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import { BlockNotFoundError, CancelledError, CorruptionError, StateError, UnavailableError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, BLOCK_MAX_BYTES, DATA_TIMEOUT_MS, PAGE_BYTES } from '../limits.ts';
import { blockMethods, parseHasReply } from './block-messages.ts';
import { BlockReader } from './block-reader.ts';
import { ByteBudget } from './byte-budget.ts';
import { renewBlocks } from './block-renewal.ts';
import { BlockWriter } from './block-writer.ts';
import type { DiskCache } from './disk-cache.ts';
import { FlightWindow } from './flight-window.ts';
import { checkBlockBytes } from './identity.ts';
import { Line } from './line.ts';
import { DIRECT_LEAST_BYTES, LocalBlocks } from './local-blocks.ts';
import type { BlockSharing, ShareSource } from './sharing.ts';
import { findPool, placementOf, wantedCopies } from '../catalog/placement.ts';
import { payloadPool } from '../net/buffer-pool.ts';
import type { CatalogService } from '../catalog/types.ts';
import type { Clock, Env } from '../env.ts';
import type { Network } from '../net/types.ts';
import type { BlockClient, BlockRef, PutReceipt } from './types.ts';

/**
 * Whole blocks under way: at least 32 MiB, more than the bandwidth-delay product of a 10 Gbit/s room; over longer ways
 * up to 96 MiB, and less over slow ones (flight-window.ts).
 */
const BLOCK_READS_LEAST = 8;
const BLOCK_READS_SLOW_LEAST = 2;
/** While others wait for what we have. */
const BLOCK_READS_AHEAD = 2;
const BLOCK_READS_MOST = 24;
/** Blocks asked for ahead where all are on disks of this machine. */
const AHEAD_NEAR = 4;
/** Range reads under way: 64 KiB to some pages each, so latency is what counts. */
const RANGE_READS_AT_ONCE = 32;
const PUTS_AT_ONCE = 8;
/**
 * Of large blocks fewer where that is enough (flight-window.ts): more is memory that every node on the way has to touch,
 * for nothing. On one machine large files were written an eighth slower with eight.
 */
const LARGE_PUTS_LEAST = 3;
const LARGE_BYTES = BLOCK_MAX_BYTES / 2;
const PRIORITY = { foreground: 1, readahead: 0 } as const;

export interface BlockClientOptions {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  /** With disk and `isOwnHost`, blocks of nodes on this machine are read from their packs. */
  readonly env: Pick<Env, 'clock'> & Partial<Pick<Env, 'disk' | 'isOwnHost'>>;
  /** False: everything is read through the nodes. */
  readonly localReads?: boolean;
  /**
   * Large blocks of this machine are read past the system's page cache. What is returned of them then lies in a resizable
   * ArrayBuffer, which some web APIs refuse (`new Response`): not for programs that are given it as it is. Default false.
   */
  readonly directReads?: boolean;
  /** Readers serve readers; made and closed by the caller. */
  readonly sharing?: BlockSharing | undefined;
  /** What was read before, on a disk of this client's own; opened and closed by the caller. */
  readonly kept?: DiskCache | undefined;
  /** Of one operation, all retries included; default DATA_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

interface ReadOptions {
  readonly signal?: CancelSignal;
  readonly priority?: 'foreground' | 'readahead';
  readonly beside?: Iterable<BlockRef>;
}

export type BlockState = 'held' | 'missing' | 'unreachable';

export class ClusterBlockClient implements BlockClient {
  readonly #network: Network;
  readonly #catalog: Pick<CatalogService, 'current'>;
  readonly #reader: BlockReader;
  readonly #writer: BlockWriter;
  readonly #sharing: BlockSharing | undefined;
  readonly #local: LocalBlocks | undefined;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #blockReads: Line;
  readonly #flight: FlightWindow;
  readonly #rangeReads: Line;
  readonly #puts: Line;
  readonly #putBytes: ByteBudget;
  readonly #putFlight: FlightWindow;
  readonly #closing = new Cancellation();

  constructor(options: BlockClientOptions) {
    this.#network = options.network;
    this.#catalog = options.catalog;
    this.#timeoutMs = options.timeoutMs ?? DATA_TIMEOUT_MS;
    this.#flight = new FlightWindow({
      // Readers that are sent to readers wait for more than a way, and leave the holders' queues alone.
      slowLeast: options.sharing === undefined ? BLOCK_READS_SLOW_LEAST : BLOCK_READS_LEAST,
      least: BLOCK_READS_LEAST,
      most: BLOCK_READS_MOST,
    });
    this.#blockReads = new Line(this.#flight.size, this.#timeoutMs);
    this.#rangeReads = new Line(RANGE_READS_AT_ONCE / 2, this.#timeoutMs, RANGE_READS_AT_ONCE / 2);
    this.#puts = new Line(PUTS_AT_ONCE, this.#timeoutMs);
    this.#putFlight = new FlightWindow({ slowLeast: LARGE_PUTS_LEAST, least: LARGE_PUTS_LEAST, most: PUTS_AT_ONCE });
    this.#putBytes = new ByteBudget(this.#putFlight.size * BLOCK_MAX_BYTES);
    const { clock, disk, isOwnHost } = options.env;
    if (options.localReads !== false && disk !== undefined && isOwnHost !== undefined) {
      this.#local = new LocalBlocks({ ...options, clock, disk, isOwnHost });
    }
    this.#reader = new BlockReader({ ...options, clock, local: this.#local });
    this.#clock = clock;
    this.#sharing = options.sharing;
    this.#writer = new BlockWriter({ ...options, clock });
  }

  async put(
    pool: PoolId,
    data: Uint8Array,
    options: { readonly signal?: CancelSignal; readonly minGeneration?: number } = {},
  ): Promise<PutReceipt> {
    checkBlockBytes(data.length);
    const { minGeneration } = options;
    return await this.#run(
      this.#puts,
      options,
      async (signal, timeoutMs) => {
        const startedMs = this.#clock.monotonicMs();
        const receipt = await this.#writer.put(pool, data, { signal, minGeneration, timeoutMs });
        if (data.length >= LARGE_BYTES) {
          const count = this.#putFlight.ended(startedMs, this.#clock.monotonicMs());
          this.#putBytes.capacityBytes = count * BLOCK_MAX_BYTES;
        }
        return receipt;
      },
      (signal) => this.#putBytes.take(data.length, signal),
    );
  }

  async renew(
    pool: PoolId,
    ids: readonly BlockId[],
    options: { readonly signal?: CancelSignal; readonly minGeneration?: number } = {},
  ): Promise<readonly (PutReceipt | undefined)[]> {
    const { minGeneration } = options;
    const ports = { network: this.#network, catalog: this.#catalog };
    return await this.#run(this.#puts, options, (signal) => renewBlocks(ports, pool, ids, { signal, minGeneration }));
  }

  async readBlock(pool: PoolId, id: BlockId, blockBytes: number, options: ReadOptions = {}): Promise<Uint8Array> {
    // Who reads in order has what comes next read ahead; large ones go past the page cache.
    const isShort = options.beside !== undefined && blockBytes < DIRECT_LEAST_BYTES;
    const known = isShort ? await this.#reader.readKnownBlock(pool, id, blockBytes) : undefined;
    if (known !== undefined) return known;
    const data = await this.readUnknown(pool, id, { ...options, lengthBytes: blockBytes });
    if (data.length !== blockBytes) throw wrongLength(id, blockBytes, data.length);
    return data;
  }

  async readPages(
    pool: PoolId,
    id: BlockId,
    blockBytes: number,
    firstPage: number,
    pageCount: number,
    options: ReadOptions = {},
  ): Promise<readonly Uint8Array[]> {
    const page = pageCount === 1 ? await this.#reader.readKnownPage(pool, id, blockBytes, firstPage) : undefined;
    if (page !== undefined) return [page];
    const offset = firstPage * PAGE_BYTES;
    const length = Math.min(pageCount * PAGE_BYTES, blockBytes - offset);
    const { bytes, recycle } = await this.#readRange(pool, id, blockBytes, offset, length, options);
    if (bytes.length <= PAGE_BYTES && payloadPool.isWhole(bytes)) return [bytes];
    const pages: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const part = bytes.subarray(at, Math.min(bytes.length, at + PAGE_BYTES));
      const page = payloadPool.take(part.length);
      page.set(part);
      pages.push(page);
    }
    recycle();
    return pages;
  }

  recycle(bytes: Uint8Array): void {
    payloadPool.giveBack(bytes);
  }

  aheadCount(): number | undefined {
    return this.#local?.isAllNear() === true ? AHEAD_NEAR : undefined;
  }

  copiesElsewhere(pool: PoolId, id: BlockId): number {
    return this.#sharing?.copiesElsewhere(pool, id) ?? 0;
  }

  offer(source: ShareSource): () => void {
    return this.#sharing?.addSource(source) ?? (() => undefined);
  }

  /** A whole block whose length the caller does not know, or (`lengthBytes`) checks itself. */
  async readUnknown(
    pool: PoolId,
    id: BlockId,
    options: ReadOptions & { readonly into?: Uint8Array; readonly lengthBytes?: number } = {},
  ): Promise<Uint8Array> {
    const { lengthBytes, beside } = options;
    const into = options.into === undefined ? {} : { into: options.into };
    return await this.#run(this.#blockReads, options, async (signal, timeoutMs) => {
      const startedMs = this.#clock.monotonicMs();
      const data = await this.#reader.readWhole(pool, id, { signal, timeoutMs, lengthBytes, beside, ...into });
      this.#sharing?.wasRead(data.length);
      const { queue } = this.#blockReads;
      const mostNow = this.#sharing?.isAhead() === true ? BLOCK_READS_AHEAD : Infinity;
      const size = Math.min(mostNow, this.#flight.ended(startedMs, this.#clock.monotonicMs()));
      if (size !== queue.concurrency) queue.concurrency = size;
      return data;
    });
  }

  async read(
    pool: PoolId,
    id: BlockId,
    blockBytes: number,
    offset: number,
    target: Uint8Array,
    options: ReadOptions = {},
  ): Promise<void> {
    checkBlockBytes(blockBytes);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + target.length > blockBytes) {
      throw new StateError(`bytes ${offset} to ${offset + target.length} are not within a block of ${blockBytes}`);
    }
    if (target.length === 0) return;
    if (target.length === blockBytes) {
      const data = await this.readUnknown(pool, id, { ...options, into: target, lengthBytes: blockBytes });
      if (data.length !== blockBytes) throw wrongLength(id, blockBytes, data.length);
      if (data.buffer !== target.buffer || data.byteOffset !== target.byteOffset) target.set(data);
      return;
    }
    const { bytes, recycle } = await this.#readRange(pool, id, blockBytes, offset, target.length, options);
    target.set(bytes);
    recycle();
  }

  /**
   * Verified bytes [offset, offset + length) of a block, less what is past its end; `blockBytes` undefined if the
   * caller does not know it. A copy of its own size.
   */
  async readRange(
    pool: PoolId,
    id: BlockId,
    blockBytes: number | undefined,
    offset: number,
    length: number,
    options: ReadOptions = {},
  ): Promise<Uint8Array> {
    const { bytes, recycle } = await this.#readRange(pool, id, blockBytes, offset, length, options);
    const copy = new Uint8Array(bytes);
    recycle();
    return copy;
  }

  async #readRange(
    pool: PoolId,
    id: BlockId,
    blockBytes: number | undefined,
    offset: number,
    length: number,
    options: ReadOptions,
  ): Promise<{ readonly bytes: Uint8Array; readonly recycle: () => void }> {
    const end = Math.min(offset + length, blockBytes ?? BLOCK_MAX_BYTES);
    if (end <= offset) return { bytes: new Uint8Array(0), recycle: () => undefined };
    const firstPage = Math.floor(offset / PAGE_BYTES);
    const pageCount = Math.ceil(end / PAGE_BYTES) - firstPage;
    const { data, recycle } = await this.#run(this.#rangeReads, options, (signal, timeoutMs) =>
      this.#reader.readPages(pool, id, blockBytes, firstPage, pageCount, { signal, timeoutMs, beside: options.beside }),
    );
    const start = firstPage * PAGE_BYTES;
    return { bytes: data.subarray(offset - start, end - start), recycle };
  }

  async locate(pool: PoolId, id: BlockId): Promise<readonly { readonly node: NodeId; readonly state: BlockState }[]> {
    const catalog = this.#catalog.current();
    const known = findPool(catalog, pool);
    if (known === undefined) throw new UnavailableError(`pool ${pool} is not in the catalog (epoch ${catalog.epoch})`);
    const order = placementOf(catalog, known, id);
    const copies = wantedCopies(catalog, known);
    const found = await this.#ask(order.slice(0, copies), pool, id);
    // Substitutes for nodes that were down or full stand further on in the order: look until all copies are found.
    let next = copies;
    while (next < order.length && found.filter(({ state }) => state === 'held').length < copies) {
      const more = await this.#ask(order.slice(next, next + copies), pool, id);
      found.push(...more.filter(({ state }) => state === 'held'));
      next += copies;
    }
    return found;
  }

  #ask(nodes: readonly NodeId[], pool: PoolId, id: BlockId): Promise<{ node: NodeId; state: BlockState }[]> {
    return Promise.all(nodes.map(async (node) => ({ node, state: await this.stateAt(node, pool, id) })));
  }

  /** Whether one node has the block. Never rejects. */
  async stateAt(node: NodeId, pool: PoolId, id: BlockId): Promise<BlockState> {
    try {
      const options = { timeoutMs: ATTEMPT_TIMEOUT_MS, signal: this.#closing.signal };
      const reply = await this.#network.call(node, blockMethods.has, { pool, ids: [id] }, options);
      return parseHasReply(reply.header, 1)[0] === null ? 'missing' : 'held';
    } catch (error) {
      return error instanceof BlockNotFoundError ? 'missing' : 'unreachable';
    }
  }

  /** Cancels what is under way and waits for it to end. The network is the caller's to close. */
  async close(): Promise<void> {
    this.#closing.abort(new StateError('the block client is closed'));
    await Promise.all([this.#puts, this.#blockReads, this.#rangeReads].map((line) => line.idle()));
    await this.#local?.close();
  }

  /**
   * Runs the work when there is room, under a signal that fires when the caller gives up or the client closes. `take`: what
   * else it needs when its turn has come; resolves with the function that gives it back.
   */
  async #run<T>(
    line: Line,
    options: ReadOptions,
    work: (signal: CancelSignal, timeoutMs: number) => Promise<T>,
    take?: (signal: CancelSignal) => Promise<() => void>,
  ): Promise<T> {
    const closing = this.#closing.signal;
    closing.throwIfAborted();
    const { progress } = line;
    const { signal } = options;
    if (signal?.aborted === true) throw new CancelledError();
    const askedMs = this.#clock.monotonicMs();
    // Not AbortSignal.any: its links to a long-lived signal stay for the life of that signal.
    const either = new Cancellation();
    const cancel = (): void => either.abort(new CancelledError());
    const close = (): void => either.abort(closing.reason);
    signal?.addEventListener('abort', cancel);
    closing.addEventListener('abort', close);
    const turn = async (): Promise<T> => {
      const giveBack = await take?.(either);
      try {
        const leftMs = progress.deadlineOf(askedMs) - this.#clock.monotonicMs();
        if (leftMs <= 0) throw standsStill(this.#timeoutMs);
        const value = await work(either, leftMs);
        progress.progress(this.#clock.monotonicMs());
        return value;
      } finally {
        giveBack?.();
      }
    };
    try {
      return await line.run(turn, either, PRIORITY[options.priority ?? 'foreground']);
    } finally {
      signal?.removeEventListener('abort', cancel);
      closing.removeEventListener('abort', close);
    }
  }
}

/** The block client of one process. */
export function createBlockClient(options: BlockClientOptions): ClusterBlockClient {
  return new ClusterBlockClient(options);
}

function standsStill(timeoutMs: number): UnavailableError {
  return new UnavailableError(`blocks: no operation has got through for ${Math.round(timeoutMs)} ms`, {
    remedy: 'Start the nodes that are down; `tatami status` names them.',
  });
}

function wrongLength(id: BlockId, expected: number, actual: number): CorruptionError {
  return new CorruptionError(`block ${blockIdToHex(id)} has ${actual} bytes, its extent says ${expected}`);
}
