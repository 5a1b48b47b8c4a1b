/**
 * One entry of a group's log as bytes (docs/formats.md, "Group log"). Pure.
 *
 * ```
 * magic u32 | length u32 (of what follows the checksum) | xxh64 u64 (of what follows)
 * version u8 | seq u53 | epoch u53 | previous entry's epoch u53 | synced seq u53 | command
 * ```
 *
 * `synced seq`: everything up to it was on disk when this record was written. A bad record at or before the highest
 * synced seq found anywhere is damage; one beyond it is merely torn.
 */
import type { Epoch, Seq } from '../../ids.ts';
import { FRAME_HEADER_MAX_BYTES } from '../../limits.ts';
import { xxh64 } from '../../xxhash.ts';
import { ByteReader, ByteWriter } from '../bytes.ts';

export interface LogEntry {
  readonly seq: Seq;
  readonly epoch: Epoch;
  /** Epoch of entry seq-1: two logs that agree on (seq, epoch) agree on all before. */
  readonly prevEpoch: Epoch;
  /** Encoded (commands.ts). */
  readonly command: Uint8Array;
}

const MAGIC = 0x474c4d54;
const VERSION = 1;
const PREFIX_BYTES = 16;
const HEAD_BYTES = 1 + 4 * 8;
/** A command came in one frame's header. */
const BODY_MAX_BYTES = HEAD_BYTES + FRAME_HEADER_MAX_BYTES;

const writer = new ByteWriter();

export function encodeRecord(entry: LogEntry, syncedSeq: number): Uint8Array {
  const body = writer
    .reset()
    .u8(VERSION)
    .u53(entry.seq)
    .u53(entry.epoch)
    .u53(entry.prevEpoch)
    .u53(syncedSeq)
    .raw(entry.command)
    .finish();
  const record = Buffer.allocUnsafe(PREFIX_BYTES + body.length);
  record.writeUInt32LE(MAGIC, 0);
  record.writeUInt32LE(body.length, 4);
  record.writeBigUInt64LE(xxh64(body), 8);
  record.set(body, PREFIX_BYTES);
  return record;
}

export interface FoundRecord {
  readonly entry: LogEntry;
  readonly syncedSeq: number;
  /** Position in the bytes, and of the record after it. */
  readonly at: number;
  readonly end: number;
}

/** The record at `at`, or undefined if there is no whole, sound one. Commands are views of `bytes`. */
export function decodeRecord(bytes: Uint8Array, at: number): FoundRecord | undefined {
  if (at + PREFIX_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, Math.min(bytes.length - at, PREFIX_BYTES));
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  const length = view.getUint32(4, true);
  const end = at + PREFIX_BYTES + length;
  if (length < HEAD_BYTES || length > BODY_MAX_BYTES || end > bytes.length) return undefined;
  const body = bytes.subarray(at + PREFIX_BYTES, end);
  if (xxh64(body) !== view.getBigUint64(8, true)) return undefined;
  const r = new ByteReader(body, 'a log record');
  r.version(VERSION);
  const seq = r.u53() as Seq;
  const epoch = r.u53() as Epoch;
  const prevEpoch = r.u53() as Epoch;
  const syncedSeq = r.u53();
  return { entry: { seq, epoch, prevEpoch, command: body.subarray(HEAD_BYTES) }, syncedSeq, at, end };
}

/** The next sound record at or after `at`, found by its magic. */
export function findRecord(bytes: Uint8Array, at: number): FoundRecord | undefined {
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(MAGIC, 0);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let found = buffer.indexOf(magic, at); found >= 0; found = buffer.indexOf(magic, found + 1)) {
    const record = decodeRecord(bytes, found);
    if (record !== undefined) return record;
  }
  return undefined;
}

// Segment header

const SEGMENT_MAGIC = 'TATAMLOG';
const SEGMENT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 8 + 1 + 8 + 8;

export interface SegmentHeader {
  readonly firstSeq: number;
  /** Epoch of entry firstSeq-1. */
  readonly baseEpoch: number;
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const magic = Buffer.from(SEGMENT_MAGIC, 'latin1');
  return new ByteWriter().raw(magic).u8(SEGMENT_VERSION).u53(header.firstSeq).u53(header.baseEpoch).finish();
}

/** Undefined if it was never written whole (a crash while the segment was made). FormatError if it is newer. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES) return undefined;
  if (Buffer.from(bytes.subarray(0, 8)).toString('latin1') !== SEGMENT_MAGIC) return undefined;
  const r = new ByteReader(bytes.subarray(8, SEGMENT_HEADER_BYTES), 'the header of a log segment');
  r.version(SEGMENT_VERSION);
  return { firstSeq: r.u53(), baseEpoch: r.u53() };
}
