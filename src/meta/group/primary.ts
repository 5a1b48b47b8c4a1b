/**
 * The primary's side of a group: who holds what, what is committed, when it may serve, and when the catalog must be
 * asked for other members. Pure: events and the time go in, state and wishes come out; the driver (member.ts) sends and
 * stores.
 *
 * R3: an entry is committed once every member of the in-sync set has it in its log, and only committed entries are
 * applied. So: committed at secondary <= committed here <= logged at every in-sync member.
 */
import type { Group } from '../../catalog/types.ts';
import { FormatError, invariant } from '../../errors.ts';
import type { Epoch, NodeId } from '../../ids.ts';
import { commonPrefix } from './common-prefix.ts';
import { HandOver } from './hand-over.ts';
import { GRACE_MS, Lease } from './lease.ts';
import type { EpochEnds } from './log-files.ts';
import type { LogView } from './follower.ts';
import type { SecondaryAnswer, SyncPushReply } from './messages.ts';
import { ALL_RULES } from './rules.ts';
import type { GroupRules } from './rules.ts';

/** A member that is told nothing else hears a beacon this often; it also carries the commit point (phase two). */
export const BEACON_INTERVAL_MS = 250;
/** A learner is this far behind at most, or this many entries, while it keeps up. */
export const LEARNER_INTERVAL_MS = 50;
export const LEARNER_BATCH_COUNT = 512;
/** Silent for this long, a secondary is dropped: as long as it waits for its primary, and for the same reason. */
export const SECONDARY_SILENT_MS = GRACE_MS;
/** After a failure a member is tried again this soon. */
export const RETRY_MS = 200;
/** SyncPushes on their way to one member: the next batch gathers while these travel. */
export const PUSHES_AT_ONCE = 2;
/** A learner so few entries behind is let in: from then on commits wait for it, so it need not win a race. */
export const JOIN_LAG_COUNT = 1_000;

interface MemberProgress {
  /** Logged there, known from its replies. */
  matchSeq: number;
  syncedSeq: number;
  /** Next entry to send; ahead of matchSeq by what is on its way. */
  nextSeq: number;
  /** probe: where its log agrees with ours is not known. copy: it must be told to take a full copy. */
  mode: 'probe' | 'stream' | 'copy';
  /** It says that it takes a full copy. */
  copying: boolean;
  inFlight: number;
  /** Replies to pushes of another era are about an older understanding. */
  era: number;
  /** Era in which this record was made: pushes of older ones are not counted in inFlight. */
  readonly firstEra: number;
  lastHeardMs: number;
  nextSendMs: number;
  /** A learner's next batch. */
  nextBatchMs: number;
}

export interface PushPlan {
  readonly era: number;
  /** When it was planned and sent, before anything was acknowledged by its answer (R5). */
  readonly sentMs: number;
  /** The group's when it was planned. */
  readonly epoch: number;
  readonly fromSeq: number;
  /** Of the entries that went with it; fromSeq - 1 if none did. */
  lastSeq: number;
  /** False: a beacon or a probe. */
  readonly withEntries: boolean;
  readonly sync: boolean;
  readonly copy: boolean;
}

export type Serving = { readonly ok: true } | { readonly ok: false; readonly why: string };

export interface PrimaryOptions {
  readonly self: NodeId;
  readonly group: Group;
  /** `syncedSeq`: on disk. */
  readonly log: LogView & { epochEnds(): EpochEnds; readonly syncedSeq: number };
  readonly appliedSeq: number;
  readonly nowMs: number;
  /** The epoch found at the start of the process; none, if it became primary while it ran: nobody has used that epoch. */
  readonly epochFound?: Epoch;
  /** R5: another's lease may run until then. */
  readonly serveFromMs?: number;
  /** The one before handed over, and this log has all of that one's. */
  readonly hasAll?: boolean;
  /** Whether a node is being drained, as the newest catalog says. Default: none is. */
  readonly isDraining?: (node: NodeId) => boolean;
  readonly rules?: GroupRules;
}

export class Primary {
  readonly #self: NodeId;
  readonly #rules: GroupRules;
  readonly #log: PrimaryOptions['log'];
  #group: Group;
  readonly #members = new Map<NodeId, MemberProgress>();
  /** Own log, written. */
  #loggedSeq: number;
  #committedSeq: number;
  /**
   * R7 in the form needed while nobody promotes: after a start, everything in our log (and in the secondary's) must be
   * in both before anything is served. Undefined: where the secondary's log ends is not known yet.
   */
  #reconcileSeq: number | undefined;
  #reconciled: boolean;
  /**
   * Invariant: every epoch is used by one run of one process. After a start nothing is ordered in the epoch found, in
   * which an earlier run may have pushed entries that reached some log but not ours: the catalog must give a newer one.
   */
  readonly #epochFound: number;
  readonly #serveFromMs: number;
  /** From the secondary, or from a majority of the voters. */
  readonly #lease = new Lease();
  /**
   * Where the log ended when this run got its epoch. Until that much is applied nothing is answered: an earlier run has
   * acknowledged (some of) it, and a reader or a session's keep-alive must not be told that it does not exist.
   */
  #inheritedSeq: number | undefined;
  /**
   * R2: from before it proposes a secondary until it knows the outcome, what this node has not logged is not
   * acknowledged. `asked`: the proposal may be on its way and cannot be taken back.
   */
  #joining: { readonly node: NodeId; asked: boolean } | undefined;
  /** Told to be the secondary (SecondaryAppoint). */
  #candidate: NodeId | undefined;
  #nextEra = 1;
  /**
   * From before the secondary is dropped until the outcome is known (`#onlyFromDisk`): once the drop is chosen this node
   * alone is in sync, and what only two memories held would go with its power.
   * `asked`: the proposal may be on its way and cannot be taken back.
   */
  #dropping: { asked: boolean } | undefined;
  /** Somebody waits for entries up to here to be on disk. */
  #syncWanted = 0;
  readonly #handOver: HandOver;
  readonly #isDraining: (node: NodeId) => boolean;
  /** Members whose processes are about to end, as they said. */
  readonly #leaving = new Set<NodeId>();

  constructor(options: PrimaryOptions) {
    this.#self = options.self;
    this.#group = options.group;
    this.#rules = options.rules ?? ALL_RULES;
    this.#epochFound = this.#rules.ownEpoch ? (options.epochFound ?? 0) : 0;
    this.#serveFromMs = options.serveFromMs ?? -Infinity;
    this.#handOver = new HandOver(this.#rules.handOverStops);
    this.#isDraining = options.isDraining ?? (() => false);
    this.#log = options.log;
    this.#loggedSeq = options.log.lastSeq;
    this.#committedSeq = options.appliedSeq;
    // Alone in sync: there is nobody to agree with.
    const alone = options.group.secondary === null;
    this.#reconciled = alone || options.hasAll === true || !this.#rules.reconciliation;
    if (this.#hasOwnEpoch) this.#inheritedSeq = options.log.lastSeq;
    this.#setMembers(options.nowMs);
    this.#advance();
  }

  get group(): Group {
    return this.#group;
  }
  get committedSeq(): number {
    return this.#committedSeq;
  }
  get secondary(): NodeId | null {
    return this.#group.secondary;
  }
  /** The secondary's log is still to be compared with ours. */
  get needsTail(): boolean {
    return !this.#reconciled && this.#reconcileSeq === undefined;
  }
  get #hasOwnEpoch(): boolean {
    return this.#group.epoch > this.#epochFound;
  }
  /** R7: this run of this process is what the catalog has activated. */
  get #activated(): boolean {
    const { epoch, lastActivated } = this.#group;
    return this.#hasOwnEpoch && lastActivated.epoch === epoch && lastActivated.members.includes(this.#self);
  }
  matchOf(node: NodeId): number {
    return this.#members.get(node)?.matchSeq ?? 0;
  }
  /** The entry that the slowest member still needs, down or not; those that take a full copy do not count. */
  get neededSeq(): number {
    let needed = Infinity;
    for (const member of this.#members.values()) {
      if (member.mode !== 'copy' && !member.copying) needed = Math.min(needed, member.matchSeq + 1);
    }
    return needed;
  }

  /** Whether writes and reads may be answered; otherwise why not, in words. */
  serving(appliedSeq: number, nowMs: number): Serving {
    const { secondary, minReplicas } = this.#group;
    if (!this.#reconciled)
      return { ok: false, why: `its secondary ${secondary ?? 'none'} has not caught up since the start` };
    if (secondary === null && minReplicas > 1) return { ok: false, why: 'it waits for a second replica' };
    if (this.#handOver.stopsServing) return { ok: false, why: `it hands the group over to ${secondary ?? 'nobody'}` };
    if (!this.#activated) return { ok: false, why: 'R7: it is not yet activated in an epoch of its own' };
    if (appliedSeq < (this.#inheritedSeq ?? Infinity)) return { ok: false, why: 'it applies what its log holds' };
    if (nowMs < this.#serveFromMs) return { ok: false, why: 'R5: the lease of the primary before it may still run' };
    if (this.#rules.lease && !this.#lease.holds(nowMs)) {
      const who = secondary === null ? 'no majority of the voters' : `its secondary ${secondary} has not`;
      return { ok: false, why: `R5: ${who} answered within the lease` };
    }
    return { ok: true };
  }

  /** This process is about to end: the secondary shall be the primary. */
  leave(): void {
    this.#handOver.leave();
  }

  /** A member's process is about to end. Whether another can be what it is, as far as can be told now. */
  memberLeaves(node: NodeId, nowMs: number): boolean {
    this.#leaving.add(node);
    if (node !== this.#group.secondary) return true;
    return this.#isSuperfluous(node) || this.#nextCandidate(nowMs) !== undefined;
  }

  /** It shall be neither primary nor secondary. */
  #isGoing(node: NodeId): boolean {
    return this.#isDraining(node) || this.#leaving.has(node);
  }

  /** Whether the secondary could take the group over now. */
  canHandOver(nowMs: number): boolean {
    const { secondary } = this.#group;
    if (this.#handOver.asked) return true;
    return (
      this.#mayHandOver(nowMs) && secondary !== null && !this.#isGoing(secondary) && this.#isWell(secondary, nowMs)
    );
  }

  /** R5: whether it holds its lease from a majority of the voters, for want of a secondary. */
  get servesAlone(): boolean {
    return this.#group.secondary === null && this.#group.minReplicas <= 1;
  }

  /** A majority of the voters, asked at `sentMs`, knew no newer epoch of the group. */
  votersConfirmed(epoch: number, sentMs: number): void {
    if (this.servesAlone && epoch === this.#group.epoch) this.#lease.granted(sentMs);
  }

  /** The machine slept, or its clock was set: nothing that was granted before counts. */
  dropLease(nowMs: number): void {
    this.#lease.slept(nowMs);
  }

  /** This process did not run for a while: what members have sent meanwhile is still unread. */
  stalled(nowMs: number): void {
    for (const member of this.#members.values()) member.lastHeardMs = nowMs;
  }

  // Events

  /** The own log has it, with the operating system. */
  logged(seq: number): void {
    this.#loggedSeq = Math.max(this.#loggedSeq, seq);
    this.#advance();
  }

  /** The secondary's log was compared and what it had beyond ours was taken over. */
  tailTaken(): void {
    this.#reconcileSeq = this.#log.lastSeq;
    // Its own epoch may have come first, for example with a node that joined.
    if (this.#inheritedSeq !== undefined) this.#inheritedSeq = this.#log.lastSeq;
    this.#advance();
  }

  wantSync(seq: number): void {
    this.#syncWanted = Math.max(this.#syncWanted, seq);
  }

  /** What is logged here is to be brought to disk now, and then `synced` called. */
  get needsDisk(): boolean {
    return this.#onlyFromDisk && this.#log.syncedSeq < this.#loggedSeq;
  }

  /**
   * Two memories survive the loss of one node's power; one does not. So a group that serves without its secondary, or is
   * about to, acknowledges what is on disk. A cluster of one node promises what a local filesystem does: fsync.
   */
  get #onlyFromDisk(): boolean {
    const { secondary, learners } = this.#group;
    return this.#dropping !== undefined || (secondary === null && learners.length > 0);
  }

  /** More of the own log is on disk. */
  synced(): void {
    this.#advance();
  }

  /** Everything up to seq is on disk at the in-sync members other than ourselves. */
  syncedElsewhere(seq: number): boolean {
    const { secondary, minReplicas } = this.#group;
    // R4: dropped and not yet replaced. One disk is not two; the next secondary's answer settles it.
    if (secondary === null) return minReplicas <= 1;
    return (this.#members.get(secondary)?.syncedSeq ?? 0) >= seq;
  }

  /** Throws FormatError for an answer that cannot be; then the push counts as failed. */
  pushAnswered(node: NodeId, plan: PushPlan, reply: SyncPushReply, nowMs: number): void {
    if (reply.status === 'logged' && (reply.lastSeq > plan.lastSeq || reply.syncedSeq > reply.lastSeq)) {
      throw new FormatError(`${node} says it logged ${reply.lastSeq}, it was sent ${plan.lastSeq}`);
    }
    const member = this.#members.get(node);
    if (member === undefined || plan.era < member.firstEra) return;
    member.inFlight--;
    member.lastHeardMs = nowMs;
    if (plan.era !== member.era) return;
    member.copying = reply.status === 'copying';
    switch (reply.status) {
      case 'logged':
        if (node === this.#group.secondary && plan.epoch === this.#group.epoch) {
          this.#lease.granted(this.#rules.leaseFromSending ? plan.sentMs : nowMs);
        }
        if (member.mode !== 'stream') {
          member.mode = 'stream';
          member.nextSeq = reply.lastSeq + 1;
        }
        member.matchSeq = Math.max(member.matchSeq, reply.lastSeq);
        member.nextSeq = Math.max(member.nextSeq, member.matchSeq + 1);
        member.syncedSeq = Math.max(member.syncedSeq, reply.syncedSeq);
        break;
      case 'mismatch':
        this.#meet(member, reply.ends);
        break;
      case 'copying':
        // Asked again until it answers otherwise. Not told again: that would start it over.
        this.#restart(member, 'probe');
        this.#forget(member, 0);
        member.nextSendMs = nowMs + RETRY_MS;
        break;
    }
    this.#advance();
  }

  pushFailed(node: NodeId, plan: PushPlan, nowMs: number): void {
    const member = this.#members.get(node);
    if (member === undefined || plan.era < member.firstEra) return;
    member.inFlight--;
    // Replaced, and its process has ended: when it answers again it has come back.
    if (node !== this.#group.secondary) this.#leaving.delete(node);
    if (plan.era !== member.era) return;
    this.#restart(member, 'probe');
    // A push of an older epoch was refused for that alone.
    member.nextSendMs = plan.epoch < this.#group.epoch ? nowMs : nowMs + RETRY_MS;
  }

  /** Finds where its log parts from ours and goes on from there. */
  #meet(member: MemberProgress, ends: EpochEnds): void {
    const common = commonPrefix(this.#log.epochEnds(), ends);
    if (common === undefined || common < this.#log.firstSeq - 1) {
      this.#restart(member, 'copy');
      return;
    }
    this.#restart(member, 'stream');
    member.nextSeq = common + 1;
    this.#forget(member, common);
  }

  #restart(member: MemberProgress, mode: MemberProgress['mode']): void {
    member.era = this.#nextEra++;
    member.mode = mode;
    member.nextSeq = this.#log.lastSeq + 1;
    if (mode === 'copy') this.#forget(member, 0);
  }

  /** It has less than it had acknowledged (a new disk, a power failure). What is committed stays committed. */
  #forget(member: MemberProgress, seq: number): void {
    member.matchSeq = Math.min(member.matchSeq, seq);
    member.syncedSeq = Math.min(member.syncedSeq, seq);
  }

  catalogChanged(group: Group, nowMs: number): void {
    invariant(group.epoch >= this.#group.epoch, 'R6', 'the epoch of a group never falls');
    invariant(group.primary === this.#self, 'R1', 'only the primary that the catalog names orders writes');
    const isNew = group.secondary !== this.#group.secondary;
    if (isNew) this.#lease.drop();
    this.#group = group;
    this.#dropping = undefined;
    this.#handOver.epochChanged();
    // The outcome is known: the change was made for one epoch of the group, and that is over.
    this.#joining = undefined;
    if (group.secondary !== null) this.#candidate = undefined;
    if (group.secondary === null) this.#reconciled = true;
    this.#setMembers(nowMs);
    for (const [node, member] of this.#members) {
      // A new secondary's first answer brings the lease: nothing can be ordered, and so pushed, before.
      if (member.mode === 'probe' || (isNew && node === group.secondary)) member.nextSendMs = nowMs;
    }
    if (this.#hasOwnEpoch) this.#inheritedSeq ??= this.#log.lastSeq;
    this.#advance();
  }

  /** The cascade of the 2007 note: the first to ask is told "be the secondary". */
  secondaryQuery(from: NodeId, nowMs: number): SecondaryAnswer {
    const { secondary, learners } = this.#group;
    // Whoever asks does not leave, or has come back.
    this.#leaving.delete(from);
    if (secondary !== null && !this.#isGoing(secondary)) return 'SecondaryPresent';
    if (!learners.includes(from) || this.#isDraining(from)) return 'SecondaryPresent';
    const chosen = this.#joining?.node ?? this.#candidate;
    if (chosen !== undefined && chosen !== from && (this.#joining !== undefined || this.#mayFollow(chosen, nowMs))) {
      return 'SecondaryPresent';
    }
    this.#candidate = from;
    return 'SecondaryAppoint';
  }

  /** A full copy may take hours: nobody is to wait for one where another need not take it. */
  #mayFollow(node: NodeId, nowMs: number): boolean {
    const member = this.#members.get(node);
    return !this.#isSilent(node, nowMs) && member?.mode !== 'copy' && member?.copying !== true;
  }

  #isSilent(node: NodeId, nowMs: number): boolean {
    const member = this.#members.get(node);
    return member === undefined || nowMs - member.lastHeardMs > SECONDARY_SILENT_MS;
  }

  // Wishes

  /**
   * The catalog change that is due, if any; ask again after each event. R1: only the activated primary asks; R2: its
   * adds and drops are activated by the change itself.
   */
  wantedGroup(nowMs: number): Group | undefined {
    // A primary that has not met its secondary since its start does not know that it has everything: it waits.
    if (!this.#reconciled) return undefined;
    const { secondary, minReplicas } = this.#group;
    // R7: activated together with its next secondary, or at once if it may serve alone.
    if (!this.#activated && (secondary !== null || minReplicas <= 1)) return this.#nextGroup(secondary);
    if (secondary === null) return this.#wantedSecondary(nowMs);
    if (this.#handOver.asked) return this.#wantedHandOver(nowMs);
    const member = this.#members.get(secondary);
    const lost =
      this.#isSilent(secondary, nowMs) ||
      member?.mode === 'copy' ||
      member?.copying === true ||
      this.#isSuperfluous(secondary);
    // Once asked for, it is asked for until the outcome is known.
    if (this.#dropping?.asked !== true) {
      if (!lost) {
        this.#dropping = undefined;
        if (this.#joining?.asked !== true && !this.#isGoing(secondary)) this.#joining = undefined;
        this.#advance();
        const replaces = this.#joining !== undefined || this.#isGoing(secondary);
        return replaces ? this.#wantedSecondary(nowMs) : this.#wantedHandOver(nowMs);
      }
      this.#dropping = { asked: false };
      if (this.#log.syncedSeq < this.#committedSeq) return undefined;
      this.#dropping.asked = true;
    }
    return this.#nextGroup(null);
  }

  /** It is going, there is nobody to put in its place, and the group may do without. */
  #isSuperfluous(secondary: NodeId): boolean {
    const { learners, minReplicas } = this.#group;
    return this.#isGoing(secondary) && minReplicas <= 1 && learners.every((node) => this.#isGoing(node));
  }

  /** Who has asked to be the secondary; to replace one that is going, the learner that has most. */
  #nextCandidate(nowMs: number): NodeId | undefined {
    const { secondary, learners } = this.#group;
    if (this.#candidate !== undefined || secondary === null) return this.#candidate;
    const able = learners.filter((node) => !this.#isGoing(node) && this.#isWell(node, nowMs));
    return able.sort((a, b) => this.matchOf(b) - this.matchOf(a))[0];
  }

  #wantedHandOver(nowMs: number): Group | undefined {
    const { secondary } = this.#group;
    const { lastSeq } = this.#log;
    return this.#handOver.wants({
      group: this.#group,
      mayHandOver: this.#mayHandOver(nowMs),
      secondaryFollows: secondary !== null && !this.#isGoing(secondary) && this.#isWell(secondary, nowMs),
      secondaryHasAll: secondary !== null && this.matchOf(secondary) >= lastSeq && this.#loggedSeq >= lastSeq,
      draining: this.#isDraining(this.#self),
    });
  }

  /** R5: its own right to answer has begun, so every older lease has run out. */
  #mayHandOver(nowMs: number): boolean {
    const changing = this.#joining !== undefined || this.#dropping !== undefined;
    return this.#reconciled && this.#activated && !changing && nowMs >= this.#serveFromMs;
  }

  #isWell(node: NodeId, nowMs: number): boolean {
    const member = this.#members.get(node);
    if (member?.mode !== 'stream' || this.#isSilent(node, nowMs)) return false;
    return this.#log.lastSeq - member.matchSeq <= JOIN_LAG_COUNT;
  }

  /** R2: a candidate is proposed once it has all that is committed, and nothing more is committed without it. */
  #wantedSecondary(nowMs: number): Group | undefined {
    const node = this.#joining?.node ?? this.#nextCandidate(nowMs);
    const member = node === undefined ? undefined : this.#members.get(node);
    if (node === undefined || member === undefined) return undefined;
    const well = member.mode === 'stream' && !this.#isSilent(node, nowMs);
    if (this.#joining === undefined) {
      if (!well || this.#log.lastSeq - member.matchSeq > JOIN_LAG_COUNT) return undefined;
      this.#joining = { node, asked: false };
    }
    if (!this.#joining.asked) {
      if (!well) {
        this.#joining = undefined;
        this.#advance();
        return undefined;
      }
      // R7: before the activation nobody knows how much of the log was acknowledged, so all of it counts.
      const neededSeq = this.#activated || !this.#rules.reconciliation ? this.#committedSeq : this.#log.lastSeq;
      if (member.matchSeq < neededSeq) return undefined;
      this.#joining.asked = true;
    }
    return this.#nextGroup(node);
  }

  /** The group with this secondary, activated by the change itself (R2). */
  #nextGroup(secondary: NodeId | null): Group {
    const { secondary: old, learners } = this.#group;
    const epoch = (this.#group.epoch + 1) as Epoch;
    const others = old === null || old === secondary ? learners : [...learners, old];
    return {
      ...this.#group,
      epoch,
      secondary,
      learners: others.filter((node) => node !== secondary),
      lastActivated: { epoch, members: secondary === null ? [this.#self] : [this.#self, secondary] },
    };
  }

  /** The next message that is due to a member, and marks it as sent; undefined if none is. */
  nextPush(node: NodeId, nowMs: number): PushPlan | undefined {
    const member = this.#members.get(node);
    // Until the secondary's log has been looked at, pushing could cut off what only it has.
    if (member === undefined || this.needsTail || this.#handOver.asked) return undefined;
    if (member.mode === 'stream' && member.nextSeq < this.#log.firstSeq) this.#restart(member, 'copy');
    const sync = member.syncedSeq < this.#syncWanted && node === this.#group.secondary;
    const hasEntries = member.mode === 'stream' && this.#isDue(node, member, nowMs);
    if (member.mode !== 'stream' && member.inFlight > 0) return undefined;
    if (member.inFlight >= PUSHES_AT_ONCE) return undefined;
    const due = nowMs >= member.nextSendMs;
    const syncDue = sync && member.inFlight === 0;
    if (member.mode === 'stream' ? !hasEntries && !due && !syncDue : !due) return undefined;
    member.inFlight++;
    member.nextSendMs = nowMs + BEACON_INTERVAL_MS;
    member.nextBatchMs = nowMs + LEARNER_INTERVAL_MS;
    return {
      era: member.era,
      sentMs: nowMs,
      epoch: this.#group.epoch,
      fromSeq: member.nextSeq,
      lastSeq: member.nextSeq - 1,
      withEntries: hasEntries,
      sync,
      copy: member.mode === 'copy',
    };
  }

  /** Nobody waits for a learner: its entries go in batches, which cost it and us a fraction of what single ones do. */
  #isDue(node: NodeId, member: MemberProgress, nowMs: number): boolean {
    const waiting = this.#log.lastSeq - member.nextSeq + 1;
    if (waiting <= 0) return false;
    const waitedFor = node === this.#group.secondary || node === (this.#joining?.node ?? this.#candidate);
    return waitedFor || waiting >= LEARNER_BATCH_COUNT || nowMs >= member.nextBatchMs;
  }

  /** Entries up to here went out with the plan. */
  sent(node: NodeId, plan: PushPlan, lastSeq: number): void {
    plan.lastSeq = lastSeq;
    const member = this.#members.get(node);
    if (member !== undefined && member.era === plan.era) member.nextSeq = Math.max(member.nextSeq, lastSeq + 1);
  }

  members(): IterableIterator<NodeId> {
    return this.#members.keys();
  }

  // Inside

  #setMembers(nowMs: number): void {
    const { secondary, learners } = this.#group;
    const wanted = new Set([...(secondary === null ? [] : [secondary]), ...learners]);
    for (const node of this.#members.keys()) if (!wanted.has(node)) this.#members.delete(node);
    for (const node of wanted) {
      if (this.#members.has(node)) continue;
      this.#members.set(node, {
        matchSeq: 0,
        syncedSeq: 0,
        nextSeq: this.#log.lastSeq + 1,
        mode: 'probe',
        copying: false,
        inFlight: 0,
        era: this.#nextEra,
        firstEra: this.#nextEra,
        lastHeardMs: nowMs,
        nextSendMs: nowMs,
        nextBatchMs: nowMs,
      });
      this.#nextEra++;
    }
  }

  #advance(): void {
    const { secondary, minReplicas, epoch, lastActivated } = this.#group;
    if (!this.#reconciled && this.#reconcileSeq !== undefined && secondary !== null) {
      this.#reconciled = this.matchOf(secondary) >= this.#reconcileSeq && this.#loggedSeq >= this.#reconcileSeq;
    }
    if (!this.#reconciled || (secondary === null && minReplicas > 1)) return;
    // R7: what a promoted primary has inherited is committed by its activation.
    if (lastActivated.epoch !== epoch) return;
    let logged = this.#loggedSeq;
    if (secondary !== null) logged = Math.min(logged, this.matchOf(secondary));
    if (this.#joining !== undefined && this.#rules.jointAcknowledgement)
      logged = Math.min(logged, this.matchOf(this.#joining.node));
    if (this.#onlyFromDisk) logged = Math.min(logged, this.#log.syncedSeq);
    if (logged <= this.#committedSeq) return;
    invariant(logged <= this.#log.lastSeq, 'R3', 'committed beyond the log');
    this.#committedSeq = logged;
  }
}
