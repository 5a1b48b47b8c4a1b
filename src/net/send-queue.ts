/**
 * What one connection has still to send. Pure. Frames without payload go out at once; payloads leave in pieces of
 * PAYLOAD_CHUNK_BYTES, and only while little is queued below, so that a small frame never waits behind more than that.
 *
 * Order among payloads: those that fit one piece alternate with the others; of the others, ACTIVE_COUNT_MAX take turns
 * and the rest wait (finishing some early is better for everybody than finishing all late, and it bounds what the
 * receiver has half-filled).
 */
import { StateError } from '../errors.ts';
import { MiB, PAYLOAD_CHUNK_BYTES } from '../limits.ts';
import { xxh64OfAll } from './checksum.ts';
import { FLAG_OF_REPLY, FRAME_FIXED_BYTES, FrameType, sealFrame } from './frames.ts';

/** Payload pieces are written while less than this is queued below: enough to keep the pipe busy, little to wait behind. */
export const QUEUED_MAX_BYTES = MiB;
const ACTIVE_COUNT_MAX = 4;

export interface QueueOutput {
  write(chunks: readonly Uint8Array[]): void;
  /** Of the bytes written, those not yet taken by the system. */
  queuedBytes(): number;
  /** Buffers wait to be given back: call `pump` from time to time even if the connection does not drain. */
  releasesPending(): void;
}

/** One REQUEST or RESPONSE with a payload, on its way out. */
export class OutMessage {
  readonly type: typeof FrameType.request | typeof FrameType.response;
  readonly requestId: number;
  readonly totalBytes: number;
  readonly checked: boolean;
  /** First frame with room for its fixed header; undefined once it is sent. */
  frame: Uint8Array | undefined;
  /** Given and not yet written. Invariant: bufferedBytes is the sum of segments, less segmentAt. */
  readonly segments: Uint8Array[] = [];
  segmentAt = 0;
  bufferedBytes = 0;
  /** Written to the connection. Invariant: sentBytes + bufferedBytes <= totalBytes. */
  sentBytes = 0;
  /** In one of the queue's lists. */
  listed = false;
  dropped = false;
  /** Called when a stream has nothing buffered any more, or was dropped. */
  onEmpty: (() => void) | undefined;
  release: (() => void) | undefined;

  constructor(type: OutMessage['type'], requestId: number, frame: Uint8Array, totalBytes: number, checked: boolean) {
    this.type = type;
    this.requestId = requestId;
    this.frame = frame;
    this.totalBytes = totalBytes;
    this.checked = checked;
  }
}

export class SendQueue {
  readonly #output: QueueOutput;
  /** Payloads of one piece. */
  readonly #singles: OutMessage[] = [];
  readonly #active: OutMessage[] = [];
  readonly #waiting: OutMessage[] = [];
  #singlesTurn = true;
  #writtenBytes = 0;
  /** In order of `at`: buffers to be given back once that many bytes have been taken by the system. */
  readonly #releases: { readonly at: number; readonly release: () => void }[] = [];
  #backlogBytes = 0;
  #closed = false;

  constructor(output: QueueOutput) {
    this.#output = output;
  }

  /** Payload bytes buffered here and not yet written. */
  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  /** Sends a sealed frame without payload, before all payload pieces. */
  sendNow(frame: Uint8Array): void {
    if (this.#closed) return;
    this.#writtenBytes += frame.length;
    this.#output.write([frame]);
  }

  /** Queues a message whose payload is all there. The buffers must not change until `release`. */
  send(message: OutMessage, payload: readonly Uint8Array[], release?: () => void): void {
    message.release = release;
    if (this.#closed) {
      this.drop(message);
      return;
    }
    this.#buffer(message, payload);
    message.listed = true;
    if (message.totalBytes <= PAYLOAD_CHUNK_BYTES) this.#singles.push(message);
    else if (this.#active.length < ACTIVE_COUNT_MAX) this.#active.push(message);
    else this.#waiting.push(message);
    this.pump();
  }

  /** Opens a message whose payload comes later, by {@link append}; its first frame leaves at once. */
  open(message: OutMessage): void {
    const { frame } = message;
    if (frame === undefined) throw new StateError('this message was opened before');
    message.frame = undefined;
    sealFrame(frame, message.type, 0, message.requestId, message.totalBytes, 0);
    this.sendNow(frame);
  }

  /** Adds bytes to an open message. */
  append(message: OutMessage, bytes: Uint8Array): void {
    if (this.#closed || message.dropped || bytes.length === 0) return;
    this.#buffer(message, [bytes]);
    if (!message.listed) {
      message.listed = true;
      this.#active.push(message);
    }
    this.pump();
  }

  /** Forgets what was not written yet. */
  drop(message: OutMessage): void {
    if (message.dropped) return;
    message.dropped = true;
    this.#backlogBytes -= message.bufferedBytes;
    message.bufferedBytes = 0;
    message.segments.length = 0;
    this.#releaseAtEnd(message);
    message.onEmpty?.();
  }

  /** Writes as many pieces as may be queued below. To be called when the connection has drained. */
  pump(): void {
    if (this.#closed) return;
    this.#runReleases();
    let room = QUEUED_MAX_BYTES - this.#output.queuedBytes();
    if (room <= 0) return;
    const chunks: Uint8Array[] = [];
    const emptied: OutMessage[] = [];
    while (room > 0) {
      const message = this.#next();
      if (message === undefined) break;
      const before = this.#writtenBytes;
      this.#writePiece(message, chunks);
      room -= this.#writtenBytes - before;
      if (message.bufferedBytes === 0) emptied.push(message);
    }
    if (chunks.length > 0) this.#output.write(chunks);
    for (const message of emptied) {
      if (message.sentBytes === message.totalBytes) this.#releaseAtEnd(message);
      else message.onEmpty?.();
    }
  }

  /** Nothing more is written. What was written is still being sent: its buffers wait for {@link gone}. */
  close(): void {
    if (this.#closed) return;
    const unsent = [...this.#singles, ...this.#active, ...this.#waiting];
    this.#singles.length = this.#active.length = this.#waiting.length = 0;
    for (const message of unsent) this.drop(message);
    this.#closed = true;
  }

  /** The connection is gone: everything is released. */
  gone(): void {
    this.close();
    for (const { release } of this.#releases.splice(0)) release();
  }

  /** Gives back buffers whose bytes the system has taken. */
  #runReleases(): void {
    const takenBytes = this.#releases.length === 0 ? 0 : this.#writtenBytes - this.#output.queuedBytes();
    for (;;) {
      const first = this.#releases[0];
      if (first === undefined || first.at > takenBytes) return;
      this.#releases.shift();
      first.release();
    }
  }

  #releaseAtEnd(message: OutMessage): void {
    const { release } = message;
    if (release === undefined) return;
    message.release = undefined;
    if (this.#closed || message.sentBytes === 0) release();
    else {
      this.#releases.push({ at: this.#writtenBytes, release });
      this.#output.releasesPending();
    }
  }

  get hasReleases(): boolean {
    return this.#releases.length > 0;
  }

  #buffer(message: OutMessage, payload: readonly Uint8Array[]): void {
    let addedBytes = 0;
    for (const segment of payload) {
      if (segment.length === 0) continue;
      message.segments.push(segment);
      addedBytes += segment.length;
    }
    if (message.sentBytes + message.bufferedBytes + addedBytes > message.totalBytes) {
      throw new StateError(`a payload announced as ${message.totalBytes} bytes is longer`);
    }
    message.bufferedBytes += addedBytes;
    this.#backlogBytes += addedBytes;
  }

  /** Whose turn it is; a message that will have nothing left is taken out of its list, others go to the end of it. */
  #next(): OutMessage | undefined {
    for (;;) {
      const fromSingles = this.#singles.length > 0 && (this.#singlesTurn || this.#active.length === 0);
      this.#singlesTurn = !fromSingles;
      const message = fromSingles ? this.#singles.shift() : this.#active.shift();
      if (message === undefined) return undefined;
      const goesOn = !message.dropped && message.bufferedBytes > PAYLOAD_CHUNK_BYTES;
      if (goesOn) this.#active.push(message);
      else message.listed = false;
      if (!fromSingles && !goesOn) this.#admit();
      if (!message.dropped) return message;
    }
  }

  #admit(): void {
    while (this.#active.length < ACTIVE_COUNT_MAX) {
      const message = this.#waiting.shift();
      if (message === undefined) return;
      if (!message.dropped) this.#active.push(message);
    }
  }

  #writePiece(message: OutMessage, out: Uint8Array[]): void {
    const pieceBytes = Math.min(message.bufferedBytes, PAYLOAD_CHUNK_BYTES);
    const piece: Uint8Array[] = [];
    let left = pieceBytes;
    while (left > 0) {
      const segment = message.segments[0];
      if (segment === undefined) throw new StateError('a payload is shorter than counted');
      const taken = Math.min(left, segment.length - message.segmentAt);
      piece.push(segment.subarray(message.segmentAt, message.segmentAt + taken));
      left -= taken;
      message.segmentAt += taken;
      if (message.segmentAt === segment.length) {
        message.segments.shift();
        message.segmentAt = 0;
      }
    }
    const first = message.frame;
    const frame = first ?? new Uint8Array(FRAME_FIXED_BYTES);
    message.frame = undefined;
    const type = first === undefined ? FrameType.data : message.type;
    const flags = type === FrameType.data && message.type === FrameType.response ? FLAG_OF_REPLY : 0;
    const sum = message.checked ? xxh64OfAll(piece) : undefined;
    sealFrame(frame, type, flags, message.requestId, message.totalBytes, pieceBytes, sum);
    out.push(frame, ...piece);
    message.sentBytes += pieceBytes;
    message.bufferedBytes -= pieceBytes;
    this.#backlogBytes -= pieceBytes;
    this.#writtenBytes += frame.length + pieceBytes;
  }
}
