/**
 * Chance from a seed: xoshiro128** (Blackman, Vigna), seeded by splitmix32. Not for secrets.
 */
import type { Random } from '../../src/env.ts';
import { StateError } from '../../src/errors.ts';

const TWO_TO_32 = 2 ** 32;

export class SimRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed | 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return z ^ (z >>> 15);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    // All zeros would stay zero for ever.
    this.#d = next() | 1;
  }

  /** A stream of its own for a part of the world: what one part draws does not change what another gets. */
  fork(label: string): SimRandom {
    let hash = 0x811c9dc5;
    for (let index = 0; index < label.length; index++) hash = Math.imul(hash ^ label.charCodeAt(index), 0x01000193);
    return new SimRandom(hash ^ this.uint32());
  }

  uint32(): number {
    const product = Math.imul(this.#b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9);
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result >>> 0;
  }

  below(bound: number): number {
    if (!(Number.isInteger(bound) && bound > 0 && bound <= TWO_TO_32)) throw new StateError(`below(${bound})`);
    // Numbers past the last whole multiple of bound are drawn again, so that none is favoured.
    const fair = TWO_TO_32 - (TWO_TO_32 % bound);
    for (;;) {
      const drawn = this.uint32();
      if (drawn < fair) return drawn % bound;
    }
  }

  /** Uniform, 0 <= x < 1. */
  fraction(): number {
    return this.uint32() / TWO_TO_32;
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return probability > 0 && this.fraction() < probability;
  }

  /** Uniform between two numbers. */
  between(low: number, high: number): number {
    return low + this.fraction() * (high - low);
  }

  bytes(length: number): Uint8Array {
    // Words in the order of this machine's bytes, as all that Node 20 runs on are little endian.
    const words = new Uint32Array((length + 3) >> 2);
    for (let index = 0; index < words.length; index++) words[index] = this.uint32();
    return new Uint8Array(words.buffer, 0, length);
  }
}
