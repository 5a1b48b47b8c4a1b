/**
 * Frames: how messages lie on a connection's byte stream. Pure. The layout is documented in docs/formats.md
 * ("Frames and packets"); a golden test holds the bytes.
 *
 *   0 u32 magic "TTMF"     16 u32 request id        32 u64 xxh64 of this frame's chunk, if flag CHECKED
 *   4 u64 xxh64 of 12..    20 u32 header bytes      40 header (msgpack)
 *  12 u8  version          24 u32 payload bytes     ..  chunk: a piece of the payload
 *  13 u8  type             28 u32 chunk bytes
 *  14 u16 flags
 *
 * The frame's xxh64 covers bytes 12 to the header's end, not the chunk: block payloads are verified end to end by their
 * BLAKE3 id, and a second checksum on the way would only cost time (docs/decisions/0001-frame-checksum.md). Other
 * payloads set CHECKED and have one checksum for each piece.
 */
import { Buffer } from 'node:buffer';
import { FormatError, TooLargeError, invariant } from '../errors.ts';
import { FRAME_HEADER_MAX_BYTES, PAYLOAD_CHUNK_BYTES, PAYLOAD_MAX_BYTES } from '../limits.ts';
import { xxh64 } from '../xxhash.ts';

export const FRAME_VERSION = 1;
/** Bytes before the msgpack header. */
export const FRAME_FIXED_BYTES = 40;
/** "TTMF" read as little-endian u32. */
const FRAME_MAGIC = 0x464d5454;
const CHECKSUM_AT = 4;
const COVERED_FROM = 12;

export const FrameType = {
  /** Handshake: who I am, and my nonce. */
  hello: 1,
  /** Handshake: HMAC over both hellos. */
  proof: 2,
  /** Handshake: the reason why not, in plain text, before closing. */
  refuse: 3,
  request: 4,
  response: 5,
  error: 6,
  /** A further piece of a payload. */
  data: 7,
  /** The caller no longer waits. */
  cancel: 8,
  ping: 9,
  pong: 10,
  /** No new requests, please: this side is about to close. */
  goAway: 11,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];
const LAST_TYPE = FrameType.goAway;

/** The chunk's xxh64 is in the fixed header. */
export const FLAG_CHECKED = 1;
/** On DATA: the piece belongs to a reply (its id is the receiver's), not to a request. */
export const FLAG_OF_REPLY = 2;
const KNOWN_FLAGS = FLAG_CHECKED | FLAG_OF_REPLY;

/**
 * Writes the fixed header into the first {@link FRAME_FIXED_BYTES} of `frame`, whose rest is the msgpack header.
 * `chunkSum` undefined leaves the chunk unchecked.
 */
export function sealFrame(
  frame: Uint8Array,
  type: FrameType,
  flags: number,
  requestId: number,
  payloadBytes: number,
  chunkBytes: number,
  chunkSum?: bigint,
): void {
  const headerBytes = frame.length - FRAME_FIXED_BYTES;
  invariant(headerBytes >= 0 && headerBytes <= FRAME_HEADER_MAX_BYTES, 'frames', `header of ${headerBytes} bytes`);
  const view = new DataView(frame.buffer, frame.byteOffset, FRAME_FIXED_BYTES);
  view.setUint32(0, FRAME_MAGIC, true);
  view.setUint8(12, FRAME_VERSION);
  view.setUint8(13, type);
  view.setUint16(14, chunkSum === undefined ? flags : flags | FLAG_CHECKED, true);
  view.setUint32(16, requestId, true);
  view.setUint32(20, headerBytes, true);
  view.setUint32(24, payloadBytes, true);
  view.setUint32(28, chunkBytes, true);
  view.setBigUint64(32, chunkSum ?? 0n, true);
  view.setBigUint64(CHECKSUM_AT, xxh64(frame.subarray(COVERED_FROM)), true);
}

/** A frame without header and payload: PING, PONG, CANCEL, GOAWAY. */
export function bareFrame(type: FrameType, requestId: number): Uint8Array {
  const frame = new Uint8Array(FRAME_FIXED_BYTES);
  sealFrame(frame, type, 0, requestId, 0, 0);
  return frame;
}

/** A frame with raw header bytes and no payload (the handshake's). */
export function plainFrame(type: FrameType, header: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_FIXED_BYTES + header.length);
  frame.set(header, FRAME_FIXED_BYTES);
  sealFrame(frame, type, 0, 0, 0, 0);
  return frame;
}

/** Memory that is about to be overwritten whole: not zeroed, its own allocation. */
export function allocateUninitialised(lengthBytes: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(lengthBytes).buffer);
}

/** Receives what the decoder finds, in order. */
export interface FrameSink {
  /**
   * A head whose lengths and checksum are right. `header` is valid only during the call. Returns the place for the
   * chunk's bytes, exactly `chunkBytes` long, or undefined to skip them.
   */
  onFrame(
    type: FrameType,
    flags: number,
    requestId: number,
    header: Uint8Array,
    payloadBytes: number,
    chunkBytes: number,
  ): Uint8Array | undefined;
  /** The chunk is in its place (not called for skipped or empty ones). `intact` is false if its checksum is wrong. */
  onChunk(type: FrameType, flags: number, requestId: number, chunkBytes: number, intact: boolean): void;
  /**
   * Whether the place given last may be received into straight away: nobody else writes or reads there before the piece
   * is whole, even if it is skipped meanwhile.
   */
  readonly placeIsPrivate?: boolean;
}

export interface FrameLimits {
  readonly headerMaxBytes: number;
  readonly payloadMaxBytes: number;
  /** Only types up to this one are let in (the handshake's, before it is through). */
  readonly lastType: FrameType;
}

export const OPEN_LIMITS: FrameLimits = {
  headerMaxBytes: FRAME_HEADER_MAX_BYTES,
  payloadMaxBytes: PAYLOAD_MAX_BYTES,
  lastType: LAST_TYPE,
};

/** Before authentication: small, no payloads, only the handshake's types. */
export const HANDSHAKE_LIMITS: FrameLimits = { headerMaxBytes: 4096, payloadMaxBytes: 0, lastType: FrameType.refuse };

/** Less than this is not worth a read of its own. */
const DIRECT_MIN_BYTES = 16 * 1024;
/** Room for a head whose chunk is then received into its place: reading more would mean copying that much. */
const HEAD_ROOM_BYTES = 1024;

/**
 * Cuts a byte stream, however it is split, into frames. Lengths are checked before anything is allocated for them; each
 * payload byte is copied once, to where the sink wants it. After it has thrown it must not be used again.
 */
export class FrameDecoder {
  /** May be changed by the sink during onFrame: it holds from the next frame on. */
  limits: FrameLimits;
  sink: FrameSink;
  /** A head that came in pieces: fixed part first, grown for the header once its length is known to be allowed. */
  #partial: Uint8Array = new Uint8Array(FRAME_FIXED_BYTES);
  #partialBytes = 0;
  /** Bytes of #partial that are wanted before going on. */
  #wantedBytes = FRAME_FIXED_BYTES;
  #chunkLeft = 0;
  #chunkBytes = 0;
  #target: Uint8Array | undefined;
  #type: FrameType = FrameType.ping;
  #flags = 0;
  #requestId = 0;
  #chunkSum = 0n;
  /** The last chunk was as long as chunks get: another of the same payload follows, most likely. */
  #inBulk = false;
  #headRoom: Uint8Array | undefined;

  constructor(sink: FrameSink, limits: FrameLimits) {
    this.sink = sink;
    this.limits = limits;
  }

  /** Throws FormatError or TooLargeError: the stream cannot be followed any further and must be closed. */
  push(bytes: Uint8Array): void {
    // A Buffer's views are Buffers, whose slice() does not copy: nobody above must get one unawares.
    const input = Buffer.isBuffer(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length) : bytes;
    let at = 0;
    while (at < input.length) {
      if (this.#chunkLeft > 0) {
        at = this.#takeChunk(input, at);
      } else if (this.#partialBytes === 0 && input.length - at >= FRAME_FIXED_BYTES) {
        at = this.#takeWholeHead(input, at);
      } else {
        at = this.#takePartialHead(input, at);
      }
    }
  }

  /**
   * Where the next bytes of the stream should be received (and then be given to {@link push}, which copies nothing that
   * lies in its place already); undefined: anywhere.
   */
  place(): Uint8Array | undefined {
    if (this.#chunkLeft === 0) {
      if (!this.#inBulk || this.#partialBytes > 0) return undefined;
      this.#headRoom ??= new Uint8Array(HEAD_ROOM_BYTES);
      return this.#headRoom;
    }
    const target = this.#target;
    if (target === undefined || this.#chunkLeft < DIRECT_MIN_BYTES || this.sink.placeIsPrivate !== true)
      return undefined;
    return target.subarray(this.#chunkBytes - this.#chunkLeft);
  }

  /** The rest of the piece being received is not wanted any more: nothing more is copied to its place from now on. */
  skipPiece(): void {
    this.#target = undefined;
  }

  /** The common case: the head lies in one piece in the input and is used in place. */
  #takeWholeHead(input: Uint8Array, at: number): number {
    const headerBytes = this.#checkFixed(input, at);
    const end = at + FRAME_FIXED_BYTES + headerBytes;
    if (end <= input.length) {
      this.#finishHead(at === 0 && end === input.length ? input : input.subarray(at, end));
      return end;
    }
    this.#keepPartial(input, at, FRAME_FIXED_BYTES + headerBytes);
    return input.length;
  }

  #takePartialHead(input: Uint8Array, from: number): number {
    const taken = Math.min(this.#wantedBytes - this.#partialBytes, input.length - from);
    this.#partial.set(input.subarray(from, from + taken), this.#partialBytes);
    this.#partialBytes += taken;
    if (this.#partialBytes < this.#wantedBytes) return from + taken;
    if (this.#wantedBytes === FRAME_FIXED_BYTES) {
      const headerBytes = this.#checkFixed(this.#partial, 0);
      if (headerBytes > 0) {
        this.#keepPartial(this.#partial.subarray(0, FRAME_FIXED_BYTES), 0, FRAME_FIXED_BYTES + headerBytes);
        return from + taken;
      }
    }
    const head = this.#partial.subarray(0, this.#wantedBytes);
    this.#partialBytes = 0;
    this.#wantedBytes = FRAME_FIXED_BYTES;
    if (this.#partial.length > 64 * 1024) this.#partial = new Uint8Array(FRAME_FIXED_BYTES);
    this.#finishHead(head);
    return from + taken;
  }

  #keepPartial(input: Uint8Array, at: number, wantedBytes: number): void {
    const start = input.subarray(at);
    if (this.#partial.length < wantedBytes) this.#partial = new Uint8Array(wantedBytes);
    this.#partial.set(start);
    this.#partialBytes = start.length;
    this.#wantedBytes = wantedBytes;
  }

  /** Checks what must hold before a byte is allocated; returns the header's length. */
  #checkFixed(bytes: Uint8Array, at: number): number {
    if (readU32(bytes, at) !== FRAME_MAGIC) {
      throw new FormatError('the bytes on this connection are not ours (wrong magic)', {
        remedy: 'Something else is talking to this port, or this port is not a tatamifs node: check the address.',
      });
    }
    const version = bytes[at + 12] ?? 0;
    if (version !== FRAME_VERSION) {
      throw new FormatError(`the peer speaks frame version ${version}, this program knows ${FRAME_VERSION}`, {
        remedy: 'Run the same version of tatamifs on all machines.',
        info: { version },
      });
    }
    const type = bytes[at + 13] ?? 0;
    const flags = readU16(bytes, at + 14);
    const headerBytes = readU32(bytes, at + 20);
    const payloadBytes = readU32(bytes, at + 24);
    const chunkBytes = readU32(bytes, at + 28);
    const { headerMaxBytes, payloadMaxBytes, lastType } = this.limits;
    if (type < 1 || type > lastType) throw new FormatError(`a frame of type ${type} is not allowed here`);
    if ((flags & ~KNOWN_FLAGS) !== 0) throw new FormatError(`a frame has unknown flags ${flags}`);
    if (headerBytes > headerMaxBytes)
      throw new TooLargeError(`a frame header of ${headerBytes} bytes; the limit is ${headerMaxBytes}`);
    if (payloadBytes > payloadMaxBytes)
      throw new TooLargeError(`a payload of ${payloadBytes} bytes; the limit is ${payloadMaxBytes}`);
    if (chunkBytes > PAYLOAD_CHUNK_BYTES)
      throw new TooLargeError(`a payload piece of ${chunkBytes} bytes; the limit is ${PAYLOAD_CHUNK_BYTES}`);
    if (chunkBytes > payloadBytes) throw new FormatError('a payload piece is longer than its payload');
    return headerBytes;
  }

  #finishHead(head: Uint8Array): void {
    const view = new DataView(head.buffer, head.byteOffset, FRAME_FIXED_BYTES);
    const covered = head.subarray(COVERED_FROM);
    if (view.getBigUint64(CHECKSUM_AT, true) !== xxh64(covered)) {
      throw new FormatError('the checksum of a frame is wrong', {
        remedy: 'The network or a memory is damaging data: check both machines.',
      });
    }
    this.#type = view.getUint8(13) as FrameType;
    this.#flags = view.getUint16(14, true);
    this.#requestId = view.getUint32(16, true);
    this.#chunkBytes = view.getUint32(28, true);
    this.#chunkSum = (this.#flags & FLAG_CHECKED) === 0 ? 0n : view.getBigUint64(32, true);
    const header = head.subarray(FRAME_FIXED_BYTES);
    this.#target = this.sink.onFrame(
      this.#type,
      this.#flags,
      this.#requestId,
      header,
      view.getUint32(24, true),
      this.#chunkBytes,
    );
    invariant(
      this.#target === undefined || this.#target.length === this.#chunkBytes,
      'frames',
      'the sink gives exactly as much room as the chunk needs',
    );
    this.#chunkLeft = this.#chunkBytes;
    this.#inBulk = this.#chunkBytes === PAYLOAD_CHUNK_BYTES;
  }

  #takeChunk(input: Uint8Array, at: number): number {
    const end = Math.min(at + this.#chunkLeft, input.length);
    const target = this.#target;
    const done = this.#chunkBytes - this.#chunkLeft;
    if (target !== undefined && !liesAt(input, at, target, done)) target.set(input.subarray(at, end), done);
    this.#chunkLeft -= end - at;
    if (this.#chunkLeft === 0 && target !== undefined) {
      this.#target = undefined;
      const intact = (this.#flags & FLAG_CHECKED) === 0 || xxh64(target) === this.#chunkSum;
      this.sink.onChunk(this.#type, this.#flags, this.#requestId, this.#chunkBytes, intact);
    }
    return end;
  }
}

/** Whether input[inputAt] and target[targetAt] are the same byte of memory. */
function liesAt(input: Uint8Array, inputAt: number, target: Uint8Array, targetAt: number): boolean {
  return input.buffer === target.buffer && input.byteOffset + inputAt === target.byteOffset + targetAt;
}

function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0
  );
}

function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
}
