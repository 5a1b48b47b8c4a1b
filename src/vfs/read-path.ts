/**
 * Reading: what was written here and is not committed, over the committed extents, over holes. Blocks never change,
 * so what an extent named when it was looked at can be fetched later without a lock. A read whose blocks are in the
 * cache is answered at once with views of them.
 */
import type { Clock } from '../env.ts';
import type { BlockRef } from '../blocks/types.ts';
import { BlockNotFoundError, FsError } from '../errors.ts';
import { blockIdToHex } from '../ids.ts';
import type { Extent } from '../meta/types.ts';
import { interruptible } from './async.ts';
import type { BlockCache, CachedBlock } from './block-cache.ts';
import type { ExtentMap, MappedExtent } from './extent-map.ts';
import type { FileData } from './file-data.ts';
import { toFsError } from './fs-errors.ts';
import type { FileHandle } from './handles.ts';
import type { Caller, Maybe, ReadResult } from './ops.ts';
import { COMPACT_SAVED_MIN, READ_AHEAD_BLOCKS_MAX, READ_PAGE_BYTES } from './options.ts';
import type { ReadAhead } from './read-ahead.ts';

type BlockExtent = Extract<Extent, { kind: 'block' }>;

/** A stretch of a read, in order: bytes at hand, zeros, or a range of a block. */
type Source =
  | { readonly kind: 'bytes'; readonly data: Uint8Array }
  | { readonly kind: 'zeros'; readonly length: number }
  | {
      readonly kind: 'block';
      readonly mapped: MappedExtent;
      readonly extent: BlockExtent;
      readonly from: number;
      readonly length: number;
    };

const ZEROS = new Uint8Array(256 * 1024);
const EMPTY: ReadResult = { chunks: [] };
/** A handle that read this lately takes its share of the read-ahead memory. */
const ACTIVE_MS = 2_000;
/** A block this short is fetched whole even by a random read. */
const SMALL_BLOCK_BYTES = 2 * READ_PAGE_BYTES;

export interface ReadPathPorts {
  readonly clock: Clock;
  readonly cache: BlockCache;
  /** Asks for the extents from `offset` on and takes in the attributes that come with them. What is known from `neededFrom` on stays. */
  loadExtents(file: FileData, offset: number, neededFrom?: number): Promise<void>;
  /** Who does not read in order reads at byte `from` of the extent's block. */
  readAtRandom(handle: FileHandle, extent: BlockExtent, from: number): void;
  /** A read failed for good: for the log, by path. */
  failed(file: FileData, error: FsError): void;
  /** Who reads in order has come by so many extents too many in one block's length of the file, which begins at `offset`. */
  sawPieces(file: FileData, offset: number, pieces: number): void;
}

export class ReadPath {
  readonly #ports: ReadPathPorts;
  readonly #cache: BlockCache;
  /** Handles with read-ahead, for sharing the memory. */
  readonly #streams = new Set<ReadAhead>();
  #streamsCheckedMs = 0;

  constructor(ports: ReadPathPorts) {
    this.#ports = ports;
    this.#cache = ports.cache;
  }

  read(caller: Caller, handle: FileHandle, offset: number, size: number): Maybe<ReadResult> {
    const { file } = handle;
    const end = Math.min(offset + size, file.readableBytes());
    if (offset >= end) return EMPTY;
    const whole = this.#noteRead(handle, offset, end);
    const extentsEnd = Math.min(end, file.inode.attr.sizeBytes);
    if (offset < extentsEnd && !file.extents.knows(file.inode.attr.version, offset, extentsEnd)) {
      return this.#readLater(caller, file, offset, end, whole, handle);
    }
    if (whole) this.#notePieces(handle, end);
    const sources = this.#plan(file, offset, end);
    if (!whole) this.#noteRandom(handle, sources);
    const missing = this.#start(file, sources, whole);
    const result = missing === undefined ? this.#compose(sources) : undefined;
    this.#readAhead(handle);
    if (result !== undefined) return result;
    return this.#readLater(caller, file, offset, end, whole, handle, sources);
  }

  #noteRandom(handle: FileHandle, sources: readonly Source[]): void {
    for (const source of sources) {
      if (source.kind === 'block') this.#ports.readAtRandom(handle, source.extent, source.from);
    }
  }

  /** The file's bytes as seen here, in one buffer. */
  async readStored(file: FileData, from: number, to: number): Promise<Uint8Array> {
    const result = await this.#readLater({}, file, from, to, true, undefined);
    const data = Buffer.concat(result.chunks);
    result.release?.();
    return data;
  }

  /** The handle is closed: what was fetched for it is nobody's read-ahead. */
  close(handle: FileHandle): void {
    this.#streams.delete(handle.ahead);
    this.#letGo(handle.ahead);
  }

  #letGo(ahead: ReadAhead): void {
    for (const entry of ahead.outstanding) this.#cache.settleAhead(entry);
    ahead.outstanding.clear();
  }

  /** Whether whole blocks shall be fetched for this read. */
  #noteRead(handle: FileHandle, offset: number, end: number): boolean {
    const { ahead, file } = handle;
    const now = this.#ports.clock.monotonicMs();
    this.#dropIdle(now);
    const share = ahead.isSequential ? this.#shareBlocks(file.blockSizeBytes) : 0;
    if (ahead.note(offset, end, file.blockSizeBytes, share, now)) {
      this.#streams.delete(ahead);
      this.#letGo(ahead);
    } else if (ahead.windowBlocks > 0) this.#streams.add(ahead);
    return ahead.isSequential;
  }

  /** Looks at each block's length once it is behind the reader: by then its extents are known. */
  #notePieces({ ahead, file }: FileHandle, end: number): void {
    const { blockSizeBytes } = file;
    const size = file.inode.attr.sizeBytes;
    const block = end >= size ? Math.floor((size - 1) / blockSizeBytes) : Math.floor(end / blockSizeBytes) - 1;
    if (block < 0 || block === ahead.notedBlock) return;
    ahead.notedBlock = block;
    const offset = block * blockSizeBytes;
    const pieces = file.extents.joints(offset, offset + blockSizeBytes);
    if (pieces >= COMPACT_SAVED_MIN) this.#ports.sawPieces(file, offset, pieces);
  }

  /** Who has not read for a while takes no share, and what was read ahead of him may go. */
  #dropIdle(nowMs: number): void {
    if (nowMs - this.#streamsCheckedMs <= ACTIVE_MS) return;
    this.#streamsCheckedMs = nowMs;
    for (const stream of this.#streams) {
      if (nowMs - stream.lastReadMs <= ACTIVE_MS) continue;
      this.#streams.delete(stream);
      this.#letGo(stream);
    }
  }

  /** How many blocks one reader in order may be ahead. */
  #shareBlocks(blockSizeBytes: number): number {
    const streams = Math.max(1, this.#streams.size);
    const { maxAheadBytes, aheadCount } = this.#cache;
    const blocks = Math.floor(maxAheadBytes / blockSizeBytes / streams);
    return Math.max(1, Math.min(READ_AHEAD_BLOCKS_MAX, blocks, Math.ceil(aheadCount / streams)));
  }

  #readAhead(handle: FileHandle): void {
    const { ahead, file } = handle;
    const version = file.inode.attr.version;
    const goal = Math.min(ahead.goal(file.blockSizeBytes), file.inode.attr.sizeBytes);
    if (goal <= ahead.frontier) return;
    for (const entry of ahead.outstanding) if (!entry.ahead) ahead.outstanding.delete(entry);
    const { extents } = file;
    while (ahead.frontier < goal) {
      if (!extents.knows(version, ahead.frontier, Math.min(ahead.frontier + 1, goal))) {
        // The reader comes by again; until then the extents are here.
        this.#ports.loadExtents(file, ahead.frontier).catch(() => {});
        return;
      }
      const mapped = extents.at(extents.find(ahead.frontier));
      if (mapped === undefined || mapped.offset >= goal) {
        ahead.frontier = Math.min(goal, mapped?.offset ?? goal, extents.knownTo);
        return;
      }
      if (mapped.extent.kind === 'block') {
        if (!this.#cache.hasRoomAhead(mapped.extent.blockBytes)) return;
        const entry = this.#cache.load(mapped.extent, 'readahead');
        mapped.block = entry;
        if (entry.ahead) ahead.outstanding.add(entry);
      }
      ahead.frontier = mapped.end;
    }
  }

  /** What each stretch of [from, to) comes from. Bytes not yet committed are copied: their buffers are used again. */
  #plan(file: FileData, from: number, to: number): Source[] {
    const sources: Source[] = [];
    if (to <= from) return sources;
    if (file.isClean) {
      this.#planCommitted(file, from, to, sources);
      return sources;
    }
    const found: { readonly at: number; readonly source: Source }[] = [];
    let gaps: [number, number][] = [[from, to]];
    const paint = (offset: number, length: number, data: Uint8Array): void => {
      const end = offset + length;
      const left: [number, number][] = [];
      for (const [start, stop] of gaps) {
        const low = Math.max(start, offset);
        const high = Math.min(stop, end);
        if (low >= high) {
          left.push([start, stop]);
          continue;
        }
        found.push({
          at: low,
          source: { kind: 'bytes', data: new Uint8Array(data.subarray(low - offset, high - offset)) },
        });
        if (start < low) left.push([start, low]);
        if (high < stop) left.push([high, stop]);
      }
      gaps = left;
    };
    const lastIndex = Math.floor((to - 1) / file.blockSizeBytes);
    for (let index = Math.floor(from / file.blockSizeBytes); index <= lastIndex && !file.appending; index += 1) {
      for (const run of file.dirty.runs(index)) if (touches(run, from, to)) paint(run.offset, run.length, run.buffer);
      const pending = file.pendingIn(index);
      for (let newest = pending.length - 1; newest >= 0; newest -= 1) {
        const piece = pending[newest];
        if (piece !== undefined && touches(piece, from, to)) paint(piece.offset, piece.length, piece.data);
      }
    }
    if (found.length === 0) {
      this.#planCommitted(file, from, to, sources);
      return sources;
    }
    const parts = found.map(({ at, source }) => ({ at, sources: [source] }));
    for (const [start, stop] of gaps) {
      const committed: Source[] = [];
      this.#planCommitted(file, start, stop, committed);
      parts.push({ at: start, sources: committed });
    }
    return parts.sort((a, b) => a.at - b.at).flatMap((part) => part.sources);
  }

  #planCommitted(file: FileData, from: number, to: number, sources: Source[]): void {
    const size = file.inode.attr.sizeBytes;
    const { extents } = file;
    let at = from;
    const stop = Math.min(to, size);
    if (at < stop) {
      for (let index = extents.find(at); at < stop; index += 1) {
        const mapped = extents.at(index);
        if (mapped === undefined || mapped.offset >= stop) break;
        if (mapped.offset > at) sources.push({ kind: 'zeros', length: mapped.offset - at });
        const low = Math.max(at, mapped.offset);
        const high = Math.min(stop, mapped.end);
        const { extent } = mapped;
        if (extent.kind === 'inline') {
          sources.push({ kind: 'bytes', data: extent.data.subarray(low - extent.offset, high - extent.offset) });
        } else {
          sources.push({
            kind: 'block',
            mapped,
            extent,
            from: extent.blockOffset + low - extent.offset,
            length: high - low,
          });
        }
        at = high;
      }
    }
    if (at < to) sources.push({ kind: 'zeros', length: to - at });
  }

  /** Starts what is not in the cache; undefined if all is there. */
  #start(file: FileData, sources: readonly Source[], whole: boolean): Promise<void>[] | undefined {
    let waits: Promise<void>[] | undefined;
    for (const source of sources) {
      if (source.kind !== 'block') continue;
      for (const entry of this.#entries(file, source, whole)) {
        if (entry.loading !== undefined) (waits ??= []).push(entry.loading);
      }
    }
    return waits;
  }

  #entries(file: FileData, source: Extract<Source, { kind: 'block' }>, whole: boolean): readonly CachedBlock[] {
    const { mapped, extent } = source;
    const known = mapped.block;
    if (known !== undefined && (known.data !== undefined || known.loading !== undefined)) return [known];
    const found = this.#cache.find(extent);
    if (found !== undefined) {
      mapped.block = found;
      return [found];
    }
    const beside = whole ? undefined : blocksAround(file.extents, extent.offset);
    if (beside === undefined || source.length * 2 >= extent.blockBytes || extent.blockBytes <= SMALL_BLOCK_BYTES) {
      mapped.block = this.#cache.load(extent, 'foreground', beside);
      return [mapped.block];
    }
    const first = Math.floor(source.from / READ_PAGE_BYTES);
    const last = Math.floor((source.from + source.length - 1) / READ_PAGE_BYTES);
    return this.#cache.loadPages(extent, first, last - first + 1, beside);
  }

  /** Views of everything, or undefined if something is not (or no longer) in the cache. */
  #compose(sources: readonly Source[]): ReadResult | undefined {
    const chunks: Uint8Array[] = [];
    let held: CachedBlock[] | undefined;
    for (const source of sources) {
      if (source.kind === 'bytes') chunks.push(source.data);
      else if (source.kind === 'zeros') {
        for (let left = source.length; left > 0; left -= ZEROS.length) {
          chunks.push(left >= ZEROS.length ? ZEROS : ZEROS.subarray(0, left));
        }
      } else if (!this.#composeBlock(source, chunks, (held ??= []))) {
        this.#cache.release(held);
        return undefined;
      }
    }
    if (held === undefined) return { chunks };
    const entries = held;
    let released = false;
    return {
      chunks,
      release: () => {
        if (released) return;
        released = true;
        this.#cache.release(entries);
      },
    };
  }

  #composeBlock(source: Extract<Source, { kind: 'block' }>, chunks: Uint8Array[], held: CachedBlock[]): boolean {
    const { mapped, extent } = source;
    let block = mapped.block;
    if (block?.data === undefined) block = this.#cache.find(extent);
    if (block?.data !== undefined) {
      mapped.block = block;
      this.#hold(block, held);
      chunks.push(block.data.subarray(source.from, source.from + source.length));
      return true;
    }
    for (let at = source.from; at < source.from + source.length;) {
      const number = Math.floor(at / READ_PAGE_BYTES);
      const page = this.#cache.page(extent, number);
      if (page?.data === undefined) return false;
      this.#hold(page, held);
      const start = at - number * READ_PAGE_BYTES;
      const length = Math.min(READ_PAGE_BYTES - start, source.from + source.length - at);
      chunks.push(page.data.subarray(start, start + length));
      at += length;
    }
    return true;
  }

  #hold(entry: CachedBlock, held: CachedBlock[]): void {
    entry.refs += 1;
    held.push(entry);
    this.#cache.touch(entry);
  }

  async #readLater(
    caller: Pick<Caller, 'signal'>,
    file: FileData,
    offset: number,
    end: number,
    whole: boolean,
    handle: FileHandle | undefined,
    planned?: Source[],
  ): Promise<ReadResult> {
    let current: Source | undefined;
    try {
      let lookedAgain = false;
      let sources = planned;
      // A cache much smaller than what is read at once may lose one part while waiting for another; seldom twice.
      for (let attempt = 0; attempt < 16; attempt += 1) {
        if (sources === undefined) {
          // Another mount may have cut it off since it was asked how long it is.
          sources = await this.withExtents(caller, file, offset, end, () =>
            this.#plan(file, offset, Math.min(end, file.readableBytes())),
          );
          if (attempt === 0 && !whole && handle !== undefined) this.#noteRandom(handle, sources);
        }
        const composed = await this.#gather(caller, file, sources, whole, (source) => (current = source)).catch(
          (error: unknown) => {
            // Perhaps the block was replaced and collected meanwhile: the extents of now name another.
            if (!(error instanceof BlockNotFoundError) || lookedAgain) throw error;
            lookedAgain = true;
            file.extents.forget();
            return undefined;
          },
        );
        if (composed !== undefined) {
          // Whoever has closed it meanwhile reads no more, and nobody would let go of what is read ahead.
          if (handle?.isReleased === false) this.#readAhead(handle);
          return composed;
        }
        sources = undefined;
      }
      throw new FsError('EIO', 'the read cache is too small for what is read at once');
    } catch (error) {
      if (error instanceof FsError && error.code === 'EINTR') throw error;
      const block = current?.kind === 'block' ? ` (block ${blockIdToHex(current.extent.id)})` : '';
      const failure = toFsError(error, `reading bytes ${offset} to ${end}${block}`);
      this.#ports.failed(file, failure);
      throw failure;
    }
  }

  async #gather(
    caller: Pick<Caller, 'signal'>,
    file: FileData,
    sources: readonly Source[],
    whole: boolean,
    working: (source: Source) => void,
  ): Promise<ReadResult | undefined> {
    // All are asked for before the first is waited for, and held, so that none is evicted while others arrive.
    const wanted = sources
      .filter((source) => source.kind === 'block')
      .map((source) => ({ source, entries: this.#entries(file, source, whole) }));
    for (const { entries } of wanted) for (const entry of entries) entry.refs += 1;
    try {
      for (const { source, entries } of wanted) {
        working(source);
        for (const entry of entries) {
          if (entry.loading !== undefined) await interruptible(entry.loading, caller.signal);
        }
      }
      return this.#compose(sources);
    } finally {
      for (const { entries } of wanted) this.#cache.release(entries);
    }
  }

  /**
   * What `look` makes of the committed extents of the range, at the file's current version. It is called while they are known:
   * whatever else runs next may forget them, and to `look` what is not known would be a hole.
   */
  async withExtents<T>(
    caller: Pick<Caller, 'signal'>,
    file: FileData,
    from: number,
    to: number,
    look: () => T,
  ): Promise<T> {
    let reached = from;
    for (let attempt = 0; ; attempt += 1) {
      const { attr } = file.inode;
      const end = Math.min(to, attr.sizeBytes);
      const map: ExtentMap = file.extents;
      if (from >= end || map.knows(attr.version, from, end)) return look();
      // A file that another mount keeps changing: what came together at one version is a right answer.
      if (attempt > 8 && map.knows(map.version, from, end)) return look();
      if (attempt > 64) throw new FsError('EIO', 'the extents of the file change faster than they can be read');
      const at = map.knows(attr.version, from, from) ? Math.max(from, map.knownTo) : from;
      // Of many extents each answer brings some.
      if (at > reached) attempt -= 1;
      reached = Math.max(reached, at);
      await interruptible(this.#ports.loadExtents(file, at, from), caller.signal);
    }
  }
}

/** Blocks of what is known of the file, from `offset` up and round: whoever reads at random may come to any of them. */
function* blocksAround(extents: ExtentMap, offset: number): Generator<BlockRef> {
  const first = extents.find(offset);
  for (const [from, to] of [
    [first, Infinity],
    [0, first],
  ] as const) {
    for (let index = from; index < to; index += 1) {
      const extent = extents.at(index)?.extent;
      if (extent === undefined) break;
      if (extent.kind === 'block') yield extent;
    }
  }
}

function touches(run: { readonly offset: number; readonly length: number }, from: number, to: number): boolean {
  return run.offset < to && run.offset + run.length > from;
}
