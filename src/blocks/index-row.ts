/**
 * Rows of the block index carry a checksum over key and value: the database below does not look at its own, so a flipped
 * bit could otherwise send a read to another place, or a put under an old number.
 */
import { CorruptionError } from '../errors.ts';
import { xxh64Low32 } from '../xxhash.ts';

const CHECKSUM_BYTES = 4;

/** Keys are at most this long. */
const KEY_MAX_BYTES = 64;
let scratch = Buffer.alloc(1024);

function checksum(key: Uint8Array, payload: Uint8Array): number {
  const length = key.length + payload.length;
  if (scratch.length < length) scratch = Buffer.alloc(2 * length);
  scratch.set(key);
  scratch.set(payload, key.length);
  return xxh64Low32(scratch.subarray(0, length), BigInt(key.length));
}

/** What is stored under `key`. */
export function sealRow(key: Uint8Array, payload: Uint8Array): Uint8Array {
  const row = new Uint8Array(payload.length + CHECKSUM_BYTES);
  row.set(payload);
  new DataView(row.buffer).setUint32(payload.length, checksum(key, payload), true);
  return row;
}

/** The payload: a view of `row`. CorruptionError if it is not what {@link sealRow} made for this key. */
export function openRow(key: Uint8Array, row: Uint8Array): Uint8Array {
  const length = row.length - CHECKSUM_BYTES;
  if (key.length <= KEY_MAX_BYTES && length >= 0) {
    const payload = row.subarray(0, length);
    const view = new DataView(row.buffer, row.byteOffset, row.byteLength);
    if (view.getUint32(length, true) === checksum(key, payload)) return payload;
  }
  throw new CorruptionError('the block index has a damaged row', { remedy: 'It is rebuilt from the packs by itself.' });
}
