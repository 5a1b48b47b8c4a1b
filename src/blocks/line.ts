/** Operations of one kind wait here for their turn, so that a thousand callers do not become a thousand operations. */
import PQueue from 'p-queue';
import type { CancelSignal } from '../cancel.ts';
import { ProgressClock } from '../progress-clock.ts';

export class Line {
  readonly queue: PQueue;
  readonly progress: ProgressClock;
  readonly #directMost: number;
  #directCount = 0;
  readonly #running = new Set<Promise<unknown>>();

  /** `directMost`: so many more run without going through the queue, whose work is a part of that of a small read. */
  constructor(atOnce: number, timeoutMs: number, directMost = 0) {
    this.queue = new PQueue({ concurrency: atOnce });
    this.progress = new ProgressClock(timeoutMs);
    this.#directMost = directMost;
  }

  /** The work's result, when its turn has come. Rejects as soon as the signal fires while it waits; what runs has the signal itself. */
  async run<T>(work: () => Promise<T>, signal: CancelSignal, priority: number): Promise<T> {
    const start = (): Promise<T> => {
      const running = work();
      const ended = (): void => void this.#running.delete(running);
      this.#running.add(running);
      running.then(ended, ended);
      return running;
    };
    if (this.#directCount < this.#directMost) {
      this.#directCount++;
      try {
        return await start();
      } finally {
        this.#directCount--;
      }
    }
    // The queue takes no other kind of signal. When it fires, what runs is no longer the queue's, and ends soon by its own.
    const queued = new AbortController();
    signal.addEventListener('abort', () => queued.abort(signal.reason));
    return await this.queue.add(start, { priority, signal: queued.signal });
  }

  /** Nothing waits and nothing runs any more. */
  async idle(): Promise<void> {
    await this.queue.onIdle();
    await Promise.allSettled(this.#running);
  }
}
