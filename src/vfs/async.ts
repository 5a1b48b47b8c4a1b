/** Deadlines, mutual exclusion and interruption for promises; all time comes from the environment's clock. */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import type { Clock } from '../env.ts';
import { FsError, TimeoutError, UnavailableError } from '../errors.ts';
import { mayPass, pauseMs } from './fs-errors.ts';

/** Runs one function at a time, in the order of arrival. */
export class Mutex {
  #tail: Promise<void> | undefined;

  get busy(): boolean {
    return this.#tail !== undefined;
  }

  async run<T>(critical: () => Promise<T>): Promise<T> {
    const before = this.#tail;
    let unlock!: () => void;
    const mine = new Promise<void>((resolve) => (unlock = resolve));
    this.#tail = mine;
    if (before !== undefined) await before;
    try {
      return await critical();
    } finally {
      if (this.#tail === mine) this.#tail = undefined;
      unlock();
    }
  }
}

/** `work` gets a signal that fires when the time is over; the result is then TimeoutError, whatever `work` does. */
export async function withDeadline<T>(
  clock: Clock,
  timeoutMs: number,
  what: string,
  work: (signal: CancelSignal) => Promise<T>,
): Promise<T> {
  const abort = new Cancellation();
  return await new Promise<T>((resolve, reject) => {
    const timer = clock.setTimer(Math.max(0, timeoutMs), () => {
      reject(new TimeoutError(`${what} took longer than ${timeoutMs} ms`));
      abort.abort();
    });
    work(abort.signal).then(
      (value) => {
        timer.cancel();
        resolve(value);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}

/**
 * Tries again and again while the condition may pass and `untilMs` has not come. What it ends with is the latest reason
 * that was given, if there was one, rather than that the time was over.
 */
export async function untilDeadline<T>(
  clock: Clock,
  untilMs: number,
  what: string,
  work: (signal: CancelSignal) => Promise<T>,
): Promise<T> {
  const startedMs = clock.monotonicMs();
  let reason: Error | undefined;
  for (let attempt = 0; ; attempt += 1) {
    const leftMs = untilMs - clock.monotonicMs();
    if (leftMs <= 0) throw reason ?? new UnavailableError(`${what}: nothing has got through for too long`);
    try {
      return await withDeadline(clock, leftMs, what, work);
    } catch (error) {
      const isOver = error instanceof TimeoutError && clock.monotonicMs() >= untilMs;
      if (isOver) throw reason ?? new TimeoutError(`${what} took longer than ${Math.round(untilMs - startedMs)} ms`);
      reason = error instanceof Error ? error : new Error(String(error));
      const pause = pauseMs(attempt);
      if (!mayPass(error) || clock.monotonicMs() + pause >= untilMs) throw error;
      await clock.sleep(pause);
    }
  }
}

/** The promise, or EINTR as soon as the signal fires; the work behind it goes on. */
export function interruptible<T>(promise: Promise<T>, signal: CancelSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.reject(new FsError('EINTR'));
  }
  return new Promise<T>((resolve, reject) => {
    const interrupt = (): void => reject(new FsError('EINTR'));
    signal.addEventListener('abort', interrupt, { once: true });
    promise.then(
      (value) => {
        signal.removeEventListener('abort', interrupt);
        resolve(value);
      },
      (error: unknown) => {
        signal.removeEventListener('abort', interrupt);
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}
