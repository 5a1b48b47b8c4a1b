/**
 * Buffers for reads, used again and again: fresh 4 MiB buffers would be external memory that the collector sees too
 * late. Bounded: those that do not fit wait until others are released.
 */
import { KiB, MiB, PAGE_BYTES } from '../limits.ts';
import { ByteBudget } from './byte-budget.ts';
import { RECORD_HEAD_MAX_BYTES, RECORD_MAX_BYTES } from './pack-format.ts';

/** All buffers that are out at one time: sixteen whole blocks beside many small reads. */
export const READ_BUFFERS_BYTES = 80 * MiB;

/** A single page, a quarter of a block, a block; each with its head. And how many of each are kept when idle. */
const CLASSES: readonly { readonly bytes: number; readonly keepCount: number }[] = [
  { bytes: 8 * KiB, keepCount: 256 },
  { bytes: PAGE_BYTES + RECORD_HEAD_MAX_BYTES, keepCount: 64 },
  { bytes: MiB + RECORD_HEAD_MAX_BYTES, keepCount: 8 },
  { bytes: RECORD_MAX_BYTES, keepCount: 8 },
];

export interface Lease {
  /** Exactly as long as asked for; content undefined. */
  readonly bytes: Uint8Array;
  /** Idempotent. The bytes must not be touched after it. */
  readonly release: () => void;
}

export class BufferPool {
  readonly #budget: ByteBudget;
  readonly #idle: Uint8Array[][] = CLASSES.map(() => []);

  constructor(capacityBytes: number = READ_BUFFERS_BYTES) {
    this.#budget = new ByteBudget(capacityBytes);
  }

  /**
   * At once if there is room, else when there is. With `own` the bytes are fresh, and whoever took them may keep them:
   * release then says only that they are filled.
   */
  take(lengthBytes: number, own = false): Lease | Promise<Lease> {
    const index = own ? -1 : CLASSES.findIndex((one) => lengthBytes <= one.bytes);
    const size = CLASSES[index];
    const idle = this.#idle[index];
    // Longer than any record: nobody should, but it need not be pooled either.
    const pooled = size !== undefined && idle !== undefined ? { idle, ...size } : undefined;
    const wanted = pooled?.bytes ?? lengthBytes;
    const lend = (giveBack: () => void): Lease => {
      const buffer = pooled?.idle.pop() ?? allocate(wanted);
      let out = true;
      return {
        bytes: buffer.length === lengthBytes ? buffer : buffer.subarray(0, lengthBytes),
        release: () => {
          if (!out) return;
          out = false;
          if (pooled !== undefined && pooled.idle.length < pooled.keepCount) pooled.idle.push(buffer);
          giveBack();
        },
      };
    };
    const taken = this.#budget.tryTake(wanted);
    return taken === undefined ? this.#budget.take(wanted).then(lend) : lend(taken);
  }
}

/** Not zeroed. And no Buffer: its `slice` is a view, and views of pooled memory must not be taken for copies. */
function allocate(lengthBytes: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(lengthBytes).buffer);
}
