/**
 * A block while it arrives: chunks are gathered into one buffer, and whoever forwards it can read along behind the
 * receiver, so that the second node has most of the block before the first has all of it. The bytes where the network
 * left them serve the disk, the hash and the next node.
 */
import { CancelledError, FormatError } from '../errors.ts';

export class ReceivedBlock {
  readonly lengthBytes: number;
  #buffer: Uint8Array | undefined;
  /** The buffer is our own and of full length; else it is a view of what came so far in the network's. */
  #copied = false;
  #receivedBytes = 0;
  #failure: Error | undefined;
  #waiting: (() => void)[] = [];

  constructor(lengthBytes: number) {
    this.lengthBytes = lengthBytes;
  }

  /** Takes all of the source. Rejects (as do the readers) if it breaks off, or has more or less than lengthBytes. */
  async receive(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
    try {
      for await (const chunk of source) this.#append(chunk);
      if (this.#buffer === undefined || this.#receivedBytes !== this.lengthBytes) {
        throw new FormatError(`the payload has ${this.#receivedBytes} bytes, its header says ${this.lengthBytes}`);
      }
      return this.#buffer;
    } catch (error) {
      this.#failure = error instanceof Error ? error : new CancelledError(String(error));
      this.#wake();
      throw error;
    }
  }

  /** Pieces of the block as they arrive. Rejects when receiving fails. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    let sentBytes = 0;
    while (sentBytes < this.lengthBytes) {
      if (this.#failure !== undefined) throw this.#failure;
      const end = this.#receivedBytes;
      if (end > sentBytes && this.#buffer !== undefined) {
        yield this.#buffer.subarray(sentBytes, end);
        sentBytes = end;
      } else {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
    }
  }

  #append(chunk: Uint8Array): void {
    const end = this.#receivedBytes + chunk.length;
    if (end > this.lengthBytes)
      throw new FormatError(`the payload has more than the ${this.lengthBytes} bytes its header says`);
    const begin = chunk.byteOffset - this.#receivedBytes;
    if (this.#buffer === undefined) {
      // A plain Uint8Array even where the chunk is a Buffer: Buffer.slice does not copy, and who stores blocks relies on it.
      this.#buffer = viewOf(chunk, chunk.byteOffset, chunk.length);
    } else if (!this.#copied && this.#buffer.buffer === chunk.buffer && this.#buffer.byteOffset === begin) {
      // The network gathers a payload in one place: what came so far and this chunk are one piece. No copy.
      this.#buffer = viewOf(chunk, begin, end);
    } else {
      if (!this.#copied) {
        const whole = new Uint8Array(this.lengthBytes);
        whole.set(this.#buffer);
        this.#buffer = whole;
        this.#copied = true;
      }
      this.#buffer.set(chunk, this.#receivedBytes);
    }
    this.#receivedBytes = end;
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

function viewOf(chunk: Uint8Array, byteOffset: number, length: number): Uint8Array {
  return new Uint8Array(chunk.buffer, byteOffset, length);
}
