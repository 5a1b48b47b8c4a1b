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
import { MiB } from '../../limits.ts';
import type { Logger } from '../../log.ts';
import {
  SEGMENT_HEADER_BYTES,
  decodeRecord,
  decodeSegmentHeader,
  encodeRecord,
  encodeSegmentHeader,
  findRecord,
} from './log-record.ts';
import type { LogEntry } from './log-record.ts';

/** A new segment from here on: dropping old entries frees space in steps of this. */
const SEGMENT_BYTES = 16 * MiB;
/** Newest entries kept in memory: members that keep up are served from it. */
const RECENT_MAX_BYTES = 4 * MiB;
/** What an entry costs beyond its command. */
const ENTRY_OVERHEAD_BYTES = 120;

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
}

export class GroupLog {
  readonly #options: GroupLogOptions;
  readonly #segments: Segment[] = [];
  /** First seq of each epoch, ascending; begins with the base. */
  #epochs: { epoch: number; firstSeq: number }[] = [];
  readonly #recent = new Map<number, LogEntry>();
  #recentBytes = 0;
  #lastSeq = 0;
  #writtenSeq = 0;
  #syncedSeq = 0;
  /** Writes and truncations, one after the other. */
  #tail: Promise<unknown> = Promise.resolve();
  #queued: LogEntry[] = [];
  #queuedWrite: Promise<void> | undefined;
  #queuedSync: Promise<number> | undefined;
  #failure: unknown;

  private constructor(options: GroupLogOptions) {
    this.#options = options;
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
    for (const entry of entries) {
      if (entry.seq !== this.#lastSeq + 1) throw new StateError(`entry ${entry.seq} after ${this.#lastSeq}`);
      const lastEpoch = this.lastEpoch;
      if (entry.prevEpoch !== lastEpoch || entry.epoch < lastEpoch) {
        throw new StateError(
          `entry ${entry.seq} of epoch ${entry.epoch} says it follows epoch ${entry.prevEpoch}, not ${lastEpoch}`,
        );
      }
      if (entry.epoch !== lastEpoch) this.#epochs.push({ epoch: entry.epoch, firstSeq: entry.seq });
      this.#lastSeq = entry.seq;
      this.#remember(entry);
      this.#queued.push(entry);
    }
    this.#queuedWrite ??= this.#inLine(() => this.#writeQueued());
    return this.#queuedWrite;
  }

  async #writeQueued(): Promise<void> {
    this.#queuedWrite = undefined;
    const entries = this.#queued;
    this.#queued = [];
    if (entries.length === 0) return;
    let segment = this.#segments.at(-1)!;
    if (segment.sizeBytes >= SEGMENT_BYTES) segment = await this.#nextSegment(entries[0]!.seq, entries[0]!.prevEpoch);
    const records = entries.map((entry) => encodeRecord(entry, this.#syncedSeq));
    await segment.file.write([Buffer.concat(records)], segment.sizeBytes);
    for (const record of records) {
      segment.offsets.push(segment.sizeBytes);
      segment.sizeBytes += record.length;
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
      await segment.file.datasync();
      segment.synced = true;
    }
    this.#syncedSeq = upTo;
  }

  /** Entries from `fromSeq` on, at least one if there is one, up to about `maxBytes` and up to lastSeq. */
  async read(fromSeq: number, maxBytes: number): Promise<LogEntry[]> {
    if (fromSeq < this.firstSeq) throw new StateError(`entry ${fromSeq} is no longer in the log`);
    if (this.#recent.has(fromSeq) || fromSeq > this.#lastSeq) return this.#readRecent(fromSeq, maxBytes);
    return this.#inLine(() => this.#readFile(fromSeq, maxBytes));
  }

  /** As read, at once, if the entries are in memory. */
  readNow(fromSeq: number, maxBytes: number): LogEntry[] | undefined {
    return this.#recent.has(fromSeq) || fromSeq > this.#lastSeq ? this.#readRecent(fromSeq, maxBytes) : undefined;
  }

  #readRecent(fromSeq: number, maxBytes: number): LogEntry[] {
    const entries: LogEntry[] = [];
    let bytes = 0;
    for (let seq = fromSeq; seq <= this.#lastSeq && bytes < maxBytes; seq++) {
      const entry = this.#recent.get(seq);
      if (entry === undefined) break;
      entries.push(entry);
      bytes += entry.command.length + ENTRY_OVERHEAD_BYTES;
    }
    return entries;
  }

  async #readFile(fromSeq: number, maxBytes: number): Promise<LogEntry[]> {
    const segment = this.#segments.findLast((candidate) => candidate.firstSeq <= fromSeq);
    const from = segment?.offsets[fromSeq - segment.firstSeq];
    if (segment === undefined || from === undefined) return [];
    const wanted = segment.offsets.slice(fromSeq - segment.firstSeq).findIndex((offset) => offset - from >= maxBytes);
    const end = wanted < 0 ? segment.sizeBytes : segment.offsets[fromSeq - segment.firstSeq + wanted]!;
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
        await gone.file.close();
        await this.#options.disk.unlink(gone.path);
      }
      const segment = this.#segments.at(-1)!;
      const keep = seq - segment.firstSeq + 1;
      segment.sizeBytes = segment.offsets[keep] ?? segment.sizeBytes;
      segment.offsets.length = Math.min(segment.offsets.length, keep);
      await segment.file.truncate(segment.sizeBytes);
      await segment.file.datasync();
      await this.#options.disk.syncDir(this.#options.path);
      for (let gone = seq + 1; gone <= this.#lastSeq; gone++) this.#forget(gone);
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
        const gone = this.#segments.shift()!;
        await gone.file.close();
        await this.#options.disk.unlink(gone.path);
      }
      const first = this.#segments[0]!;
      while (this.#epochs.length > 1 && this.#epochs[1]!.firstSeq <= first.firstSeq - 1) this.#epochs.shift();
    });
  }

  /** After a full copy: the log is empty and goes on after (seq, epoch). Durable on return. */
  reset(seq: number, epoch: number): Promise<void> {
    return this.#inLine(async () => {
      this.#queued = [];
      const old = this.#segments.splice(0);
      for (const segment of old) await segment.file.close();
      // Newest first: a crash in between leaves a log that ends early, never one with a hole.
      for (const segment of old.reverse()) await this.#options.disk.unlink(segment.path);
      await this.#options.disk.syncDir(this.#options.path);
      this.#recent.clear();
      this.#recentBytes = 0;
      this.#lastSeq = this.#writtenSeq = this.#syncedSeq = seq;
      this.#epochs = [{ epoch, firstSeq: seq }];
      await this.#nextSegment(seq + 1, epoch);
    });
  }

  async close(): Promise<void> {
    if (this.#failure === undefined) await this.sync();
    await this.#tail;
    await this.#closeFiles();
  }

  async #closeFiles(): Promise<void> {
    for (const segment of this.#segments.splice(0)) await segment.file.close();
  }

  #inLine<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(async () => {
      if (this.#failure !== undefined) throw this.#failedError();
      try {
        return await work();
      } catch (error) {
        // After a failed write or sync nobody knows what is on disk: stop here, recovery reads it again.
        if (!(error instanceof StateError)) this.#failure = error;
        throw error;
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
    const name = `${path}/${firstSeq.toString(16).padStart(14, '0')}.log`;
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

  #remember(entry: LogEntry): void {
    this.#recent.set(entry.seq, entry);
    this.#recentBytes += entry.command.length + ENTRY_OVERHEAD_BYTES;
    // A Map keeps the order of insertion: the first is the oldest.
    for (const seq of this.#recent.keys()) {
      if (this.#recentBytes <= RECENT_MAX_BYTES || seq > this.#writtenSeq) break;
      this.#forget(seq);
    }
  }

  #forget(seq: number): void {
    const entry = this.#recent.get(seq);
    if (entry === undefined) return;
    this.#recent.delete(seq);
    this.#recentBytes -= entry.command.length + ENTRY_OVERHEAD_BYTES;
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
        if (!isLast) throw new CorruptionError(`${full} has no header`);
        await disk.unlink(full);
        break;
      }
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
