/**
 * The msgpack headers of REQUEST, RESPONSE and ERROR frames. Pure. Arrays, not maps: short, and quick to read.
 * Integers of the language travel as numbers and bigints as 64-bit integers, so both come back as what they were.
 * The news of docs/protocol.md rides on all three; rumours about nodes where there are any, as one more element.
 */
import { Packr, RESERVE_START_SPACE, Unpackr } from 'msgpackr';
import type { TatamiError } from '../errors.ts';
import { FormatError, TooLargeError, UsageError } from '../errors.ts';
import { FRAME_HEADER_MAX_BYTES } from '../limits.ts';
import { FRAME_FIXED_BYTES } from './frames.ts';
import { decodeRumours, encodeRumours } from './membership/rumour-codec.ts';
import type { Rumour } from './membership/board.ts';
import type { Header, News } from './types.ts';
import { fromWireError, toWireError } from './wire-errors.ts';

const packr = new Packr({ useRecords: false });
/** copyBuffers: what is decoded must not alias the receive buffer, which is used again at once. */
const unpackr = new Unpackr({ useRecords: false, copyBuffers: true });

const METHOD_MAX_CHARS = 128;
/** Longest deadline that can be asked for: a day. */
export const TIMEOUT_MAX_MS = 86_400_000;

export interface RequestHead {
  readonly method: string;
  /** How much longer the caller waits. */
  readonly remainingMs: number;
  readonly news: News;
  readonly rumours: readonly Rumour[] | undefined;
  readonly header: Header;
}

export interface ResponseHead {
  readonly news: News;
  readonly rumours: readonly Rumour[] | undefined;
  readonly header: Header;
}

export interface ErrorHead {
  readonly news: News;
  readonly rumours: readonly Rumour[] | undefined;
  readonly error: TatamiError;
}

/** Room for the fixed header, then the msgpack header; to be sealed by sealFrame. */
export function packRequest(
  method: string,
  remainingMs: number,
  news: News,
  header: Header,
  rumours?: readonly Rumour[],
): Uint8Array {
  const { catalogEpoch, fullPermille, gcGeneration } = news;
  const waitMs = Math.ceil(remainingMs);
  if (rumours === undefined) return pack([method, waitMs, catalogEpoch, fullPermille, gcGeneration, header]);
  return pack([method, waitMs, catalogEpoch, fullPermille, gcGeneration, header, encodeRumours(rumours)]);
}

export function packResponse(news: News, header: Header, rumours?: readonly Rumour[]): Uint8Array {
  const { catalogEpoch, fullPermille, gcGeneration } = news;
  if (rumours === undefined) return pack([catalogEpoch, fullPermille, gcGeneration, header]);
  return pack([catalogEpoch, fullPermille, gcGeneration, header, encodeRumours(rumours)]);
}

export function packError(news: News, error: unknown, rumours?: readonly Rumour[]): Uint8Array {
  const { code, message, remedy, info } = toWireError(error);
  const front = [news.catalogEpoch, news.fullPermille, news.gcGeneration, code, message, remedy ?? null];
  const back = rumours === undefined ? [] : [encodeRumours(rumours)];
  try {
    const frame = pack([...front, info ?? null, ...back]);
    if (frame.length <= FRAME_HEADER_MAX_BYTES) return frame;
  } catch {
    // An info that msgpack cannot carry must not hide the error itself.
  }
  return pack([...front, null, ...back]);
}

export function unpackRequest(bytes: Uint8Array): RequestHead {
  const fields = unpackArray(bytes, 6);
  const [method, remainingMs, , , , header] = fields;
  if (typeof method !== 'string' || method.length > METHOD_MAX_CHARS)
    throw new FormatError('a request has no valid method name');
  if (typeof remainingMs !== 'number' || !(remainingMs >= 0 && remainingMs <= TIMEOUT_MAX_MS)) {
    throw new FormatError('a request has no valid deadline');
  }
  return { method, remainingMs, news: readNews(fields, 2), rumours: decodeRumours(fields[6]), header };
}

export function unpackResponse(bytes: Uint8Array): ResponseHead {
  const fields = unpackArray(bytes, 4);
  return { news: readNews(fields, 0), rumours: decodeRumours(fields[4]), header: fields[3] };
}

export function unpackError(bytes: Uint8Array): ErrorHead {
  const fields = unpackArray(bytes, 7);
  return {
    news: readNews(fields, 0),
    rumours: decodeRumours(fields[7]),
    error: fromWireError({ code: fields[3], message: fields[4], remedy: fields[5], info: fields[6] }),
  };
}

function pack(fields: readonly unknown[]): Uint8Array {
  let packed: Uint8Array;
  try {
    packed = packr.pack(fields, RESERVE_START_SPACE | FRAME_FIXED_BYTES);
  } catch (error) {
    throw new UsageError('this header cannot be carried by msgpack', { cause: error });
  }
  const headerBytes = packed.length - FRAME_FIXED_BYTES;
  if (headerBytes > FRAME_HEADER_MAX_BYTES) {
    throw new TooLargeError(`a header of ${headerBytes} bytes; the limit is ${FRAME_HEADER_MAX_BYTES}`, {
      remedy: 'Ask for less at once, or send the bytes as payload.',
    });
  }
  return packed;
}

function unpackArray(bytes: Uint8Array, length: number): readonly unknown[] {
  let value: unknown;
  try {
    value = unpackr.unpack(bytes);
  } catch (error) {
    throw new FormatError('a header is not msgpack', { cause: error });
  }
  // Longer is allowed: later versions may append fields.
  if (!Array.isArray(value) || value.length < length) throw new FormatError('a header has too few fields');
  return value;
}

function readNews(fields: readonly unknown[], at: number): News {
  const catalogEpoch = fields[at];
  const fullPermille = fields[at + 1];
  const gcGeneration = fields[at + 2];
  if (!isCount(catalogEpoch) || !isCount(fullPermille) || !isCount(gcGeneration))
    throw new FormatError('a message has malformed news');
  return { catalogEpoch, fullPermille, gcGeneration };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && Number.isSafeInteger(value);
}
