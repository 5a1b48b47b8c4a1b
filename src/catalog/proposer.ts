/**
 * The proposer of Paxos, pure (see paxos.ts). It works on one instance at a time; replies that do not belong to it are
 * ignored, so they may be lost, doubled and late. Asking again whoever did not answer is `missing()`.
 */
import { StateError, invariant } from '../errors.ts';
import type { Epoch, NodeId } from '../ids.ts';
import { compareBallots, isSameBallot, majorityOf } from './paxos.ts';
import type { Accept, Accepted, AcceptReply, Ballot, Prepare, PrepareReply, Value } from './paxos.ts';

/** The instance to decide. */
export interface Instance<V extends Value> {
  readonly epoch: Epoch;
  /** Those that catalog epoch-1 names; this node is one of them. */
  readonly voters: readonly NodeId[];
  /** Undefined: finish what others began, if they did. */
  readonly value: V | undefined;
  /** The highest ballot that this node knows of, at least the one that its own acceptor has promised. */
  readonly above: Ballot | null;
}

export type ProposerOutput<V extends Value> =
  /**
   * To the proposer's own acceptor alone at first, to the others once that one has promised: the promise, durable before
   * it is given, is what keeps a ballot from being used again after a crash.
   */
  | { readonly kind: 'prepare'; readonly to: readonly NodeId[]; readonly message: Prepare }
  /** Nothing of the proposer's needs to be durable before it. */
  | { readonly kind: 'accept'; readonly to: readonly NodeId[]; readonly message: Accept<V> }
  /** A majority has it durably: it is the value of this epoch for ever, whoever proposed it. */
  | { readonly kind: 'chosen'; readonly epoch: Epoch; readonly value: V }
  /** A majority has accepted nothing, and nothing was to be proposed: no value was chosen before this began. */
  | { readonly kind: 'open'; readonly epoch: Epoch }
  /** Somebody has a higher ballot: begin again above it, after a pause that differs between the two. */
  | { readonly kind: 'outbid'; readonly by: Ballot };

type Phase = 'idle' | 'preparing' | 'accepting';

/** Promises of one ballot, good for this epoch and all later ones. */
interface Lead<V extends Value> {
  readonly ballot: Ballot;
  readonly epoch: Epoch;
  readonly promises: Map<NodeId, Accepted<V> | null>;
}

export class Proposer<V extends Value> {
  readonly #self: NodeId;
  #phase: Phase = 'idle';
  #instance: Instance<V> | undefined;
  #lead: Lead<V> | undefined;
  /** What was proposed with the lead's ballot, for the latest epoch. Invariant: one value for each ballot and epoch. */
  #proposed: Accept<V> | undefined;
  readonly #acceptedBy = new Set<NodeId>();

  constructor(self: NodeId) {
    this.#self = self;
  }

  /** True while it may skip phase one, as far as it knows. */
  get leads(): boolean {
    return this.#lead !== undefined;
  }

  /** Begins with an instance, or begins it again. */
  begin(instance: Instance<V>): ProposerOutput<V>[] {
    const { epoch, voters, value, above } = instance;
    if (!voters.includes(this.#self)) throw new StateError('only a voter proposes');
    this.#instance = instance;
    this.#acceptedBy.clear();
    if (this.#lead !== undefined && this.#mayGoOn(this.#lead, instance)) {
      if (this.#proposed?.epoch === epoch) return this.#sendAccept(this.#proposed);
      // Without a value of our own we are to say for sure whether there is one: that takes new promises.
      if (value !== undefined) return this.#propose(value);
    }
    const round = Math.max(above?.round ?? 0, this.#lead?.ballot.round ?? 0) + 1;
    this.#lead = { ballot: { round, node: this.#self }, epoch, promises: new Map() };
    this.#proposed = undefined;
    this.#phase = 'preparing';
    return [this.#prepareTo([this.#self])];
  }

  /** Whether the promises of an earlier instance serve for this one. */
  #mayGoOn(lead: Lead<V>, { epoch, voters, value, above }: Instance<V>): boolean {
    if (above !== null && compareBallots(above, lead.ballot) > 0) return false;
    if (!hasMajority(lead.promises, voters)) return false;
    if (this.#proposed?.epoch === epoch) {
      return value === undefined || this.#proposed.value.proposal === value.proposal;
    }
    return epoch > lead.epoch;
  }

  promiseFrom(from: NodeId, asked: Prepare, reply: PrepareReply<V>): ProposerOutput<V>[] {
    const lead = this.#lead;
    const instance = this.#instance;
    if (lead === undefined || instance === undefined || !isSameBallot(asked.ballot, lead.ballot)) return [];
    if (reply.status === 'outbid') return this.#outbid(reply.promised);
    if (reply.status !== 'promised' || asked.epoch !== lead.epoch) return [];
    lead.promises.set(from, reply.accepted);
    if (this.#phase !== 'preparing') return [];
    if (!hasMajority(lead.promises, instance.voters)) {
      const others = instance.voters.filter((voter) => voter !== this.#self);
      return from === this.#self && others.length > 0 ? [this.#prepareTo(others)] : [];
    }
    const found = highest(lead.promises, instance.voters);
    if (found !== undefined) return this.#propose(found.value);
    if (instance.value !== undefined) return this.#propose(instance.value);
    this.#phase = 'idle';
    return [{ kind: 'open', epoch: instance.epoch }];
  }

  acceptedFrom(from: NodeId, asked: Accept<V>, reply: AcceptReply): ProposerOutput<V>[] {
    const proposed = this.#proposed;
    if (this.#phase !== 'accepting' || proposed === undefined) return [];
    if (asked.epoch !== proposed.epoch || !isSameBallot(asked.ballot, proposed.ballot)) return [];
    if (reply.status === 'outbid') return this.#outbid(reply.promised);
    if (reply.status !== 'accepted') return [];
    this.#acceptedBy.add(from);
    if (!hasMajority(this.#acceptedBy, this.#instance?.voters ?? [])) return [];
    this.#phase = 'idle';
    return [{ kind: 'chosen', epoch: proposed.epoch, value: proposed.value }];
  }

  /** What to send again, to those that have not answered yet. */
  missing(): ProposerOutput<V>[] {
    const { voters = [] } = this.#instance ?? {};
    if (this.#phase === 'accepting' && this.#proposed !== undefined) {
      const to = voters.filter((voter) => !this.#acceptedBy.has(voter));
      return [{ kind: 'accept', to, message: this.#proposed }];
    }
    if (this.#phase !== 'preparing' || this.#lead === undefined) return [];
    const { promises } = this.#lead;
    if (!promises.has(this.#self)) return [this.#prepareTo([this.#self])];
    return [this.#prepareTo(voters.filter((voter) => !promises.has(voter)))];
  }

  /** The instance was decided elsewhere, or is given up. Promises stay good. */
  stop(): void {
    this.#phase = 'idle';
  }

  #prepareTo(to: readonly NodeId[]): ProposerOutput<V> {
    const { epoch, ballot } = this.#lead as Lead<V>;
    return { kind: 'prepare', to, message: { epoch, ballot } };
  }

  #propose(value: V): ProposerOutput<V>[] {
    const { epoch, voters } = this.#instance as Instance<V>;
    const lead = this.#lead as Lead<V>;
    invariant(this.#proposed?.epoch !== epoch, 'P2b', `one ballot proposes one value for epoch ${epoch}`);
    checkP2c(lead, epoch, voters, value);
    return this.#sendAccept({ epoch, ballot: lead.ballot, value });
  }

  #sendAccept(message: Accept<V>): ProposerOutput<V>[] {
    this.#proposed = message;
    this.#phase = 'accepting';
    return [{ kind: 'accept', to: this.#instance?.voters ?? [], message }];
  }

  #outbid(by: Ballot): ProposerOutput<V>[] {
    this.#lead = undefined;
    this.#proposed = undefined;
    if (this.#phase === 'idle') return [];
    this.#phase = 'idle';
    return [{ kind: 'outbid', by }];
  }
}

function hasMajority(of: { readonly has: (node: NodeId) => boolean }, voters: readonly NodeId[]): boolean {
  return voters.filter((voter) => of.has(voter)).length >= majorityOf(voters.length);
}

function highest<V extends Value>(
  promises: ReadonlyMap<NodeId, Accepted<V> | null>,
  voters: readonly NodeId[],
): Accepted<V> | undefined {
  let found: Accepted<V> | undefined;
  for (const voter of voters) {
    const accepted = promises.get(voter);
    if (accepted && (found === undefined || compareBallots(accepted.ballot, found.ballot) > 0)) found = accepted;
  }
  return found;
}

/** P2c, checked on what is about to be proposed, however it was come by. */
function checkP2c<V extends Value>(lead: Lead<V>, epoch: Epoch, voters: readonly NodeId[], value: V): void {
  const answered = voters.filter((voter) => lead.promises.has(voter));
  invariant(answered.length >= majorityOf(voters.length), 'P2c', 'a majority of the voters has promised');
  invariant(epoch >= lead.epoch, 'P2c', 'promises hold for their own instance and later ones');
  // Who promised at an earlier instance had accepted nothing in this one then, and nothing below n since.
  if (epoch > lead.epoch) return;
  for (const voter of answered) {
    const accepted = lead.promises.get(voter);
    if (!accepted || accepted.value.proposal === value.proposal) continue;
    const outranked = answered.some((other) => {
      const above = lead.promises.get(other);
      return above && above.value.proposal === value.proposal && compareBallots(above.ballot, accepted.ballot) > 0;
    });
    invariant(outranked, 'P2c', `the value of the highest acceptance is proposed for epoch ${epoch}`);
  }
}
