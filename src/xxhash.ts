/**
 * xxHash64 for what needs speed and no secrecy: checksums of frames, logs and pack records, and the hashes that
 * place. WebAssembly, compiled once when this module is first imported. Never use it to name content: it collides on
 * purpose at once.
 */
import xxhash from 'xxhash-wasm';

const api = await xxhash();

/** xxHash64 of the bytes, 0 <= n < 2^64. */
export function xxh64(bytes: Uint8Array, seed = 0n): bigint {
  return api.h64Raw(bytes, seed);
}

/** The low 32 bits of {@link xxh64} as an unsigned number: for places that need a plain integer, and for placement. */
export function xxh64Low32(bytes: Uint8Array, seed = 0n): number {
  return Number(api.h64Raw(bytes, seed) & 0xffffffffn);
}

/** An incremental xxHash64: update in pieces, then digest once. */
export function createXxh64(seed = 0n): { update(bytes: Uint8Array): void; digest(): bigint } {
  const state = api.create64(seed);
  return {
    update(bytes) {
      state.update(bytes);
    },
    digest: () => state.digest(),
  };
}
