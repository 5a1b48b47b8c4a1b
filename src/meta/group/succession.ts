/**
 * What a member must know and remember so that one primary follows another safely: what it acknowledged to whom (R5),
 * which epochs it has given up (R5), whether its log holds all that it ever acknowledged (R11); and its own promotion.
 * The decisions are in standby.ts; here they are made durable, in the order that they need.
 */
import type { CatalogService, Group } from '../../catalog/types.ts';
import { proposeUntilChosen } from '../../catalog/replica.ts';
import type { Env } from '../../env.ts';
import type { HistoryId, NodeId } from '../../ids.ts';
import { META_TIMEOUT_MS } from '../../limits.ts';
import type { Logger } from '../../log.ts';
import { TAKEOVER_WAIT_MS } from './lease.ts';
import { lineageOf } from './lineage.ts';
import type { Lineage } from './lineage.ts';
import type { MemberState } from './member-state.ts';
import type { GroupRules } from './rules.ts';
import { Standby } from './standby.ts';

export interface SuccessionOptions {
  readonly self: NodeId;
  readonly env: Pick<Env, 'clock' | 'bootId' | 'disk'>;
  readonly catalog: CatalogService;
  readonly log: Logger;
  readonly state: MemberState;
  /** Entries in the group's log at the start. */
  readonly loggedCount: number;
  /** As the catalog has it at the start. */
  readonly group: Group;
  readonly rules: GroupRules;
}

/** What the member does for a promotion. */
export interface PromotionPorts {
  /** Resolves when nothing is being acknowledged any more; what comes from now on is refused, as the epoch is given up. */
  readonly acknowledgementsEnd: () => Promise<unknown>;
  readonly syncLog: () => Promise<unknown>;
  /** The disk failed. */
  readonly failed: (error: unknown) => void;
}

export class Succession {
  readonly #o: SuccessionOptions;
  readonly #state: MemberState;
  #group: Group | undefined;
  /** While this node is the secondary. */
  #standby: Standby | undefined;
  /**
   * R11: the log holds all that was acknowledged from here. False after the machine lost power, until the primary has
   * pushed all that is committed.
   */
  #certain: boolean;
  /** The primary's log goes to this entry at least, whether it says that it is committed or not. */
  #shownSeq = 0;
  /** R5: given up by this process; `#state` has it too before anything is proposed. */
  #fencedEpoch: number;
  /** R5: when anything was last acknowledged to another; at the start: then, if that may have been shortly before. */
  #ackedMs: number;
  #promoting = false;

  private constructor(options: SuccessionOptions, state: MemberState) {
    this.#o = options;
    this.#state = state;
    const { bootId, clean, ackedEpoch, fencedEpoch } = state.facts;
    // Before it durably gave this epoch up it had its log on disk, and has acknowledged nothing since.
    const gaveUp = fencedEpoch >= options.group.epoch && fencedEpoch >= ackedEpoch;
    const sameRun = bootId === options.env.bootId;
    // An empty log alone says nothing: all of it may have gone with the power.
    const neverRan = state.isNew && options.loggedCount === 0;
    this.#certain = !options.rules.certainty || clean || gaveUp || sameRun || neverRan;
    this.#fencedEpoch = fencedEpoch;
    const mayHaveAcked = ackedEpoch > 0 || (state.isNew && options.loggedCount > 0);
    this.#ackedMs = mayHaveAcked ? options.env.clock.monotonicMs() : -Infinity;
  }

  static async open(options: SuccessionOptions): Promise<Succession> {
    const { bootId } = options.env;
    const { group, self, state } = options;
    const made = new Succession(options, state);
    // R9: what is here takes the new history's name only if that began with it.
    const named = lineageOf(state.facts.historyId, group, self) === 'foreign' ? {} : { historyId: group.historyId };
    await state.update({ clean: false, ...named, ...(made.#certain ? { bootId } : {}) });
    return made;
  }

  /** Everything is on disk and the process ends: whatever the machine does then, nothing is lost. */
  async closedInOrder(): Promise<void> {
    if (this.#certain) await this.#state.update({ clean: true });
  }

  /**
   * R11: what was acknowledged from memory may never reach the disk: after a failed sync the system takes it for written, and
   * drops it. The next process of this run of the machine may not find it, and must not count on it.
   */
  async logFailed(): Promise<void> {
    this.#certain = false;
    await this.#state.forgetRun();
  }

  /** R9: what the data here is to the group as it is now. */
  lineage(group: Group): Lineage {
    return lineageOf(this.#state.facts.historyId, group, this.#o.self);
  }

  /** R9: the data here is the beginning of a new history. Durable when it resolves. */
  async carryOver(historyId: HistoryId): Promise<void> {
    await this.#state.update({ historyId });
  }

  /** R11: the log holds all that was acknowledged from here. */
  get isCertain(): boolean {
    return this.#certain;
  }

  /** R5: from when on this node may serve as primary: the lease of the one before it has run out then. */
  get serveFromMs(): number {
    return this.#o.rules.takeoverWait ? this.#ackedMs + TAKEOVER_WAIT_MS : -Infinity;
  }

  /** R5: nothing of this epoch, or of one before it, is acknowledged any more. */
  get fencedEpoch(): number {
    return this.#fencedEpoch;
  }

  hasGivenUp(epoch: number): boolean {
    return epoch <= this.#fencedEpoch;
  }

  /** R5: whether a message of this epoch comes too late. */
  refuses(epoch: number): boolean {
    return this.#o.rules.refusalWhenFenced && this.hasGivenUp(epoch);
  }

  groupChanged(group: Group): void {
    if (group.primary !== this.#group?.primary) this.#shownSeq = 0;
    this.#group = group;
    const { self, env } = this.#o;
    this.#standby = group.secondary === self ? new Standby(self, group, env.clock.monotonicMs()) : undefined;
  }

  /** A message of the primary has arrived. */
  heardPrimary(): void {
    this.#standby?.heard(this.#o.env.clock.monotonicMs());
  }

  stalled(nowMs: number): void {
    this.#standby?.stalled(nowMs);
  }

  /** R5: a secondary remembers that it acknowledged in an epoch, before it does so for the first time. */
  mustNote(epoch: number): boolean {
    return this.#standby !== undefined && this.#state.facts.ackedEpoch < epoch;
  }

  async note(epoch: number): Promise<void> {
    await this.#state.update({ ackedEpoch: epoch });
  }

  /** A push of the primary has told that its log goes so far. */
  shown(seq: number): void {
    this.#shownSeq = Math.max(this.#shownSeq, seq);
  }

  /** The log agrees with the primary's up to `lastSeq`, which is about to be told; the primary has committed `committedSeq`. */
  acknowledges(lastSeq: number, committedSeq: number, failed: (error: unknown) => void): void {
    this.#ackedMs = this.#o.env.clock.monotonicMs();
    // One that was started anew does not know how much it has acknowledged: it may be all of its log.
    if (this.#certain || lastSeq < Math.max(committedSeq, this.#shownSeq)) return;
    // R11: all that the primary has ever acknowledged is here again.
    this.#certain = true;
    this.#state.update({ bootId: this.#o.env.bootId }).catch(failed);
  }

  /** The primary is gone for too long: this node gives its epoch up, durably, and asks to be the next (R1, R5). */
  promoteIfDue(nowMs: number, ports: PromotionPorts): void {
    const group = this.#group;
    if (this.#standby === undefined || group === undefined || this.#promoting) return;
    const wanted = this.#standby.wants(nowMs, this.hasGivenUp(group.epoch), this.#certain);
    if (wanted === undefined) return;
    const { log } = this.#o;
    const silentMs = Math.round(this.#standby.silentMs(nowMs));
    log.warn({ group: group.id, primary: group.primary, silentMs }, 'the primary is silent');
    if (this.#o.rules.fencing) this.#fencedEpoch = group.epoch;
    this.#promoting = true;
    this.#promote(wanted, group.epoch, ports)
      .catch((error: unknown) =>
        log.warn({ group: group.id, error: String(error) }, 'the catalog did not take the promotion; trying again'),
      )
      .finally(() => (this.#promoting = false));
  }

  async #promote(wanted: Group, expectedGroupEpoch: number, ports: PromotionPorts): Promise<void> {
    await ports.acknowledgementsEnd();
    try {
      // All that was ever acknowledged from here is on disk before another can build on it (R11).
      await ports.syncLog();
      if (this.#o.rules.fencing) await this.#state.update({ fencedEpoch: expectedGroupEpoch });
    } catch (error) {
      ports.failed(error);
      return;
    }
    await proposeGroup(this.#o.catalog, wanted, expectedGroupEpoch);
  }
}

/** Asks the catalog for this group, unless it is at another epoch meanwhile. */
export async function proposeGroup(catalog: CatalogService, wanted: Group, expectedGroupEpoch: number): Promise<void> {
  await proposeUntilChosen(
    catalog,
    (current) => {
      const now = current.groups.find((group) => group.id === wanted.id);
      if (now?.epoch !== expectedGroupEpoch) return undefined;
      return { kind: 'putGroup', group: wanted, expectedGroupEpoch: now.epoch };
    },
    META_TIMEOUT_MS,
  );
}
