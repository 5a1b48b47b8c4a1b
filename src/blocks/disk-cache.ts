/**
 * Whole blocks that were read, kept on a disk of the reader's own: bounded, used again after a restart, given to other
 * readers where readers serve readers (sharing.ts). (V-FIELD: a node keeps what it has read, in memory and on disk.)
 *
 * One file a block: its page list, then its bytes; the name is the id and the length, so that a listing tells all there is to know.
 * Nothing is ever synced. A file that a crash has torn, or that rots, does not hash to its name: it is taken away, and
 * the block is read from its holders as if it had never been here. Content names content, whatever the pool or cluster.
 *
 * Invariant: a file is made only when it and all others have at most `maxBytes`.
 * Invariant: only files of this form, in a directory of this name, are ever removed.
 */
import { NEVER } from '../cancel.ts';
import type { Clock, Disk } from '../env.ts';
import { CorruptionError, TimeoutError, UsageError } from '../errors.ts';
import { blockIdFromHex, blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';
import { SILENT_LOGGER, type Logger } from '../log.ts';
import { payloadPool } from '../net/buffer-pool.ts';
import { ByteBudget } from './byte-budget.ts';
import { chooseDropped } from './drop-choice.ts';
import { withinLimits, type ReadLimits } from './disk-read.ts';
import { hashBlock, PAGE_HASH_BYTES, pageCountOf, verifyBlock } from './identity.ts';
import type { LocalBlock } from './local-blocks.ts';
import type { SharedBlock, ShareSource } from './sharing.ts';

/** The directory within the one that the user names: whatever else is there is not ours. */
const FOLDER = 'tatami-cache-1';
/** What files hold is for those who may read the files; a mount checks that, a directory of blocks cannot. */
const OWNER_ONLY = 0o700;
const LOCK = 'lock';
const FILE_NAME = /^([0-9a-f]{64})-([0-9]{1,8})$/;
const UNFINISHED = /^[0-9a-f]{64}-[0-9]{1,8}\.tmp$/;
/**
 * Copies that wait to be written: more than a reader has under way, so that what comes in one go is all kept. A disk that is
 * slower than the network for long does not get all: readers do not wait for it.
 */
const WRITING_MAX_BYTES = 16 * BLOCK_MAX_BYTES;
/** A disk that failed or was full is left alone for so long. */
const REFUSED_MS = 60_000;
/** Of what is kept, given up when the disk is full. */
const FULL_SHARE = 1 / 8;
/** For a peer that asks: it has its own deadline, and goes elsewhere. */
const GIVE_TIMEOUT_MS = 5_000;

/** Room for the largest blocks, some at once. */
export const DISK_CACHE_LEAST_BYTES = 8 * BLOCK_MAX_BYTES;

export interface DiskCacheOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** Made if missing. */
  readonly directory: string;
  readonly maxBytes: number;
  readonly log?: Logger;
  /** Other readers that have a block, as far as is known. */
  readonly copiesElsewhere?: (pool: PoolId, id: BlockId) => number;
}

export interface DiskCacheUsage {
  readonly blockCount: number;
  readonly usedBytes: number;
  /** Blocks on their way to the disk. */
  readonly writingCount: number;
  /** Reads that were answered from here, and that were not. */
  readonly hitCount: number;
  readonly missCount: number;
}

interface Kept {
  readonly id: BlockId;
  /** Unknown for what was here before the start. */
  readonly pool: PoolId | undefined;
  readonly lengthBytes: number;
  readonly fileBytes: number;
  /** False while it is being written. */
  ready: boolean;
}

export class DiskCache implements ShareSource {
  readonly isSlow = true;
  readonly maxBytes: number;
  readonly #o: DiskCacheOptions;
  readonly #log: Logger;
  readonly #path: string;
  readonly #lock: { release(): Promise<void> };
  /** By id in hexadecimal, in order of last use. */
  readonly #kept = new Map<string, Kept>();
  readonly #folders = new Set<string>();
  readonly #writing = new Set<Promise<void>>();
  readonly #budget = new ByteBudget(WRITING_MAX_BYTES);
  #usedBytes = 0;
  #refusedUntilMs = Number.NEGATIVE_INFINITY;
  #hitCount = 0;
  #missCount = 0;
  #closed = false;

  private constructor(options: DiskCacheOptions, path: string, lock: { release(): Promise<void> }) {
    this.#o = options;
    this.#log = options.log ?? SILENT_LOGGER;
    this.#path = path;
    this.#lock = lock;
    this.maxBytes = options.maxBytes;
  }

  /** UsageError if another process uses the directory, or it cannot be one. */
  static async open(options: DiskCacheOptions): Promise<DiskCache> {
    const { disk, directory, maxBytes } = options;
    if (!Number.isSafeInteger(maxBytes) || maxBytes < DISK_CACHE_LEAST_BYTES) {
      throw new UsageError(`a cache on disk has at least ${DISK_CACHE_LEAST_BYTES} bytes, not ${maxBytes}`);
    }
    const path = `${directory}/${FOLDER}`;
    const lock = await takeDirectory(disk, directory, path);
    try {
      const cache = new DiskCache(options, path, lock);
      await cache.#list();
      return cache;
    } catch (error) {
      await lock.release();
      throw unusable(directory, error);
    }
  }

  get usage(): DiskCacheUsage {
    return {
      blockCount: this.#kept.size,
      usedBytes: this.#usedBytes,
      writingCount: this.#writing.size,
      hitCount: this.#hitCount,
      missCount: this.#missCount,
    };
  }

  /** Where the block lies, if it is here. Counts as use. */
  find(id: BlockId): LocalBlock | undefined {
    const name = blockIdToHex(id);
    const kept = this.#kept.get(name);
    if (kept?.ready !== true || this.#isRefused()) {
      this.#missCount++;
      return undefined;
    }
    this.#kept.delete(name);
    this.#kept.set(name, kept);
    this.#hitCount++;
    return this.#place(name, kept);
  }

  /** Keeps a copy of a block that was verified, if there is time for it. `data` may change when this returns. */
  keep(pool: PoolId, id: BlockId, data: Uint8Array): void {
    const name = blockIdToHex(id);
    if (this.#closed || this.#kept.has(name) || this.#isRefused()) return;
    const giveBack = this.#budget.tryTake(data.length);
    if (giveBack === undefined) return;
    const fileBytes = data.length + pageCountOf(data.length) * PAGE_HASH_BYTES;
    const kept: Kept = { id, pool, lengthBytes: data.length, fileBytes, ready: false };
    this.#kept.set(name, kept);
    this.#usedBytes += fileBytes;
    const copy = payloadPool.take(data.length);
    copy.set(data);
    const writing = this.#write(name, kept, copy).finally(() => {
      payloadPool.giveBack(copy);
      giveBack();
      this.#writing.delete(writing);
    });
    this.#writing.add(writing);
  }

  share(_pool: PoolId, id: BlockId): SharedBlock | undefined {
    const name = blockIdToHex(id);
    const kept = this.#kept.get(name);
    if (kept?.ready !== true || this.#isRefused()) return undefined;
    let data: Uint8Array | undefined;
    let released = false;
    const loading = this.#readWhole(name, kept, id).then((bytes) => {
      if (released && bytes !== undefined) payloadPool.giveBack(bytes);
      else data = bytes;
    });
    return {
      loading,
      data: () => data,
      release: () => {
        if (released) return;
        released = true;
        if (data !== undefined) payloadPool.giveBack(data);
        data = undefined;
      },
    };
  }

  /** Waits for what is being written, and lets another process have the directory. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all(this.#writing);
    await this.#lock.release();
  }

  /** What is there from before. What was being written then, or is too much now, goes. */
  async #list(): Promise<void> {
    const { disk } = this.#o;
    for (const folder of await disk.readdir(this.#path)) {
      if (!/^[0-9a-f]{2}$/.test(folder)) continue;
      this.#folders.add(folder);
      for (const file of await disk.readdir(`${this.#path}/${folder}`)) {
        const path = `${this.#path}/${folder}/${file}`;
        const match = FILE_NAME.exec(file);
        const lengthBytes = Number(match?.[2]);
        if (match?.[1]?.startsWith(folder) !== true || lengthBytes < 1 || lengthBytes > BLOCK_MAX_BYTES) {
          if (UNFINISHED.test(file)) await disk.unlink(path);
          continue;
        }
        const name = match[1];
        const fileBytes = lengthBytes + pageCountOf(lengthBytes) * PAGE_HASH_BYTES;
        this.#kept.set(name, { id: blockIdFromHex(name), pool: undefined, lengthBytes, fileBytes, ready: true });
        this.#usedBytes += fileBytes;
      }
    }
    await this.#makeRoom();
  }

  #place(name: string, kept: Kept): LocalBlock {
    const { lengthBytes } = kept;
    const listBytes = pageCountOf(lengthBytes) * PAGE_HASH_BYTES;
    return {
      lengthBytes,
      read: (start, length, limits) => this.#read(name, kept, listBytes + start, length, limits),
      readPageList: (limits) => this.#read(name, kept, 0, listBytes, limits),
      forget: () => void this.#drop(name, kept),
    };
  }

  /** Bytes of the file, not verified, in memory of the payload pool; undefined if they cannot be had. */
  async #read(
    name: string,
    kept: Kept,
    position: number,
    length: number,
    limits: ReadLimits,
  ): Promise<Uint8Array | undefined> {
    const bytes = payloadPool.take(length);
    // The system cannot be told to stop: whoever gives up leaves the buffer to it.
    const count = await withinLimits(this.#o.clock, this.#readFile(name, kept, bytes, position), limits, () =>
      this.#refuse(new TimeoutError('it does not answer')),
    );
    if (count === length) return bytes;
    payloadPool.giveBack(bytes);
    return undefined;
  }

  /** Never rejects. */
  async #readFile(name: string, kept: Kept, bytes: Uint8Array, position: number): Promise<number | undefined> {
    try {
      const file = await this.#o.disk.open(this.#fileOf(name, kept), 'read');
      try {
        return await file.read(bytes, position);
      } finally {
        await file.close();
      }
    } catch (error) {
      // Dropped meanwhile, or by somebody who tidied up.
      if ((error as { code?: unknown }).code === 'ENOENT') this.#forget(name, kept);
      else this.#refuse(error);
      return undefined;
    }
  }

  /** For a peer: verified. */
  async #readWhole(name: string, kept: Kept, id: BlockId): Promise<Uint8Array | undefined> {
    const limits = { signal: NEVER, timeoutMs: GIVE_TIMEOUT_MS };
    const data = await this.#place(name, kept).read(0, kept.lengthBytes, limits);
    if (data === undefined) return undefined;
    try {
      verifyBlock(id, data);
      return data;
    } catch (error) {
      payloadPool.giveBack(data);
      if (!(error instanceof CorruptionError)) throw error;
      await this.#drop(name, kept);
      return undefined;
    }
  }

  /** Never rejects. */
  async #write(name: string, kept: Kept, data: Uint8Array): Promise<void> {
    const { disk } = this.#o;
    const path = this.#fileOf(name, kept);
    try {
      await this.#makeRoom();
      const { id, pageHashes } = hashBlock(data);
      if (blockIdToHex(id) !== name) throw new CorruptionError(`block ${name} has changed in memory`);
      const folder = name.slice(0, 2);
      if (!this.#folders.has(folder)) {
        await disk.mkdir(`${this.#path}/${folder}`);
        this.#folders.add(folder);
      }
      const file = await disk.open(`${path}.tmp`, 'create');
      try {
        await file.write([pageHashes, data], 0);
      } finally {
        await file.close();
      }
      await disk.rename(`${path}.tmp`, path);
      kept.ready = true;
    } catch (error) {
      this.#forget(name, kept);
      // The next start takes away what cannot be now.
      await disk.unlink(`${path}.tmp`).catch(() => undefined);
      this.#folders.delete(name.slice(0, 2));
      this.#refuse(error);
      // Others need the disk: they get some of it back, and the rest of it if it fills up again.
      if ((error as { code?: unknown }).code === 'ENOSPC') await this.#makeRoom(this.#usedBytes * (1 - FULL_SHARE));
    }
  }

  /** Drops what was used longest ago until what is kept, with what is being written, fits. */
  async #makeRoom(bytes = this.maxBytes): Promise<void> {
    while (this.#usedBytes > bytes) {
      const dropped = chooseDropped(this.#droppable(), ([, kept]) => this.#copiesElsewhere(kept));
      if (dropped === undefined) return;
      await this.#drop(...dropped);
    }
  }

  *#droppable(): Generator<[string, Kept]> {
    for (const entry of this.#kept) if (entry[1].ready) yield entry;
  }

  #copiesElsewhere({ pool, id }: Kept): number {
    return pool === undefined ? 0 : (this.#o.copiesElsewhere?.(pool, id) ?? 0);
  }

  /** Never rejects: a file that cannot be removed is found again at the next start. */
  async #drop(name: string, kept: Kept): Promise<void> {
    if (!this.#forget(name, kept)) return;
    await this.#o.disk.unlink(this.#fileOf(name, kept)).catch((error: unknown) => {
      if ((error as { code?: unknown }).code !== 'ENOENT') this.#refuse(error);
    });
  }

  #forget(name: string, kept: Kept): boolean {
    if (this.#kept.get(name) !== kept) return false;
    this.#kept.delete(name);
    this.#usedBytes -= kept.fileBytes;
    return true;
  }

  #fileOf(name: string, { lengthBytes }: Kept): string {
    return `${this.#path}/${name.slice(0, 2)}/${name}-${lengthBytes}`;
  }

  #isRefused(): boolean {
    return this.#refusedUntilMs > this.#o.clock.monotonicMs();
  }

  #refuse(error: unknown): void {
    const nowMs = this.#o.clock.monotonicMs();
    if (this.#refusedUntilMs > nowMs) return;
    this.#refusedUntilMs = nowMs + REFUSED_MS;
    this.#log.warn(
      { directory: this.#o.directory, error: String(error) },
      'the cache on disk cannot be used for a while: blocks are read from the nodes',
    );
  }
}

async function takeDirectory(disk: Disk, directory: string, path: string): Promise<{ release(): Promise<void> }> {
  try {
    await disk.mkdir(path, OWNER_ONLY);
    return await disk.lock(`${path}/${LOCK}`);
  } catch (error) {
    const { code, info } = error as { code?: unknown; info?: { readonly pid?: unknown } };
    if (code !== 'EBUSY') throw unusable(directory, error);
    const who = typeof info?.pid === 'number' ? ` (pid ${info.pid})` : '';
    throw new UsageError(`another mount${who} keeps its cache in ${directory}`, {
      remedy: 'Name another directory: each mount needs one of its own.',
      cause: error,
    });
  }
}

function unusable(directory: string, cause: unknown): UsageError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new UsageError(`${directory} cannot be used for a cache: ${why}`, {
    remedy: 'Name a directory that you can write to, on a disk of this machine.',
    cause,
  });
}
