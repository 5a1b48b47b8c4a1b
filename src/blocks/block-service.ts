/**
 * A node's side of the block protocol: takes blocks and passes them on (write chain), gives them out, makes the later
 * copies, heals its own damaged ones, and lets garbage collection list and sweep. Described in docs/protocol.md,
 * "Blocks". The engine below knows one disk; this knows the cluster.
 */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import {
  BlockNotFoundError,
  CorruptionError,
  FormatError,
  FsError,
  StaleEpochError,
  UnavailableError,
} from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, BLOCK_MAX_BYTES, MiB, NODE_FULL_FRACTION, PAGE_BYTES } from '../limits.ts';
import {
  blockMethods,
  isBackground,
  describeFailure,
  parseBlock,
  parseGeneration,
  parseGet,
  parseIds,
  parseList,
  parsePush,
  parsePut,
  parsePutReply,
  parseRenew,
  parseSweep,
  parseWhere,
  placesReply,
  type DamageRecord,
  type GetReply,
  type GetRequest,
  type ListReply,
  type PutReply,
  type PutRequest,
} from './block-messages.ts';
import { BlockReader } from './block-reader.ts';
import { ByteBudget } from './byte-budget.ts';
import { DamageHealer } from './damage-healer.ts';
import { DamageLog } from './damage-log.ts';
import { Foreground } from './foreground.ts';
import { Generations } from './generations.ts';
import { Handoff, type HandoffEntry, type PushOutcome } from './handoff.ts';
import { checkBlockBytes, hashBlock } from './identity.ts';
import { ListSessions } from './list-sessions.ts';
import { findPool } from '../catalog/placement.ts';
import { missedBlocks } from './missed-blocks.ts';
import { ReaderTracker, type ReaderAnswer } from './reader-tracker.ts';
import { ReceivedBlock } from './received-block.ts';
import { parseScrub } from './scrub-messages.ts';
import { Scrubber, type ScrubReport } from './scrubber.ts';
import type { ScrubTarget } from './scrub-target.ts';
import { activeNodes } from '../catalog/membership.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import type { Address, Env, Kv } from '../env.ts';
import type { HandlerReply, IncomingRequest, Network } from '../net/types.ts';
import type { BlockEngine, BlockPlace, BlockInfo } from './types.ts';

/** Blocks being received, per depth of chain (see #put); the node's memory is a few times this. */
const RECEIVE_BUDGET_BYTES = 48 * MiB;
/** Blocks read and not yet sent. */
const SEND_BUDGET_BYTES = 64 * MiB;
/** What a node keeps of its caller's time to answer that the next node failed. */
const FORWARD_MARGIN = 0.2;
/** One later copy: nobody waits, and the target's disk may be busy with puts that are waited for. */
const LATER_PUSH_TIMEOUT_MS = 30_000;

/** A pino logger fits. */
export interface BlockLog {
  info(facts: Readonly<Record<string, unknown>>, message: string): void;
  warn(facts: Readonly<Record<string, unknown>>, message: string): void;
}

export interface BlockServiceOptions {
  readonly self: NodeId;
  readonly engine: BlockEngine;
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly env: Pick<Env, 'clock' | 'random'>;
  /**
   * For the queue of later copies (keys `h...`), the collection generation (`g`), damage that was found (`d...`) and the
   * scrub's position (`s`). The caller closes it.
   */
  readonly kv: Kv;
  /** The store under `engine`, if it can be scrubbed. */
  readonly scrub?: ScrubTarget;
  readonly log: BlockLog;
  /** Told of each copy that is found to be damaged, and again when it is healed. */
  readonly onDamage?: (record: DamageRecord) => void;
}

/** A copy, with its stamp when it was listed. */
export interface Surplus {
  readonly id: BlockId;
  readonly generation: number;
}

export class BlockService {
  readonly #options: BlockServiceOptions;
  readonly #engine: BlockEngine;
  readonly #generations: Generations;
  readonly #healer: DamageHealer;
  readonly #lists: ListSessions<BlockInfo & { readonly generation: number }>;
  readonly #receiveBudgets = new Map<number, ByteBudget>();
  readonly #sendBudget = new ByteBudget(SEND_BUDGET_BYTES);
  readonly #closing = new Cancellation();
  readonly #foreground: Foreground;
  readonly #readers = new ReaderTracker();
  /** Requests for blocks that are not answered, or whose bytes are not sent yet. */
  #getCount = 0;
  #scrubber: Scrubber | undefined;
  #handoff: Handoff | undefined;
  #unsubscribe: (() => void) | undefined;

  private constructor(options: BlockServiceOptions, damage: DamageLog) {
    this.#options = options;
    this.#engine = options.engine;
    this.#generations = new Generations(options.kv, options.engine);
    this.#lists = new ListSessions(options.env.clock, options.env.random);
    const reader = new BlockReader({
      network: options.network,
      catalog: options.catalog,
      clock: options.env.clock,
      exceptNode: options.self,
    });
    const { clock } = options.env;
    this.#foreground = new Foreground(clock);
    this.#healer = new DamageHealer({ ...options, reader, generations: this.#generations, damage, clock });
  }

  /** Registers its handlers: call before `network.listen`. The catalog must be there. */
  static async open(options: BlockServiceOptions): Promise<BlockService> {
    const { kv, env, self, scrub } = options;
    const service = new BlockService(options, await DamageLog.open(kv, env.clock, self));
    service.#handoff = await Handoff.open({
      kv: options.kv,
      clock: options.env.clock,
      push: (entry, isRetry) => service.#pushLater(entry, isRetry),
    });
    service.#unsubscribe = options.network.onPeerState((node, state) => {
      if (state === 'up') service.#handoff?.wake(node);
    });
    if (scrub !== undefined) service.#scrubber = service.#makeScrubber(scrub);
    service.#register();
    return service;
  }

  /**
   * Sends this node's copy of a block to another node. True once that one has it on disk, or if there is nothing to send
   * any more. Never rejects.
   */
  async copyTo(node: NodeId, pool: Pool, id: BlockId, minGeneration: number): Promise<boolean> {
    try {
      const reply = await this.#sendCopy(node, pool, id, minGeneration, LATER_PUSH_TIMEOUT_MS);
      return reply.holders.length > 0;
    } catch (error) {
      return error instanceof BlockNotFoundError;
    }
  }

  /** Copies for nodes that are away: on the list, on disk, and made when they are back. False if that failed. */
  async oweTo(
    pool: PoolId,
    copies: readonly { readonly to: NodeId; readonly id: BlockId; readonly generation: number }[],
  ): Promise<boolean> {
    const entries = copies.map(({ to, id, generation }) => ({ node: to, pool, id, generation }));
    const remembered = await this.#rememberAll(entries);
    for (const { to } of copies) this.#handoff?.notify(to);
    return remembered;
  }

  /** Resolves when every put that had come by now has ended. */
  async putsEnded(): Promise<void> {
    await Promise.all([...this.#puts].map((put) => put.catch(() => undefined)));
  }

  /**
   * Deletes copies that this node need not hold: those of the blocks whose stamp here has not been raised since they were
   * listed, and which nobody is putting. Resolves with what went. The caller knows that others hold them, under stamps as high.
   */
  async giveUp(pool: PoolId, blocks: readonly Surplus[]): Promise<number> {
    const byStamp = new Map<number, BlockId[]>();
    for (const { id, generation } of blocks) {
      const ids = byStamp.get(generation) ?? [];
      if (ids.length === 0) byStamp.set(generation, ids);
      ids.push(id);
    }
    const gone = [...byStamp].map(([stamp, ids]) => this.#generations.sweep(pool, ids, stamp + 1));
    return (await Promise.all(gone)).reduce((sum, count) => sum + count, 0);
  }

  /** Whether somebody waits for this node's disk: background work then gives way. */
  isBusy(): boolean {
    return this.#foreground.isBusy();
  }

  /** The placement with which repair has finished here: told to whoever asks for blocks. */
  set settledEpochOf(settledEpochOf: (pool: PoolId) => number) {
    this.#settledEpochOf = settledEpochOf;
  }
  #settledEpochOf: (pool: PoolId) => number = () => 0;
  readonly #puts = new Set<Promise<unknown>>();

  /** For the news: `News.gcGeneration`. */
  gcGeneration(): number {
    return this.#generations.current();
  }

  /** Later copies still to be made. */
  pendingCopies(): number {
    return this.#handoff?.pendingCount() ?? 0;
  }

  damageLog(): readonly DamageRecord[] {
    return this.#healer.records();
  }

  /** Undefined if the store cannot be scrubbed. */
  scrubReport(): ScrubReport | undefined {
    return this.#scrubber?.report();
  }

  /** Resolves when no damage report is being looked at (for tests and orderly stops). */
  healingIdle(): Promise<void> {
    return this.#healer.idle();
  }

  /** Stops background work; engine, network and Kv are the caller's to close. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#unsubscribe?.();
    this.#lists.close();
    await Promise.all([this.#handoff?.close(), this.#healer.close(), this.#scrubber?.close()]);
  }

  #makeScrubber(target: ScrubTarget): Scrubber {
    const { self, network, catalog, env, kv, log } = this.#options;
    const isKnown = (pool: PoolId, id: BlockId): boolean =>
      this.#engine.has(pool, id) !== undefined || target.wasDeleted(pool, id);
    return new Scrubber({
      target,
      healer: this.#healer,
      kv,
      clock: env.clock,
      log,
      isBusy: () => this.#foreground.isBusy(),
      missedBlocks: () => missedBlocks({ self, network, catalog, isKnown }),
    });
  }

  #register(): void {
    const { network } = this.#options;
    network.handle(blockMethods.put, (request) => {
      const work = () => this.#put(request);
      const done = isBackground(request.header) ? work() : this.#foreground.run(work);
      const put = done.finally(() => this.#puts.delete(put));
      this.#puts.add(put);
      return put;
    });
    network.handle(blockMethods.push, (request) => this.#push(request));
    network.handle(blockMethods.where, (request) => this.#where(request));
    network.handle(blockMethods.places, (request) => this.#places(request));
    network.handle(blockMethods.get, (request) => this.#foreground.run(() => this.#get(request)));
    network.handle(blockMethods.has, (request) => {
      const { pool, ids } = parseIds(request.header);
      const lengths = ids.map((id) => this.#engine.has(pool, id) ?? null);
      return { header: { lengths, settledEpoch: this.#settledEpochOf(pool) } };
    });
    network.handle(blockMethods.renew, (request) => this.#renew(request));
    network.handle(blockMethods.delete, (request) => this.#delete(request));
    network.handle(blockMethods.list, (request) => this.#list(request, false));
    // Collection takes damaged copies, too: nobody is to be told for ever of what no file uses.
    network.handle(blockMethods.listOld, (request) => this.#list(request, true));
    network.handle(blockMethods.usage, () => ({ header: this.#usage() }));
    network.handle(blockMethods.reportDamage, (request) => {
      const { pool, id } = parseBlock(request.header);
      this.#healer.suspect(pool, id);
      return { header: null };
    });
    network.handle(blockMethods.damageLog, () => ({ header: { records: this.damageLog() } }));
    network.handle(blockMethods.gcBegin, async (request) => {
      await this.#generations.raise(parseGeneration(request.header));
      return { header: { generation: this.#generations.current() } };
    });
    network.handle(blockMethods.sweepOld, (request) => this.#sweep(request));
    network.handle(blockMethods.heal, async (request) => {
      const { pool, id } = parseBlock(request.header);
      return { header: { outcome: await this.#healer.heal(pool, id, 'read') } };
    });
    network.handle(blockMethods.scrub, (request) => this.#scrub(request));
  }

  // Writing

  async #put(request: IncomingRequest): Promise<HandlerReply> {
    const put = parsePut(request.header);
    this.#checkPlacement(put.pool, put.placementEpoch);
    checkBlockBytes(put.lengthBytes);
    if (put.lengthBytes !== request.payloadBytes) {
      throw new FormatError(`block.put of ${put.lengthBytes} bytes came with ${request.payloadBytes}`);
    }
    // One budget per depth: a put that forwards waits for room at the next node, which is held there only by puts
    // that forward less far. So two nodes that forward to each other cannot wait for each other for ever.
    const giveBack = await this.#receiveBudget(put.chain.length).take(put.lengthBytes, request.signal);
    try {
      return { header: await this.#receive(put, request) };
    } finally {
      giveBack();
    }
  }

  async #receive(put: PutRequest, request: IncomingRequest): Promise<PutReply> {
    const block = new ReceivedBlock(put.lengthBytes);
    const broken = new Cancellation();
    const forwarded = this.#forward(put, block, broken.signal, request.deadlineMs);
    try {
      const data = await block.receive(request.payloadChunks());
      const { id, pageHashes } = hashBlock(data);
      if (Buffer.compare(id, put.id) !== 0) {
        throw new CorruptionError(`the bytes sent as block ${blockIdToHex(put.id)} are not that block`);
      }
      const stored = this.#store(put, pageHashes, data);
      const remembered = this.#remember(put.pool, put.id, put.later, put.minGeneration);
      const [own, laterAccepted, others] = await Promise.all([stored, remembered, forwarded]);
      // After a failure the bytes may still stand in a queue, of the disk or of a connection: then they are left alone.
      if (own.failures.length === 0 && others.failures.length === 0) request.recycle?.();
      // Only now: before, the copy to push was not on disk here.
      for (const node of put.later) this.#handoff?.notify(node);
      return {
        holders: [...own.holders, ...others.holders],
        failures: [...own.failures, ...others.failures],
        laterAccepted: laterAccepted && own.holders.length > 0,
      };
    } catch (error) {
      broken.abort(error);
      await forwarded;
      throw error;
    }
  }

  async #store(put: PutRequest, pageHashes: Uint8Array, data: Uint8Array): Promise<Omit<PutReply, 'laterAccepted'>> {
    const { self } = this.#options;
    try {
      const { generation } = await this.#generations.write(put.pool, put.id, put.minGeneration, (stamp) =>
        this.#engine.put(put.pool, put.id, pageHashes, data, stamp),
      );
      return { holders: [{ node: self, generation }], failures: [] };
    } catch (error) {
      this.#options.log.warn({ block: blockIdToHex(put.id), error: String(error) }, 'a block could not be stored');
      return { holders: [], failures: [describeFailure(self, error)] };
    }
  }

  /** Passes the block on while it arrives. Never rejects: what failed is in the reply. */
  async #forward(
    put: PutRequest,
    block: ReceivedBlock,
    signal: CancelSignal,
    deadlineMs: number,
  ): Promise<Omit<PutReply, 'laterAccepted'>> {
    const [next, ...chain] = put.chain;
    if (next === undefined) return { holders: [], failures: [] };
    const header: PutRequest = { ...put, chain, later: [] };
    try {
      const reply = await this.#options.network.call(next, blockMethods.put, header, {
        timeoutMs: this.#timeoutWithin(deadlineMs),
        signal,
        payload: { lengthBytes: put.lengthBytes, chunks: block.chunks() },
      });
      return parsePutReply(reply.header);
    } catch (error) {
      return { holders: [], failures: [describeFailure(next, error)] };
    }
  }

  /** Puts the later copies on the list on disk. False if that failed: the sender then sees to them. */
  async #remember(pool: PoolId, id: BlockId, later: readonly NodeId[], least: number): Promise<boolean> {
    // As young as the copy here: a collection that has told us and not yet their nodes leaves them alone, too.
    const generation = Math.max(least, this.#generations.current());
    return this.#rememberAll(
      later.filter((node) => node !== this.#options.self).map((node) => ({ node, pool, id, generation })),
    );
  }

  async #rememberAll(entries: readonly HandoffEntry[]): Promise<boolean> {
    try {
      await this.#handoff?.add(entries);
      return true;
    } catch (error) {
      this.#options.log.warn({ error: String(error) }, 'later copies could not be put on the list');
      return false;
    }
  }

  async #push(request: IncomingRequest): Promise<HandlerReply> {
    const push = parsePush(request.header);
    const pool = this.#checkPlacement(push.pool, push.placementEpoch);
    if (this.#engine.has(push.pool, push.id) === undefined) throw this.#missing(push.pool, push.id);
    if (push.mode === 'later') {
      const laterAccepted = await this.#remember(push.pool, push.id, push.to, push.minGeneration);
      for (const node of push.to) this.#handoff?.notify(node);
      return { header: { holders: [], failures: [], laterAccepted } satisfies PutReply };
    }
    const timeoutMs = this.#timeoutWithin(request.deadlineMs);
    const replies = await Promise.all(
      push.to.map((node) =>
        this.#sendCopy(node, pool, push.id, push.minGeneration, timeoutMs).then(
          (reply) => reply,
          (error: unknown) => ({ holders: [], failures: [describeFailure(node, error)] }),
        ),
      ),
    );
    const header: PutReply = {
      holders: replies.flatMap((reply) => reply.holders),
      failures: replies.flatMap((reply) => reply.failures),
      laterAccepted: false,
    };
    return { header };
  }

  /** Sends our copy of the block to one node. BlockNotFoundError if there is none. */
  async #sendCopy(node: NodeId, pool: Pool, id: BlockId, minGeneration: number, timeoutMs: number): Promise<PutReply> {
    const giveBack = await this.#sendBudget.take(this.#engine.has(pool.id, id) ?? 0, this.#closing.signal);
    try {
      const run = await this.#engine.read(pool.id, id, 0, BLOCK_MAX_BYTES / PAGE_BYTES, false);
      if (run === undefined) throw this.#missing(pool.id, id);
      try {
        const header: PutRequest = {
          pool: pool.id,
          id,
          lengthBytes: run.blockBytes,
          placementEpoch: pool.placementEpoch,
          minGeneration,
          chain: [],
          later: [],
          background: true,
        };
        const options = { timeoutMs, signal: this.#closing.signal, payload: [run.data] };
        const reply = await this.#options.network.call(node, blockMethods.put, header, options);
        return parsePutReply(reply.header);
      } finally {
        run.release();
      }
    } catch (error) {
      if (error instanceof CorruptionError) this.#healer.suspect(pool.id, id);
      throw error;
    } finally {
      giveBack();
    }
  }

  /** One entry of the list of later copies. Never rejects. */
  async #pushLater(entry: HandoffEntry, isRetry: boolean): Promise<PushOutcome> {
    const { pool: poolId, id, node } = entry;
    const catalog = this.#options.catalog.current();
    const pool = findPool(catalog, poolId);
    // Gone for good, or about to go (repair sees to what is then short of copies).
    if (pool === undefined || !activeNodes(catalog).some((known) => known.id === node)) return 'done';
    if (this.#generations.isWriting(poolId, id)) return 'later';
    // Full, as it last said: no need to send a block to hear it again.
    const { news } = this.#options.network.peer(node);
    if ((news?.fullPermille ?? 0) > NODE_FULL_FRACTION * 1000) return 'targetUnavailable';
    if (this.#engine.has(poolId, id) === undefined) return 'done';
    try {
      if (isRetry && (await this.#renewAt(entry))) return 'done';
      const reply = await this.#sendCopy(node, pool, id, entry.generation, LATER_PUSH_TIMEOUT_MS);
      return reply.holders.length > 0 ? 'done' : 'targetUnavailable';
    } catch (error) {
      if (error instanceof BlockNotFoundError) return 'done';
      if (error instanceof CorruptionError || error instanceof StaleEpochError) return 'later';
      return 'targetUnavailable';
    }
  }

  /** True if the node has the block already: then it is renewed there and need not be sent. */
  async #renewAt({ node, pool, id, generation }: HandoffEntry): Promise<boolean> {
    const options = { timeoutMs: ATTEMPT_TIMEOUT_MS, signal: this.#closing.signal };
    const header = { pool, ids: [id], minGeneration: generation };
    const reply = await this.#options.network.call(node, blockMethods.renew, header, options);
    const present = (reply.header as { readonly present?: unknown } | null)?.present;
    return Array.isArray(present) && present[0] === true;
  }

  async #renew(request: IncomingRequest): Promise<HandlerReply> {
    const { pool, ids, minGeneration } = parseRenew(request.header);
    let least = Number.MAX_SAFE_INTEGER;
    const present = await Promise.all(
      ids.map(async (id) => {
        const { result, generation } = await this.#generations.write(pool, id, minGeneration, (stamp) =>
          this.#engine.renew(pool, id, stamp),
        );
        least = Math.min(least, generation);
        return result;
      }),
    );
    const generation = ids.length === 0 ? Math.max(minGeneration, this.#generations.current()) : least;
    return { header: { present, generation, settledEpoch: this.#settledEpochOf(pool) } };
  }

  // Reading

  async #get(request: IncomingRequest): Promise<HandlerReply> {
    const get = parseGet(request.header);
    const { pool, id, firstPage, pageCount, wantHashes } = get;
    const blockBytes = this.#engine.has(pool, id);
    if (blockBytes === undefined) throw this.#missing(pool, id);
    const answer = this.#shareAnswer(get, request.remote.address);
    if (answer !== undefined && answer.peers.length > 0) {
      const header: GetReply = { blockBytes, firstPage: 0, hashBytes: 0, ...answer };
      return { header };
    }
    const load = ++this.#getCount;
    let giveBack: (() => void) | undefined;
    const ended = () => {
      this.#getCount--;
      giveBack?.();
    };
    try {
      const bytes = Math.max(0, Math.min(pageCount * PAGE_BYTES, blockBytes - firstPage * PAGE_BYTES));
      giveBack = await this.#sendBudget.take(bytes, request.signal);
      const run = await this.#engine.read(pool, id, firstPage, pageCount, wantHashes);
      if (run === undefined) throw this.#missing(pool, id);
      const hashBytes = run.pageHashes.length;
      const header: GetReply = { blockBytes: run.blockBytes, firstPage, hashBytes, load, ...answer };
      return {
        header,
        payload: hashBytes > 0 ? [run.pageHashes, run.data] : [run.data],
        release: () => {
          ended();
          run.release();
        },
      };
    } catch (error) {
      ended();
      if (error instanceof CorruptionError) this.#healer.suspect(pool, id);
      throw error;
    }
  }

  /** For a reader that shares: whom it shall ask, if anybody, and how many have its block. */
  #shareAnswer({ pool, id, share }: GetRequest, reader: Address): ReaderAnswer | undefined {
    if (share === undefined) return undefined;
    const underWay = this.#getCount;
    const ask = { key: `${pool}:${blockIdToHex(id)}`, reader, ...share, underWay };
    return this.#readers.ask(ask, this.#options.env.clock.monotonicMs());
  }

  #where(request: IncomingRequest): HandlerReply {
    this.#foreground.touch();
    const { pool, id, wantedBytes } = parseWhere(request.header);
    const place = this.#placeOf(pool, id, wantedBytes);
    if (place === undefined) throw this.#missing(pool, id);
    return { header: place };
  }

  #places(request: IncomingRequest): HandlerReply {
    this.#foreground.touch();
    const { pool, ids } = parseIds(request.header);
    return { header: placesReply(ids.map((id) => this.#placeOf(pool, id, 0))) };
  }

  #placeOf(pool: PoolId, id: BlockId, wantedBytes: number): BlockPlace | undefined {
    if (this.#engine.whereIs === undefined) throw new UnavailableError(`${this.#options.self} has no pack files`);
    return this.#engine.whereIs(pool, id, wantedBytes);
  }

  /** Absent, or set aside as damaged: a reader must be able to tell lost data from damaged data. */
  #missing(pool: PoolId, id: BlockId): Error {
    const damaged = this.#engine.usage().damaged.some((one) => one.pool === pool && Buffer.compare(one.id, id) === 0);
    const name = `block ${blockIdToHex(id)}`;
    return damaged
      ? new CorruptionError(`${name} on ${this.#options.self} is damaged`)
      : new BlockNotFoundError(`${name} is not on ${this.#options.self}`);
  }

  // Upkeep

  async #delete(request: IncomingRequest): Promise<HandlerReply> {
    const { pool, ids } = parseIds(request.header);
    if (this.#pool(pool).kind !== 'library') {
      throw new FsError('EPERM', `pool ${pool} belongs to a filesystem: only garbage collection deletes its blocks`);
    }
    const deleted = await Promise.all(ids.map((id) => this.#engine.delete(pool, id)));
    return { header: { deleted } };
  }

  async #list(request: IncomingRequest, withDamaged: boolean): Promise<HandlerReply> {
    const { pool, cursor, limit, belowGeneration } = parseList(request.header);
    const page = await this.#lists.page(
      cursor,
      limit,
      () => this.#engine.list(pool, { withDamaged }),
      (block) => block.generation < belowGeneration,
    );
    const items = page.items.map((block) => [block.id, block.lengthBytes, block.generation] as const);
    return { header: { items, cursor: page.cursor } satisfies ListReply };
  }

  async #sweep(request: IncomingRequest): Promise<HandlerReply> {
    const { pool, ids, generation } = parseSweep(request.header);
    if (this.#pool(pool).kind !== 'filesystem') {
      throw new FsError('EPERM', `pool ${pool} is a library's: garbage collection does not sweep it`);
    }
    // A node that did not raise its generation for this collection may have given receipts below it since the mark.
    if (this.#generations.current() < generation) {
      throw new UnavailableError(`${this.#options.self} takes no part in collection ${generation}`, {
        remedy: 'Run the collection again.',
      });
    }
    return { header: { deletedCount: await this.#generations.sweep(pool, ids, generation) } };
  }

  async #scrub(request: IncomingRequest): Promise<HandlerReply> {
    const scrubber = this.#scrubber;
    if (scrubber === undefined) throw new UnavailableError(`the store of ${this.#options.self} cannot be scrubbed`);
    const asked = parseScrub(request.header);
    let pass: number | null = null;
    if (asked.action === 'start') {
      if (asked.pool !== null) this.#pool(asked.pool);
      pass = await scrubber.start(asked.pool);
    } else if (asked.action === 'configure') await scrubber.configure(asked.settings);
    return { header: { pass, report: scrubber.report() } };
  }

  #usage(): Readonly<Record<string, unknown>> {
    const { damaged, ...usage } = this.#engine.usage();
    return {
      ...usage,
      damagedCount: damaged.length,
      pendingCopies: this.pendingCopies(),
      gcGeneration: this.gcGeneration(),
    };
  }

  // Checks

  #pool(id: PoolId): Pool {
    const catalog = this.#options.catalog.current();
    const pool = findPool(catalog, id);
    if (pool === undefined) {
      throw new UnavailableError(`pool ${id} is not in the catalog of ${this.#options.self} (epoch ${catalog.epoch})`, {
        remedy: 'Make the pool, or wait until the node has the newer catalog.',
      });
    }
    return pool;
  }

  #checkPlacement(id: PoolId, placementEpoch: number): Pool {
    const pool = this.#pool(id);
    if (placementEpoch < pool.placementEpoch) {
      throw new StaleEpochError(
        `placement of pool ${id} has changed in epoch ${pool.placementEpoch}, this put is from ${placementEpoch}`,
        { info: { epoch: pool.placementEpoch } },
      );
    }
    return pool;
  }

  #receiveBudget(depth: number): ByteBudget {
    let budget = this.#receiveBudgets.get(depth);
    if (budget === undefined) this.#receiveBudgets.set(depth, (budget = new ByteBudget(RECEIVE_BUDGET_BYTES)));
    return budget;
  }

  #timeoutWithin(deadlineMs: number): number {
    return Math.max(1, (deadlineMs - this.#options.env.clock.monotonicMs()) * (1 - FORWARD_MARGIN));
  }
}
