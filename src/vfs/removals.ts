/**
 * Removals of names that are on their way to the servers, which destroy a file with its last name unless they were told to
 * keep it. A file that is opened meanwhile was not known to be open then: its open waits for the outcome, and finds the
 * file, or that it is gone; it never gets one that is about to be destroyed.
 */
import type { Ino } from '../ids.ts';
import { isKeptOpen, type KeepOpen } from '../meta/keep-open.ts';

interface Removal {
  readonly keepOpen: KeepOpen;
  readonly done: Promise<unknown>;
}

export class Removals {
  readonly #onTheirWay = new Set<Removal>();

  /** `done` is the answer; it is handed through. */
  async track<T>(keepOpen: KeepOpen, done: Promise<T>): Promise<T> {
    const removal = { keepOpen, done };
    this.#onTheirWay.add(removal);
    try {
      return await done;
    } finally {
      this.#onTheirWay.delete(removal);
    }
  }

  /** Resolves when those have ended, one way or the other, that may destroy this file; undefined if there is none. */
  untilDecided(ino: Ino): Promise<unknown> | undefined {
    if (this.#onTheirWay.size === 0) return undefined;
    const its = [...this.#onTheirWay].filter(({ keepOpen }) => !isKeptOpen(keepOpen, ino));
    return its.length === 0 ? undefined : Promise.allSettled(its.map(({ done }) => done));
  }
}
