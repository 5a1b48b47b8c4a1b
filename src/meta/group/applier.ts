/**
 * Brings what is committed from a member's log into its table, in order, one part at a time; at once as long as nothing
 * is to be waited for.
 */
import type { Clock, Timer } from '../../env.ts';
import { invariant } from '../../errors.ts';
import type { Seq } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import type { MetaStore } from '../meta-store.ts';
import type { Outcome } from '../outcome.ts';
import type { GroupLog } from './log-files.ts';
import type { LogEntry } from './log-record.ts';

/** Entries read from the log at a time. */
const APPLY_MAX_BYTES = 1 * MiB;
/**
 * Nobody waits for a follower to apply, but the primary for its answer. So it applies a little later, several entries at
 * a time, which costs less than one by one.
 */
export const FOLLOWER_APPLY_MS = 5;

export interface ApplierOptions {
  readonly store: MetaStore;
  readonly log: GroupLog;
  readonly clock: Clock;
  /** False while the table may not change: a full copy, a member that stops or is broken. */
  readonly mayApply: () => boolean;
  readonly outcome: (seq: Seq, outcome: Outcome) => void;
  /** Everything committed is applied. */
  readonly done: () => void;
  /** Runs work whose failure is a bug or a broken rule. */
  readonly guard: (work: () => void) => void;
  readonly failed: (error: unknown) => void;
}

export class Applier {
  readonly #o: ApplierOptions;
  #committedSeq: number;
  #running: Promise<void> | undefined;
  #timer: Timer | undefined;

  constructor(options: ApplierOptions) {
    this.#o = options;
    this.#committedSeq = options.store.appliedSeq;
  }

  /** Commit point as this node knows it. */
  get committedSeq(): number {
    return this.#committedSeq;
  }
  /** Set while something is waited for. */
  get running(): Promise<void> | undefined {
    return this.#running;
  }

  commitTo(seq: number): void {
    if (seq > this.#committedSeq) this.#committedSeq = seq;
    if (this.#running === undefined && this.#isDue()) this.#apply();
  }

  /** As commitTo, {@link FOLLOWER_APPLY_MS} later. */
  commitSoon(seq: number): void {
    if (seq > this.#committedSeq) this.#committedSeq = seq;
    if (this.#timer !== undefined || this.#o.store.appliedSeq >= this.#committedSeq) return;
    this.#timer = this.#o.clock.setTimer(FOLLOWER_APPLY_MS, () => {
      this.#timer = undefined;
      this.#o.guard(() => this.commitTo(this.#committedSeq));
    });
  }

  /** The table is another one, after a full copy. */
  restart(): void {
    this.#committedSeq = this.#o.store.appliedSeq;
  }

  close(): void {
    this.#timer?.cancel();
  }

  #isDue(): boolean {
    return this.#o.store.appliedSeq < this.#committedSeq && this.#o.mayApply();
  }

  #apply(): void {
    const { store, log, guard, failed, done } = this.#o;
    try {
      while (this.#isDue()) {
        const from = store.appliedSeq + 1;
        const entries = log.readNow(from, APPLY_MAX_BYTES, this.#committedSeq);
        const waiting = entries === undefined ? this.#applyFromDisk(from) : this.#applyNow(entries);
        if (waiting === undefined) continue;
        this.#running = waiting.catch(failed).finally(() => {
          this.#running = undefined;
          guard(() => this.#apply());
        });
        return;
      }
    } catch (error) {
      failed(error);
      return;
    }
    done();
  }

  #applyNow(entries: readonly LogEntry[]): Promise<void> | undefined {
    invariant(entries.length > 0, 'R3', 'what is committed is not in the log');
    const waiting = this.#o.store.apply(entries, this.#o.outcome) as Promise<void> | undefined;
    // Applied, they are only kept for members that lag behind, as bytes.
    for (const entry of entries) entry.decoded = undefined;
    return waiting;
  }

  async #applyFromDisk(from: number): Promise<void> {
    await this.#applyNow(await this.#o.log.read(from, APPLY_MAX_BYTES, this.#committedSeq));
  }
}
