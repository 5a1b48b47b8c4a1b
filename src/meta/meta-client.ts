/**
 * The client of the metadata groups: finds the primary by inode, tries again under the same request id until the
 * deadline, and so applies each mutation exactly once whatever is lost on the way.
 */
import { groupOfIno } from '../catalog/document.ts';
import type { CatalogService, Group } from '../catalog/types.ts';
import type { Env, Timer } from '../env.ts';
import { CancelledError, FormatError, SessionExpiredError, TatamiError, TimeoutError } from '../errors.ts';
import type { Epoch, Ino, SessionId } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, META_TIMEOUT_MS, SESSION_LEASE_MS } from '../limits.ts';
import type { Logger } from '../log.ts';
import type { Header, Network } from '../net/types.ts';
import { metaMethods } from './meta-service.ts';
import { decodeOutcome, outcomeError } from './outcome.ts';
import { decodeQueryResult } from './query-codec.ts';
import { encodeMutateRequest, encodeQueryRequest } from './requests.ts';
import { PrimaryWatch, eitherSignal } from './primary-watch.ts';
import type { GroupEra } from './primary-watch.ts';
import type { MetaClient, Mutation, MutationResult, Query, QueryOf, QueryResults } from './types.ts';

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
}

interface CallOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const NO_OPTIONS: CallOptions = {};

/** Opens a session at the groups; rejects if no primary serves before the deadline. */
export async function connectMeta(options: MetaClientOptions): Promise<RemoteMetaClient> {
  const client = new RemoteMetaClient(options);
  await client.open();
  return client;
}

export class RemoteMetaClient implements MetaClient {
  readonly sessionId: SessionId;
  readonly #o: MetaClientOptions;
  readonly #leaseMs: number;
  readonly #closing = new AbortController();
  /** Request ids whose answer is not known; ascending, as a Set keeps the order of insertion. */
  readonly #unanswered = new Set<number>();
  #nextRequestId = 1;
  readonly #primaries: PrimaryWatch;
  #timer: Timer | undefined;
  #expired = false;

  constructor(options: MetaClientOptions) {
    this.#o = options;
    this.#leaseMs = options.leaseMs ?? SESSION_LEASE_MS;
    this.sessionId = Buffer.from(options.env.random.bytes(16)).toString('hex') as SessionId;
    this.#primaries = new PrimaryWatch(options.env, options.catalog);
  }

  async open(): Promise<void> {
    const { label } = this.#o;
    const fields = { session: this.sessionId, leaseMs: this.#leaseMs, label };
    await this.#everyGroup((group) => this.#callWith(group, metaMethods.openSession, fields, NO_OPTIONS));
    this.#keepAliveLater();
  }

  async mutate(mutation: Mutation, options: CallOptions = NO_OPTIONS): Promise<MutationResult> {
    const requestId = this.#nextRequestId++;
    this.#unanswered.add(requestId);
    let answered = false;
    try {
      const reply = await this.#call(
        () => this.#groupOf(targetOf(mutation)),
        metaMethods.mutate,
        (group) => {
          // The lowest id whose answer is not known: results below it may be forgotten.
          const [ackedBelow = requestId] = this.#unanswered;
          return encodeMutateRequest(group, { session: this.sessionId, requestId, ackedBelow }, mutation);
        },
        options,
      );
      answered = true;
      if (!(reply instanceof Uint8Array)) throw new FormatError('reply to meta.mutate is not bytes');
      const outcome = decodeOutcome(reply);
      if (!outcome.ok) throw this.#noticed(outcomeError(outcome.code));
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
      options,
    );
    if (!(reply instanceof Uint8Array)) throw new FormatError('reply to meta.query is not bytes');
    return decodeQueryResult(query.op, reply);
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
    const fields = { session: this.sessionId };
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
      options,
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
    options: CallOptions,
  ): Promise<unknown> {
    const { clock } = this.#o.env;
    const { signal } = options;
    const deadlineMs = clock.monotonicMs() + (options.timeoutMs ?? META_TIMEOUT_MS);
    let epoch: Epoch | undefined;
    for (let attempt = 0; ; attempt++) {
      if (this.#closing.signal.aborted) throw new CancelledError('the client is closed');
      if (this.#expired) throw this.#expiredError();
      // By id, in the newest catalog: the primary may have changed since the last attempt.
      const wanted = groupNow();
      const group = this.#o.catalog.current().groups.find((candidate) => candidate.id === wanted.id) ?? wanted;
      const era = this.#primaries.eraOf(group);
      if (era.epoch !== epoch) attempt = 0;
      epoch = era.epoch;
      const timeoutMs = Math.max(1, Math.min(ATTEMPT_TIMEOUT_MS, deadlineMs - clock.monotonicMs()));
      try {
        return await this.#attempt(era, method, headerFor(group.id), timeoutMs, signal);
      } catch (error) {
        if (era.moved.aborted && signal?.aborted !== true) continue;
        if (!(error instanceof TatamiError) || !PASSING.has(error.code)) throw this.#noticed(error);
        if (ABOUT_THE_NODE.has(error.code)) this.#primaries.suspect(era.primary);
        const waitMs = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** attempt);
        if (clock.monotonicMs() + waitMs >= deadlineMs) throw lateError(method, group, error);
        await this.#pause(waitMs, era.changed, signal);
      }
    }
  }

  async #attempt(
    era: GroupEra,
    method: string,
    header: Header,
    timeoutMs: number,
    caller: AbortSignal | undefined,
  ): Promise<unknown> {
    const question = this.#primaries.asked(era.primary);
    const { signal, release } = eitherSignal(era.moved, caller);
    try {
      return (await this.#o.network.call(era.primary, method, header, { timeoutMs, signal })).header;
    } finally {
      release();
      this.#primaries.answered(question);
    }
  }

  /** Ends early when the group has changed: what did not serve may serve now. */
  async #pause(waitMs: number, changed: AbortSignal, caller: AbortSignal | undefined): Promise<void> {
    const { signal, release } = eitherSignal(changed, caller);
    try {
      await this.#o.env.clock.sleep(waitMs, signal);
    } catch (error) {
      if (caller?.aborted === true) throw error;
    } finally {
      release();
    }
  }

  #noticed(error: unknown): unknown {
    if (error instanceof SessionExpiredError) this.#expired = true;
    return error;
  }

  #expiredError(): SessionExpiredError {
    return new SessionExpiredError('the session of this client has expired: it was not heard of for too long', {
      remedy: 'Mount (or connect) again. What had not been written is lost; it is named in the log.',
    });
  }

  #keepAliveLater(): void {
    this.#timer = this.#o.env.clock.setTimer(this.#leaseMs / 3, () => {
      const fields = { session: this.sessionId };
      const options = { timeoutMs: this.#leaseMs / 3 };
      this.#everyGroup((group) => this.#callWith(group, metaMethods.keepAlive, fields, options))
        .catch((error: unknown) => this.#o.log.warn({ error: String(error) }, 'the session could not be kept alive'))
        .finally(() => {
          if (!this.#closing.signal.aborted && !this.#expired) this.#keepAliveLater();
        });
    });
  }
}

function lateError(method: string, group: Group, cause: TatamiError): TatamiError {
  return new TimeoutError(`${method}: group ${group.id} did not answer in time (${cause.message})`, {
    cause,
    remedy: 'See `tatami status`: which node is down, and what to do.',
  });
}

/** The inode whose tablet decides: for entries of a directory, the directory. */
function targetOf(mutation: Mutation): Ino {
  return 'parent' in mutation ? mutation.parent : mutation.ino;
}

function inoOf(query: Query): Ino {
  if ('parent' in query) return query.parent;
  return 'ino' in query ? query.ino : ROOT_INO;
}
