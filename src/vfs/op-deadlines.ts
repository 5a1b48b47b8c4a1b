/**
 * No operation of a mount waits for ever: each that did not end at once gets the same time, after which its caller is
 * answered, whatever it still waits for. Steps below have deadlines of their own, a little shorter, and end first
 * with a better reason; this is what holds when several of them follow each other.
 */
import type { Clock } from '../env.ts';
import { FsError } from '../errors.ts';
import { Patience } from '../patience.ts';
import type { Maybe } from './ops.ts';

export class OpDeadlines {
  readonly #timeoutMs: number;
  readonly #patience: Patience;

  constructor(clock: Clock, timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#patience = new Patience(clock, timeoutMs);
  }

  /** Operations that wait now. */
  get waitingCount(): number {
    return this.#patience.waitingCount;
  }

  /**
   * The result, or EIO when the time is over. `giveBack` then gets what comes after all and nobody takes any more: a
   * handle to close, a reference to drop.
   */
  bound<T>(what: string, result: Maybe<T>, giveBack?: (value: T) => void): Maybe<T> {
    if (!(result instanceof Promise)) return result;
    return new Promise<T>((resolve, reject) => {
      const inTime = this.#patience.wait(() => reject(this.#late(what)));
      result.then(
        (value) => {
          if (!inTime()) giveBack?.(value);
          resolve(value);
        },
        (error: unknown) => {
          inTime();
          reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }

  #late(what: string): FsError {
    return new FsError('EIO', `${what} did not end within ${this.#timeoutMs} ms`, {
      remedy: 'See `tatami status`: which nodes are down, and what to do. `--timeout` sets how long is waited.',
    });
  }
}
