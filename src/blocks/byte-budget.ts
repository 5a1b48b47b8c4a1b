/**
 * Bounds the memory of things in progress: each takes its bytes before it starts and gives them back at the end;
 * those that do not fit wait in order of arrival.
 */
import { cancelError, type CancelSignal } from '../cancel.ts';

export class ByteBudget {
  #capacityBytes: number;
  #usedBytes = 0;
  readonly #queue: { readonly bytes: number; readonly start: () => void; cancelled: boolean }[] = [];

  constructor(capacityBytes: number) {
    this.#capacityBytes = capacityBytes;
  }

  get capacityBytes(): number {
    return this.#capacityBytes;
  }

  /** More may begin at once if it grows; what has begun goes on if it shrinks. */
  set capacityBytes(bytes: number) {
    this.#capacityBytes = bytes;
    this.#admit();
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * Resolves with the function that gives the bytes back (idempotent). One that is larger than the whole budget gets
   * it alone. Rejects with the signal's reason if it fires while waiting.
   */
  async take(bytes: number, signal?: CancelSignal): Promise<() => void> {
    signal?.throwIfAborted();
    const wanted = Math.min(bytes, this.#capacityBytes);
    if (this.#queue.length > 0 || this.#usedBytes + wanted > this.#capacityBytes) await this.#wait(wanted, signal);
    else this.#usedBytes += wanted;
    return this.#giveBack(wanted);
  }

  /** As take, if there is room at once; else undefined, and nothing is taken. */
  tryTake(bytes: number): (() => void) | undefined {
    const wanted = Math.min(bytes, this.#capacityBytes);
    if (this.#queue.length > 0 || this.#usedBytes + wanted > this.#capacityBytes) return undefined;
    this.#usedBytes += wanted;
    return this.#giveBack(wanted);
  }

  #giveBack(bytes: number): () => void {
    let taken = true;
    return () => {
      if (!taken) return;
      taken = false;
      this.#usedBytes -= bytes;
      this.#admit();
    };
  }

  /** Resolves when the bytes have been set aside for the caller. */
  #wait(bytes: number, signal: CancelSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const entry = {
        bytes,
        cancelled: false,
        start: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = (): void => {
        entry.cancelled = true;
        this.#admit();
        reject(cancelError(signal));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#queue.push(entry);
    });
  }

  #admit(): void {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (!next.cancelled) {
        if (this.#usedBytes > 0 && this.#usedBytes + next.bytes > this.#capacityBytes) return;
        this.#usedBytes += next.bytes;
        next.start();
      }
      this.#queue.shift();
    }
  }
}
