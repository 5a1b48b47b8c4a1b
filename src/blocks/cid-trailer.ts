/**
 * How a block that the IPFS world names by a CID stands in a store of ours: its bytes, then its multihash, so that every
 * such block says by itself what it is called, and whatever finds blocks by multihash can be made anew from the store.
 * (docs/formats.md, "Blocks with a CID"; docs/decisions/0010.)
 *
 * data | multihash | length of the multihash u8 | version u8 | magic `TtmC`
 */
import { FormatError, StateError } from '../errors.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';

const MAGIC = Buffer.from('TtmC', 'latin1');
const VERSION = 1;
const FIXED_BYTES = 2 + MAGIC.length;
/** The longest digests in use have 64 bytes; its length is one byte. */
const MULTIHASH_MAX_BYTES = 255;
/** The most that has to be read to know what a block is called. */
export const TRAILER_MAX_BYTES = MULTIHASH_MAX_BYTES + FIXED_BYTES;
/** Longest block with a CID: what a block of ours has, less 512 bytes for this. (Bitswap's limit is 2 MiB.) */
export const CID_BLOCK_MAX_BYTES: number = BLOCK_MAX_BYTES - 512;

export function trailerBytes(multihash: Uint8Array): number {
  if (multihash.length > MULTIHASH_MAX_BYTES) {
    throw new StateError(`a multihash of ${multihash.length} bytes: this store keeps ${MULTIHASH_MAX_BYTES} at most`, {
      remedy: 'Name the block by a hash function, not by the identity of long data.',
    });
  }
  return multihash.length + FIXED_BYTES;
}

/** Writes the trailer at the end of `block`. */
export function writeTrailer(block: Uint8Array, multihash: Uint8Array): void {
  const at = block.length - trailerBytes(multihash);
  block.set(multihash, at);
  block[at + multihash.length] = multihash.length;
  block[at + multihash.length + 1] = VERSION;
  block.set(MAGIC, at + multihash.length + 2);
}

/**
 * The multihash of a block, given its last bytes (at least TRAILER_MAX_BYTES, or all); undefined if it is a block
 * without a CID.
 *
 * @throws FormatError if a newer version wrote it.
 */
export function readTrailer(tail: Uint8Array): Uint8Array | undefined {
  const end = tail.length - FIXED_BYTES;
  if (end < 0 || MAGIC.compare(tail, end + 2, end + FIXED_BYTES) !== 0) return undefined;
  const version = tail[end + 1];
  if (version !== VERSION) {
    throw new FormatError(`a block with a CID is of format ${version}, this program reads ${VERSION}`, {
      remedy: 'Use the newer version of tatamifs that wrote it.',
    });
  }
  const multihashBytes = tail[end] ?? 0;
  return multihashBytes > end ? undefined : tail.slice(end - multihashBytes, end);
}
