/**
 * One group on one node: its log, its table and the part that this node plays in it. The driver of the pure parts
 * (primary.ts, follower.ts): it sends, stores, applies and asks the catalog, and decides nothing itself.
 *
 * Order of durability: an entry is with our operating system before `logged`; the catalog is durable here before its epoch
 * is acted on (R6).
 */
import { isDrained } from '../../catalog/membership.ts';
import type { Group } from '../../catalog/types.ts';
import type { Kv, Timer } from '../../env.ts';
import {
  AuthError,
  CorruptionError,
  InvariantError,
  NotPrimaryError,
  OverloadedError,
  TooLargeError,
  UnavailableError,
} from '../../errors.ts';
import type { CancelSignal } from '../../cancel.ts';
import type { Ino, NodeId, Seq, SessionId } from '../../ids.ts';
import type { HandlerReply, IncomingRequest } from '../../net/types.ts';
import { encodeCommand } from '../commands.ts';
import type { Command } from '../commands.ts';
import type { MetaStore } from '../meta-store.ts';
import { type Maybe } from '../meta-store.ts';
import type { Outcome } from '../outcome.ts';
import type { LockRequest } from '../locks.ts';
import type { GroupStatus, LockWait, Query, QueryOf, QueryResults } from '../types.ts';
import { Applier } from './applier.ts';
import { Following } from './following.ts';
import { EpochGate } from './epoch-gate.ts';
import { CopyServer } from './full-copy.ts';
import type { GroupLog } from './log-files.ts';
import { COMMAND_MAX_BYTES } from './log-record.ts';
import type { LogEntry } from './log-record.ts';
import { DEFAULT_BOUNDS, roleOf } from './member-options.ts';
import type { GroupMemberOptions } from './member-options.ts';
import { groupMethods, parseCursor, parseHead } from './messages.ts';
import type { Head, SyncPush } from './messages.ts';
import { describeCopy, forceGroup } from './force.ts';
import { GRACE_MS, SuspendWatch } from './lease.ts';
import { LeaseOfVoters } from './lease-of-voters.ts';
import { LockWaits } from './lock-waits.ts';
import { leaveGroup } from './leave.ts';
import type { CopyState } from './lineage.ts';
import { openParts } from './open-member.ts';
import type { OpenedLog } from './open-log.ts';
import { Primary } from './primary.ts';
import type { Serving } from './primary.ts';
import { PUSH_MAX_BYTES, PUSH_TIMEOUT_MS, Pushing, SYNC_TIMEOUT_MS } from './pushing.ts';
import { ALL_RULES } from './rules.ts';
import type { GroupRules } from './rules.ts';
import { SessionWatch } from './session-watch.ts';
import { proposeGroup } from './succession.ts';
import type { PromotionPorts, Succession } from './succession.ts';
import { TableUpkeep } from './table-upkeep.ts';
import { TailGapError, takeTail } from './take-tail.ts';
import { Waiters } from './waiters.ts';

const TICK_MS = 100;
/** A tick so late means that this process stood still: then nobody else is judged by what was not read meanwhile. */
const STALLED_MS = 500;
/** A participant asks whether there is a secondary this often while the catalog names none. */
const QUERY_INTERVAL_MS = 500;
const PROPOSE_RETRY_MS = 500;
/** Log that waits for an answer; beyond it writers are told to come again. */
const PENDING_MAX_COUNT = 20_000;

export class GroupMember {
  readonly #o: GroupMemberOptions;
  readonly #rules: GroupRules;
  readonly #kv: Kv;
  readonly #store: MetaStore;
  readonly #log: GroupLog;
  readonly #copies: CopyServer;
  readonly #sessions = new SessionWatch();
  readonly #closing = new AbortController();
  readonly #gate: EpochGate;
  #group: Group;
  #primary: Primary | undefined;
  readonly #succession: Succession;
  readonly #promotionPorts: PromotionPorts = {
    acknowledgementsEnd: () => this.#following.idle(),
    syncLog: () => this.#log.sync(),
    failed: (error) => this.#logFailed(error),
  };
  /** Its log was unusable for the primary that it was when it was opened. */
  #opensAnew: boolean;
  readonly #suspendWatch = new SuspendWatch();
  readonly #leaseOfVoters: LeaseOfVoters;
  #lastTickMs: number;
  /** In words, why this member cannot take part. */
  #broken: string | undefined;
  readonly #waiters = new Waiters();
  readonly #lockWaits: LockWaits;
  readonly #applier: Applier;
  readonly #following: Following;
  readonly #pushing: Pushing;
  readonly #table: TableUpkeep;
  #lastAppend: Promise<void> | undefined;
  #proposing = false;
  #takingTail: Promise<void> | undefined;
  #timer: Timer | undefined;
  #unsubscribe: (() => void) | undefined;
  #nextQueryMs = 0;
  #nextProposeMs = 0;
  #lastNowNs = 0n;

  private constructor(
    o: GroupMemberOptions,
    group: Group,
    kv: Kv,
    store: MetaStore,
    succession: Succession,
    opened: OpenedLog,
  ) {
    this.#o = o;
    this.#succession = succession;
    this.#rules = o.rules ?? ALL_RULES;
    this.#lastTickMs = o.env.clock.monotonicMs();
    this.#group = group;
    this.#leaseOfVoters = new LeaseOfVoters(o.catalog, o.group, o.log);
    this.#gate = new EpochGate(o.env.clock, group, this.#rules);
    this.#kv = kv;
    this.#store = store;
    this.#log = opened.log;
    this.#lockWaits = new LockWaits(o.env.clock, (ino) => store.locksOf(ino));
    store.watchLocks((ino) => this.#lockWaits.relocked(ino));
    this.#applier = new Applier({
      store,
      log: opened.log,
      clock: o.env.clock,
      mayApply: () => this.#mayApply(),
      outcome: (seq, outcome) => this.#waiters.applied(seq, outcome),
      done: () => this.#table.allApplied(),
      guard: (work) => this.#guard(work),
      failed: (error) => this.#logFailed(error),
    });
    this.#pushing = new Pushing({
      network: o.network,
      logger: o.log,
      log: opened.log,
      primary: () => (this.#closing.signal.aborted ? undefined : this.#primary),
      head: () => this.#head(),
      committedSeq: () => this.#applier.committedSeq,
      nowMs: () => this.#nowMs(),
      guard: (work) => this.#guard(work),
      takeTail: (primary) => this.#takeTail(primary),
      answered: () => this.#afterEvent(),
    });
    this.#copies = new CopyServer(o.env.clock, o.env.random);
    this.#table = new TableUpkeep({
      store,
      log: opened.log,
      bounds: o.bounds ?? DEFAULT_BOUNDS,
      mayFlush: () => !this.#following.mustCopy && !this.#closing.signal.aborted,
      pinnedSeq: () => this.#copies.pinnedSeq,
      neededSeq: () => this.#primary?.neededSeq ?? this.#following.primarySyncedSeq + 1,
      serves: () => this.#serving()?.ok === true,
      propose: (command) => this.proposeCommand(command),
      isApplying: () => this.#applier.running !== undefined,
      guard: (work) => this.#guard(work),
      failed: (error) => this.#logFailed(error),
    });
    this.#broken = opened.broken;
    this.#opensAnew = opened.broken !== undefined;
    this.#following = new Following({
      self: o.self,
      network: o.network,
      logger: o.log,
      store,
      log: opened.log,
      gate: this.#gate,
      applier: this.#applier,
      succession,
      rules: this.#rules,
      damaged: opened.damaged ?? false,
      signal: this.#closing.signal,
      tailMaxBytes: PUSH_MAX_BYTES,
      group: () => this.#group,
      head: () => this.#head(),
      requireWhole: () => this.#requireWhole(),
      isPrimary: () => this.#primary !== undefined,
      tableIdle: () => Promise.resolve(this.#table.running),
      setAside: () => this.#setAside(),
      failed: (error) => this.#logFailed(error),
    });
    if (succession.lineage(group) === 'foreign') this.#following.becomeForeign();
  }

  static async open(o: GroupMemberOptions): Promise<GroupMember> {
    const { group, kv, store, succession, opened } = await openParts(o);
    return new GroupMember(o, group, kv, store, succession, opened);
  }

  /** After the network listens. */
  start(): void {
    this.#unsubscribe = this.#o.catalog.subscribe(() => this.#guard(() => this.#catalogChanged()));
    this.#catalogChanged(true);
    this.#tick();
  }

  /** Before an orderly end: others take over what this node is, if they can. True if it is nothing any more. Never rejects. */
  leave(): Promise<boolean> {
    this.#leaving = true;
    const { self, group, catalog, env, network } = this.#o;
    return leaveGroup({
      self,
      group,
      catalog,
      clock: env.clock,
      handOver: () => {
        this.#primary?.leave();
        this.#guard(() => this.#afterEvent());
        return this.#primary?.canHandOver(this.#nowMs()) ?? false;
      },
      tellPrimary: async (timeoutMs) => {
        const reply = await network.call(this.#group.primary, groupMethods.leave, this.#head(), { timeoutMs });
        return (reply.header as { replaced?: unknown } | null)?.replaced === true;
      },
    });
  }
  #leaving = false;

  async close(): Promise<void> {
    this.#closing.abort();
    this.#gate.close();
    this.#timer?.cancel();
    this.#applier.close();
    this.#unsubscribe?.();
    this.#rejectWaiters(stoppingError());
    await this.#following.idle();
    await Promise.all([this.#applier.running, this.#following.copied(), this.#takingTail, this.#table.running]);
    await this.#copies.close();
    const { log } = this.#o;
    // Log and table are written out; after a failure of either the other still is.
    await this.#store.close().catch((error: unknown) => log.error({ error: String(error) }, 'closing the table'));
    const closed = await this.#log.close().then(
      () => true,
      (error: unknown) => {
        log.error({ error: String(error) }, 'closing the group log');
        return false;
      },
    );
    if (closed) await this.#succession.closedInOrder().catch(() => undefined);
    else await this.#noLongerCertain();
    await this.#kv.close();
  }

  // What clients ask for

  /**
   * Orders the command, and resolves with its outcome once it is committed and applied. `decoded`: what the bytes say,
   * where the caller has read them.
   */
  propose(command: Uint8Array, decoded: Command): Promise<Outcome> {
    const primary = this.#requireServing();
    if (this.#waiters.count >= PENDING_MAX_COUNT) throw new OverloadedError('too many writes are waiting');
    if (command.length > COMMAND_MAX_BYTES) {
      throw new TooLargeError(`a change of ${command.length} bytes; the limit is ${COMMAND_MAX_BYTES}`);
    }
    const seq = (this.#log.lastSeq + 1) as Seq;
    const entry: LogEntry = { seq, epoch: primary.group.epoch, prevEpoch: this.#log.lastEpoch, command, decoded };
    const answered = this.#waiters.outcomeOf(seq);
    const written = this.#log.append([entry]);
    if (written !== this.#lastAppend) {
      this.#lastAppend = written;
      written.then(
        () => this.#guard(() => this.#ownLogWritten()),
        (error: unknown) => this.#logFailed(error),
      );
    }
    this.#pushing.soon();
    return answered;
  }

  async proposeCommand(command: Command): Promise<Outcome> {
    return this.propose(encodeCommand(command), command);
  }

  query<Op extends Query['op']>(query: QueryOf<Op>): Maybe<QueryResults[Op]> {
    this.#requireServing();
    const result = this.#store.query(query);
    if (!(result instanceof Promise)) return result;
    return result.then((later) => {
      // R5: looked at again right before the answer leaves; another may have taken over meanwhile.
      this.#requireServing();
      return later;
    });
  }

  /** Answers when the lock may be had, and soon in any case; what is answered is a hint, the lock itself is a command. */
  waitForLock(ino: Ino, wanted: LockRequest, signal: CancelSignal): Promise<LockWait> {
    this.#requireServing();
    return this.#lockWaits.wait(ino, wanted, signal);
  }

  /** Everything acknowledged before the call is on disk on every in-sync member when it resolves. */
  sync(): Promise<void> {
    const primary = this.#requireServing();
    const seq = this.#log.lastSeq;
    if (this.#waiters.count >= PENDING_MAX_COUNT) throw new OverloadedError('too many requests are waiting');
    primary.wantSync(seq);
    const done = this.#waiters.syncOf(seq);
    this.#log.sync().then(
      () => this.#guard(() => this.#settleSyncs()),
      (error: unknown) => this.#logFailed(error),
    );
    this.#pushing.soon();
    return done;
  }

  /** Now, never earlier than in an earlier command. */
  nowNs(): bigint {
    const now = this.#o.env.clock.wallNs();
    this.#lastNowNs = now > this.#lastNowNs ? now : this.#lastNowNs;
    return this.#lastNowNs;
  }

  heardOfSession(id: SessionId): void {
    this.#sessions.heard(id, this.#nowMs());
  }

  /** NotPrimaryError unless this node is the primary, serving or not. */
  requirePrimary(): void {
    if (this.#closing.signal.aborted) throw stoppingError();
    if (this.#primary !== undefined && this.#broken === undefined) return;
    throw new NotPrimaryError(`${this.#o.self} is not the primary of group ${this.#o.group}`, {
      info: { primary: this.#group.primary, epoch: this.#group.epoch },
    });
  }

  hasSession(id: SessionId): boolean {
    return this.#store.hasSession(id);
  }

  orphansOwedAfter(id: SessionId): number | undefined {
    return this.#store.orphansOwedAfter(id);
  }

  get gcGeneration(): number {
    return this.#store.gcGeneration;
  }

  status(): GroupStatus {
    const { self, group: id } = this.#o;
    const role = roleOf(this.#group, self);
    const serving = this.#serving();
    const detail =
      this.#broken ??
      (this.#following.mustCopy ? 'it takes a full copy' : serving?.ok === false ? serving.why : 'in order');
    return {
      id,
      role,
      epoch: this.#group.epoch,
      loggedSeq: this.#log.lastSeq,
      committedSeq: this.#applier.committedSeq,
      appliedSeq: this.#store.appliedSeq,
      serving: this.#broken === undefined && serving?.ok === true,
      detail,
    };
  }

  /** R5: this epoch and those before it are given up here (checks). */
  get fencedEpoch(): number {
    return this.#succession.fencedEpoch;
  }

  /** Equal on members that have applied the same (tests, checks). */
  digest(): Promise<{ readonly appliedSeq: Seq; readonly digest: string }> {
    return this.#store.digest();
  }

  #requireServing(): Primary {
    this.requirePrimary();
    const primary = this.#primary!;
    const serving = this.#serving()!;
    if (!serving.ok) throw new UnavailableError(`group ${this.#o.group} does not serve now: ${serving.why}`);
    return primary;
  }

  /** Undefined unless this node is the primary. */
  #serving(): Serving | undefined {
    const { clock } = this.#o.env;
    const nowMs = clock.monotonicMs();
    if (this.#suspendWatch.wasSuspended(nowMs, clock.wallNs())) this.#primary?.dropLease(nowMs);
    return this.#primary?.serving(this.#store.appliedSeq, nowMs);
  }

  // The primary's work

  #ownLogWritten(): void {
    this.#primary?.logged(this.#log.writtenSeq);
    this.#afterEvent();
  }

  /** Before the first push after a start: takes over what the secondary's log has beyond ours, so that nothing is cut. */
  #takeTail(primary: Primary): void {
    const { secondary } = primary;
    if (this.#takingTail !== undefined || secondary === null) return;
    this.#takingTail = this.#takeTailFrom(primary, secondary)
      .catch((error: unknown) => {
        if (error instanceof TailGapError) this.#cannotServe(error.message);
        else this.#o.log.debug({ error: String(error) }, 'the secondary cannot be asked yet');
      })
      .finally(() => {
        this.#takingTail = undefined;
      });
  }

  async #takeTailFrom(primary: Primary, secondary: NodeId): Promise<void> {
    const taken = await takeTail({
      network: this.#o.network,
      secondary,
      head: () => this.#head(),
      log: this.#log,
      logger: this.#o.log,
      timeoutMs: SYNC_TIMEOUT_MS,
      signal: this.#closing.signal,
      wanted: () => this.#primary === primary && !this.#closing.signal.aborted,
    });
    if (!taken) return;
    this.#guard(() => {
      if (this.#primary !== primary) return;
      primary.logged(this.#log.writtenSeq);
      primary.tailTaken();
      this.#afterEvent();
    });
  }

  /** After anything that may have moved the commit point or made something due. */
  #afterEvent(): void {
    const primary = this.#primary;
    if (primary !== undefined) {
      this.#applier.commitTo(primary.committedSeq);
      this.#settleSyncs();
      this.#proposeIfDue(primary);
      if (primary.needsDisk) this.#bringToDisk(primary);
    }
    this.#pushing.soon();
  }

  /** The primary is alone in sync, or about to be: what it acknowledges must be on its disk. */
  #bringToDisk(primary: Primary): void {
    if (this.#bringingToDisk) return;
    this.#bringingToDisk = true;
    this.#log
      .sync()
      .finally(() => (this.#bringingToDisk = false))
      .then(
        () =>
          this.#guard(() => {
            if (this.#primary !== primary) return;
            primary.synced();
            this.#afterEvent();
          }),
        (error: unknown) => this.#logFailed(error),
      );
  }
  #bringingToDisk = false;

  #settleSyncs(): void {
    const primary = this.#primary;
    if (primary === undefined || !this.#waiters.hasSyncs) return;
    const committed = Math.min(primary.committedSeq, this.#log.syncedSeq);
    this.#waiters.settleSyncs((seq) => committed >= seq && primary.syncedElsewhere(seq));
  }

  #proposeIfDue(primary: Primary): void {
    const nowMs = this.#nowMs();
    if (this.#proposing || nowMs < this.#nextProposeMs) return;
    const wanted = primary.wantedGroup(nowMs);
    if (wanted === undefined) return;
    const expectedGroupEpoch = primary.group.epoch;
    this.#proposing = true;
    this.#nextProposeMs = nowMs + PROPOSE_RETRY_MS;
    const { secondary } = wanted;
    const { id, epoch, primary: to } = wanted;
    const what = to === this.#o.self ? 'asking for another secondary' : `handing the group over to ${to}`;
    this.#o.log.info({ group: id, epoch, secondary }, what);
    proposeGroup(this.#o.catalog, wanted, expectedGroupEpoch)
      .catch((error: unknown) =>
        this.#o.log.warn({ error: String(error) }, 'the catalog did not take the change; trying again'),
      )
      .finally(() => {
        this.#proposing = false;
      });
  }

  // The followers' work

  /** RPC group.syncPush. */
  handlePush(push: SyncPush, request: IncomingRequest): Promise<HandlerReply> | HandlerReply {
    return this.#following.handlePush(push, request);
  }

  /** RPC group.tail. */
  handleTail(request: IncomingRequest): Promise<HandlerReply> {
    return this.#following.handleTail(request);
  }

  /** RPC group.syncPull, at the primary. */
  async handlePull(request: IncomingRequest): Promise<HandlerReply> {
    const head = parseHead(request.header);
    await this.#gate.pass(head);
    this.requirePrimary();
    const from = request.remote.nodeId;
    if (from === undefined) throw new AuthError('only nodes take full copies');
    return { header: await this.#copies.next(parseCursor(request.header), from, this.#store, this.#log) };
  }

  /** RPC group.secondaryQuery, at the primary. */
  async handleQuery(request: IncomingRequest): Promise<HandlerReply> {
    const head = parseHead(request.header);
    await this.#gate.pass(head);
    const from = request.remote.nodeId;
    this.requirePrimary();
    if (from === undefined) throw new AuthError('only nodes ask to be the secondary');
    const answer = this.#primary!.secondaryQuery(from, this.#nowMs());
    this.#afterEvent();
    return { header: { answer } };
  }

  /** R9: once; the member that is opened anew answers the next push. */
  #setAside(): void {
    if (this.#settingAside) return;
    this.#settingAside = true;
    this.#o.onReopen?.(true);
  }
  #settingAside = false;

  /** RPC group.copyState. */
  async copyState(): Promise<CopyState> {
    return describeCopy(this.#group, this.#log, this.#following.heardCommittedSeq, this.#whyNotWhole());
  }

  #whyNotWhole(): string {
    if (this.#broken !== undefined) return this.#broken;
    if (this.#following.isForeign) return 'it is of a history before the present one';
    return this.#following.mustCopy ? 'it is not complete: a full copy was being taken' : '';
  }

  /** RPC group.force, at the node whose copy is chosen (R9). The group's epoch that has it. */
  force(expectedGroupEpoch: number): Promise<number> {
    const { self, network, catalog, env } = this.#o;
    return forceGroup({
      self,
      network,
      catalog,
      env,
      group: this.#group,
      log: this.#log,
      expectedGroupEpoch,
      whyNot: this.#whyNotWhole(),
    });
  }

  /** RPC group.leave, at the primary. */
  async handleLeave(request: IncomingRequest): Promise<HandlerReply> {
    await this.#gate.pass(parseHead(request.header));
    const from = request.remote.nodeId;
    this.requirePrimary();
    if (from === undefined) throw new AuthError('only nodes leave a group');
    const replaced = this.#primary!.memberLeaves(from, this.#nowMs());
    this.#afterEvent();
    return { header: { replaced } };
  }

  /** A member whose group has stopped acknowledges nothing. */
  #requireWhole(): void {
    if (this.#closing.signal.aborted) throw stoppingError();
    if (this.#broken !== undefined) throw new UnavailableError(`group ${this.#o.group} on this node: ${this.#broken}`);
  }

  /** A participant asks the primary whether there is a secondary; the first to ask is appointed. */
  #askForSecondary(): void {
    const nowMs = this.#nowMs();
    const { secondary, learners } = this.#group;
    const { self, catalog } = this.#o;
    if (secondary !== null || !learners.includes(self) || this.#leaving || isDrained(catalog.current(), self)) return;
    // R8: an incomplete copy is never appointed.
    if (this.#following.mustCopy || nowMs < this.#nextQueryMs) return;
    this.#nextQueryMs = nowMs + QUERY_INTERVAL_MS;
    this.#o.network
      .call(this.#group.primary, groupMethods.secondaryQuery, this.#head(), { timeoutMs: PUSH_TIMEOUT_MS })
      .then((reply) => this.#o.log.debug({ answer: reply.header }, 'asked whether there is a secondary'))
      // The primary may be down, or know a newer catalog; asked again soon.
      .catch(() => undefined);
  }

  // Both

  #head(): Head {
    return { group: this.#o.group, epoch: this.#group.epoch, historyId: this.#group.historyId };
  }

  #nowMs(): number {
    return this.#o.env.clock.monotonicMs();
  }

  #mayApply(): boolean {
    return this.#broken === undefined && !this.#closing.signal.aborted && !this.#following.mustCopy;
  }

  #catalogChanged(first = false): void {
    const group = this.#o.catalog.current().groups.find((candidate) => candidate.id === this.#o.group);
    if (group === undefined || (!first && group.epoch === this.#group.epoch)) return;
    const { self } = this.#o;
    this.#group = group;
    this.#gate.changed(group);
    this.#succession.groupChanged(group);
    if (this.#historyChanged(group)) return;
    this.#nextQueryMs = 0;
    this.#nextProposeMs = 0;
    if (this.#opensAnew && group.primary !== self) {
      this.#opensAnew = false;
      this.#o.onReopen?.(false);
    }
    if (group.primary === self && this.#broken === undefined) {
      if (this.#primary !== undefined) {
        this.#primary.catalogChanged(group, this.#nowMs());
      } else if (this.#following.mustCopy) {
        this.#cannotServe('its copy of the metadata is not whole');
      } else {
        this.#sessions.clear();
        const { appliedSeq } = this.#store;
        this.#primary = new Primary({
          self,
          group,
          log: this.#log,
          appliedSeq,
          nowMs: this.#nowMs(),
          // R5: whoever handed over had stopped answering before.
          serveFromMs: group.handedOver === true && !first ? -Infinity : this.#serveFromMs(group),
          // R11: and only if all that this log acknowledged is still in it.
          hasAll: group.handedOver === true && !first && this.#succession.isCertain,
          isDraining: (node) => isDrained(this.#o.catalog.current(), node),
          rules: this.#rules,
          ...(first ? { epochFound: group.epoch } : {}),
        });
      }
    } else if (this.#primary !== undefined) {
      this.#primary = undefined;
      const info = { primary: group.primary, epoch: group.epoch };
      this.#rejectWaiters(new NotPrimaryError(`${self} is no longer the primary`, { info }));
    }
    if (this.#primary === undefined && this.#broken === undefined) this.#askForSecondary();
    if (!first) {
      const { epoch, primary, secondary } = group;
      this.#o.log.info(
        { group: group.id, epoch, primary, secondary, self: roleOf(group, self) },
        'the group has changed',
      );
    }
    this.#afterEvent();
  }

  /** R5; R9: of a history that has just begun, after the grace that the primary before it is given. */
  #serveFromMs(group: Group): number {
    const { forced, lastActivated } = group;
    const isNew = forced !== undefined && lastActivated.epoch < forced.epoch;
    return Math.max(this.#succession.serveFromMs, isNew ? this.#nowMs() + GRACE_MS : -Infinity);
  }

  /** R9. True: nothing is done in the new history before its name is on disk here. */
  #historyChanged(group: Group): boolean {
    const lineage = this.#succession.lineage(group);
    if (lineage === 'foreign' && !this.#following.isForeign) {
      this.#o.log.warn({ group: group.id, historyId: group.historyId }, 'R9: the group goes on with another history');
      this.#following.becomeForeign();
    }
    if (lineage !== 'carries') return false;
    this.#primary = undefined;
    this.#succession.carryOver(group.historyId).then(
      () => this.#guard(() => this.#catalogChanged(true)),
      (error: unknown) => this.#logFailed(error),
    );
    return true;
  }

  #tick(): void {
    if (this.#closing.signal.aborted) return;
    this.#timer = this.#o.env.clock.setTimer(TICK_MS, () => this.#guard(() => this.#tick()));
    const nowMs = this.#nowMs();
    if (nowMs - this.#lastTickMs > STALLED_MS) {
      this.#primary?.stalled(nowMs);
      this.#succession.stalled(nowMs);
      this.#sessions.stalled(this.#lastTickMs, nowMs);
    }
    this.#lastTickMs = nowMs;
    if (this.#broken !== undefined) return;
    this.#table.tick(nowMs);
    if (this.#primary !== undefined) {
      this.#leaseOfVoters.askIfDue(this.#primary, nowMs);
      if (this.#serving()?.ok === true) this.#expireSessions(nowMs);
      this.#lockWaits.tick();
      this.#afterEvent();
    } else {
      this.#askForSecondary();
      if (!this.#following.mustCopy) this.#succession.promoteIfDue(nowMs, this.#promotionPorts);
    }
  }

  #expireSessions(nowMs: number): void {
    for (const session of this.#sessions.expired(this.#store.sessions(), nowMs)) {
      this.#o.log.info({ session }, 'a session has expired');
      // Not ordered, for example because the members are changing: it is tried again.
      this.proposeCommand({ kind: 'expireSession', session }).catch(() => this.#sessions.notEnded(session));
    }
  }

  #rejectWaiters(error: Error): void {
    this.#waiters.rejectAll(error);
    this.#lockWaits.rejectAll(error);
  }

  #logFailed(error: unknown): void {
    if (this.#closing.signal.aborted) return;
    void this.#noLongerCertain();
    this.#fatal(error instanceof Error ? error : new CorruptionError(String(error)));
  }

  /** Before what is on this disk is opened again, after the log failed (R11). Rejects where the disk takes not even that. */
  noteLogFailed(): Promise<void> {
    return this.#succession.logFailed();
  }

  #noLongerCertain(): Promise<void> {
    return this.noteLogFailed().catch((error: unknown) => {
      this.#o.log.error({ error: String(error) }, 'could not note that the log failed');
    });
  }

  /** Runs work whose failure is a bug or a broken rule: the group must not go on. */
  #guard(work: () => void): void {
    if (this.#closing.signal.aborted) return;
    try {
      work();
    } catch (error) {
      this.#fatal(error instanceof Error ? error : new InvariantError(String(error)));
    }
  }

  #fatal(error: Error): void {
    if (this.#broken !== undefined) return;
    this.#o.log.error({ error: error.stack ?? error.message }, 'the group stops on this node');
    this.#cannotServe(`it stopped: ${error.message}`);
    this.#o.onFatal(error);
  }

  /** From here on this member takes no part; the rest of the node goes on. */
  #cannotServe(why: string): void {
    const { group, self, log } = this.#o;
    log.error({ group, why }, 'this node takes no part in the group');
    this.#broken = why;
    this.#primary = undefined;
    this.#rejectWaiters(new UnavailableError(`group ${group} on ${self}: ${why}`));
  }
}

function stoppingError(): UnavailableError {
  return new UnavailableError('this node is stopping');
}
