/** BlockStore over one library pool of a BlockEngine: what MemoryStore and PackStore share. */
import { BlockNotFoundError, CorruptionError, StateError } from '../errors.ts';
import { BLOCK_ID_BYTES, blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES, PAGE_BYTES } from '../limits.ts';
import { checkBytes, gather, type BlockSource } from './block-source.ts';
import { hashBlock, PAGES_PER_BLOCK_MAX, pageCountOf, verifyPages } from './identity.ts';
import { checkSignal, concurrencyOf, eachOf, inOrder, type Source } from './many.ts';
import type { BlockEngine, BlockInfo, BlockStore, GetOptions, ManyOptions, WriteOptions } from './types.ts';

/** Bytes that putMany has under way before it waits: enough that each disk sync covers many blocks. */
const PUT_MANY_BYTES = 8 * BLOCK_MAX_BYTES;
/** And blocks, for small ones. */
const PUT_MANY_BLOCKS = 1024;
/** Blocks that getMany reads ahead of who consumes them: the disk is kept busy, at most 32 MiB wait. */
const GET_MANY_BLOCKS = 8;
/** Deletes under way at once: they are small, and share syncs as puts do. */
const DELETE_MANY_BLOCKS = 1024;

/** A library's pool is never swept, so its blocks need no collection stamp. */
const GENERATION = 0;

export class EngineStore implements BlockStore {
  /** @internal */
  protected readonly engine: BlockEngine;
  private readonly pool: PoolId;

  constructor(engine: BlockEngine, pool: PoolId) {
    this.engine = engine;
    this.pool = pool;
  }

  async put(data: BlockSource, options: WriteOptions = {}): Promise<BlockId> {
    checkSignal(options.signal);
    const bytes = data instanceof Uint8Array ? data : await gather(data, options.signal);
    const { id, pageHashes } = hashBlock(bytes);
    await this.engine.put(this.pool, id, pageHashes, bytes, GENERATION);
    return id;
  }

  async putMany(blocks: Source<Uint8Array>, options: ManyOptions = {}): Promise<BlockId[]> {
    checkSignal(options.signal);
    const ids: BlockId[] = [];
    const bounds = {
      maxCount: concurrencyOf(options.concurrency, PUT_MANY_BLOCKS),
      maxBytes: PUT_MANY_BYTES,
      bytesOf: (data: Uint8Array) => data.length,
      signal: options.signal,
    };
    await eachOf(blocks, bounds, async (data, index) => {
      checkBytes(data);
      const { id, pageHashes } = hashBlock(data);
      ids[index] = id;
      await this.engine.put(this.pool, id, pageHashes, data, GENERATION);
    });
    return ids;
  }

  async get(id: BlockId, options: GetOptions = {}): Promise<Uint8Array> {
    checkSignal(options.signal);
    checkId(id);
    const offset = options.offset ?? 0;
    const length = options.length ?? BLOCK_MAX_BYTES;
    if (!Number.isSafeInteger(offset) || offset < 0) throw new StateError(`not an offset: ${offset}`);
    if (!Number.isSafeInteger(length) || length < 0) throw new StateError(`not a length: ${length}`);
    const whole = offset === 0 && length >= BLOCK_MAX_BYTES;
    const firstPage = Math.min(Math.floor(offset / PAGE_BYTES), PAGES_PER_BLOCK_MAX);
    const pageCount = Math.max(0, pageCountOf(Math.min(offset + length, BLOCK_MAX_BYTES)) - firstPage);
    const run = await this.engine.read(this.pool, id, firstPage, pageCount, true, whole);
    if (run === undefined) throw this.missing(id);
    try {
      verifyPages(id, run.blockBytes, run.pageHashes, firstPage, run.data);
      const from = offset - firstPage * PAGE_BYTES;
      const wantedBytes = Math.max(0, Math.min(offset + length, run.blockBytes) - offset);
      const bytes = run.data.subarray(from, from + wantedBytes);
      if (bytes.length !== wantedBytes)
        throw new CorruptionError(`block ${blockIdToHex(id)}: shorter than it should be`);
      // A copy, whatever kind of array the engine gave, where its memory is used again after release.
      return run.isOwn === true ? bytes : new Uint8Array(bytes);
    } catch (error) {
      if (error instanceof CorruptionError) await this.engine.markDamaged(this.pool, id);
      throw error;
    } finally {
      run.release();
    }
  }

  async *getMany(ids: Source<BlockId>, options: ManyOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const { signal, concurrency } = options;
    const bounds = { maxCount: concurrencyOf(concurrency, GET_MANY_BLOCKS), signal };
    yield* inOrder(ids, bounds, (id, gaveUp) => this.get(id, { signal: gaveUp }));
  }

  async deleteMany(ids: Source<BlockId>, options: ManyOptions = {}): Promise<number> {
    checkSignal(options.signal);
    let existed = 0;
    const bounds = { maxCount: concurrencyOf(options.concurrency, DELETE_MANY_BLOCKS), signal: options.signal };
    await eachOf(ids, bounds, async (id) => {
      if (await this.delete(id)) existed++;
    });
    return existed;
  }

  async has(id: BlockId): Promise<boolean> {
    checkId(id);
    return this.engine.has(this.pool, id) !== undefined;
  }

  async delete(id: BlockId): Promise<boolean> {
    checkId(id);
    return await this.engine.delete(this.pool, id);
  }

  async *list(): AsyncIterable<BlockInfo> {
    for await (const { id, lengthBytes } of this.engine.list(this.pool)) yield { id, lengthBytes };
  }

  async close(): Promise<void> {
    await this.engine.close();
  }

  private missing(id: BlockId): Error {
    const damaged = this.engine
      .usage()
      .damaged.some((one) => one.pool === this.pool && Buffer.compare(one.id, id) === 0);
    if (damaged) {
      return new CorruptionError(`block ${blockIdToHex(id)} is damaged on disk`, {
        remedy: 'Put the same bytes again: that heals it.',
      });
    }
    return new BlockNotFoundError(`no block ${blockIdToHex(id)} in this store`);
  }
}

function checkId(id: BlockId): void {
  if (!(id instanceof Uint8Array) || id.length !== BLOCK_ID_BYTES)
    throw new StateError(`a block id has ${BLOCK_ID_BYTES} bytes`);
}
