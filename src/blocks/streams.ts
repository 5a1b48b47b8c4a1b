/**
 * Streams of any length over any {@link BlockStore}: cut into blocks on the way in, put together on the way out, named by
 * one id. Neither direction holds more than a few blocks in memory.
 */
import type { CancelSignal } from '../cancel.ts';
import { CorruptionError, StateError } from '../errors.ts';
import { blockIdToHex, type BlockId } from '../ids.ts';
import { BLOCK_MAX_BYTES, MiB } from '../limits.ts';
import { checkBytes } from './block-source.ts';
import { checkSignal, concurrencyOf, inOrder, Intake, type Source } from './many.ts';
import {
  decodeNode,
  encodeNode,
  encodeShortStream,
  NODE_ENTRIES_MAX,
  NODE_HEADER_BYTES,
  type StreamEntry,
  type StreamNode,
} from './stream-format.ts';
import type { BlockStore, ManyOptions } from './types.ts';

/** As file systems and IPFS' importers have it: a few hundred blocks for the usual large file, ranges cost little. */
const DEFAULT_BLOCK_BYTES = MiB;
/** What is under way in each direction unless the caller says how many blocks. */
const UNDER_WAY_BYTES = 16 * MiB;
const UNDER_WAY_BLOCKS_MIN = 4;
const UNDER_WAY_BLOCKS_MAX = 256;
/** Readers do not know the size of the next blocks before they are there. */
const READ_AHEAD_BLOCKS = 8;

/** How a stream is cut, and until when it is written. */
export interface PutStreamOptions extends ManyOptions {
  /**
   * Length of the blocks, all but the last: 1 to 4 MiB; default 1 MiB. It is part of the name: streams share blocks, and
   * equal streams their id, only if they are cut alike.
   */
  readonly blockBytes?: number;
}

/** Which bytes of a stream, and until when. */
export interface GetStreamOptions extends ManyOptions {
  /** First byte wanted; default 0. Only the blocks that the range touches are read. */
  readonly offset?: number;
  /** Bytes. Default: to the end. A range past the end is cut; a range starting past it is empty. */
  readonly length?: number;
}

/** What {@link putStream} stored. */
export interface StoredStream {
  /** Name of the stream: the id of its root block. */
  readonly id: BlockId;
  /** Its length. */
  readonly lengthBytes: number;
}

/**
 * Stores all of a stream (a `Readable`, a web stream, a generator of chunks of any size) and resolves when all of it is
 * as durable as the store makes blocks. Chunks are copied as they come. The root is put last: a stream whose id is known is
 * whole; what was put before a failure are blocks that nobody names.
 *
 * @throws what put throws; what the source throws; CancelledError.
 */
export async function putStream(
  store: Pick<BlockStore, 'put'>,
  source: Source<Uint8Array>,
  options: PutStreamOptions = {},
): Promise<StoredStream> {
  const { signal, blockBytes = DEFAULT_BLOCK_BYTES } = options;
  if (!Number.isSafeInteger(blockBytes) || blockBytes < 1 || blockBytes > BLOCK_MAX_BYTES)
    throw new StateError(`blockBytes is 1 to ${BLOCK_MAX_BYTES}, not ${blockBytes}`);
  checkSignal(signal);
  const maxCount = concurrencyOf(
    options.concurrency,
    Math.min(UNDER_WAY_BLOCKS_MAX, Math.max(UNDER_WAY_BLOCKS_MIN, Math.floor(UNDER_WAY_BYTES / blockBytes))),
  );
  const write = signal === undefined ? {} : { signal };
  const cut = new Cutter(source, blockBytes, signal);
  try {
    const first = (await cut.next()) ?? new Uint8Array(0);
    const second = await cut.next();
    if (second === undefined && first.length + NODE_HEADER_BYTES <= BLOCK_MAX_BYTES)
      return { id: await store.put(encodeShortStream(first), write), lengthBytes: first.length };
    const tree = new TreeWriter(async (node) => await store.put(node, write));
    const blocks = cut.rest(second === undefined ? [first] : [first, second]);
    const stored = inOrder(blocks, { maxCount, signal }, async (data, gaveUp) => {
      const id = await store.put(data, { signal: gaveUp });
      const { length } = data;
      cut.recycle(data);
      return { id, lengthBytes: length };
    });
    for await (const entry of stored) await tree.add(entry);
    return await tree.end();
  } finally {
    await cut.close();
  }
}

/**
 * A stream's bytes, in chunks as they were cut, verified, owned by the caller, read ahead by `concurrency` blocks (8). Pass
 * it to `Readable.from` or `pipeline`.
 *
 * @throws (at the place where it happens, after the bytes before it) what get throws; FormatError if the id is not a
 * stream's; CorruptionError if its blocks do not fit together.
 */
export async function* getStream(
  store: Pick<BlockStore, 'get'>,
  id: BlockId,
  options: GetStreamOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const { offset = 0, length = Number.MAX_SAFE_INTEGER, signal } = options;
  if (!Number.isSafeInteger(offset) || offset < 0) throw new StateError(`not an offset: ${offset}`);
  if (!Number.isSafeInteger(length) || length < 0) throw new StateError(`not a length: ${length}`);
  const root = await readNode(store, id, signal);
  const end = Math.min(root.lengthBytes, offset + length);
  if (offset >= end) return;
  if ('data' in root) {
    yield root.data.subarray(offset, end);
    return;
  }
  const bounds = { maxCount: concurrencyOf(options.concurrency, READ_AHEAD_BLOCKS), signal };
  yield* inOrder(piecesOf(store, root, 0, offset, end, signal), bounds, async (piece, gaveUp) => {
    const { from, to } = piece;
    const whole = from === 0 && to === piece.lengthBytes;
    const range = whole ? {} : { offset: from, length: to - from };
    const data = await store.get(piece.id, { ...range, signal: gaveUp });
    if (data.length !== to - from)
      throw new CorruptionError(`block ${blockIdToHex(piece.id)} is not as long as the stream that names it says`);
    return data;
  });
}

/**
 * The length of a stream, from its root block alone.
 *
 * @throws as {@link getStream}.
 */
export async function streamLength(
  store: Pick<BlockStore, 'get'>,
  id: BlockId,
  options: Pick<ManyOptions, 'signal'> = {},
): Promise<number> {
  return (await readNode(store, id, options.signal)).lengthBytes;
}

/**
 * Ids of all blocks that a stream needs, its root first; one that it needs twice comes twice. Blocks are shared between
 * streams, so none may be deleted with a stream unless no other one needs it: collect what the streams to keep
 * need, and delete what {@link BlockStore.list} has beside that.
 */
export async function* streamBlocks(
  store: Pick<BlockStore, 'get'>,
  id: BlockId,
  options: Pick<ManyOptions, 'signal'> = {},
): AsyncGenerator<BlockId, void, undefined> {
  const root = await readNode(store, id, options.signal);
  yield id;
  if ('entries' in root) yield* idsBelow(store, root, options.signal);
}

async function* idsBelow(
  store: Pick<BlockStore, 'get'>,
  node: StreamNode & { readonly entries: readonly StreamEntry[] },
  signal: CancelSignal | undefined,
): AsyncGenerator<BlockId, void, undefined> {
  for (const entry of node.entries) {
    yield entry.id;
    if (node.depth > 1) yield* idsBelow(store, await readInner(store, entry, node.depth - 1, signal), signal);
  }
}

interface Piece extends StreamEntry {
  /** Wanted bytes of the block. */
  readonly from: number;
  readonly to: number;
}

/** The blocks of data below a node that begins at `start` of the stream, as far as [offset, end) touches them. */
async function* piecesOf(
  store: Pick<BlockStore, 'get'>,
  node: StreamNode & { readonly entries: readonly StreamEntry[] },
  start: number,
  offset: number,
  end: number,
  signal: CancelSignal | undefined,
): AsyncGenerator<Piece, void, undefined> {
  let at = start;
  for (const entry of node.entries) {
    const next = at + entry.lengthBytes;
    if (at >= end) return;
    if (next > offset) {
      if (node.depth === 1) {
        yield { ...entry, from: Math.max(0, offset - at), to: Math.min(entry.lengthBytes, end - at) };
      } else {
        yield* piecesOf(store, await readInner(store, entry, node.depth - 1, signal), at, offset, end, signal);
      }
    }
    at = next;
  }
}

async function readNode(
  store: Pick<BlockStore, 'get'>,
  id: BlockId,
  signal: CancelSignal | undefined,
): Promise<StreamNode> {
  return decodeNode(id, await store.get(id, signal === undefined ? {} : { signal }));
}

async function readInner(
  store: Pick<BlockStore, 'get'>,
  entry: StreamEntry,
  depth: number,
  signal: CancelSignal | undefined,
): Promise<StreamNode & { readonly entries: readonly StreamEntry[] }> {
  const node = await readNode(store, entry.id, signal);
  // Depths go down by one each time, so no chain of nodes is endless.
  if (!('entries' in node) || node.depth !== depth || node.lengthBytes !== entry.lengthBytes)
    throw new CorruptionError(`block ${blockIdToHex(entry.id)} is not the part of a stream that it is named as`);
  return node;
}

/** Makes nodes of entries, level by level: at most one unfinished node of each is in memory. */
class TreeWriter {
  readonly #put: (node: Uint8Array) => Promise<BlockId>;
  /** Entries that are not yet in a node, by the depth of the node that they will be in, less one. */
  readonly #levels: StreamEntry[][] = [[]];

  constructor(put: (node: Uint8Array) => Promise<BlockId>) {
    this.#put = put;
  }

  async add(entry: StreamEntry, level = 0): Promise<void> {
    const entries = (this.#levels[level] ??= []);
    if (entries.length === NODE_ENTRIES_MAX) await this.#finish(level);
    this.#levels[level]?.push(entry);
  }

  async #finish(level: number): Promise<void> {
    const entries = this.#levels[level] ?? [];
    this.#levels[level] = [];
    const id = await this.#put(encodeNode(level + 1, entries));
    await this.add({ id, lengthBytes: entries.reduce((sum, entry) => sum + entry.lengthBytes, 0) }, level + 1);
  }

  async end(): Promise<StoredStream> {
    for (let level = 0; level < this.#levels.length - 1; level++) await this.#finish(level);
    const level = this.#levels.length - 1;
    const entries = this.#levels[level] ?? [];
    const id = await this.#put(encodeNode(level + 1, entries));
    return { id, lengthBytes: entries.reduce((sum, entry) => sum + entry.lengthBytes, 0) };
  }
}

/** Cuts chunks of any size into blocks of one. */
class Cutter {
  readonly #intake: Intake<Uint8Array>;
  readonly #blockBytes: number;
  /** Buffers of blocks that are stored: memory that is used again costs no page faults. */
  readonly #free: Uint8Array[] = [];
  #chunk: Uint8Array = new Uint8Array(0);
  #ended = false;

  constructor(source: Source<Uint8Array>, blockBytes: number, signal: CancelSignal | undefined) {
    this.#intake = new Intake(source, signal);
    this.#blockBytes = blockBytes;
  }

  /** The next block; undefined at the end. */
  async next(): Promise<Uint8Array | undefined> {
    const block = this.#free.pop() ?? new Uint8Array(this.#blockBytes);
    let filled = 0;
    while (filled < block.length) {
      if (this.#chunk.length === 0) {
        if (this.#ended) break;
        const next = await this.#intake.next();
        if (next.done === true) {
          this.#ended = true;
          break;
        }
        checkBytes(next.value);
        this.#chunk = next.value;
        continue;
      }
      const part = this.#chunk.subarray(0, block.length - filled);
      block.set(part, filled);
      filled += part.length;
      this.#chunk = this.#chunk.subarray(part.length);
    }
    return filled === 0 ? undefined : block.subarray(0, filled);
  }

  async *rest(begun: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
    yield* begun;
    for (let block = await this.next(); block !== undefined; block = await this.next()) yield block;
  }

  /** Nobody needs the block's bytes any more. */
  recycle(block: Uint8Array): void {
    if (block.length === this.#blockBytes) this.#free.push(block);
  }

  async close(): Promise<void> {
    await this.#intake.close();
  }
}
