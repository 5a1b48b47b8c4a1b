/**
 * A MetaClient over one MetaStore in the same process, without log or replication: for tests and tools. What it
 * acknowledges is durable only after `sync`.
 */
import type { CancelSignal } from '../cancel.ts';
import { CancelledError } from '../errors.ts';
import { ROOT_INO, type Ino, type Seq, type SessionId } from '../ids.ts';
import { SESSION_LEASE_MS } from '../limits.ts';
import type { Command } from './commands.ts';
import { LockQueue } from './lock-queue.ts';
import type { MetaStore } from './meta-store.ts';
import { answerForOrphans } from './orphan-answers.ts';
import { outcomeError, type Outcome } from './outcome.ts';
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

export interface LocalMetaClientOptions {
  readonly store: MetaStore;
  /** The clock of commands; `env.clock.wallNs`. */
  readonly wallNs: () => bigint;
  /** 32 hexadecimal characters; give each client of one store its own. */
  readonly sessionId?: SessionId;
  readonly label?: string;
}

/** Commands of all clients of one store, in line: MetaStore.apply takes one call at a time. */
const tails = new WeakMap<MetaStore, Promise<unknown>>();
const queues = new WeakMap<MetaStore, LockQueue>();
const clientsOf = new WeakMap<MetaStore, Set<LocalMetaClient>>();

export class LocalMetaClient implements MetaClient {
  readonly sessionId: SessionId;
  readonly #store: MetaStore;
  readonly #wallNs: () => bigint;
  #nextRequestId = 1;
  readonly #unanswered = new Set<number>();

  private constructor(options: LocalMetaClientOptions) {
    this.#store = options.store;
    this.#wallNs = options.wallNs;
    const { store, wallNs } = options;
    if (!queues.has(store)) {
      const nowMs = (): number => Number(wallNs() / 1_000_000n);
      queues.set(store, new LockQueue({ locksOf: (ino) => store.locksOf(ino), nowMs }));
    }
    this.sessionId = options.sessionId ?? (('0'.repeat(31) + '1') as SessionId);
  }

  static async open(options: LocalMetaClientOptions): Promise<LocalMetaClient> {
    const client = new LocalMetaClient(options);
    const { sessionId: session } = client;
    // Anew: an earlier client of this id may have used the same request ids.
    await client.propose({ kind: 'expireSession', session });
    const nowNs = options.wallNs();
    await client.propose({
      kind: 'openSession',
      session,
      nowNs,
      leaseMs: SESSION_LEASE_MS,
      label: options.label ?? 'local',
      answers: true,
    });
    const clients = clientsOf.get(options.store) ?? new Set();
    clientsOf.set(options.store, clients.add(client));
    return client;
  }

  /** Asked at once, and not with the session's next sign of life. */
  onUnlinked(answer: AnswerForOrphans): void {
    this.#answer = answer;
  }
  #answer: AnswerForOrphans | undefined;

  async #answerForOrphans(): Promise<void> {
    const after = this.#store.orphansOwedAfter(this.sessionId);
    if (after !== undefined) await answerForOrphans(this, ROOT_INO, after, this.#answer);
  }

  /** Applies any command after those before it. */
  propose(command: Command): Promise<Outcome> {
    const tail = tails.get(this.#store) ?? Promise.resolve();
    const run = tail.then(async () => {
      let outcome: Outcome | undefined;
      const seq = (this.#store.appliedSeq + 1) as Seq;
      await this.#store.apply([{ seq, command }], (_seq, applied) => (outcome = applied));
      const queue = queues.get(this.#store)!;
      if (command.kind === 'client' && command.mutation.op === 'lock') queue.relocked(command.mutation.ino);
      if (command.kind === 'expireSession') queue.tick();
      return outcome!;
    });
    tails.set(
      this.#store,
      run.catch(() => undefined),
    );
    return run;
  }

  async mutate(mutation: Mutation, options?: { readonly signal?: CancelSignal }): Promise<MutationResult> {
    if (options?.signal?.aborted === true) throw new CancelledError();
    const requestId = this.#nextRequestId++;
    this.#unanswered.add(requestId);
    // Ids are given in ascending order and a Set keeps it: the first is the least.
    const [ackedBelow = requestId] = this.#unanswered;
    try {
      const { sessionId: session } = this;
      const nowNs = this.#wallNs();
      const outcome = await this.propose({ kind: 'client', session, requestId, ackedBelow, nowNs, mutation });
      if (!outcome.ok) throw outcomeError(outcome.code);
      return outcome.result;
    } finally {
      this.#unanswered.delete(requestId);
      if (mutation.op === 'unlink' || mutation.op === 'rename') {
        for (const client of clientsOf.get(this.#store)!) await client.#answerForOrphans();
      }
      await this.#reclaim();
    }
  }

  /** What the primary does in a group: removes rows of what was deleted, bit by bit. */
  async #reclaim(): Promise<void> {
    const command = this.#store.reclaimCommand();
    if (command !== undefined) await this.propose(command);
  }

  async query<Op extends Query['op']>(
    query: QueryOf<Op>,
    options?: { readonly signal?: CancelSignal },
  ): Promise<QueryResults[Op]> {
    if (options?.signal?.aborted === true) throw new CancelledError();
    return this.#store.query(query);
  }

  /** Waits until it may be had: there is nobody from whom it could hear nothing. */
  waitForLock(ino: Ino, lock: OwnLockRequest, options?: { readonly signal?: CancelSignal }): Promise<LockWait> {
    const queue = queues.get(this.#store)!;
    const wanted = { ...lock, session: this.sessionId };
    const signal = options?.signal;
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(new CancelledError());
      const cancel = (): void => {
        queue.leave(ino, wanted, free);
        reject(new CancelledError());
      };
      const free = (): void => {
        signal?.removeEventListener('abort', cancel);
        resolve('free');
      };
      const state = queue.wait(ino, wanted, free);
      if (state === 'held') signal?.addEventListener('abort', cancel, { once: true });
      else resolve(state);
    });
  }

  async sync(): Promise<void> {
    await this.#store.flush();
  }

  /** Ends the session: files that it still has open without a name are destroyed. */
  async close(): Promise<void> {
    clientsOf.get(this.#store)!.delete(this);
    await this.propose({ kind: 'expireSession', session: this.sessionId });
    await this.#store.flush();
  }
}
