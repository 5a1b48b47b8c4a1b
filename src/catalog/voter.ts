/**
 * A node's vote: the acceptor of paxos.ts with its state on disk. What it promises and accepts is durable before it is
 * said (R11). It votes only while it is fit: its votes whole, under its own storeId.
 */
import {
  AuthError,
  InvariantError,
  NotPrimaryError,
  StaleEpochError,
  TatamiError,
  UnavailableError,
} from '../errors.ts';
import type { NodeId } from '../ids.ts';
import type { Channel, HandlerReply, IncomingRequest, Network } from '../net/types.ts';
import { catalogMethods, parseAccept, parsePrepare, replyToWire } from './messages.ts';
import type { VoterInquiry } from './messages.ts';
import { onAccept, onPrepare } from './paxos.ts';
import type { Accept, AcceptReply, AcceptorStep, Ballot, Prepare, PrepareReply, Seat } from './paxos.ts';
import type { Catalog } from './types.ts';
import type { CatalogValue, VoteStore, VoterState } from './votes.ts';

export interface VoterOptions {
  readonly self: NodeId;
  readonly storeId: string;
  readonly store: VoteStore;
  readonly network: Network;
  /** The newest catalog that is durable here. */
  readonly current: () => Catalog;
  /** Takes over a newer catalog from whoever is at the other end. */
  readonly pullFrom: (channel: Channel) => Promise<void>;
  readonly log: (text: string) => void;
}

export class Voter {
  readonly #o: VoterOptions;
  /** Undefined: not fit. */
  #state: VoterState | undefined;
  #reason = '';
  /** One vote after the other: each is on disk before the next is thought about. */
  #tail: Promise<unknown> = Promise.resolve();

  constructor(options: VoterOptions) {
    this.#o = options;
    const { votes } = options.store;
    if (votes.fit) this.#state = votes.state;
    else this.retire(votes.reason);
    const { accepted } = this.#state ?? { accepted: null };
    if (accepted !== null && accepted.epoch > options.current().epoch + 1) {
      this.retire(`its catalog is older than its votes (epoch ${options.current().epoch} and ${accepted.epoch})`);
    }
    const { network } = options;
    network.handle(catalogMethods.prepare, (request) => this.#handlePrepare(request));
    network.handle(catalogMethods.accept, (request) => this.#handleAccept(request));
    network.handle(catalogMethods.inquire, () => ({ header: this.inquiry() }));
  }

  get fit(): boolean {
    return this.#state !== undefined;
  }

  /** Whether the newest catalog known here makes it a voter, and it is fit. */
  get votes(): boolean {
    return this.fit && this.#seat().voters.includes(this.#o.self);
  }

  get promised(): Ballot | null {
    return this.#state?.promised ?? null;
  }

  inquiry(): VoterInquiry {
    const { epoch } = this.#o.current();
    const acceptedEpoch = this.#state?.accepted?.epoch ?? 0;
    const isOurs = this.#isOurs();
    const reason = isOurs ? this.#reason : 'the catalog has another data directory under its name';
    return { epoch, acceptedEpoch: acceptedEpoch > epoch ? acceptedEpoch : 0, fit: this.fit && isOurs, reason };
  }

  /** Votes no more; resolves when nothing of it is being written any more. */
  async close(): Promise<void> {
    this.#state = undefined;
    this.#reason = 'it is stopping';
    await this.#tail;
  }

  /** R11: from now on it votes no more, whatever comes. */
  retire(reason: string): void {
    this.#state = undefined;
    this.#reason = reason;
    this.#o.log(`R11: this node does not vote on the catalog any more: ${reason}`);
  }

  prepare(message: Prepare): Promise<PrepareReply<CatalogValue>> {
    return this.#vote((state) => onPrepare(state, this.#seat(), message));
  }

  accept(message: Accept<CatalogValue>): Promise<AcceptReply> {
    return this.#vote((state) => onAccept(state, this.#seat(), message));
  }

  #seat(): Seat {
    const { epoch, voters } = this.#o.current();
    const { self } = this.#o;
    return { self, epoch, voters: this.#isOurs() ? voters : voters.filter((voter) => voter !== self) };
  }

  /** R11: the vote is that of one store; another one under its name has none. */
  #isOurs(): boolean {
    const { self, storeId } = this.#o;
    return this.#o.current().nodes.every((node) => node.id !== self || node.storeId === storeId);
  }

  #vote<Reply>(step: (state: VoterState) => AcceptorStep<CatalogValue, Reply>): Promise<Reply> {
    const run = this.#tail.then(async () => {
      if (this.#state === undefined) {
        throw new UnavailableError(`node ${this.#o.self} does not vote any more: ${this.#reason}`);
      }
      const { save, reply } = this.#checked(this.#state, step);
      if (save !== undefined) {
        await this.#o.store.save(save);
        // Retired meanwhile: what is on disk was promised to nobody.
        if (!this.fit) throw new UnavailableError(`node ${this.#o.self} does not vote any more`);
        this.#state = save;
      }
      return reply;
    });
    this.#tail = run.catch(() => undefined);
    return run;
  }

  #checked<Reply>(state: VoterState, step: (state: VoterState) => AcceptorStep<CatalogValue, Reply>) {
    try {
      return step(state);
    } catch (error) {
      if (error instanceof InvariantError) this.retire(`a safety rule was broken (${error.message})`);
      throw error;
    }
  }

  async #handlePrepare(request: IncomingRequest): Promise<HandlerReply> {
    const message = parsePrepare(request.header);
    return this.#answer(request, message, () => this.prepare(message));
  }

  async #handleAccept(request: IncomingRequest): Promise<HandlerReply> {
    const message = parseAccept(request.header);
    return this.#answer(request, message, () => this.accept(message));
  }

  async #answer(
    request: IncomingRequest,
    { epoch, ballot }: Prepare,
    vote: () => Promise<PrepareReply<CatalogValue> | AcceptReply>,
  ): Promise<HandlerReply> {
    if (request.remote.nodeId !== ballot.node) throw new AuthError(`a ballot of ${ballot.node} from somebody else`);
    let reply = await vote();
    if (reply.status === 'behind') {
      await this.#o.pullFrom(request.channel);
      reply = await vote();
    }
    const own = this.#o.current();
    if (reply.status === 'behind') {
      throw new StaleEpochError(`catalog ${epoch} cannot be voted on: this node is at ${own.epoch}`, {
        info: { epoch: own.epoch },
      });
    }
    if (reply.status === 'noVoter') throw new NotPrimaryError(`node ${this.#o.self} is no voter of catalog ${epoch}`);
    return { header: replyToWire(reply, own) };
  }
}

/** In words, for the list of voters that could not be had. */
export function reasonOf(error: unknown): string {
  return error instanceof TatamiError ? error.message : String(error);
}
