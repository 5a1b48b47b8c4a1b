/**
 * The table follows the log: what is applied is brought to disk from time to time, then the log is cut; rows of deleted
 * files go bit by bit, by commands like any other.
 *
 * Order of durability: an entry is on disk in the table before the log that has it is cut.
 */
import { MiB } from '../../limits.ts';
import type { Command } from '../commands.ts';
import type { MetaStore } from '../meta-store.ts';
import type { GroupLog } from './log-files.ts';
import type { GroupBounds } from './member-options.ts';

/** The table is written out when it holds this much in memory. */
const FLUSH_BYTES = 8 * MiB;

export interface TableUpkeepOptions {
  readonly store: MetaStore;
  readonly log: GroupLog;
  readonly bounds: GroupBounds;
  /** False while a full copy is taken, and once the member closes. */
  readonly mayFlush: () => boolean;
  /** The entry that others still need, however long the log becomes. */
  readonly pinnedSeq: () => number;
  /** The entry that others still need, up to `logKeepBytes`; beyond it whoever needs it takes a full copy. */
  readonly neededSeq: () => number;
  /** Whether this node orders commands now. */
  readonly serves: () => boolean;
  readonly propose: (command: Command) => Promise<unknown>;
  readonly isApplying: () => boolean;
  readonly guard: (work: () => void) => void;
  readonly failed: (error: unknown) => void;
}

export class TableUpkeep {
  readonly #o: TableUpkeepOptions;
  #flushing: Promise<void> | undefined;
  #nextFlushMs = 0;
  #reclaiming = false;

  constructor(options: TableUpkeepOptions) {
    this.#o = options;
  }

  /** Settles with what is being written now. */
  get running(): Promise<void> | undefined {
    return this.#flushing;
  }

  /** All that is committed is applied, for now. */
  allApplied(): void {
    this.#reclaim();
    if (this.#o.store.overlayBytes > FLUSH_BYTES) this.#flush();
  }

  tick(nowMs: number): void {
    const { store, bounds } = this.#o;
    if (nowMs < this.#nextFlushMs) return;
    this.#nextFlushMs = nowMs + bounds.flushIntervalMs;
    if (store.appliedSeq > store.durableSeq) this.#flush();
  }

  #reclaim(): void {
    const { store, serves, propose, isApplying, guard } = this.#o;
    if (this.#reclaiming || !serves()) return;
    const command = store.reclaimCommand();
    if (command === undefined) return;
    this.#reclaiming = true;
    propose(command)
      .catch(() => undefined)
      .finally(() => {
        this.#reclaiming = false;
        if (!isApplying()) guard(() => this.#reclaim());
      });
  }

  #flush(): void {
    const { store, mayFlush, failed } = this.#o;
    if (this.#flushing !== undefined || !mayFlush()) return;
    this.#flushing = store
      .flush()
      .then(() => this.#cutLog())
      .catch((error: unknown) => failed(error))
      .finally(() => {
        this.#flushing = undefined;
      });
  }

  async #cutLog(): Promise<void> {
    const { store, log, bounds, neededSeq, pinnedSeq } = this.#o;
    const keptSeq = Math.max(Math.min(neededSeq(), pinnedSeq()), log.keepFromSeq(bounds.logKeepBytes));
    await log.dropBelow(Math.min(store.durableSeq + 1, keptSeq));
  }
}
