/** Work done one after the other, in the order of asking; who waits for its turn waits no longer than its deadline. */
import type { Clock } from '../env.ts';
import { UnavailableError } from '../errors.ts';

export class Turns {
  readonly #clock: Pick<Clock, 'monotonicMs' | 'setTimer'>;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(clock: Pick<Clock, 'monotonicMs' | 'setTimer'>) {
    this.#clock = clock;
  }

  /** Settles always: as `work` does, or with UnavailableError if it was not begun by the deadline, and then it never is. */
  take<T>(deadlineMs: number, work: () => Promise<T>): Promise<T> {
    const clock = this.#clock;
    return new Promise((resolve, reject) => {
      const late = (): void => {
        reject(new UnavailableError('the catalog was busy with other changes until the deadline'));
      };
      const timer = clock.setTimer(deadlineMs - clock.monotonicMs(), late);
      this.#tail = this.#tail.then(async () => {
        timer.cancel();
        if (clock.monotonicMs() < deadlineMs) await work().then(resolve, reject);
        // A process that stood still may come to its turn before it comes to the timer.
        else late();
      });
    });
  }
}
