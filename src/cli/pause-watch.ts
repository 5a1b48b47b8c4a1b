/**
 * Measures how long this process's event loop stands still: nothing is answered meanwhile, and beyond half a lease peers begin
 * to doubt it. Long ones are logged, so that a fail-over without a dead machine can be explained.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Logger } from '../log.ts';

/** Wakes an idle process that often; a pause is told up to this much too short. */
const SAMPLE_MS = 50;
const LOOK_INTERVAL_MS = 1_000;
/** Half of what a lease of the metadata groups lasts. */
const LONG_MS = 500;
/** The longest of the last ten minutes is told. */
const KEPT_COUNT = 600;

export class PauseWatch {
  readonly #histogram = monitorEventLoopDelay({ resolution: SAMPLE_MS });
  readonly #timer: NodeJS.Timeout;
  /** One for each look, latest last. */
  readonly #pausesMs: number[] = [];

  constructor(log: Logger) {
    this.#histogram.enable();
    this.#timer = setInterval(() => {
      const pauseMs = this.#latestMs();
      this.#histogram.reset();
      this.#pausesMs.push(pauseMs);
      if (this.#pausesMs.length > KEPT_COUNT) this.#pausesMs.shift();
      if (pauseMs >= LONG_MS) log.warn({ pauseMs }, 'this process stood still: a busy or suspended machine?');
    }, LOOK_INTERVAL_MS).unref();
  }

  /** In the last ten minutes, rounded down to a millisecond. */
  get longestMs(): number {
    return this.#pausesMs.reduce((most, pauseMs) => Math.max(most, pauseMs), this.#latestMs());
  }

  /** A sample is the time between two of its timers. */
  #latestMs(): number {
    return Math.max(0, Math.floor(this.#histogram.max / 1e6) - SAMPLE_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#histogram.disable();
  }
}
