/**
 * Buffers for payloads, used again. Pure. Why: fresh memory costs a page fault for every 4 KiB; filling a new 4 MiB
 * buffer was measured at 1.2 GB/s of one core, a used one at 14 GB/s. Nobody has to give buffers back: what is not
 * recycled is garbage-collected as ever.
 */
import { KiB, MiB, PAGE_BYTES } from '../limits.ts';
import { allocateUninitialised } from './frames.ts';

/** One page of a block, which caches keep by the thousand: exactly so much. Smaller payloads are cheap to allocate. */
const POOLED_MIN_BYTES = PAGE_BYTES;
/**
 * Capacities of 1 MiB and more are multiples of this, so that a block with or without its page list finds the same buffers. Smaller ones are a
 * quarter longer than asked for at most: caches keep short blocks by the hundred, and count their bytes.
 */
const STEP_MAX_BYTES = 256 * KiB;
/** Capacities between a power of two and the next. */
const STEPS_AN_OCTAVE = 4;
/** Kept free in all; beyond it those are let go whose size was not asked for the longest. */
export const POOL_KEPT_MAX_BYTES = 32 * MiB;

export class BufferPool {
  /** By kind, the one that was taken from last at the end. */
  readonly #free = new Map<number, Uint8Array[]>();
  #freeBytes = 0;

  /** Exactly `lengthBytes` of memory with any content. */
  take(lengthBytes: number): Uint8Array {
    const capacity = capacityOf(lengthBytes);
    if (capacity < POOLED_MIN_BYTES) return allocateUninitialised(lengthBytes);
    const whole = this.#takeFree(capacity, false) ?? allocateUninitialised(capacity);
    return capacity === lengthBytes ? whole : whole.subarray(0, lengthBytes);
  }

  /** Likewise, at least a page, in memory that begins at a page of the system, as reads past its cache need it. */
  takeAligned(lengthBytes: number): Uint8Array {
    const capacity = Math.max(capacityOf(lengthBytes), PAGE_BYTES);
    const whole = this.#takeFree(capacity, true) ?? allocateAligned(capacity);
    return whole.subarray(0, lengthBytes);
  }

  #takeFree(capacity: number, aligned: boolean): Uint8Array | undefined {
    const kind = kindOf(capacity, aligned);
    const same = this.#free.get(kind) ?? [];
    this.#free.delete(kind);
    this.#free.set(kind, same);
    const used = same.pop();
    if (used !== undefined) this.#freeBytes -= capacity;
    return used;
  }

  /** Whether `bytes` are all that their memory holds, as `take` gives it: whoever keeps them keeps nothing else. */
  isWhole(bytes: Uint8Array): boolean {
    return bytes.byteOffset === 0 && bytes.buffer.byteLength === capacityOf(bytes.length);
  }

  /** Nobody may use `bytes` (as `take` gave it), nor any view of it, from now on. Must be called at most once for each take. */
  giveBack(bytes: Uint8Array): void {
    const capacity = bytes.buffer.byteLength;
    const kind = kindOf(capacity, isAligned(bytes.buffer));
    const same = this.#free.get(kind);
    // Of a kind that was never taken: not of this pool.
    if (same === undefined || !this.#makeRoom(kind, capacity)) return;
    same.push(new Uint8Array(bytes.buffer, 0, capacity));
    this.#freeBytes += capacity;
  }

  /** Lets go of those whose size was not asked for since this one was. */
  #makeRoom(kind: number, capacity: number): boolean {
    for (const [other, free] of this.#free) {
      if (this.#freeBytes + capacity <= POOL_KEPT_MAX_BYTES) return true;
      if (other === kind) return false;
      for (let gone; this.#freeBytes + capacity > POOL_KEPT_MAX_BYTES && (gone = free.pop()) !== undefined;) {
        this.#freeBytes -= gone.length;
      }
    }
    return false;
  }
}

/** Memory of one capacity, aligned or not, is of one kind. */
function kindOf(capacity: number, aligned: boolean): number {
  return capacity * 2 + (aligned ? 1 : 0);
}

interface Resizable {
  readonly resizable: boolean;
}

/** Whoever may grow needs pages of its own: V8 gives such memory, and no other that programs can ask for, whole pages of the system. */
function allocateAligned(capacity: number): Uint8Array {
  const Resizable = ArrayBuffer as new (lengthBytes: number, options: { maxByteLength: number }) => ArrayBuffer;
  return new Uint8Array(new Resizable(capacity, { maxByteLength: capacity }));
}

function isAligned(buffer: ArrayBufferLike): boolean {
  return (buffer as ArrayBufferLike & Resizable).resizable;
}

function capacityOf(lengthBytes: number): number {
  if (lengthBytes <= POOLED_MIN_BYTES) return lengthBytes;
  const octaveBytes = 2 ** (31 - Math.clz32(lengthBytes));
  const stepBytes = Math.min(STEP_MAX_BYTES, octaveBytes / STEPS_AN_OCTAVE);
  return Math.ceil(lengthBytes / stepBytes) * stepBytes;
}

/** One for the process: buffers move between connections. */
export const payloadPool = new BufferPool();
