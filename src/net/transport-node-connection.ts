/** A TCP or TLS socket of Node as a Connection. */
import { Buffer } from 'node:buffer';
import type * as net from 'node:net';
import type { Address, Connection } from '../env.ts';
import { MiB, KiB } from '../limits.ts';

/** One read takes up to this much: the pieces that payloads travel in. */
const READ_BUFFER_BYTES = 256 * KiB;
/** queuedBytes above this counts as high; drained is called when it has fallen below half of it. */
const HIGH_BYTES = MiB;
/** Chunks up to this size are copied together, which is cheaper than handing each to the system. */
const SMALL_BYTES = 4 * KiB;

/** Where a socket reads into (one reused buffer, or the place that the receiver names), and the receiver of what comes. */
export class ReadBuffer {
  receive: ((chunk: Uint8Array) => void) | undefined;
  place: (() => Uint8Array | undefined) | undefined;
  readonly #own = new Uint8Array(READ_BUFFER_BYTES);

  onread(): net.OnReadOpts {
    return {
      // Node asks after each read for the next one's memory, and holds on to it meanwhile.
      buffer: () => this.place?.() ?? this.#own,
      callback: (bytesRead: number, buffer: Uint8Array): boolean => {
        this.receive?.(bytesRead === buffer.length ? buffer : buffer.subarray(0, bytesRead));
        return true;
      },
    };
  }
}

export class NodeConnection implements Connection {
  readonly remoteAddress: Address;
  readonly #socket: net.Socket;
  readonly #readsInto: ReadBuffer | undefined;
  /** Written in this turn of the event loop: they leave together at its end. */
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #flushing = false;
  #wasHigh = false;
  #ended = false;
  #gone = false;
  #error: Error | undefined;
  #drained: (() => void) | undefined;
  #closed: ((error?: Error) => void) | undefined;

  /** `readsInto`: the socket was made with this buffer's onread. */
  constructor(socket: net.Socket, remoteAddress: Address, readsInto?: ReadBuffer) {
    this.#socket = socket;
    this.#readsInto = readsInto;
    this.remoteAddress = remoteAddress;
    socket.pause();
    socket.on('error', (error) => {
      this.#error ??= error;
    });
    socket.on('close', () => {
      this.#gone = true;
      this.#pending = [];
      this.#pendingBytes = 0;
      this.#closed?.(this.#error);
      this.#closed = undefined;
    });
    // The other side has ended: so do we, once what is queued is sent.
    socket.on('end', () => {
      this.end();
    });
  }

  get queuedBytes(): number {
    return this.#gone ? 0 : this.#pendingBytes + this.#socket.writableLength;
  }

  write(chunks: readonly Uint8Array[]): void {
    if (this.#gone || this.#ended) return;
    for (const chunk of chunks) {
      this.#pending.push(chunk);
      this.#pendingBytes += chunk.length;
    }
    if (this.#flushing) return;
    this.#flushing = true;
    // After all that is to be handled in this turn: one system call then carries all of its replies.
    setImmediate(() => {
      this.#flush();
    });
  }

  onData(receive: (chunk: Uint8Array) => void, place?: () => Uint8Array | undefined): void {
    if (this.#readsInto !== undefined) {
      this.#readsInto.receive = receive;
      this.#readsInto.place = place;
    } else {
      this.#socket.removeAllListeners('data');
      this.#socket.on('data', (chunk: Buffer) => {
        receive(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
      });
    }
    this.#socket.resume();
  }

  onDrain(drained: () => void): void {
    this.#drained = drained;
  }

  onClose(closed: (error?: Error) => void): void {
    this.#closed = closed;
    if (!this.#gone) return;
    this.#closed = undefined;
    queueMicrotask(() => {
      closed(this.#error);
    });
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    if (this.#ended) return;
    this.#flush();
    this.#ended = true;
    // What is with the system is sent without us: a peer that does not end its side must not keep this process.
    this.#socket.once('finish', () => this.#socket.unref());
    this.#socket.end();
    // Whatever still comes is read and dropped, so that the end of the stream is seen; and a peer that never ends its
    // side does not keep the socket for ever.
    this.#socket.resume();
    const timer = setTimeout(() => {
      this.#socket.destroy();
    }, END_TIMEOUT_MS);
    timer.unref();
    this.#socket.once('close', () => {
      clearTimeout(timer);
    });
  }

  destroy(error?: Error): void {
    this.#ended = true;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#error ??= error;
    this.#socket.destroy();
  }

  #flush(): void {
    this.#flushing = false;
    const pending = this.#pending;
    if (pending.length === 0 || this.#gone || this.#ended) return;
    this.#pending = [];
    this.#pendingBytes = 0;
    const chunks = pending.length === 1 ? pending : joinSmall(pending);
    const socket = this.#socket;
    const last = chunks.length - 1;
    if (last > 0) socket.cork();
    for (let i = 0; i < last; i += 1) socket.write(chunks[i] as Uint8Array);
    socket.write(chunks[last] as Uint8Array, this.#onWritten);
    if (last > 0) socket.uncork();
    if (socket.writableLength >= HIGH_BYTES) this.#wasHigh = true;
  }

  readonly #onWritten = (): void => {
    const queuedBytes = this.queuedBytes;
    // Also at zero, though nobody must rely on it: buffers can then be given back at once.
    if (queuedBytes > 0 && !(this.#wasHigh && queuedBytes < HIGH_BYTES / 2)) return;
    this.#wasHigh = false;
    this.#drained?.();
  };
}

/** How long an ended connection may take to send what is queued. */
const END_TIMEOUT_MS = 5_000;

/** Runs of small chunks become one chunk each. */
function joinSmall(chunks: readonly Uint8Array[]): Uint8Array[] {
  const joined: Uint8Array[] = [];
  for (let from = 0; from < chunks.length;) {
    let to = from;
    let bytes = 0;
    for (; to < chunks.length && (chunks[to] as Uint8Array).length <= SMALL_BYTES; to += 1)
      bytes += (chunks[to] as Uint8Array).length;
    if (to - from > 1) {
      joined.push(Buffer.concat(chunks.slice(from, to), bytes));
      from = to;
    } else {
      joined.push(chunks[from] as Uint8Array);
      from += 1;
    }
  }
  return joined;
}
