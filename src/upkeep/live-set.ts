/**
 * Which blocks are in use: a set of (pool, block id) that never says "not in it" of one that is. For garbage collection,
 * which holds all of a cluster's blocks in it: 16 to 32 bytes each, as 64 bits of the id stand for the id. Where two ids
 * agree in these, the dead one of them is kept for good; with a thousand million blocks that is likely to happen once.
 */
import type { BlockId, PoolId } from '../ids.ts';

const FIRST_SLOTS = 1 << 10;
/** Beyond that part of the slots in use, finding one takes long. */
const LOAD_MAX = 0.6;
/** An empty slot. */
const NOTHING = 0n;

export class LiveSet {
  /** Open addressing with linear probing; a power of two of slots. */
  #slots = new BigUint64Array(FIRST_SLOTS);
  #size = 0;

  /** Blocks in it: those that agree in their 64 bits count once. */
  get size(): number {
    return this.#size;
  }

  add(pool: PoolId, id: BlockId): void {
    if (this.#put(keyOf(pool, id))) {
      this.#size++;
      if (this.#size > this.#slots.length * LOAD_MAX) this.#grow();
    }
  }

  has(pool: PoolId, id: BlockId): boolean {
    const key = keyOf(pool, id);
    return this.#slots[this.#find(key)] === key;
  }

  #put(key: bigint): boolean {
    const at = this.#find(key);
    if (this.#slots[at] === key) return false;
    this.#slots[at] = key;
    return true;
  }

  /** Where the key is, or the empty slot where it would be. */
  #find(key: bigint): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    // Ids are hashes: any of their bits are as good as random.
    let at = Number(key & 0xffff_ffffn) & mask;
    while (slots[at] !== NOTHING && slots[at] !== key) at = (at + 1) & mask;
    return at;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new BigUint64Array(2 * old.length);
    for (const key of old) if (key !== NOTHING) this.#put(key);
  }
}

function keyOf(pool: PoolId, id: BlockId): bigint {
  const view = new DataView(id.buffer, id.byteOffset, id.byteLength);
  // The pool stirs all bits: equal bytes in two pools are two blocks.
  const key = view.getBigUint64(0) ^ BigInt.asUintN(64, BigInt(pool) * 0x9e37_79b9_7f4a_7c15n);
  return key === NOTHING ? 1n : key;
}
