/**
 * Puts a block on two nodes: sends it once, to the first node of its placement list that is up and has room, which
 * passes it on. Where a node fails on the way, what has been reached is kept and the missing copy is made elsewhere,
 * by the node that has the block if possible, so that the bytes leave this machine once. A holder that reaches no other
 * node (it is cut off from them, but not from us) is not the last word: then they are sent the block from here.
 */
import type { CancelSignal } from '../cancel.ts';
import { NoSpaceError, StaleEpochError, TatamiError, UnavailableError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { DATA_TIMEOUT_MS, NODE_FULL_FRACTION } from '../limits.ts';
import { blockMethods, parsePutReply, type PushRequest, type PutReply, type PutRequest } from './block-messages.ts';
import { hashBlock } from './identity.ts';
import { findPool, placementOf, wantedCopies, writeTargets } from '../catalog/placement.ts';
import { activeNodes } from '../catalog/membership.ts';
import type { Catalog, CatalogService, Pool } from '../catalog/types.ts';
import type { Clock } from '../env.ts';
import { isDoubtful } from '../net/membership/board.ts';
import type { Network, Reply } from '../net/types.ts';
import type { PutReceipt } from './types.ts';

/** Nodes that must have a block on disk before a put is answered, where the pool keeps that many. */
export const SYNCHRONOUS_COPIES = 2;
/** One attempt: a busy disk may need seconds for what many writers queued before us. A dead node shows earlier. */
const PUT_ATTEMPT_TIMEOUT_MS = 15_000;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 2_000;
const FULL_PERMILLE = NODE_FULL_FRACTION * 1000;

export interface BlockWriterOptions {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly clock: Clock;
}

export interface PutOptions {
  readonly signal?: CancelSignal | undefined;
  readonly minGeneration?: number | undefined;
  /** For all attempts together, default DATA_TIMEOUT_MS. */
  readonly timeoutMs?: number | undefined;
}

/** What is known of one put while it is under way. */
interface Progress {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly data: Uint8Array;
  readonly options: PutOptions;
  readonly deadlineMs: number;
  /** Nodes that have it on disk, with their stamps. */
  readonly holders: Map<NodeId, number>;
  /** Nodes not to try again in this round, and why. */
  readonly failures: Map<NodeId, TatamiError>;
  /** Of these, the ones that a holder could not reach; nobody has tried from here. */
  readonly indirect: Set<NodeId>;
  /** Holders that could not pass the block on to anybody. */
  readonly isolated: Set<NodeId>;
  /** Nodes without room: that does not pass in the time of a put. */
  readonly full: Set<NodeId>;
  laterAccepted: boolean;
}

export class BlockWriter {
  readonly #network: Network;
  readonly #catalog: Pick<CatalogService, 'current'>;
  readonly #clock: Clock;

  constructor(options: BlockWriterOptions) {
    this.#network = options.network;
    this.#catalog = options.catalog;
    this.#clock = options.clock;
  }

  async put(poolId: PoolId, data: Uint8Array, options: PutOptions = {}): Promise<PutReceipt> {
    const { id } = hashBlock(data);
    const progress: Progress = {
      pool: poolId,
      id,
      data,
      options,
      deadlineMs: this.#clock.monotonicMs() + (options.timeoutMs ?? DATA_TIMEOUT_MS),
      holders: new Map(),
      failures: new Map(),
      indirect: new Set(),
      isolated: new Set(),
      full: new Set(),
      laterAccepted: false,
    };
    for (let retryMs = RETRY_MIN_MS; ;) {
      options.signal?.throwIfAborted();
      const catalog = this.#catalog.current();
      const pool = findPool(catalog, poolId);
      if (pool === undefined)
        throw new UnavailableError(`pool ${poolId} is not in the catalog (epoch ${catalog.epoch})`);
      const targets = this.#targets(progress, catalog, pool);
      const needed = Math.min(SYNCHRONOUS_COPIES, pool.copies, targets.length);
      const done = this.#receipt(progress, needed);
      if (done !== undefined) {
        this.#arrangeLater(progress, catalog, pool);
        return done;
      }
      const candidates = this.#candidates(progress, targets);
      if (progress.holders.size + candidates.length >= needed) {
        await this.#attempt(progress, catalog, pool, needed, candidates);
        continue;
      }
      // Not enough nodes left in this round, as far as the holders can reach.
      if (tryDirectly(progress)) continue;
      if (targets.filter((node) => !progress.full.has(node)).length < needed) throw noSpace(progress, targets.length);
      if (this.#clock.monotonicMs() + retryMs >= progress.deadlineMs) throw unavailable(progress, needed);
      await this.#clock.sleep(retryMs, options.signal);
      retryMs = Math.min(RETRY_MAX_MS, retryMs * 2);
      // A later round asks everyone anew; what is held is asked for again as well, it may be gone with its node.
      progress.failures.clear();
      progress.indirect.clear();
      progress.isolated.clear();
    }
  }

  #receipt(progress: Progress, needed: number): PutReceipt | undefined {
    if (progress.holders.size < needed) return undefined;
    return { id: progress.id, generation: Math.min(...progress.holders.values()) };
  }

  /**
   * Nodes that count, in placement order: those that stay; and where they are too few for the synchronous copies, ones that
   * are being drained, as long as they can be reached and have room. Who was drained and switched off is not waited for.
   */
  #targets(progress: Progress, catalog: Catalog, pool: Pool): readonly NodeId[] {
    const order = placementOf(catalog, pool, progress.id);
    const { length } = activeNodes(catalog);
    const missing = Math.min(SYNCHRONOUS_COPIES, pool.copies) - length;
    if (missing <= 0) return order.slice(0, length);
    const isUsable = (node: NodeId): boolean =>
      !progress.failures.has(node) && !progress.full.has(node) && this.#network.peer(node).state !== 'down';
    return [...order.slice(0, length), ...order.slice(length).filter(isUsable).slice(0, missing)];
  }

  /**
   * Whom to try, best first: up and with room, in placement order; nodes near full only when the others do not
   * suffice (they keep a reserve and refuse by themselves); those that other nodes suspect after all these, as that may be
   * wrong; nodes that cannot be reached from here not at all.
   */
  #candidates(progress: Progress, targets: readonly NodeId[]): readonly NodeId[] {
    const roomy: NodeId[] = [];
    const nearFull: NodeId[] = [];
    const doubtful: NodeId[] = [];
    for (const node of targets) {
      if (progress.holders.has(node) || progress.failures.has(node) || progress.full.has(node)) continue;
      const peer = this.#network.peer(node);
      if (peer.state === 'down') continue;
      if (isDoubtful(peer.member)) doubtful.push(node);
      else if ((peer.news?.fullPermille ?? 0) > FULL_PERMILLE) nearFull.push(node);
      else roomy.push(node);
    }
    return [...roomy, ...nearFull, ...doubtful];
  }

  /** One message on the way to enough holders; its outcome goes into `progress`. Rejects only when cancelled. */
  async #attempt(
    progress: Progress,
    catalog: Catalog,
    pool: Pool,
    needed: number,
    candidates: readonly NodeId[],
  ): Promise<void> {
    const holder = [...progress.holders.keys()].find(
      (node) => !progress.failures.has(node) && !progress.isolated.has(node),
    );
    const missing = needed - progress.holders.size;
    const targets = candidates.slice(0, missing);
    const first = holder ?? targets[0];
    if (first === undefined) return;
    try {
      const reply =
        holder === undefined
          ? await this.#sendBlock(
              progress,
              pool,
              first,
              targets.slice(1),
              this.#laterTargets(progress, catalog, pool, targets),
            )
          : await this.#askHolder(progress, pool, holder, targets, 'now');
      this.#take(progress, first, parsePutReply(reply.header));
    } catch (error) {
      progress.options.signal?.throwIfAborted();
      if (error instanceof StaleEpochError) {
        await this.#awaitCatalog(progress, pool);
        return;
      }
      const failure = error instanceof TatamiError ? error : new UnavailableError(String(error), { cause: error });
      progress.failures.set(first, failure);
      if (failure instanceof NoSpaceError) progress.full.add(first);
      // A holder that does not answer any more does not count: two nodes must have the block, and it may be lost.
      if (holder !== undefined) progress.holders.delete(holder);
    }
  }

  #take(progress: Progress, from: NodeId, reply: PutReply): void {
    for (const { node, generation } of reply.holders) progress.holders.set(node, generation);
    for (const { node, code, message } of reply.failures) {
      if (progress.holders.has(node)) continue;
      progress.failures.set(node, new UnavailableError(`${node}: ${message}`, { info: { code } }));
      if (code === 'ERR_NO_SPACE') progress.full.add(node);
      else if (node !== from) progress.indirect.add(node);
    }
    if (reply.laterAccepted) progress.laterAccepted = true;
  }

  #sendBlock(
    progress: Progress,
    pool: Pool,
    to: NodeId,
    chain: readonly NodeId[],
    later: readonly NodeId[],
  ): Promise<Reply> {
    const request: PutRequest = {
      pool: pool.id,
      id: progress.id,
      lengthBytes: progress.data.length,
      placementEpoch: pool.placementEpoch,
      minGeneration: progress.options.minGeneration ?? 0,
      chain,
      later,
    };
    return this.#network.call(to, blockMethods.put, request, {
      timeoutMs: this.#attemptTimeoutMs(progress),
      ...(progress.options.signal === undefined ? {} : { signal: progress.options.signal }),
      payload: [progress.data],
    });
  }

  #askHolder(
    progress: Progress,
    pool: Pool,
    holder: NodeId,
    to: readonly NodeId[],
    mode: PushRequest['mode'],
  ): Promise<Reply> {
    const request: PushRequest = {
      pool: pool.id,
      id: progress.id,
      placementEpoch: pool.placementEpoch,
      minGeneration: progress.options.minGeneration ?? 0,
      to,
      mode,
    };
    return this.#network.call(holder, blockMethods.push, request, {
      timeoutMs: this.#attemptTimeoutMs(progress),
      // Nobody waits for later copies, and they are wanted whatever becomes of the caller.
      ...(mode === 'later' || progress.options.signal === undefined ? {} : { signal: progress.options.signal }),
    });
  }

  /**
   * Who gets the third and later copies: the next nodes that can take them; and where those are too few, the nodes of
   * the list that are down or full: the first node remembers it, and they get their copy when they are back or have room.
   */
  #laterTargets(progress: Progress, catalog: Catalog, pool: Pool, now: readonly NodeId[]): readonly NodeId[] {
    const order = placementOf(catalog, pool, progress.id)
      .slice(0, activeNodes(catalog).length)
      .filter((node) => !now.includes(node) && !progress.holders.has(node));
    const wanted = wantedCopies(catalog, pool) - now.length - progress.holders.size;
    if (wanted <= 0) return [];
    const isDown = (node: NodeId): boolean => progress.failures.has(node) || this.#network.peer(node).state === 'down';
    const isFull = (node: NodeId): boolean =>
      progress.full.has(node) || (this.#network.peer(node).news?.fullPermille ?? 0) > FULL_PERMILLE;
    const able = writeTargets(order, wanted, (node) => isDown(node) || isFull(node));
    const absent = writeTargets(order, wanted - able.length, (node) => able.includes(node) || isFull(node));
    const known = new Set([...able, ...absent]);
    const full = writeTargets(order, wanted - known.size, (node) => known.has(node));
    return [...able, ...absent, ...full];
  }

  /** The first node stored nothing, so nobody has the later copies on a list: a holder is asked to, nobody waits. */
  #arrangeLater(progress: Progress, catalog: Catalog, pool: Pool): void {
    if (progress.laterAccepted) return;
    const later = this.#laterTargets(progress, catalog, pool, []);
    const [holder] = progress.holders.keys();
    if (later.length === 0 || holder === undefined) return;
    this.#askHolder(progress, pool, holder, later, 'later').catch(() => undefined);
  }

  /** A node has a newer catalog than ours; it comes by itself with the news. Returns early when it is there. */
  async #awaitCatalog(progress: Progress, pool: Pool): Promise<void> {
    for (
      let waitMs = 10;
      findPool(this.#catalog.current(), pool.id)?.placementEpoch === pool.placementEpoch;
      waitMs *= 2
    ) {
      if (this.#clock.monotonicMs() + waitMs >= progress.deadlineMs) throw unavailable(progress, SYNCHRONOUS_COPIES);
      await this.#clock.sleep(waitMs, progress.options.signal);
    }
  }

  #attemptTimeoutMs(progress: Progress): number {
    return Math.max(1, Math.min(PUT_ATTEMPT_TIMEOUT_MS, progress.deadlineMs - this.#clock.monotonicMs()));
  }
}

/** Gives nodes that only holders failed to reach another chance, from here. False if there are none. */
function tryDirectly(progress: Progress): boolean {
  if (progress.indirect.size === 0) return false;
  for (const node of progress.indirect) progress.failures.delete(node);
  progress.indirect.clear();
  for (const node of progress.holders.keys()) progress.isolated.add(node);
  return true;
}

function noSpace(progress: Progress, nodeCount: number): NoSpaceError {
  return new NoSpaceError(
    `no room for another block: ${[...progress.full].join(', ')} of ${nodeCount} nodes are full`,
    {
      remedy: 'Delete files and run `tatami gc`, or add a node or a larger disk.',
      info: { full: [...progress.full] },
    },
  );
}

function unavailable(progress: Progress, needed: number): UnavailableError {
  const reasons = [...progress.failures].map(([node, error]) => `${node}: ${error.message}`);
  return new UnavailableError(
    `block ${blockIdToHex(progress.id)} is on ${progress.holders.size} of the ${needed} nodes it must be on; ${reasons.join('; ') || 'no other node is up'}`,
    {
      remedy: 'Start the nodes that are down; `tatami status` names them.',
      info: { holders: [...progress.holders.keys()], failed: [...progress.failures.keys()] },
    },
  );
}
