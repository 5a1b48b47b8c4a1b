/**
 * The bookkeeping of one authenticated connection. Pure: bytes, calls, replies and ticks go in; frames, dispatches and
 * settled calls come out through {@link RpcEffects}. Both sides may call; ids are the caller's own.
 *
 * - Every call ends: by its reply, its deadline, its cancellation or the end of the connection. A reply that comes later
 *   is counted and dropped.
 * - Liveness: after PING_INTERVAL_MS without a byte from the peer it is pinged; after PEER_DOWN_AFTER_MS the connection
 *   is given up. Bytes of any kind count as life.
 * - Back-pressure: more than REQUESTS_PER_CONNECTION_MAX open requests are refused. While REPLY_BACKLOG_MAX_BYTES of
 *   replies wait to be sent, no new request is started. While handlers hold REQUEST_BACKLOG_MAX_BYTES of payloads that
 *   arrived whole, nothing is read, unless we await replies on this connection ourselves: two sides that both stopped
 *   reading while waiting for each other would never go on.
 */
import {
  CancelledError,
  CorruptionError,
  FormatError,
  OverloadedError,
  PeerUnreachableError,
  TimeoutError,
  TooLargeError,
} from '../errors.ts';
import type { TatamiError } from '../errors.ts';
import { MiB, PAYLOAD_MAX_BYTES, PING_INTERVAL_MS, REQUESTS_PER_CONNECTION_MAX } from '../limits.ts';
import { FLAG_OF_REPLY, FrameType, bareFrame, sealFrame } from './frames.ts';
import type { FrameSink } from './frames.ts';
import { packError, packRequest, packResponse, unpackError, unpackRequest, unpackResponse } from './messages.ts';
import { Liveness } from './liveness.ts';
import { InRequest, Inbound } from './rpc-state.ts';
import type { OutCall } from './rpc-state.ts';
import { OutMessage, SendQueue } from './send-queue.ts';
import type { QueueOutput } from './send-queue.ts';
import type { Rumour } from './membership/board.ts';
import type { Header, News, Reply } from './types.ts';

/** Eight blocks: enough to keep disk and network busy at once, little memory for each peer. */
export const REPLY_BACKLOG_MAX_BYTES = 32 * MiB;
/** As {@link REPLY_BACKLOG_MAX_BYTES}, for what came in. */
export const REQUEST_BACKLOG_MAX_BYTES = 32 * MiB;
/** Ticks are asked for no more often than this: deadlines are this coarse. */
const TICK_MIN_MS = 5;
/** While buffers wait to be given back, look this often whether they were sent. */
const RELEASE_TICK_MS = 50;
/** Payloads of these methods are verified end to end by their block ids, so their pieces carry no checksum. */
const UNCHECKED_METHOD_PREFIX = 'block.';

const NO_NEWS: News = { catalogEpoch: 0, fullPermille: 0, gcGeneration: 0 };

export interface RpcEffects extends Omit<QueueOutput, 'releasesPending'> {
  /** Starts the handler; its end is reported by `reply` or `replyError`. */
  start(request: InRequest): void;
  setReading(on: boolean): void;
  ownNews(): News;
  /** What is to be told about nodes with the next message; mostly undefined. Whatever is returned is told. */
  rumours(): readonly Rumour[] | undefined;
  heard(news: News, rumours: readonly Rumour[] | undefined, nowMs: number): void;
  /** The peer will close soon. */
  goneAway(): void;
  /** Nothing more of the piece being received is to be written to its place. */
  skipPiece(): void;
  /** The connection cannot go on: close it, then call `closed`. */
  fatal(error: TatamiError): void;
  /** `tick` wants to be called at this time at the latest. */
  wakeAt(atMs: number): void;
}

export interface RpcCounts {
  readonly inFlightCount: number;
  readonly openRequestCount: number;
  readonly lateReplyCount: number;
}

export class RpcCore implements FrameSink {
  readonly #effects: RpcEffects;
  readonly #queue: SendQueue;
  readonly #calls = new Map<number, OutCall>();
  readonly #requests = new Map<number, InRequest>();
  /** Requests not started because replies pile up. */
  readonly #deferred: InRequest[] = [];
  /** Replies with payloads that are not all sent, so that a CANCEL can stop them. */
  readonly #replies = new Map<number, OutMessage>();
  /** Whose piece the decoder is (or was last) filling. */
  #filling: Inbound | undefined;
  #nextId = 1;
  #nowMs: number;
  readonly #liveness: Liveness;
  #wakeMs = Infinity;
  #reading = true;
  #closedBy: TatamiError | undefined;
  #backlogBytes = 0;
  #lateReplyCount = 0;
  #news: News = NO_NEWS;

  constructor(effects: RpcEffects, nowMs: number) {
    this.#effects = effects;
    this.#queue = new SendQueue({
      write: (chunks) => effects.write(chunks),
      queuedBytes: () => effects.queuedBytes(),
      releasesPending: () => this.#wake(this.#nowMs + RELEASE_TICK_MS),
    });
    this.#nowMs = nowMs;
    this.#liveness = new Liveness(nowMs);
    this.#wake(nowMs + PING_INTERVAL_MS);
  }

  /** Smoothed round trip of calls without payloads and of pings. */
  get rttMs(): number | undefined {
    return this.#liveness.rttMs;
  }

  counts(): RpcCounts {
    return {
      inFlightCount: this.#calls.size,
      openRequestCount: this.#requests.size,
      lateReplyCount: this.#lateReplyCount,
    };
  }

  get inFlightCount(): number {
    return this.#calls.size;
  }

  // Calls

  /**
   * Starts a call. `payload` is all of it, or only its length for a stream, whose bytes follow by `append`.
   * Throws TooLargeError or UsageError for what cannot be sent.
   */
  call(
    method: string,
    header: Header,
    payload: readonly Uint8Array[] | number,
    timeoutMs: number,
    nowMs: number,
    resolve: (reply: Reply) => void,
    reject: (error: TatamiError) => void,
    into?: Uint8Array,
  ): OutCall {
    this.#nowMs = nowMs;
    const totalBytes = typeof payload === 'number' ? payload : sumBytes(payload);
    checkPayloadBytes(totalBytes);
    const frame = packRequest(method, timeoutMs, this.#effects.ownNews(), header, this.#effects.rumours());
    const id = this.#takeId();
    const message =
      totalBytes === 0 ? undefined : new OutMessage(FrameType.request, id, frame, totalBytes, isChecked(method));
    const deadlineMs = nowMs + timeoutMs;
    const call: OutCall = {
      id,
      startedMs: nowMs,
      deadlineMs,
      method,
      message,
      into,
      header: undefined,
      inbound: undefined,
      resolve,
      reject,
    };
    this.#calls.set(id, call);
    this.#wake(deadlineMs);
    if (message === undefined) {
      sealFrame(frame, FrameType.request, 0, id, 0, 0);
      this.#queue.sendNow(frame);
    } else if (typeof payload === 'number') {
      this.#queue.open(message);
    } else {
      this.#queue.send(message, payload);
    }
    if (!this.#reading) this.#updateReading();
    return call;
  }

  /** Adds payload bytes to a streamed call. */
  append(call: OutCall, bytes: Uint8Array): void {
    if (call.message !== undefined) this.#queue.append(call.message, bytes);
  }

  /** Gives a call up: it rejects with `error` and the peer is told. Nothing happens if it has ended. */
  cancel(call: OutCall, error: TatamiError): void {
    if (!this.#endCall(call)) return;
    this.#queue.sendNow(bareFrame(FrameType.cancel, call.id));
    call.reject(error);
  }

  // Replies

  /** Answers a request. `release` is called once the payload's buffers are no longer needed. */
  reply(
    request: InRequest,
    header: Header,
    payload: readonly Uint8Array[],
    release: (() => void) | undefined,
    nowMs: number,
  ): void {
    this.#nowMs = nowMs;
    const wanted = this.#endRequest(request);
    try {
      if (!wanted) {
        release?.();
        return;
      }
      const totalBytes = sumBytes(payload);
      checkPayloadBytes(totalBytes);
      const frame = packResponse(this.#effects.ownNews(), header, this.#effects.rumours());
      if (totalBytes === 0) {
        sealFrame(frame, FrameType.response, 0, request.id, 0, 0);
        this.#queue.sendNow(frame);
        release?.();
        return;
      }
      const message = new OutMessage(FrameType.response, request.id, frame, totalBytes, isChecked(request.method));
      this.#replies.set(request.id, message);
      this.#queue.send(message, payload, () => {
        if (this.#replies.get(request.id) === message) this.#replies.delete(request.id);
        release?.();
      });
    } catch (error) {
      release?.();
      this.#sendError(request.id, error);
    } finally {
      this.#startDeferred();
    }
  }

  replyError(request: InRequest, error: unknown, nowMs: number): void {
    this.#nowMs = nowMs;
    if (this.#endRequest(request)) this.#sendError(request.id, error);
    this.#startDeferred();
  }

  // Events of the connection

  /** To be called before the bytes are given to the decoder. */
  received(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#liveness.received(nowMs);
  }

  drained(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#queue.pump();
    this.#startDeferred();
  }

  /** Tells the peer that no more requests will be answered. */
  sayGoAway(): void {
    this.#queue.sendNow(bareFrame(FrameType.goAway, 0));
  }

  /** The connection is not used any more: every call rejects, every handler is told. */
  closed(error: TatamiError): void {
    if (this.#closedBy !== undefined) return;
    this.#closedBy = error;
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    this.#queue.close();
    this.#deferred.length = 0;
    for (const call of calls)
      call.reject(
        new PeerUnreachableError(error.message, {
          cause: error,
          ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
        }),
      );
    for (const request of this.#requests.values()) this.#abandon(request, new CancelledError('the caller is gone'));
  }

  /** After closed: nothing of what was written is still on its way. */
  gone(): void {
    this.#queue.gone();
  }

  tick(nowMs: number): void {
    if (this.#closedBy !== undefined) return;
    const lateMs = nowMs - this.#wakeMs;
    this.#nowMs = nowMs;
    this.#wakeMs = Infinity;
    if (lateMs > PING_INTERVAL_MS) this.#liveness.wasStalled(nowMs);
    if (!this.#keepAlive(nowMs)) return;
    let nextMs = this.#liveness.nextMs(nowMs);
    for (const call of this.#calls.values()) {
      if (call.deadlineMs > nowMs) nextMs = Math.min(nextMs, call.deadlineMs);
      else
        this.cancel(
          call,
          new TimeoutError(`${call.method}: no answer within ${Math.round(call.deadlineMs - call.startedMs)} ms`),
        );
    }
    for (const request of this.#requests.values()) {
      if (request.ended !== undefined) continue;
      if (request.deadlineMs > nowMs) nextMs = Math.min(nextMs, request.deadlineMs);
      else this.#abandon(request, new TimeoutError(`${request.method}: the caller's deadline has passed`));
    }
    this.#queue.pump();
    if (this.#queue.hasReleases) nextMs = Math.min(nextMs, nowMs + RELEASE_TICK_MS);
    this.#startDeferred();
    this.#wake(Math.max(nextMs, nowMs + TICK_MIN_MS));
  }

  // FrameSink

  get placeIsPrivate(): boolean {
    return this.#filling?.isPrivate === true;
  }

  onFrame(
    type: FrameType,
    flags: number,
    id: number,
    header: Uint8Array,
    payloadBytes: number,
    chunkBytes: number,
  ): Uint8Array | undefined {
    switch (type) {
      case FrameType.request:
        return this.#onRequest(id, header, payloadBytes, chunkBytes);
      case FrameType.response:
        return this.#onResponse(id, header, payloadBytes, chunkBytes);
      case FrameType.error: {
        const { news, rumours, error } = unpackError(header);
        this.#hear(news, rumours);
        const call = this.#calls.get(id);
        if (call === undefined) this.#lateReplyCount += 1;
        else if (this.#endCall(call)) {
          this.#sampleRtt(call);
          call.reject(error);
        }
        return undefined;
      }
      case FrameType.data:
        return this.#onData(flags, id, payloadBytes, chunkBytes);
      case FrameType.cancel:
        this.#onCancel(id);
        return undefined;
      case FrameType.ping:
        this.#queue.sendNow(bareFrame(FrameType.pong, id));
        return undefined;
      case FrameType.pong:
        this.#liveness.ponged(id, this.#nowMs);
        return undefined;
      case FrameType.goAway:
        this.#effects.goneAway();
        return undefined;
      default:
        throw new FormatError(`a handshake frame (type ${type}) on an open connection`);
    }
  }

  onChunk(type: FrameType, flags: number, id: number, chunkBytes: number, intact: boolean): void {
    this.#filling = undefined;
    const ofReply = type === FrameType.response || (type === FrameType.data && (flags & FLAG_OF_REPLY) !== 0);
    if (ofReply) {
      const call = this.#calls.get(id);
      if (call?.inbound === undefined) return;
      if (!intact)
        this.cancel(call, new CorruptionError(`${call.method}: a piece of the reply was damaged on the way`));
      else {
        call.inbound.receivedBytes += chunkBytes;
        if (call.inbound.complete) this.#finishCall(call);
      }
      return;
    }
    const request = this.#requests.get(id);
    if (request === undefined || request.ended !== undefined) return;
    if (!intact) {
      const error = new CorruptionError(`${request.method}: a piece of the request was damaged on the way`);
      this.#sendError(id, error);
      this.#abandon(request, error);
      return;
    }
    const { inbound } = request;
    inbound.receivedBytes += chunkBytes;
    if (inbound.complete) this.#countPayload(request);
    request.onProgress?.();
  }

  // Incoming

  #onRequest(id: number, bytes: Uint8Array, payloadBytes: number, chunkBytes: number): Uint8Array | undefined {
    const { method, remainingMs, news, rumours, header } = unpackRequest(bytes);
    this.#hear(news, rumours);
    if (this.#requests.has(id)) throw new FormatError(`request id ${id} is used twice at once`);
    if (this.#requests.size >= REQUESTS_PER_CONNECTION_MAX) {
      this.#sendError(
        id,
        new OverloadedError(`more than ${REQUESTS_PER_CONNECTION_MAX} requests are open on this connection`, {
          remedy: 'Try again a little later, or at another node.',
        }),
      );
      return undefined;
    }
    const request = new InRequest(id, method, header, this.#nowMs + remainingMs, payloadBytes);
    this.#requests.set(id, request);
    this.#wake(request.deadlineMs);
    if (this.#queue.backlogBytes >= REPLY_BACKLOG_MAX_BYTES) this.#deferred.push(request);
    else this.#start(request);
    // A handler that answered at once has no use for the payload.
    return this.#requests.get(id) === request ? this.#expectPiece(request.inbound, chunkBytes) : undefined;
  }

  #onResponse(id: number, bytes: Uint8Array, payloadBytes: number, chunkBytes: number): Uint8Array | undefined {
    const { news, rumours, header } = unpackResponse(bytes);
    this.#hear(news, rumours);
    const call = this.#calls.get(id);
    if (call === undefined) {
      this.#lateReplyCount += 1;
      return undefined;
    }
    if (call.inbound !== undefined) throw new FormatError(`request ${id} is answered twice`);
    call.header = header;
    if (payloadBytes === 0) {
      this.#sampleRtt(call);
      this.#finishCall(call);
      return undefined;
    }
    call.inbound = new Inbound(payloadBytes, call.into);
    return this.#expectPiece(call.inbound, chunkBytes);
  }

  #onData(flags: number, id: number, payloadBytes: number, chunkBytes: number): Uint8Array | undefined {
    let inbound: Inbound | undefined;
    if ((flags & FLAG_OF_REPLY) === 0) {
      const request = this.#requests.get(id);
      inbound = request?.ended === undefined ? request?.inbound : undefined;
    } else {
      const call = this.#calls.get(id);
      if (call !== undefined && call.inbound === undefined)
        throw new FormatError(`payload of request ${id} before its reply`);
      inbound = call?.inbound;
    }
    // Of a call or request that has ended meanwhile: skipped.
    if (inbound === undefined) return undefined;
    if (inbound.totalBytes !== payloadBytes) throw new FormatError(`the payload of request ${id} changed its length`);
    return this.#expectPiece(inbound, chunkBytes);
  }

  #expectPiece(inbound: Inbound, chunkBytes: number): Uint8Array | undefined {
    if (chunkBytes === 0) return undefined;
    const from = inbound.expectedBytes;
    if (from + chunkBytes > inbound.totalBytes) throw new FormatError('a payload is longer than announced');
    inbound.expectedBytes += chunkBytes;
    this.#filling = inbound;
    return inbound.bytes.subarray(from, from + chunkBytes);
  }

  #onCancel(id: number): void {
    const request = this.#requests.get(id);
    if (request !== undefined) this.#abandon(request, new CancelledError('the caller has cancelled'));
    const reply = this.#replies.get(id);
    if (reply !== undefined) {
      this.#replies.delete(id);
      this.#queue.drop(reply);
      this.#startDeferred();
    }
  }

  #start(request: InRequest): void {
    request.started = true;
    this.#effects.start(request);
  }

  #startDeferred(): void {
    while (this.#deferred.length > 0 && this.#queue.backlogBytes < REPLY_BACKLOG_MAX_BYTES) {
      const request = this.#deferred.shift();
      if (request !== undefined && request.ended === undefined) this.#start(request);
    }
  }

  /** Nobody waits for the answer any more. */
  #abandon(request: InRequest, error: TatamiError): void {
    if (request.ended !== undefined) return;
    request.ended = error;
    if (!request.started) this.#endRequest(request);
    request.onProgress?.();
  }

  /** The handler is done. True if its answer is still wanted. */
  #endRequest(request: InRequest): boolean {
    if (this.#requests.get(request.id) === request) this.#requests.delete(request.id);
    if (request.counted) {
      request.counted = false;
      this.#backlogBytes -= request.inbound.totalBytes;
      this.#updateReading();
    }
    return request.ended === undefined && this.#closedBy === undefined;
  }

  #sendError(id: number, error: unknown): void {
    const frame = packError(this.#effects.ownNews(), error, this.#effects.rumours());
    sealFrame(frame, FrameType.error, 0, id, 0, 0);
    this.#queue.sendNow(frame);
  }

  #countPayload(request: InRequest): void {
    request.counted = true;
    this.#backlogBytes += request.inbound.totalBytes;
    this.#updateReading();
  }

  #updateReading(): void {
    const full = this.#backlogBytes > (this.#reading ? REQUEST_BACKLOG_MAX_BYTES : REQUEST_BACKLOG_MAX_BYTES / 2);
    const reading = !full || this.#calls.size > 0;
    if (reading === this.#reading || this.#closedBy !== undefined) return;
    this.#reading = reading;
    if (reading) this.#liveness.received(this.#nowMs);
    this.#effects.setReading(reading);
  }

  // Own calls

  #takeId(): number {
    for (;;) {
      const id = this.#nextId;
      this.#nextId = id === 0xffff_ffff ? 1 : id + 1;
      if (!this.#calls.has(id)) return id;
    }
  }

  #finishCall(call: OutCall): void {
    const { inbound } = call;
    if (!this.#endCall(call)) return;
    if (inbound === undefined) call.resolve({ header: call.header, payload: new Uint8Array(0) });
    else call.resolve({ header: call.header, payload: inbound.bytes, recycle: () => inbound.recycle() });
  }

  #endCall(call: OutCall): boolean {
    if (this.#calls.get(call.id) !== call) return false;
    this.#calls.delete(call.id);
    // The caller may use its buffer for something else from now on.
    if (call.inbound !== undefined && this.#filling === call.inbound) {
      this.#filling = undefined;
      this.#effects.skipPiece();
    }
    if (call.message !== undefined) this.#queue.drop(call.message);
    if (this.#calls.size === 0 && this.#backlogBytes > 0) this.#updateReading();
    return true;
  }

  // Liveness

  /** False if the peer was given up. */
  #keepAlive(nowMs: number): boolean {
    if (!this.#reading) {
      // It cannot be silent while we do not listen; but it must see that we live.
      this.#liveness.received(nowMs);
      this.#queue.sendNow(bareFrame(FrameType.pong, 0));
      return true;
    }
    const step = this.#liveness.tick(nowMs);
    if (step.kind === 'ping') this.#queue.sendNow(bareFrame(FrameType.ping, step.id));
    if (step.kind !== 'dead') return true;
    this.#effects.fatal(
      new PeerUnreachableError(`nothing was heard from the peer for ${Math.round(step.silentMs)} ms`),
    );
    return false;
  }

  #wake(atMs: number): void {
    if (atMs >= this.#wakeMs) return;
    this.#wakeMs = atMs;
    this.#effects.wakeAt(atMs);
  }

  #sampleRtt(call: OutCall): void {
    if (call.message === undefined) this.#liveness.addSample(this.#nowMs - call.startedMs);
  }

  #hear(news: News, rumours: readonly Rumour[] | undefined): void {
    const last = this.#news;
    // Mostly nothing is new: hand on one object instead of many.
    const same =
      last.catalogEpoch === news.catalogEpoch &&
      last.fullPermille === news.fullPermille &&
      last.gcGeneration === news.gcGeneration;
    if (!same) this.#news = news;
    this.#effects.heard(this.#news, rumours, this.#nowMs);
  }
}

function checkPayloadBytes(totalBytes: number): void {
  if (totalBytes > PAYLOAD_MAX_BYTES)
    throw new TooLargeError(`a payload of ${totalBytes} bytes; the limit is ${PAYLOAD_MAX_BYTES}`);
}

function isChecked(method: string): boolean {
  return !method.startsWith(UNCHECKED_METHOD_PREFIX);
}

function sumBytes(payload: readonly Uint8Array[]): number {
  let sum = 0;
  for (const bytes of payload) sum += bytes.length;
  return sum;
}
