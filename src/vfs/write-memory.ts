/**
 * Memory of written, not yet committed bytes: one bound for the whole mount. Buffers of a whole block are used again
 * instead of being left to the garbage collector, which would let the process grow while a large file is written.
 */
import { invariant } from '../errors.ts';

const SMALLEST_BUFFER_BYTES = 4096;
/** Below this a buffer doubles as its run grows; beyond it takes the rest of the block at once. */
const DOUBLING_UP_TO_BYTES = 256 * 1024;

export class WriteMemory {
  readonly maxBytes: number;
  /** By their length: for each size of blocks that files are cut into. */
  readonly #spares = new Map<number, Uint8Array[]>();
  #spareBytes = 0;
  #usedBytes = 0;
  #peakBytes = 0;
  #waiters: (() => void)[] = [];

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Files with blocks of that size are written: buffers of it are used again from now on. */
  useAgain(blockSizeBytes: number): void {
    if (!this.#spares.has(blockSizeBytes)) this.#spares.set(blockSizeBytes, []);
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }
  get peakBytes(): number {
    return this.#peakBytes;
  }
  get isOver(): boolean {
    return this.#usedBytes > this.maxBytes;
  }
  get hasWaiters(): boolean {
    return this.#waiters.length > 0;
  }

  /** A buffer of at least `neededBytes`, at most `mostBytes` (the rest of the block). */
  allocate(neededBytes: number, mostBytes: number): Uint8Array {
    let size = mostBytes;
    if (neededBytes <= DOUBLING_UP_TO_BYTES) {
      size = SMALLEST_BUFFER_BYTES;
      while (size < neededBytes) size *= 2;
      size = Math.min(size, mostBytes);
    }
    this.#usedBytes += size;
    if (this.#usedBytes > this.#peakBytes) this.#peakBytes = this.#usedBytes;
    const spare = this.#spares.get(size)?.pop();
    if (spare === undefined) return Buffer.allocUnsafeSlow(size);
    this.#spareBytes -= size;
    return spare;
  }

  /** `reusable` false: somebody may still be reading the buffer (a transfer that was given up). */
  free(buffer: Uint8Array, reusable: boolean): void {
    this.#usedBytes -= buffer.length;
    invariant(this.#usedBytes >= 0, 'write memory', 'a buffer was freed twice');
    const spares = reusable && this.#spareBytes < this.maxBytes ? this.#spares.get(buffer.length) : undefined;
    if (spares !== undefined) {
      spares.push(buffer);
      this.#spareBytes += buffer.length;
    }
    if (this.#waiters.length > 0 && !this.isOver) {
      const waiters = this.#waiters;
      this.#waiters = [];
      for (const wake of waiters) wake();
    }
  }

  /** Resolves once the bound holds again. */
  room(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }
}
