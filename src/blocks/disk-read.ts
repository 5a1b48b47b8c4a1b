/** Reads from a disk of this machine, which nobody can call back: who waits for one gives up in time. */
import { cancelError, type CancelSignal } from '../cancel.ts';
import type { Clock } from '../env.ts';
import { TimeoutError } from '../errors.ts';

export interface ReadLimits {
  readonly signal: CancelSignal;
  readonly timeoutMs: number;
}

/** The promise's value, unless the signal fires or the time is up first; `late` is then called. */
export function withinLimits<T>(clock: Clock, promise: Promise<T>, limits: ReadLimits, late: () => void): Promise<T> {
  const { signal, timeoutMs } = limits;
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void) => {
      timer.cancel();
      signal.removeEventListener('abort', aborted);
      finish();
    };
    const aborted = () => settle(() => reject(cancelError(signal)));
    const timer = clock.setTimer(timeoutMs, () =>
      settle(() => {
        late();
        reject(new TimeoutError(`a disk of this machine did not answer within ${timeoutMs} ms`));
      }),
    );
    if (signal.aborted) aborted();
    else signal.addEventListener('abort', aborted);
    promise.then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error instanceof Error ? error : new Error(String(error)))),
    );
  });
}
