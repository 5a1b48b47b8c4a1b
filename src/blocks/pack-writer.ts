/**
 * Appends records to the store's active pack. Group commit in a pipeline of two steps, each running on its own: what is
 * queued is written with one writev; what is written is made durable with one datasync. While a datasync runs the next
 * batch is already written, so the disk never waits for the copying of memory, and the slower the disk the larger the
 * batch that shares one sync.
 */
import type { Disk, DiskFile } from '../env.ts';
import { NoSpaceError, StateError, UnavailableError } from '../errors.ts';
import type { BlockId, PoolId } from '../ids.ts';
import { MiB, PACK_MAX_BYTES } from '../limits.ts';
import type { Logger } from '../log.ts';
import { isFull, mayPass } from '../disk-errors.ts';
import type { PackFiles } from './pack-files.ts';
import { encodePackHeader, encodeRecordHead, PACK_HEADER_BYTES, recordBytes, type RecordType } from './pack-format.ts';

/** One writev: more would only delay the first sync. */
const WRITE_BYTES = 16 * MiB;
/** Two buffers a record: stays below the system's bound of 1024 for one writev. */
const WRITE_RECORDS = 500;
/**
 * Failures of the disk to write or sync in a row, each on another pack, after which the store takes no more writes. Those
 * that may pass (no more open files, no memory, no space) only end the writes that they hit: the next ones try again.
 */
const FAILURES_MAX = 2;

export interface NewRecord {
  readonly type: RecordType;
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly seq: number;
  readonly generation: number;
  readonly pageHashes: Uint8Array;
  /** Empty but for blocks. Must not change until the append has settled. */
  readonly data: Uint8Array;
}

export interface WrittenRecord {
  readonly record: NewRecord;
  readonly pack: number;
  readonly offset: number;
}

interface Queued {
  readonly record: NewRecord;
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface ActivePack {
  readonly pack: number;
  readonly file: DiskFile;
  writtenBytes: number;
  /** Invariant: all of the file before this offset is durable; records beyond it were acknowledged to nobody. */
  syncedBytes: number;
  /** A write or sync failed: what the file holds beyond syncedBytes is unknown, and no later sync would tell (the system forgets). */
  suspect: boolean;
  /** The next record goes into another pack. */
  sealed: boolean;
}

interface Batch {
  readonly active: ActivePack;
  readonly queued: readonly Queued[];
  readonly written: readonly WrittenRecord[];
  readonly endOffset: number;
}

export interface PackWriterOptions {
  readonly disk: Disk;
  readonly dir: string;
  readonly files: PackFiles;
  readonly storeId: string;
  readonly salt: bigint;
  readonly log: Logger;
  /** Packs get numbers from here on. */
  readonly nextPack: number;
  readonly packMaxBytes?: number | undefined;
  /** Called when the records are durable, in order of their writing, before their appends resolve. If it throws, the store stops. */
  readonly onDurable: (written: readonly WrittenRecord[]) => void;
  /** These records may or may not be on disk, and may show after a restart. */
  readonly onUncertain: (records: readonly NewRecord[]) => void;
  /** Remembers durably that the pack ends at `syncedBytes`, whatever else its file holds. */
  readonly onSuspect: (pack: number, syncedBytes: number) => Promise<void>;
  /** The disk said ENOSPC. */
  readonly onFull: () => void;
}

export class PackWriter {
  readonly #options: PackWriterOptions;
  readonly #packMaxBytes: number;
  #nextPack: number;
  #active: ActivePack | undefined;
  #queue: Queued[] = [];
  #writing = false;
  /** Written, not yet synced. Invariant: all of one pack. */
  #unsynced: Batch[] = [];
  #syncing = false;
  #failureCount = 0;
  /** Why no more writes are taken. */
  #stopped: Error | undefined;
  #idleWaiters: (() => void)[] = [];
  #syncedWaiters: (() => void)[] = [];

  constructor(options: PackWriterOptions) {
    this.#options = options;
    this.#packMaxBytes = options.packMaxBytes ?? PACK_MAX_BYTES;
    this.#nextPack = options.nextPack;
  }

  /** The pack that is appended to, if any. */
  get activePack(): number | undefined {
    return this.#active?.pack;
  }

  get nextPack(): number {
    return this.#nextPack;
  }

  /** Durable bytes of the active pack. */
  get activeSyncedBytes(): number {
    return this.#active?.syncedBytes ?? 0;
  }

  /** Goes on with a pack that ends at `sizeBytes`, all of it durable. */
  resume(pack: number, file: DiskFile, sizeBytes: number): void {
    if (this.#active !== undefined) throw new StateError('a pack is active already');
    this.#active = { pack, file, writtenBytes: sizeBytes, syncedBytes: sizeBytes, suspect: false, sealed: false };
  }

  /** Resolves when the record is durable and onDurable has seen it. */
  append(record: NewRecord): Promise<void> {
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    return new Promise((resolve, reject) => {
      this.#queue.push({ record, bytes: recordBytes(record.data.length), resolve, reject });
      if (!this.#writing) {
        this.#writing = true;
        // One turn later, so that what is put in one go is written in one go.
        queueMicrotask(() => void this.#write());
      }
    });
  }

  /** Resolves when nothing is queued or under way. */
  async idle(): Promise<void> {
    while (this.#writing || this.#syncing) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Ends the active pack; the next append begins another, which is not waited for. */
  async seal(): Promise<void> {
    const active = this.#active;
    if (active === undefined) return;
    active.sealed = true;
    // No await between the last look and closing: an append in between would use a closing file.
    while (this.#active === active && (this.#writing || this.#syncing)) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
    if (this.#active === active) await this.#closeActive();
  }

  async close(): Promise<void> {
    this.#stopped ??= new StateError('the block store is closed');
    await this.idle();
    await this.#closeActive();
  }

  // The writing step. Never rejects: whatever happens is told to the appends that it happened to.
  async #write(): Promise<void> {
    while (this.#queue.length > 0) {
      if (this.#stopped !== undefined) {
        this.#refuse(this.#queue.splice(0), this.#stopped);
        break;
      }
      let active: ActivePack;
      try {
        active = await this.#activeWithRoom((this.#queue[0] as Queued).bytes);
      } catch (error) {
        this.#creationFailed(error);
        continue;
      }
      const batch = this.#takeBatch(active);
      try {
        await writeRecords(active.file, batch.buffers, active.writtenBytes);
      } catch (error) {
        await this.#writeFailed(active, batch.queued, error);
        continue;
      }
      if (active.suspect) {
        this.#fail(batch.queued, this.#unavailable(undefined));
        continue;
      }
      active.writtenBytes = batch.endOffset;
      this.#options.files.setSize(active.pack, batch.endOffset);
      this.#unsynced.push({ active, queued: batch.queued, written: batch.written, endOffset: batch.endOffset });
      if (!this.#syncing) {
        this.#syncing = true;
        void this.#sync();
      }
    }
    this.#writing = false;
    this.#wakeIdle();
  }

  #takeBatch(active: ActivePack): {
    queued: Queued[];
    written: WrittenRecord[];
    buffers: Uint8Array[];
    endOffset: number;
  } {
    const { salt } = this.#options;
    const written: WrittenRecord[] = [];
    const buffers: Uint8Array[] = [];
    let offset = active.writtenBytes;
    let count = 0;
    for (const { record, bytes } of this.#queue) {
      const batchBytes = offset - active.writtenBytes;
      if (
        count > 0 &&
        (count >= WRITE_RECORDS || batchBytes + bytes > WRITE_BYTES || offset + bytes > this.#packMaxBytes)
      )
        break;
      const header = { ...record, lengthBytes: record.data.length, syncedBytes: active.syncedBytes };
      buffers.push(encodeRecordHead(header, record.pageHashes, salt, active.pack, offset));
      if (record.data.length > 0) buffers.push(record.data);
      written.push({ record, pack: active.pack, offset });
      offset += bytes;
      count++;
    }
    return { queued: this.#queue.splice(0, count), written, buffers, endOffset: offset };
  }

  // The syncing step. Never rejects.
  async #sync(): Promise<void> {
    while (this.#unsynced.length > 0) {
      const batches = this.#unsynced;
      this.#unsynced = [];
      const last = batches[batches.length - 1] as Batch;
      const { active } = last;
      try {
        await active.file.datasync();
      } catch (error) {
        const queued = [...batches, ...this.#unsynced.splice(0)].flatMap((batch) => batch.queued);
        await this.#becomeSuspect(active, error);
        this.#fail(queued, this.#unavailable(error));
        continue;
      }
      if (active.suspect) {
        this.#fail(
          batches.flatMap((batch) => batch.queued),
          this.#unavailable(undefined),
        );
        continue;
      }
      this.#failureCount = 0;
      active.syncedBytes = last.endOffset;
      for (const batch of batches) {
        try {
          this.#options.onDurable(batch.written);
        } catch (error) {
          // The index cannot be read (a damaged row, say): what we answer could be wrong from here on.
          this.#stop(error);
          this.#fail(batch.queued, this.#broken(error));
          continue;
        }
        for (const { resolve } of batch.queued) resolve();
      }
    }
    this.#syncing = false;
    for (const wake of this.#syncedWaiters.splice(0)) wake();
    this.#wakeIdle();
  }

  async #activeWithRoom(bytes: number): Promise<ActivePack> {
    if (this.#active?.suspect === true || this.#active?.sealed === true) {
      await this.#synced();
      await this.#closeActive();
    }
    const current = this.#active;
    if (current !== undefined) {
      if (current.writtenBytes + bytes <= this.#packMaxBytes || current.writtenBytes <= PACK_HEADER_BYTES)
        return current;
      // A pack is complete on disk before the next begins: `#unsynced` is of one pack.
      await this.#synced();
      await this.#closeActive();
    }
    return await this.#createPack();
  }

  async #createPack(): Promise<ActivePack> {
    const { disk, dir, files, storeId, salt } = this.#options;
    const pack = this.#nextPack++;
    const file = await disk.open(files.path(pack), 'exclusive');
    try {
      await file.write([encodePackHeader({ storeId, salt, pack })], 0);
      await file.datasync();
      await disk.syncDir(dir);
    } catch (error) {
      await file.close().catch(() => undefined);
      await disk.unlink(files.path(pack)).catch(() => undefined);
      throw error;
    }
    files.setSize(pack, PACK_HEADER_BYTES);
    const bytes = PACK_HEADER_BYTES;
    this.#active = { pack, file, writtenBytes: bytes, syncedBytes: bytes, suspect: false, sealed: false };
    return this.#active;
  }

  #creationFailed(error: unknown): void {
    this.#countFailure(error);
    this.#refuse(this.#queue.splice(0), this.#unavailable(error));
  }

  async #writeFailed(active: ActivePack, queued: readonly Queued[], error: unknown): Promise<void> {
    if (!isFull(error) && !mayPass(error)) {
      await this.#becomeSuspect(active, error);
      this.#fail(queued, this.#unavailable(error));
      return;
    }
    this.#countFailure(error);
    await this.#synced();
    try {
      // What of the batch is in the file goes again; the pack stays as it was.
      if (!active.suspect) await active.file.truncate(active.writtenBytes);
    } catch (truncateError) {
      await this.#becomeSuspect(active, truncateError);
    }
    const blocks = queued.filter(({ record }) => record.data.length > 0);
    const small = queued.filter(({ record }) => record.data.length === 0);
    // Deletes give space back, so they get another chance without the blocks they were written with.
    if (isFull(error) && blocks.length > 0) {
      this.#fail(blocks, this.#unavailable(error));
      this.#options.onUncertain(small.map(({ record }) => record));
      this.#queue.unshift(...small);
    } else {
      this.#fail(queued, this.#unavailable(error));
    }
  }

  /** Nothing more is written to this pack, and what it has beyond the synced part does not count. */
  async #becomeSuspect(active: ActivePack, error: unknown): Promise<void> {
    if (active.suspect) return;
    active.suspect = true;
    this.#options.log.error(
      { pack: active.pack, syncedBytes: active.syncedBytes, error: String(error) },
      'a pack file could not be written; going on in another',
    );
    this.#countFailure(error);
    try {
      await this.#options.onSuspect(active.pack, active.syncedBytes);
    } catch (suspectError) {
      this.#stop(suspectError);
    }
  }

  #countFailure(error: unknown): void {
    if (isFull(error)) this.#options.onFull();
    if (isFull(error) || mayPass(error)) return;
    this.#failureCount++;
    if (this.#failureCount >= FAILURES_MAX) this.#stop(error);
  }

  #stop(error: unknown): void {
    this.#stopped ??= this.#broken(error);
    this.#options.log.error({ error: String(error) }, 'the block store takes no more writes: its disk fails');
  }

  #fail(queued: readonly Queued[], error: Error): void {
    this.#options.onUncertain(queued.map(({ record }) => record));
    this.#refuse(queued, error);
  }

  #refuse(queued: readonly Queued[], error: Error): void {
    for (const { reject } of queued) reject(error);
  }

  #unavailable(cause: unknown): Error {
    if (isFull(cause)) return this.#full(cause);
    if (!mayPass(cause)) return this.#broken(cause);
    return new UnavailableError(`the system could not write to ${this.#options.dir} now: ${String(cause)}`, {
      cause,
      remedy: 'Nothing if it passes: each write tries again. Else let this node have more open files or more memory.',
    });
  }

  #broken(cause: unknown): Error {
    return new UnavailableError(`the disk of ${this.#options.dir} could not make data durable`, {
      ...(cause === undefined ? {} : { cause }),
      remedy: 'Look at the system log for errors of this disk; replace the disk or restart this node.',
    });
  }

  #full(cause: unknown): Error {
    return new NoSpaceError(`no space left on the disk of ${this.#options.dir}`, {
      cause,
      remedy: 'Delete files and run "tatami gc", or add nodes or disks.',
    });
  }

  async #synced(): Promise<void> {
    while (this.#syncing) await new Promise<void>((resolve) => this.#syncedWaiters.push(resolve));
  }

  async #closeActive(): Promise<void> {
    const active = this.#active;
    this.#active = undefined;
    for (const wake of this.#idleWaiters.splice(0)) wake();
    // All that counts of it is synced, so a failing close loses nothing.
    await active?.file.close().catch(() => undefined);
  }

  #wakeIdle(): void {
    if (this.#writing || this.#syncing) return;
    for (const wake of this.#idleWaiters.splice(0)) wake();
  }
}

/** What was just written is read by few: the mount that wrote it has it, and the page cache has better uses. */
function writeRecords(file: DiskFile, buffers: readonly Uint8Array[], position: number): Promise<void> {
  return file.writePast === undefined ? file.write(buffers, position) : file.writePast(buffers, position);
}
