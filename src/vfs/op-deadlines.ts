/**
 * No operation of a mount waits for ever: each that did not end at once gets the same time, after which its caller is
 * answered, whatever it still waits for. Steps below have deadlines of their own, a little shorter, and end first
 * with a better reason; this is what holds when several of them follow each other.
 *
 * One timer for all: as every operation gets the same time, the oldest ends first.
 */
import type { Clock, Timer } from '../env.ts';
import { FsError } from '../errors.ts';
import type { Maybe } from './ops.ts';

interface Waiting {
  readonly what: string;
  readonly sinceMs: number;
  readonly late: (error: FsError) => void;
}

export class OpDeadlines {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** Oldest first: a Set keeps the order of insertion. */
  readonly #waiting = new Set<Waiting>();
  #timer: Timer | undefined;

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** Operations that wait now. */
  get waitingCount(): number {
    return this.#waiting.size;
  }

  /**
   * The result, or EIO when the time is over. `giveBack` then gets what comes after all and nobody takes any more: a
   * handle to close, a reference to drop.
   */
  bound<T>(what: string, result: Maybe<T>, giveBack?: (value: T) => void): Maybe<T> {
    if (!(result instanceof Promise)) return result;
    return new Promise<T>((resolve, reject) => {
      let ended = false;
      const waiting: Waiting = {
        what,
        sinceMs: this.#clock.monotonicMs(),
        late: (error) => {
          ended = true;
          reject(error);
        },
      };
      this.#waiting.add(waiting);
      this.#timer ??= this.#clock.setTimer(this.#timeoutMs, this.#look);
      result.then(
        (value) => {
          if (ended) giveBack?.(value);
          else this.#ended(waiting);
          resolve(value);
        },
        (error: unknown) => {
          this.#ended(waiting);
          reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }

  #ended(waiting: Waiting): void {
    this.#waiting.delete(waiting);
    if (this.#waiting.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  readonly #look = (): void => {
    this.#timer = undefined;
    const nowMs = this.#clock.monotonicMs();
    for (const waiting of this.#waiting) {
      const leftMs = waiting.sinceMs + this.#timeoutMs - nowMs;
      if (leftMs > 0) {
        this.#timer = this.#clock.setTimer(leftMs, this.#look);
        return;
      }
      this.#waiting.delete(waiting);
      waiting.late(
        new FsError('EIO', `${waiting.what} did not end within ${this.#timeoutMs} ms`, {
          remedy: 'See `tatami status`: which nodes are down, and what to do. `--timeout` sets how long is waited.',
        }),
      );
    }
  };
}
