/** Whether somebody waits for this node's disk: background work then gives way. */
import type { Clock } from '../env.ts';

/** So long after the last request the next of a reader in sequence is still expected. */
const LINGER_MS = 250;

export class Foreground {
  readonly #clock: Clock;
  #underWay = 0;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    this.#underWay++;
    try {
      return await work();
    } finally {
      this.#underWay--;
      this.#lastMs = this.#clock.monotonicMs();
    }
  }

  /** Somebody was here who needed no time of ours: a reader on this machine that asks where a block lies. */
  touch(): void {
    this.#lastMs = this.#clock.monotonicMs();
  }

  isBusy(): boolean {
    return this.#underWay > 0 || this.#clock.monotonicMs() - this.#lastMs < LINGER_MS;
  }
}
