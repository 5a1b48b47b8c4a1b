/**
 * Write-back of a mount. Written bytes are copied into dirty runs; a block that is full leaves at once, the rest on
 * flush, fsync, age or want of memory. A run that leaves becomes a piece: it is put as a block (or goes inline), and
 * kept until the one commit that names it is acknowledged.
 *
 * What holds:
 * - an append of which more may be to come is not committed before its rest is there (append-rest.ts);
 * - a commit names only pieces whose put was acknowledged, and takes them in the order in which they were cut off, so
 *   the file grows without holes and a later write of a range is never undone by an earlier one;
 * - memory is bounded: over the bound, writers wait and everything dirty leaves;
 * - a piece has its deadline from when it was cut off or, if that is later, from the latest put or commit that succeeded:
 *   a slow network is no failure, and when nothing gets through, all that waits fails together after one deadline;
 * - when a put or commit fails for good, that piece and everything uncommitted after it is dropped and the error is
 *   kept for the file's writers: what remains is what was acknowledged before.
 *
 * Order of data before metadata, many puts per commit: JuiceFS's I/O processing; the rules are DESIGN sections 5 and 7.
 */
import type { BlockClient } from '../blocks/types.ts';
import type { Clock, Timer } from '../env.ts';
import { CancelledError, FsError, StaleBlocksError } from '../errors.ts';
import type { Attr, Extent, MetaClient } from '../meta/types.ts';
import { ProgressClock } from '../progress-clock.ts';
import { AppendUnderWay, LAST_LOOK_MS, REST_MS, type Appender } from './append-rest.ts';
import { untilDeadline } from './async.ts';
import type { FileData, Piece } from './file-data.ts';
import { toFsError } from './fs-errors.ts';
import {
  COMMIT_EXTENTS_MAX,
  COMMIT_INLINE_BYTES_MAX,
  IDLE_CHECK_MS,
  IDLE_FLUSH_MS,
  UPLOADS_IN_FLIGHT,
  stepTimeoutMs,
  type VfsLimits,
} from './options.ts';
import type { WriteMemory } from './write-memory.ts';

/** How often the same pieces are put again because a garbage collection began meanwhile. */
const STALE_RETRIES = 5;

export interface WriteBackPorts {
  readonly meta: MetaClient;
  readonly blocks: BlockClient;
  readonly clock: Clock;
  readonly limits: VfsLimits;
  readonly memory: WriteMemory;
  /** A commit took effect; called before the pieces are let go. */
  committed(file: FileData, attr: Attr | undefined, extents: readonly Extent[], askedAt: number): void;
  /** Of the attributes that are known, to be handed to `committed`. */
  stamp(): number;
  /** Whether the commit took effect is not known. */
  uncertain(file: FileData): void;
  /** A file has nothing uncommitted left. */
  becameClean(file: FileData): void;
  /** What was appended lies elsewhere than was believed, since others have appended, too. */
  moved(file: FileData): void;
  failed(file: FileData, error: FsError): void;
  /** Called before a flush cuts off dirty runs; may complete them with what is stored before them. */
  beforeFlush(file: FileData, cut: () => void): Promise<void> | undefined;
}

export class WriteBack {
  readonly #ports: WriteBackPorts;
  readonly #memory: WriteMemory;
  /** Files with something uncommitted, in the order in which they became dirty. */
  readonly #dirtyFiles = new Set<FileData>();
  readonly #uploads: { readonly file: FileData; readonly piece: Piece }[] = [];
  #uploadsRunning = 0;
  readonly #progress: ProgressClock;
  #timer: Timer | undefined;

  constructor(ports: WriteBackPorts) {
    this.#ports = ports;
    this.#memory = ports.memory;
    this.#progress = new ProgressClock(stepTimeoutMs(ports.limits));
  }

  dirtyFiles(): Iterable<FileData> {
    return this.#dirtyFiles;
  }

  /**
   * Copies the bytes before it returns. A promise means: the memory bound is exceeded, let the writer wait.
   * The bound can be exceeded by one write of each waiting writer. `appender`: `offset` is what the file's appendAt()
   * says; what is uncommitted is either all appended or not at all.
   */
  write(file: FileData, offset: number, data: Uint8Array, appender?: Appender): Promise<void> | undefined {
    const { clock } = this.#ports;
    const endOffset = offset + data.length;
    if (appender === undefined || file.underWay?.isFollowedBy(offset, endOffset, appender.pid) !== true)
      this.ended(file);
    if (file.isClean) {
      file.appending = appender !== undefined;
      file.dirtySinceMs = clock.monotonicMs();
      this.#dirtyFiles.add(file);
      this.#watch();
    }
    const whole = file.dirty.write(offset, data);
    file.writes += 1;
    file.uncommittedEnd = Math.max(file.uncommittedEnd, endOffset);
    file.mtimeNs = file.changeNs = clock.wallNs();
    if (appender !== undefined) this.#appended(file, offset, endOffset, appender);
    else for (const index of whole) this.#cut(file, index);
    if (!this.#memory.isOver) return undefined;
    // The rest comes only once this is answered.
    const room = file.underWay === undefined ? this.#memory.room() : undefined;
    this.#press();
    return room;
  }

  #appended(file: FileData, offset: number, endOffset: number, { pid, mayGoOn }: Appender): void {
    const before = file.underWay;
    const nowMs = this.#ports.clock.monotonicMs();
    if (mayGoOn && before !== undefined) before.goOn(endOffset, nowMs);
    else if (mayGoOn) file.underWay = new AppendUnderWay(pid, offset, endOffset, nowMs);
    const previous = file.pending.at(-1);
    this.#cutAppended(file, offset, endOffset);
    if (before === undefined) return;
    // Its first part is waited for: that can be committed together with this one only.
    if (previous?.continues === true && previous.seq <= file.wantedSeq) {
      this.#cutAll(file);
      file.wantedSeq = file.nextSeq - 1;
    }
    if (mayGoOn) return;
    before.goOn(endOffset, nowMs);
    this.ended(file);
  }

  /** It is known that no append is under way; `by`: that none is of this thread. */
  ended(file: FileData, by?: number): void {
    const { underWay } = file;
    if (underWay === undefined || (by !== undefined && (by === 0 || by !== underWay.pid))) return;
    file.underWay = undefined;
    const last = file.pending.at(-1);
    if (last !== undefined && last.offset + last.length === underWay.endOffset) last.continues = false;
    underWay.timer?.cancel();
    this.#pump(file);
  }

  /** Somebody waits for what is uncommitted: if an append is under way it counts as ended in time. */
  #endLater(file: FileData): void {
    const { clock } = this.#ports;
    const { underWay } = file;
    if (underWay === undefined) return;
    const leftMs = underWay.latestMs + REST_MS - LAST_LOOK_MS - clock.monotonicMs();
    underWay.timer ??= clock.setTimer(Math.max(0, leftMs), () => {
      const { latestMs } = underWay;
      underWay.timer = clock.setTimer(LAST_LOOK_MS, () => {
        underWay.timer = undefined;
        if (underWay.latestMs === latestMs) this.ended(file);
        else this.#endLater(file);
      });
    });
  }

  /** Undefined if there is nothing to do. Resolves when all that was written before is committed or has failed. */
  flush(file: FileData): Promise<void> | undefined {
    if (file.isClean) return undefined;
    const merge = file.dirty.isEmpty ? undefined : this.#ports.beforeFlush(file, () => this.#cutAll(file));
    if (merge !== undefined) return merge.then(() => this.#flushNow(file));
    return this.#flushNow(file);
  }

  #flushNow(file: FileData): Promise<void> | undefined {
    this.#cutAll(file);
    this.#endLater(file);
    const seq = file.nextSeq - 1;
    if (file.pending.length === 0) return undefined;
    file.wantedSeq = seq;
    const done = new Promise<void>((resolve) => file.waiters.push({ seq, resolve }));
    this.#pump(file);
    return done;
  }

  /** Everything uncommitted of every file is lost, and each is told so. */
  failAll(cause: unknown): void {
    for (const file of [...this.#dirtyFiles]) this.#failFrom(file, 0, cause);
  }

  /** Drops everything uncommitted: the file is gone, or its content is about to be. */
  discard(file: FileData): void {
    file.writes += 1;
    file.merged = undefined;
    file.dirty.truncate(0);
    this.#drop(file, file.pending);
  }

  /**
   * Forgets uncommitted bytes from `sizeBytes` on. Only inside `file.order`, so that no commit is on its way.
   */
  truncate(file: FileData, sizeBytes: number): void {
    file.writes += 1;
    file.merged = undefined;
    file.dirty.truncate(sizeBytes);
    const beyond: Piece[] = [];
    for (const piece of file.pending) {
      if (piece.offset >= sizeBytes) beyond.push(piece);
      else piece.length = Math.min(piece.length, sizeBytes - piece.offset);
    }
    this.#drop(file, beyond);
    file.updateEnd();
  }

  #cutAll(file: FileData): void {
    if (file.dirty.isEmpty) return;
    for (const index of file.dirty.indexes()) this.#cut(file, index);
  }

  /** What is appended leaves in its order: blocks to which nothing can be added, also one that was not empty before. */
  #cutAppended(file: FileData, start: number, end: number): void {
    const full = Math.floor(end / file.blockSizeBytes);
    for (const index of file.dirty.indexes()) if (index < full) this.#cut(file, index, { start, end });
  }

  /** Turns the block's dirty runs into pieces. `appended`: by the write that is being done. */
  #cut(file: FileData, index: number, appended?: { readonly start: number; readonly end: number }): void {
    for (const run of file.dirty.take(index)) {
      const inline = run.length <= this.#ports.limits.inlineMaxBytes;
      const runEnd = run.offset + run.length;
      const { merged } = file;
      const rewrites =
        merged !== undefined && run.offset < merged.beforeOffset && merged.beforeOffset < runEnd ? merged : undefined;
      if (rewrites !== undefined) file.merged = undefined;
      const piece: Piece = {
        seq: file.nextSeq++,
        cutMs: this.#ports.clock.monotonicMs(),
        offset: run.offset,
        length: run.length,
        data: run.length === run.buffer.length ? run.buffer : run.buffer.subarray(0, run.length),
        buffer: run.buffer,
        inline,
        continues:
          (appended !== undefined && appended.start < runEnd && runEnd < appended.end) ||
          runEnd === file.underWay?.endOffset,
        rewrites,
        state: inline ? 'ready' : 'waiting',
        receipt: undefined,
        abandoned: false,
        dropped: false,
      };
      file.addPending(piece);
      if (!inline) {
        this.#uploads.push({ file, piece });
        this.#startUploads();
      }
    }
  }

  #startUploads(): void {
    while (this.#uploadsRunning < UPLOADS_IN_FLIGHT) {
      const next = this.#uploads.shift();
      if (next === undefined) return;
      if (next.piece.dropped) continue;
      this.#uploadsRunning += 1;
      next.piece.state = 'moving';
      void this.#upload(next.file, next.piece).finally(() => {
        this.#uploadsRunning -= 1;
        this.#startUploads();
      });
    }
  }

  async #upload(file: FileData, piece: Piece): Promise<void> {
    let failure: unknown;
    try {
      piece.receipt = await this.#put(file, piece, piece.cutMs, undefined);
    } catch (error) {
      failure = error ?? new FsError('EIO');
    }
    if (piece.dropped) return this.#memory.free(piece.buffer, !piece.abandoned);
    piece.state = 'ready';
    if (failure === undefined) this.#pump(file);
    else this.#fail(file, piece, failure);
  }

  /** Tries until the deadline while the condition may pass. */
  async #put(
    file: FileData,
    piece: Piece,
    askedMs: number,
    minGeneration: number | undefined,
  ): Promise<NonNullable<Piece['receipt']>> {
    const { blocks, clock } = this.#ports;
    return await untilDeadline(clock, this.#progress.deadlineOf(askedMs), 'storing a block', async (signal) => {
      try {
        const options = minGeneration === undefined ? { signal } : { signal, minGeneration };
        const receipt = await blocks.put(file.pool, piece.data, options);
        this.#progress.progress(clock.monotonicMs());
        return receipt;
      } catch (error) {
        piece.abandoned = true;
        throw piece.dropped ? new CancelledError() : error;
      }
    });
  }

  /** Starts a commit if it is time for one. */
  #pump(file: FileData): void {
    if (file.committing) return;
    let readyBytes = 0;
    let readyCount = 0;
    for (const piece of file.pending) {
      if (piece.state !== 'ready') break;
      readyBytes += piece.buffer.length;
      readyCount += 1;
    }
    // Its rest is committed with it, and is still to come.
    let isHeldBack = false;
    while (file.pending[readyCount - 1]?.continues === true && readyCount < COMMIT_EXTENTS_MAX) {
      readyCount -= 1;
      isHeldBack = true;
    }
    if (readyCount === 0 && readyBytes >= this.#memory.maxBytes / 4 && !file.dirty.isEmpty) {
      this.#cutAll(file);
      return this.#pump(file);
    }
    if (readyCount === 0) return this.#settle(file);
    const next = file.pending[readyCount];
    const wantedIsReady =
      (next === undefined || next.seq > file.wantedSeq || isHeldBack) &&
      (file.pending[0] as Piece).seq <= file.wantedSeq;
    const enough = readyBytes >= this.#memory.maxBytes / 4 || readyCount >= COMMIT_EXTENTS_MAX;
    if (!wantedIsReady && !enough && !this.#memory.hasWaiters && !this.#memory.isOver) return;
    file.committing = true;
    void file.order
      .run(() => this.#commit(file))
      .finally(() => {
        file.committing = false;
        this.#pump(file);
      });
  }

  /** The longest ready prefix whose ranges do not overlap each other, within the bounds of one message. */
  #batch(file: FileData): Piece[] {
    const batch: Piece[] = [];
    let inlineBytes = 0;
    let end = -1;
    let sorted = true;
    for (const piece of file.pending) {
      if (piece.state !== 'ready' || batch.length >= COMMIT_EXTENTS_MAX) break;
      if (piece.rewrites !== undefined && batch.length > 0) break;
      if (piece.inline && inlineBytes + piece.length > COMMIT_INLINE_BYTES_MAX && batch.length > 0) break;
      if (piece.offset < end) sorted = false;
      if (!sorted && batch.some((other) => overlaps(other, piece))) break;
      end = Math.max(end, piece.offset + piece.length);
      if (piece.inline) inlineBytes += piece.length;
      batch.push(piece);
      if (piece.rewrites !== undefined) break;
    }
    const whole = batch.findLastIndex((piece) => !piece.continues) + 1;
    if (whole > 0) return batch.slice(0, whole);
    // Its rest is still to come; or it is more than one commit takes.
    return file.underWay !== undefined && batch.length === file.pending.length ? [] : batch;
  }

  async #commit(file: FileData): Promise<void> {
    const { meta, clock } = this.#ports;
    const batch = this.#batch(file);
    const first = batch[0];
    if (first === undefined) return;
    const { appending } = file;
    for (let attempt = 0; ; attempt += 1) {
      const extents = batch.map((piece) => extentOf(file, piece)).sort((a, b) => a.offset - b.offset);
      const last = extents[extents.length - 1] as Extent;
      const generations = batch.flatMap((piece) => (piece.receipt === undefined ? [] : [piece.receipt.generation]));
      const generation = generations.length === 0 ? undefined : Math.min(...generations);
      const { rewrites } = first;
      const endBytes = last.offset + last.lengthBytes;
      const askedAt = this.#ports.stamp();
      try {
        const result = await meta.mutate(
          {
            op: 'commit',
            ino: file.inode.ino,
            extents,
            growToBytes: endBytes,
            mtimeNs: file.mtimeNs ?? clock.wallNs(),
            ctimeToo: true,
            ...(generation === undefined ? {} : { generation }),
            ...(appending && { appendAt: rewrites?.beforeOffset ?? first.offset }),
            ...(rewrites === undefined ? {} : { rewrites }),
          },
          { timeoutMs: stepTimeoutMs(this.#ports.limits) },
        );
        this.#progress.progress(clock.monotonicMs());
        this.#ports.committed(file, result.attr, extents, askedAt);
        const moveBytes = appending && result.attr !== undefined ? result.attr.sizeBytes - endBytes : 0;
        if (moveBytes !== 0) this.#move(file, moveBytes);
        // What was only copied was left out.
        else if (rewrites !== undefined && result.attr?.version !== rewrites.version + 1) this.#ports.moved(file);
        this.#release(file, batch);
        return;
      } catch (error) {
        if (batch.some((piece) => piece.dropped)) return;
        if (error instanceof StaleBlocksError && attempt < STALE_RETRIES) {
          try {
            await this.#putAgain(file, batch, error, generation ?? 0);
            if (batch.some((piece) => piece.dropped)) return;
            continue;
          } catch (again) {
            this.#fail(file, first, again);
            return;
          }
        }
        if (!(error instanceof FsError)) this.#ports.uncertain(file);
        this.#fail(file, first, error);
        return;
      }
    }
  }

  /** What follows what was appended goes with it. */
  #move(file: FileData, bytes: number): void {
    this.#cutAll(file);
    file.writes += 1;
    if (file.appending) file.movePending(bytes);
    this.#ports.moved(file);
  }

  async #putAgain(file: FileData, batch: readonly Piece[], stale: StaleBlocksError, generation: number): Promise<void> {
    const told = stale.info?.['minGeneration'];
    const least = typeof told === 'number' ? told : generation + 1;
    const askedMs = this.#ports.clock.monotonicMs();
    const outcomes = await Promise.allSettled(
      batch.map(async (piece) => {
        if (!piece.inline) piece.receipt = await this.#put(file, piece, askedMs, least);
      }),
    );
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** Lets committed pieces go. */
  #release(file: FileData, batch: readonly Piece[]): void {
    const done = new Set(batch.filter((piece) => !piece.dropped));
    file.removePending(done);
    // Inline bytes live on in the extent map.
    for (const piece of done) this.#memory.free(piece.buffer, !piece.abandoned && !piece.inline);
    this.#settle(file);
    if (this.#memory.isOver) this.#press();
  }

  #drop(file: FileData, pieces: readonly Piece[]): void {
    const gone = new Set(pieces);
    for (const piece of gone) piece.dropped = true;
    file.removePending(gone);
    // What is moving is freed by whoever moves it.
    for (const piece of gone) if (piece.state !== 'moving') this.#memory.free(piece.buffer, false);
    this.ended(file);
    this.#settle(file);
    if (this.#memory.isOver) this.#press();
  }

  /** The piece and all that was to follow it are lost; the file stays as it was committed last. */
  #fail(file: FileData, piece: Piece, cause: unknown): void {
    this.#failFrom(file, piece.seq, cause);
  }

  #failFrom(file: FileData, fromSeq: number, cause: unknown): void {
    const error = toFsError(cause, 'writing back');
    const { pending } = file;
    // What begins a write whose rest is lost is lost with it.
    let kept = pending.findIndex((piece) => piece.seq >= fromSeq);
    if (kept < 0) kept = pending.length;
    while (pending[kept - 1]?.continues === true) kept -= 1;
    const seq = pending[kept]?.seq ?? fromSeq;
    file.writes += 1;
    file.errorCount += 1;
    file.lastError = error;
    file.merged = undefined;
    file.dirty.truncate(0);
    this.#drop(
      file,
      pending.filter((other) => other.seq >= seq),
    );
    if (!file.inode.gone) this.#ports.failed(file, error);
  }

  /** Wakes those whose data has arrived or failed. */
  #settle(file: FileData): void {
    if (file.waiters.length > 0) {
      const oldest = file.pending[0]?.seq ?? Infinity;
      const waiting = file.waiters;
      file.waiters = waiting.filter((waiter) => waiter.seq >= oldest);
      for (const waiter of waiting) if (waiter.seq < oldest) waiter.resolve();
    }
    if (file.isClean) {
      file.updateEnd();
      if (this.#dirtyFiles.delete(file)) this.#ports.becameClean(file);
    }
  }

  /** Over the bound: the oldest dirty data leaves until half of the memory is on its way, and what is ready is committed. */
  #press(): void {
    let leaving = 0;
    for (const file of this.#dirtyFiles) leaving += file.pendingBytes;
    for (const file of this.#dirtyFiles) {
      // What waits for the rest of its write would wait for ever.
      const isWanted = leaving < this.#memory.maxBytes / 2 || file.pending.at(-1)?.continues === true;
      if (isWanted && !file.dirty.isEmpty) {
        const before = file.pendingBytes;
        this.#cutAll(file);
        leaving += file.pendingBytes - before;
      }
      this.#endLater(file);
      this.#pump(file);
    }
  }

  /** Looks after data that nobody flushes, while there is any. */
  #watch(): void {
    if (this.#timer !== undefined) return;
    this.#timer = this.#ports.clock.setTimer(IDLE_CHECK_MS, () => {
      this.#timer = undefined;
      const now = this.#ports.clock.monotonicMs();
      for (const file of [...this.#dirtyFiles]) {
        if (now - file.dirtySinceMs < IDLE_FLUSH_MS) continue;
        file.dirtySinceMs = now;
        void this.flush(file);
      }
      if (this.#dirtyFiles.size > 0) this.#watch();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { underWay } of this.#dirtyFiles) underWay?.timer?.cancel();
  }
}

function overlaps(a: Piece, b: Piece): boolean {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

function extentOf(file: FileData, piece: Piece): Extent {
  if (piece.receipt === undefined) {
    const data = piece.length === piece.data.length ? piece.data : piece.data.subarray(0, piece.length);
    return { kind: 'inline', offset: piece.offset, lengthBytes: piece.length, data };
  }
  return {
    kind: 'block',
    offset: piece.offset,
    lengthBytes: piece.length,
    pool: file.pool,
    id: piece.receipt.id,
    blockOffset: 0,
    blockBytes: piece.data.length,
  };
}
