/**
 * Bytes of pack files (docs/formats.md, "Packs"). A pack is a header and then records, one after the other; a record is
 * a header, the block's page list, and the block. All integers are little-endian.
 *
 * Every header ends in an xxHash64 seeded with the store's salt, the pack's number and the record's offset: a record is
 * valid only in its own place. So neither an old pack's bytes that a filesystem shows after a power loss, nor a pack
 * file that somebody stores as data inside a block, is taken for a record when a scan searches for the next magic.
 */
import { viewOf } from '../data-view.ts';
import { FormatError, StateError } from '../errors.ts';
import { BLOCK_ID_BYTES, type BlockId, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';
import { xxh64 } from '../xxhash.ts';
import { PAGE_HASH_BYTES, PAGES_PER_BLOCK_MAX, pageCountOf } from './identity.ts';

export const PACK_FORMAT_VERSION = 1;

/** 'TtmP', first in a pack file and in the STORE file. */
const PACK_MAGIC = 0x506d7454;
/** 'TtmR', first in a record. */
const RECORD_MAGIC = 0x526d7454;
/** What a scan searches for. */
export const RECORD_MAGIC_BYTES: Uint8Array = Uint8Array.of(0x54, 0x74, 0x6d, 0x52);

/** Longest store id in a header, UTF-8 bytes. */
const STORE_ID_MAX_BYTES = 64;
export const PACK_HEADER_BYTES = 96;
export const RECORD_HEADER_BYTES = 80;
/** Longest header with its page list. */
export const RECORD_HEAD_MAX_BYTES = RECORD_HEADER_BYTES + PAGES_PER_BLOCK_MAX * PAGE_HASH_BYTES;
/** Longest record. */
export const RECORD_MAX_BYTES = RECORD_HEAD_MAX_BYTES + BLOCK_MAX_BYTES;

const CHECKSUM_OFFSET = 72;

export type RecordType = 'block' | 'tombstone' | 'renewal';
const TYPE_CODES: Readonly<Record<RecordType, number>> = { block: 1, tombstone: 2, renewal: 3 };
const TYPES: readonly (RecordType | undefined)[] = [undefined, 'block', 'tombstone', 'renewal'];

/** What a pack's header says. Also the content of the STORE file, with pack number 0. */
export interface PackHeader {
  readonly storeId: string;
  /** Seeds all checksums of the store's records. */
  readonly salt: bigint;
  /** 1.. ; never used twice in a store. */
  readonly pack: number;
}

export interface RecordHeader {
  readonly type: RecordType;
  readonly pool: PoolId;
  readonly id: BlockId;
  /** Of the block; 0 for other types. */
  readonly lengthBytes: number;
  /**
   * Order of the store's operations. Invariant: of one block's block records and tombstones the highest decides; a copy
   * made by compaction keeps it. So the order of packs and of records in them says nothing, and need not.
   */
  readonly seq: number;
  /** Collection stamp; 0 for tombstones. */
  readonly generation: number;
  /** When this record was written, everything in its pack before this offset was on disk: damage below it is no torn write. */
  readonly syncedBytes: number;
}

/** Bytes from a record's start to its data. */
export function recordHeadBytes(lengthBytes: number): number {
  return RECORD_HEADER_BYTES + pageCountOf(lengthBytes) * PAGE_HASH_BYTES;
}

/** Bytes of a whole record. */
export function recordBytes(lengthBytes: number): number {
  return recordHeadBytes(lengthBytes) + lengthBytes;
}

export function packFileName(pack: number): string {
  return `${String(pack).padStart(10, '0')}.pack`;
}

/** Inverse of {@link packFileName}; undefined for other names. */
export function parsePackFileName(name: string): number | undefined {
  if (!/^\d{10}\.pack$/.test(name)) return undefined;
  const pack = Number(name.slice(0, 10));
  return pack >= 1 && pack <= 0xffffffff ? pack : undefined;
}

export function encodePackHeader(header: PackHeader): Uint8Array {
  const storeId = new TextEncoder().encode(header.storeId);
  if (storeId.length < 1 || storeId.length > STORE_ID_MAX_BYTES) {
    throw new StateError(`a store id has 1 to ${STORE_ID_MAX_BYTES} bytes, not ${storeId.length}`);
  }
  const bytes = new Uint8Array(PACK_HEADER_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, PACK_MAGIC, true);
  view.setUint8(4, PACK_FORMAT_VERSION);
  view.setUint8(5, storeId.length);
  view.setUint32(8, header.pack, true);
  view.setBigUint64(16, header.salt, true);
  bytes.set(storeId, 24);
  view.setBigUint64(88, xxh64(bytes.subarray(0, 88)), true);
  return bytes;
}

/** Undefined if damaged. Throws FormatError if it is of a newer version. */
export function decodePackHeader(bytes: Uint8Array): PackHeader | undefined {
  if (bytes.length < PACK_HEADER_BYTES) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== PACK_MAGIC) return undefined;
  if (view.getBigUint64(88, true) !== xxh64(bytes.subarray(0, 88))) return undefined;
  const version = view.getUint8(4);
  if (version !== PACK_FORMAT_VERSION) {
    throw new FormatError(`this block store has format ${version}; this program knows format ${PACK_FORMAT_VERSION}`, {
      remedy: 'Run the version of tatamifs that wrote it, or a newer one.',
    });
  }
  const storeIdBytes = view.getUint8(5);
  if (storeIdBytes < 1 || storeIdBytes > STORE_ID_MAX_BYTES) return undefined;
  const storeId = new TextDecoder().decode(bytes.subarray(24, 24 + storeIdBytes));
  return { storeId, salt: view.getBigUint64(16, true), pack: view.getUint32(8, true) };
}

function seedOf(salt: bigint, pack: number, offset: number): bigint {
  return BigInt.asUintN(64, salt + (BigInt(pack) << 32n) + BigInt(offset));
}

/** The head of a record that will stand at `offset` of pack `pack`. */
export function encodeRecordHead(
  header: RecordHeader,
  pageHashes: Uint8Array,
  salt: bigint,
  pack: number,
  offset: number,
): Uint8Array {
  const pageCount = pageCountOf(header.lengthBytes);
  if (pageHashes.length !== pageCount * PAGE_HASH_BYTES) {
    throw new StateError(`page list of ${pageHashes.length} bytes for ${header.lengthBytes} bytes of data`);
  }
  const bytes = Buffer.allocUnsafe(RECORD_HEADER_BYTES + pageHashes.length);
  const view = viewOf(bytes);
  view.setUint32(0, RECORD_MAGIC, true);
  view.setUint8(4, PACK_FORMAT_VERSION);
  view.setUint8(5, TYPE_CODES[header.type]);
  view.setUint16(6, pageCount, true);
  view.setUint32(8, header.pool, true);
  view.setUint32(12, header.lengthBytes, true);
  view.setBigUint64(16, BigInt(header.seq), true);
  view.setBigUint64(24, BigInt(header.generation), true);
  view.setUint32(32, header.syncedBytes, true);
  view.setUint32(36, 0, true);
  bytes.set(header.id, 40);
  bytes.set(pageHashes, RECORD_HEADER_BYTES);
  view.setBigUint64(CHECKSUM_OFFSET, headChecksum(bytes, salt, pack, offset), true);
  return bytes;
}

// The page list is chained in by using its checksum as the seed of the header's.
function headChecksum(head: Uint8Array, salt: bigint, pack: number, offset: number): bigint {
  const seed = xxh64(head.subarray(RECORD_HEADER_BYTES), seedOf(salt, pack, offset));
  return xxh64(head.subarray(0, CHECKSUM_OFFSET), seed);
}

/** Bytes of the head that starts here, judging by its unverified first bytes; undefined if no record starts here. */
export function peekHeadBytes(bytes: Uint8Array): number | undefined {
  if (bytes.length < RECORD_HEADER_BYTES) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== RECORD_MAGIC) return undefined;
  const pageCount = view.getUint16(6, true);
  return pageCount > PAGES_PER_BLOCK_MAX ? undefined : RECORD_HEADER_BYTES + pageCount * PAGE_HASH_BYTES;
}

export interface DecodedHead {
  readonly header: RecordHeader;
  /** A copy. */
  readonly pageHashes: Uint8Array;
}

/** The record head at the start of `bytes`, which came from `offset` of pack `pack`; undefined unless it verifies. */
export function decodeRecordHead(
  bytes: Uint8Array,
  salt: bigint,
  pack: number,
  offset: number,
): DecodedHead | undefined {
  const headBytes = peekHeadBytes(bytes);
  if (headBytes === undefined || bytes.length < headBytes) return undefined;
  const head = bytes.subarray(0, headBytes);
  const view = viewOf(head);
  if (view.getBigUint64(CHECKSUM_OFFSET, true) !== headChecksum(head, salt, pack, offset)) return undefined;
  if (view.getUint8(4) !== PACK_FORMAT_VERSION) {
    throw new FormatError(
      `pack ${pack} has a record of format ${view.getUint8(4)}; this program knows format ${PACK_FORMAT_VERSION}`,
      {
        remedy: 'Run the version of tatamifs that wrote it, or a newer one.',
      },
    );
  }
  const type = TYPES[view.getUint8(5)];
  const lengthBytes = view.getUint32(12, true);
  const seq = Number(view.getBigUint64(16, true));
  const generation = Number(view.getBigUint64(24, true));
  const pool = view.getUint32(8, true);
  const syncedBytes = view.getUint32(32, true);
  // The checksum held, so a value out of range was written so: take it for damage rather than trust it.
  if (type === undefined || pool === 0 || lengthBytes > BLOCK_MAX_BYTES || (type === 'block') !== lengthBytes > 0)
    return undefined;
  if (headBytes !== recordHeadBytes(lengthBytes) || syncedBytes > offset) return undefined;
  if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(generation)) return undefined;
  // Not head.slice: of a Buffer that is a view.
  const id = Uint8Array.prototype.slice.call(head, 40, 40 + BLOCK_ID_BYTES) as BlockId;
  return {
    header: { type, pool: pool as PoolId, id, lengthBytes, seq, generation, syncedBytes },
    pageHashes: Uint8Array.prototype.slice.call(head, RECORD_HEADER_BYTES),
  };
}
