/**
 * Whether the servers may have ended this client's session without its knowing: they end it when they have not heard of it
 * for a lease. A sign of life that they have acknowledged was heard after it was sent, so counting from then errs on the safe side.
 */
import type { Clock, Timer } from '../env.ts';

export class SessionDoubt {
  readonly #clock: Clock;
  readonly #leaseMs: number;
  readonly #callbacks: (() => void)[] = [];
  #certainUntilMs = Infinity;
  #timer: Timer | undefined;

  constructor(clock: Clock, leaseMs: number) {
    this.#clock = clock;
    this.#leaseMs = leaseMs;
  }

  /** Looked up each time: after the process stood still its timers come late. */
  get isDoubtful(): boolean {
    return this.#clock.monotonicMs() >= this.#certainUntilMs;
  }

  /** Called whenever doubt begins. */
  onDoubt(callback: () => void): void {
    this.#callbacks.push(callback);
  }

  /** Every group has acknowledged what was sent then, `monotonicMs`. */
  heard(sentMs: number): void {
    this.#certainUntilMs = sentMs + this.#leaseMs;
    this.#timer?.cancel();
    this.#timer = this.#clock.setTimer(Math.max(0, this.#certainUntilMs - this.#clock.monotonicMs()), () => {
      for (const callback of this.#callbacks) callback();
    });
  }

  close(): void {
    this.#timer?.cancel();
  }
}
