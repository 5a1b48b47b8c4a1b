import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../errors.ts';
import type { Epoch, NodeId } from '../ids.ts';
import { NO_VOTES, compareBallots, onAccept, onPrepare } from './paxos.ts';
import type { Accept, AcceptorState, AcceptReply, Ballot, Prepare, PrepareReply, Seat, Value } from './paxos.ts';
import { Proposer } from './proposer.ts';
import type { ProposerOutput } from './proposer.ts';

const ids = (count: number) => Array.from({ length: count }, (_, index) => `n${index + 1}` as NodeId);
const [A, B, C] = ids(3) as [NodeId, NodeId, NodeId];
const ballot = (round: number, node: NodeId): Ballot => ({ round, node });
const seat = (self: NodeId, epoch = 1): Seat => ({ self, epoch: epoch as Epoch, voters: [A, B, C] });
const two = 2 as Epoch;

describe('an acceptor', () => {
  const x: Value = { proposal: 'x' };
  const y: Value = { proposal: 'y' };

  it('promises durably, and nothing below what it has promised', () => {
    const first = onPrepare(NO_VOTES as AcceptorState<Value>, seat(A), { epoch: two, ballot: ballot(2, B) });
    expect(first).toEqual({
      save: { promised: ballot(2, B), accepted: null },
      reply: { status: 'promised', accepted: null },
    });
    const lower = onPrepare(first.save!, seat(A), { epoch: two, ballot: ballot(2, A) });
    expect(lower).toEqual({ save: undefined, reply: { status: 'outbid', promised: ballot(2, B) } });
    // The same question again gets the same answer, and nothing new is written.
    expect(onPrepare(first.save!, seat(A), { epoch: two, ballot: ballot(2, B) })).toEqual({
      save: undefined,
      reply: { status: 'promised', accepted: null },
    });
  });

  it('tells a later ballot what it has accepted, for that epoch only', () => {
    const message = { epoch: two, ballot: ballot(1, A), value: x };
    const accepted = onAccept(NO_VOTES as AcceptorState<Value>, seat(B), message);
    expect(accepted.reply).toEqual({ status: 'accepted' });
    const asked = onPrepare(accepted.save!, seat(B), { epoch: two, ballot: ballot(2, C) });
    expect(asked.reply).toMatchObject({ status: 'promised', accepted: { ballot: ballot(1, A), value: x } });
    const later = onPrepare(accepted.save!, seat(B, 2), { epoch: 3 as Epoch, ballot: ballot(2, C) });
    expect(later.reply).toEqual({ status: 'promised', accepted: null });
    // P1a: it has promised 2.C.
    expect(onAccept(asked.save!, seat(B), message).reply).toEqual({ status: 'outbid', promised: ballot(2, C) });
  });

  it('votes only on the epoch after its own, and only as a voter', () => {
    const ask = (at: Seat, epoch: number) =>
      onPrepare(NO_VOTES as AcceptorState<Value>, at, { epoch: epoch as Epoch, ballot: ballot(1, A) }).reply.status;
    expect(ask(seat(A, 5), 5)).toBe('ahead');
    expect(ask(seat(A, 5), 6)).toBe('promised');
    expect(ask(seat(A, 5), 7)).toBe('behind');
    expect(ask(seat('n9' as NodeId, 5), 6)).toBe('noVoter');
  });

  it('stops at a ballot that proposes two values', () => {
    const once = onAccept(NO_VOTES as AcceptorState<Value>, seat(B), { epoch: two, ballot: ballot(1, A), value: x });
    const again = { epoch: two, ballot: ballot(1, A), value: y };
    expect(() => onAccept(once.save!, seat(B), again)).toThrow(InvariantError);
  });
});

describe('a proposer', () => {
  const value = (proposal: string): Value => ({ proposal });
  const promised = { status: 'promised', accepted: null } as const;
  const begin = (proposer: Proposer<Value>, epoch: number, proposal: string, above: Ballot | null = null) =>
    proposer.begin({ epoch: epoch as Epoch, voters: [A, B, C], value: value(proposal), above });
  const only = (outputs: ProposerOutput<Value>[]) => {
    expect(outputs).toHaveLength(1);
    return outputs[0]!;
  };
  const acceptOf = (outputs: ProposerOutput<Value>[]) =>
    (only(outputs) as unknown as { message: Accept<Value> }).message;

  it('asks its own acceptor first, then the others; then proposes; then knows', () => {
    const proposer = new Proposer<Value>(A);
    const own = only(begin(proposer, 2, 'x')) as unknown as { to: NodeId[]; message: Prepare };
    expect(own).toMatchObject({ kind: 'prepare', to: [A], message: { ballot: ballot(1, A) } });
    expect(only(proposer.promiseFrom(A, own.message, promised))).toMatchObject({ kind: 'prepare', to: [B, C] });
    const accept = acceptOf(proposer.promiseFrom(C, own.message, promised));
    expect(accept).toMatchObject({ ballot: ballot(1, A), value: value('x') });
    expect(proposer.acceptedFrom(A, accept, { status: 'accepted' })).toEqual([]);
    expect(proposer.acceptedFrom(A, accept, { status: 'accepted' })).toEqual([]);
    expect(only(proposer.missing())).toMatchObject({ kind: 'accept', to: [B, C] });
    expect(proposer.acceptedFrom(B, accept, { status: 'accepted' })).toEqual([
      { kind: 'chosen', epoch: 2, value: value('x') },
    ]);
  });

  function leader(): Proposer<Value> {
    const proposer = new Proposer<Value>(A);
    const { message } = only(begin(proposer, 2, 'x')) as unknown as { message: Prepare };
    proposer.promiseFrom(A, message, promised);
    const accept = acceptOf(proposer.promiseFrom(B, message, promised));
    proposer.acceptedFrom(A, accept, { status: 'accepted' });
    proposer.acceptedFrom(B, accept, { status: 'accepted' });
    return proposer;
  }

  it('skips phase one while nobody outbids it', () => {
    const proposer = leader();
    expect(only(begin(proposer, 3, 'y', ballot(1, A)))).toMatchObject({ kind: 'accept', message: { epoch: 3 } });
  });

  it('begins with phase one when outbid, or when too few of those that promised still vote', () => {
    expect(only(begin(leader(), 3, 'y', ballot(4, C)))).toMatchObject({
      kind: 'prepare',
      message: { ballot: ballot(5, A) },
    });
    const other = { epoch: 3 as Epoch, voters: [A, C, 'n4' as NodeId], value: value('y'), above: null };
    expect(only(leader().begin(other))).toMatchObject({ kind: 'prepare', message: { ballot: ballot(2, A) } });
  });

  it('never proposes two values with one ballot', () => {
    const proposer = leader();
    const first = acceptOf(begin(proposer, 3, 'y', ballot(1, A)));
    expect(acceptOf(begin(proposer, 3, 'y', ballot(1, A)))).toEqual(first);
    expect(only(begin(proposer, 3, 'z', ballot(1, A)))).toMatchObject({
      kind: 'prepare',
      message: { ballot: ballot(2, A) },
    });
  });

  it('P2c: finishes what was accepted, the highest first', () => {
    const proposer = new Proposer<Value>(A);
    const { message } = only(begin(proposer, 2, 'mine', ballot(6, C))) as unknown as { message: Prepare };
    const found = (round: number, proposal: string) => ({
      status: 'promised' as const,
      accepted: { epoch: two, ballot: ballot(round, C), value: value(proposal) },
    });
    proposer.promiseFrom(A, message, found(3, 'older'));
    expect(acceptOf(proposer.promiseFrom(B, message, found(5, 'newer'))).value).toEqual(value('newer'));
  });

  it('without a value of its own says when there is none', () => {
    const proposer = leader();
    const asked = proposer.begin({ epoch: 3 as Epoch, voters: [A, B, C], value: undefined, above: ballot(1, A) });
    const { message } = only(asked) as unknown as { message: Prepare };
    proposer.promiseFrom(A, message, promised);
    expect(proposer.promiseFrom(C, message, promised)).toEqual([{ kind: 'open', epoch: 3 }]);
  });
});

// Random schedules

interface Decision extends Value {
  readonly voters: readonly NodeId[];
}

type Message =
  | { readonly kind: 'prepare'; readonly from: NodeId; readonly to: NodeId; readonly body: Prepare }
  | { readonly kind: 'accept'; readonly from: NodeId; readonly to: NodeId; readonly body: Accept<Decision> }
  | {
      readonly kind: 'promiseReply';
      readonly from: NodeId;
      readonly to: NodeId;
      readonly asked: Prepare;
      readonly reply: PrepareReply<Decision>;
    }
  | {
      readonly kind: 'acceptReply';
      readonly from: NodeId;
      readonly to: NodeId;
      readonly asked: Accept<Decision>;
      readonly reply: AcceptReply;
    };

interface Process {
  readonly id: NodeId;
  /** On disk. */
  votes: AcceptorState<Decision>;
  epoch: number;
  voters: readonly NodeId[];
  /** Written, not yet synced; the reply waits for it. */
  unsynced: { readonly save: AcceptorState<Decision>; readonly reply: Message } | undefined;
  proposer: Proposer<Decision>;
  working: boolean;
}

/** Five processes with the core alone; whatever happens to messages and disks is drawn. */
class Schedule {
  readonly processes: Process[];
  readonly chosen = new Map<number, Decision>([[1, { proposal: 'first', voters: [A, B, C] }]]);
  bag: Message[] = [];
  #count = 0;

  constructor() {
    this.processes = ids(5).map((id) => ({
      id,
      votes: NO_VOTES,
      epoch: 1,
      voters: [A, B, C],
      unsynced: undefined,
      proposer: new Proposer(id),
      working: false,
    }));
  }

  process(id: NodeId): Process {
    return this.processes.find((each) => each.id === id)!;
  }

  propose(at: Process, pick: number): void {
    if (!at.voters.includes(at.id)) return;
    // A third of the proposals changes the voters by one.
    const node = ids(5)[pick % 5]!;
    const without = at.voters.filter((voter) => voter !== node);
    const changed = at.voters.includes(node) ? without : [...at.voters, node];
    const voters = pick % 3 === 0 && changed.length > 0 ? changed : at.voters;
    const value = pick % 7 === 0 ? undefined : { proposal: `p${this.#count++}`, voters };
    at.working = true;
    const epoch = (at.epoch + 1) as Epoch;
    this.perform(at, at.proposer.begin({ epoch, voters: at.voters, value, above: at.votes.promised }));
  }

  perform(at: Process, outputs: readonly ProposerOutput<Decision>[]): void {
    for (const output of outputs) {
      switch (output.kind) {
        case 'prepare':
          for (const to of output.to) this.bag.push({ kind: 'prepare', from: at.id, to, body: output.message });
          break;
        case 'accept':
          for (const to of output.to) this.bag.push({ kind: 'accept', from: at.id, to, body: output.message });
          break;
        case 'chosen':
          this.learn(at, output.epoch, output.value);
          break;
        case 'open':
          expect(this.chosen.has(output.epoch), 'open although chosen').toBe(false);
          at.working = false;
          break;
        case 'outbid':
          at.working = false;
      }
    }
  }

  /** The property: one value for each epoch, for all, for ever. */
  learn(at: Process, epoch: number, value: Decision): void {
    const known = this.chosen.get(epoch);
    if (known !== undefined) expect(value).toEqual(known);
    this.chosen.set(epoch, value);
    this.advance(at, epoch);
  }

  advance(at: Process, epoch: number): void {
    if (epoch <= at.epoch) return;
    at.epoch = epoch;
    at.voters = this.chosen.get(epoch)!.voters;
    at.proposer.stop();
    at.working = false;
  }

  deliver(message: Message): void {
    const at = this.process(message.to);
    switch (message.kind) {
      case 'prepare':
      case 'accept': {
        if (at.unsynced !== undefined) {
          this.bag.push(message);
          return;
        }
        const own: Seat = { self: at.id, epoch: at.epoch as Epoch, voters: at.voters };
        if (message.kind === 'prepare') {
          const { save, reply } = onPrepare(at.votes, own, message.body);
          const back = { from: at.id, to: message.from, asked: message.body, reply };
          this.answer(at, message.body, save, { kind: 'promiseReply', ...back });
        } else {
          const { save, reply } = onAccept(at.votes, own, message.body);
          const back = { from: at.id, to: message.from, asked: message.body, reply };
          this.answer(at, message.body, save, { kind: 'acceptReply', ...back });
        }
        return;
      }
      case 'promiseReply':
        this.perform(at, at.proposer.promiseFrom(message.from, message.asked, message.reply));
        return;
      case 'acceptReply':
        this.perform(at, at.proposer.acceptedFrom(message.from, message.asked, message.reply));
    }
  }

  answer(at: Process, asked: Prepare, save: AcceptorState<Decision> | undefined, reply: Message): void {
    // Ahead: the asker takes the catalog. Behind: it takes the asker's.
    const status = 'reply' in reply ? reply.reply.status : '';
    if (status === 'ahead') this.advance(this.process(reply.to), at.epoch);
    if (status === 'behind') this.advance(at, asked.epoch - 1);
    if (save === undefined) this.bag.push(reply);
    else at.unsynced = { save, reply };
  }

  sync(at: Process, isSent: boolean): void {
    if (at.unsynced === undefined) return;
    const { save, reply } = at.unsynced;
    if (at.votes.promised !== null) expect(compareBallots(save.promised!, at.votes.promised)).toBeGreaterThanOrEqual(0);
    at.votes = save;
    at.unsynced = undefined;
    if (isSent) this.bag.push(reply);
  }

  crash(at: Process, isKept: boolean): void {
    if (isKept) this.sync(at, false);
    at.unsynced = undefined;
    at.proposer = new Proposer(at.id);
    at.working = false;
  }

  /** No more faults: somebody who votes gets something chosen. */
  settle(): void {
    const before = this.chosen.size;
    for (let tries = 0; tries < 200 && this.chosen.size < before + 2; tries++) {
      const newest = Math.max(...this.processes.map((each) => each.epoch));
      for (const at of this.processes) this.advance(at, newest);
      const voters = this.processes.filter((at) => at.voters.includes(at.id));
      this.propose(voters[tries % voters.length]!, 1);
      for (let steps = 0; steps < 500 && this.bag.length > 0; steps++) {
        this.deliver(this.bag.shift()!);
        for (const at of this.processes) this.sync(at, true);
      }
    }
    expect(this.chosen.size).toBeGreaterThanOrEqual(before + 2);
  }
}

describe('Paxos on random schedules', () => {
  it('never chooses two values for one epoch, and goes on once faults stop', () => {
    const step = fc.tuple(fc.nat(19), fc.nat(9_999));
    fc.assert(
      fc.property(fc.array(step, { minLength: 50, maxLength: 600 }), (steps) => {
        const schedule = new Schedule();
        for (const [kind, pick] of steps) {
          const at = schedule.processes[pick % 5]!;
          const { bag } = schedule;
          if (kind === 0) schedule.crash(at, pick % 2 === 0);
          else if (kind === 1 && !at.working) schedule.propose(at, pick);
          else if (kind === 2) schedule.propose(at, pick);
          else if (kind === 3) schedule.perform(at, at.proposer.missing());
          else if (kind <= 8) schedule.sync(at, true);
          else if (bag.length > 0) {
            // Delivered out of order; now and then lost or kept for later as well.
            const [message] = bag.splice(pick % bag.length, 1);
            if (kind === 9) continue;
            if (kind === 10) bag.push(message!);
            schedule.deliver(message!);
          }
        }
        schedule.settle();
      }),
      { numRuns: 400 },
    );
  });
});
