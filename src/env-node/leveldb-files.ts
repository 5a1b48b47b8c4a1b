/**
 * Are the files of a LevelDB store what was written? LevelDB keeps a CRC-32C with every block and log record, but (as
 * our binding opens it) does not look at those of its tables: a flipped bit there is a wrong value, a missing row, or,
 * where a key becomes shorter than it may be, the end of the process. So who cannot live with that looks first.
 *
 * The formats are LevelDB's own: doc/table_format.md and doc/log_format.md there.
 */
import { promises as fsp } from 'node:fs';
import { join } from 'node:path';
import { crc32c } from './crc32c.ts';
import type { KvCheck } from '../env.ts';

/** Of a table: two handles, padding, magic. */
const FOOTER_BYTES = 48;
const TABLE_MAGIC = 0xdb4775248b80fb57n;
/** Behind each block: kind of compression, checksum. */
const BLOCK_TRAILER_BYTES = 5;
const UNCOMPRESSED = 0;

const LOG_BLOCK_BYTES = 32_768;
const LOG_HEADER_BYTES = 7;

/**
 * Reads all files of the store, unless they have more than `maxBytes` together. Of a store that is open, a table that is
 * being written looks damaged: who asks looks again before believing it.
 */
export async function checkLevelFiles(path: string, maxBytes: number): Promise<KvCheck> {
  const names = (await readdirOrNothing(path)).filter((name) => /^(\d+\.(ldb|sst|log)|MANIFEST-\d+)$/.test(name));
  let total = 0;
  for (const name of names) total += (await statOrNothing(join(path, name)))?.size ?? 0;
  if (total > maxBytes) return { bytes: total, looked: false };
  for (const name of names) {
    const bytes = await readOrNothing(join(path, name));
    if (bytes === undefined) continue;
    const fault = name.endsWith('.log')
      ? checkLog(bytes, true)
      : name.startsWith('MANIFEST')
        ? checkLog(bytes, false)
        : checkTable(bytes);
    if (fault !== undefined) {
      return { bytes: total, looked: true, damage: { file: name, fileBytes: bytes.length, fault } };
    }
  }
  return { bytes: total, looked: true };
}

/** What is wrong with a table, if anything. Pure. */
export function checkTable(bytes: Uint8Array): string | undefined {
  if (bytes.length < FOOTER_BYTES) return 'it is too short for a table';
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getBigUint64(bytes.length - 8, true) !== TABLE_MAGIC) return 'it does not end as a table does';
  const footer = new Cursor(bytes, bytes.length - FOOTER_BYTES, bytes.length - 8);
  const metaIndex = footer.handle();
  const index = footer.handle();
  if (metaIndex === undefined || index === undefined) return 'its footer is damaged';
  const faults = [metaIndex, index].map((handle) => checkBlock(bytes, handle));
  const fault = faults.find((found) => found !== undefined);
  if (fault !== undefined) return fault;
  for (const block of [metaIndex, index]) {
    const handles = handlesIn(bytes, block);
    if (handles === undefined) return `the list of blocks at ${block.offset} is damaged`;
    for (const handle of handles) {
      const found = checkBlock(bytes, handle);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/**
 * What is wrong with a log, if anything. Pure. With `tornEndAllowed` a bad record after which no good one stands is no
 * damage: what was never completely written looks so.
 */
export function checkLog(bytes: Uint8Array, tornEndAllowed: boolean): string | undefined {
  let badAt: number | undefined;
  for (let at = 0; at + LOG_HEADER_BYTES <= bytes.length;) {
    const blockEnd = Math.min(bytes.length, at - (at % LOG_BLOCK_BYTES) + LOG_BLOCK_BYTES);
    if (blockEnd - at < LOG_HEADER_BYTES) {
      at = blockEnd;
      continue;
    }
    const length = (bytes[at + 4] as number) | ((bytes[at + 5] as number) << 8);
    const end = at + LOG_HEADER_BYTES + length;
    const isGood = end <= blockEnd && isIntact(bytes, at, at + 6, end);
    if (isGood) {
      if (badAt !== undefined) return `the record at ${badAt} is damaged`;
      at = end;
      continue;
    }
    // Zeros to the block's end are room that was not used, or not written.
    if (!bytes.subarray(at, blockEnd).every((byte) => byte === 0)) badAt ??= at;
    at = blockEnd;
  }
  return badAt === undefined || tornEndAllowed ? undefined : `the record at ${badAt} is damaged`;
}

interface Handle {
  readonly offset: number;
  readonly size: number;
}

/** Reads LevelDB's varints; undefined past the end. */
class Cursor {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  at: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  varint(): number | undefined {
    let value = 0;
    for (let factor = 1; this.at < this.#end && factor <= 2 ** 49; factor *= 128) {
      const byte = this.#bytes[this.at++] as number;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    return undefined;
  }

  handle(): Handle | undefined {
    const offset = this.varint();
    const size = this.varint();
    return offset === undefined || size === undefined ? undefined : { offset, size };
  }
}

function checkBlock(bytes: Uint8Array, { offset, size }: Handle): string | undefined {
  const end = offset + size;
  if (end + BLOCK_TRAILER_BYTES > bytes.length) return `a block at ${offset} would reach past the end`;
  return isIntact(bytes, end + 1, offset, end + 1) ? undefined : `the block at ${offset} does not match its checksum`;
}

/** Compares the masked checksum at `checksumAt` with that of [start, end). */
function isIntact(bytes: Uint8Array, checksumAt: number, start: number, end: number): boolean {
  const stored = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(checksumAt, true);
  const crc = crc32c(bytes, start, end);
  // Masked, as LevelDB does it, because checksums of bytes that contain checksums are weak.
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0 === stored;
}

/** The handles that are the values of an (intact) index block; undefined if it cannot be read, as when compressed. */
function handlesIn(bytes: Uint8Array, { offset, size }: Handle): Handle[] | undefined {
  if (bytes[offset + size] !== UNCOMPRESSED || size < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const restartCount = view.getUint32(offset + size - 4, true);
  const end = offset + size - 4 - 4 * restartCount;
  const cursor = new Cursor(bytes, offset, end);
  const handles: Handle[] = [];
  while (cursor.at < end) {
    cursor.varint();
    const keyBytes = cursor.varint();
    const valueBytes = cursor.varint();
    if (keyBytes === undefined || valueBytes === undefined) return undefined;
    cursor.at += keyBytes;
    const next = cursor.at + valueBytes;
    const handle = cursor.handle();
    if (handle === undefined || next > end) return undefined;
    handles.push(handle);
    cursor.at = next;
  }
  return handles;
}

async function readdirOrNothing(path: string): Promise<string[]> {
  return (await unlessGone(fsp.readdir(path))) ?? [];
}

const statOrNothing = (path: string) => unlessGone(fsp.stat(path));
const readOrNothing = (path: string) => unlessGone(fsp.readFile(path));

/** Files of an open store go when they are obsolete. */
async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
