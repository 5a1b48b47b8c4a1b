/** Waiting that ends after a time which is the same for all: one timer for all, as the oldest ends first. Nobody waits: no timer. */
import type { Clock, Timer } from './env.ts';

interface Waiting {
  readonly untilMs: number;
  readonly giveUp: () => void;
}

export class Patience {
  readonly #clock: Clock;
  readonly #patienceMs: number;
  /** In order of their ends. */
  readonly #waiting = new Set<Waiting>();
  #timer: Timer | undefined;

  constructor(clock: Clock, patienceMs: number) {
    this.#clock = clock;
    this.#patienceMs = patienceMs;
  }

  get waitingCount(): number {
    return this.#waiting.size;
  }

  /** `giveUp` is called once the time is up, unless the returned function was called before, which tells whether it was in time. */
  wait(giveUp: () => void): () => boolean {
    const waiting = { untilMs: this.#clock.monotonicMs() + this.#patienceMs, giveUp };
    this.#waiting.add(waiting);
    this.#timer ??= this.#clock.setTimer(this.#patienceMs, () => this.#look());
    return () => {
      const inTime = this.#waiting.delete(waiting);
      if (this.#waiting.size === 0) this.#cancel();
      return inTime;
    };
  }

  /** All who wait give up. */
  close(): void {
    this.#cancel();
    for (const { giveUp } of this.#waiting) giveUp();
    this.#waiting.clear();
  }

  #cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #look(): void {
    this.#timer = undefined;
    const nowMs = this.#clock.monotonicMs();
    for (const waiting of this.#waiting) {
      if (waiting.untilMs > nowMs) {
        this.#timer = this.#clock.setTimer(waiting.untilMs - nowMs, () => this.#look());
        return;
      }
      this.#waiting.delete(waiting);
      waiting.giveUp();
    }
  }
}
