/**
 * Values of the metadata table as bytes; the layouts are in docs/formats.md, "Metadata table". Each value starts with
 * its format version. A replica refuses what is newer (FormatError) instead of guessing.
 */
import { viewOf } from '../data-view.ts';
import { CorruptionError } from '../errors.ts';
import { asBlockId, type Ino, type PoolId, type SessionId } from '../ids.ts';
import { ByteReader, ByteWriter, getU53, putI64, putU16, putU32, putU53, TextMemo } from './bytes.ts';
import type { Attr, Dirent, Extent, FileType } from './types.ts';

const VALUE_VERSION = 1;
/** Of an inode with access control lists: as version 1, the type with {@link ACCESS_LIST} and {@link DEFAULT_LIST}. */
const INODE_WITH_LISTS_VERSION = 2;

/** Index = number on disk; only grows. */
const FILE_TYPES: readonly FileType[] = ['file', 'directory', 'symlink', 'fifo', 'socket', 'char', 'block'];
const FILE_TYPE_NUMBERS = new Map(FILE_TYPES.map((type, number) => [type, number]));

/** Beside the type of an inode, in rows and attribute records; what is older refuses them. */
const ACCESS_LIST = 16;
const DEFAULT_LIST = 32;
/** In records of attributes; the row has the number of extended attributes. */
const XATTRS = 64;
const TYPE_BITS = 15;

export const EMPTY_BYTES = new Uint8Array(0);

/** A row of kind `i`: the attributes and what finds the data. Mutable: a command changes its own decoded copy. */
export interface Inode {
  ino: Ino;
  type: FileType;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  sizeBytes: number;
  storedBytes: number;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  rdev: number;
  version: number;
  generation: number;
  pool: PoolId;
  parent: Ino | 0;
  /** Number under which the extents are kept. Truncation to nothing takes a new one and leaves the old to `reclaim`. */
  dataIno: Ino;
  /** Invariant: exactly the number of rows under `e` dataIno. */
  extentCount: number;
  /** How many of them name blocks. */
  blockExtentCount: number;
  /** Invariant: no extent ends beyond it (it may be too large after a punch). */
  extentEnd: number;
  /** Invariant: exactly the number of rows under `x` ino. */
  xattrCount: number;
  /** Invariant: there is an access control list among these, and the mode shows it. */
  hasAcl: boolean;
  /** Invariant: there is a default one. */
  hasDefaultAcl: boolean;
  /** Symlinks: where to; else empty. */
  target: Uint8Array;
}

const INODE_FIXED_BYTES = 124;
/** Mode to parent: they lie in a row as {@link writeAttr} has them. */
const SEEN_FROM = 2;
const SEEN_TO = 84;
const XATTR_COUNT_AT = 116;
const scratch = Buffer.alloc(INODE_FIXED_BYTES);
const scratchView = viewOf(scratch);

/** Written by fixed offsets: this is the row that every command touches. */
export function encodeInode(inode: Inode): Uint8Array {
  const v = scratchView;
  scratch[0] = inode.hasAcl || inode.hasDefaultAcl ? INODE_WITH_LISTS_VERSION : VALUE_VERSION;
  scratch[1] = typeNumber(inode);
  putU16(v, 2, inode.mode);
  putU32(v, 4, inode.uid);
  putU32(v, 8, inode.gid);
  putU32(v, 12, inode.nlink);
  putU53(v, 16, inode.sizeBytes);
  putU53(v, 24, inode.storedBytes);
  putI64(v, 32, inode.atimeNs);
  putI64(v, 40, inode.mtimeNs);
  putI64(v, 48, inode.ctimeNs);
  putU32(v, 56, inode.rdev);
  putU53(v, 60, inode.version);
  putU32(v, 68, inode.generation);
  putU32(v, 72, inode.pool);
  putU53(v, 76, inode.parent);
  putU53(v, 84, inode.dataIno);
  putU53(v, 92, inode.extentCount);
  putU53(v, 100, inode.blockExtentCount);
  putU53(v, 108, inode.extentEnd);
  putU53(v, XATTR_COUNT_AT, inode.xattrCount);
  const value = Buffer.allocUnsafe(INODE_FIXED_BYTES + inode.target.length);
  value.set(scratch);
  if (inode.target.length > 0) value.set(inode.target, INODE_FIXED_BYTES);
  return value;
}

function checkInode(ino: Ino, bytes: Uint8Array): FileType {
  if (bytes[0] !== VALUE_VERSION) new ByteReader(bytes, `inode ${ino}`).version(INODE_WITH_LISTS_VERSION);
  const type = typeOf(bytes[1]!);
  if (bytes.length < INODE_FIXED_BYTES || type === undefined)
    throw new CorruptionError(`inode ${ino} in the table is damaged`);
  return type;
}

export function decodeInode(ino: Ino, bytes: Uint8Array): Inode {
  const type = checkInode(ino, bytes);
  const kind = bytes[1]!;
  const v = viewOf(bytes);
  return {
    ino,
    type,
    mode: v.getUint16(2, true),
    uid: v.getUint32(4, true),
    gid: v.getUint32(8, true),
    nlink: v.getUint32(12, true),
    sizeBytes: getU53(v, 16),
    storedBytes: getU53(v, 24),
    atimeNs: v.getBigInt64(32, true),
    mtimeNs: v.getBigInt64(40, true),
    ctimeNs: v.getBigInt64(48, true),
    rdev: v.getUint32(56, true),
    version: getU53(v, 60),
    generation: v.getUint32(68, true),
    pool: v.getUint32(72, true) as PoolId,
    parent: getU53(v, 76) as Ino | 0,
    dataIno: getU53(v, 84) as Ino,
    extentCount: getU53(v, 92),
    blockExtentCount: getU53(v, 100),
    extentEnd: getU53(v, 108),
    xattrCount: getU53(v, XATTR_COUNT_AT),
    hasAcl: (kind & ACCESS_LIST) !== 0,
    hasDefaultAcl: (kind & DEFAULT_LIST) !== 0,
    target: bytes.length === INODE_FIXED_BYTES ? EMPTY_BYTES : bytes.subarray(INODE_FIXED_BYTES),
  };
}

/** A name with the row of its inode. Thousands are listed to be sent, and then the row need not be taken apart. */
export class StoredEntry implements Dirent {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly type: FileType;
  readonly #row: Uint8Array;

  /** CorruptionError, FormatError: as {@link decodeInode}. */
  constructor(name: Uint8Array, { ino, type }: DirentValue, row: Uint8Array) {
    checkInode(ino, row);
    this.name = name;
    this.ino = ino;
    this.type = type;
    this.#row = row;
  }

  get attr(): Attr {
    return attrOf(decodeInode(this.ino, this.#row));
  }

  /** As writeAttr. */
  writeAttr(w: ByteWriter): void {
    const row = this.#row;
    const hasXattrs = getU53(viewOf(row), XATTR_COUNT_AT) > 0;
    w.u53(this.ino)
      .u8(row[1]! | (hasXattrs ? XATTRS : 0))
      .raw(row.subarray(SEEN_FROM, SEEN_TO));
  }
}

/** What others may see of an inode; independent of later changes to it. */
export function attrOf(inode: Inode): Attr {
  return {
    ino: inode.ino,
    type: inode.type,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    nlink: inode.nlink,
    sizeBytes: inode.sizeBytes,
    storedBytes: inode.storedBytes,
    atimeNs: inode.atimeNs,
    mtimeNs: inode.mtimeNs,
    ctimeNs: inode.ctimeNs,
    rdev: inode.rdev,
    version: inode.version,
    generation: inode.generation,
    pool: inode.pool,
    parent: inode.parent,
    hasAcl: inode.hasAcl,
    hasDefaultAcl: inode.hasDefaultAcl,
    hasXattrs: inode.xattrCount > 0,
  };
}

/** The type's number, and which access control lists there are. */
function typeNumber({ type, hasAcl, hasDefaultAcl }: Pick<Attr, 'type' | 'hasAcl' | 'hasDefaultAcl'>): number {
  return FILE_TYPE_NUMBERS.get(type)! | (hasAcl ? ACCESS_LIST : 0) | (hasDefaultAcl ? DEFAULT_LIST : 0);
}

/** Undefined for one that is not known. */
function typeOf(number: number): FileType | undefined {
  return number > (TYPE_BITS | ACCESS_LIST | DEFAULT_LIST) ? undefined : FILE_TYPES[number & TYPE_BITS];
}

export function writeFileType(w: ByteWriter, type: FileType): void {
  w.u8(FILE_TYPE_NUMBERS.get(type)!);
}

export function readFileType(r: ByteReader): FileType {
  return FILE_TYPES[r.u8()] ?? r.fail('it has an unknown file type');
}

export function writeAttr(w: ByteWriter, attr: Attr): void {
  w.u53(attr.ino).u8(typeNumber(attr) | (attr.hasXattrs ? XATTRS : 0));
  w.u16(attr.mode).u32(attr.uid).u32(attr.gid).u32(attr.nlink).u53(attr.sizeBytes).u53(attr.storedBytes);
  w.i64(attr.atimeNs).i64(attr.mtimeNs).i64(attr.ctimeNs);
  w.u32(attr.rdev).u53(attr.version).u32(attr.generation).u32(attr.pool).u53(attr.parent);
}

export function readAttr(r: ByteReader): Attr {
  const ino = r.u53() as Ino;
  const kind = r.u8();
  return {
    ino,
    type: typeOf(kind & ~XATTRS) ?? r.fail('it has an unknown file type'),
    mode: r.u16(),
    uid: r.u32(),
    gid: r.u32(),
    nlink: r.u32(),
    sizeBytes: r.u53(),
    storedBytes: r.u53(),
    atimeNs: r.i64(),
    mtimeNs: r.i64(),
    ctimeNs: r.i64(),
    rdev: r.u32(),
    version: r.u53(),
    generation: r.u32(),
    pool: r.u32() as PoolId,
    parent: r.u53() as Ino | 0,
    hasAcl: (kind & ACCESS_LIST) !== 0,
    hasDefaultAcl: (kind & DEFAULT_LIST) !== 0,
    hasXattrs: (kind & XATTRS) !== 0,
  };
}

export interface DirentValue {
  readonly ino: Ino;
  readonly type: FileType;
}

const writer = new ByteWriter();

export function encodeDirent(dirent: DirentValue): Uint8Array {
  writer.reset().u8(VALUE_VERSION);
  writeFileType(writer, dirent.type);
  return writer.u53(dirent.ino).finish();
}

export function decodeDirent(bytes: Uint8Array): DirentValue {
  const r = new ByteReader(bytes, 'a directory entry in the table');
  r.version(VALUE_VERSION);
  const type = readFileType(r);
  return { type, ino: r.u53() as Ino };
}

const EXTENT_BLOCK = 0;
const EXTENT_INLINE = 1;

/** An extent with its offset, as commands carry it; {@link encodeExtent} leaves the offset to the key. */
export function writeExtent(w: ByteWriter, extent: Extent): void {
  w.u53(extent.offset);
  writeExtentBody(w, extent);
}

export function readExtent(r: ByteReader): Extent {
  return readExtentBody(r, r.u53());
}

function writeExtentBody(w: ByteWriter, extent: Extent): void {
  if (extent.kind === 'inline') {
    w.u8(EXTENT_INLINE).bytes32(extent.data);
  } else {
    w.u8(EXTENT_BLOCK)
      .u32(extent.lengthBytes)
      .u32(extent.pool)
      .raw(extent.id)
      .u32(extent.blockOffset)
      .u32(extent.blockBytes);
  }
}

function readExtentBody(r: ByteReader, offset: number): Extent {
  const kind = r.u8();
  if (kind === EXTENT_INLINE) {
    const data = r.bytes32();
    return { kind: 'inline', offset, lengthBytes: data.length, data };
  }
  if (kind !== EXTENT_BLOCK) r.fail('it has an unknown kind of extent');
  const lengthBytes = r.u32();
  const pool = r.u32() as PoolId;
  const id = asBlockId(r.raw(32));
  const blockOffset = r.u32();
  const blockBytes = r.u32();
  if (blockOffset + lengthBytes > blockBytes) r.fail('an extent reaches beyond its block');
  return { kind: 'block', offset, lengthBytes, pool, id, blockOffset, blockBytes };
}

export function encodeExtent(extent: Extent): Uint8Array {
  writer.reset().u8(VALUE_VERSION);
  writeExtentBody(writer, extent);
  return writer.finish();
}

export function decodeExtent(offset: number, bytes: Uint8Array): Extent {
  const r = new ByteReader(bytes, 'an extent in the table');
  r.version(VALUE_VERSION);
  return readExtentBody(r, offset);
}

/** An inode without names that is still there. */
export interface Orphan {
  /** Sessions that have it open. */
  readonly holders: readonly SessionId[];
  /** Its row of kind `q`, while others may have it open, too; else 0. */
  readonly number: number;
}

const ORPHAN_VERSION = 2;

export function encodeOrphan({ holders, number }: Orphan): Uint8Array {
  writer.reset().u8(ORPHAN_VERSION).u16(holders.length);
  for (const session of holders) writeSessionId(writer, session);
  return writer.u53(number).finish();
}

export function decodeOrphan(bytes: Uint8Array): Orphan {
  const r = new ByteReader(bytes, 'an orphan record in the table');
  const version = r.version(ORPHAN_VERSION);
  const holders = Array.from({ length: r.u16() }, () => readSessionId(r));
  return { holders, number: version === 1 ? 0 : r.u53() };
}

/** Which inode an orphan's number stands for. */
export function encodeUnanswered(ino: Ino): Uint8Array {
  return writer.reset().u8(VALUE_VERSION).u53(ino).finish();
}

export function decodeUnanswered(bytes: Uint8Array): Ino {
  const r = new ByteReader(bytes, 'an unanswered orphan in the table');
  r.version(VALUE_VERSION);
  return r.u53() as Ino;
}

export function writeSessionId(w: ByteWriter, session: SessionId): ByteWriter {
  return w.raw(Buffer.from(session, 'hex'));
}

const sessions = new TextMemo();

export function readSessionId(r: ByteReader): SessionId {
  return sessions.of(r.raw(16), 'hex') as SessionId;
}

/** What a dead number still has rows of. */
export interface Dead {
  readonly extents: boolean;
  readonly xattrs: boolean;
  /** Extents below this offset are gone already: a step need not look through what the steps before deleted. */
  readonly fromOffset: number;
}

export function encodeDead(dead: Dead): Uint8Array {
  writer.reset().u8(VALUE_VERSION);
  return writer
    .u8((dead.extents ? 1 : 0) | (dead.xattrs ? 2 : 0))
    .u53(dead.fromOffset)
    .finish();
}

export function decodeDead(bytes: Uint8Array): Dead {
  const r = new ByteReader(bytes, 'a dead record in the table');
  r.version(VALUE_VERSION);
  const flags = r.u8();
  return { extents: (flags & 1) !== 0, xattrs: (flags & 2) !== 0, fromOffset: r.u53() };
}

/** The row `c`: numbers about the whole table, kept exact by every command. */
export interface Counters {
  /** Next inode (or data) number to give. */
  nextIno: number;
  inodeCount: number;
  storedBytes: number;
  /** Rows of kind `r`. */
  deadCount: number;
  /** Blocks put under an older collection generation than this may be gone. */
  gcGeneration: number;
  /** Number of the last orphan that others than the session that unlinked it may have open. */
  orphanNumber: number;
  /** Of those up to here it is known who has them open: no rows of kind `q` are left. */
  orphansAnswered: number;
}

const COUNTERS_VERSION = 2;

export function encodeCounters(counters: Counters): Uint8Array {
  writer.reset().u8(COUNTERS_VERSION);
  writer.u53(counters.nextIno).u53(counters.inodeCount).u53(counters.storedBytes);
  writer.u53(counters.deadCount).u53(counters.gcGeneration);
  return writer.u53(counters.orphanNumber).u53(counters.orphansAnswered).finish();
}

export function decodeCounters(bytes: Uint8Array): Counters {
  const r = new ByteReader(bytes, 'the counters in the table');
  const version = r.version(COUNTERS_VERSION);
  return {
    nextIno: r.u53(),
    inodeCount: r.u53(),
    storedBytes: r.u53(),
    deadCount: r.u53(),
    gcGeneration: r.u53(),
    orphanNumber: version === 1 ? 0 : r.u53(),
    orphansAnswered: version === 1 ? 0 : r.u53(),
  };
}
