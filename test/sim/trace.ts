/** What happened in a world: the latest of it as lines, all of it as a number. */

const KEPT = 2_000;
const PRIME_A = 0x01000193;
const PRIME_B = 0x85ebca6b;

export class Trace {
  // Rings: of each event its time, label and size, and no text until somebody asks.
  readonly #times = new Float64Array(KEPT);
  readonly #labels: string[] = [];
  /** NaN: a note. */
  readonly #sizes = new Float64Array(KEPT);
  #count = 0;
  readonly #timeBits = new Float64Array(1);
  readonly #timeWords = new Uint32Array(this.#timeBits.buffer);
  /** Hashes of labels, of which there are few. */
  readonly #hashes = new Map<string, number>();
  #a = 0x811c9dc5;
  #b = 0x9e3779b9;

  event(atMs: number, label: string, size: number): void {
    let hash = this.#hashes.get(label);
    if (hash === undefined) {
      hash = hashOf(label);
      this.#hashes.set(label, hash);
    }
    this.#add(atMs, label, size, hash ^ size);
  }

  note(atMs: number, text: string): void {
    this.#add(atMs, text, NaN, hashOf(text));
  }

  /** Of everything that happened so far. */
  get digest(): string {
    return [this.#a, this.#b].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  /** The latest events, oldest first. */
  lines(): string[] {
    const lines: string[] = [];
    for (let at = Math.max(0, this.#count - KEPT); at < this.#count; at++) {
      const index = at % KEPT;
      const size = this.#sizes[index]!;
      const label = this.#labels[index]!;
      lines.push(`${this.#times[index]!.toFixed(6)} ${label}${Number.isNaN(size) ? '' : ` ${size}`}`);
    }
    return lines;
  }

  #add(atMs: number, label: string, size: number, hash: number): void {
    const index = this.#count++ % KEPT;
    this.#times[index] = atMs;
    this.#labels[index] = label;
    this.#sizes[index] = size;
    this.#timeBits[0] = atMs;
    this.#mix(this.#timeWords[0]!);
    this.#mix(this.#timeWords[1]!);
    this.#mix(hash);
  }

  #mix(word: number): void {
    this.#a = Math.imul(this.#a ^ word, PRIME_A);
    this.#a ^= this.#a >>> 15;
    this.#b = Math.imul(this.#b + word, PRIME_B);
    this.#b ^= this.#b >>> 13;
  }
}

function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), PRIME_A);
  return hash;
}
