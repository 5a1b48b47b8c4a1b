/**
 * A group's log on disk: segments of records, appended, synced in groups, cut at the end (R7, R8) and dropped at the
 * beginning once the table holds what they say.
 *
 * Invariant: records of consecutive seqs, each naming its predecessor's epoch; epochs never fall.
 * Invariant: what `append` has resolved for is with the operating system; what `sync` has resolved for is on disk.
 */
import type { Disk, DiskFile } from '../../env.ts';
import { CorruptionError, StateError } from '../../errors.ts';
import type { Epoch, Seq } from '../../ids.ts';
import { KiB, MiB } from '../../limits.ts';
import type { Logger } from '../../log.ts';
import {
  SEGMENT_HEADER_BYTES,
  decodeRecord,
  decodeSegmentHeader,
  encodeRecords,
  encodeSegmentHeader,
  findRecord,
  recordBytes,
} from './log-record.ts';
import type { LogEntry } from './log-record.ts';
import { RecentEntries, entryBytes } from './recent-entries.ts';

/** A new segment from here on: dropping old entries frees space in steps of this. */
const SEGMENT_BYTES = 16 * MiB;
/** Newest entries kept in memory: members that keep up are served from it. */
const RECENT_MAX_BYTES = 4 * MiB;
/** Up to this, a batch is written at once rather than in a thread: every writer of the batch waits for it. */
const WRITE_NOW_BYTES = 64 * KiB;

interface Segment {
  readonly path: string;
  readonly file: DiskFile;
  readonly firstSeq: number;
  readonly baseEpoch: number;
  /** Byte position of each record. */
  readonly offsets: number[];
  sizeBytes: number;
  synced: boolean;
}

/** Last seq of each epoch in the log, ascending: enough to find where two logs part. */
export type EpochEnds = readonly (readonly [epoch: number, lastSeq: number])[];

export interface GroupLogOptions {
  readonly disk: Disk;
  readonly path: string;
  readonly log: Logger;
  /** Default {@link SEGMENT_BYTES}. */
  readonly segmentBytes?: number;
  /** Default {@link RECENT_MAX_BYTES}. */
  readonly recentMaxBytes?: number;
}

export class GroupLog {
  readonly #options: GroupLogOptions;
  readonly #segmentBytes: number;
  readonly #recentMaxBytes: number;
  readonly #segments: Segment[] = [];
  /** First seq of each epoch, ascending; begins with the base. */
  #epochs: { epoch: number; firstSeq: number }[] = [];
  readonly #recent = new RecentEntries();
  #lastSeq = 0;
  #writtenSeq = 0;
  #syncedSeq = 0;
  /** Writes and truncations, one after the other. */
  #tail: Promise<unknown> = Promise.resolve();
  /** Of those, how many have not ended. */
  #inLineCount = 0;
  /** What is first in line waits for the disk: entries may be written meanwhile. */
  #syncing = false;
  #queued: LogEntry[] = [];
  #queuedWrite: Promise<void> | undefined;
  #queuedSync: Promise<number> | undefined;
  #failure: unknown;

  private constructor(options: GroupLogOptions) {
    this.#options = options;
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    this.#recentMaxBytes = options.recentMaxBytes ?? RECENT_MAX_BYTES;
  }

  /** Opens or makes the log. CorruptionError when what had been synced is damaged: the member needs a full copy. */
  static async open(options: GroupLogOptions): Promise<GroupLog> {
    const log = new GroupLog(options);
    await options.disk.mkdir(options.path);
    try {
      await log.#recover();
    } catch (error) {
      await log.#closeFiles();
      throw error;
    }
    return log;
  }

  /** First entry that is here; lastSeq + 1 when there is none. */
  get firstSeq(): number {
    return this.#segments[0]?.firstSeq ?? 1;
  }
  /** Newest entry, written or on its way. */
  get lastSeq(): Seq {
    return this.#lastSeq as Seq;
  }
  get lastEpoch(): Epoch {
    return this.#epochs.at(-1)!.epoch as Epoch;
  }
  /** With the operating system up to here. */
  get writtenSeq(): number {
    return this.#writtenSeq;
  }
  /** On disk up to here. */
  get syncedSeq(): number {
    return this.#syncedSeq;
  }
  /** A write or sync failed: it takes nothing more. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }
  get sizeBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  }

  /** Epoch of an entry that is here, or of the one before the first; undefined otherwise. */
  epochAt(seq: number): Epoch | undefined {
    if (seq < this.firstSeq - 1 || seq > this.#lastSeq) return undefined;
    let found = this.#epochs[0]!.epoch;
    for (const { epoch, firstSeq } of this.#epochs) {
      if (firstSeq > seq) break;
      found = epoch;
    }
    return found as Epoch;
  }

  epochEnds(): EpochEnds {
    return this.#epochs.map(({ epoch }, index) => [
      epoch,
      (this.#epochs[index + 1]?.firstSeq ?? this.#lastSeq + 1) - 1,
    ]);
  }

  /** Resolves when all entries are with the operating system. Many calls in a row become one write. */
  append(entries: readonly LogEntry[]): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failedError());
    for (const entry of entries) this.#take(entry);
    this.#queuedWrite ??= this.#writeSoon();
    return this.#queuedWrite;
  }

  /**
   * As append, before it returns, where nothing is to be waited for; false: nothing was done, use append. Throws what
   * append rejects with. Saves whoever answers a push a chain of promises.
   */
  appendNow(entries: readonly LogEntry[]): boolean {
    if (this.#failure !== undefined) throw this.#failedError();
    if (this.#queued.length > 0 || entries.length === 0 || !this.#mayWriteNow(entries)) return false;
    for (const entry of entries) this.#take(entry);
    this.#writeQueuedNow();
    return true;
  }

  #take(entry: LogEntry): void {
    if (entry.seq !== this.#lastSeq + 1) throw new StateError(`entry ${entry.seq} after ${this.#lastSeq}`);
    const lastEpoch = this.lastEpoch;
    if (entry.prevEpoch !== lastEpoch || entry.epoch < lastEpoch) {
      throw new StateError(
        `entry ${entry.seq} of epoch ${entry.epoch} says it follows epoch ${entry.prevEpoch}, not ${lastEpoch}`,
      );
    }
    if (entry.epoch !== lastEpoch) this.#epochs.push({ epoch: entry.epoch, firstSeq: entry.seq });
    this.#lastSeq = entry.seq;
    this.#recent.add(entry);
    this.#recent.shrink(this.#recentMaxBytes, this.#writtenSeq);
    this.#queued.push(entry);
  }

  /** Once all that is appended in this turn is there; in line only behind something else. */
  async #writeSoon(): Promise<void> {
    await Promise.resolve();
    if (this.#failure !== undefined) throw this.#failedError();
    if (this.#queued.length > 0 && this.#mayWriteNow(this.#queued)) this.#writeQueuedNow();
    else await this.#inLine(() => this.#writeQueued());
  }

  /** Whether it is their turn, and they can be written at once: few bytes, and no new segment is due. */
  #mayWriteNow(entries: readonly LogEntry[]): boolean {
    if (this.#inLineCount > (this.#syncing ? 1 : 0)) return false;
    const segment = this.#segments.at(-1)!;
    if (segment.file.writeNow === undefined || segment.sizeBytes >= this.#segmentBytes) return false;
    let bytes = 0;
    for (const entry of entries) bytes += recordBytes(entry);
    return bytes <= WRITE_NOW_BYTES;
  }

  #writeQueuedNow(): void {
    this.#queuedWrite = undefined;
    const entries = this.#queued;
    this.#queued = [];
    const segment = this.#segments.at(-1)!;
    try {
      segment.file.writeNow?.(encodeRecords(entries, this.#syncedSeq), segment.sizeBytes);
    } catch (error) {
      this.#failure = error;
      throw error;
    }
    this.#written(segment, entries);
  }

  async #writeQueued(): Promise<void> {
    this.#queuedWrite = undefined;
    const entries = this.#queued;
    this.#queued = [];
    if (entries.length === 0) return;
    let segment = this.#segments.at(-1)!;
    if (segment.sizeBytes >= this.#segmentBytes)
      segment = await this.#nextSegment(entries[0]!.seq, entries[0]!.prevEpoch);
    const bytes = encodeRecords(entries, this.#syncedSeq);
    const { file, sizeBytes } = segment;
    if (bytes.length <= WRITE_NOW_BYTES && file.writeNow !== undefined) file.writeNow(bytes, sizeBytes);
    else await file.write([bytes], sizeBytes);
    this.#written(segment, entries);
  }

  #written(segment: Segment, entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      segment.offsets.push(segment.sizeBytes);
      segment.sizeBytes += recordBytes(entry);
    }
    segment.synced = false;
    this.#writtenSeq = entries.at(-1)!.seq;
  }

  /** Resolves with a seq up to which all is on disk, at least what was appended before the call. */
  sync(): Promise<number> {
    if (this.#failure !== undefined) return Promise.reject(this.#failedError());
    if (this.#queued.length === 0 && this.#syncedSeq >= this.#lastSeq) return Promise.resolve(this.#syncedSeq);
    this.#queuedSync ??= this.#inLine(async () => {
      this.#queuedSync = undefined;
      await this.#writeQueued();
      await this.#syncSegments();
      return this.#syncedSeq;
    });
    return this.#queuedSync;
  }

  async #syncSegments(): Promise<void> {
    const upTo = this.#writtenSeq;
    for (const segment of this.#segments) {
      if (segment.synced) continue;
      const { sizeBytes } = segment;
      this.#syncing = true;
      try {
        await segment.file.datasync();
      } finally {
        this.#syncing = false;
      }
      // What was written meanwhile may not be on disk.
      segment.synced = segment.sizeBytes === sizeBytes;
    }
    this.#syncedSeq = upTo;
  }

  /** Entries from `fromSeq` on to `toSeq`, at least one if there is one, up to about `maxBytes`. */
  async read(fromSeq: number, maxBytes: number, toSeq = this.#lastSeq): Promise<LogEntry[]> {
    const recent = this.readNow(fromSeq, maxBytes, toSeq);
    return recent ?? this.#inLine(() => this.#readFile(fromSeq, maxBytes, toSeq));
  }

  /** As read, at once, if the entries are in memory. */
  readNow(fromSeq: number, maxBytes: number, toSeq = this.#lastSeq): LogEntry[] | undefined {
    if (fromSeq < this.firstSeq) throw new StateError(`entry ${fromSeq} is no longer in the log`);
    const lastSeq = Math.min(toSeq, this.#lastSeq);
    if (fromSeq <= lastSeq && this.#recent.get(fromSeq) === undefined) return undefined;
    const entries: LogEntry[] = [];
    let bytes = 0;
    for (let seq = fromSeq; seq <= lastSeq && bytes < maxBytes; seq++) {
      const entry = this.#recent.get(seq);
      if (entry === undefined) break;
      entries.push(entry);
      bytes += entryBytes(entry);
    }
    return entries;
  }

  async #readFile(fromSeq: number, maxBytes: number, toSeq: number): Promise<LogEntry[]> {
    const segment = this.#segments.findLast((candidate) => candidate.firstSeq <= fromSeq);
    const from = segment?.offsets[fromSeq - segment.firstSeq];
    // Dropped, or cut off, between the call and its turn.
    if (segment === undefined || from === undefined) return [];
    let next = fromSeq - segment.firstSeq + 1;
    while (next < segment.offsets.length && next + segment.firstSeq <= toSeq) {
      if (segment.offsets[next]! - from >= maxBytes) break;
      next++;
    }
    const end = segment.offsets[next] ?? segment.sizeBytes;
    const bytes = new Uint8Array(end - from);
    await segment.file.read(bytes, from);
    const entries: LogEntry[] = [];
    for (let at = 0; at < bytes.length;) {
      const record = decodeRecord(bytes, at);
      if (record === undefined || record.entry.seq !== fromSeq + entries.length) {
        throw new CorruptionError(`${segment.path} is damaged at entry ${fromSeq + entries.length}`);
      }
      entries.push(record.entry);
      at = record.end;
    }
    return entries;
  }

  /** Drops all entries after `seq`, durably. */
  truncateAfter(seq: number): Promise<void> {
    return this.#inLine(async () => {
      await this.#writeQueued();
      if (seq >= this.#lastSeq) return;
      if (seq < this.firstSeq - 1) throw new StateError(`cannot cut the log back to ${seq}`);
      while (this.#segments.length > 1 && this.#segments.at(-1)!.firstSeq > seq + 1) {
        const gone = this.#segments.pop()!;
        await this.#removeSegment(gone);
      }
      const segment = this.#segments.at(-1)!;
      const keep = seq - segment.firstSeq + 1;
      segment.sizeBytes = segment.offsets[keep] ?? segment.sizeBytes;
      segment.offsets.length = Math.min(segment.offsets.length, keep);
      await segment.file.truncate(segment.sizeBytes);
      await segment.file.datasync();
      this.#recent.truncateAfter(seq);
      while (this.#epochs.length > 1 && this.#epochs.at(-1)!.firstSeq > seq) this.#epochs.pop();
      this.#lastSeq = seq;
      this.#writtenSeq = seq;
      this.#syncedSeq = Math.min(this.#syncedSeq, seq);
    });
  }

  /** Frees segments that hold only entries below `seq`. */
  dropBelow(seq: number): Promise<void> {
    return this.#inLine(async () => {
      while (this.#segments.length > 1 && this.#segments[1]!.firstSeq <= seq) {
        await this.#removeSegment(this.#segments.shift()!);
      }
      const first = this.#segments[0]!;
      while (this.#epochs.length > 1 && this.#epochs[1]!.firstSeq <= first.firstSeq - 1) this.#epochs.shift();
    });
  }

  /** After a full copy: the log is empty and goes on after (seq, epoch). Durable on return. */
  reset(seq: number, epoch: number): Promise<void> {
    return this.#inLine(async () => {
      this.#queued = [];
      // Newest first: a crash in between leaves a log that ends early, never one with a hole.
      for (const segment of this.#segments.splice(0).reverse()) await this.#removeSegment(segment);
      this.#recent.clear();
      this.#lastSeq = this.#writtenSeq = this.#syncedSeq = seq;
      this.#epochs = [{ epoch, firstSeq: seq }];
      await this.#nextSegment(seq + 1, epoch);
    });
  }

  /** Its name is gone from the disk before another one's goes: names reach the disk in any order, a hole is damage. */
  async #removeSegment(segment: Segment): Promise<void> {
    const { disk, path } = this.#options;
    await segment.file.close();
    await disk.unlink(segment.path);
    await disk.syncDir(path);
  }

  /** First seq of the newest segments that together take at most `maxBytes` (but always of the last). */
  keepFromSeq(maxBytes: number): number {
    let bytes = 0;
    let from = this.#lastSeq + 1;
    for (const segment of [...this.#segments].reverse()) {
      bytes += segment.sizeBytes;
      if (bytes > maxBytes && from <= this.#lastSeq) break;
      from = segment.firstSeq;
    }
    return from;
  }

  /** Rejects unless all that was ever appended is on disk. */
  async close(): Promise<void> {
    if (this.#failure === undefined) await this.sync();
    await this.#tail;
    await this.#closeFiles();
    if (this.#failure !== undefined) throw this.#failedError();
  }

  async #closeFiles(): Promise<void> {
    for (const segment of this.#segments.splice(0)) await segment.file.close();
  }

  #inLine<T>(work: () => Promise<T>): Promise<T> {
    this.#inLineCount++;
    const run = this.#tail.then(async () => {
      try {
        if (this.#failure !== undefined) throw this.#failedError();
        return await work();
      } catch (error) {
        // After a failed write or sync nobody knows what is on disk: stop here, recovery reads it again.
        if (!(error instanceof StateError)) this.#failure ??= error;
        throw error;
      } finally {
        this.#inLineCount--;
      }
    });
    this.#tail = run.catch(() => undefined);
    return run;
  }

  #failedError(): CorruptionError {
    return new CorruptionError(
      `the log ${this.#options.path} failed and takes nothing more: ${String(this.#failure)}`,
      {
        cause: this.#failure,
        remedy: 'See to the disk (full, failing?), then restart the node.',
      },
    );
  }

  async #nextSegment(firstSeq: number, baseEpoch: number): Promise<Segment> {
    const { disk, path } = this.#options;
    const last = this.#segments.at(-1);
    if (last !== undefined && !last.synced) {
      await last.file.datasync();
      last.synced = true;
      this.#syncedSeq = this.#writtenSeq;
    }
    const name = `${path}/${segmentName(firstSeq)}`;
    await disk.remove(name);
    const file = await disk.open(name, 'exclusive');
    await file.write([encodeSegmentHeader({ firstSeq, baseEpoch })], 0);
    await file.datasync();
    await disk.syncDir(path);
    const segment = {
      path: name,
      file,
      firstSeq,
      baseEpoch,
      offsets: [],
      sizeBytes: SEGMENT_HEADER_BYTES,
      synced: true,
    };
    this.#segments.push(segment);
    return segment;
  }

  // Recovery

  async #recover(): Promise<void> {
    const { disk, path } = this.#options;
    const names = (await disk.readdir(path)).filter((name) => name.endsWith('.log')).sort();
    let syncedSeq = 0;
    for (const [index, name] of names.entries()) {
      const full = `${path}/${name}`;
      const bytes = await disk.readFile(full);
      const isLast = index === names.length - 1;
      const header = decodeSegmentHeader(bytes);
      if (header === undefined) {
        // The header is on disk before the first record is written: with records behind it, it is damaged.
        if (!isLast || bytes.length > SEGMENT_HEADER_BYTES) throw new CorruptionError(`${full} has no sound header`);
        await disk.unlink(full);
        await disk.syncDir(path);
        break;
      }
      if (segmentName(header.firstSeq) !== name) throw new CorruptionError(`${full} is not what its name says`);
      if (this.#segments.length > 0 && header.firstSeq !== this.#lastSeq + 1) {
        throw new CorruptionError(`entries ${this.#lastSeq + 1} to ${header.firstSeq - 1} are missing from ${path}`);
      }
      syncedSeq = Math.max(syncedSeq, await this.#recoverSegment(full, bytes, header, isLast));
    }
    if (this.#segments.length === 0) {
      this.#epochs = [{ epoch: 0, firstSeq: 0 }];
      await this.#nextSegment(1, 0);
    }
    this.#writtenSeq = this.#lastSeq;
    this.#syncedSeq = Math.min(syncedSeq, this.#lastSeq);
    if (syncedSeq > this.#lastSeq) {
      throw new CorruptionError(`${path} ends at entry ${this.#lastSeq}, but had been on disk up to ${syncedSeq}`);
    }
  }

  /** Returns the highest synced seq that any of its records names. */
  async #recoverSegment(
    path: string,
    bytes: Uint8Array,
    header: { firstSeq: number; baseEpoch: number },
    isLast: boolean,
  ): Promise<number> {
    if (this.#segments.length === 0) {
      this.#epochs = [{ epoch: header.baseEpoch, firstSeq: header.firstSeq - 1 }];
      this.#lastSeq = header.firstSeq - 1;
    }
    const offsets: number[] = [];
    let at = SEGMENT_HEADER_BYTES;
    let syncedSeq = 0;
    for (;;) {
      const record = decodeRecord(bytes, at);
      if (record === undefined || record.entry.seq !== this.#lastSeq + 1) break;
      if (record.entry.prevEpoch !== this.lastEpoch)
        throw new CorruptionError(`${path}: epochs do not follow at ${record.entry.seq}`);
      if (record.entry.epoch !== this.lastEpoch) {
        this.#epochs.push({ epoch: record.entry.epoch, firstSeq: record.entry.seq });
      }
      this.#lastSeq = record.entry.seq;
      syncedSeq = Math.max(syncedSeq, record.syncedSeq);
      offsets.push(at);
      at = record.end;
    }
    // Records that survive behind a bad one tell whether it had been on disk.
    for (let later = findRecord(bytes, at); later !== undefined; later = findRecord(bytes, later.end)) {
      syncedSeq = Math.max(syncedSeq, later.syncedSeq);
    }
    if (at < bytes.length && (!isLast || syncedSeq > this.#lastSeq)) {
      throw new CorruptionError(`${path} is damaged after entry ${this.#lastSeq}`);
    }
    const file = await this.#options.disk.open(path, 'write');
    this.#segments.push({ path, file, ...header, offsets, sizeBytes: at, synced: false });
    if (at < bytes.length) {
      this.#options.log.warn({ path, droppedBytes: bytes.length - at }, 'dropped a torn end of the log');
      await file.truncate(at);
      await file.datasync();
    }
    return syncedSeq;
  }
}

/** Names sort as their seqs do. */
function segmentName(firstSeq: number): string {
  return `${firstSeq.toString(16).padStart(14, '0')}.log`;
}
