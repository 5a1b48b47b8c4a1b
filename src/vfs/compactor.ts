/**
 * Puts files together again that were written in small pieces, in the background (docs/decisions/0016-compaction.md): the mount
 * that wrote them does, once they are quiet, and so does one that reads them in order. One slot at a time, with pauses in
 * proportion to the work, longer ones while programs use this mount.
 */
import type { BlockClient } from '../blocks/types.ts';
import { Cancellation, type CancelSignal } from '../cancel.ts';
import type { Timer } from '../env.ts';
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { FILE_MAX_BYTES } from '../limits.ts';
import { extentEnd } from '../meta/extents.ts';
import type { Extent } from '../meta/types.ts';
import { slotAt, surveyPage } from './compact-plan.ts';
import { CompactQueue, type TakenSlot } from './compact-queue.ts';
import { compactSlot, type CompactedSlot } from './compact-slot.ts';
import type { FileData } from './file-data.ts';
import type { MountState } from './mount-state.ts';
import {
  blockSizeOf,
  COMPACT_AGAIN_MS,
  COMPACT_ATTEMPTS,
  COMPACT_CHECK_MS,
  COMPACT_LATEST_MS,
  COMPACT_PAUSE_BUSY,
  COMPACT_PAUSE_IDLE,
  COMPACT_SAVED_MIN,
  COMPACT_SLOTS_KEPT,
  COMPACT_VAIN_MAX,
  COMPACT_WRITES_MIN,
  EXTENT_WINDOW,
} from './options.ts';

/** What was done since the mount began, or to one file. */
export interface Compacted {
  /** Slots (a block's length each) that are in fewer pieces now. */
  readonly slotCount: number;
  /** Extents that are no more. */
  readonly savedCount: number;
  readonly writtenBytes: number;
  /** Slots that somebody changed at that moment: they are as he left them. */
  readonly changedCount: number;
}

export const NOTHING_COMPACTED: Compacted = { slotCount: 0, savedCount: 0, writtenBytes: 0, changedCount: 0 };

export class Compactor {
  readonly #state: MountState;
  readonly #blocks: BlockClient;
  readonly #queue: CompactQueue;
  readonly #end = new Cancellation();
  #timer: Timer | undefined;
  #isRunning = false;
  done: Compacted = NOTHING_COMPACTED;

  constructor(state: MountState, blocks: BlockClient) {
    this.#state = state;
    this.#blocks = blocks;
    this.#queue = new CompactQueue({
      piecesMin: COMPACT_WRITES_MIN,
      quietMs: state.limits.compactAfterMs,
      latestMs: Math.max(COMPACT_LATEST_MS, state.limits.compactAfterMs),
      againMs: COMPACT_AGAIN_MS,
      vainMax: COMPACT_VAIN_MAX,
      slotsMax: COMPACT_SLOTS_KEPT,
      attemptsMax: COMPACT_ATTEMPTS,
    });
  }

  /** Slots that wait. */
  get waitingCount(): number {
    return this.#queue.candidateCount;
  }

  /** These were committed through this mount. */
  committed(file: FileData, extents: readonly Extent[]): void {
    if (!this.#isOn) return;
    const { inode, blockSizeBytes } = file;
    const { ino } = inode;
    const nowMs = this.#state.clock.monotonicMs();
    for (const extent of extents) {
      const end = extentEnd(extent);
      for (let at = extent.offset; at < end;) {
        const slot = { ino, ...slotAt(at, blockSizeBytes) };
        at = slot.offset + slot.lengthBytes;
        const isWhole = extent.offset <= slot.offset && end >= Math.min(at, inode.attr.sizeBytes);
        if (isWhole) this.#queue.forget(slot);
        else this.#queue.wrote(slot, 1, nowMs);
      }
    }
    this.#watch();
  }

  /** Somebody who reads in order has come by so many pieces where a block's length begins at `offset`. */
  sawPieces(file: FileData, offset: number, pieces: number): void {
    if (!this.#isOn) return;
    const slot = { ino: file.inode.ino, ...slotAt(offset, file.blockSizeBytes) };
    this.#queue.sawPieces(slot, pieces, this.#state.clock.monotonicMs());
    this.#watch();
  }

  get #isOn(): boolean {
    return this.#state.limits.compactAfterMs > 0 && !this.#end.aborted;
  }

  /** Compacts all of the file that is in many pieces, now. What others change meanwhile stays as they leave it. */
  async compactFile(ino: Ino, signal: CancelSignal, progress: (done: Compacted) => void): Promise<Compacted> {
    const state = this.#state;
    let done = NOTHING_COMPACTED;
    for (let next: number | undefined = 0; next !== undefined;) {
      signal.throwIfAborted();
      const from: number = next;
      const query = {
        op: 'extents',
        ino,
        offset: from,
        lengthBytes: FILE_MAX_BYTES - from,
        limit: EXTENT_WINDOW,
      } as const;
      const { attr, extents, more } = await state.query<'extents'>(query, signal);
      const blockSizeBytes = blockSizeOf(state.catalog, attr.pool);
      const survey = surveyPage(extents, more, from, blockSizeBytes, COMPACT_SAVED_MIN);
      for (const slot of survey.slots) {
        done = sum(done, await compactSlot(state, this.#blocks, ino, slot, signal));
        progress(done);
      }
      ({ next } = survey);
    }
    return done;
  }

  #watch(): void {
    if (this.#timer !== undefined || this.#isRunning || this.#queue.candidateCount === 0) return;
    this.#timer = this.#state.clock.setTimer(COMPACT_CHECK_MS, () => {
      this.#timer = undefined;
      this.#isRunning = true;
      const run = this.#run().finally(() => {
        this.#isRunning = false;
        if (!this.#end.aborted) this.#watch();
      });
      this.#state.background(run);
    });
  }

  async #run(): Promise<void> {
    const { clock } = this.#state;
    for (let slot = this.#queue.take(clock.monotonicMs()); slot !== undefined && !this.#end.aborted;) {
      const { operations } = this.#state;
      const startMs = clock.monotonicMs();
      await this.#compact(slot);
      const tookMs = clock.monotonicMs() - startMs;
      const isBusy = this.#state.operations !== operations;
      try {
        await clock.sleep(tookMs * (isBusy ? COMPACT_PAUSE_BUSY : COMPACT_PAUSE_IDLE), this.#end);
      } catch {
        return;
      }
      slot = this.#queue.take(clock.monotonicMs());
    }
  }

  async #compact(slot: TakenSlot): Promise<void> {
    const { clock, log } = this.#state;
    try {
      const compacted = await compactSlot(this.#state, this.#blocks, slot.ino, slot, this.#end);
      this.done = sum(this.done, compacted);
      if (compacted.isChanged) this.#queue.later(slot, clock.monotonicMs());
    } catch (error) {
      if (this.#end.aborted || (error instanceof FsError && error.code === 'ENOENT')) return;
      // It saves readers time, and can be done later, or never.
      log.debug({ ino: slot.ino, offset: slot.offset, error: String(error) }, 'a file could not be compacted');
      this.#queue.later(slot, clock.monotonicMs());
    }
  }

  /** No more from now on; what is under way is given up. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#end.abort();
  }
}

function sum(done: Compacted, { savedCount, writtenBytes, isChanged }: CompactedSlot): Compacted {
  return {
    slotCount: done.slotCount + (savedCount > 0 ? 1 : 0),
    savedCount: done.savedCount + savedCount,
    writtenBytes: done.writtenBytes + writtenBytes,
    changedCount: done.changedCount + (isChanged ? 1 : 0),
  };
}
