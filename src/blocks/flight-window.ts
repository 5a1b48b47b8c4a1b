/**
 * How many whole blocks to have under way, read or put: twice bandwidth times delay, as TCP's BBR has it. The delay is the least that
 * a block ever took, without the wait behind others; the bandwidth is how many came in lately, however long they were. On a near network that is few
 * blocks, and more would only wait in queues; on a long one it grows until the bandwidth no longer does. Where many share
 * a slow way it must fall: eight readers with eight blocks each at two uplinks of 50 MB/s waited until their time was up,
 * asked again, and so got nothing at all.
 *
 * The least delay is never forgotten: a queue that does not empty would else be taken for a long way, and grow.
 */
const GAIN = 2;
/** Fewer than `least` only where even they would wait for so long in the queues of a slow or crowded way. */
const QUEUE_MS = 250;
/** Before anything is known. */
const FIRST = 4;
/** Bandwidth that was seen longer ago than this (and less than twice this) no longer counts. */
const SPAN_MS = 5_000;
/** Bandwidth is measured over at least this long. */
const MEASURED_MS = 200;

export interface FlightWindowOptions {
  /** On a slow way; one is on its way while the other is checked. */
  readonly slowLeast: number;
  readonly least: number;
  readonly most: number;
}

export class FlightWindow {
  readonly #options: FlightWindowOptions;
  #size: number;
  #leastMs = Infinity;
  /** Of this span and the one before. */
  #perMs: [number, number] = [0, 0];
  #spanStartMs = Number.NEGATIVE_INFINITY;
  #measureStartMs = Number.NEGATIVE_INFINITY;
  #measuredCount = 0;

  constructor(options: FlightWindowOptions) {
    this.#options = options;
    this.#size = Math.min(FIRST, options.least);
  }

  get size(): number {
    return this.#size;
  }

  /** A transfer has ended well. Returns the size from now on. */
  ended(startedMs: number, nowMs: number): number {
    const { slowLeast, least, most } = this.#options;
    if (nowMs - this.#spanStartMs >= SPAN_MS) {
      this.#spanStartMs = nowMs;
      this.#perMs = [0, this.#perMs[0]];
    }
    this.#leastMs = Math.min(this.#leastMs, nowMs - startedMs);
    this.#measuredCount++;
    const measuredMs = nowMs - this.#measureStartMs;
    if (measuredMs >= MEASURED_MS) {
      // After a pause nothing is known.
      if (measuredMs < SPAN_MS) this.#perMs[0] = Math.max(this.#perMs[0], this.#measuredCount / measuredMs);
      this.#measureStartMs = nowMs;
      this.#measuredCount = 0;
    }
    const perMs = Math.max(...this.#perMs);
    if (this.#leastMs !== Infinity && perMs > 0) {
      const quick = Math.max(slowLeast, Math.ceil(perMs * QUEUE_MS));
      const wanted = Math.ceil(GAIN * perMs * this.#leastMs);
      this.#size = Math.max(Math.min(quick, least), Math.min(most, wanted));
    }
    return this.#size;
  }
}
