/**
 * The blocks of one node on its disk: packs (the truth), an index of them (a cache), group commit, recovery, compaction.
 *
 * ```
 * DIR/LOCK                   held while open
 * DIR/STORE                  whose store this is, and its salt
 * DIR/packs/0000000001.pack  records: blocks, tombstones, renewals (pack-format.ts)
 * DIR/index/                 block -> place (pack-index.ts); may be deleted while closed, is then rebuilt
 * ```
 *
 * Each operation appends one record and becomes visible when that is durable. Renewals are records too: a stamp kept
 * only in the index would be lost with it, and garbage collection could then take a block in use.
 */
import type { Clock, Disk, Random } from '../env.ts';
import { CorruptionError, NoSpaceError, StateError, UnavailableError } from '../errors.ts';
import { blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import { MiB, PAGE_BYTES } from '../limits.ts';
import { SILENT_LOGGER, type Logger } from '../log.ts';
import { BufferPool, type Lease } from './buffer-pool.ts';
import { checkBlockBytes, PAGE_HASH_BYTES, pageCountOf, verifyBlock } from './identity.ts';
import { compactPacks, packBytesFor, type CompactionHost } from './pack-compaction.ts';
import type { PackEntry } from './pack-entry.ts';
import { PackFiles } from './pack-files.ts';
import { decodeRecordHead, recordBytes, recordHeadBytes } from './pack-format.ts';
import { blockKeyOf, IndexDamagedError, type BlockKey, type Checkpoint, type PackIndex } from './pack-index.ts';
import { recover, type Recovered } from './pack-recovery.ts';
import { IndexKeeper } from './pack-index-keeper.ts';
import { markClosed, openIndex, openStoreFile, type OpenedIndex } from './pack-open.ts';
import { PackScrub } from './pack-scrub.ts';
import { PackSpace } from './pack-space.ts';
import { PackWriter, type NewRecord, type WrittenRecord } from './pack-writer.ts';
import type { ScrubTarget } from './scrub-target.ts';
import type { BlockEngine, BlockInfo, BlockPlace, CompactOptions, EngineUsage, ReadRun } from './types.ts';

/** A checkpoint after this much: bounds what an opening after a crash scans and hashes. */
const CHECKPOINT_BYTES = 64 * MiB;
const CHECKPOINT_RECORDS = 20_000;
/** Rows that the index could not write for long; beyond it puts are refused rather than memory filled. */
const INDEX_BACKLOG_MAX = 200_000;

const NO_BYTES: Uint8Array = new Uint8Array(0);

export interface PackEngineOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** Directory of the store; made if missing. */
  readonly path: string;
  /** Name of the store, 1 to 64 bytes. One that was made under another name is refused. */
  readonly storeId: string;
  /** For the salt of a new store. Without it the salt comes from the time, which is enough against accidents. */
  readonly random?: Random | undefined;
  /** Kept free on the disk. Default: max(256 MiB, 2%), at most a tenth of the disk. */
  readonly reserveBytes?: number | undefined;
  /** Bound of all packs together. Default: the disk. */
  readonly capacityBytes?: number | undefined;
  /** Default PACK_MAX_BYTES; smaller in tests. */
  readonly packMaxBytes?: number | undefined;
  readonly log?: Logger | undefined;
}

interface Parts {
  readonly options: PackEngineOptions;
  readonly log: Logger;
  readonly salt: bigint;
  readonly lock: { release(): Promise<void> };
  readonly index: PackIndex;
  readonly files: PackFiles;
  readonly space: PackSpace;
  readonly opened: OpenedIndex;
  readonly recovered: Recovered;
}

/** What changes while the engine is open. */
interface EngineState {
  nextSeq: number;
  closing: Promise<void> | undefined;
  compacting: Promise<number> | undefined;
  upkeep: Promise<void> | undefined;
  bytesSinceCheckpoint: number;
  recordsSinceCheckpoint: number;
}

export class PackEngine implements BlockEngine {
  private readonly parts: Parts;
  private readonly writer: PackWriter;
  private readonly buffers = new BufferPool();
  private readonly state: EngineState;
  private readonly keeper: IndexKeeper;
  /** For the scrubber. */
  readonly scrub: ScrubTarget;
  /** Operations under way: the next one on the same block waits for it, and then looks again. */
  private readonly pending = new Map<BlockKey, Promise<void>>();
  /**
   * Blocks with a record that failed but may be in a pack nevertheless, and may show after a restart.
   * Invariant: the next put or delete of such a block writes a record, whatever the index says: its seq is higher than
   * the failed one's, which is the value here.
   */
  private readonly uncertain = new Map<BlockKey, number>();
  /** Durable ends of packs that were written since the last checkpoint. */
  private readonly dirtyPacks = new Map<number, number>();

  private constructor(parts: Parts, writer: (engine: PackEngine) => PackWriter) {
    this.parts = parts;
    this.state = {
      nextSeq: parts.recovered.nextSeq,
      closing: undefined,
      compacting: undefined,
      upkeep: undefined,
      bytesSinceCheckpoint: 0,
      recordsSinceCheckpoint: 0,
    };
    this.writer = writer(this);
    this.keeper = new IndexKeeper({
      ...parts.options,
      ...parts,
      endOf: (pack) => this.endOf(pack),
      next: () => this.next(),
      compacting: () => this.state.compacting,
      stopped: () => this.state.closing !== undefined,
    });
    const append = (record: NewRecord): Promise<void> => this.writer.append(record);
    const scrubHost = { ...parts, buffers: this.buffers, endOf: (pack: number) => this.endOf(pack), append };
    this.scrub = new PackScrub(scrubHost, this.keeper);
  }

  /**
   * Opens the store, making it if the directory is empty. Errors: EBUSY (another process has it), FormatError (another
   * store's directory, or a newer format), CorruptionError (STORE and all packs' headers are damaged).
   */
  static async open(options: PackEngineOptions): Promise<PackEngine> {
    const { disk, path, storeId } = options;
    const log = options.log ?? SILENT_LOGGER;
    const dir = `${path}/packs`;
    await disk.mkdir(dir);
    const lock = await disk.lock(`${path}/LOCK`);
    let index: PackIndex | undefined;
    const files = new PackFiles(disk, dir);
    try {
      const salt = await openStoreFile(options, dir, log);
      const space = new PackSpace({ ...options });
      await space.refresh();
      const packMaxBytes = options.packMaxBytes ?? packBytesFor(space.reserveBytes);
      let opened: OpenedIndex;
      let recovered: Recovered | undefined;
      do {
        opened = await openIndex(disk, path, salt, log);
        index = opened.index;
        const recovering = recover({ disk, dir, files, ...opened, salt, packMaxBytes, log });
        recovered = await recovering.catch(async (error: unknown) => {
          // One that was just made has no excuse.
          if (!(error instanceof IndexDamagedError) || opened.loaded === undefined) throw error;
          log.error({ path: opened.path, error: String(error.cause) }, 'the block index is damaged');
          await opened.index.close();
          await disk.remove(opened.path);
          return undefined;
        });
      } while (recovered === undefined);
      const { nextPack } = recovered;
      const parts: Parts = { options, log, salt, lock, index: opened.index, files, space, opened, recovered };
      const engine = new PackEngine(parts, (self) => {
        return new PackWriter({
          disk,
          dir,
          files,
          storeId,
          salt,
          log,
          nextPack,
          packMaxBytes,
          onDurable: (written) => self.onDurable(written),
          onUncertain: (records) => self.onUncertain(records),
          onSuspect: (pack, syncedBytes) => parts.index.cut(pack, syncedBytes),
          onFull: () => space.invalidate(),
        });
      });
      if (recovered.resume !== undefined) {
        const { pack, sizeBytes } = recovered.resume;
        engine.writer.resume(pack, await disk.open(files.path(pack), 'write'), sizeBytes);
      }
      return engine;
    } catch (error) {
      await files.close();
      await index?.close().catch(() => undefined);
      await lock.release();
      throw error;
    }
  }

  async put(
    pool: PoolId,
    id: BlockId,
    pageHashes: Uint8Array,
    data: Uint8Array,
    generation: number,
  ): Promise<{ existed: boolean }> {
    checkBlockBytes(data.length);
    if (pageHashes.length !== pageCountOf(data.length) * PAGE_HASH_BYTES)
      throw new StateError('the page list is not of this block');
    const { index, space } = this.parts;
    const key = blockKeyOf(pool, id);
    const bytes = recordBytes(data.length);
    let refreshed = false;
    for (;;) {
      this.checkOpen();
      const before = this.pending.get(key);
      if (before !== undefined) {
        await before;
        continue;
      }
      const known = index.get(pool, id);
      const present = known?.state === 'live' && !known.damaged;
      if (present && !this.uncertain.has(key)) {
        if (generation > known.generation) await this.append(key, this.newRecord('renewal', pool, id, generation));
        return { existed: true };
      }
      if (space.stale || (this.roomBytes() < bytes && !refreshed)) {
        refreshed = true;
        await space.refresh();
        continue;
      }
      if (this.roomBytes() < bytes) throw this.full();
      if (index.pendingCount > INDEX_BACKLOG_MAX) {
        throw new UnavailableError('the block index cannot be written', {
          remedy: 'Look at the system log for errors of this disk.',
        });
      }
      const stamp = known?.state === 'live' ? Math.max(known.generation, generation) : generation;
      space.admit(bytes);
      try {
        await this.append(key, {
          type: 'block',
          pool,
          id,
          seq: this.state.nextSeq++,
          generation: stamp,
          pageHashes,
          data,
        });
      } finally {
        space.settle(bytes);
      }
      return { existed: present };
    }
  }

  async read(
    pool: PoolId,
    id: BlockId,
    firstPage: number,
    pageCount: number,
    wantHashes: boolean,
    own = false,
  ): Promise<ReadRun | undefined> {
    if (!Number.isInteger(firstPage) || firstPage < 0 || !Number.isInteger(pageCount) || pageCount < 0) {
      throw new StateError(`not a run of pages: ${firstPage}, ${pageCount}`);
    }
    this.checkOpen();
    const found = this.intact(pool, id);
    if (found === undefined) return undefined;
    const { lengthBytes } = found;
    const start = Math.min(firstPage * PAGE_BYTES, lengthBytes);
    const dataBytes = Math.min(pageCount * PAGE_BYTES, lengthBytes - start);
    const headBytes = wantHashes ? recordHeadBytes(lengthBytes) : 0;
    const taking = this.buffers.take(headBytes + dataBytes, own);
    const waits = taking instanceof Promise;
    const lease = waits ? await taking : taking;
    try {
      // A wait for memory may have been long: the block can have moved or gone. From here to the pin there is none.
      const entry = waits ? this.intact(pool, id) : found;
      if (entry === undefined) {
        lease.release();
        return undefined;
      }
      const problem = await this.readRecord(entry, lease, headBytes, start, dataBytes);
      if (problem !== undefined) throw this.recordDamaged(pool, id, entry, problem);
      let pageHashes = NO_BYTES;
      if (wantHashes) {
        const head = decodeRecordHead(lease.bytes.subarray(0, headBytes), this.parts.salt, entry.pack, entry.offset);
        const header = head?.header;
        if (
          head === undefined ||
          header?.type !== 'block' ||
          header.pool !== pool ||
          header.lengthBytes !== lengthBytes ||
          Buffer.compare(header.id, id) !== 0
        ) {
          throw this.recordDamaged(pool, id, entry, 'its header does not verify');
        }
        pageHashes = head.pageHashes;
      }
      const { release } = lease;
      const data = lease.bytes.subarray(headBytes);
      return { blockBytes: lengthBytes, pageHashes, firstPage, data, isOwn: own, release };
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  has(pool: PoolId, id: BlockId): number | undefined {
    this.checkOpen();
    return this.intact(pool, id)?.lengthBytes;
  }

  whereIs(pool: PoolId, id: BlockId): BlockPlace | undefined {
    this.checkOpen();
    const entry = this.intact(pool, id);
    if (entry === undefined) return undefined;
    const { pack, offset, lengthBytes } = entry;
    return {
      directory: this.parts.files.directory,
      pack,
      dataOffset: offset + recordHeadBytes(lengthBytes),
      lengthBytes,
    };
  }

  stampOf(pool: PoolId, id: BlockId): number | undefined {
    const entry = this.parts.index.get(pool, id);
    return entry?.state === 'live' ? entry.generation : undefined;
  }

  async renew(pool: PoolId, id: BlockId, generation: number): Promise<boolean> {
    const key = blockKeyOf(pool, id);
    for (;;) {
      this.checkOpen();
      const before = this.pending.get(key);
      if (before !== undefined) {
        await before;
        continue;
      }
      const entry = this.intact(pool, id);
      // One whose tombstone failed may be gone after a restart: it must be put again.
      if (entry === undefined || this.uncertain.has(key)) return false;
      if (generation > entry.generation) await this.append(key, this.newRecord('renewal', pool, id, generation));
      return true;
    }
  }

  async delete(pool: PoolId, id: BlockId): Promise<boolean> {
    const key = blockKeyOf(pool, id);
    for (;;) {
      this.checkOpen();
      const before = this.pending.get(key);
      if (before !== undefined) {
        await before;
        continue;
      }
      const existed = this.lookUp(pool, id)?.state === 'live';
      if (existed || this.uncertain.has(key)) await this.append(key, this.newRecord('tombstone', pool, id, 0));
      return existed;
    }
  }

  async *list(pool: PoolId, { withDamaged = false } = {}): AsyncGenerator<BlockInfo & { readonly generation: number }> {
    this.checkOpen();
    if (this.keeper.isRebuilding) throw new IndexDamagedError(undefined);
    for await (const { id, entry } of this.parts.index.entries(pool)) {
      if (entry.state === 'live' && (withDamaged || !entry.damaged))
        yield { id, lengthBytes: entry.lengthBytes, generation: entry.generation };
    }
  }

  async markDamaged(pool: PoolId, id: BlockId): Promise<void> {
    this.checkOpen();
    const entry = this.intact(pool, id);
    if (entry === undefined) return;
    this.setAside(pool, id, entry);
    await this.parts.index.flush(true);
  }

  usage(): EngineUsage {
    const { index, files, space, log } = this.parts;
    // Nobody may have written for long; the next call then has the fresh answer.
    if (space.stale && this.state.closing === undefined) {
      space
        .refresh()
        .catch((error: unknown) => log.warn({ error: String(error) }, 'the free space of the disk cannot be read'));
    }
    return {
      blockCount: index.blockCount,
      liveBytes: index.liveBytes,
      fileBytes: files.totalBytes,
      freeBytes: this.roomBytes(),
      capacityBytes: space.capacityBytes(),
      damaged: index.damaged(),
    };
  }

  async compact(options: CompactOptions = {}): Promise<number> {
    this.checkOpen();
    // One at a time; but one under way may have passed over what was deleted since, or ask for less.
    while (this.state.compacting !== undefined) {
      await this.state.compacting.catch(() => undefined);
      this.checkOpen();
    }
    this.state.compacting = this.compactNow(options).finally(() => (this.state.compacting = undefined));
    return await this.state.compacting;
  }

  /** Waits for what is under way, then writes the index down, so that the next opening need not scan. Idempotent. */
  async close(): Promise<void> {
    this.state.closing ??= this.closeNow();
    await this.state.closing;
  }

  // Writing

  private newRecord(type: 'tombstone' | 'renewal', pool: PoolId, id: BlockId, generation: number): NewRecord {
    return { type, pool, id, seq: this.state.nextSeq++, generation, pageHashes: NO_BYTES, data: NO_BYTES };
  }

  private async append(key: BlockKey, record: NewRecord): Promise<void> {
    const append = this.writer.append(record);
    const settled = append.then(
      () => undefined,
      () => undefined,
    );
    this.pending.set(key, settled);
    try {
      await append;
    } finally {
      if (this.pending.get(key) === settled) this.pending.delete(key);
    }
  }

  private onDurable(written: readonly WrittenRecord[]): void {
    const { index, log } = this.parts;
    for (const { record, pack, offset } of written) {
      const lengthBytes = record.data.length;
      const placed = { seq: record.seq, generation: record.generation, pack, offset, lengthBytes };
      this.keeper.add(record, placed);
      if (this.uncertain.size > 0) this.settleUncertain(record);
      const bytes = recordBytes(lengthBytes);
      this.dirtyPacks.set(pack, offset + bytes);
      this.state.bytesSinceCheckpoint += bytes;
      this.state.recordsSinceCheckpoint++;
    }
    const checkpointDue =
      this.state.bytesSinceCheckpoint >= CHECKPOINT_BYTES || this.state.recordsSinceCheckpoint >= CHECKPOINT_RECORDS;
    if (this.state.upkeep !== undefined || !(checkpointDue || index.flushDue)) return;
    this.state.upkeep = (checkpointDue ? this.checkpoint(false) : index.flush(false))
      .catch((error: unknown) => log.error({ error: String(error) }, 'the block index cannot be written'))
      .finally(() => (this.state.upkeep = undefined));
  }

  private onUncertain(records: readonly NewRecord[]): void {
    for (const { pool, id, seq } of records) {
      const key = blockKeyOf(pool, id);
      this.uncertain.set(key, Math.max(this.uncertain.get(key) ?? 0, seq));
    }
  }

  // A copy made by compaction has its old seq and settles nothing; the failed record written again does.
  private settleUncertain({ pool, id, seq }: NewRecord): void {
    const key = blockKeyOf(pool, id);
    if (seq >= (this.uncertain.get(key) ?? Number.POSITIVE_INFINITY)) this.uncertain.delete(key);
  }

  private async checkpoint(last: boolean): Promise<void> {
    const { index, files } = this.parts;
    const indexed = new Map(this.dirtyPacks);
    this.dirtyPacks.clear();
    this.state.bytesSinceCheckpoint = 0;
    this.state.recordsSinceCheckpoint = 0;
    if (last) for (const pack of files.packs()) indexed.set(pack, indexed.get(pack) ?? this.endOf(pack));
    try {
      await index.checkpoint(indexed, this.next(), last);
    } catch (error) {
      for (const [pack, bytes] of indexed) if (!this.dirtyPacks.has(pack)) this.dirtyPacks.set(pack, bytes);
      throw error;
    }
  }

  private next(): Checkpoint {
    return { nextSeq: this.state.nextSeq, nextPack: this.writer.nextPack };
  }

  private roomBytes(): number {
    return this.parts.space.roomBytes(this.parts.files.totalBytes);
  }

  private full(): NoSpaceError {
    const { path } = this.parts.options;
    return new NoSpaceError(
      `no space left for blocks in ${path} (${this.parts.space.reserveBytes} bytes of the disk are kept back)`,
      {
        remedy: 'Delete files and run "tatami gc", or add nodes or disks.',
      },
    );
  }

  // Reading

  private intact(pool: PoolId, id: BlockId): PackEntry | undefined {
    const entry = this.lookUp(pool, id);
    return entry?.state === 'live' && !entry.damaged ? entry : undefined;
  }

  /** Throws rather than say "absent" while that is not known. */
  private lookUp(pool: PoolId, id: BlockId): PackEntry | undefined {
    const entry = this.parts.index.get(pool, id);
    if (entry === undefined && this.keeper.isRebuilding) throw new IndexDamagedError(undefined);
    return entry;
  }

  /** Fills the lease with the record's first `headBytes` and its data from `start` on. Returns what is wrong, if anything. */
  private async readRecord(
    entry: PackEntry,
    lease: Lease,
    headBytes: number,
    start: number,
    dataBytes: number,
  ): Promise<string | undefined> {
    const { bytes } = lease;
    const dataOffset = entry.offset + recordHeadBytes(entry.lengthBytes) + start;
    try {
      const count = await this.parts.files.use(entry.pack, async (file) => {
        // Head and data are neighbours when the run begins with the block: one read.
        if (headBytes === 0) return await file.read(bytes, dataOffset);
        if (start === 0) return await file.read(bytes, entry.offset);
        const [head, data] = await Promise.all([
          file.read(bytes.subarray(0, headBytes), entry.offset),
          file.read(bytes.subarray(headBytes), dataOffset),
        ]);
        return head + data;
      });
      return count === headBytes + dataBytes ? undefined : 'the pack file is too short';
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (code === 'EIO') return 'the disk cannot read it';
      if (code === 'ENOENT') return 'its pack file is missing';
      throw error;
    }
  }

  private recordDamaged(pool: PoolId, id: BlockId, entry: PackEntry, why: string): CorruptionError {
    const { log, index } = this.parts;
    const { pack, offset } = entry;
    log.error({ pool, block: blockIdToHex(id), pack, offset, why }, 'a stored block is damaged');
    this.setAside(pool, id, entry);
    index
      .flush(true)
      .catch((error: unknown) => log.error({ error: String(error) }, 'the block index cannot be written'));
    return new CorruptionError(`block ${blockIdToHex(id)} on this node is damaged: ${why}`, {
      info: { pool, pack, offset },
    });
  }

  /** Unless the block has meanwhile been stored anew. */
  private setAside(pool: PoolId, id: BlockId, entry: PackEntry): void {
    const known = this.parts.index.get(pool, id);
    if (known?.state !== 'live' || known.pack !== entry.pack || known.offset !== entry.offset) return;
    this.parts.index.update(blockKeyOf(pool, id), known, { ...known, damaged: true });
  }

  // Upkeep

  private async compactNow({ deadShare, mayGoOn }: CompactOptions): Promise<number> {
    const { index, files, salt, log, space } = this.parts;
    // Packs must not go while an index is built from them.
    await this.keeper.settled();
    // A no stands: a pack that was not read to its end must not be taken for one that was.
    let gaveWay = false;
    try {
      const host: CompactionHost = {
        files,
        index,
        buffers: this.buffers,
        salt,
        log,
        activePack: () => this.writer.activePack,
        append: (record) => this.writer.append(record),
        seal: () => this.writer.seal(),
        checkpoint: () => this.checkpoint(false),
        diskFreeBytes: async () => {
          await space.refresh();
          return space.diskFreeBytes;
        },
        markDamaged: (entry, { pool, id }) => {
          log.error(
            { pool, block: blockIdToHex(id), pack: entry.pack, offset: entry.offset },
            'a stored block is damaged',
          );
          this.setAside(pool, id, entry);
        },
        stopped: () => this.state.closing !== undefined || (gaveWay ||= mayGoOn?.() === false),
      };
      return await compactPacks(host, deadShare);
    } finally {
      space.invalidate();
    }
  }

  private async closeNow(): Promise<void> {
    const { index, files, lock, log } = this.parts;
    const { disk, path } = this.parts.options;
    try {
      await this.state.compacting?.catch(() => undefined);
      await this.keeper.settled();
      await this.writer.close();
      await this.state.upkeep;
      // Without it the next opening scans more: slower, nothing worse.
      await this.checkpoint(true).catch((error: unknown) =>
        log.warn({ error: String(error) }, 'the block index could not be written at the end'),
      );
      await index.close();
      await files.close();
      // With an index that is known to be damaged the next opening has to look closely.
      if (!this.keeper.isKnownDamaged) await markClosed(disk, path);
    } finally {
      await lock.release();
    }
  }

  /** The set-aside copy's bytes, if they are the block after all: only its head was damaged. */
  async salvage(pool: PoolId, id: BlockId): Promise<Uint8Array | undefined> {
    this.checkOpen();
    const entry = this.parts.index.get(pool, id);
    if (entry?.state !== 'live' || !this.parts.files.has(entry.pack)) return undefined;
    const lease = await this.buffers.take(entry.lengthBytes);
    try {
      if ((await this.readRecord(entry, lease, 0, 0, entry.lengthBytes)) !== undefined) return undefined;
      verifyBlock(id, lease.bytes);
      return new Uint8Array(lease.bytes);
    } catch (error) {
      if (error instanceof CorruptionError) return undefined;
      throw error;
    } finally {
      lease.release();
    }
  }

  private endOf(pack: number): number {
    const { index, files } = this.parts;
    return pack === this.writer.activePack
      ? this.writer.activeSyncedBytes
      : (index.cutOf(pack) ?? files.sizeBytes(pack));
  }

  private checkOpen(): void {
    if (this.state.closing !== undefined) throw new StateError('the block store is closed');
  }
}
