/**
 * How a stream of any length is kept in blocks: its data is cut into blocks of one size, and nodes name them in order;
 * nodes of nodes where one is not enough. The root's id names the whole stream, as every id names all that is below it
 * (a Merkle tree, as in Venti and IPFS; docs/formats.md, "Streams in blocks").
 *
 * Node, little-endian: magic `TtmS`, version u8, depth u8, zero u16, length of the data below u64; then with depth 0
 * the data itself, else entries of 40 bytes: block id, length of the data below it u64. With depth 1 entries name blocks
 * of data, with a higher one nodes of depth - 1.
 */
import { CorruptionError, FormatError } from '../errors.ts';
import { BLOCK_ID_BYTES, blockIdToHex, type BlockId } from '../ids.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';

const MAGIC = Buffer.from('TtmS', 'latin1');
const VERSION = 1;
export const NODE_HEADER_BYTES = 16;
const ENTRY_BYTES = BLOCK_ID_BYTES + 8;
/** Entries of a node: 160 KiB, so that reading a range somewhere costs little more than its own blocks. */
export const NODE_ENTRIES_MAX = 4096;
/** More than any length needs: 4096 ** 5 blocks of a byte are over 2^53 bytes. */
const DEPTH_MAX = 8;

export interface StreamEntry {
  readonly id: BlockId;
  /** Of the data below. */
  readonly lengthBytes: number;
}

export type StreamNode =
  | { readonly depth: 0; readonly lengthBytes: number; readonly data: Uint8Array }
  | { readonly depth: number; readonly lengthBytes: number; readonly entries: readonly StreamEntry[] };

function header(depth: number, lengthBytes: number, bodyBytes: number): Buffer {
  const node = Buffer.alloc(NODE_HEADER_BYTES + bodyBytes);
  MAGIC.copy(node);
  node[4] = VERSION;
  node[5] = depth;
  node.writeBigUInt64LE(BigInt(lengthBytes), 8);
  return node;
}

/** A stream that is short enough to stand in its root. */
export function encodeShortStream(data: Uint8Array): Uint8Array {
  const node = header(0, data.length, data.length);
  node.set(data, NODE_HEADER_BYTES);
  return node;
}

export function encodeNode(depth: number, entries: readonly StreamEntry[]): Uint8Array {
  const lengthBytes = entries.reduce((sum, entry) => sum + entry.lengthBytes, 0);
  const node = header(depth, lengthBytes, entries.length * ENTRY_BYTES);
  entries.forEach((entry, index) => {
    const at = NODE_HEADER_BYTES + index * ENTRY_BYTES;
    node.set(entry.id, at);
    node.writeBigUInt64LE(BigInt(entry.lengthBytes), at + BLOCK_ID_BYTES);
  });
  return node;
}

/**
 * @throws FormatError for a block that is no node, or a newer one; CorruptionError for one that no version of this
 * program writes (the block's own bytes are verified: whoever stored it wrote nonsense).
 */
export function decodeNode(id: BlockId, bytes: Uint8Array): StreamNode {
  const node = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = `block ${blockIdToHex(id)}`;
  if (node.length < NODE_HEADER_BYTES || node.compare(MAGIC, 0, 4, 0, 4) !== 0) {
    throw new FormatError(`${name} is not the name of a stream`, {
      remedy: 'Give the id that putStream resolved with; a block that was put by itself is read with get.',
    });
  }
  if (node[4] !== VERSION) {
    throw new FormatError(`the stream ${name} is of format ${node[4]}, this program reads ${VERSION}`, {
      remedy: 'Use the newer version of tatamifs that wrote it.',
    });
  }
  const depth = node[5] ?? 0;
  const lengthBytes = Number(node.readBigUInt64LE(8));
  const nonsense = (what: string): CorruptionError => new CorruptionError(`the stream ${name} is malformed: ${what}`);
  if (!Number.isSafeInteger(lengthBytes)) throw nonsense(`a length of ${lengthBytes}`);
  if (depth === 0) {
    const data = bytes.subarray(NODE_HEADER_BYTES);
    if (data.length !== lengthBytes) throw nonsense(`${data.length} bytes where it says ${lengthBytes}`);
    return { depth, lengthBytes, data };
  }
  const count = (node.length - NODE_HEADER_BYTES) / ENTRY_BYTES;
  if (depth > DEPTH_MAX || !Number.isInteger(count) || count < 1 || count > NODE_ENTRIES_MAX)
    throw nonsense(`${count} entries at depth ${depth}`);
  const entries: StreamEntry[] = [];
  let sum = 0;
  for (let at = NODE_HEADER_BYTES; at < node.length; at += ENTRY_BYTES) {
    const below = Number(node.readBigUInt64LE(at + BLOCK_ID_BYTES));
    if (below < 1 || (depth === 1 && below > BLOCK_MAX_BYTES)) throw nonsense(`an entry of ${below} bytes`);
    sum += below;
    entries.push({
      id: new Uint8Array(node.subarray(at, at + BLOCK_ID_BYTES)) as BlockId,
      lengthBytes: below,
    });
  }
  if (sum !== lengthBytes) throw nonsense(`entries of ${sum} bytes where it says ${lengthBytes}`);
  return { depth, lengthBytes, entries };
}
