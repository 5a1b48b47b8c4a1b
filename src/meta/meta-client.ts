/**
 * The client of the metadata groups: finds the primary by inode, tries again under the same request id until the
 * deadline, and so applies each mutation exactly once whatever is lost on the way.
 *
 * A client that was cut off for longer than its lease has no session any more. It then begins another by itself and
 * goes on; what belonged to the old one is lost, and whoever kept it is told (`onSessionLost`).
 */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import { anInoOf, groupOfIno } from '../catalog/document.ts';
import type { CatalogService, Group } from '../catalog/types.ts';
import type { Env, Timer } from '../env.ts';
import { CancelledError, FormatError, SessionExpiredError, TatamiError, TimeoutError } from '../errors.ts';
import type { Epoch, GroupId, Ino, SessionId } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, META_TIMEOUT_MS, SESSION_LEASE_MS } from '../limits.ts';
import type { Logger } from '../log.ts';
import type { Header, Network } from '../net/types.ts';
import { metaMethods } from './meta-service.ts';
import { answerForOrphans } from './orphan-answers.ts';
import { decodeOutcome, outcomeError } from './outcome.ts';
import { decodeQueryResult } from './query-codec.ts';
import { encodeLockWait, encodeMutateRequest, encodeQueryRequest } from './requests.ts';
import { PrimaryWatch, eitherSignal } from './primary-watch.ts';
import type { GroupEra } from './primary-watch.ts';
import { SessionDoubt } from './session-doubt.ts';
import type {
  AnswerForOrphans,
  LockWait,
  MetaClient,
  Mutation,
  MutationResult,
  OwnLockRequest,
  Query,
  QueryOf,
  QueryResults,
} from './types.ts';

/** Conditions that pass: the same request is tried again, at whoever is primary then. */
const PASSING = new Set([
  'ERR_NOT_PRIMARY',
  'ERR_PEER_UNREACHABLE',
  'ERR_UNAVAILABLE',
  'ERR_TIMEOUT',
  'ERR_OVERLOADED',
  'ERR_STALE_EPOCH',
]);
/** Of these, those after which another node may know more. */
const ABOUT_THE_NODE = new Set(['ERR_PEER_UNREACHABLE', 'ERR_TIMEOUT', 'ERR_UNAVAILABLE']);
const RETRY_FIRST_MS = 20;
const RETRY_MOST_MS = 500;

export interface MetaClientOptions {
  readonly env: Env;
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly log: Logger;
  /** Shown with the session. */
  readonly label: string;
  readonly leaseMs?: number;
  /** Of a call, all retries included; default META_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

interface CallOptions {
  readonly timeoutMs?: number;
  readonly signal?: CancelSignal;
  /** As of a commit: it must not be done under another session than that in which it was asked for. */
  readonly fenced?: boolean;
}

interface DeadlineOptions extends CallOptions {
  readonly deadlineMs: number;
  /** A late answer does not make the primary suspect. */
  readonly patient?: boolean;
}

const NO_OPTIONS: CallOptions = {};

/** Opens a session at the groups; rejects if no primary serves before the deadline. */
export async function connectMeta(options: MetaClientOptions): Promise<RemoteMetaClient> {
  const client = new RemoteMetaClient(options);
  await client.open();
  return client;
}

export class RemoteMetaClient implements MetaClient {
  #sessionId: SessionId;
  readonly #o: MetaClientOptions;
  readonly #leaseMs: number;
  readonly #closing = new Cancellation();
  /** Request ids whose answer is not known; ascending, as a Set keeps the order of insertion. */
  readonly #unanswered = new Set<number>();
  #nextRequestId = 1;
  readonly #primaries: PrimaryWatch;
  readonly #lostCallbacks: (() => void)[] = [];
  readonly #doubt: SessionDoubt;
  #answerForOrphans: AnswerForOrphans | undefined;
  /** Groups whose question about unlinked files is being answered. */
  readonly #answering = new Set<GroupId>();
  #timer: Timer | undefined;
  /** Another session is being opened, until it is: changes wait for it. */
  #renewal: Promise<void> | undefined;

  constructor(options: MetaClientOptions) {
    this.#o = options;
    this.#leaseMs = options.leaseMs ?? SESSION_LEASE_MS;
    this.#doubt = new SessionDoubt(options.env.clock, this.#leaseMs);
    this.#sessionId = this.#newSessionId();
    this.#primaries = new PrimaryWatch(options.env, options.catalog);
  }

  /** The session that changes are made under; another one after it has expired. */
  get sessionId(): SessionId {
    return this.#sessionId;
  }

  async open(): Promise<void> {
    await this.#openSession(this.#sessionId);
    this.#keepAliveLater();
  }

  /** Called each time the session has expired, before anything is done under another one. */
  onSessionLost(callback: () => void): void {
    this.#lostCallbacks.push(callback);
  }

  /** Nothing was heard of the servers for a lease: they may have ended the session, and given its locks to others. */
  get isSessionDoubtful(): boolean {
    return this.#doubt.isDoubtful;
  }

  /** Called each time that begins. It ends with the next answer, or with the session. */
  onSessionDoubtful(callback: () => void): void {
    this.#doubt.onDoubt(callback);
  }

  /** As told with the answers to what keeps the session alive: within a third of its lease. */
  onUnlinked(answer: AnswerForOrphans): void {
    this.#answerForOrphans = answer;
  }

  async mutate(mutation: Mutation, options: CallOptions = NO_OPTIONS): Promise<MutationResult> {
    const { clock } = this.#o.env;
    const deadlineMs = clock.monotonicMs() + (options.timeoutMs ?? this.#timeoutMs);
    for (;;) {
      if (this.#renewal !== undefined) await this.#renewed(deadlineMs, options.signal);
      const session = this.#sessionId;
      const tried = { count: 0 };
      try {
        return await this.#mutateIn(session, mutation, { ...options, deadlineMs }, tried);
      } catch (error) {
        if (!(error instanceof SessionExpiredError)) throw error;
        this.#sessionLost(session);
        // Refused at the first try, it was not done, and can be under the next session. But not what was written under the
        // old one: its locks are gone, and others may have written since.
        if (tried.count > 1 || mutation.op === 'commit' || options.fenced === true || clock.monotonicMs() >= deadlineMs)
          throw error;
      }
    }
  }

  async #mutateIn(
    session: SessionId,
    mutation: Mutation,
    options: DeadlineOptions,
    tried: { count: number },
  ): Promise<MutationResult> {
    const requestId = this.#nextRequestId++;
    this.#unanswered.add(requestId);
    let answered = false;
    try {
      const reply = await this.#call(
        () => this.#groupOf(targetOf(mutation)),
        metaMethods.mutate,
        (group) => {
          tried.count++;
          // The lowest id whose answer is not known: results below it may be forgotten.
          const [ackedBelow = requestId] = this.#unanswered;
          return encodeMutateRequest(group, { session, requestId, ackedBelow }, mutation);
        },
        options,
      );
      answered = true;
      if (!(reply instanceof Uint8Array)) throw new FormatError('reply to meta.mutate is not bytes');
      const outcome = decodeOutcome(reply);
      if (!outcome.ok) throw outcomeError(outcome.code);
      return outcome.result;
    } finally {
      // After a timeout the answer may still be on its way, but nobody will ask for it again.
      if (!answered) this.#o.log.debug({ requestId, op: mutation.op }, 'gave up on a mutation');
      this.#unanswered.delete(requestId);
    }
  }

  async query<Op extends Query['op']>(
    query: QueryOf<Op>,
    options: CallOptions = NO_OPTIONS,
  ): Promise<QueryResults[Op]> {
    const reply = await this.#call(
      () => this.#groupOf(inoOf(query)),
      metaMethods.query,
      (group) => encodeQueryRequest(group, query),
      this.#withDeadline(options),
    );
    if (!(reply instanceof Uint8Array)) throw new FormatError('reply to meta.query is not bytes');
    return decodeQueryResult(query.op, reply);
  }

  async waitForLock(ino: Ino, lock: OwnLockRequest, options: CallOptions = NO_OPTIONS): Promise<LockWait> {
    const reply = await this.#call(
      () => this.#groupOf(ino),
      metaMethods.waitForLock,
      (group) => encodeLockWait(group, this.#sessionId, ino, lock),
      // That it takes its time says nothing about the primary.
      { ...this.#withDeadline(options), patient: true },
    );
    const { state } = (reply ?? {}) as { readonly state?: unknown };
    if (state === 'free' || state === 'held' || state === 'deadlock') return state;
    throw new FormatError('reply to meta.waitForLock is of no known kind');
  }

  async sync(options: CallOptions = {}): Promise<void> {
    await this.#everyGroup((group) => this.#callWith(group, metaMethods.sync, {}, options));
  }

  /** From the reply on, commits of blocks put before this collection generation are refused (gc). */
  async gcBarrier(generation: number): Promise<void> {
    await this.#everyGroup((group) => this.#callWith(group, metaMethods.gcBarrier, { generation }, NO_OPTIONS));
  }

  /** Ends the session: its unlinked files go at once rather than at the end of the lease. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#timer?.cancel();
    this.#doubt.close();
    const fields = { session: this.#sessionId };
    await this.#everyGroup((group) =>
      this.#callWith(group, metaMethods.endSession, fields, { timeoutMs: 1_000 }),
    ).catch((error: unknown) => this.#o.log.debug({ error: String(error) }, 'the session was left to expire'));
    this.#closing.abort();
    this.#primaries.close();
  }

  async #everyGroup(work: (group: Group) => Promise<unknown>): Promise<void> {
    await Promise.all(this.#o.catalog.current().groups.map(work));
  }

  /** One of the rarer messages, whose header is a map of named fields. */
  #callWith(group: Group, method: string, fields: object, options: CallOptions): Promise<unknown> {
    return this.#call(
      () => group,
      method,
      (id) => ({ ...fields, group: id }),
      this.#withDeadline(options),
    );
  }

  #groupOf(ino: Ino): Group {
    return groupOfIno(this.#o.catalog.current(), ino);
  }

  /** Calls the group's primary until it answers; `headerFor` is asked before each attempt. */
  async #call(
    groupNow: () => Group,
    method: string,
    headerFor: (group: string) => unknown,
    options: DeadlineOptions,
  ): Promise<unknown> {
    const { clock } = this.#o.env;
    const { signal, deadlineMs } = options;
    let epoch: Epoch | undefined;
    for (let attempt = 0; ; attempt++) {
      if (this.#closing.signal.aborted) throw new CancelledError('the client is closed');
      // By id, in the newest catalog: the primary may have changed since the last attempt.
      const wanted = groupNow();
      const group = this.#o.catalog.current().groups.find((candidate) => candidate.id === wanted.id) ?? wanted;
      const era = this.#primaries.eraOf(group);
      if (era.epoch !== epoch) attempt = 0;
      epoch = era.epoch;
      const timeoutMs = Math.max(1, Math.min(ATTEMPT_TIMEOUT_MS, deadlineMs - clock.monotonicMs()));
      try {
        return await this.#attempt(era, method, headerFor(group.id), { ...options, timeoutMs });
      } catch (error) {
        if (era.moved.aborted && signal?.aborted !== true) continue;
        if (!(error instanceof TatamiError) || !PASSING.has(error.code)) throw error;
        if (ABOUT_THE_NODE.has(error.code)) this.#primaries.suspect(era.primary);
        const waitMs = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** attempt);
        if (clock.monotonicMs() + waitMs >= deadlineMs) throw this.#lateError(method, group, error);
        await this.#pause(waitMs, era.changed, signal);
      }
    }
  }

  async #attempt(
    era: GroupEra,
    method: string,
    header: Header,
    { timeoutMs, signal: caller, patient }: DeadlineOptions & { readonly timeoutMs: number },
  ): Promise<unknown> {
    const question = patient === true ? undefined : this.#primaries.asked(era.primary);
    const { signal, release } = eitherSignal(era.moved, caller);
    try {
      return (await this.#o.network.call(era.primary, method, header, { timeoutMs, signal })).header;
    } finally {
      release();
      if (question !== undefined) this.#primaries.answered(question);
    }
  }

  /** Ends early when the group has changed: what did not serve may serve now. */
  async #pause(waitMs: number, changed: CancelSignal, caller: CancelSignal | undefined): Promise<void> {
    const { signal, release } = eitherSignal(changed, caller);
    try {
      await this.#o.env.clock.sleep(waitMs, signal);
    } catch (error) {
      if (caller?.aborted === true) throw error;
    } finally {
      release();
    }
  }

  // The session

  #newSessionId(): SessionId {
    return Buffer.from(this.#o.env.random.bytes(16)).toString('hex') as SessionId;
  }

  async #openSession(session: SessionId): Promise<void> {
    const fields = { session, leaseMs: this.#leaseMs, label: this.#o.label, answersForOrphans: true };
    const sentMs = this.#o.env.clock.monotonicMs();
    await this.#everyGroup((group) => this.#callWith(group, metaMethods.openSession, fields, NO_OPTIONS));
    this.#doubt.heard(sentMs);
  }

  /** A group has refused it as unknown or expired: another is begun, unless it was already. */
  #sessionLost(session: SessionId): void {
    if (session !== this.#sessionId || this.#renewal !== undefined || this.#closing.signal.aborted) return;
    this.#sessionId = this.#newSessionId();
    this.#o.log.warn({}, 'the session has expired: it was not heard of for too long; another is begun');
    this.#renewal = this.#renew().finally(() => (this.#renewal = undefined));
    for (const callback of this.#lostCallbacks) callback();
  }

  /** Tries until it is open, or the client is closed. */
  async #renew(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      try {
        return await this.#openSession(this.#sessionId);
      } catch (error) {
        this.#o.log.warn({ error: String(error) }, 'no other session could be begun; trying again');
        await this.#o.env.clock.sleep(RETRY_MOST_MS, this.#closing.signal).catch(() => undefined);
      }
    }
  }

  async #renewed(deadlineMs: number, signal: CancelSignal | undefined): Promise<void> {
    const { clock } = this.#o.env;
    const over = new Cancellation();
    const { signal: either, release } = eitherSignal(over.signal, signal);
    const late = clock.sleep(Math.max(0, deadlineMs - clock.monotonicMs()), either).then(() => {
      throw new TimeoutError('the session has expired, and no other could be begun in time', {
        remedy: 'See `tatami status`: which node is down, and what to do.',
      });
    });
    try {
      await Promise.race([this.#renewal, late]);
    } finally {
      late.catch(() => undefined);
      over.abort();
      release();
    }
  }

  #keepAliveLater(delayMs = this.#leaseMs / 3): void {
    this.#timer = this.#o.env.clock.setTimer(delayMs, () => {
      const session = this.#sessionId;
      const options = { timeoutMs: this.#leaseMs / 3 };
      const sentMs = this.#o.env.clock.monotonicMs();
      let nextMs: number | undefined;
      this.#everyGroup((group) => this.#keepAlive(group, session, options))
        .then(() => {
          if (session === this.#sessionId) this.#doubt.heard(sentMs);
        })
        .catch((error: unknown) => {
          if (error instanceof SessionExpiredError) this.#sessionLost(session);
          else this.#o.log.warn({ error: String(error) }, 'the session could not be kept alive');
          // Two thirds of the lease may be over.
          nextMs = this.#leaseMs / 12;
        })
        .finally(() => {
          if (!this.#closing.signal.aborted) this.#keepAliveLater(nextMs);
        });
    });
  }

  async #keepAlive(group: Group, session: SessionId, options: CallOptions): Promise<void> {
    const reply = await this.#callWith(group, metaMethods.keepAlive, { session }, options);
    const { orphansAfter } = (reply ?? {}) as { readonly orphansAfter?: unknown };
    if (typeof orphansAfter !== 'number' || session !== this.#sessionId || this.#answering.has(group.id)) return;
    // Not waited for: an answer may take long, and the session must stay alive.
    this.#answering.add(group.id);
    answerForOrphans(this, anInoOf(this.#o.catalog.current(), group.id), orphansAfter, this.#answerForOrphans)
      .catch((error: unknown) => this.#o.log.debug({ error: String(error) }, 'unlinked files: asked again later'))
      .finally(() => this.#answering.delete(group.id));
  }

  get #timeoutMs(): number {
    return this.#o.timeoutMs ?? META_TIMEOUT_MS;
  }

  #withDeadline(options: CallOptions): DeadlineOptions {
    const deadlineMs = this.#o.env.clock.monotonicMs() + (options.timeoutMs ?? this.#timeoutMs);
    return { ...options, deadlineMs };
  }

  /** Names what is missing, as far as it can be seen from here. */
  #lateError(method: string, group: Group, cause: TatamiError): TatamiError {
    const { catalog, network } = this.#o;
    const down = catalog
      .current()
      .nodes.map(({ id }) => id)
      .filter((id) => network.peer(id).state === 'down');
    const missing = down.length === 0 ? '' : `; not reached: ${down.join(', ')}`;
    const asked = `group ${group.id} (primary ${group.primary})`;
    return new TimeoutError(`${method}: ${asked} did not answer in time (${cause.message})${missing}`, {
      cause,
      info: { group: group.id, down },
      remedy:
        down.length === 0
          ? 'See `tatami status`: which node is missing, and what to do.'
          : `Start what is down (${down.join(', ')}); \`tatami status\` says which of them are needed.`,
    });
  }
}

/** The inode whose tablet decides: for entries of a directory, the directory. */
function targetOf(mutation: Mutation): Ino {
  return 'parent' in mutation ? mutation.parent : mutation.ino;
}

function inoOf(query: Query): Ino {
  if ('parent' in query) return query.parent;
  return 'ino' in query ? query.ino : ROOT_INO;
}
