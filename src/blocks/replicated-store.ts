/**
 * A library's block store spread over the nodes of a cluster: put returns when the block is on disk on two of them, get
 * reads it verified from any.
 */
import type { CancelSignal } from '../cancel.ts';
import { locateCluster, type ClusterLocation } from '../cluster-location.ts';
import { FsError, StateError, UnavailableError, UsageError } from '../errors.ts';
import { BLOCK_ID_BYTES, blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, BLOCK_MAX_BYTES, OP_TIMEOUT_MAX_MS, OP_TIMEOUT_MIN_MS } from '../limits.ts';
import { blockMethods, IDS_PER_MESSAGE_MAX, parseListReply, type ListReply } from './block-messages.ts';
import { findPool, placementOf } from '../catalog/placement.ts';
import { dataNodes } from '../catalog/document.ts';
import type { Catalog, CatalogService, Pool } from '../catalog/types.ts';
import type { Logger } from '../log.ts';
import type { Network } from '../net/types.ts';
import type { ClusterBlockClient } from './block-client.ts';
import type { BlockConnection } from './block-connection.ts';
import { checkBytes, gather, type BlockSource } from './block-source.ts';
import { checkSignal, concurrencyOf, eachOf, inBatches, inOrder, type Source } from './many.ts';
import type { BlockInfo, BlockStore, GetOptions, ManyOptions, WriteOptions } from './types.ts';

/** Blocks that putMany and getMany have under way; the client below bounds what is on the wire. */
const MANY_AT_ONCE = 16;
/** A node answers when all deletes of a message are durable: enough that they share a sync, well within its deadline. */
const DELETES_PER_MESSAGE = 1024;
const DELETE_MESSAGES_AT_ONCE = 2;

/** Where the cluster is, and how this program is shown there. */
export type ReplicatedConnectOptions = ClusterLocation & {
  /** What `tatami status` shows for this program, beside its host and pid. Default: `block store`. */
  readonly label?: string;
  /** Where the connection reports what no caller can be told. Default: nowhere. */
  readonly log?: Logger;
  /**
   * How long one operation waits for nodes that do not answer, in milliseconds, before it fails with UnavailableError.
   * Default: 30,000.
   */
  readonly timeoutMs?: number;
};

/**
 * The parts of a store within a process that has a connection already. Programs call {@link ReplicatedStore.connect}.
 *
 * @internal
 */
export interface ReplicatedStoreOptions {
  /** Puts and reads; not closed with the store unless `onClose` does it. */
  readonly client: ClusterBlockClient;
  /** For the questions that go to every node: delete, list. */
  readonly network: Network;
  /** Where blocks are placed. */
  readonly catalog: Pick<CatalogService, 'current'>;
  /** A pool of kind `library`. */
  readonly pool: PoolId;
  /** Called by close(): whoever made client and network for this store alone ends them here. */
  readonly onClose?: () => Promise<void>;
}

/**
 * A {@link BlockStore} spread over the nodes of a cluster, in a pool of its own: `await ReplicatedStore.connect({ data })`.
 *
 * A put resolves when the block is on disk on two nodes (on one where the pool keeps one copy, or the cluster has one
 * node); further copies follow by themselves. Reads are verified here, so that no node needs to be trusted, and go from
 * one copy to the next until one is intact. Calls reject with UnavailableError when too few nodes answer for 30 s.
 */
export class ReplicatedStore implements BlockStore {
  readonly #options: ReplicatedStoreOptions;
  #closed = false;

  /**
   * Connects to a cluster. Close the store when done: until then the connection keeps the process alive.
   *
   * @param options - the cluster; see {@link ClusterLocation}
   * @param pool - name or number of a pool of kind `library`. Default: `library`, which every cluster has.
   * @throws UsageError if there is no such cluster, key or pool, or the pool is a filesystem's; FormatError if a file is
   * damaged or newer; AuthError for a wrong key; UnavailableError when no node answers.
   */
  static async connect(options: ReplicatedConnectOptions, pool: string | number = 'library'): Promise<ReplicatedStore> {
    // Not before it is wanted: the other stores need neither sockets nor the real world.
    const [{ createNodeEnv, processLabel }, { createNodeTransport }, { connectBlocks }] = await Promise.all([
      import('../env-node.ts'),
      import('../net/transport-node.ts'),
      import('./block-connection.ts'),
    ]);
    const { seeds, key } = await locateCluster(createNodeEnv().disk, options);
    const env = createNodeEnv({ transport: createNodeTransport({ tlsKey: key.secret }) });
    const { log, timeoutMs } = options;
    if (timeoutMs !== undefined && !(timeoutMs >= OP_TIMEOUT_MIN_MS && timeoutMs <= OP_TIMEOUT_MAX_MS)) {
      throw new UsageError(`timeoutMs is from ${OP_TIMEOUT_MIN_MS} to ${OP_TIMEOUT_MAX_MS}, not ${timeoutMs}`);
    }
    const connection = await connectBlocks({
      env,
      seeds,
      key,
      label: processLabel(options.label ?? 'block store'),
      ...(log === undefined ? {} : { log }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    return await ReplicatedStore.over(connection, pool);
  }

  /**
   * A store over a connection that it closes with itself, also when there is no such pool.
   *
   * @internal
   */
  static async over(connection: BlockConnection, pool: string | number): Promise<ReplicatedStore> {
    const { client, network, catalog } = connection;
    try {
      const { id } = libraryPool(catalog.current(), pool);
      return new ReplicatedStore({ client, network, catalog, pool: id, onClose: () => connection.close() });
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** @internal */
  constructor(options: ReplicatedStoreOptions) {
    this.#options = options;
  }

  async put(data: BlockSource, options: WriteOptions = {}): Promise<BlockId> {
    this.#checkOpen(options.signal);
    const pool = this.#pool();
    if (pool.kind !== 'library') throw this.#refused();
    const bytes = data instanceof Uint8Array ? data : await gather(data, options.signal);
    const receipt = await this.#options.client.put(pool.id, bytes, options);
    return receipt.id;
  }

  async putMany(blocks: Source<Uint8Array>, options: ManyOptions = {}): Promise<BlockId[]> {
    const { signal } = options;
    this.#checkOpen(signal);
    const ids: BlockId[] = [];
    const bounds = { maxCount: concurrencyOf(options.concurrency, MANY_AT_ONCE), signal };
    await eachOf(blocks, bounds, async (data, index, gaveUp) => {
      checkBytes(data);
      ids[index] = await this.put(data, { signal: gaveUp });
    });
    return ids;
  }

  async get(id: BlockId, options: GetOptions = {}): Promise<Uint8Array> {
    this.#checkOpen(options.signal);
    checkId(id);
    const { client, pool } = this.#options;
    const offset = options.offset ?? 0;
    const length = options.length ?? BLOCK_MAX_BYTES;
    if (!Number.isSafeInteger(offset) || offset < 0) throw new StateError(`not an offset: ${offset}`);
    if (!Number.isSafeInteger(length) || length < 0) throw new StateError(`not a length: ${length}`);
    const signal = options.signal === undefined ? {} : { signal: options.signal };
    if (offset === 0 && length >= BLOCK_MAX_BYTES) return await client.readUnknown(pool, id, signal);
    // A range that is empty still fails for a block that is not there: at least one page is asked for.
    const bytes = await client.readRange(
      pool,
      id,
      undefined,
      Math.min(offset, BLOCK_MAX_BYTES - 1),
      Math.max(1, length),
      signal,
    );
    return offset >= BLOCK_MAX_BYTES || length === 0 ? new Uint8Array(0) : bytes;
  }

  async *getMany(ids: Source<BlockId>, options: ManyOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    this.#checkOpen(options.signal);
    const bounds = { maxCount: concurrencyOf(options.concurrency, MANY_AT_ONCE), signal: options.signal };
    yield* inOrder(ids, bounds, (id, gaveUp) => this.get(id, { signal: gaveUp }));
  }

  /** Asks the nodes. UnavailableError if no node that answers has it and some node does not answer. */
  async has(id: BlockId): Promise<boolean> {
    this.#checkOpen();
    checkId(id);
    const pool = this.#pool();
    const order = placementOf(this.#options.catalog.current(), pool, id);
    const unreachable: NodeId[] = [];
    for (const nodes of [order.slice(0, pool.copies), order.slice(pool.copies)]) {
      const states = await Promise.all(nodes.map((node) => this.#options.client.stateAt(node, pool.id, id)));
      if (states.includes('held')) return true;
      states.forEach((state, index) => {
        const node = nodes[index];
        if (state === 'unreachable' && node !== undefined) unreachable.push(node);
      });
    }
    if (unreachable.length > 0)
      throw new UnavailableError(`block ${blockIdToHex(id)}: not reached: ${unreachable.join(', ')}`);
    return false;
  }

  /**
   * Deletes every copy on the nodes that answer; true if one of them had it. A node that is down keeps its copy, and a
   * third copy that is just on its way arrives: until deletes are remembered, delete again later, or the block can
   * reappear.
   *
   * @throws UnavailableError if no node answers.
   */
  async delete(id: BlockId): Promise<boolean> {
    return (await this.#deleteAll([id])) > 0;
  }

  /**
   * As {@link ReplicatedStore.delete} for each, some thousand with one message to each node: what the source has is
   * gathered first, so a slow source delays the deletes of the ids it gave.
   */
  async deleteMany(ids: Source<BlockId>, options: ManyOptions = {}): Promise<number> {
    this.#checkOpen(options.signal);
    let existed = 0;
    const bounds = { maxCount: concurrencyOf(options.concurrency, DELETE_MESSAGES_AT_ONCE), signal: options.signal };
    await eachOf(inBatches(ids, DELETES_PER_MESSAGE), bounds, async (batch) => {
      existed += await this.#deleteAll(batch);
    });
    return existed;
  }

  /** How many of the blocks were on some node. */
  async #deleteAll(ids: readonly BlockId[]): Promise<number> {
    this.#checkOpen();
    ids.forEach(checkId);
    const pool = this.#pool();
    if (pool.kind !== 'library') throw this.#refused();
    const { network, catalog } = this.#options;
    const nodes = dataNodes(catalog.current());
    const answers = await Promise.allSettled(
      nodes.map((node) =>
        network.call(node.id, blockMethods.delete, { pool: pool.id, ids }, { timeoutMs: ATTEMPT_TIMEOUT_MS }),
      ),
    );
    const replies = answers.filter((answer) => answer.status === 'fulfilled').map(({ value }) => value.header);
    if (replies.length === 0) {
      const [first] = ids;
      const what = first === undefined ? 'blocks' : `block ${blockIdToHex(first)}`;
      throw new UnavailableError(`${what} could not be deleted: no node answers`, {
        remedy: 'Look at "tatami status", and delete again when nodes are back.',
      });
    }
    const deleted = replies.map((header) => (header as { readonly deleted?: unknown } | null)?.deleted);
    return ids.filter((_, index) => deleted.some((list) => Array.isArray(list) && list[index] === true)).length;
  }

  /**
   * Every block that some node has. One absent node is tolerated where the pool keeps two copies or more (each block
   * was put on two nodes); with more absent it ends in UnavailableError, as a list that leaves blocks out would be
   * taken for complete. Remembers the ids it gave: some 100 bytes a block.
   */
  async *list(): AsyncIterable<BlockInfo> {
    this.#checkOpen();
    const { network, catalog, pool } = this.#options;
    const seen = new Set<string>();
    const nodes = dataNodes(catalog.current());
    let absentAllowed = this.#pool().copies > 1 && nodes.length > 1 ? 1 : 0;
    for (const node of nodes) {
      let cursor: string | null = null;
      do {
        const request = { pool, cursor, limit: IDS_PER_MESSAGE_MAX };
        let page: ListReply;
        try {
          const reply = await network.call(node.id, blockMethods.list, request, { timeoutMs: ATTEMPT_TIMEOUT_MS });
          page = parseListReply(reply.header);
        } catch (error) {
          if (absentAllowed-- > 0) break;
          throw new UnavailableError(`blocks cannot be listed: ${node.id} does not answer`, { cause: error });
        }
        for (const [id, lengthBytes] of page.items) {
          const key = Buffer.from(id).toString('latin1');
          if (seen.has(key)) continue;
          seen.add(key);
          yield { id, lengthBytes };
        }
        cursor = page.cursor;
      } while (cursor !== null);
    }
  }

  /** Closes the store and, if it was made by {@link ReplicatedStore.connect}, its connection. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#options.onClose?.();
  }

  #pool(): Pool {
    const catalog = this.#options.catalog.current();
    const pool = findPool(catalog, this.#options.pool);
    if (pool === undefined) {
      throw new UnavailableError(`pool ${this.#options.pool} is not in the catalog (epoch ${catalog.epoch})`);
    }
    return pool;
  }

  #refused(): FsError {
    return new FsError(
      'EPERM',
      `pool ${this.#options.pool} belongs to a filesystem: use a library's pool for a block store`,
    );
  }

  #checkOpen(signal?: CancelSignal): void {
    if (this.#closed) throw new StateError('the store is closed');
    checkSignal(signal);
  }
}

function libraryPool(catalog: Catalog, wanted: string | number): Pool {
  const libraries = catalog.pools.filter((pool) => pool.kind === 'library');
  const pool = catalog.pools.find((other) => other.name === wanted || other.id === wanted);
  if (pool?.kind === 'library') return pool;
  const problem = pool === undefined ? `there is no pool ${wanted}` : `pool ${wanted} belongs to a filesystem`;
  throw new UsageError(problem, {
    remedy: `Use a library's pool (${libraries.map(({ name }) => name).join(', ') || 'this cluster has none'}).`,
  });
}

function checkId(id: BlockId): void {
  if (!(id instanceof Uint8Array) || id.length !== BLOCK_ID_BYTES) {
    throw new StateError(`a block id has ${BLOCK_ID_BYTES} bytes`);
  }
}
