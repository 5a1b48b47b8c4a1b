/**
 * Keys of the metadata table. In memory a key is a string whose code units are the key's bytes (latin1): such strings
 * compare as the bytes do, and a Map finds them fast. Inode numbers are eight bytes, big endian, so that scans go in
 * their order; names are raw bytes.
 *
 * | key | value (codec.ts) |
 * | --- | --- |
 * | `i` ino | inode |
 * | `d` parent name | child ino and type |
 * | `p` ino parent name | empty: back pointer |
 * | `e` dataIno offset | extent |
 * | `x` ino name | extended attribute |
 * | `k` ino | locks |
 * | `o` ino | orphan: sessions that still have it open |
 * | `q` number | orphan of which not all sessions have told whether they have it open |
 * | `r` ino | dead: extents and attributes to be reclaimed |
 * | `s` session | session with its results |
 * | `c` | counters |
 *
 * Keys that start with a zero byte belong to the store on this node and are in no copy or digest.
 */
import type { Ino, SessionId } from '../ids.ts';

export const INO_BYTES = 8;

export const COUNTERS_KEY = 'c';
export const FORMAT_KEY = '\0format';
export const APPLIED_KEY = '\0applied';
export const INCOMPLETE_KEY = '\0incomplete';

/** First key that belongs to the table, and the first beyond it. */
export const TABLE_START = '\x01';
export const TABLE_END = '\xff';

/** Eight bytes, big endian. */
export function u64Key(value: number): string {
  const high = Math.floor(value / 0x1_0000_0000);
  const low = value >>> 0;
  return String.fromCharCode(
    high >>> 24,
    (high >>> 16) & 0xff,
    (high >>> 8) & 0xff,
    high & 0xff,
    low >>> 24,
    (low >>> 16) & 0xff,
    (low >>> 8) & 0xff,
    low & 0xff,
  );
}

/** Reads eight bytes, big endian, at `at` of a key. */
export function u64FromKey(key: string, at: number): number {
  let value = 0;
  for (let i = at; i < at + INO_BYTES; i++) value = value * 256 + key.charCodeAt(i);
  return value;
}

export function keyToBytes(key: string): Uint8Array {
  return Buffer.from(key, 'latin1');
}

export function keyFromBytes(bytes: Uint8Array): string {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return buffer.toString('latin1');
}

/** The first key after all keys that start with `prefix` (whose last byte is not 0xff in our keys, or it is cut). */
export function prefixEnd(prefix: string): string {
  let length = prefix.length;
  while (length > 0 && prefix.charCodeAt(length - 1) === 0xff) length--;
  if (length === 0) return TABLE_END;
  return prefix.slice(0, length - 1) + String.fromCharCode(prefix.charCodeAt(length - 1) + 1);
}

export const inodeKey = (ino: number): string => 'i' + u64Key(ino);
export const direntPrefix = (parent: number): string => 'd' + u64Key(parent);
export const direntKey = (parent: number, name: string): string => 'd' + u64Key(parent) + name;
export const backPrefix = (ino: number): string => 'p' + u64Key(ino);
export const backKey = (ino: number, parent: number, name: string): string => 'p' + u64Key(ino) + u64Key(parent) + name;
export const extentPrefix = (dataIno: number): string => 'e' + u64Key(dataIno);
export const extentKey = (dataIno: number, offset: number): string => 'e' + u64Key(dataIno) + u64Key(offset);
export const xattrPrefix = (ino: number): string => 'x' + u64Key(ino);
export const xattrKey = (ino: number, name: string): string => 'x' + u64Key(ino) + name;
export const lockKey = (ino: number): string => 'k' + u64Key(ino);
export const orphanKey = (ino: number): string => 'o' + u64Key(ino);
export const unansweredKey = (orphanNumber: number): string => 'q' + u64Key(orphanNumber);
export const deadKey = (ino: number): string => 'r' + u64Key(ino);
export const sessionKey = (session: SessionId): string => 's' + Buffer.from(session, 'hex').toString('latin1');

/** Where the ino (dataIno) starts in a key of any kind that has one. */
export const KEY_INO_AT = 1;
/** Where the name starts in a `d` or `x` key; the offset in an `e` key. */
export const KEY_NAME_AT = 1 + INO_BYTES;
/** Where parent and name start in a `p` key. */
export const BACK_PARENT_AT = 1 + INO_BYTES;
export const BACK_NAME_AT = 1 + INO_BYTES * 2;

export function inoFromKey(key: string): Ino {
  return u64FromKey(key, KEY_INO_AT) as Ino;
}
