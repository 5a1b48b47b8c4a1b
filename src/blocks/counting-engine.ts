/** A BlockEngine that counts the bytes going through it, for the throughput that `tatami status` shows. */
import type { BlockId, PoolId } from '../ids.ts';
import type { BlockEngine, CompactOptions } from './types.ts';

export class CountingEngine implements BlockEngine {
  /** Bytes given out by read, and taken in by put, since the start. */
  readBytes = 0;
  writtenBytes = 0;
  readonly stampOf?: NonNullable<BlockEngine['stampOf']>;
  readonly whereIs?: NonNullable<BlockEngine['whereIs']>;
  readonly salvage?: NonNullable<BlockEngine['salvage']>;
  readonly #engine: BlockEngine;

  constructor(engine: BlockEngine) {
    this.#engine = engine;
    if (engine.stampOf !== undefined) this.stampOf = engine.stampOf.bind(engine);
    if (engine.whereIs !== undefined) this.whereIs = (...asked) => this.#whereIs(...asked);
    if (engine.salvage !== undefined) this.salvage = engine.salvage.bind(engine);
  }

  put(pool: PoolId, id: BlockId, pageHashes: Uint8Array, data: Uint8Array, generation: number) {
    this.writtenBytes += data.length;
    return this.#engine.put(pool, id, pageHashes, data, generation);
  }

  async read(pool: PoolId, id: BlockId, firstPage: number, pageCount: number, wantHashes: boolean) {
    const run = await this.#engine.read(pool, id, firstPage, pageCount, wantHashes);
    if (run !== undefined) this.readBytes += run.data.length;
    return run;
  }

  /** Whoever asks reads past this node: it counts as read here. */
  #whereIs(pool: PoolId, id: BlockId, wantedBytes: number) {
    const place = this.#engine.whereIs?.(pool, id, wantedBytes);
    if (place !== undefined) this.readBytes += Math.min(wantedBytes, place.lengthBytes);
    return place;
  }

  has(pool: PoolId, id: BlockId) {
    return this.#engine.has(pool, id);
  }
  renew(pool: PoolId, id: BlockId, generation: number) {
    return this.#engine.renew(pool, id, generation);
  }
  delete(pool: PoolId, id: BlockId) {
    return this.#engine.delete(pool, id);
  }
  list(pool: PoolId, options?: { readonly withDamaged?: boolean }) {
    return this.#engine.list(pool, options);
  }
  markDamaged(pool: PoolId, id: BlockId) {
    return this.#engine.markDamaged(pool, id);
  }
  usage() {
    return this.#engine.usage();
  }
  compact(options?: CompactOptions) {
    return this.#engine.compact(options);
  }
  close() {
    return this.#engine.close();
  }
}
