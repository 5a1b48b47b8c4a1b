/**
 * A node's garbage-collection generation and the rule that keeps a sweep from racing with a put
 * (docs/decisions/0003-gc-generations.md). Every put and renewal is stamped with at least the generation at that
 * moment; a sweep takes only what is stamped below its own generation. Both hold a block's name while they work.
 */
import { FormatError } from '../errors.ts';
import { blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import type { Kv } from '../env.ts';
import type { BlockEngine } from './types.ts';

const KEY = Uint8Array.of(0x67);
const VALUE_VERSION = 1;

export class Generations {
  readonly #kv: Kv;
  readonly #engine: BlockEngine;
  /** Invariant: durable in the Kv before it is seen here. */
  #current: number;
  #lastRaise: Promise<void> = Promise.resolve();
  /** Puts and renewals under way, by block. */
  readonly #writing = new Map<string, number>();
  /** Blocks being swept, with what a put has to wait for. */
  readonly #sweeping = new Map<string, Promise<void>>();

  constructor(kv: Kv, engine: BlockEngine) {
    this.#kv = kv;
    this.#engine = engine;
    const value = kv.get(KEY);
    if (value === undefined) this.#current = 0;
    else if (value[0] !== VALUE_VERSION || value.length !== 9) {
      throw new FormatError(`the collection generation is of format ${value[0]}, this program reads ${VALUE_VERSION}`, {
        remedy: 'Use the newer version of tatamifs that wrote it.',
      });
    } else this.#current = new DataView(value.buffer, value.byteOffset, value.byteLength).getFloat64(1);
  }

  current(): number {
    return this.#current;
  }

  /** Never lowers. Durable on return. */
  raise(generation: number): Promise<void> {
    const raised = this.#lastRaise.then(async () => {
      if (generation <= this.#current) return;
      const value = new Uint8Array(9);
      value[0] = VALUE_VERSION;
      new DataView(value.buffer).setFloat64(1, generation);
      await this.#kv.batch([{ key: KEY, value }], { sync: true });
      this.#current = generation;
    });
    this.#lastRaise = raised.catch(() => undefined);
    return raised;
  }

  /** Is a put or renewal of the block under way? */
  isWriting(pool: PoolId, id: BlockId): boolean {
    return this.#writing.has(keyOf(pool, id));
  }

  /**
   * Runs a put or renewal with the stamp it must give, safe from sweeps. Resolves with the stamp: what is on disk then
   * has at least that.
   */
  async write<T>(
    pool: PoolId,
    id: BlockId,
    minGeneration: number,
    work: (generation: number) => Promise<T>,
  ): Promise<{ readonly result: T; readonly generation: number }> {
    const key = keyOf(pool, id);
    // Before the wait: what is about to be written must not be taken for what is gone.
    this.#writing.set(key, (this.#writing.get(key) ?? 0) + 1);
    try {
      for (let sweep = this.#sweeping.get(key); sweep !== undefined; sweep = this.#sweeping.get(key)) await sweep;
      const generation = Math.max(this.#current, minGeneration);
      return { result: await work(generation), generation };
    } finally {
      const left = (this.#writing.get(key) ?? 1) - 1;
      if (left === 0) this.#writing.delete(key);
      else this.#writing.set(key, left);
    }
  }

  /**
   * Deletes those of the blocks that are still stamped below `generation`; one that is being put or renewed is left.
   * Resolves with how many it deleted.
   */
  async sweep(pool: PoolId, ids: readonly BlockId[], generation: number): Promise<number> {
    const held = new Map<string, BlockId>();
    for (const id of ids) {
      const key = keyOf(pool, id);
      if (!this.#writing.has(key) && !this.#sweeping.has(key)) held.set(key, id);
    }
    let resolve = (): void => undefined;
    const promise = new Promise<void>((done) => (resolve = done));
    for (const key of held.keys()) this.#sweeping.set(key, promise);
    try {
      const old = await this.#stampedBelow(pool, held, generation);
      const deleted = await Promise.all(old.map((id) => this.#engine.delete(pool, id)));
      return deleted.filter(Boolean).length;
    } finally {
      for (const key of held.keys()) this.#sweeping.delete(key);
      resolve();
    }
  }

  async #stampedBelow(pool: PoolId, held: ReadonlyMap<string, BlockId>, generation: number): Promise<BlockId[]> {
    const old: BlockId[] = [];
    if (this.#engine.stampOf !== undefined) {
      for (const id of held.values()) {
        const stamp = this.#engine.stampOf(pool, id);
        if (stamp !== undefined && stamp < generation) old.push(id);
      }
      return old;
    }
    for await (const block of this.#engine.list(pool)) {
      const id = held.get(keyOf(pool, block.id));
      if (id !== undefined && block.generation < generation) old.push(id);
    }
    return old;
  }
}

function keyOf(pool: PoolId, id: BlockId): string {
  return `${pool}/${blockIdToHex(id)}`;
}
