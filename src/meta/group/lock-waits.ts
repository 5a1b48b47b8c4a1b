/**
 * Clients that wait for locks at this node while it is the primary: each question is answered when the lock may be had,
 * or after a while, so that a client whose primary has gone notices soon. What is decided is in lock-queue.ts.
 */
import type { CancelSignal } from '../../cancel.ts';
import type { Clock } from '../../env.ts';
import { CancelledError } from '../../errors.ts';
import type { Ino } from '../../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../../limits.ts';
import { LockQueue } from '../lock-queue.ts';
import type { HeldLock, LockRequest } from '../locks.ts';
import type { LockWait } from '../types.ts';

/** A question is answered after this long in any case: well before the client takes the node for gone. */
export const LOCK_WAIT_MS = (ATTEMPT_TIMEOUT_MS * 3) / 5;

export class LockWaits {
  readonly #clock: Clock;
  readonly #locksOf: (ino: Ino) => readonly HeldLock[];
  #queue: LockQueue;
  readonly #waiting = new Set<(error: Error) => void>();

  constructor(clock: Clock, locksOf: (ino: Ino) => readonly HeldLock[]) {
    this.#clock = clock;
    this.#locksOf = locksOf;
    this.#queue = this.#newQueue();
  }

  #newQueue(): LockQueue {
    return new LockQueue({ locksOf: this.#locksOf, nowMs: () => this.#clock.monotonicMs() });
  }

  wait(ino: Ino, wanted: LockRequest, signal: CancelSignal): Promise<LockWait> {
    if (signal.aborted) return Promise.reject(new CancelledError());
    return new Promise((resolve, reject) => {
      const end = (): void => {
        timer.cancel();
        signal.removeEventListener('abort', cancelled);
        this.#waiting.delete(failed);
      };
      const failed = (error: Error): void => {
        end();
        reject(error);
      };
      const cancelled = (): void => {
        this.#queue.leave(ino, wanted, free);
        failed(new CancelledError());
      };
      const answer = (state: LockWait): void => {
        end();
        resolve(state);
      };
      const free = (): void => answer('free');
      const timer = this.#clock.setTimer(LOCK_WAIT_MS, () => {
        this.#queue.pause(ino, wanted, free);
        answer('held');
      });
      signal.addEventListener('abort', cancelled, { once: true });
      this.#waiting.add(failed);
      const state = this.#queue.wait(ino, wanted, free);
      if (state === 'deadlock') answer(state);
    });
  }

  /** What is held of the file has changed. */
  relocked(ino: Ino): void {
    this.#queue.relocked(ino);
  }

  tick(): void {
    if (this.#queue.waiterCount > 0) this.#queue.tick();
  }

  /** This node is not the primary any more, or stops. */
  rejectAll(error: Error): void {
    for (const fail of [...this.#waiting]) fail(error);
    this.#queue = this.#newQueue();
  }
}
