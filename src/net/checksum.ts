/**
 * xxh64 for frames: fast, and only against accidents. What must resist intent is verified by BLAKE3 ids (blocks) or by
 * HMAC (handshake, discovery).
 */
import xxhash from 'xxhash-wasm';

const api = await xxhash();

/** xxh64 with seed 0. */
export function xxh64(bytes: Uint8Array): bigint {
  return api.h64Raw(bytes);
}

/** xxh64 of the concatenation, without concatenating. */
export function xxh64OfAll(pieces: readonly Uint8Array[]): bigint {
  const [only] = pieces;
  if (only !== undefined && pieces.length === 1) return api.h64Raw(only);
  const state = api.create64();
  for (const piece of pieces) state.update(piece);
  return state.digest();
}
