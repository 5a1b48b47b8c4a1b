/**
 * The table of one group on one node: applied state in memory over a sorted store on disk. Commands are applied
 * strictly in the order of their seq. The group's log makes them durable, the store follows: every so often an overlay
 * is written in one synced batch together with the seq up to which it was applied, while new commands go to another.
 * After a crash the log is replayed from `durableSeq`. See docs/decisions/0002.
 */
import { createHash } from 'node:crypto';
import type { RootOwner } from '../catalog/types.ts';
import type { Kv, KvOp } from '../env.ts';
import { FormatError, StateError, UnavailableError } from '../errors.ts';
import type { Ino, Seq, SessionId } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { MiB } from '../limits.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { ChangeFeed } from './change-feed.ts';
import { decodeCounters, encodeCounters, encodeInode, type Counters } from './codec.ts';
import { decodeCommand, type Command } from './commands.ts';
import * as keys from './keys.ts';
import { keyFromBytes, keyToBytes } from './keys.ts';
import { decodeLocks, type HeldLock } from './locks.ts';
import { applyCommand, initialCounters, initialRoot, type SessionTable } from './namespace.ts';
import { answeredByAll } from './orphans.ts';
import { outcomeError, Refusal, type Outcome } from './outcome.ts';
import { runQuery } from './queries.ts';
import { decodeSession, encodeSession, type Session } from './sessions.ts';
import { Table } from './table.ts';
import { Transaction, type RangeReads, type TableProgram } from './transaction.ts';
import type { Query, QueryOf, QueryResults } from './types.ts';

/** An answer that is known at once needs no promise. */
export type Maybe<T> = T | Promise<T>;

export interface AppliedEntry {
  readonly seq: Seq;
  readonly command: Uint8Array | Command;
  /** The command, where it was read before. */
  readonly decoded?: Command | undefined;
}

/** One row of a full copy. */
export interface TableItem {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

export interface TableExport {
  /** The copy holds exactly what was applied up to here. */
  readonly appliedSeq: Seq;
  /** Single use; ends the snapshot when it is finished or returned from. */
  readonly chunks: AsyncIterable<readonly TableItem[]>;
}

export interface SessionInfo {
  readonly id: SessionId;
  readonly label: string;
  readonly leaseMs: number;
  readonly openedNs: bigint;
}

export interface MetaStoreOptions {
  /** Owned by the caller, who closes it after the MetaStore. */
  readonly kv: Kv;
  /** Applied state kept in memory before it is written; up to twice as much while it is being written. */
  readonly overlayMaxBytes?: number;
  /** Awaited before applied commands are written to the store: has the log on disk that they came from. */
  readonly beforeWrite?: () => Promise<void>;
  /** Of the root directory of a table that is made. Invariant: the same on all members, whose tables must be equal. */
  readonly rootOwner?: RootOwner;
}

const TABLE_FORMAT = 'tatamifs metadata table';
const TABLE_FORMAT_VERSION = 1;
/** About the size of one chunk of a full copy: a frame's header holds it, and a few are in memory at once. */
const EXPORT_CHUNK_BYTES = 1 * MiB;
/** Rows deleted by one batch when an old copy is cleared. */
const CLEAR_PAGE_COUNT = 10_000;
/** Large enough to save writes of hot rows, small enough that one batch does not hold up the event loop for long. */
const OVERLAY_MAX_BYTES = 8 * MiB;
const RECLAIM_ROW_COUNT = 2048;

export class MetaStore {
  readonly #kv: Kv;
  readonly #table: Table;
  readonly #overlayMaxBytes: number;
  readonly #beforeWrite: (() => Promise<void>) | undefined;
  #onRelocked: ((ino: Ino) => void) | undefined;
  readonly #sessions: SessionTable = { open: new Map(), changed: new Set() };
  readonly #tx: Transaction;
  #counters: Counters = initialCounters();
  #feed = new ChangeFeed(0 as Seq);
  /** Of the command that is being applied. */
  #session: SessionId | undefined;
  #appliedSeq = 0 as Seq;
  /** appliedSeq of the frozen overlay. */
  #frozenSeq = 0 as Seq;
  #durableSeq = 0 as Seq;
  #incomplete = false;
  #applying = false;
  /** Flushes, copies and imports, one at a time. */
  #lastExclusive: Promise<unknown> = Promise.resolve();
  #queuedFlush: Promise<void> | undefined;

  private constructor({ kv, overlayMaxBytes, beforeWrite }: MetaStoreOptions) {
    this.#kv = kv;
    this.#overlayMaxBytes = overlayMaxBytes ?? OVERLAY_MAX_BYTES;
    this.#beforeWrite = beforeWrite;
    this.#table = new Table(kv);
    this.#tx = new Transaction(this.#table, this.#counters);
  }

  /** Opens the table, or makes an empty one. FormatError if it was written by a newer program. */
  static async open(options: MetaStoreOptions): Promise<MetaStore> {
    const store = new MetaStore(options);
    const format = options.kv.get(keyToBytes(keys.FORMAT_KEY));
    if (format === undefined) await store.#create(options.rootOwner);
    else checkFormat(format);
    store.#incomplete = options.kv.get(keyToBytes(keys.INCOMPLETE_KEY)) !== undefined;
    if (!store.#incomplete) await store.#load();
    return store;
  }

  /** The newest command that is applied. */
  get appliedSeq(): Seq {
    return this.#appliedSeq;
  }
  /** All up to here is on disk in the table: the log may be cut before the entry after it. */
  get durableSeq(): Seq {
    return this.#durableSeq;
  }
  /** A full copy was begun and not finished: this copy must not be served from, promoted or forced (R8). */
  get incomplete(): boolean {
    return this.#incomplete;
  }
  /** Numbers with rows still to be reclaimed. While it is not 0, the primary proposes {@link MetaStore.reclaimCommand}. */
  get deadCount(): number {
    return this.#counters.deadCount;
  }
  /** What applied state takes in memory. */
  get overlayBytes(): number {
    return this.#table.overlayBytes;
  }
  get gcGeneration(): number {
    return this.#counters.gcGeneration;
  }

  /** Removes a bounded number of rows that nobody can reach; undefined when there are none. */
  reclaimCommand(): Command | undefined {
    const { deadCount, orphansAnswered, orphanNumber } = this.#counters;
    const isSettled =
      orphansAnswered === orphanNumber ||
      answeredByAll(this.#counters, this.#sessions.open.values()) <= orphansAnswered;
    return deadCount === 0 && isSettled ? undefined : { kind: 'reclaim', maxRows: RECLAIM_ROW_COUNT };
  }
  /** The number of an orphan after which the session has yet to tell which others it has open; undefined if there is none. */
  orphansOwedAfter(id: SessionId): number | undefined {
    const answered = this.#sessions.open.get(id)?.orphansAnswered;
    return answered === undefined || answered >= this.#counters.orphanNumber ? undefined : answered;
  }

  /** Sessions that are open, for the primary's leases. */
  sessions(): SessionInfo[] {
    return [...this.#sessions.open].map(([id, { label, leaseMs, openedNs }]) => ({ id, label, leaseMs, openedNs }));
  }
  hasSession(id: SessionId): boolean {
    return this.#sessions.open.has(id);
  }
  /** The recorded outcome of a request, if it was applied and is not yet acknowledged. */
  recordedOutcome(id: SessionId, requestId: number): Outcome | undefined {
    return this.#sessions.open.get(id)?.results.get(requestId);
  }

  /** Called from now on for each file whose locks a command has changed, once it is applied. One watcher. */
  watchLocks(onRelocked: (ino: Ino) => void): void {
    this.#onRelocked = onRelocked;
  }
  /** Locks of a file, as applied. */
  locksOf(ino: Ino): readonly HeldLock[] {
    const row = this.#table.get(keys.lockKey(ino));
    return row === undefined ? [] : decodeLocks(row);
  }

  /**
   * Applies entries, whose seqs must follow on appliedSeq without a gap. `onOutcome` is called for each, in order, as
   * soon as it is applied. Returns nothing if all could be done at once; else a promise, before whose end the next call
   * must not come. After an error (the store cannot be read or written) appliedSeq tells how far it got; the rest may
   * be tried again.
   */
  apply(entries: readonly AppliedEntry[], onOutcome?: (seq: Seq, outcome: Outcome) => void): Maybe<void> {
    if (this.#applying) throw new StateError('apply was called before the earlier call had ended');
    this.#requireComplete();
    for (let at = 0; at < entries.length; at++) {
      const entry = entries[at]!;
      if (this.#mustWait()) return this.#applyRest(entries, at, onOutcome);
      const program = this.#begin(entry);
      const step = program.next();
      if (step.done !== true) return this.#applyRest(entries, at, onOutcome, program, step.value);
      this.#finish(entry.seq, step.value, onOutcome);
    }
  }

  async #applyRest(
    entries: readonly AppliedEntry[],
    from: number,
    onOutcome: ((seq: Seq, outcome: Outcome) => void) | undefined,
    begun?: TableProgram<Outcome>,
    reads?: RangeReads,
  ): Promise<void> {
    this.#applying = true;
    try {
      if (begun !== undefined) {
        const outcome = await this.#drive(begun, reads!, this.#tx);
        this.#finish(entries[from]!.seq, outcome, onOutcome);
      }
      for (let at = begun === undefined ? from : from + 1; at < entries.length; at++) {
        const entry = entries[at]!;
        if (this.#mustWait()) await this.flush();
        const program = this.#begin(entry);
        const step = program.next();
        const outcome = step.done === true ? step.value : await this.#drive(program, step.value, this.#tx);
        this.#finish(entry.seq, outcome, onOutcome);
      }
    } finally {
      this.#applying = false;
    }
  }

  #begin(entry: AppliedEntry): TableProgram<Outcome> {
    if (entry.seq !== this.#appliedSeq + 1) {
      throw new StateError(`entry ${entry.seq} cannot be applied after entry ${this.#appliedSeq}`);
    }
    const { command: given } = entry;
    const command = entry.decoded ?? (given instanceof Uint8Array ? decodeCommand(given) : given);
    this.#tx.restart(this.#counters);
    this.#session = command.kind === 'client' ? command.session : undefined;
    return applyCommand(this.#tx, this.#sessions, command);
  }

  async #drive<T>(program: TableProgram<T>, reads: RangeReads, tx?: Transaction): Promise<T> {
    for (;;) {
      const step = program.next(await this.#table.read(reads, tx?.writes));
      if (step.done === true) return step.value;
      reads = step.value;
    }
  }

  #finish(seq: Seq, outcome: Outcome, onOutcome: ((seq: Seq, outcome: Outcome) => void) | undefined): void {
    this.#feed.applied(seq, this.#session, this.#tx.writes.rowKeys());
    this.#table.absorb(this.#tx.writes);
    this.#counters = this.#tx.counters;
    this.#appliedSeq = seq;
    if (this.#table.activeBytes >= this.#overlayMaxBytes && this.#queuedFlush === undefined && !this.#table.hasFrozen) {
      // An error shows again at the next flush that someone waits for; meanwhile everything is still in memory and log.
      this.flush().catch(() => undefined);
    }
    onOutcome?.(seq, outcome);
    if (this.#onRelocked !== undefined) for (const ino of this.#tx.relocked) this.#onRelocked(ino);
  }

  /** Back-pressure: the disk is slower than the commands. */
  #mustWait(): boolean {
    return this.#table.activeBytes >= 2 * this.#overlayMaxBytes;
  }

  /**
   * Answers from what is applied at the time of the call. Throws (or rejects with) FsError for the file conditions.
   * A page's attributes of *other* inodes (readdir with attributes) may be newer than the page.
   */
  query<Op extends Query['op']>(query: QueryOf<Op>): Maybe<QueryResults[Op]> {
    this.#requireComplete();
    const program = runQuery(
      {
        get: (key) => this.#table.get(key),
        counters: this.#counters,
        feed: this.#feed,
        sessionLabel: (id) => this.#sessions.open.get(id)?.label ?? '',
      },
      query,
    );
    try {
      const step = program.next();
      if (step.done === true) return step.value as QueryResults[Op];
      return this.#drive(program, step.value).catch(rethrow) as Promise<QueryResults[Op]>;
    } catch (error) {
      return rethrow(error);
    }
  }

  /** Everything applied before the call is in the store, on disk, when it resolves. */
  flush(): Promise<void> {
    this.#queuedFlush ??= this.#exclusive(async () => {
      this.#queuedFlush = undefined;
      await this.#flushNow();
    });
    return this.#queuedFlush;
  }

  async #flushNow(): Promise<void> {
    // Left over from a flush that failed.
    if (this.#table.hasFrozen) await this.#writeFrozen();
    if (this.#incomplete || this.#appliedSeq === this.#durableSeq) return;
    this.#table.set(keys.COUNTERS_KEY, encodeCounters(this.#counters));
    for (const id of this.#sessions.changed) {
      const session = this.#sessions.open.get(id);
      this.#table.set(keys.sessionKey(id), session === undefined ? undefined : encodeSession(session));
    }
    this.#sessions.changed.clear();
    this.#table.set(keys.APPLIED_KEY, encodeSeq(this.#appliedSeq));
    this.#frozenSeq = this.#appliedSeq;
    this.#table.freeze();
    await this.#writeFrozen();
  }

  async #writeFrozen(): Promise<void> {
    await this.#beforeWrite?.();
    await this.#table.writeFrozen();
    this.#durableSeq = this.#frozenSeq;
  }

  #exclusive<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#lastExclusive.then(task);
    this.#lastExclusive = run.catch(() => undefined);
    return run;
  }

  /** A full copy for a learner (SyncPull): what is applied now, from one snapshot, while applying goes on. */
  export(): Promise<TableExport> {
    this.#requireComplete();
    return this.#exclusive(async () => {
      await this.#flushNow();
      const appliedSeq = this.#durableSeq;
      const scan = this.#table.scan(keys.TABLE_START, keys.TABLE_END);
      // The snapshot is taken before any later flush may write.
      const first = await scan.first;
      async function* chunks(): AsyncGenerator<readonly TableItem[]> {
        try {
          let items: TableItem[] = [];
          let bytes = 0;
          for (let next = first; next.done !== true; next = await scan.next()) {
            for (const [key, value] of next.value) {
              items.push({ key, value });
              bytes += key.length + value.length;
              if (bytes < EXPORT_CHUNK_BYTES) continue;
              yield items;
              items = [];
              bytes = 0;
            }
          }
          if (items.length > 0) yield items;
        } finally {
          await scan.close();
        }
      }
      return { appliedSeq, chunks: chunks() };
    });
  }

  /** SHA-256 over the whole table: replicas with one appliedSeq have one digest. */
  async digest(): Promise<{ readonly appliedSeq: Seq; readonly digest: string }> {
    const { appliedSeq, chunks } = await this.export();
    const hash = createHash('sha256');
    const lengths = Buffer.alloc(8);
    for await (const items of chunks) {
      for (const { key, value } of items) {
        lengths.writeUInt32LE(key.length, 0);
        lengths.writeUInt32LE(value.length, 4);
        hash.update(lengths).update(key).update(value);
      }
    }
    return { appliedSeq, digest: hash.digest('hex') };
  }

  /** Durably marks this copy incomplete, then empties it (R8). Until finishImport it neither applies nor answers. */
  beginImport(): Promise<void> {
    if (this.#applying) throw new StateError('a full copy cannot begin while commands are applied');
    this.#incomplete = true;
    return this.#exclusive(async () => {
      this.#table.clear();
      this.#sessions.open.clear();
      this.#sessions.changed.clear();
      await this.#kv.batch([{ key: keyToBytes(keys.INCOMPLETE_KEY), value: Uint8Array.of(1) }], { sync: true });
      await this.#clearStore();
    });
  }

  async #clearStore(): Promise<void> {
    for (let left = true; left;) {
      const ops: KvOp[] = [];
      const range = { gte: keyToBytes(keys.TABLE_START), lt: keyToBytes(keys.TABLE_END), limit: CLEAR_PAGE_COUNT };
      for await (const [key] of this.#kv.scan(range)) ops.push({ key });
      if (ops.length > 0) await this.#kv.batch(ops, { sync: true });
      left = ops.length === CLEAR_PAGE_COUNT;
    }
  }

  /** Adds rows of a full copy. Throws FormatError for rows that no table has. */
  importChunk(items: readonly TableItem[]): Promise<void> {
    if (!this.#incomplete) throw new StateError('importChunk outside of an import');
    const ops = items.map(({ key, value }) => {
      const text = keyFromBytes(key);
      if (text < keys.TABLE_START || text >= keys.TABLE_END)
        throw new FormatError('a full copy holds a row of no known kind');
      return { key, value };
    });
    return this.#exclusive(() => this.#kv.batch(ops, { sync: true }));
  }

  /** All rows have come: from here on this copy is as the other was at `appliedSeq`. */
  finishImport(appliedSeq: Seq): Promise<void> {
    if (!this.#incomplete) throw new StateError('finishImport outside of an import');
    return this.#exclusive(async () => {
      for (const key of [keys.COUNTERS_KEY, keys.inodeKey(ROOT_INO)]) {
        if (this.#kv.get(keyToBytes(key)) === undefined)
          throw new FormatError('the full copy lacks the root or the counters');
      }
      await this.#kv.batch(
        [{ key: keyToBytes(keys.APPLIED_KEY), value: encodeSeq(appliedSeq) }, { key: keyToBytes(keys.INCOMPLETE_KEY) }],
        { sync: true },
      );
      await this.#load();
      // A question that began before the copy may have read rows of the old table meanwhile.
      this.#table.clear();
      this.#incomplete = false;
    });
  }

  /** Writes what is in memory; the store (Kv) is its owner's to close. */
  async close(): Promise<void> {
    if (!this.#incomplete) await this.flush();
    await this.#lastExclusive;
  }

  async #create(rootOwner: RootOwner | undefined): Promise<void> {
    const format = new ByteWriter().text(TABLE_FORMAT).u32(TABLE_FORMAT_VERSION).finish();
    const rows: [string, Uint8Array][] = [
      [keys.FORMAT_KEY, format],
      [keys.APPLIED_KEY, encodeSeq(0 as Seq)],
      [keys.COUNTERS_KEY, encodeCounters(initialCounters())],
      [keys.inodeKey(ROOT_INO), encodeInode(initialRoot(rootOwner))],
    ];
    await this.#kv.batch(
      rows.map(([key, value]) => ({ key: keyToBytes(key), value })),
      { sync: true },
    );
  }

  async #load(): Promise<void> {
    this.#appliedSeq = this.#frozenSeq = this.#durableSeq = decodeSeq(this.#required(keys.APPLIED_KEY));
    this.#counters = decodeCounters(this.#required(keys.COUNTERS_KEY));
    this.#feed = new ChangeFeed(this.#appliedSeq);
    this.#sessions.open.clear();
    this.#sessions.changed.clear();
    const range = { gte: keyToBytes('s'), lt: keyToBytes(keys.prefixEnd('s')) };
    for await (const [key, value] of this.#kv.scan(range)) {
      const session: Session = decodeSession(value);
      this.#sessions.open.set(Buffer.from(key.subarray(1)).toString('hex') as SessionId, session);
    }
  }

  #required(key: string): Uint8Array {
    const value = this.#kv.get(keyToBytes(key));
    if (value === undefined) {
      throw new FormatError('the metadata table lacks one of its own rows', {
        remedy: 'Move this node’s group directory away; it then takes a full copy from another node.',
      });
    }
    return value;
  }

  #requireComplete(): void {
    if (!this.#incomplete) return;
    throw new UnavailableError('this copy of the metadata is incomplete: a full copy was begun and not finished');
  }
}

function rethrow(error: unknown): never {
  throw error instanceof Refusal ? outcomeError(error.code) : error;
}

function checkFormat(bytes: Uint8Array): void {
  const r = new ByteReader(bytes, 'the format row of the metadata table');
  if (r.text() !== TABLE_FORMAT) throw new FormatError('this is not a metadata table of tatamifs');
  const version = r.u32();
  if (version > TABLE_FORMAT_VERSION) {
    throw new FormatError(
      `the metadata table has format ${version}; this program knows up to ${TABLE_FORMAT_VERSION}`,
      {
        remedy: 'Run a newer tatamifs on this node.',
      },
    );
  }
}

function encodeSeq(seq: Seq): Uint8Array {
  return new ByteWriter().u53(seq).finish();
}

function decodeSeq(bytes: Uint8Array): Seq {
  return new ByteReader(bytes, 'the applied seq of the metadata table').u53() as Seq;
}
