/**
 * How long replies with data take, and from when on one of them is slow: later than the 95th percentile of what the
 * other holders needed lately for as much. (Dean and Barroso, The Tail at Scale, 2013: a second request sent then costs
 * some percent more load and cuts the tail to that of the peers.) A fixed time would be too long on a fast network and
 * too short on a slow one; and a node's own usual time says nothing when that node is the slow one.
 *
 * Sizes are brought together by a line: a reply costs as much as OVERHEAD_BYTES more than it has.
 */

/** Latest replies of all holders together: some seconds of a busy reader, and old enough to be forgotten soon. */
const SAMPLES_MAX = 128;
/** Fewer say nothing about a percentile. */
const SAMPLES_LEAST = 8;
const PERCENTILE = 0.95;
/** What a round trip and a look into an index cost, in bytes of transfer: where small replies begin to take longer. */
const OVERHEAD_BYTES = 256 * 1024;
/** The percentile is looked up again after so many replies: sorting 128 numbers costs some microseconds. */
const LOOKED_UP_EVERY = 8;

export interface ReplyTimesOptions {
  /** Never earlier: a timer, a collection of garbage or a busy core can take as long. */
  readonly leastMs: number;
  readonly mostMs: number;
  /** While too little is known. */
  readonly unknownMs: number;
  /** How much later than the percentile. */
  readonly factor: number;
}

interface Sample {
  readonly from: string;
  readonly unitMs: number;
}

export class ReplyTimes {
  readonly #options: ReplyTimesOptions;
  /** A ring. Invariant: at most SAMPLES_MAX. */
  readonly #samples: Sample[] = [];
  #count = 0;
  readonly #known = new Map<string, { readonly atCount: number; readonly unitMs: number | undefined }>();

  constructor(options: ReplyTimesOptions) {
    this.#options = options;
  }

  add(from: string, bytes: number, tookMs: number): void {
    this.#samples[this.#count % SAMPLES_MAX] = { from, unitMs: tookMs / (OVERHEAD_BYTES + bytes) };
    this.#count++;
  }

  /** When a reply of so many bytes is later than those of its peers. */
  slowAfterMs(from: string, bytes: number): number {
    const { leastMs, mostMs, unknownMs, factor } = this.#options;
    const unitMs = this.#ofPeers(from);
    if (unitMs === undefined) return unknownMs;
    return Math.min(mostMs, Math.max(leastMs, unitMs * (OVERHEAD_BYTES + bytes) * factor));
  }

  #ofPeers(from: string): number | undefined {
    const known = this.#known.get(from);
    if (known !== undefined && this.#count - known.atCount < LOOKED_UP_EVERY) return known.unitMs;
    let samples = this.#samples.filter((sample) => sample.from !== from);
    // Who has no peers is compared with itself.
    if (samples.length < SAMPLES_LEAST) samples = this.#samples;
    const unitMs = samples.length < SAMPLES_LEAST ? undefined : percentile(samples.map((sample) => sample.unitMs));
    if (this.#known.size > 4 * SAMPLES_MAX) this.#known.clear();
    this.#known.set(from, { atCount: this.#count, unitMs });
    return unitMs;
  }
}

function percentile(values: number[]): number | undefined {
  values.sort((a, b) => a - b);
  return values[Math.min(values.length - 1, Math.floor(values.length * PERCENTILE))];
}
