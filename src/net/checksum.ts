/** xxh64 of what lies in pieces. */
import { createXxh64, xxh64 } from '../xxhash.ts';

/** xxh64 of the concatenation, without concatenating. */
export function xxh64OfAll(pieces: readonly Uint8Array[]): bigint {
  const [only] = pieces;
  if (only !== undefined && pieces.length === 1) return xxh64(only);
  const state = createXxh64();
  for (const piece of pieces) state.update(piece);
  return state.digest();
}
