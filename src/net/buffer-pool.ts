/**
 * Buffers for payloads, used again. Pure. Why: fresh memory costs a page fault for every 4 KiB; filling a new 4 MiB
 * buffer was measured at 1.2 GB/s of one core, a used one at 14 GB/s. Nobody has to give buffers back: what is not
 * recycled is garbage-collected as ever.
 */
import { KiB, MiB, PAGE_BYTES } from '../limits.ts';
import { allocateUninitialised } from './frames.ts';

/** One page of a block, which caches keep by the thousand: exactly so much. Smaller payloads are cheap to allocate. */
const POOLED_MIN_BYTES = PAGE_BYTES;
/** Other capacities are multiples of this, so that a block with or without its page list finds the same buffers. */
const STEP_BYTES = 256 * KiB;
/** Kept free in all; beyond it those are let go whose size was not asked for the longest. */
export const POOL_KEPT_MAX_BYTES = 32 * MiB;

export class BufferPool {
  /** By capacity, the one that was taken from last at the end. */
  readonly #free = new Map<number, Uint8Array[]>();
  #freeBytes = 0;

  /** Exactly `lengthBytes` of memory with any content. */
  take(lengthBytes: number): Uint8Array {
    const capacity = capacityOf(lengthBytes);
    if (capacity < POOLED_MIN_BYTES) return allocateUninitialised(lengthBytes);
    const same = this.#free.get(capacity) ?? [];
    this.#free.delete(capacity);
    this.#free.set(capacity, same);
    const used = same.pop();
    if (used !== undefined) this.#freeBytes -= capacity;
    const whole = used ?? allocateUninitialised(capacity);
    return capacity === lengthBytes ? whole : whole.subarray(0, lengthBytes);
  }

  /** Whether `bytes` are all that their memory holds, as `take` gives it: whoever keeps them keeps nothing else. */
  isWhole(bytes: Uint8Array): boolean {
    return bytes.byteOffset === 0 && bytes.buffer.byteLength === capacityOf(bytes.length);
  }

  /** Nobody may use `bytes` (as `take` gave it), nor any view of it, from now on. Must be called at most once for each take. */
  giveBack(bytes: Uint8Array): void {
    const capacity = bytes.buffer.byteLength;
    const same = this.#free.get(capacity);
    // Of a capacity that was never taken from: not of this pool.
    if (same === undefined || !this.#makeRoom(capacity)) return;
    same.push(new Uint8Array(bytes.buffer, 0, capacity));
    this.#freeBytes += capacity;
  }

  /** Lets go of those whose size was not asked for since this one was. */
  #makeRoom(capacity: number): boolean {
    for (const [other, free] of this.#free) {
      if (this.#freeBytes + capacity <= POOL_KEPT_MAX_BYTES) return true;
      if (other === capacity) return false;
      while (this.#freeBytes + capacity > POOL_KEPT_MAX_BYTES && free.pop() !== undefined) this.#freeBytes -= other;
    }
    return false;
  }
}

function capacityOf(lengthBytes: number): number {
  return lengthBytes <= POOLED_MIN_BYTES ? lengthBytes : Math.ceil(lengthBytes / STEP_BYTES) * STEP_BYTES;
}

/** One for the process: buffers move between connections. */
export const payloadPool = new BufferPool();
