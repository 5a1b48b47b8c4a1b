/**
 * Reads a pack's records in order. Where no valid record stands, it searches for the next one: one damaged header does
 * not hide what comes after it.
 */
import type { DiskFile } from '../env.ts';
import { KiB } from '../limits.ts';
import { isUnreadable } from '../disk-errors.ts';
import {
  decodeRecordHead,
  peekHeadBytes,
  RECORD_HEADER_BYTES,
  RECORD_MAGIC_BYTES,
  type DecodedHead,
} from './pack-format.ts';

/** Read at once: covers many small records, and costs little beside a 4 MiB block. */
const WINDOW_BYTES = 64 * KiB;
/** Where that fails: what a disk loses at once. */
const PIECE_BYTES = 4 * KiB;

export type Scanned =
  | ({ readonly kind: 'record'; readonly offset: number; readonly endOffset: number } & DecodedHead)
  /** No record here: damaged, or never completely written. */
  | { readonly kind: 'gap'; readonly offset: number; readonly endOffset: number };

export interface ScanSource {
  readonly file: DiskFile;
  readonly pack: number;
  readonly salt: bigint;
}

/**
 * Yields records and gaps of [offset, endOffset) in order; `offset` is a record's start. Headers are verified, data is
 * not. A record whose data reaches past `endOffset` counts as a gap.
 */
export async function* scanPack(source: ScanSource, offset: number, endOffset: number): AsyncGenerator<Scanned> {
  const window = new Window(source.file, endOffset);
  let gapStart: number | undefined;
  let position = offset;
  while (position < endOffset) {
    const head = await readHead(window, source, position);
    const recordEnd = head === undefined ? undefined : position + recordEndOf(head);
    if (head === undefined || recordEnd === undefined || recordEnd > endOffset) {
      gapStart ??= position;
      position = await findMagic(window, position + 1);
      continue;
    }
    if (gapStart !== undefined) {
      yield { kind: 'gap', offset: gapStart, endOffset: position };
      gapStart = undefined;
    }
    yield { kind: 'record', offset: position, endOffset: recordEnd, ...head };
    position = recordEnd;
  }
  if (gapStart !== undefined) yield { kind: 'gap', offset: gapStart, endOffset };
}

function recordEndOf(head: DecodedHead): number {
  return RECORD_HEADER_BYTES + head.pageHashes.length + head.header.lengthBytes;
}

async function readHead(window: Window, source: ScanSource, offset: number): Promise<DecodedHead | undefined> {
  const start = await window.at(offset, RECORD_HEADER_BYTES);
  const headBytes = peekHeadBytes(start);
  if (headBytes === undefined) return undefined;
  const bytes = start.length >= headBytes ? start : await window.at(offset, headBytes);
  return decodeRecordHead(bytes, source.salt, source.pack, offset);
}

/** Offset of the next magic at or after `from`; the window's end if there is none. */
async function findMagic(window: Window, from: number): Promise<number> {
  let position = from;
  while (position < window.endOffset) {
    const bytes = await window.at(position, RECORD_MAGIC_BYTES.length);
    if (bytes.length < RECORD_MAGIC_BYTES.length) break;
    const index = bytes.indexOf(RECORD_MAGIC_BYTES);
    if (index >= 0) return position + index;
    position += bytes.length - (RECORD_MAGIC_BYTES.length - 1);
  }
  return window.endOffset;
}

/** A piece of the file in memory. Unreadable pieces (EIO) read as zeros: they hold no record. */
class Window {
  readonly endOffset: number;
  readonly #file: DiskFile;
  readonly #buffer = Buffer.allocUnsafeSlow(WINDOW_BYTES);
  #start = 0;
  #length = 0;

  constructor(file: DiskFile, endOffset: number) {
    this.#file = file;
    this.endOffset = endOffset;
  }

  /** All that is in memory from `offset` on: at least `minBytes` unless the end is nearer. Valid until the next call. */
  async at(offset: number, minBytes: number): Promise<Buffer> {
    const wanted = Math.min(minBytes, this.endOffset - offset);
    if (offset < this.#start || offset + wanted > this.#start + this.#length) {
      const target = this.#buffer.subarray(0, Math.min(WINDOW_BYTES, this.endOffset - offset));
      let count: number;
      try {
        count = await this.#file.read(target, offset);
      } catch (error) {
        // Of another error nothing is to be concluded: what is there may be read the next time.
        if (!isUnreadable(error)) throw error;
        await this.#readPieces(target, offset);
        count = target.length;
      }
      this.#start = offset;
      this.#length = count;
    }
    return this.#buffer.subarray(offset - this.#start, this.#length);
  }

  async #readPieces(target: Buffer, offset: number): Promise<void> {
    for (let at = 0; at < target.length; at += PIECE_BYTES) {
      const piece = target.subarray(at, at + PIECE_BYTES);
      piece.fill(0);
      await this.#file.read(piece, offset + at).catch((error: unknown) => {
        if (!isUnreadable(error)) throw error;
        piece.fill(0);
      });
    }
  }
}
