/**
 * Blocks read from the packs of a node on the same machine, past that node: it only tells where a block lies. (HDFS calls
 * it short-circuit reading.) What is read so is verified against the id like everything else, so whatever a pack holds by
 * the time it is read can be wrong, but never do harm: any doubt sends the reader back to the node.
 *
 * Invariant: a buffer that the system may still be filling is given back to nobody.
 */
import { Cancellation } from '../cancel.ts';
import { BlockNotFoundError, CorruptionError, StateError } from '../errors.ts';
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import { dataNodes } from '../catalog/document.ts';
import type { CatalogService } from '../catalog/types.ts';
import { DIRECT_BYTES, type Clock, type Disk } from '../env.ts';
import { ATTEMPT_TIMEOUT_MS, KiB } from '../limits.ts';
import { payloadPool } from '../net/buffer-pool.ts';
import type { Network } from '../net/types.ts';
import { Patience } from '../patience.ts';
import { withinLimits, type ReadLimits } from './disk-read.ts';
import {
  blockMethods,
  parsePlacesReply,
  parseWhereReply,
  type IdsRequest,
  type WhereRequest,
} from './block-messages.ts';
import { reportDamage } from './damage-report.ts';
import { PAGE_HASH_BYTES, pageCountOf } from './identity.ts';
import { NearPacks } from './near-packs.ts';
import type { BlockPlace, BlockRef } from './types.ts';

/** A node whose packs cannot be read from here is not tried again for this long. */
const REFUSED_MS = 60_000;
/** Blocks whose places are remembered: some 100 bytes for each copy. */
const BLOCKS_MAX = 32_768;
/** Who reads by the shortest way goes another way after so long. A turning disk that has KNOWN_AT_ONCE reads to do is faster. */
const PATIENCE_MS = 500;
/** Reads by the shortest way: more of them wait in the line of all others. */
const KNOWN_AT_ONCE = 32;
/** Blocks whose places are asked for beside one that is read; what it costs to choose them has its bound, too. */
const BESIDE_MAX = 64;
const BESIDE_LOOKED_AT_MAX = 4 * BESIDE_MAX;
/**
 * What is at least so long is read past the system's page cache: it would hold a second time what it holds as the content of the mounted file, and
 * filling it costs more than all the rest of the read. Shorter reads are of who comes back for what lies beside.
 */
export const DIRECT_LEAST_BYTES = 256 * KiB;

export interface LocalBlocksOptions {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly clock: Clock;
  readonly disk: Pick<Disk, 'open'>;
  /** Whether an address's host is this machine. */
  readonly isOwnHost: (host: string) => boolean;
  /** Large reads go past the page cache, into memory that the system can fill itself (a resizable ArrayBuffer). Default false. */
  readonly directReads?: boolean;
}

/** Where a node of this machine has a copy of one block. */
interface NearCopy {
  readonly node: NodeId;
  readonly place: BlockPlace;
}

/** What was read by the shortest way, NOT verified, in memory of the payload pool. */
export interface KnownBytes {
  /** The bytes, if `check` does not throw a CorruptionError; else they are given back, the place is forgotten, and the node is told. */
  ifSound(check: (bytes: Uint8Array) => void): Uint8Array | undefined;
  /** Nobody looks at them any more. */
  giveBack(): void;
}

/** Where a copy of one block lies on this machine. */
export interface LocalBlock {
  readonly lengthBytes: number;
  /**
   * Bytes [start, start + length) as they are on disk, NOT verified, in memory of the payload pool; undefined if they
   * cannot be had from here. Rejects when the signal fires or the time is up.
   */
  read(start: number, length: number, limits: ReadLimits): Promise<Uint8Array | undefined>;
  /** The block's page list, likewise. */
  readPageList(limits: ReadLimits): Promise<Uint8Array | undefined>;
  /** It was not what lay there: the node is asked again the next time. */
  forget(): void;
}

export class LocalBlocks {
  readonly #o: LocalBlocksOptions;
  /** By block, in order of last use. */
  readonly #copies = new Map<string, readonly NearCopy[]>();
  readonly #packs: NearPacks;
  /** Who reads by the shortest way. */
  readonly #known: Patience;
  /** Nodes whose file systems cannot be read past the system's cache. */
  readonly #indirect = new Set<NodeId>();
  readonly #refusedUntilMs = new Map<NodeId, number>();
  readonly #inFlight = new Map<NodeId, number>();
  #isLookingAround = false;
  readonly #closing = new Cancellation();
  #closed = false;

  constructor(options: LocalBlocksOptions) {
    this.#o = options;
    this.#packs = new NearPacks(options);
    this.#known = new Patience(options.clock, PATIENCE_MS);
  }

  /** Whether the node's packs are, as far as is known, on a disk of this machine. */
  isNear(node: NodeId): boolean {
    if ((this.#refusedUntilMs.get(node) ?? -Infinity) > this.#o.clock.monotonicMs()) return false;
    const address = this.#o.catalog.current().nodes.find(({ id }) => id === node)?.address;
    return address !== undefined && this.#o.isOwnHost(hostOf(address));
  }

  /** Likewise all nodes. */
  isAllNear(): boolean {
    return dataNodes(this.#o.catalog.current()).every(({ id }) => this.isNear(id));
  }

  /** Reads under way at the node's disk. */
  inFlightCount(node: NodeId): number {
    return this.#inFlight.get(node) ?? 0;
  }

  /**
   * Asks the node, unless it is known, where its copy is. Undefined: read it through the node. If it must be asked, all nodes
   * of this machine are asked for blocks of `beside` as well, for which nobody waits.
   *
   * @throws what the node answers about the block: BlockNotFoundError, CorruptionError; CancelledError
   */
  async find(
    node: NodeId,
    pool: PoolId,
    id: BlockId,
    wantedBytes: number,
    limits: ReadLimits,
    beside: Iterable<BlockRef> = [],
  ): Promise<LocalBlock | undefined> {
    if (this.#closed || !this.isNear(node)) return undefined;
    const key = keyOf(pool, id);
    const copies = this.#copies.get(key) ?? [];
    let place = copies.find((copy) => copy.node === node)?.place;
    if (place === undefined) {
      this.#lookAround(pool, id, beside);
      try {
        const request: WhereRequest = { pool, id, wantedBytes };
        place = parseWhereReply((await this.#o.network.call(node, blockMethods.where, request, limits)).header);
      } catch (error) {
        if (isAboutBlock(error) || limits.signal.aborted) throw error;
        // It has no packs, or does not know the question; or it does not answer, which the reader will see itself.
        this.#refuse(node);
        return undefined;
      }
      this.#learn(key, node, place);
    } else {
      this.#use(key, copies);
    }
    return this.#block(node, key, place);
  }

  /** From all nodes, so that reads spread over their disks. */
  #lookAround(pool: PoolId, asked: BlockId, beside: Iterable<BlockRef>): void {
    if (this.#isLookingAround) return;
    const ids = this.#unplaced(pool, asked, beside);
    if (ids.length === 0) return;
    this.#isLookingAround = true;
    const request: IdsRequest = { pool, ids };
    const options = { timeoutMs: ATTEMPT_TIMEOUT_MS, signal: this.#closing.signal };
    const answers = dataNodes(this.#o.catalog.current()).map(async ({ id: node }) => {
      if (!this.isNear(node)) return;
      const { header } = await this.#o.network.call(node, blockMethods.places, request, options);
      parsePlacesReply(header, ids.length).forEach((place, index) => {
        if (place !== undefined) this.#learn(keyOf(pool, ids[index] as BlockId), node, place);
      });
    });
    // Who does not answer is asked for each block that is read.
    void Promise.allSettled(answers).then(() => (this.#isLookingAround = false));
  }

  /** The first ones of them, of the same pool, of which no place is known. */
  #unplaced(pool: PoolId, asked: BlockId, beside: Iterable<BlockRef>): readonly BlockId[] {
    const found: BlockId[] = [];
    let looked = 0;
    for (const other of beside) {
      if (found.length >= BESIDE_MAX || looked >= BESIDE_LOOKED_AT_MAX) break;
      looked += 1;
      if (other.pool !== pool || other.id === asked || this.#copies.has(keyOf(pool, other.id))) continue;
      found.push(other.id);
    }
    return found;
  }

  #learn(key: string, node: NodeId, place: BlockPlace): void {
    this.#use(key, [...(this.#copies.get(key) ?? []).filter((copy) => copy.node !== node), { node, place }]);
  }

  #use(key: string, copies: readonly NearCopy[]): void {
    this.#copies.delete(key);
    this.#copies.set(key, copies);
    if (this.#copies.size > BLOCKS_MAX) this.#copies.delete(this.#copies.keys().next().value as string);
  }

  #forget(key: string, node: NodeId): void {
    const others = this.#copies.get(key)?.filter((copy) => copy.node !== node) ?? [];
    if (others.length > 0) this.#copies.set(key, others);
    else this.#copies.delete(key);
  }

  /** The page list of a block, as {@link readKnown}. */
  readKnownList(pool: PoolId, id: BlockId, blockBytes: number): Promise<KnownBytes | undefined> | undefined {
    const listBytes = pageCountOf(blockBytes) * PAGE_HASH_BYTES;
    return this.readKnown(pool, id, blockBytes, -listBytes, listBytes);
  }

  /**
   * Bytes [start, start + length) of a block of `blockBytes` by the shortest way, for who falls back to {@link find}: undefined, at once or
   * later, if no place of it is known, they cannot be had there, or it takes longer than PATIENCE_MS. Never rejects.
   */
  readKnown(
    pool: PoolId,
    id: BlockId,
    blockBytes: number,
    start: number,
    length: number,
  ): Promise<KnownBytes | undefined> | undefined {
    if (this.#closed || this.#known.waitingCount >= KNOWN_AT_ONCE) return undefined;
    const key = keyOf(pool, id);
    const copies = this.#copies.get(key);
    const copy = copies && this.#leastBusy(copies);
    if (copies === undefined || copy?.place.lengthBytes !== blockBytes) return undefined;
    this.#use(key, copies);
    const bytes = payloadPool.take(length);
    const giveBack = (): void => payloadPool.giveBack(bytes);
    const ifSound = (check: (bytes: Uint8Array) => void): Uint8Array | undefined => {
      if (isSound(() => check(bytes))) return bytes;
      giveBack();
      this.#forget(key, copy.node);
      reportDamage(this.#o.network, copy.node, pool, id);
      return undefined;
    };
    return new Promise((resolve) => {
      const inTime = this.#known.wait(() => resolve(undefined));
      void this.#readFile(copy.node, copy.place, bytes, copy.place.dataOffset + start, false).then((count) => {
        if (inTime() && count === length) return resolve({ ifSound, giveBack });
        // Who has given up looks at it no more, and the system has done with it.
        giveBack();
        resolve(undefined);
      });
    });
  }

  #leastBusy(copies: readonly NearCopy[]): NearCopy | undefined {
    let best: NearCopy | undefined;
    for (const copy of copies) {
      if (best !== undefined && this.inFlightCount(copy.node) >= this.inFlightCount(best.node)) continue;
      if (this.isNear(copy.node)) best = copy;
    }
    return best;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#closing.abort(new StateError('the block client is closed'));
    this.#known.close();
    await this.#packs.close();
  }

  #block(node: NodeId, key: string, place: BlockPlace): LocalBlock {
    const listBytes = pageCountOf(place.lengthBytes) * PAGE_HASH_BYTES;
    return {
      lengthBytes: place.lengthBytes,
      read: (start, length, limits) => this.#read(node, place, place.dataOffset + start, length, limits),
      readPageList: (limits) => this.#read(node, place, place.dataOffset - listBytes, listBytes, limits),
      forget: () => this.#forget(key, node),
    };
  }

  async #read(
    node: NodeId,
    place: BlockPlace,
    position: number,
    length: number,
    limits: ReadLimits,
  ): Promise<Uint8Array | undefined> {
    const { clock } = this.#o;
    const isDirect = this.#o.directReads === true && length >= DIRECT_LEAST_BYTES && !this.#indirect.has(node);
    const before = isDirect ? position % DIRECT_BYTES : 0;
    const spanBytes = isDirect ? Math.ceil((before + length) / DIRECT_BYTES) * DIRECT_BYTES : length;
    const span = isDirect ? payloadPool.takeAligned(spanBytes) : payloadPool.take(spanBytes);
    // The system cannot be told to stop: whoever gives up leaves the buffer to it.
    const reading = this.#readFile(node, place, span, position - before, isDirect);
    const count = (await withinLimits(clock, reading, limits, () => this.#refuse(node))) ?? 0;
    if (count >= before + length) return isDirect ? span.subarray(before, before + length) : span;
    payloadPool.giveBack(span);
    if (isDirect && this.#indirect.has(node)) return await this.#read(node, place, position, length, limits);
    return undefined;
  }

  /** Bytes read; undefined if the file is not to be had. Never rejects. */
  async #readFile(
    node: NodeId,
    place: BlockPlace,
    bytes: Uint8Array,
    position: number,
    isDirect: boolean,
  ): Promise<number | undefined> {
    this.#inFlight.set(node, this.inFlightCount(node) + 1);
    try {
      return await this.#packs.read(node, place, bytes, position, isDirect);
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (isDirect && code === 'EINVAL') this.#indirect.add(node);
      // ENOENT: compaction has taken the pack away, and the node tells the new place.
      else if (code !== 'ENOENT') this.#refuse(node);
      return undefined;
    } finally {
      this.#inFlight.set(node, this.inFlightCount(node) - 1);
    }
  }

  #refuse(node: NodeId): void {
    this.#refusedUntilMs.set(node, this.#o.clock.monotonicMs() + REFUSED_MS);
  }
}

function keyOf(pool: PoolId, id: BlockId): string {
  return `${pool} ${Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')}`;
}

function isAboutBlock(error: unknown): boolean {
  return error instanceof BlockNotFoundError || error instanceof CorruptionError;
}

function hostOf(address: string): string {
  const host = address.slice(0, address.lastIndexOf(':'));
  return host.startsWith('[') ? host.slice(1, -1) : host;
}

/** Whether the check, of what a disk holds, does not fail. */
export function isSound(check: () => void): boolean {
  try {
    check();
    return true;
  } catch (error) {
    if (error instanceof CorruptionError) return false;
    throw error;
  }
}
