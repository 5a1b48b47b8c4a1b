/**
 * The block store's interface. MemoryStore, PackStore and ReplicatedStore pass one conformance suite
 * (test/conformance/block-store.ts). A block is 1..BLOCK_MAX_BYTES bytes, named by its content.
 */
import type { CancelSignal } from '../cancel.ts';
import type { BlockId, PoolId } from '../ids.ts';
import type { BlockSource } from './block-source.ts';
import type { Source } from './many.ts';
import type { ShareSource } from './sharing.ts';

/** Which bytes of a block, and until when. */
export interface GetOptions {
  /** First byte wanted; default 0. Only the 64 KiB pages that the range touches are read. */
  readonly offset?: number;
  /** Bytes. Default: to the end. A range past the end is cut; a range starting past it is empty. */
  readonly length?: number;
  /** Gives up: CancelledError. */
  readonly signal?: CancelSignal;
}

/** Until when to write. */
export interface WriteOptions {
  /** Gives up: CancelledError. The block may be stored nevertheless. */
  readonly signal?: CancelSignal;
}

/** Until when to go on with many, and how many at once. */
export interface ManyOptions {
  /** Gives up: CancelledError, also while the source is waited for. */
  readonly signal?: CancelSignal;
  /**
   * Blocks under way at once, 1 or more. Default: what keeps this store busy within some tens of MiB (PackStore and
   * MemoryStore: puts 1024 or 32 MiB, gets 8; ReplicatedStore: 16).
   */
  readonly concurrency?: number;
}

/** An entry of {@link BlockStore.list}. */
export interface BlockInfo {
  /** Name of the block. */
  readonly id: BlockId;
  /** Its length, 1 to 4 MiB. */
  readonly lengthBytes: number;
}

/**
 * A store of blocks that are named by their content: 1 byte to {@link BLOCK_MAX_BYTES} each, never changed, equal ones
 * stored once. What is read is verified against the name. (The idea is Venti's; the interface resembles IPFS' blockstores,
 * less their key-value manners.)
 *
 * After close() all calls throw StateError; so do arguments that cannot be meant (an id of 31 bytes).
 */
export interface BlockStore {
  /**
   * Stores the block; resolves with its id once it is as durable as this store makes it (memory: at once; pack: on
   * disk; replicated: on disk on two nodes). Storing equal bytes again is cheap and yields the same id. Bytes that come
   * whole must not change meanwhile; those that come in chunks are gathered first.
   *
   * @throws TooLargeError over BLOCK_MAX_BYTES or empty; NoSpaceError when full; CancelledError.
   */
  put(data: BlockSource, options?: WriteOptions): Promise<BlockId>;
  /**
   * As put for each, whole blocks of a list or a stream, which is asked for no more than is under way at once; ids in the
   * order given. One durability wait for many where the store can. The first failure, the source's own included, ends the
   * source and rejects once nothing is under way any more; blocks before and around it may be stored.
   */
  putMany(blocks: Source<Uint8Array>, options?: ManyOptions): Promise<BlockId[]>;
  /**
   * The block, or the range of it that `options` name: verified bytes, owned by the caller.
   *
   * @throws BlockNotFoundError; CorruptionError when no intact copy is left; UnavailableError when not enough nodes can be
   * asked to tell; CancelledError.
   */
  get(id: BlockId, options?: GetOptions): Promise<Uint8Array>;
  /**
   * As get for each, whole, in the order given, read ahead by as many as `concurrency` says and no further than they are
   * consumed. A failure is thrown at its place, after the blocks before it; leaving the loop ends the source and what
   * is under way.
   */
  getMany(ids: Source<BlockId>, options?: ManyOptions): AsyncGenerator<Uint8Array, void, undefined>;
  /** Whether the block is here, by the store's books: its bytes are not read. */
  has(id: BlockId): Promise<boolean>;
  /** True if it was there. A filesystem's pool refuses with FsError EPERM: its garbage collection deletes. */
  delete(id: BlockId): Promise<boolean>;
  /** As delete for each, with the manners of putMany. Resolves with how many were there. */
  deleteMany(ids: Source<BlockId>, options?: ManyOptions): Promise<number>;
  /** Every block once, in no order; blocks put or deleted meanwhile may or may not appear. */
  list(): AsyncIterable<BlockInfo>;
  /** Finishes what is under way and lets go of files and connections. Idempotent. */
  close(): Promise<void>;
}

/** One run of consecutive 64 KiB pages of a block, with what is needed to verify it against the id. */
export interface PageRun {
  /** Length of the whole block. */
  readonly blockBytes: number;
  /** Concatenated BLAKE3-256 of all pages of the block. */
  readonly pageHashes: Uint8Array;
  readonly firstPage: number;
  /** Bytes of pages firstPage.. (the block's last page may be short). */
  readonly data: Uint8Array;
}

/** Where a block lies in the files of a pack store. */
export interface BlockPlace {
  /** Of the pack files; absolute. */
  readonly directory: string;
  readonly pack: number;
  /** In the pack; the block's page list stands right before it. */
  readonly dataOffset: number;
  readonly lengthBytes: number;
}

/** Pages in memory that may be used again. */
export interface ReadRun extends PageRun {
  /** Whether `data` stays what it is after `release`. */
  readonly isOwn?: boolean;
  release(): void;
}

/**
 * What a node keeps: blocks of all pools on its disk. PackEngine (packs + index) and MemoryEngine implement it; the
 * node's block service and the PackStore facade use it.
 */
export interface BlockEngine {
  /**
   * Appends the block unless present. `pageHashes` and `id` are the caller's claim; the engine trusts them (the service
   * verifies what came over the network first). Resolves when on disk (group commit).
   * Present or new, the block's stamp becomes max(old, generation): a put renews.
   */
  put(
    pool: PoolId,
    id: BlockId,
    pageHashes: Uint8Array,
    data: Uint8Array,
    generation: number,
  ): Promise<{ existed: boolean }>;
  /**
   * Pages [firstPage, firstPage+pageCount) as they are on disk, NOT verified: the reader verifies. Undefined if absent.
   * pageCount may reach past the end. `wantHashes` false leaves pageHashes empty (the reader has them).
   * CorruptionError if the record itself is unreadable. Call `release` when the bytes are no longer needed. With `own`
   * the caller would like to keep them: if the run says `isOwn`, it may, whatever `release` says.
   */
  read(
    pool: PoolId,
    id: BlockId,
    firstPage: number,
    pageCount: number,
    wantHashes: boolean,
    own?: boolean,
  ): Promise<ReadRun | undefined>;
  /** Length if present. */
  has(pool: PoolId, id: BlockId): number | undefined;
  /**
   * Where a present, intact block lies, for readers on the same machine; `wantedBytes` is what they are about to read.
   * May be outdated when they come to read. Absent in engines without files.
   */
  whereIs?(pool: PoolId, id: BlockId, wantedBytes: number): BlockPlace | undefined;
  /** Raises the stamp if present (a `has` for writing); durable on return. */
  renew(pool: PoolId, id: BlockId, generation: number): Promise<boolean>;
  /** The stamp if present. An engine without it makes each sweep walk the whole list (upkeep only). */
  stampOf?(pool: PoolId, id: BlockId): number | undefined;
  /** Durable on return. True if it was there. */
  delete(pool: PoolId, id: BlockId): Promise<boolean>;
  /** Blocks that are served; with `withDamaged` those that were set aside as well (garbage collection takes them, too). */
  list(
    pool: PoolId,
    options?: { readonly withDamaged?: boolean },
  ): AsyncIterable<BlockInfo & { readonly generation: number }>;
  /** The bytes of a copy that was set aside, verified, if they are the block after all. Owned by the caller. */
  salvage?(pool: PoolId, id: BlockId): Promise<Uint8Array | undefined>;
  /** Called by whoever found that the stored bytes do not match the id: the copy is set aside and counted, not served again. */
  markDamaged(pool: PoolId, id: BlockId): Promise<void>;
  usage(): EngineUsage;
  /** Rewrites packs that are more than half dead, or as the options say; resolves with the bytes given back. */
  compact(options?: CompactOptions): Promise<number>;
  close(): Promise<void>;
}

/** How thoroughly packs are rewritten. */
export interface CompactOptions {
  /**
   * Packs are rewritten, the most dead first, until what is dead is at most this share of all bytes in packs. At d, one byte
   * given back costs up to (1 - d) / d bytes written. Default: each pack that is more than half dead is rewritten.
   */
  readonly deadShare?: number;
  /** Asked now and then; false ends it early, which loses nothing. */
  readonly mayGoOn?: () => boolean;
}

/** Space and damage of a store on one disk. */
export interface EngineUsage {
  /** Live blocks. */
  readonly blockCount: number;
  /** Bytes of live blocks. */
  readonly liveBytes: number;
  /** Bytes of files on disk. */
  readonly fileBytes: number;
  /** Room for more blocks, the reserve excluded. */
  readonly freeBytes: number;
  /** Bytes that the store may take in all: of the disk, or of its own bound. */
  readonly capacityBytes: number;
  /** Blocks whose stored bytes were found not to match; putting the same bytes again heals one. */
  readonly damaged: readonly { readonly pool: PoolId; readonly id: BlockId }[];
}

/** What names a block for reading; a block extent is one. */
export interface BlockRef {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly blockBytes: number;
}

/** A put's receipt: which nodes have it on disk now, and under which collection generation (the least of them). */
export interface PutReceipt {
  readonly id: BlockId;
  readonly generation: number;
}

/** What vfs needs of the blocks layer: a filesystem's pools, spread over the nodes. */
export interface BlockClient {
  /**
   * Resolves when on disk on two nodes (one where the pool's copies is 1 or the cluster has one node).
   * The buffer must not change meanwhile.
   */
  put(
    pool: PoolId,
    data: Uint8Array,
    options?: { readonly signal?: CancelSignal; readonly minGeneration?: number },
  ): Promise<PutReceipt>;
  /**
   * As a put of blocks that the nodes have already, without their bytes: each is stamped with its nodes' generations, so
   * that garbage collection leaves it to who is about to name it. A receipt for each, in the order given, as a put's; undefined
   * where not as many nodes could be asked that have it as a put needs: then it must be put again.
   */
  renew(
    pool: PoolId,
    ids: readonly BlockId[],
    options?: { readonly signal?: CancelSignal; readonly minGeneration?: number },
  ): Promise<readonly (PutReceipt | undefined)[]>;
  /**
   * Reads block bytes [offset, offset+length) into `target`, verified, from the best holder, falling back to every
   * other one. Whole blocks may be split over several holders.
   */
  read(
    pool: PoolId,
    id: BlockId,
    blockBytes: number,
    offset: number,
    target: Uint8Array,
    options?: { readonly signal?: CancelSignal; readonly priority?: 'foreground' | 'readahead' },
  ): Promise<void>;
  /**
   * The whole block, verified, in the buffer in which it arrived: no copy. Owned by the caller. For callers that keep
   * whole blocks (a cache); otherwise as {@link BlockClient.read}. `beside`: blocks that may be wanted soon, likeliest first: when
   * it must be asked where this one is, then for some of them as well.
   */
  readBlock(
    pool: PoolId,
    id: BlockId,
    blockBytes: number,
    options?: {
      readonly signal?: CancelSignal;
      readonly priority?: 'foreground' | 'readahead';
      readonly beside?: Iterable<BlockRef>;
    },
  ): Promise<Uint8Array>;
  /**
   * Pages [firstPage, firstPage + pageCount) of PAGE_BYTES (the block's last one may be shorter), verified, each in a buffer
   * of its own that the caller owns. For callers that keep pages. `beside` as for {@link BlockClient.readBlock}.
   */
  readPages(
    pool: PoolId,
    id: BlockId,
    blockBytes: number,
    firstPage: number,
    pageCount: number,
    options?: {
      readonly signal?: CancelSignal;
      readonly priority?: 'foreground' | 'readahead';
      readonly beside?: Iterable<BlockRef>;
    },
  ): Promise<readonly Uint8Array[]>;
  /**
   * Gives back what {@link BlockClient.readBlock} or {@link BlockClient.readPages} returned, whole, once: nobody may look
   * at it from now on. Need not be called; but memory that is used again costs no page faults (a fresh 4 MiB takes twenty
   * times as long to fill).
   */
  recycle?(bytes: Uint8Array): void;
  /** More blocks than these need not be asked for ahead, by all readers together: they are near. Undefined: it does not know. */
  aheadCount?(): number | undefined;
  /** Offers a cache's whole blocks to other readers, where readers serve readers. Returns what ends that. */
  offer?(source: ShareSource): () => void;
  /** Other readers that, as far as is known, have the block: of what a cache can drop, that with most of them goes first. */
  copiesElsewhere?(pool: PoolId, id: BlockId): number;
  /** Nodes that should hold the block, in order, and whether they are up and have it (for `tatami stat`). */
  locate(
    pool: PoolId,
    id: BlockId,
  ): Promise<readonly { readonly node: string; readonly state: 'held' | 'missing' | 'unreachable' }[]>;
  close(): Promise<void>;
}
