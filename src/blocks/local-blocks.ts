/**
 * Blocks read from the packs of a node on the same machine, past that node: it only tells where a block lies. (HDFS calls
 * it short-circuit reading.) What is read so is verified against the id like everything else, so whatever a pack holds by
 * the time it is read can be wrong, but never do harm: any doubt sends the reader back to the node.
 *
 * Invariant: a file is held open for at most FILE_AGE_MAX_MS, so that the space of an unlinked pack comes back.
 * Invariant: a buffer that the system may still be filling is given back to nobody.
 */
import { BlockNotFoundError, CorruptionError } from '../errors.ts';
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import { dataNodes } from '../catalog/document.ts';
import type { CatalogService } from '../catalog/types.ts';
import { DIRECT_BYTES, type Clock, type Disk, type DiskFile, type Timer } from '../env.ts';
import { KiB } from '../limits.ts';
import { payloadPool } from '../net/buffer-pool.ts';
import type { Network } from '../net/types.ts';
import { withinLimits, type ReadLimits } from './disk-read.ts';
import { blockMethods, parseWhereReply, type WhereRequest } from './block-messages.ts';
import { PAGE_HASH_BYTES, pageCountOf } from './identity.ts';
import { decodePackHeader, packFileName, PACK_HEADER_BYTES } from './pack-format.ts';
import type { BlockPlace } from './types.ts';

/** A node whose packs cannot be read from here is not tried again for this long. */
const REFUSED_MS = 60_000;
/** Places remembered: some 100 bytes each. */
const PLACES_MAX = 32_768;
const FILES_MAX = 64;
const FILE_AGE_MAX_MS = 10_000;
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

interface OpenPack {
  readonly key: string;
  readonly opening: Promise<DiskFile>;
  readonly openedMs: number;
  userCount: number;
  dropped: boolean;
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
  /** In order of last use. */
  readonly #places = new Map<string, BlockPlace>();
  readonly #files = new Map<string, OpenPack>();
  /** Nodes whose file systems cannot be read past the system's cache. */
  readonly #indirect = new Set<NodeId>();
  readonly #refusedUntilMs = new Map<NodeId, number>();
  readonly #inFlight = new Map<NodeId, number>();
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: LocalBlocksOptions) {
    this.#o = options;
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
   * Asks the node, unless it is known, where its copy is. Undefined: read it through the node.
   *
   * @throws what the node answers about the block: BlockNotFoundError, CorruptionError; CancelledError
   */
  async find(
    node: NodeId,
    pool: PoolId,
    id: BlockId,
    wantedBytes: number,
    limits: ReadLimits,
  ): Promise<LocalBlock | undefined> {
    if (this.#closed || !this.isNear(node)) return undefined;
    const key = `${node} ${pool} ${Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')}`;
    let place = this.#places.get(key);
    if (place === undefined) {
      try {
        const request: WhereRequest = { pool, id, wantedBytes };
        place = parseWhereReply((await this.#o.network.call(node, blockMethods.where, request, limits)).header);
      } catch (error) {
        if (isAboutBlock(error) || limits.signal.aborted) throw error;
        // It has no packs, or does not know the question; or it does not answer, which the reader will see itself.
        this.#refuse(node);
        return undefined;
      }
    } else {
      this.#places.delete(key);
    }
    this.#places.set(key, place);
    if (this.#places.size > PLACES_MAX) this.#places.delete(this.#places.keys().next().value as string);
    return this.#block(node, key, place);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    const files = [...this.#files.values()];
    for (const file of files) this.#drop(file);
    await Promise.all(files.map((file) => file.opening.catch(() => undefined)));
  }

  #block(node: NodeId, key: string, place: BlockPlace): LocalBlock {
    const listBytes = pageCountOf(place.lengthBytes) * PAGE_HASH_BYTES;
    return {
      lengthBytes: place.lengthBytes,
      read: (start, length, limits) => this.#read(node, place, place.dataOffset + start, length, limits),
      readPageList: (limits) => this.#read(node, place, place.dataOffset - listBytes, listBytes, limits),
      forget: () => void this.#places.delete(key),
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
    this.#inFlight.set(node, this.inFlightCount(node) + 1);
    // The system cannot be told to stop: whoever gives up leaves the buffer to it.
    const reading = this.#readFile(node, place, span, position - before, isDirect).finally(() =>
      this.#inFlight.set(node, this.inFlightCount(node) - 1),
    );
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
    const path = `${place.directory}/${packFileName(place.pack)}`;
    const file = this.#pin(node, path, place.pack, isDirect);
    try {
      return await (await file.opening).read(bytes, position);
    } catch (error) {
      this.#drop(file);
      const { code } = error as { code?: unknown };
      if (isDirect && code === 'EINVAL') this.#indirect.add(node);
      // ENOENT: compaction has taken the pack away, and the node tells the new place.
      else if (code !== 'ENOENT') this.#refuse(node);
      return undefined;
    } finally {
      file.userCount--;
      this.#closeIfUnused(file);
    }
  }

  #pin(node: NodeId, path: string, pack: number, isDirect: boolean): OpenPack {
    const nowMs = this.#o.clock.monotonicMs();
    const key = isDirect ? `direct ${path}` : path;
    let file = this.#files.get(key);
    if (file !== undefined && nowMs - file.openedMs >= FILE_AGE_MAX_MS) {
      this.#drop(file);
      file = undefined;
    }
    if (file === undefined) {
      file = { key, opening: this.#open(node, path, pack, isDirect), openedMs: nowMs, userCount: 0, dropped: false };
      this.#files.set(key, file);
      for (const oldest of this.#files.values()) {
        if (this.#files.size <= FILES_MAX) break;
        this.#drop(oldest);
      }
      this.#timer ??= this.#o.clock.setTimer(FILE_AGE_MAX_MS, () => this.#dropOld());
    }
    file.userCount++;
    return file;
  }

  /** A pack of that very store: another machine, or another container, may have the same path. */
  async #open(node: NodeId, path: string, pack: number, isDirect: boolean): Promise<DiskFile> {
    const file = await this.#o.disk.open(path, isDirect ? 'direct' : 'read');
    try {
      const bytes = isDirect ? payloadPool.takeAligned(DIRECT_BYTES) : new Uint8Array(PACK_HEADER_BYTES);
      const count = await file.read(bytes, 0);
      const header = count < PACK_HEADER_BYTES ? undefined : decodePackHeader(bytes.subarray(0, PACK_HEADER_BYTES));
      if (isDirect) payloadPool.giveBack(bytes);
      const storeId = this.#o.catalog.current().nodes.find(({ id }) => id === node)?.storeId;
      if (header?.storeId !== storeId || header?.pack !== pack) {
        throw new CorruptionError(`${path} is not the pack of node ${node}`);
      }
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  #dropOld(): void {
    const nowMs = this.#o.clock.monotonicMs();
    for (const file of this.#files.values()) if (nowMs - file.openedMs >= FILE_AGE_MAX_MS) this.#drop(file);
    this.#timer = this.#files.size === 0 ? undefined : this.#o.clock.setTimer(FILE_AGE_MAX_MS, () => this.#dropOld());
  }

  #drop(file: OpenPack): void {
    if (this.#files.get(file.key) === file) this.#files.delete(file.key);
    file.dropped = true;
    this.#closeIfUnused(file);
  }

  #closeIfUnused(file: OpenPack): void {
    if (!file.dropped || file.userCount > 0) return;
    // Nothing is lost by a failing close of a file that was only read.
    file.opening.then((open) => open.close()).catch(() => undefined);
  }

  #refuse(node: NodeId): void {
    this.#refusedUntilMs.set(node, this.#o.clock.monotonicMs() + REFUSED_MS);
  }
}

function isAboutBlock(error: unknown): boolean {
  return error instanceof BlockNotFoundError || error instanceof CorruptionError;
}

function hostOf(address: string): string {
  const host = address.slice(0, address.lastIndexOf(':'));
  return host.startsWith('[') ? host.slice(1, -1) : host;
}
