/**
 * How many whole blocks to have under way: twice bandwidth times delay, as TCP's BBR has it. The delay is the least that
 * a block took lately, without the wait behind others; the bandwidth what came in lately. On a near network that is few
 * blocks, and more would only wait in queues; on a long one it grows until the bandwidth no longer does.
 */
const GAIN = 2;
/** What was seen longer ago than this (and less than twice this) no longer counts. */
const SPAN_MS = 5_000;
/** Bandwidth is measured over at least this long. */
const MEASURED_MS = 200;

export class FlightWindow {
  readonly #least: number;
  readonly #most: number;
  readonly #unitBytes: number;
  #size: number;
  /** Of this span and the one before. */
  #leastMs: [number, number] = [Infinity, Infinity];
  #bytesPerMs: [number, number] = [0, 0];
  #spanStartMs = Number.NEGATIVE_INFINITY;
  #measureStartMs = Number.NEGATIVE_INFINITY;
  #measuredBytes = 0;

  /** Between `least` and `most` transfers of `unitBytes`. */
  constructor(least: number, most: number, unitBytes: number) {
    this.#least = least;
    this.#most = most;
    this.#unitBytes = unitBytes;
    this.#size = least;
  }

  get size(): number {
    return this.#size;
  }

  /** A transfer has ended well. Returns the size from now on. */
  ended(bytes: number, startedMs: number, nowMs: number): number {
    if (nowMs - this.#spanStartMs >= SPAN_MS) {
      this.#spanStartMs = nowMs;
      this.#leastMs = [Infinity, this.#leastMs[0]];
      this.#bytesPerMs = [0, this.#bytesPerMs[0]];
    }
    // Short blocks are quick, but say nothing about the delay of whole ones.
    if (bytes * 2 >= this.#unitBytes) this.#leastMs[0] = Math.min(this.#leastMs[0], nowMs - startedMs);
    this.#measuredBytes += bytes;
    const measuredMs = nowMs - this.#measureStartMs;
    if (measuredMs >= MEASURED_MS) {
      // After a pause nothing is known.
      if (measuredMs < SPAN_MS) this.#bytesPerMs[0] = Math.max(this.#bytesPerMs[0], this.#measuredBytes / measuredMs);
      this.#measureStartMs = nowMs;
      this.#measuredBytes = 0;
    }
    const leastMs = Math.min(...this.#leastMs);
    const bytesPerMs = Math.max(...this.#bytesPerMs);
    if (leastMs !== Infinity && bytesPerMs > 0) {
      const wanted = Math.ceil((GAIN * bytesPerMs * leastMs) / this.#unitBytes);
      this.#size = Math.max(this.#least, Math.min(this.#most, wanted));
    }
    return this.#size;
  }
}
