/** A request as its handler sees it. */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import { StateError } from '../errors.ts';
import type { InRequest } from './rpc-state.ts';
import type { Channel, Header, IncomingRequest, RemoteIdentity } from './types.ts';

export class Incoming implements IncomingRequest {
  readonly #request: InRequest;
  readonly channel: Channel;
  #abort: Cancellation | undefined;
  #waiting: (() => void) | undefined;
  #payloadTaken = false;

  constructor(request: InRequest, channel: Channel) {
    this.#request = request;
    this.channel = channel;
    request.onProgress = () => {
      this.#progress();
    };
  }

  get method(): string {
    return this.#request.method;
  }
  get header(): Header {
    return this.#request.header;
  }
  get remote(): RemoteIdentity {
    return this.channel.remote;
  }
  get payloadBytes(): number {
    return this.#request.inbound.totalBytes;
  }
  get deadlineMs(): number {
    return this.#request.deadlineMs;
  }

  /** Made when first asked for: most handlers never look. */
  get signal(): CancelSignal {
    if (this.#abort === undefined) {
      this.#abort = new Cancellation();
      if (this.#request.ended !== undefined) this.#abort.abort(this.#request.ended);
    }
    return this.#abort.signal;
  }

  payload(): Promise<Uint8Array> {
    this.#takePayload();
    const { inbound } = this.#request;
    if (inbound.complete) return Promise.resolve(inbound.bytes);
    return this.#wholePayload();
  }

  recycle(): void {
    this.#request.inbound.recycle();
  }

  async *payloadChunks(): AsyncGenerator<Uint8Array, void, void> {
    this.#takePayload();
    const { inbound } = this.#request;
    let givenBytes = 0;
    while (givenBytes < inbound.totalBytes) {
      if (inbound.receivedBytes === givenBytes) await this.#nextProgress();
      const chunk = inbound.bytes.subarray(givenBytes, inbound.receivedBytes);
      givenBytes = inbound.receivedBytes;
      if (chunk.length > 0) yield chunk;
    }
  }

  async #wholePayload(): Promise<Uint8Array> {
    const { inbound } = this.#request;
    while (!inbound.complete) await this.#nextProgress();
    return inbound.bytes;
  }

  #takePayload(): void {
    if (this.#payloadTaken) throw new StateError('the payload of a request can be taken once');
    this.#payloadTaken = true;
  }

  #nextProgress(): Promise<void> {
    return new Promise((resolve, reject) => {
      const { ended } = this.#request;
      if (ended !== undefined) {
        reject(ended);
        return;
      }
      this.#waiting = () => {
        const now = this.#request.ended;
        if (now === undefined) resolve();
        else reject(now);
      };
    });
  }

  #progress(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
    if (this.#request.ended !== undefined) this.#abort?.abort(this.#request.ended);
  }
}
