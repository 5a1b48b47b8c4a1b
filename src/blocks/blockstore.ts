/**
 * `tatamifs/blockstore`: a block store of ours in the shape that the IPFS world uses (`interface-blockstore`), to back a
 * Helia node or whatever else takes a `Blockstore`. It needs the packages `multiformats` and `interface-store`, which a
 * program that has CIDs has already; tatamifs itself does not install them.
 */
import { NotFoundError } from 'interface-store';
import { CID } from 'multiformats/cid';
import * as Digest from 'multiformats/hashes/digest';
import type { Blockstore, InputPair, Pair } from 'interface-blockstore';
import type { CancelSignal } from '../cancel.ts';
import {
  BlockNotFoundError,
  CancelledError,
  CorruptionError,
  FormatError,
  StateError,
  TooLargeError,
} from '../errors.ts';
import { gather, type BlockSource } from './block-source.ts';
import { CidHashes, type CidHasher } from './cid-hashes.ts';
import { CidIndex, type CidRow } from './cid-index.ts';
import { CID_BLOCK_MAX_BYTES, readTrailer, TRAILER_MAX_BYTES, trailerBytes, writeTrailer } from './cid-trailer.ts';
import { EngineStore } from './engine-store.ts';
import { concurrencyOf, inOrder, type Source } from './many.ts';
import { PackStore } from './pack-store.ts';
import type { BlockInfo, BlockStore } from './types.ts';

export type { CidHasher } from './cid-hashes.ts';
export { CID_BLOCK_MAX_BYTES } from './cid-trailer.ts';

/** Multicodec `raw`: what a block is taken for where only its multihash is known. */
const RAW = 0x55;
/** Multicodec `identity`: the CID holds the data itself. */
const IDENTITY = 0x00;

/** Blocks that putMany and deleteMany have under way: they share disk syncs. */
const CHANGES_AT_ONCE = 1024;
/** Bytes that putMany has under way. */
const PUT_MANY_BYTES = 32 * 1024 * 1024;
/** What a block counts for whose length shows only when it has been read. */
const UNKNOWN_BYTES = 1024 * 1024;
/** Blocks that getMany reads ahead. */
const GETS_AT_ONCE = 8;
/** Blocks of an unknown name that are looked at together. */
const LOOKS_AT_ONCE = 32;

/** Where a {@link TatamiBlockstore} keeps its blocks, and what it checks. */
export interface TatamiBlockstoreOptions {
  /** Keeps the blocks. It belongs to the blockstore from now on, which closes it. */
  readonly store: BlockStore;
  /**
   * Directory for the index from CIDs to blocks; made if missing. Default: a PackStore has its own, in its directory;
   * for the others it is in memory, and made anew from the blocks with each opening.
   */
  readonly indexPath?: string;
  /**
   * When bytes are checked against their CID, where its hash function is known: `put` (the default): when they are
   * stored, and when a block is first read that another program has stored; `always`: with each read as well; `never`:
   * the caller has done it. (That bytes are those that were stored is checked by the store with each read in any case.)
   */
  readonly verify?: 'put' | 'always' | 'never';
  /** Hash functions beside SHA-1, SHA-2, SHA-3, BLAKE2b-512, BLAKE2s-256 and BLAKE3. */
  readonly hashers?: readonly CidHasher[];
}

/** Until when. */
export interface BlockstoreOptions {
  /** Gives up: throws the signal's reason. */
  readonly signal?: CancelSignal;
}

/** Until when to go on with many, and how many at once. */
export interface BlockstoreManyOptions extends BlockstoreOptions {
  /** Blocks under way at once, 1 or more. Default: 1024 (or 32 MiB) for changes, 8 for reads. */
  readonly concurrency?: number;
}

/** Which blocks to list, and until when. */
export interface BlockstoreListOptions extends BlockstoreOptions {
  /** Leaves out the blocks for which it is false, before anything of them is read. It sees CIDs of version 1, codec `raw`. */
  readonly filter?: (cid: CID) => boolean;
}

/** An entry of {@link TatamiBlockstore.list}. */
export interface CidInfo {
  /** Of version 1 and codec `raw`: blocks are found by their multihash, whatever the rest of a CID says. */
  readonly cid: CID;
  /** Length of its bytes. */
  readonly lengthBytes: number;
}

/**
 * A `Blockstore` of `interface-blockstore` over any {@link BlockStore}: `await TatamiBlockstore.open({ store })`.
 *
 * Blocks are found by the multihash of their CID: version and codec of a CID make no difference. An identity CID holds
 * its data itself and is never stored. A change is as durable as the store makes it when its promise resolves (or when
 * its CID comes out of putMany or deleteMany, which begin when they are iterated). Missing blocks end in `NotFoundError`
 * of `interface-store`, an aborted signal in its reason, all else in the store's own errors.
 *
 * Over a ReplicatedStore, what other programs put is found after {@link TatamiBlockstore.refresh} or the next opening;
 * what they delete is missed at once.
 */
export class TatamiBlockstore implements Blockstore {
  readonly #store: BlockStore;
  readonly #index: CidIndex;
  readonly #verify: 'put' | 'always' | 'never';
  readonly #hashes: CidHashes;
  /** Changes under way, by multihash: store and index change in the same order. */
  readonly #changing = new Map<string, Promise<void>>();
  /** Whether the store is in this process alone, and asking it costs next to nothing. */
  readonly #isLocal: boolean;
  #complete = false;
  #closing: Promise<void> | undefined;

  private constructor(index: CidIndex, options: TatamiBlockstoreOptions) {
    this.#store = options.store;
    this.#isLocal = options.store instanceof EngineStore;
    this.#index = index;
    this.#verify = options.verify ?? 'put';
    this.#hashes = new CidHashes(options.hashers ?? []);
  }

  /**
   * Opens the blockstore. The index is brought up to date with the store unless both were closed in order and no other
   * program can have changed it: after a crash that takes some seconds for each million of blocks. If it fails, the store
   * is left open.
   *
   * @throws what the store throws; FormatError if a newer version wrote the index.
   */
  static async open(options: TatamiBlockstoreOptions): Promise<TatamiBlockstore> {
    const { store, indexPath, verify = 'put' } = options;
    if (!['put', 'always', 'never'].includes(verify))
      throw new StateError(`verify is 'put', 'always' or 'never', not ${verify}`);
    let kv;
    if (indexPath !== undefined) kv = await (await import('../env-node.ts')).createNodeEnv().disk.openKv(indexPath);
    else if (store instanceof PackStore) kv = await store.openSideKv('cids');
    try {
      const index = await CidIndex.open(kv);
      const blockstore = new TatamiBlockstore(index, options);
      if (!index.wasComplete || !blockstore.#isLocal) await blockstore.refresh();
      blockstore.#complete = true;
      return blockstore;
    } catch (error) {
      await kv?.close();
      throw error;
    }
  }

  /**
   * Stores the bytes under the CID's multihash. A block that is there is not stored again.
   *
   * @throws CorruptionError if they are not the bytes that the CID names (see `verify`); TooLargeError beyond
   * {@link CID_BLOCK_MAX_BYTES}; what the store throws; what the source throws; the signal's reason.
   */
  async put(cid: CID, bytes: BlockSource, options: BlockstoreOptions = {}): Promise<CID> {
    this.#checkOpen(options.signal);
    const { code, digest, bytes: multihash } = multihashOf(cid);
    return await withReason(options.signal, async () => {
      if (code === IDENTITY) {
        const data = await gather(bytes, options.signal, CID_BLOCK_MAX_BYTES);
        if (Buffer.compare(data, digest) !== 0) throw notThese(cid);
        return cid;
      }
      const room = trailerBytes(multihash);
      const data = await gather(bytes, options.signal, CID_BLOCK_MAX_BYTES);
      if (data.length > CID_BLOCK_MAX_BYTES) {
        throw new TooLargeError(`a block with a CID has at most ${CID_BLOCK_MAX_BYTES} bytes, not ${data.length}`, {
          remedy: 'Cut the data into smaller blocks.',
        });
      }
      if (await this.#isThere(multihash)) return cid;
      if (this.#verify !== 'never' && (await this.#hashes.matches(code, digest, data)) === false) throw notThese(cid);
      // Not zeroed: all of it is written. And no Buffer, whose slice would share memory.
      const block = new Uint8Array(Buffer.allocUnsafeSlow(data.length + room).buffer);
      block.set(data);
      writeTrailer(block, multihash);
      await this.#change(multihash, async () => {
        const id = await this.#store.put(block, options.signal === undefined ? {} : { signal: options.signal });
        this.#index.set(multihash, { id, lengthBytes: data.length, proven: true });
        await this.#index.settle();
      });
      return cid;
    });
  }

  /** As put for each, several at once; the CIDs come in the order given, each when its block is durable. */
  async *putMany(source: Source<InputPair>, options: BlockstoreManyOptions = {}): AsyncGenerator<CID, void, undefined> {
    this.#checkOpen(options.signal);
    const { signal, concurrency } = options;
    const bounds = {
      maxCount: concurrencyOf(concurrency, CHANGES_AT_ONCE),
      maxBytes: PUT_MANY_BYTES,
      bytesOf: ({ bytes }: InputPair) => (bytes instanceof Uint8Array ? bytes.length : UNKNOWN_BYTES),
      signal,
    };
    yield* reasoned(
      signal,
      inOrder(source, bounds, ({ cid, bytes }, gaveUp) => this.put(cid, bytes, { signal: gaveUp })),
    );
  }

  /**
   * The block's bytes, in one piece, verified, owned by the caller.
   *
   * @throws `NotFoundError` (of `interface-store`) if it is not here; CorruptionError if no intact copy is left; what the
   * store throws; the signal's reason.
   */
  async *get(cid: CID, options: BlockstoreOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    this.#checkOpen(options.signal);
    yield await withReason(options.signal, () => this.#read(cid, options.signal));
  }

  /**
   * Pairs of CIDs and bytes, in the order given, read ahead by some blocks. What is wrong with a block (missing, for
   * example) is thrown by its `bytes`: the others can be read nevertheless.
   */
  async *getMany(source: Source<CID>, options: BlockstoreManyOptions = {}): AsyncGenerator<Pair, void, undefined> {
    this.#checkOpen(options.signal);
    const { signal, concurrency } = options;
    const bounds = { maxCount: concurrencyOf(concurrency, GETS_AT_ONCE), signal };
    const pairs = inOrder(source, bounds, async (cid, gaveUp) => {
      const outcome = await this.#read(cid, gaveUp).then(
        (bytes) => ({ bytes }),
        (error: unknown) => ({ error }),
      );
      return { cid, bytes: delivered(outcome) };
    });
    yield* reasoned(signal, pairs);
  }

  /** Every block of the store that has a CID, in no order; blocks put or deleted meanwhile may or may not appear. */
  async *getAll(options: BlockstoreListOptions = {}): AsyncGenerator<Pair, void, undefined> {
    for await (const { cid } of this.list(options)) yield { cid, bytes: this.get(cid, options) };
  }

  /** As getAll, without the bytes: nothing of the blocks is read. */
  async *list(options: BlockstoreListOptions = {}): AsyncGenerator<CidInfo, void, undefined> {
    const { signal, filter } = options;
    this.#checkOpen(signal);
    for await (const { id, multihash } of reasoned(signal, this.#named(signal))) {
      const row = this.#index.find(multihash);
      // Of two blocks that claim one name only that one counts which is found by it.
      if (row === undefined || Buffer.compare(row.id, id) !== 0) continue;
      const cid = CID.createV1(RAW, Digest.decode(multihash));
      if (filter?.(cid) === false) continue;
      if (this.#isLocal && !(await this.#store.has(id))) continue;
      yield { cid, lengthBytes: row.lengthBytes };
      signal?.throwIfAborted();
    }
  }

  /** Whether the block is here, by the books of index and store: its bytes are not read. */
  async has(cid: CID, options: BlockstoreOptions = {}): Promise<boolean> {
    this.#checkOpen(options.signal);
    const { code, bytes: multihash } = multihashOf(cid);
    if (code === IDENTITY) return true;
    const row = this.#index.find(multihash);
    if (row === undefined) return false;
    return await withReason(options.signal, () => this.#store.has(row.id));
  }

  /** Deletes the block, under whatever CIDs with this multihash it is known. One that is not here is no error. */
  async delete(cid: CID, options: BlockstoreOptions = {}): Promise<void> {
    this.#checkOpen(options.signal);
    const { code, bytes: multihash } = multihashOf(cid);
    if (code === IDENTITY) return;
    await withReason(options.signal, () =>
      this.#change(multihash, async () => {
        const row = this.#index.find(multihash);
        if (row === undefined) return;
        await this.#store.delete(row.id);
        this.#index.forget(multihash, row.id);
        await this.#index.settle();
      }),
    );
  }

  /** As delete for each, several at once; the CIDs come in the order given, each when its block is durably gone. */
  async *deleteMany(source: Source<CID>, options: BlockstoreManyOptions = {}): AsyncGenerator<CID, void, undefined> {
    this.#checkOpen(options.signal);
    const { signal, concurrency } = options;
    const bounds = { maxCount: concurrencyOf(concurrency, CHANGES_AT_ONCE), signal };
    const deleted = inOrder(source, bounds, async (cid, gaveUp) => {
      await this.delete(cid, { signal: gaveUp });
      return cid;
    });
    yield* reasoned(signal, deleted);
  }

  /**
   * Looks through the store for blocks with CIDs that the index does not know: those that other programs have put into
   * the same pool. Reads the end of each of them, and the list of all.
   */
  async refresh(options: BlockstoreOptions = {}): Promise<void> {
    this.#checkOpen(options.signal);
    for await (const _ of reasoned(options.signal, this.#named(options.signal)));
  }

  /** Finishes what is under way, writes the index down and closes the store. Idempotent. */
  async close(): Promise<void> {
    this.#closing ??= this.#closeNow();
    await this.#closing;
  }

  async #closeNow(): Promise<void> {
    await Promise.all(this.#changing.values());
    try {
      await this.#index.close(this.#complete);
    } finally {
      await this.#store.close();
    }
  }

  /** Whether there is no need to put the block: only where asking is cheap, and tells that it is durable. */
  async #isThere(multihash: Uint8Array): Promise<boolean> {
    if (!this.#isLocal) return false;
    const row = this.#index.find(multihash);
    return row?.proven === true && (await this.#store.has(row.id));
  }

  async #read(cid: CID, signal: CancelSignal | undefined): Promise<Uint8Array> {
    const { code, digest, bytes: multihash } = multihashOf(cid);
    if (code === IDENTITY) return digest.slice();
    const row = this.#index.find(multihash);
    if (row === undefined) throw notFound(cid);
    const block = await this.#readBlock(cid, row, multihash, signal);
    const data = block.subarray(0, row.lengthBytes);
    const found = readTrailer(block);
    if (
      found === undefined ||
      Buffer.compare(found, multihash) !== 0 ||
      data.length + trailerBytes(found) !== block.length
    ) {
      this.#index.forget(multihash);
      throw new CorruptionError(`the index names another block for ${cid.toString()}`, {
        remedy: 'Put the block again. If it happens more than once, delete the index: it is made anew from the blocks.',
      });
    }
    const mustCheck = this.#verify === 'always' || !row.proven;
    if (mustCheck && (await this.#hashes.matches(code, digest, data)) === false) {
      this.#index.forget(multihash);
      throw notThese(cid);
    }
    if (!row.proven) this.#index.set(multihash, { ...row, proven: true });
    return data;
  }

  async #readBlock(
    cid: CID,
    row: CidRow,
    multihash: Uint8Array,
    signal: CancelSignal | undefined,
  ): Promise<Uint8Array> {
    try {
      return await this.#store.get(row.id, signal === undefined ? {} : { signal });
    } catch (error) {
      if (!(error instanceof BlockNotFoundError)) throw error;
      // Unless it was put again while we looked.
      if (!this.#changing.has(keyOf(multihash)) && this.#index.find(multihash)?.id === row.id)
        this.#index.forget(multihash, row.id);
      throw notFound(cid, error);
    }
  }

  /** Blocks of the store that have a name, each once, learning the names that are not known. */
  async *#named(signal: CancelSignal | undefined): AsyncGenerator<{ id: BlockInfo['id']; multihash: Uint8Array }> {
    const looked = inOrder(this.#store.list(), { maxCount: LOOKS_AT_ONCE, signal }, async (block, gaveUp) => ({
      id: block.id,
      multihash: this.#index.multihashOf(block.id) ?? (await this.#learn(block, gaveUp)),
    }));
    for await (const { id, multihash } of looked)
      if (multihash !== undefined && multihash.length > 0) yield { id, multihash };
    await this.#index.settle();
  }

  /** Undefined if it cannot be told. */
  async #learn({ id, lengthBytes }: BlockInfo, signal: CancelSignal): Promise<Uint8Array | undefined> {
    let multihash: Uint8Array | undefined;
    try {
      const tail = await this.#store.get(id, { offset: Math.max(0, lengthBytes - TRAILER_MAX_BYTES), signal });
      multihash = readTrailer(tail);
      if (multihash !== undefined) Digest.decode(multihash);
    } catch (error) {
      // Gone meanwhile, damaged, of a newer version: no reason not to learn the others.
      if (error instanceof BlockNotFoundError || error instanceof CorruptionError || error instanceof FormatError)
        return undefined;
      if (multihash === undefined) throw error;
      multihash = undefined;
    }
    // A put of ours under way will say it better.
    if (multihash !== undefined && this.#changing.has(keyOf(multihash))) return multihash;
    if (multihash === undefined) this.#index.note(id, new Uint8Array(0));
    else if (this.#index.find(multihash) !== undefined) this.#index.note(id, multihash);
    else this.#index.set(multihash, { id, lengthBytes: lengthBytes - trailerBytes(multihash), proven: false });
    await this.#index.settle();
    return multihash ?? new Uint8Array(0);
  }

  /** Runs a change of the block when all earlier ones are through. */
  async #change(multihash: Uint8Array, work: () => Promise<void>): Promise<void> {
    // Whoever closes waits for all changes that are in the map, and lets no further one in.
    this.#checkOpen(undefined);
    const key = keyOf(multihash);
    const before = this.#changing.get(key);
    const change = before === undefined ? work() : before.then(work);
    const settled = change.then(
      () => undefined,
      () => undefined,
    );
    this.#changing.set(key, settled);
    try {
      await change;
    } finally {
      if (this.#changing.get(key) === settled) this.#changing.delete(key);
    }
  }

  #checkOpen(signal: CancelSignal | undefined): void {
    if (this.#closing !== undefined) throw new StateError('the blockstore is closed');
    signal?.throwIfAborted();
  }
}

function keyOf(multihash: Uint8Array): string {
  return Buffer.from(multihash.buffer, multihash.byteOffset, multihash.byteLength).toString('latin1');
}

/** Also of a CID that another version of multiformats made. */
function multihashOf(cid: CID): CID['multihash'] {
  const known = CID.asCID(cid);
  if (known === null) {
    throw new StateError(`a CID is wanted, not ${cid === null ? 'null' : `a ${typeof cid}`}`, {
      remedy: 'Make it with CID.parse(text) or CID.createV1(codec, digest) of multiformats.',
    });
  }
  return known.multihash;
}

function notFound(cid: CID, cause?: unknown): Error {
  return Object.assign(
    new NotFoundError(`no block ${cid.toString()} in this store`),
    cause === undefined ? {} : { cause },
  );
}

function notThese(cid: CID): CorruptionError {
  return new CorruptionError(`the bytes are not those that ${cid.toString()} names`, {
    remedy: 'Compute the CID from the bytes as they are stored; do not change them meanwhile.',
  });
}

/** The block's bytes, or what was wrong with it. */
async function* delivered(
  outcome: { readonly bytes: Uint8Array } | { readonly error: unknown },
): AsyncGenerator<Uint8Array, void, undefined> {
  if ('error' in outcome) throw outcome.error;
  yield outcome.bytes;
}

/** As the IPFS world has it: whoever gives up gets the reason that he gave to the signal. */
async function withReason<T>(signal: CancelSignal | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw reasonOf(signal, error);
  }
}

async function* reasoned<T>(
  signal: CancelSignal | undefined,
  items: AsyncIterable<T>,
): AsyncGenerator<T, void, undefined> {
  try {
    yield* items;
  } catch (error) {
    throw reasonOf(signal, error);
  }
}

function reasonOf(signal: CancelSignal | undefined, error: unknown): unknown {
  return signal?.aborted === true && error instanceof CancelledError ? signal.reason : error;
}
