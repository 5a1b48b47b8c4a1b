/** Encoding of replies. All functions write into memory that the caller owns and return the position after what they wrote. */
import type { Attr, FileType } from '../meta/types.ts';
import { LOCK_END_MAX } from '../vfs/ops.ts';
import type { DirItem, Entry, FileLock, StatFs } from '../vfs/ops.ts';
import { NAME_MAX_BYTES } from '../limits.ts';
import {
  LOCK_TYPES,
  OFFSET_MAX,
  ATTR_BYTES,
  ATTR_OUT_BYTES,
  DIRENTPLUS_BYTES,
  DIRENT_BYTES,
  ENTRY_OUT_BYTES,
  OPEN_OUT_BYTES,
  OUT_HEADER_BYTES,
  PREFERRED_IO_BYTES,
  STATFS_OUT_BYTES,
  INIT_OUT_BYTES,
} from './protocol.ts';
import { setTime, setTimeout64, setU64 } from './wire.ts';

const TYPE_BITS: Readonly<Record<FileType, number>> = {
  fifo: 0o010000,
  char: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
};

const TYPES_BY_BITS: ReadonlyMap<number, FileType> = new Map(
  (Object.entries(TYPE_BITS) as [FileType, number][]).map(([type, bits]) => [bits, type]),
);

/** st_mode's type bits to our type; without type bits (mknod's default) a plain file; undefined if unknown. */
export function fileTypeOfMode(mode: number): FileType | undefined {
  const bits = mode & 0o170000;
  return bits === 0 ? 'file' : TYPES_BY_BITS.get(bits);
}

/** st_mode of an inode. */
export function modeOf(attr: Attr): number {
  return TYPE_BITS[attr.type] | attr.mode;
}

/** `error` is 0 or a positive errno number; for notifications, with unique 0, the (positive) code. */
export function encodeHeader(view: DataView, totalBytes: number, error: number, unique: number): void {
  view.setUint32(0, totalBytes, true);
  view.setInt32(4, unique === 0 ? error : -error, true);
  setU64(view, 8, unique);
}

export function encodeAttr(view: DataView, at: number, attr: Attr): number {
  setU64(view, at, attr.ino);
  setU64(view, at + 8, attr.sizeBytes);
  setU64(view, at + 16, Math.ceil(attr.storedBytes / 512));
  setTime(view, at + 24, at + 48, attr.atimeNs);
  setTime(view, at + 32, at + 52, attr.mtimeNs);
  setTime(view, at + 40, at + 56, attr.ctimeNs);
  view.setUint32(at + 60, modeOf(attr), true);
  view.setUint32(at + 64, attr.nlink, true);
  view.setUint32(at + 68, attr.uid, true);
  view.setUint32(at + 72, attr.gid, true);
  view.setUint32(at + 76, attr.rdev, true);
  view.setUint32(at + 80, PREFERRED_IO_BYTES, true);
  view.setUint32(at + 84, 0, true);
  return at + ATTR_BYTES;
}

export function encodeEntry(view: DataView, at: number, entry: Entry): number {
  setU64(view, at, entry.attr.ino);
  setU64(view, at + 8, entry.attr.generation);
  setTimeout64(view, at + 16, at + 32, entry.entryTimeoutMs);
  setTimeout64(view, at + 24, at + 36, entry.attrTimeoutMs);
  encodeAttr(view, at + 40, entry.attr);
  return at + ENTRY_OUT_BYTES;
}

export function encodeAttrOut(view: DataView, at: number, attr: Attr, attrTimeoutMs: number): number {
  setTimeout64(view, at, at + 8, attrTimeoutMs);
  view.setUint32(at + 12, 0, true);
  encodeAttr(view, at + 16, attr);
  return at + ATTR_OUT_BYTES;
}

export function encodeOpen(view: DataView, at: number, handle: number, openFlags: number): number {
  setU64(view, at, handle);
  view.setUint32(at + 8, openFlags, true);
  view.setUint32(at + 12, 0, true);
  return at + OPEN_OUT_BYTES;
}

export function encodeStatfs(view: DataView, at: number, stat: StatFs): number {
  const unit = stat.blockSizeBytes;
  setU64(view, at, Math.floor(stat.totalBytes / unit));
  setU64(view, at + 8, Math.floor(stat.freeBytes / unit));
  setU64(view, at + 16, Math.floor(stat.freeBytes / unit));
  setU64(view, at + 24, stat.fileCount + stat.freeFileCount);
  setU64(view, at + 32, stat.freeFileCount);
  view.setUint32(at + 40, unit, true);
  view.setUint32(at + 44, NAME_MAX_BYTES, true);
  view.setUint32(at + 48, unit, true);
  for (let i = 52; i < STATFS_OUT_BYTES; i += 4) view.setUint32(at + i, 0, true);
  return at + STATFS_OUT_BYTES;
}

export interface InitReply {
  readonly major: number;
  readonly minor: number;
  readonly maxReadAheadBytes: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxWriteBytes: number;
  readonly timeGranularityNs: number;
  readonly maxPages: number;
}

export function encodeInit(view: DataView, at: number, reply: InitReply): number {
  view.setUint32(at, reply.major, true);
  view.setUint32(at + 4, reply.minor, true);
  view.setUint32(at + 8, reply.maxReadAheadBytes, true);
  view.setUint32(at + 12, reply.flags, true);
  view.setUint16(at + 16, reply.maxBackground, true);
  view.setUint16(at + 18, reply.congestionThreshold, true);
  view.setUint32(at + 20, reply.maxWriteBytes, true);
  view.setUint32(at + 24, reply.timeGranularityNs, true);
  view.setUint16(at + 28, reply.maxPages, true);
  view.setUint16(at + 30, 0, true);
  view.setUint32(at + 32, reply.flags2, true);
  for (let i = 36; i < INIT_OUT_BYTES; i += 4) view.setUint32(at + i, 0, true);
  return at + INIT_OUT_BYTES;
}

/** WRITE and GETXATTR/LISTXATTR-size replies: a count and padding. */
export function encodeCount(view: DataView, at: number, count: number): number {
  view.setUint32(at, count, true);
  view.setUint32(at + 4, 0, true);
  return at + 8;
}

export function encodeOffset(view: DataView, at: number, offset: number): number {
  setU64(view, at, offset);
  return at + 8;
}

export function encodeLock(view: DataView, at: number, { type, start, end, pid }: FileLock): number {
  setU64(view, at, start);
  if (end < LOCK_END_MAX) setU64(view, at + 8, end);
  else view.setBigInt64(at + 8, OFFSET_MAX, true);
  view.setUint32(at + 16, LOCK_TYPES.indexOf(type), true);
  view.setUint32(at + 20, pid, true);
  return at + 24;
}

/** Records start at multiples of 8. */
const aligned = (bytes: number): number => (bytes + 7) & ~7;

/**
 * Appends one READDIR record. Returns the next position, or -1 if it would go past `end` (nothing useful is then
 * written: the kernel asks again from the last record's offset).
 */
export function encodeDirent(bytes: Buffer, view: DataView, at: number, end: number, item: DirItem): number {
  const length = DIRENT_BYTES + item.name.length;
  const next = at + aligned(length);
  if (next > end) return -1;
  setU64(view, at, item.ino);
  setU64(view, at + 8, item.nextOffset);
  view.setUint32(at + 16, item.name.length, true);
  view.setUint32(at + 20, TYPE_BITS[item.type] >>> 12, true);
  bytes.set(item.name, at + DIRENT_BYTES);
  bytes.fill(0, at + length, next);
  return next;
}

/**
 * Appends one READDIRPLUS record; as {@link encodeDirent}. Without `item.entry` the inode is left 0, by which the
 * kernel knows that it got no reference and no attributes.
 */
export function encodeDirentPlus(bytes: Buffer, view: DataView, at: number, end: number, item: DirItem): number {
  if (at + aligned(DIRENTPLUS_BYTES + item.name.length) > end) return -1;
  if (item.entry === undefined) bytes.fill(0, at, at + ENTRY_OUT_BYTES);
  else encodeEntry(view, at, item.entry);
  return encodeDirent(bytes, view, at + ENTRY_OUT_BYTES, end, item);
}

export const REPLY_BODY = OUT_HEADER_BYTES;
