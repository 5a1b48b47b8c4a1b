/**
 * What a range of a file is made of, in 32 bytes: who has read its extents asks the group to replace them if they are
 * still these. BLAKE3-256 over each extent's part in the range, as commands carry extents. Equal digests mean equal bytes:
 * blocks are named by their content, and inline bytes are hashed themselves.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { ByteWriter } from './bytes.ts';
import { writeExtent } from './codec.ts';
import type { Extent } from './types.ts';

/** Bytes of a digest. */
export const EXTENT_DIGEST_BYTES = 32;

const hasher = new Blake3Hasher();
const writer = new ByteWriter();

/** `extents`: ascending, cut to the range (extents.ts, clip). */
export function digestExtents(extents: readonly Extent[]): Uint8Array {
  hasher.reset();
  for (const extent of extents) {
    writeExtent(writer.reset(), extent);
    hasher.update(writer.finish());
  }
  return Buffer.from(hasher.digest('hex'), 'hex');
}
