/**
 * Reads blocks from whichever nodes hold them, verified: whatever a node, its index or the network did, the bytes that
 * come out hash to the id that was asked for. A miss, a mismatch, an error or a slow answer goes to the next holder,
 * past the end of the placement list through every node of the cluster.
 */
import { NEVER, type CancelSignal } from '../cancel.ts';
import { BlockNotFoundError, CorruptionError, TimeoutError, UnavailableError, type TatamiError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, BLOCK_MAX_BYTES, DATA_TIMEOUT_MS, PAGE_BYTES } from '../limits.ts';
import { blockMethods, parseGetReply, type GetReply, type GetRequest } from './block-messages.ts';
import type { ReadLimits } from './disk-read.ts';
import { reportDamage } from './damage-report.ts';
import { HolderStats, readOrder } from './holder-choice.ts';
import { raceHolders } from './holder-race.ts';
import type { DiskCache } from './disk-cache.ts';
import { isSound, type KnownBytes, type LocalBlock, type LocalBlocks } from './local-blocks.ts';
import { verifyBlock, verifyPageData, verifyPageList } from './identity.ts';
import { ReplyTimes } from './reply-times.ts';
import { SHARE_ROUNDS, SHARE_ROUNDS_MAX, SHARE_TIMEOUTS, type BlockSharing } from './sharing.ts';
import { findPool } from '../catalog/placement.ts';
import { dataNodes } from '../catalog/document.ts';
import type { CatalogService } from '../catalog/types.ts';
import type { Address, Clock } from '../env.ts';
import { payloadPool } from '../net/buffer-pool.ts';
import type { Network, Reply } from '../net/types.ts';
import type { BlockRef } from './types.ts';

/** When a second holder is asked: later than replies of the others are, by half. */
const HEDGE = { leastMs: 25, mostMs: 1_000, unknownMs: 150, factor: 1.5 } as const;
/** Disks of this machine are asked for much at once, and the next copy may be on the same one. */
const HEDGE_NEAR_LEAST_MS = 150;
/** Where many read the same, a second holder would send what the first one sends already, on a way that is as crowded. */
const HEDGE_TOGETHER_LEAST_MS = 1_000;
/**
 * Second requests may be at most this share of reads over time, so that a cluster slow from load is not given more of it;
 * and as many at once as one reader has requests at a node that stops.
 */
const HEDGE_SHARE = 0.05;
const HEDGE_BURST = 8;
/** Before the first read: many readers that begin at once at a busy holder shall not all ask twice. */
const HEDGE_FIRST = 2;
/** Verified page lists kept: 2 KiB each for full blocks, so 4 MiB, enough for random reads within 8 GiB. */
const PAGE_LISTS_MAX = 2048;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 2_000;
/** A disk of the reader's own that takes longer is no help. */
const KEPT_TIMEOUT_MS = 2_000;

export interface BlockReaderOptions {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly clock: Clock;
  /** Copies on disks of this machine. */
  readonly local?: LocalBlocks | undefined;
  /** Other readers serve what they have read, and are served. */
  readonly sharing?: BlockSharing | undefined;
  /** What was read before, on a disk of the reader. */
  readonly kept?: DiskCache | undefined;
  /** Not asked: the node itself, when it looks for a copy to heal its own. */
  readonly exceptNode?: NodeId | undefined;
}

export interface ReadOptions {
  readonly signal?: CancelSignal | undefined;
  /** For all attempts together, default DATA_TIMEOUT_MS. */
  readonly timeoutMs?: number | undefined;
  /** Blocks that, or pages of which, may be wanted soon, likeliest first. */
  readonly beside?: Iterable<BlockRef> | undefined;
}

/** Verified pages. */
export interface VerifiedPages {
  readonly firstPage: number;
  readonly data: Uint8Array;
  /** To be called, if at all, when `data` is no longer used: its memory is then used again. */
  readonly recycle: () => void;
}

export class BlockReader {
  readonly #network: Network;
  readonly #catalog: Pick<CatalogService, 'current'>;
  readonly #clock: Clock;
  readonly #exceptNode: NodeId | undefined;
  readonly #local: LocalBlocks | undefined;
  readonly #sharing: BlockSharing | undefined;
  readonly #kept: DiskCache | undefined;
  readonly #stats = new HolderStats();
  readonly #times = new ReplyTimes(HEDGE);
  /** By id (content names content, whatever the pool). Invariant: each was verified against its key. */
  readonly #pageLists = new Map<string, Uint8Array>();
  #hedgeTokens = HEDGE_FIRST;

  constructor(options: BlockReaderOptions) {
    this.#network = options.network;
    this.#catalog = options.catalog;
    this.#clock = options.clock;
    this.#exceptNode = options.exceptNode;
    this.#local = options.local;
    this.#sharing = options.sharing;
    this.#kept = options.kept;
  }

  /**
   * The whole block (`lengthBytes`, if it is known); the result is the buffer in which it arrived, owned by the caller: the front part of `into` if that
   * is given, large enough and was free (of two answers under way at once, one goes elsewhere). After a failure `into`
   * has unspecified content.
   */
  async readWhole(
    pool: PoolId,
    id: BlockId,
    options: ReadOptions & { readonly into?: Uint8Array; readonly lengthBytes?: number | undefined } = {},
  ): Promise<Uint8Array> {
    const block = this.#kept?.find(id);
    const kept = block && (await fromKept(options, (limits) => readWholeOf(block, id, limits)));
    if (kept !== undefined) return kept;
    let free = options.into;
    const { lengthBytes = BLOCK_MAX_BYTES } = options;
    return await this.#read(pool, id, lengthBytes, options, async (node, limits, wait) => {
      const local = await this.#local?.find(node, pool, id, BLOCK_MAX_BYTES, limits, options.beside);
      const here = local === undefined ? undefined : await readWholeOf(local, id, limits);
      if (here !== undefined) return { value: here, bytes: here.length };
      const into = free;
      free = undefined;
      try {
        const answer = await this.#getWhole(node, pool, id, into, lengthBytes, limits, wait);
        this.#kept?.keep(pool, id, answer.value);
        return answer;
      } catch (error) {
        // The call has ended, nothing more comes: the next attempt may use the memory.
        free ??= into;
        throw error;
      }
    });
  }

  /** From the holder, or from readers of whom it knows. */
  async #getWhole(
    node: NodeId,
    pool: PoolId,
    id: BlockId,
    into: Uint8Array | undefined,
    lengthBytes: number,
    limits: Limits,
    wait: (ms: number) => void,
  ): Promise<Answer<Uint8Array>> {
    const { signal } = limits;
    const deadlineMs = this.#clock.monotonicMs() + limits.leftMs;
    const ask = async (round: number, timeouts: number, tried: Tried): Promise<readonly [Reply, GetReply]> => {
      const sharing = this.#sharing;
      const { cacheBytes = 0, readBytes = 0 } = sharing ?? {};
      const direct = round >= SHARE_ROUNDS || timeouts >= SHARE_TIMEOUTS;
      const share =
        sharing === undefined || round >= SHARE_ROUNDS_MAX
          ? {}
          : { share: { direct, ...tried, cacheBytes, readBytes } };
      const pageCount = BLOCK_MAX_BYTES / PAGE_BYTES;
      const request: GetRequest = { pool, id, firstPage: 0, pageCount, wantHashes: false, ...share };
      const timeoutMs = Math.max(1, Math.min(limits.timeoutMs, deadlineMs - this.#clock.monotonicMs()));
      const target = into === undefined ? {} : { into };
      const reply = await this.#network.call(node, blockMethods.get, request, { timeoutMs, signal, ...target });
      const header = this.#verify(node, pool, id, () => parseGetReply(reply.header, reply.payload.length));
      sharing?.note(pool, id, header.readerCount ?? 0);
      return [reply, header];
    };
    let tried: Tried = { gone: [], slow: [] };
    let timeouts = 0;
    for (let round = 0; ; round++) {
      const [reply, header] = await ask(round, timeouts, tried);
      const { peers = [], load } = header;
      if (this.#sharing === undefined || peers.length === 0) {
        this.#verify(node, pool, id, () => verifyBlock(id, reply.payload));
        // After other readers were asked, the time that it took is not the holder's.
        return { value: reply.payload, ...(round === 0 ? { bytes: reply.payload.length } : {}), load };
      }
      const patienceMs = this.#sharing.patienceMs(peers, lengthBytes);
      const timeoutMs = Math.max(1, Math.min((deadlineMs - this.#clock.monotonicMs()) / 2, patienceMs));
      // It has answered at once; who takes his time now is somebody else.
      wait(timeoutMs + this.#hedgeAfterMs(node, lengthBytes));
      const result = await this.#sharing.get(peers, pool, id, into, { signal, timeoutMs });
      if (result.data !== undefined) return { value: result.data };
      // Who is not gone may be asked again, but not at once.
      tried = { gone: result.gone, slow: result.slow };
      if (result.timedOut) timeouts++;
    }
  }

  /**
   * Pages [firstPage, firstPage + pageCount), less what is past the block's end. `blockBytes` if the caller knows it
   * from a source it trusts; a holder that says otherwise is taken for damaged.
   */
  async readPages(
    pool: PoolId,
    id: BlockId,
    blockBytes: number | undefined,
    firstPage: number,
    pageCount: number,
    options: ReadOptions = {},
  ): Promise<VerifiedPages> {
    const key = Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1');
    const wanted = (): PagesWanted => {
      const known = blockBytes === undefined ? undefined : this.#pageList(key);
      return { key, known, blockBytes, firstPage, pageCount };
    };
    const block = this.#kept?.find(id);
    const kept = block && (await fromKept(options, (limits) => this.#readPagesOf(block, id, wanted(), limits)));
    if (kept !== undefined) return kept;
    return await this.#read(pool, id, pageCount * PAGE_BYTES, options, async (node, limits) => {
      const pages = wanted();
      const { known } = pages;
      const local = await this.#local?.find(node, pool, id, pageCount * PAGE_BYTES, limits, options.beside);
      const here = local === undefined ? undefined : await this.#readPagesOf(local, id, pages, limits);
      if (here !== undefined) return { value: here, bytes: here.data.length };
      const request: GetRequest = { pool, id, firstPage, pageCount, wantHashes: known === undefined };
      const reply = await this.#network.call(node, blockMethods.get, request, limits);
      const data = this.#verify(node, pool, id, () => {
        const header = parseGetReply(reply.header, reply.payload.length);
        const length = blockBytes ?? header.blockBytes;
        const hashes = known ?? reply.payload.subarray(0, header.hashBytes);
        const pages = reply.payload.subarray(header.hashBytes);
        if (known === undefined) verifyPageList(id, hashes, length);
        const expectedBytes = Math.max(0, Math.min(pageCount * PAGE_BYTES, length - firstPage * PAGE_BYTES));
        if (header.firstPage !== firstPage || header.blockBytes !== length || pages.length !== expectedBytes) {
          throw new CorruptionError(`block ${blockIdToHex(id)}: ${node} sent other pages than were asked for`);
        }
        verifyPageData(id, length, hashes, firstPage, pages);
        // Without a trusted length the list may not be kept: a wrong one would make good nodes look damaged later.
        if (known === undefined && blockBytes !== undefined) this.#keepPageList(key, new Uint8Array(hashes));
        return pages;
      });
      return { value: { firstPage, data, recycle: () => reply.recycle?.() }, bytes: data.length };
    });
  }

  /**
   * One page of a block whose place on this machine is known by the shortest way, with its page list unless that is known; in memory of the payload
   * pool. Undefined, at once or later: {@link readPages} has to find it.
   */
  readKnownPage(
    pool: PoolId,
    id: BlockId,
    blockBytes: number,
    page: number,
  ): Promise<Uint8Array | undefined> | undefined {
    const key = Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1');
    const known = this.#pageList(key);
    const start = page * PAGE_BYTES;
    const length = Math.min(PAGE_BYTES, blockBytes - start);
    const reading = this.#local?.readKnown(pool, id, blockBytes, start, length);
    if (reading === undefined) return undefined;
    const verified = (found: KnownBytes | undefined, list: Uint8Array | undefined): Uint8Array | undefined => {
      if (list !== undefined) return found?.ifSound((bytes) => verifyPageData(id, blockBytes, list, page, bytes));
      found?.giveBack();
      return undefined;
    };
    const listing = known ?? this.#knownList(key, pool, id, blockBytes);
    if (listing === undefined || listing instanceof Uint8Array)
      return reading.then((found) => verified(found, listing));
    return Promise.all([reading, listing]).then(([found, list]) => verified(found, list));
  }

  /** A whole block, as {@link readKnownPage}. */
  readKnownBlock(pool: PoolId, id: BlockId, blockBytes: number): Promise<Uint8Array | undefined> | undefined {
    const reading = this.#local?.readKnown(pool, id, blockBytes, 0, blockBytes);
    return reading?.then((found) => found?.ifSound((bytes) => verifyBlock(id, bytes)));
  }

  /** The block's page list by the shortest way; kept, if it is the right one. */
  #knownList(key: string, pool: PoolId, id: BlockId, blockBytes: number): Promise<Uint8Array | undefined> | undefined {
    return this.#local?.readKnownList(pool, id, blockBytes)?.then((found) => {
      const hashes = found?.ifSound((bytes) => verifyPageList(id, bytes, blockBytes));
      if (hashes === undefined) return undefined;
      const list = new Uint8Array(hashes);
      found?.giveBack();
      this.#keepPageList(key, list);
      return list;
    });
  }

  /** Pages of the block as a disk of this machine has it; undefined if it is not to be had there. */
  async #readPagesOf(
    block: LocalBlock,
    id: BlockId,
    { key, known, blockBytes, firstPage, pageCount }: PagesWanted,
    limits: ReadLimits,
  ): Promise<VerifiedPages | undefined> {
    const { lengthBytes } = block;
    if (blockBytes === undefined || blockBytes === lengthBytes) {
      const wantedBytes = Math.max(0, Math.min(pageCount * PAGE_BYTES, lengthBytes - firstPage * PAGE_BYTES));
      const [hashes, data] = await Promise.all([
        known ?? block.readPageList(limits),
        block.read(firstPage * PAGE_BYTES, wantedBytes, limits),
      ]);
      const sound =
        hashes !== undefined &&
        data !== undefined &&
        isSound(() => {
          if (known === undefined) verifyPageList(id, hashes, lengthBytes);
          verifyPageData(id, lengthBytes, hashes, firstPage, data);
        });
      if (sound) {
        if (known === undefined && blockBytes !== undefined) this.#keepPageList(key, new Uint8Array(hashes));
        return { firstPage, data, recycle: () => payloadPool.giveBack(data) };
      }
      if (data !== undefined) payloadPool.giveBack(data);
    }
    block.forget();
    return undefined;
  }

  #pageList(key: string): Uint8Array | undefined {
    const found = this.#pageLists.get(key);
    if (found !== undefined) {
      this.#pageLists.delete(key);
      this.#pageLists.set(key, found);
    }
    return found;
  }

  #keepPageList(key: string, hashes: Uint8Array): void {
    this.#pageLists.set(key, hashes);
    if (this.#pageLists.size <= PAGE_LISTS_MAX) return;
    for (const oldest of this.#pageLists.keys()) {
      this.#pageLists.delete(oldest);
      return;
    }
  }

  /** Runs a check of what `node` sent; tells the node when it fails, so that it looks at its copy and heals it. */
  #verify<T>(node: NodeId, pool: PoolId, id: BlockId, check: () => T): T {
    try {
      return check();
    } catch (error) {
      reportDamage(this.#network, node, pool, id);
      if (error instanceof CorruptionError) throw error;
      throw new CorruptionError(`block ${blockIdToHex(id)}: ${node} sent a malformed reply`, { cause: error });
    }
  }

  async #read<T>(
    poolId: PoolId,
    id: BlockId,
    bytes: number,
    options: ReadOptions,
    attempt: (node: NodeId, limits: Limits, wait: (ms: number) => void) => Promise<Answer<T>>,
  ): Promise<T> {
    const deadlineMs = this.#clock.monotonicMs() + (options.timeoutMs ?? DATA_TIMEOUT_MS);
    for (let retryMs = RETRY_MIN_MS; ; retryMs = Math.min(RETRY_MAX_MS, retryMs * 2)) {
      options.signal?.throwIfAborted();
      const nodes = this.#nodesToAsk(poolId, id);
      const result = await raceHolders<T>({
        clock: this.#clock,
        nodes,
        signal: options.signal,
        hedgeAfterMs: (node) => this.#hedgeAfterMs(node, bytes),
        mayHedge: (node, askedMs) => this.#mayHedge(node, askedMs),
        overtaken: (node) => this.#stats.wasSlow(node, this.#clock.monotonicMs(), false),
        attempt: async (node, signal, wait) => {
          const startedMs = this.#clock.monotonicMs();
          const leftMs = Math.max(1, deadlineMs - startedMs);
          const timeoutMs = Math.min(ATTEMPT_TIMEOUT_MS, leftMs);
          const answer = await attempt(node, { signal, timeoutMs, leftMs }, wait);
          const nowMs = this.#clock.monotonicMs();
          if (answer.bytes !== undefined) this.#times.add(node, answer.bytes, nowMs - startedMs);
          this.#stats.answered(node, nowMs, answer.load);
          return answer.value;
        },
      });
      if (result.ok) {
        this.#hedgeTokens = Math.min(HEDGE_BURST, this.#hedgeTokens + HEDGE_SHARE);
        return result.value;
      }
      const failure = describeReadFailure(id, result.errors);
      const leftMs = deadlineMs - this.#clock.monotonicMs();
      if (!(failure instanceof UnavailableError) || leftMs <= retryMs) throw failure;
      await this.#clock.sleep(retryMs, options.signal);
    }
  }

  #nodesToAsk(poolId: PoolId, id: BlockId): readonly NodeId[] {
    const catalog = this.#catalog.current();
    const pool = findPool(catalog, poolId);
    const [network, stats, near, nowMs] = [this.#network, this.#stats, this.#local, this.#clock.monotonicMs()];
    const together = this.#sharing?.isTogether() === true;
    // A pool of a newer catalog than ours: its blocks are still found by asking everyone.
    const nodes =
      pool === undefined
        ? dataNodes(catalog).map((node) => node.id)
        : readOrder(catalog, pool, id, { network, stats, near, nowMs, together });
    return this.#exceptNode === undefined ? nodes : nodes.filter((node) => node !== this.#exceptNode);
  }

  #hedgeAfterMs(node: NodeId, bytes: number): number {
    const slowAfterMs = this.#times.slowAfterMs(node, bytes);
    if (this.#sharing?.isTogether() === true) return Math.max(HEDGE_TOGETHER_LEAST_MS, slowAfterMs);
    return this.#local?.isNear(node) === true ? Math.max(HEDGE_NEAR_LEAST_MS, slowAfterMs) : slowAfterMs;
  }

  #mayHedge(node: NodeId, askedMs: number): boolean {
    // Not a word since: it stands still, and what comes next had better go to others, whatever becomes of this read.
    const { heardMs } = this.#network.peer(node);
    if (heardMs === undefined || heardMs <= askedMs) this.#stats.wasSlow(node, this.#clock.monotonicMs(), true);
    if (this.#hedgeTokens < 1) return false;
    this.#hedgeTokens -= 1;
    return true;
  }
}

/** Pages [firstPage, firstPage + pageCount) of a block, and what is known of it already. */
interface PagesWanted {
  readonly key: string;
  /** Its page list, verified. */
  readonly known: Uint8Array | undefined;
  readonly blockBytes: number | undefined;
  readonly firstPage: number;
  readonly pageCount: number;
}

interface Tried {
  readonly gone: readonly Address[];
  readonly slow: readonly Address[];
}

interface Answer<T> {
  readonly value: T;
  /** That the holder itself has sent, for what we know of its speed; absent: it has not. */
  readonly bytes?: number;
  /** As it said. */
  readonly load?: number | undefined;
}

interface Limits {
  readonly signal: CancelSignal;
  /** For one answer of one node. */
  readonly timeoutMs: number;
  /** Until the whole read has failed. */
  readonly leftMs: number;
}

/** From the reader's own disk; undefined if it is not to be had there. Never keeps anybody from asking the holders. */
async function fromKept<T>(
  { signal = NEVER, timeoutMs = DATA_TIMEOUT_MS }: ReadOptions,
  read: (limits: ReadLimits) => Promise<T | undefined>,
): Promise<T | undefined> {
  try {
    return await read({ signal, timeoutMs: Math.min(KEPT_TIMEOUT_MS, timeoutMs / 2) });
  } catch (error) {
    if (!(error instanceof TimeoutError)) throw error;
    return undefined;
  }
}

/** The block as a disk of this machine has it; undefined if it is not to be had there. */
async function readWholeOf(block: LocalBlock, id: BlockId, limits: ReadLimits): Promise<Uint8Array | undefined> {
  const data = await block.read(0, block.lengthBytes, limits);
  if (data !== undefined && isSound(() => verifyBlock(id, data))) return data;
  // Outdated, or damaged: others are asked; a node itself, and told, if it is its copy that is wrong.
  if (data !== undefined) payloadPool.giveBack(data);
  block.forget();
  return undefined;
}

/** What it means that no node gave the block: some could not be asked; else some copy is damaged; else there is none. */
function describeReadFailure(id: BlockId, errors: ReadonlyMap<NodeId, unknown>): TatamiError {
  const damaged: NodeId[] = [];
  const unreachable: NodeId[] = [];
  let cause: unknown;
  for (const [node, error] of errors) {
    if (error instanceof BlockNotFoundError) continue;
    if (error instanceof CorruptionError) damaged.push(node);
    else {
      unreachable.push(node);
      cause ??= error;
    }
  }
  const name = `block ${blockIdToHex(id)}`;
  const info = { damaged, unreachable, asked: [...errors.keys()] };
  if (unreachable.length > 0) {
    return new UnavailableError(
      `${name}: no intact copy on the nodes that answer; not reached: ${unreachable.join(', ')}`,
      {
        cause,
        info,
        remedy: 'Start the nodes that are down; `tatami status` names them.',
      },
    );
  }
  if (damaged.length > 0) {
    return new CorruptionError(`${name}: every copy that is left is damaged (${damaged.join(', ')})`, {
      info,
      remedy: 'Restore the file from a backup; `tatami status` names the damaged files.',
    });
  }
  return new BlockNotFoundError(`${name} is on none of the ${errors.size} nodes`, { info });
}
