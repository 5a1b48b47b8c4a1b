/** What is kept of each call and request while it is open. Pure. */
import type { TatamiError } from '../errors.ts';
import { payloadPool } from './buffer-pool.ts';
import type { OutMessage } from './send-queue.ts';
import type { Header, Reply } from './types.ts';

const EMPTY = new Uint8Array(0);

/** Payload of a message as it comes in. */
export class Inbound {
  readonly totalBytes: number;
  readonly bytes: Uint8Array;
  /** Bytes whose pieces have come whole. */
  receivedBytes = 0;
  /** Where the piece being received ends. */
  expectedBytes = 0;

  /** `bytes` comes from the pool, and was not given back. */
  #pooled: boolean;

  /** `into` is used instead of memory of our own if the payload fits. */
  constructor(totalBytes: number, into?: Uint8Array) {
    const fits = into !== undefined && into.length >= totalBytes;
    this.totalBytes = totalBytes;
    this.#pooled = !fits && totalBytes > 0;
    if (fits) this.bytes = into.subarray(0, totalBytes);
    else this.bytes = totalBytes === 0 ? EMPTY : payloadPool.take(totalBytes);
  }

  /** Nobody but us knows `bytes` before the payload is complete; if it never is, they are left to the collector. */
  get isPrivate(): boolean {
    return this.#pooled;
  }

  /** Only when nothing reads or writes `bytes` any more. */
  recycle(): void {
    if (!this.#pooled || !this.complete) return;
    this.#pooled = false;
    payloadPool.giveBack(this.bytes);
  }

  get complete(): boolean {
    return this.receivedBytes === this.totalBytes;
  }
}

/** Our call, open at the peer. */
export interface OutCall {
  readonly id: number;
  readonly startedMs: number;
  readonly deadlineMs: number;
  readonly method: string;
  /** Set for calls with a payload that is not all sent. */
  readonly message: OutMessage | undefined;
  readonly into: Uint8Array | undefined;
  /** The reply's header, once it is there. */
  header: Header;
  inbound: Inbound | undefined;
  /** Exactly one of the two is called, once. */
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: TatamiError) => void;
}

/** The peer's call, open here. Stays until its handler has answered, even if the caller is gone: it still uses memory. */
export class InRequest {
  readonly id: number;
  readonly method: string;
  readonly header: Header;
  readonly deadlineMs: number;
  readonly inbound: Inbound;
  /** Set when nobody waits for the answer any more. */
  ended: TatamiError | undefined;
  started = false;
  /** Its payload counts in the request backlog. */
  counted = false;
  /** The driver's: more of the payload has come, or `ended` was set. */
  onProgress: (() => void) | undefined;

  constructor(id: number, method: string, header: Header, deadlineMs: number, payloadBytes: number) {
    this.id = id;
    this.method = method;
    this.header = header;
    this.deadlineMs = deadlineMs;
    this.inbound = new Inbound(payloadBytes);
  }
}
