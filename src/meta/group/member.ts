/**
 * One group on one node: its log, its table and the part that this node plays in it. The driver of the pure parts
 * (primary.ts, follower.ts): it sends, stores, applies and asks the catalog, and decides nothing itself.
 *
 * Order of durability: an entry is with our operating system before `logged`; it is on disk, table and log, before the
 * log is cut; the catalog is durable here before its epoch is acted on (R6).
 */
import type { CatalogService, Group } from '../../catalog/types.ts';
import { proposeUntilChosen } from '../../catalog/replica.ts';
import type { Env, Kv, Timer } from '../../env.ts';
import {
  AuthError,
  CorruptionError,
  InvariantError,
  NotPrimaryError,
  StaleEpochError,
  UnavailableError,
} from '../../errors.ts';
import type { GroupId, NodeId, Seq, SessionId } from '../../ids.ts';
import { META_TIMEOUT_MS, MiB } from '../../limits.ts';
import type { Logger } from '../../log.ts';
import type { HandlerReply, IncomingRequest, Network } from '../../net/types.ts';
import { encodeCommand } from '../commands.ts';
import type { Command } from '../commands.ts';
import { MetaStore } from '../meta-store.ts';
import type { Outcome } from '../outcome.ts';
import type { GroupStatus, Query, QueryOf, QueryResults } from '../types.ts';
import { commonPrefix, compareLogs } from './common-prefix.ts';
import { stepFollower } from './follower.ts';
import { CopyServer, takeFullCopy } from './full-copy.ts';
import { GroupLog } from './log-files.ts';
import type { LogEntry } from './log-record.ts';
import {
  groupMethods,
  packEntries,
  parseCursor,
  parseHead,
  parseSyncPush,
  parseSyncPushReply,
  parseTailReply,
  parseTailRequest,
} from './messages.ts';
import type { Head, SyncPushReply } from './messages.ts';
import { Primary } from './primary.ts';
import type { PushPlan } from './primary.ts';
import { SessionWatch } from './session-watch.ts';

const TICK_MS = 100;
/** Entries in one SyncPush: far below the bound of a frame's header. */
const PUSH_MAX_BYTES = 1 * MiB;
/** One SyncPush: a write to the log, a sync at most, on a disk that others use too. */
const PUSH_TIMEOUT_MS = 3_000;
/** The table follows the log this often, or when it holds this much in memory. */
const FLUSH_INTERVAL_MS = 2_000;
const FLUSH_BYTES = 8 * MiB;
/** Bound on the table's memory should the disk not keep up; applying waits there. */
const OVERLAY_MAX_BYTES = 32 * MiB;
/** Log kept for members that are behind; beyond it they take a full copy. */
const LOG_KEEP_BYTES = 256 * MiB;
/** A participant asks whether there is a secondary this often while the catalog names none. */
const QUERY_INTERVAL_MS = 500;
/** A message of a newer epoch waits this long for the catalog that explains it. */
const CATALOG_WAIT_MS = 1_000;
const PROPOSE_RETRY_MS = 500;
/** Log that waits for an answer; beyond it writers are told to come again. */
const PENDING_MAX_COUNT = 20_000;

export interface GroupMemberOptions {
  readonly self: NodeId;
  readonly group: GroupId;
  readonly env: Env;
  readonly network: Network;
  readonly catalog: CatalogService;
  /** Directory of this group on this node. */
  readonly path: string;
  readonly log: Logger;
  /** A safety rule was broken: the node must stop. */
  readonly onFatal: (error: Error) => void;
}

interface Waiter {
  resolve(outcome: Outcome): void;
  reject(error: Error): void;
}

interface SyncWaiter {
  readonly seq: number;
  resolve(): void;
  reject(error: Error): void;
}

export class GroupMember {
  readonly #o: GroupMemberOptions;
  readonly #kv: Kv;
  readonly #store: MetaStore;
  #log: GroupLog;
  readonly #copies: CopyServer;
  readonly #sessions = new SessionWatch();
  readonly #closing = new AbortController();
  #group: Group;
  #primary: Primary | undefined;
  /** In words, why this member cannot take part. */
  #broken: string | undefined;
  /** Answers of the primary to its writers, by seq. */
  readonly #waiters = new Map<number, Waiter>();
  #syncWaiters: SyncWaiter[] = [];
  /** Commit point as this node knows it. */
  #committedSeq: number;
  #applying = false;
  /** Pushes are taken one after the other. */
  #followTail: Promise<unknown> = Promise.resolve();
  #copying = false;
  readonly #sending = new Set<NodeId>();
  #pumpQueued = false;
  #lastAppend: Promise<void> | undefined;
  #proposing = false;
  #takingTail = false;
  #timer: Timer | undefined;
  #unsubscribe: (() => void) | undefined;
  #flushing = false;
  #nextFlushMs = 0;
  #nextQueryMs = 0;
  #nextProposeMs = 0;
  #lastNowNs = 0n;

  private constructor(o: GroupMemberOptions, group: Group, kv: Kv, store: MetaStore, log: GroupLog, broken?: string) {
    this.#o = o;
    this.#group = group;
    this.#kv = kv;
    this.#store = store;
    this.#log = log;
    this.#committedSeq = store.appliedSeq;
    this.#copies = new CopyServer(o.env.clock, o.env.random);
    this.#broken = broken;
  }

  static async open(o: GroupMemberOptions): Promise<GroupMember> {
    const group = findGroup(o);
    const { disk } = o.env;
    await disk.mkdir(o.path);
    const kv = await disk.openKv(`${o.path}/table`);
    try {
      const store = await MetaStore.open({ kv, overlayMaxBytes: OVERLAY_MAX_BYTES });
      const { log, broken } = await openLog(o, group, store);
      return new GroupMember(o, group, kv, store, log, broken);
    } catch (error) {
      await kv.close();
      throw error;
    }
  }

  /** After the network listens. */
  start(): void {
    this.#unsubscribe = this.#o.catalog.subscribe(() => this.#guard(() => this.#catalogChanged()));
    this.#catalogChanged(true);
    this.#tick();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#timer?.cancel();
    this.#unsubscribe?.();
    this.#rejectWaiters(new UnavailableError('this node is stopping'));
    await this.#followTail;
    await this.#copies.close();
    await this.#log
      .close()
      .catch((error: unknown) => this.#o.log.error({ error: String(error) }, 'closing the group log'));
    await this.#store
      .close()
      .catch((error: unknown) => this.#o.log.error({ error: String(error) }, 'closing the table'));
    await this.#kv.close();
  }

  // What clients ask for

  /** Orders the command, and resolves with its outcome once it is committed and applied. */
  propose(command: Uint8Array): Promise<Outcome> {
    const primary = this.#requireServing();
    if (this.#waiters.size >= PENDING_MAX_COUNT)
      return Promise.reject(new UnavailableError('too many writes are waiting'));
    const seq = (this.#log.lastSeq + 1) as Seq;
    const entry: LogEntry = { seq, epoch: primary.group.epoch, prevEpoch: this.#log.lastEpoch, command };
    const answered = new Promise<Outcome>((resolve, reject) => this.#waiters.set(seq, { resolve, reject }));
    const written = this.#log.append([entry]);
    if (written !== this.#lastAppend) {
      this.#lastAppend = written;
      written.then(
        () => this.#guard(() => this.#ownLogWritten()),
        (error: unknown) => this.#logFailed(error),
      );
    }
    this.#queuePump();
    return answered;
  }

  proposeCommand(command: Command): Promise<Outcome> {
    return this.propose(encodeCommand(command));
  }

  async query<Op extends Query['op']>(query: QueryOf<Op>): Promise<QueryResults[Op]> {
    this.#requireServing();
    return this.#store.query(query);
  }

  /** Everything acknowledged before the call is on disk on every in-sync member when it resolves. */
  sync(): Promise<void> {
    const primary = this.#requireServing();
    const seq = this.#log.lastSeq;
    primary.wantSync(seq);
    const done = new Promise<void>((resolve, reject) => this.#syncWaiters.push({ seq, resolve, reject }));
    this.#log.sync().then(
      () => this.#guard(() => this.#settleSyncs()),
      (error: unknown) => this.#logFailed(error),
    );
    this.#queuePump();
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

  hasSession(id: SessionId): boolean {
    return this.#store.hasSession(id);
  }

  get gcGeneration(): number {
    return this.#store.gcGeneration;
  }

  status(): GroupStatus {
    const { self, group: id } = this.#o;
    const role = roleOf(this.#group, self);
    const serving = this.#primary?.serving();
    const detail =
      this.#broken ??
      (this.#copying || this.#store.incomplete
        ? 'it takes a full copy'
        : serving?.ok === false
          ? serving.why
          : 'in order');
    return {
      id,
      role,
      epoch: this.#group.epoch,
      loggedSeq: this.#log.lastSeq,
      committedSeq: this.#committedSeq,
      appliedSeq: this.#store.appliedSeq,
      serving: this.#broken === undefined && serving?.ok === true,
      detail,
    };
  }

  /** Equal on members that have applied the same (tests, checks). */
  digest(): Promise<{ readonly appliedSeq: Seq; readonly digest: string }> {
    return this.#store.digest();
  }

  #requireServing(): Primary {
    const primary = this.#primary;
    if (primary === undefined || this.#broken !== undefined) {
      throw new NotPrimaryError(`${this.#o.self} is not the primary of group ${this.#o.group}`, {
        info: { primary: this.#group.primary, epoch: this.#group.epoch },
      });
    }
    const serving = primary.serving();
    if (!serving.ok) throw new UnavailableError(`group ${this.#o.group} does not serve now: ${serving.why}`);
    return primary;
  }

  // The primary's work

  #ownLogWritten(): void {
    this.#primary?.logged(this.#log.writtenSeq);
    this.#afterEvent();
  }

  #queuePump(): void {
    if (this.#pumpQueued) return;
    this.#pumpQueued = true;
    queueMicrotask(() => {
      this.#pumpQueued = false;
      this.#guard(() => this.#pump());
    });
  }

  /** Sends what is due. */
  #pump(): void {
    const primary = this.#primary;
    if (primary === undefined || this.#closing.signal.aborted) return;
    if (primary.needsTail) return this.#takeTail(primary);
    for (const node of primary.members()) {
      for (;;) {
        if (this.#sending.has(node)) break;
        const plan = primary.nextPush(node, this.#nowMs());
        if (plan === undefined) break;
        const entries = plan.withEntries ? this.#log.readNow(plan.fromSeq, PUSH_MAX_BYTES) : [];
        if (entries === undefined) void this.#sendFromDisk(primary, node, plan);
        else this.#send(primary, node, plan, entries);
      }
    }
  }

  async #sendFromDisk(primary: Primary, node: NodeId, plan: PushPlan): Promise<void> {
    this.#sending.add(node);
    try {
      const entries = await this.#log.read(plan.fromSeq, PUSH_MAX_BYTES);
      this.#sending.delete(node);
      this.#send(primary, node, plan, entries);
    } catch (error) {
      this.#sending.delete(node);
      this.#o.log.warn({ node, error: String(error) }, 'cannot read the log for a member');
      primary.pushFailed(node, this.#nowMs());
    }
  }

  #send(primary: Primary, node: NodeId, plan: PushPlan, entries: readonly LogEntry[]): void {
    const prevSeq = plan.fromSeq - 1;
    const prevEpoch = this.#log.epochAt(prevSeq);
    const header = {
      ...this.#head(),
      prevSeq,
      prevEpoch: prevEpoch ?? 0,
      entries: packEntries(entries),
      committedSeq: this.#committedSeq,
      sync: plan.sync,
      copy: plan.copy || prevEpoch === undefined,
    };
    const last = entries.at(-1);
    if (last !== undefined) primary.sent(node, plan, last.seq);
    this.#o.network
      .call(node, groupMethods.syncPush, header, { timeoutMs: PUSH_TIMEOUT_MS, signal: this.#closing.signal })
      .then(
        (reply) =>
          this.#guard(() => {
            if (this.#primary !== primary) return;
            primary.pushAnswered(node, plan, parseSyncPushReply(reply.header), this.#nowMs());
            this.#afterEvent();
          }),
        () =>
          this.#guard(() => {
            if (this.#primary === primary) primary.pushFailed(node, this.#nowMs());
          }),
      );
  }

  /** Before the first push after a start: takes over what the secondary's log has beyond ours, so that nothing is cut. */
  #takeTail(primary: Primary): void {
    const { secondary } = primary;
    if (this.#takingTail || secondary === null) return;
    this.#takingTail = true;
    this.#takeTailFrom(primary, secondary)
      .catch((error: unknown) => this.#o.log.debug({ error: String(error) }, 'the secondary cannot be asked yet'))
      .finally(() => {
        this.#takingTail = false;
      });
  }

  async #takeTailFrom(primary: Primary, secondary: NodeId): Promise<void> {
    for (let fromSeq = 0; ;) {
      const header = { ...this.#head(), fromSeq };
      const reply = await this.#o.network.call(secondary, groupMethods.tail, header, { timeoutMs: PUSH_TIMEOUT_MS });
      if (this.#primary !== primary) return;
      const { ends, entries } = parseTailReply(reply.header, fromSeq);
      if (fromSeq === this.#log.lastSeq + 1 && entries.length > 0) {
        await this.#log.append(entries);
        this.#o.log.info({ count: entries.length, from: secondary }, 'took over entries that only the secondary had');
      }
      const isPrefix = commonPrefix(this.#log.epochEnds(), ends) === this.#log.lastSeq;
      if (!isPrefix || compareLogs(ends, this.#log.epochEnds()) <= 0) break;
      fromSeq = this.#log.lastSeq + 1;
    }
    // What we acknowledge from now on builds on all of this: it must not be lost by the next power failure.
    await this.#log.sync();
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
      this.#commitTo(primary.committedSeq);
      this.#settleSyncs();
      this.#proposeIfDue(primary);
    }
    this.#queuePump();
  }

  #settleSyncs(): void {
    const primary = this.#primary;
    if (primary === undefined || this.#syncWaiters.length === 0) return;
    const waiting: SyncWaiter[] = [];
    for (const waiter of this.#syncWaiters) {
      const done = this.#log.syncedSeq >= waiter.seq && primary.syncedElsewhere(waiter.seq);
      if (done && primary.committedSeq >= waiter.seq) waiter.resolve();
      else waiting.push(waiter);
    }
    this.#syncWaiters = waiting;
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
    this.#o.log.info({ group: wanted.id, epoch: wanted.epoch, secondary }, 'asking for another secondary');
    proposeUntilChosen(
      this.#o.catalog,
      (current) => {
        const now = current.groups.find((group) => group.id === wanted.id);
        return now?.epoch === expectedGroupEpoch ? { kind: 'putGroup', group: wanted, expectedGroupEpoch } : undefined;
      },
      META_TIMEOUT_MS,
    )
      .catch((error: unknown) =>
        this.#o.log.warn({ error: String(error) }, 'the catalog did not take the change; trying again'),
      )
      .finally(() => {
        this.#proposing = false;
      });
  }

  // The followers' work

  /** RPC group.syncPush. */
  handlePush(request: IncomingRequest): Promise<HandlerReply> {
    const push = parseSyncPush(request.header);
    const run = this.#followTail.then(async () => {
      await this.#checkSender(push, request);
      return { header: await this.#follow(push) };
    });
    this.#followTail = run.catch(() => undefined);
    return run;
  }

  async #follow(push: ReturnType<typeof parseSyncPush>): Promise<SyncPushReply> {
    if (this.#copying) return { status: 'copying' };
    if (this.#store.incomplete) return this.#beginCopy();
    const step = stepFollower(push, this.#log, this.#store.appliedSeq);
    switch (step.kind) {
      case 'copy':
        return this.#beginCopy();
      case 'mismatch':
        return { status: 'mismatch', ends: this.#log.epochEnds() };
      case 'append': {
        if (step.truncateAfter !== undefined) {
          this.#o.log.warn(
            { after: step.truncateAfter, last: this.#log.lastSeq },
            'dropping entries that the primary does not have',
          );
          await this.#log.truncateAfter(step.truncateAfter);
        }
        if (step.entries.length > 0) await this.#log.append(step.entries);
        if (push.sync) await this.#log.sync();
        this.#commitTo(Math.min(step.committedSeq, this.#log.lastSeq));
        // What is beyond the message may not be the primary's: only what was compared counts.
        const lastSeq = Math.min(this.#log.lastSeq, push.prevSeq + push.entries.length);
        return { status: 'logged', lastSeq, syncedSeq: Math.min(this.#log.syncedSeq, lastSeq) };
      }
    }
  }

  #beginCopy(): SyncPushReply {
    this.#copying = true;
    const { primary } = this.#group;
    this.#o.log.warn({ group: this.#o.group, from: primary }, 'taking a full copy of the metadata');
    // Not awaited: pushes meanwhile are answered with 'copying'.
    this.#waitForApply()
      .then(() => takeFullCopy(this.#o.network, primary, this.#head(), this.#store, this.#log, this.#closing.signal))
      .then(() => {
        this.#committedSeq = this.#store.appliedSeq;
        this.#o.log.info({ group: this.#o.group, seq: this.#store.appliedSeq }, 'the full copy is complete');
      })
      .catch((error: unknown) => this.#o.log.warn({ error: String(error) }, 'the full copy failed; starting it over'))
      .finally(() => {
        this.#copying = false;
      });
    return { status: 'copying' };
  }

  async #waitForApply(): Promise<void> {
    while (this.#applying) await this.#o.env.clock.sleep(1, this.#closing.signal);
  }

  /** RPC group.tail. */
  async handleTail(request: IncomingRequest): Promise<HandlerReply> {
    const head = parseTailRequest(request.header);
    await this.#checkSender(head, request);
    const { fromSeq } = head;
    if (this.#copying || this.#store.incomplete || fromSeq === 0 || fromSeq < this.#log.firstSeq) {
      // An incomplete copy has nothing that counts: its log ends before the first entry.
      const ends = this.#store.incomplete ? [[0, 0] as const] : this.#log.epochEnds();
      return { header: { ends, prevEpoch: 0, entries: [] } };
    }
    const entries = await this.#log.read(fromSeq, PUSH_MAX_BYTES);
    const prevEpoch = this.#log.epochAt(fromSeq - 1) ?? 0;
    return { header: { ends: this.#log.epochEnds(), prevEpoch, entries: packEntries(entries) } };
  }

  /** RPC group.syncPull, at the primary. */
  async handlePull(request: IncomingRequest): Promise<HandlerReply> {
    const head = parseHead(request.header);
    await this.#matchEpoch(head);
    if (this.#primary === undefined)
      throw new NotPrimaryError('a full copy is taken from the primary', { info: { primary: this.#group.primary } });
    return { header: await this.#copies.next(parseCursor(request.header), this.#store, this.#log) };
  }

  /** RPC group.secondaryQuery, at the primary. */
  async handleQuery(request: IncomingRequest): Promise<HandlerReply> {
    const head = parseHead(request.header);
    await this.#matchEpoch(head);
    const from = request.remote.nodeId;
    if (this.#primary === undefined || from === undefined) {
      throw new NotPrimaryError('SecondaryQuery goes to the primary', { info: { primary: this.#group.primary } });
    }
    const answer = this.#primary.secondaryQuery(from, this.#nowMs());
    this.#afterEvent();
    return { header: { answer } };
  }

  async #checkSender(head: Head, request: IncomingRequest): Promise<void> {
    await this.#matchEpoch(head);
    if (request.remote.nodeId !== this.#group.primary) {
      throw new AuthError(
        `${request.remote.nodeId ?? 'a client'} is not the primary of ${head.group} in epoch ${head.epoch}`,
      );
    }
  }

  /** R6: refuses a lower epoch; a higher one only once the catalog that it comes from is here. */
  async #matchEpoch(head: Head): Promise<void> {
    const deadline = this.#nowMs() + CATALOG_WAIT_MS;
    while (head.epoch > this.#group.epoch && this.#nowMs() < deadline) {
      await this.#o.env.clock.sleep(5, this.#closing.signal);
    }
    if (head.epoch !== this.#group.epoch || head.historyId !== this.#group.historyId) {
      throw new StaleEpochError(
        `group ${this.#o.group} is at epoch ${this.#group.epoch} here, the message at ${head.epoch}`,
        {
          info: { epoch: this.#group.epoch },
        },
      );
    }
  }

  /** A participant asks the primary whether there is a secondary; the first to ask is appointed. */
  #askForSecondary(): void {
    const nowMs = this.#nowMs();
    if (this.#group.secondary !== null || !this.#group.learners.includes(this.#o.self) || nowMs < this.#nextQueryMs)
      return;
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

  #commitTo(seq: number): void {
    if (seq <= this.#committedSeq && this.#store.appliedSeq >= this.#committedSeq) return;
    this.#committedSeq = Math.max(this.#committedSeq, seq);
    if (!this.#applying && !this.#store.incomplete) void this.#apply();
  }

  /** Applies what is committed, in order; one at a time. */
  async #apply(): Promise<void> {
    this.#applying = true;
    try {
      while (this.#store.appliedSeq < this.#committedSeq && !this.#copying) {
        const from = this.#store.appliedSeq + 1;
        const read = this.#log.readNow(from, PUSH_MAX_BYTES) ?? (await this.#log.read(from, PUSH_MAX_BYTES));
        const entries = read.filter((entry) => entry.seq <= this.#committedSeq);
        if (entries.length === 0) break;
        const applying = this.#store.apply(entries, (seq, outcome) => this.#answer(seq, outcome));
        if (applying !== undefined) await applying;
      }
      this.#reclaim();
    } catch (error) {
      this.#fatal(error instanceof Error ? error : new CorruptionError(String(error)));
    } finally {
      this.#applying = false;
    }
    if (this.#store.overlayBytes > FLUSH_BYTES) this.#flush();
  }

  #answer(seq: number, outcome: Outcome): void {
    const waiter = this.#waiters.get(seq);
    if (waiter === undefined) return;
    this.#waiters.delete(seq);
    waiter.resolve(outcome);
  }

  /** Rows of deleted files go bit by bit, by commands like any other. */
  #reclaim(): void {
    if (this.#primary?.serving().ok !== true || this.#reclaiming) return;
    const command = this.#store.reclaimCommand();
    if (command === undefined) return;
    this.#reclaiming = true;
    this.proposeCommand(command)
      .catch(() => undefined)
      .finally(() => {
        this.#reclaiming = false;
        if (!this.#applying) this.#guard(() => this.#reclaim());
      });
  }
  #reclaiming = false;

  /** The table on disk, then the log cut. The log first: the table must never be ahead of it after a power failure. */
  #flush(): void {
    if (this.#flushing || this.#store.incomplete || this.#copying) return;
    this.#flushing = true;
    this.#log
      .sync()
      .then(() => this.#store.flush())
      .then(() => this.#cutLog())
      .catch((error: unknown) => this.#logFailed(error))
      .finally(() => {
        this.#flushing = false;
      });
  }

  async #cutLog(): Promise<void> {
    let needed = Math.min(this.#store.durableSeq + 1, this.#copies.pinnedSeq);
    // A member that is far behind takes a full copy rather than fill this disk.
    if (this.#log.sizeBytes <= LOG_KEEP_BYTES) needed = Math.min(needed, this.#primary?.neededSeq ?? Infinity);
    await this.#log.dropBelow(Math.min(needed, this.#store.durableSeq + 1));
  }

  #catalogChanged(first = false): void {
    const group = this.#o.catalog.current().groups.find((candidate) => candidate.id === this.#o.group);
    if (group === undefined || (!first && group.epoch === this.#group.epoch)) return;
    const { self } = this.#o;
    this.#group = group;
    if (group.primary === self && this.#broken === undefined) {
      if (this.#primary !== undefined) this.#primary.catalogChanged(group, this.#nowMs());
      else {
        this.#sessions.clear();
        const { appliedSeq } = this.#store;
        this.#primary = new Primary({ self, group, log: this.#log, appliedSeq, nowMs: this.#nowMs() });
      }
    } else if (this.#primary !== undefined) {
      this.#primary = undefined;
      this.#rejectWaiters(
        new NotPrimaryError(`${self} is no longer the primary`, { info: { primary: group.primary } }),
      );
    }
    if (!first) {
      const { epoch, primary, secondary } = group;
      this.#o.log.info(
        { group: group.id, epoch, primary, secondary, self: roleOf(group, self) },
        'the group has changed',
      );
    }
    this.#afterEvent();
  }

  #rejectWaiters(error: Error): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
    for (const waiter of this.#syncWaiters.splice(0)) waiter.reject(error);
  }

  #tick(): void {
    if (this.#closing.signal.aborted) return;
    this.#timer = this.#o.env.clock.setTimer(TICK_MS, () => this.#guard(() => this.#tick()));
    if (this.#broken !== undefined) return;
    const nowMs = this.#nowMs();
    if (nowMs >= this.#nextFlushMs) {
      this.#nextFlushMs = nowMs + FLUSH_INTERVAL_MS;
      if (this.#store.appliedSeq > this.#store.durableSeq) this.#flush();
    }
    if (this.#primary !== undefined) {
      if (this.#primary.serving().ok) this.#expireSessions(nowMs);
      this.#afterEvent();
    } else {
      this.#askForSecondary();
    }
  }

  #expireSessions(nowMs: number): void {
    for (const session of this.#sessions.expired(this.#store.sessions(), nowMs)) {
      this.#o.log.info({ session }, 'a session has expired');
      this.proposeCommand({ kind: 'expireSession', session }).catch(() => undefined);
    }
  }

  #logFailed(error: unknown): void {
    if (this.#closing.signal.aborted) return;
    this.#fatal(error instanceof Error ? error : new CorruptionError(String(error)));
  }

  /** Runs work whose failure is a bug or a broken rule: the group must not go on. */
  #guard(work: () => void): void {
    if (this.#closing.signal.aborted) return;
    try {
      work();
    } catch (error) {
      if (error instanceof NotPrimaryError || error instanceof UnavailableError) return;
      this.#fatal(error instanceof Error ? error : new InvariantError(String(error)));
    }
  }

  #fatal(error: Error): void {
    if (this.#broken !== undefined) return;
    this.#broken = `it stopped: ${error.message}`;
    this.#o.log.error({ error: error.stack ?? error.message }, 'the group stops on this node');
    this.#rejectWaiters(new UnavailableError(`group ${this.#o.group} stopped on ${this.#o.self}: ${error.message}`));
    this.#o.onFatal(error);
  }
}

function findGroup(o: GroupMemberOptions): Group {
  const group = o.catalog.current().groups.find((candidate) => candidate.id === o.group);
  if (group === undefined) throw new UnavailableError(`there is no group ${o.group}`);
  return group;
}

function roleOf(group: Group, self: NodeId): GroupStatus['role'] {
  if (group.primary === self) return 'primary';
  if (group.secondary === self) return 'secondary';
  return group.learners.includes(self) ? 'learner' : 'none';
}

/** A follower whose log is damaged starts over with a full copy; a primary keeps everything and says so. */
async function openLog(
  o: GroupMemberOptions,
  group: Group,
  store: MetaStore,
): Promise<{ log: GroupLog; broken?: string }> {
  const path = `${o.path}/log`;
  const options = { disk: o.env.disk, path, log: o.log };
  const isPrimary = group.primary === o.self;
  try {
    const log = await GroupLog.open(options);
    if (store.incomplete || log.lastSeq >= store.appliedSeq) {
      if (isPrimary && store.incomplete) return { log, broken: 'its copy of the metadata is incomplete' };
      return { log };
    }
    await log.close();
    throw new CorruptionError(`the log ends at ${log.lastSeq}, the table is at ${store.appliedSeq}`);
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    o.log.error({ error: error.message }, 'the log of the group is damaged');
    // Kept aside for whoever wants to look.
    const aside = `${path}.damaged`;
    await o.env.disk.remove(aside);
    await o.env.disk.rename(path, aside);
    const log = await GroupLog.open(options);
    if (isPrimary) return { log, broken: `its log is damaged (kept in ${aside}): ${error.message}` };
    await store.beginImport();
    return { log };
  }
}
