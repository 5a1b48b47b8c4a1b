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
import { viewOf } from '../../data-view.ts';
import type { Epoch, Seq } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import { xxh64 } from '../../xxhash.ts';
import { ByteReader, ByteWriter, putU32, putU53 } from '../bytes.ts';
import type { Command } from '../commands.ts';

export interface LogEntry {
  readonly seq: Seq;
  readonly epoch: Epoch;
  /** Epoch of entry seq-1: two logs that agree on (seq, epoch) agree on all before. */
  readonly prevEpoch: Epoch;
  /** Encoded (commands.ts). */
  readonly command: Uint8Array;
  /** The same until it is applied, where whoever made the entry had it at hand: applying need not read the bytes again. */
  decoded?: Command | undefined;
}

const MAGIC = 0x474c4d54;
const VERSION = 1;
const PREFIX_BYTES = 16;
const HEAD_BYTES = 1 + 4 * 8;
/**
 * Largest command: one batch of entries (PUSH_MAX_BYTES, member.ts) and one such command more still fit the header of
 * one frame. Larger ones are refused before they get a place in the log, for no member could ever be sent them.
 */
export const COMMAND_MAX_BYTES = 2 * MiB;
const BODY_MAX_BYTES = HEAD_BYTES + COMMAND_MAX_BYTES;

export function recordBytes(entry: LogEntry): number {
  return PREFIX_BYTES + HEAD_BYTES + entry.command.length;
}

/** Records of the entries, one behind the other, in one piece of memory: a batch is one write. */
export function encodeRecords(entries: readonly LogEntry[], syncedSeq: number): Uint8Array {
  let sizeBytes = 0;
  for (const entry of entries) sizeBytes += recordBytes(entry);
  const buffer = Buffer.allocUnsafe(sizeBytes);
  const view = viewOf(buffer);
  let at = 0;
  for (const entry of entries) {
    const end = at + recordBytes(entry);
    const body = at + PREFIX_BYTES;
    putU32(view, at, MAGIC);
    putU32(view, at + 4, end - body);
    buffer[body] = VERSION;
    putU53(view, body + 1, entry.seq);
    putU53(view, body + 9, entry.epoch);
    putU53(view, body + 17, entry.prevEpoch);
    putU53(view, body + 25, syncedSeq);
    buffer.set(entry.command, body + HEAD_BYTES);
    view.setBigUint64(at + 8, xxh64(buffer.subarray(body, end)), true);
    at = end;
  }
  return buffer;
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
  const entry = { seq, epoch, prevEpoch, command: body.subarray(HEAD_BYTES), decoded: undefined };
  return { entry, syncedSeq, at, end };
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
const SEGMENT_CHECKED_BYTES = 8 + 1 + 8 + 8;
export const SEGMENT_HEADER_BYTES = SEGMENT_CHECKED_BYTES + 8;

export interface SegmentHeader {
  readonly firstSeq: number;
  /** Epoch of entry firstSeq-1. */
  readonly baseEpoch: number;
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const magic = Buffer.from(SEGMENT_MAGIC, 'latin1');
  const checked = new ByteWriter().raw(magic).u8(SEGMENT_VERSION).u53(header.firstSeq).u53(header.baseEpoch).finish();
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  bytes.set(checked);
  bytes.writeBigUInt64LE(xxh64(checked), SEGMENT_CHECKED_BYTES);
  return bytes;
}

/** Undefined if there is no whole, sound one. FormatError if it is newer. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES) return undefined;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, SEGMENT_HEADER_BYTES);
  if (buffer.toString('latin1', 0, 8) !== SEGMENT_MAGIC) return undefined;
  const checked = buffer.subarray(0, SEGMENT_CHECKED_BYTES);
  if (xxh64(checked) !== buffer.readBigUInt64LE(SEGMENT_CHECKED_BYTES)) return undefined;
  const r = new ByteReader(checked.subarray(8), 'the header of a log segment');
  r.version(SEGMENT_VERSION);
  return { firstSeq: r.u53(), baseEpoch: r.u53() };
}
