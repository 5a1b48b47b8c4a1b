/**
 * A set of block names in little memory: 64 bits of each, in flat arrays. Ids are hashes, so two of millions of blocks
 * share 64 bits with a chance below one in a million; then a block counts as in the set that is not.
 */
import type { BlockId, PoolId } from '../ids.ts';

const FIRST_CAPACITY = 1024;
/** Beyond it, chains get long. */
const LOAD_MAX = 0.6;

export class FingerprintSet {
  #low = new Uint32Array(FIRST_CAPACITY);
  #high = new Uint32Array(FIRST_CAPACITY);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(pool: PoolId, id: BlockId): void {
    if ((this.#count + 1) / this.#low.length > LOAD_MAX) this.#grow();
    const [low, high] = fingerprint(pool, id);
    if (this.#insert(low, high)) this.#count++;
  }

  has(pool: PoolId, id: BlockId): boolean {
    const [low, high] = fingerprint(pool, id);
    const at = this.#slot(low, high);
    return this.#low[at] === low && this.#high[at] === high;
  }

  /** Where it is, or where it would be. */
  #slot(low: number, high: number): number {
    const mask = this.#low.length - 1;
    let at = (low ^ high) & mask;
    while ((this.#low[at] !== 0 || this.#high[at] !== 0) && (this.#low[at] !== low || this.#high[at] !== high)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  #insert(low: number, high: number): boolean {
    const at = this.#slot(low, high);
    if (this.#low[at] === low && this.#high[at] === high) return false;
    this.#low[at] = low;
    this.#high[at] = high;
    return true;
  }

  #grow(): void {
    const [low, high] = [this.#low, this.#high];
    this.#low = new Uint32Array(low.length * 2);
    this.#high = new Uint32Array(low.length * 2);
    for (const [index, part] of low.entries()) {
      const other = high[index] as number;
      if (part !== 0 || other !== 0) this.#insert(part, other);
    }
  }
}

/** Never both zero: that is an empty place. */
function fingerprint(pool: PoolId, id: BlockId): [number, number] {
  const view = new DataView(id.buffer, id.byteOffset);
  const low = (view.getUint32(0) ^ pool) >>> 0;
  const high = view.getUint32(4);
  return [low === 0 && high === 0 ? 1 : low, high];
}
