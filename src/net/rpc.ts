/** Drives an RpcCore over a Connection: promises, abort signals, payload streams and the timer. */
import { allowManyListeners } from '../cancel.ts';
import type { Connection, Env, Timer } from '../env.ts';
import { CancelledError, FormatError, PeerUnreachableError, StateError, TatamiError, TimeoutError } from '../errors.ts';
import { PAYLOAD_CHUNK_BYTES } from '../limits.ts';
import type { FrameDecoder } from './frames.ts';
import { OPEN_LIMITS } from './frames.ts';
import { Incoming } from './incoming.ts';
import type { Log } from './log.ts';
import { Teller } from './membership/board.ts';
import type { MemberBoard, Rumour } from './membership/board.ts';
import { TIMEOUT_MAX_MS } from './messages.ts';
import { RpcCore } from './rpc-core.ts';
import type { RpcCounts } from './rpc-core.ts';
import type { InRequest, OutCall } from './rpc-state.ts';
import type { CallOptions, Channel, Handler, HandlerReply, Header, News, RemoteIdentity, Reply } from './types.ts';

/** A stream's source is not asked for more while this much of it waits to be written. */
const STREAM_BUFFER_BYTES = 2 * PAYLOAD_CHUNK_BYTES;

export interface RpcChannelOptions {
  readonly env: Pick<Env, 'clock'>;
  readonly connection: Connection;
  readonly remote: RemoteIdentity;
  readonly handlers: ReadonlyMap<string, Handler>;
  readonly ownNews: () => News;
  readonly heard: (news: News, rumours: readonly Rumour[] | undefined, nowMs: number, channel: RpcChannel) => void;
  /** What this process tells about nodes; absent on clients, which tell nothing. */
  readonly board?: MemberBoard;
  readonly onGoAway: (channel: RpcChannel) => void;
  readonly log: Log;
}

/** One authenticated connection. Whoever owns the connection passes its events to receive, drained and ended. */
export class RpcChannel implements Channel {
  readonly remote: RemoteIdentity;
  readonly #options: RpcChannelOptions;
  readonly #core: RpcCore;
  readonly #teller: Teller | undefined;
  readonly #closeCallbacks: (() => void)[] = [];
  #timer: Timer | undefined;
  #timerAtMs = Infinity;
  #closed = false;
  #closedBy: TatamiError | undefined;

  /** `decoder` goes on where the handshake left it. */
  constructor(options: RpcChannelOptions, decoder: FrameDecoder) {
    this.#options = options;
    this.remote = options.remote;
    const { connection, board } = options;
    const remoteNode = options.remote.nodeId;
    this.#teller = board && new Teller();
    this.#core = new RpcCore(
      {
        write: (chunks) => {
          connection.write(chunks);
        },
        queuedBytes: () => connection.queuedBytes,
        start: (request) => {
          this.#startHandler(request);
        },
        setReading: (on) => {
          if (on) connection.resume();
          else connection.pause();
        },
        ownNews: options.ownNews,
        rumours: () => {
          const teller = this.#teller;
          return teller !== undefined && board?.hasNews(teller) === true ? board.take(teller, remoteNode) : undefined;
        },
        heard: (news, rumours, nowMs) => {
          options.heard(news, rumours, nowMs, this);
        },
        goneAway: () => {
          options.onGoAway(this);
        },
        skipPiece: () => {
          decoder.skipPiece();
        },
        fatal: (error) => {
          this.fail(error);
        },
        wakeAt: (atMs) => {
          this.#wakeAt(atMs);
        },
      },
      this.#now(),
    );
    decoder.sink = this.#core;
    decoder.limits = OPEN_LIMITS;
  }

  get closed(): boolean {
    return this.#closed;
  }
  /** Why it closed, once it has. */
  get closedBy(): TatamiError | undefined {
    return this.#closedBy;
  }
  get rttMs(): number | undefined {
    return this.#core.rttMs;
  }
  get inFlightCount(): number {
    return this.#core.inFlightCount;
  }
  counts(): RpcCounts {
    return this.#core.counts();
  }

  call(method: string, header: Header, options: CallOptions): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const { timeoutMs, signal, payload, into } = options;
      if (this.#closed) {
        reject(new PeerUnreachableError(`the connection to ${this.#name()} is closed`, { cause: this.#closedBy }));
        return;
      }
      if (signal?.aborted === true) {
        reject(new CancelledError());
        return;
      }
      if (!(timeoutMs > 0)) {
        reject(new TimeoutError(`${method}: its time was up before it was sent`));
        return;
      }
      const stream = payload !== undefined && 'chunks' in payload ? payload : undefined;
      const plain =
        payload === undefined ? [] : stream === undefined ? (payload as readonly Uint8Array[]) : stream.lengthBytes;
      const waitMs = Math.min(timeoutMs, TIMEOUT_MAX_MS);
      if (signal === undefined) {
        const call = this.#core.call(method, header, plain, waitMs, this.#now(), resolve, reject, into);
        if (stream !== undefined) void this.#sendStream(call, stream);
        return;
      }
      const onAbort = (): void => {
        this.#core.cancel(call, new CancelledError());
      };
      const settled = <T>(settle: (value: T) => void) => {
        return (value: T): void => {
          signal.removeEventListener('abort', onAbort);
          settle(value);
        };
      };
      const call = this.#core.call(method, header, plain, waitMs, this.#now(), settled(resolve), settled(reject), into);
      // One signal ends many calls at once (a client that closes); each listener is removed when its call settles.
      allowManyListeners(signal);
      signal.addEventListener('abort', onAbort, { once: true });
      if (stream !== undefined) void this.#sendStream(call, stream);
    });
  }

  /** Tells the peer of this connection all that is known about nodes once more. */
  tellAll(): void {
    if (this.#teller !== undefined) this.#options.board?.tellAll(this.#teller);
  }

  onClose(callback: () => void): void {
    if (this.#closed) callback();
    else this.#closeCallbacks.push(callback);
  }

  close(): void {
    if (this.#closed) return;
    this.#core.sayGoAway();
    this.#end(new PeerUnreachableError('the connection was closed on this side'));
    this.#options.connection.end();
  }

  /** Closes at once, because of `error`. */
  fail(error: TatamiError): void {
    if (this.#closed) return;
    this.#end(error);
    this.#options.connection.destroy(error);
    this.#core.gone();
  }

  // Events of the connection

  received(): void {
    this.#core.received(this.#now());
  }

  drained(): void {
    if (!this.#closed) this.#core.drained(this.#now());
  }

  ended(error?: Error): void {
    const reason = error === undefined ? 'it ended the connection' : error.message;
    this.#end(new PeerUnreachableError(`the connection to ${this.#name()} is gone: ${reason}`, { cause: error }));
    this.#core.gone();
  }

  #end(error: TatamiError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closedBy = error;
    this.#timer?.cancel();
    this.#core.closed(error);
    for (const callback of this.#closeCallbacks.splice(0)) callback();
  }

  #now(): number {
    return this.#options.env.clock.monotonicMs();
  }

  #name(): string {
    const { nodeId, label, address } = this.remote;
    return `${nodeId ?? label} (${address})`;
  }

  #wakeAt(atMs: number): void {
    if (this.#closed || atMs >= this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#options.env.clock.setTimer(Math.max(0, atMs - this.#now()), () => {
      this.#timerAtMs = Infinity;
      if (!this.#closed) this.#core.tick(this.#now());
    });
  }

  async #sendStream(
    call: OutCall,
    stream: { readonly lengthBytes: number; readonly chunks: AsyncIterable<Uint8Array> },
  ): Promise<void> {
    const { message } = call;
    try {
      let givenBytes = 0;
      for await (const chunk of stream.chunks) {
        if (message === undefined || message.dropped) break;
        givenBytes += chunk.length;
        if (givenBytes > stream.lengthBytes) break;
        this.#core.append(call, chunk);
        if (message.bufferedBytes >= STREAM_BUFFER_BYTES) {
          await new Promise<void>((resolve) => {
            message.onEmpty = resolve;
          });
          message.onEmpty = undefined;
        }
      }
      if (givenBytes !== stream.lengthBytes && message?.dropped !== true) {
        this.#core.cancel(
          call,
          new StateError(`${call.method}: a payload announced as ${stream.lengthBytes} bytes has ${givenBytes}`),
        );
      }
    } catch (error) {
      const reason =
        error instanceof TatamiError
          ? error
          : new CancelledError(`${call.method}: its payload's source failed`, { cause: error });
      this.#core.cancel(call, reason);
    }
  }

  #startHandler(request: InRequest): void {
    const handler = this.#options.handlers.get(request.method);
    if (handler === undefined) {
      const error = new FormatError(`unknown method ${JSON.stringify(request.method)}`, {
        remedy: 'Run the same version of tatamifs on all machines.',
      });
      this.#core.replyError(request, error, this.#now());
      return;
    }
    try {
      const result = handler(new Incoming(request, this));
      if (result instanceof Promise) {
        result.then(
          (reply) => {
            this.#reply(request, reply);
          },
          (error: unknown) => {
            this.#replyError(request, error);
          },
        );
      } else {
        this.#reply(request, result);
      }
    } catch (error) {
      this.#replyError(request, error);
    }
  }

  #reply(request: InRequest, reply: HandlerReply): void {
    this.#core.reply(request, reply.header, reply.payload ?? [], reply.release, this.#now());
  }

  #replyError(request: InRequest, error: unknown): void {
    if (!(error instanceof TatamiError)) {
      this.#options.log('error', `handler of ${request.method} failed`, { error, method: request.method });
    }
    this.#core.replyError(request, error, this.#now());
  }
}
