/**
 * Paxos for the catalog: what both roles share, and the acceptor. Pure; voter.ts does the I/O. The proposer stands in
 * proposer.ts.
 *
 * One instance decides one epoch: instance e is decided by the voters that catalog e-1 names, so who may vote on it is
 * itself agreed on, and it begins at a node only once catalog e-1 is durable there. Two facts follow that make the rest
 * short. An acceptor never holds more than one acceptance that matters, that for its own epoch + 1. And a promise can
 * cover its instance *and all later ones*: whoever promised ballot n for instance e cannot have accepted anything yet
 * in e+1, e+2, ..., and will accept nothing below n there. So a proposer that nobody outbids skips phase one.
 *
 * The two properties that make it safe (Lamport, Paxos Made Simple; the papers on Ceph's monitors name them so):
 * P1a, an acceptor accepts n only if it has promised nothing higher; P2c, a value proposed with n is that of the
 * highest-numbered acceptance in some majority, unless that majority accepted nothing below n. Both are asserted where
 * they could break. From P2c: once a value is chosen, every later ballot of that instance proposes that value.
 */
import { invariant } from '../errors.ts';
import type { Epoch, NodeId } from '../ids.ts';

/** Ordered by round, then node; a node never uses one of its ballots for two values of one instance. */
export interface Ballot {
  readonly round: number;
  readonly node: NodeId;
}

/** What an instance decides on. Equal `proposal`: the same wish of the same caller. */
export interface Value {
  readonly proposal: string;
}

export interface Accepted<V extends Value> {
  readonly epoch: Epoch;
  readonly ballot: Ballot;
  readonly value: V;
}

/** What an acceptor must never forget. */
export interface AcceptorState<V extends Value> {
  /** For the instance at which it was made and all later ones. Invariant: never falls. */
  readonly promised: Ballot | null;
  /** Invariant: its ballot is at most `promised`. One of an epoch that is chosen by now means nothing any more. */
  readonly accepted: Accepted<V> | null;
}

export const NO_VOTES: AcceptorState<never> = { promised: null, accepted: null };

/** What an acceptor knows for sure: its durable catalog. */
export interface Seat {
  readonly self: NodeId;
  readonly epoch: Epoch;
  readonly voters: readonly NodeId[];
}

export interface Prepare {
  readonly epoch: Epoch;
  readonly ballot: Ballot;
}

export interface Accept<V extends Value> extends Prepare {
  readonly value: V;
}

export type Refusal =
  /** A higher ballot is promised. */
  | { readonly status: 'outbid'; readonly promised: Ballot }
  /** That epoch is chosen already: the asker is to take our catalog. */
  | { readonly status: 'ahead' }
  /** We lack the catalog before that epoch, and so do not know who votes: to be fetched from the asker first. */
  | { readonly status: 'behind' }
  | { readonly status: 'noVoter' };

export type Promised<V extends Value> = { readonly status: 'promised'; readonly accepted: Accepted<V> | null };
export type PrepareReply<V extends Value> = Promised<V> | Refusal;
export type AcceptReply = { readonly status: 'accepted' } | Refusal;

export interface AcceptorStep<V extends Value, Reply> {
  /** To be durable before `reply` is sent, and only then the acceptor's state. Undefined: nothing changed. */
  readonly save: AcceptorState<V> | undefined;
  readonly reply: Reply;
}

export function compareBallots(a: Ballot, b: Ballot): number {
  if (a.round !== b.round) return a.round - b.round;
  return a.node === b.node ? 0 : a.node < b.node ? -1 : 1;
}

export function isSameBallot(a: Ballot, b: Ballot): boolean {
  return compareBallots(a, b) === 0;
}

export function majorityOf(voterCount: number): number {
  return Math.floor(voterCount / 2) + 1;
}

/** Phase one. Answers a repeated Prepare as it did the first time. */
export function onPrepare<V extends Value>(
  state: AcceptorState<V>,
  seat: Seat,
  { epoch, ballot }: Prepare,
): AcceptorStep<V, PrepareReply<V>> {
  const refusal = refuse(state, seat, epoch, ballot);
  if (refusal !== undefined) return { save: undefined, reply: refusal };
  const { promised, accepted } = state;
  const known = promised !== null && isSameBallot(promised, ballot);
  const reply = { status: 'promised', accepted: accepted?.epoch === epoch ? accepted : null } as const;
  return { save: known ? undefined : { promised: ballot, accepted }, reply };
}

/** Phase two. */
export function onAccept<V extends Value>(
  state: AcceptorState<V>,
  seat: Seat,
  { epoch, ballot, value }: Accept<V>,
): AcceptorStep<V, AcceptReply> {
  const refusal = refuse(state, seat, epoch, ballot);
  if (refusal !== undefined) return { save: undefined, reply: refusal };
  const { promised, accepted } = state;
  invariant(promised === null || compareBallots(promised, ballot) <= 0, 'P1a', 'nothing above n is promised');
  if (accepted !== null && accepted.epoch === epoch && isSameBallot(accepted.ballot, ballot)) {
    invariant(accepted.value.proposal === value.proposal, 'P2b', `one ballot proposes one value for epoch ${epoch}`);
    return { save: undefined, reply: { status: 'accepted' } };
  }
  return { save: { promised: ballot, accepted: { epoch, ballot, value } }, reply: { status: 'accepted' } };
}

function refuse<V extends Value>(
  { promised, accepted }: AcceptorState<V>,
  seat: Seat,
  epoch: Epoch,
  ballot: Ballot,
): Refusal | undefined {
  const own = seat.epoch + 1;
  invariant(accepted === null || accepted.epoch <= own, 'Paxos', 'an acceptance is of a known epoch or the next');
  if (epoch < own) return { status: 'ahead' };
  if (epoch > own) return { status: 'behind' };
  if (!seat.voters.includes(seat.self)) return { status: 'noVoter' };
  if (promised !== null && compareBallots(promised, ballot) > 0) return { status: 'outbid', promised };
  return undefined;
}
