/**
 * The readers of one block, as a holder knows them. Whoever is to be chosen is chosen from a sample: with a thousand readers,
 * the best of 32 is as good as the best of all, and a holder has many to answer. Pure.
 */
import type { Address } from '../env.ts';

export interface Reader {
  readonly address: Address;
  /** Whom it was sent to for the block: it may still wait for one of them. */
  readonly parents: readonly Address[];
  /** Steps from the holder. */
  readonly depth: number;
  readonly sinceMs: number;
  /** The bytes that it had read then. */
  readonly atBytes: number;
}

/** Up to so many are looked at for one answer. */
const SAMPLE_COUNT = 32;

export class ReaderList {
  /** In no order. Invariant: #at has the place of each, by address. */
  readonly #readers: Reader[] = [];
  readonly #at = new Map<Address, number>();
  /** Where the next sample begins. */
  #cursor = 0;

  get count(): number {
    return this.#readers.length;
  }

  has(address: Address): boolean {
    return this.#at.has(address);
  }

  put(reader: Reader): void {
    const at = this.#at.get(reader.address) ?? this.#readers.length;
    this.#readers[at] = reader;
    this.#at.set(reader.address, at);
  }

  delete(address: Address): void {
    const at = this.#at.get(address);
    const last = this.#readers.pop();
    if (at === undefined || last === undefined) {
      if (last !== undefined) this.#readers.push(last);
      return;
    }
    this.#at.delete(address);
    if (last.address === address) return;
    this.#readers[at] = last;
    this.#at.set(last.address, at);
  }

  /** All of a short list; of a longer one others each time. */
  sample(): Reader[] {
    const { length } = this.#readers;
    if (length <= SAMPLE_COUNT) return [...this.#readers];
    const sample: Reader[] = [];
    for (let i = 0; i < SAMPLE_COUNT; i++) {
      const reader = this.#readers[(this.#cursor + Math.floor((i * length) / SAMPLE_COUNT)) % length];
      if (reader !== undefined) sample.push(reader);
    }
    this.#cursor = (this.#cursor + 1) % length;
    return sample;
  }

  /** The reader, and all that have been waiting since `fromMs` and may wait for it, directly or by way of others. */
  waitingFor(address: Address, fromMs: number): Set<Address> {
    const waiting = new Set([address]);
    // Nobody was sent to who is not here.
    if (!this.#at.has(address)) return waiting;
    const sent = this.#readers.filter(({ parents, sinceMs }) => parents.length > 0 && sinceMs > fromMs);
    for (let before = 0; before < waiting.size;) {
      before = waiting.size;
      for (const { address: one, parents } of sent) if (parents.some((parent) => waiting.has(parent))) waiting.add(one);
    }
    return waiting;
  }
}
