/** Checks bytes against a multihash, for the hash functions that are at hand. */
import { createHash } from 'node:crypto';
import { Blake3Hasher } from '@napi-rs/blake-hash';

/** A hash function by its multicodec, as `multiformats` has them (its `MultihashHasher`s fit). */
export interface CidHasher {
  /** Its number in the multicodec table: 0x12 is SHA2-256. */
  readonly code: number;
  /** The digest of some bytes, with its own bytes in `digest`. */
  digest(bytes: Uint8Array): { readonly digest: Uint8Array } | Promise<{ readonly digest: Uint8Array }>;
}

const sha256 = (data: Uint8Array): Uint8Array => createHash('sha256').update(data).digest();

/** By multicodec. */
const BUILT_IN = new Map<number, (data: Uint8Array) => Uint8Array>([
  [0x11, (data) => createHash('sha1').update(data).digest()],
  [0x12, sha256],
  [0x13, (data) => createHash('sha512').update(data).digest()],
  [0x14, (data) => createHash('sha3-512').update(data).digest()],
  [0x15, (data) => createHash('sha3-384').update(data).digest()],
  [0x16, (data) => createHash('sha3-256').update(data).digest()],
  [0x17, (data) => createHash('sha3-224').update(data).digest()],
  [0x1e, (data) => new Blake3Hasher().update(data).digestBuffer()],
  [0x20, (data) => createHash('sha384').update(data).digest()],
  [0x56, (data) => sha256(sha256(data))],
  [0x1013, (data) => createHash('sha224').update(data).digest()],
  [0xb240, (data) => createHash('blake2b512').update(data).digest()],
  [0xb260, (data) => createHash('blake2s256').update(data).digest()],
]);

export class CidHashes {
  readonly #own: ReadonlyMap<number, CidHasher>;

  constructor(own: readonly CidHasher[]) {
    this.#own = new Map(own.map((hasher) => [hasher.code, hasher]));
  }

  /** Undefined if the function is not at hand. A digest may be cut short: what there is of it is compared. */
  async matches(code: number, digest: Uint8Array, data: Uint8Array): Promise<boolean | undefined> {
    const hasher = this.#own.get(code);
    const found = hasher === undefined ? BUILT_IN.get(code)?.(data) : (await hasher.digest(data)).digest;
    if (found === undefined) return undefined;
    return (
      digest.length > 0 &&
      digest.length <= found.length &&
      Buffer.compare(found.subarray(0, digest.length), digest) === 0
    );
  }
}
