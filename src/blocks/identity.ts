/**
 * Names of blocks. A block is cut into pages of 64 KiB; its page list is the concatenated BLAKE3-256 of the pages and
 * its id the BLAKE3-256 of that list. So a whole block is checked against its id, and so is any run of pages, given the
 * list (2 KiB for 4 MiB). The two-level tree is our own: BLAKE3's inner tree is not reachable through its bindings.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { CorruptionError, StateError, TooLargeError } from '../errors.ts';
import { BLOCK_ID_BYTES, blockIdToHex, type BlockId } from '../ids.ts';
import { BLOCK_MAX_BYTES, PAGE_BYTES } from '../limits.ts';

/** Bytes of one page's hash. */
export const PAGE_HASH_BYTES = 32;
/** Most pages a block can have. */
export const PAGES_PER_BLOCK_MAX = BLOCK_MAX_BYTES / PAGE_BYTES;

// One hasher and one scratch for all calls: every function here is synchronous. The hexadecimal form of a digest is a
// short string on the young heap; a Buffer per page would be external memory with a finaliser each, and slower.
const hasher = new Blake3Hasher();
const scratch = Buffer.allocUnsafe(PAGES_PER_BLOCK_MAX * PAGE_HASH_BYTES);

function hashInto(data: Uint8Array, target: Buffer, position: number): void {
  hasher.reset();
  hasher.update(data);
  target.write(hasher.digest('hex'), position, 'hex');
}

function hashPagesInto(data: Uint8Array, target: Buffer): number {
  let position = 0;
  for (let start = 0; start < data.length; start += PAGE_BYTES) {
    hashInto(data.subarray(start, Math.min(start + PAGE_BYTES, data.length)), target, position);
    position += PAGE_HASH_BYTES;
  }
  return position;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Number of pages of a block of `blockBytes`. */
export function pageCountOf(blockBytes: number): number {
  return Math.ceil(blockBytes / PAGE_BYTES);
}

/** Throws TooLargeError unless 1 <= blockBytes <= BLOCK_MAX_BYTES. */
export function checkBlockBytes(blockBytes: number): void {
  if (!Number.isInteger(blockBytes) || blockBytes < 1 || blockBytes > BLOCK_MAX_BYTES) {
    throw new TooLargeError(`a block has 1 to ${BLOCK_MAX_BYTES} bytes, not ${blockBytes}`, {
      remedy: blockBytes === 0 ? 'Do not store empty blocks.' : 'Cut the data into smaller blocks.',
    });
  }
}

/** Id and page list of a block. Throws TooLargeError for an empty or too large one. */
export function hashBlock(data: Uint8Array): { id: BlockId; pageHashes: Uint8Array } {
  checkBlockBytes(data.length);
  const pageHashes = Buffer.allocUnsafeSlow(pageCountOf(data.length) * PAGE_HASH_BYTES);
  hashPagesInto(data, pageHashes);
  const id = Buffer.allocUnsafeSlow(BLOCK_ID_BYTES);
  hashInto(pageHashes, id, 0);
  // Plain Uint8Arrays: a Buffer's overridden methods (slice) would leak into callers' expectations.
  return { id: new Uint8Array(id.buffer) as BlockId, pageHashes: new Uint8Array(pageHashes.buffer) };
}

/** Throws CorruptionError unless `pageHashes` is the page list of a block of that length and id. */
export function verifyPageList(id: BlockId, pageHashes: Uint8Array, blockBytes: number): void {
  if (!Number.isInteger(blockBytes) || blockBytes < 1 || blockBytes > BLOCK_MAX_BYTES) {
    throw new CorruptionError(`block ${blockIdToHex(id)}: impossible length ${blockBytes}`);
  }
  if (pageHashes.length !== pageCountOf(blockBytes) * PAGE_HASH_BYTES) {
    throw new CorruptionError(
      `block ${blockIdToHex(id)}: page list of ${pageHashes.length} bytes for ${blockBytes} bytes of data`,
    );
  }
  hashInto(pageHashes, scratch, 0);
  if (asBuffer(id).compare(scratch, 0, BLOCK_ID_BYTES) !== 0) {
    throw new CorruptionError(`block ${blockIdToHex(id)}: its page list does not match its id`);
  }
}

/**
 * Throws CorruptionError unless `data` is pages `firstPage`.. of the block, whose page list was verified before.
 * `data` must end on a page boundary or with the block; it may be empty.
 */
export function verifyPageData(
  id: BlockId,
  blockBytes: number,
  pageHashes: Uint8Array,
  firstPage: number,
  data: Uint8Array,
): void {
  if (!Number.isInteger(firstPage) || firstPage < 0) throw new StateError(`not a page number: ${firstPage}`);
  const start = firstPage * PAGE_BYTES;
  const end = start + data.length;
  if (data.length === 0) return;
  if (end > blockBytes || (end < blockBytes && end % PAGE_BYTES !== 0)) {
    throw new CorruptionError(
      `block ${blockIdToHex(id)}: bytes ${start} to ${end} of ${blockBytes} are no run of pages`,
    );
  }
  const listBytes = hashPagesInto(data, scratch);
  const first = firstPage * PAGE_HASH_BYTES;
  if (scratch.compare(pageHashes, first, first + listBytes, 0, listBytes) !== 0) {
    throw new CorruptionError(`block ${blockIdToHex(id)}: bytes ${start} to ${end} do not match its id`);
  }
}

/** {@link verifyPageList} and {@link verifyPageData} in one: every byte of `data` is tied to the id. */
export function verifyPages(
  id: BlockId,
  blockBytes: number,
  pageHashes: Uint8Array,
  firstPage: number,
  data: Uint8Array,
): void {
  verifyPageList(id, pageHashes, blockBytes);
  verifyPageData(id, blockBytes, pageHashes, firstPage, data);
}

/** Throws CorruptionError unless `data` is the whole block of that id. */
export function verifyBlock(id: BlockId, data: Uint8Array): void {
  if (data.length < 1 || data.length > BLOCK_MAX_BYTES)
    throw new CorruptionError(`block ${blockIdToHex(id)}: impossible length ${data.length}`);
  const listBytes = hashPagesInto(data, scratch);
  hashInto(scratch.subarray(0, listBytes), scratch, 0);
  if (asBuffer(id).compare(scratch, 0, BLOCK_ID_BYTES) !== 0) {
    throw new CorruptionError(`block ${blockIdToHex(id)}: ${data.length} bytes do not match its id`);
  }
}
