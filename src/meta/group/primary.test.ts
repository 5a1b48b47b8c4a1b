import { describe, expect, it } from 'vitest';
import type { Group } from '../../catalog/types.ts';
import { FormatError } from '../../errors.ts';
import type { Epoch, GroupId, HistoryId, NodeId } from '../../ids.ts';
import type { EpochEnds } from './log-files.ts';
import { LEASE_MS } from './lease.ts';
import { BEACON_INTERVAL_MS, JOIN_LAG_COUNT, Primary, SECONDARY_SILENT_MS } from './primary.ts';
import type { PrimaryOptions, PushPlan } from './primary.ts';

const [P, S, L, M] = ['p', 's', 'l', 'm'] as NodeId[] as [NodeId, NodeId, NodeId, NodeId];

function groupOf(secondary: NodeId | null, learners: readonly NodeId[], more: Partial<Group> = {}): Group {
  const epoch = 5 as Epoch;
  const members = secondary === null ? [P] : [P, secondary];
  return {
    id: 'g0' as GroupId,
    epoch,
    historyId: '0'.repeat(16) as HistoryId,
    primary: P,
    secondary,
    learners,
    lastActivated: { epoch, members },
    minReplicas: 2,
    ...more,
  };
}

/** A primary over a log that is only numbers, with members that answer as they are told. */
class Bench {
  readonly log = {
    firstSeq: 1,
    lastSeq: 0,
    syncedSeq: Infinity,
    epochAt: (seq: number) => (seq <= this.log.lastSeq ? (seq === 0 ? 0 : 5) : undefined),
    epochEnds: (): EpochEnds => [
      [0, 0],
      [5, this.log.lastSeq],
    ],
  };
  primary: Primary;
  nowMs = 0;

  constructor(group: Group, lastSeq = 0, appliedSeq = 0, more: Partial<PrimaryOptions> = {}) {
    this.log.lastSeq = lastSeq;
    this.primary = new Primary({
      self: P,
      group,
      log: this.log,
      appliedSeq,
      nowMs: 0,
      epochFound: group.epoch,
      ...more,
    });
  }

  /** Orders and logs. */
  write(count = 1): void {
    this.log.lastSeq += count;
    this.primary.logged(this.log.lastSeq);
  }

  plan(node: NodeId): PushPlan | undefined {
    const plan = this.primary.nextPush(node, this.nowMs);
    if (plan?.withEntries === true) this.primary.sent(node, plan, this.log.lastSeq);
    return plan;
  }

  /** Everything due goes to the node, which logs it. */
  deliver(node: NodeId): void {
    this.nowMs += BEACON_INTERVAL_MS;
    for (let plan = this.plan(node); plan !== undefined; plan = this.plan(node)) {
      this.primary.pushAnswered(node, plan, { status: 'logged', lastSeq: plan.lastSeq, syncedSeq: 0 }, this.nowMs);
    }
  }

  chosen(): Group {
    const wanted = this.primary.wantedGroup(this.nowMs);
    if (wanted === undefined) throw new Error('nothing is wanted');
    this.primary.catalogChanged(wanted, this.nowMs);
    return wanted;
  }

  /** Through reconciliation and activation. */
  serve(): this {
    if (this.primary.needsTail) this.primary.tailTaken();
    for (const node of this.primary.members()) this.deliver(node);
    this.chosen();
    return this;
  }
}

describe('R3: what is committed', () => {
  it('is what both have logged, whoever is first', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.write(3);
    expect(b.primary.committedSeq).toBe(0);
    b.deliver(L);
    expect(b.primary.committedSeq).toBe(0);
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(3);
    // The secondary is faster than the own disk.
    b.log.lastSeq = 4;
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(3);
    b.primary.logged(4);
    expect(b.primary.committedSeq).toBe(4);
  });

  it('never takes back, when a member comes back with less', () => {
    const b = new Bench(groupOf(S, [])).serve();
    b.write(3);
    b.deliver(S);
    b.write(2);
    const plan = b.plan(S)!;
    b.primary.pushAnswered(S, plan, { status: 'mismatch', ends: [[0, 0], [5, 1]] }, b.nowMs); // prettier-ignore
    expect([b.primary.committedSeq, b.primary.matchOf(S)]).toEqual([3, 1]);
    const again = b.plan(S)!;
    expect([again.fromSeq, again.lastSeq]).toEqual([2, 5]);
  });

  it('refuses to believe more than was sent', () => {
    const b = new Bench(groupOf(S, [])).serve();
    b.write(3);
    const plan = b.plan(S)!;
    const lie = { status: 'logged', lastSeq: 4, syncedSeq: 0 } as const;
    expect(() => b.primary.pushAnswered(S, plan, lie, b.nowMs)).toThrow(FormatError);
    b.primary.pushFailed(S, plan, b.nowMs);
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(3);
  });
});

describe('after a start', () => {
  it("nothing is pushed before the secondary's log was looked at, and nothing served before all is in both", () => {
    const b = new Bench(groupOf(S, [L]), 7, 4);
    expect([b.primary.needsTail, b.primary.committedSeq]).toEqual([true, 4]);
    b.nowMs = 10_000;
    expect(b.plan(S)).toBeUndefined();
    expect(b.plan(L)).toBeUndefined();
    // However long the secondary is silent: it may have what was acknowledged.
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    b.log.lastSeq = 9;
    b.primary.logged(9);
    b.primary.tailTaken();
    expect(b.primary.serving(b.log.lastSeq, b.nowMs)).toMatchObject({ ok: false });
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(9);
  });

  it('it serves only in an epoch that no earlier run has used', () => {
    const b = new Bench(groupOf(S, [L]), 7, 4);
    b.primary.tailTaken();
    b.deliver(S);
    expect(b.primary.serving(b.log.lastSeq, b.nowMs)).toMatchObject({
      ok: false,
      why: expect.stringContaining('R7') as string,
    });
    const next = b.chosen();
    expect(next).toMatchObject({ epoch: 6, secondary: S, learners: [L], lastActivated: { epoch: 6, members: [P, S] } });
    expect(b.primary.serving(b.log.lastSeq, b.nowMs)).toEqual({ ok: true });
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
  });

  it('it answers nothing before what it found in its log is applied', () => {
    const b = new Bench(groupOf(S, [L]), 7, 4).serve();
    expect(b.primary.serving(6, b.nowMs)).toMatchObject({ ok: false });
    expect(b.primary.serving(7, b.nowMs)).toEqual({ ok: true });
    b.write(5);
    expect(b.primary.serving(7, b.nowMs)).toEqual({ ok: true });
  });

  it('nor before what only its secondary had, if the catalog gave it an epoch before that was taken over', () => {
    const b = new Bench(groupOf(S, [L]), 7, 7);
    // A node has joined.
    const epoch = 6 as Epoch;
    b.primary.catalogChanged(groupOf(S, [L, M], { epoch, lastActivated: { epoch, members: [P, S] } }), b.nowMs);
    b.log.lastSeq = 9;
    b.primary.logged(9);
    b.primary.tailTaken();
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(9);
    expect(b.primary.serving(8, b.nowMs)).toMatchObject({ ok: false });
    expect(b.primary.serving(9, b.nowMs)).toEqual({ ok: true });
  });

  it('alone, it needs no other member, but an epoch of its own and the voters all the same', () => {
    const b = new Bench(groupOf(null, [], { minReplicas: 1 }), 7, 4);
    expect(b.primary.needsTail).toBe(false);
    expect(b.primary.committedSeq).toBe(7);
    b.primary.votersConfirmed(5, b.nowMs);
    expect(b.primary.serving(b.log.lastSeq, b.nowMs)).toMatchObject({ ok: false });
    const { epoch } = b.chosen();
    b.primary.votersConfirmed(epoch, b.nowMs);
    expect(b.primary.serving(b.log.lastSeq, b.nowMs)).toEqual({ ok: true });
  });
});

describe('R4: a silent secondary', () => {
  it('is dropped by the catalog, and until then nothing is committed', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.deliver(S);
    b.write();
    b.nowMs += SECONDARY_SILENT_MS;
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    b.nowMs += 1;
    const wanted = b.primary.wantedGroup(b.nowMs)!;
    expect(wanted).toMatchObject({ epoch: 7, secondary: null, learners: [L, S] });
    expect(wanted.lastActivated).toEqual({ epoch: 7, members: [P] });
    expect(b.primary.committedSeq).toBe(0);
    b.primary.catalogChanged(wanted, b.nowMs);
    // minReplicas 2: it waits for the next.
    expect([b.primary.committedSeq, b.primary.serving(b.log.lastSeq, b.nowMs).ok]).toEqual([0, false]);
  });

  it('that answers again is still asked to go while the outcome is not known, and counts until then', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.nowMs += SECONDARY_SILENT_MS + 1;
    const wanted = b.primary.wantedGroup(b.nowMs);
    b.write();
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(1);
    expect(b.primary.wantedGroup(b.nowMs)).toEqual(wanted);
  });

  it('is dropped only once what was acknowledged is on disk here, and until the outcome is known so is all that follows', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.log.syncedSeq = 0;
    b.write(3);
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(3);
    b.nowMs += SECONDARY_SILENT_MS + 1;
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    expect(b.primary.needsDisk).toBe(true);
    b.log.syncedSeq = 3;
    b.primary.synced();
    expect(b.primary.wantedGroup(b.nowMs)).toMatchObject({ secondary: null });
    // It answers after all, too late.
    b.write();
    b.deliver(S);
    expect([b.primary.committedSeq, b.primary.needsDisk]).toEqual([3, true]);
    b.log.syncedSeq = 4;
    b.primary.synced();
    expect([b.primary.committedSeq, b.primary.needsDisk]).toEqual([4, false]);
  });

  it('that is back before it was asked to go stays', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.log.syncedSeq = 0;
    b.write();
    b.deliver(S);
    b.nowMs += SECONDARY_SILENT_MS + 1;
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    b.write();
    b.deliver(S);
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    expect([b.primary.committedSeq, b.primary.needsDisk]).toEqual([2, false]);
  });

  it('goes on alone where one replica is enough', () => {
    const b = new Bench(groupOf(S, [], { minReplicas: 1 })).serve();
    b.write();
    b.nowMs += SECONDARY_SILENT_MS + 1;
    b.primary.votersConfirmed(b.chosen().epoch, b.nowMs);
    expect([b.primary.committedSeq, b.primary.serving(b.log.lastSeq, b.nowMs).ok]).toEqual([1, true]);
  });

  it('alone among others, it acknowledges what is on its disk: one memory goes with the power', () => {
    const b = new Bench(groupOf(null, [L], { minReplicas: 1 }));
    b.log.syncedSeq = 0;
    b.write(2);
    expect([b.primary.committedSeq, b.primary.needsDisk]).toEqual([0, true]);
    b.log.syncedSeq = 1;
    b.primary.synced();
    expect([b.primary.committedSeq, b.primary.needsDisk]).toEqual([1, true]);
    b.log.syncedSeq = 2;
    b.primary.synced();
    expect([b.primary.committedSeq, b.primary.needsDisk]).toEqual([2, false]);
  });

  it('in a group of one node, what its operating system has is acknowledged', () => {
    const b = new Bench(groupOf(null, [], { minReplicas: 1 }));
    b.log.syncedSeq = 0;
    b.write();
    expect([b.primary.committedSeq, b.primary.needsDisk]).toEqual([1, false]);
  });

  it('that takes a full copy is no longer in sync', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.nowMs += BEACON_INTERVAL_MS;
    b.primary.pushAnswered(S, b.plan(S)!, { status: 'copying' }, b.nowMs);
    expect(b.primary.wantedGroup(b.nowMs)).toMatchObject({ secondary: null });
  });
});

describe('R2: the next secondary', () => {
  it('the first to ask is appointed, later ones hear that there is one; a silent one loses its place', () => {
    const b = new Bench(groupOf(null, [L, M]));
    expect(b.primary.secondaryQuery(L, b.nowMs)).toBe('SecondaryAppoint');
    expect(b.primary.secondaryQuery(M, b.nowMs)).toBe('SecondaryPresent');
    expect(b.primary.secondaryQuery(L, b.nowMs)).toBe('SecondaryAppoint');
    expect(b.primary.secondaryQuery(S, b.nowMs)).toBe('SecondaryPresent');
    b.nowMs += SECONDARY_SILENT_MS + 1;
    expect(b.primary.secondaryQuery(M, b.nowMs)).toBe('SecondaryAppoint');
  });

  it('one that must take a full copy loses its place to one that need not', () => {
    const b = new Bench(groupOf(null, [L, M]));
    b.deliver(M);
    b.primary.secondaryQuery(L, b.nowMs);
    b.primary.pushAnswered(L, b.plan(L)!, { status: 'copying' }, b.nowMs);
    expect(b.primary.secondaryQuery(M, b.nowMs)).toBe('SecondaryAppoint');
    expect(b.primary.wantedGroup(b.nowMs)).toMatchObject({ secondary: M, learners: [L] });
  });

  it('from before it is proposed until the outcome is known, both must have logged', () => {
    const b = new Bench(groupOf(null, [L], { minReplicas: 1 })).serve();
    b.write(JOIN_LAG_COUNT + 5);
    expect(b.primary.committedSeq).toBe(JOIN_LAG_COUNT + 5);
    b.primary.secondaryQuery(L, b.nowMs);
    // Too far behind to hold commits up for.
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    b.write();
    expect(b.primary.committedSeq).toBe(JOIN_LAG_COUNT + 6);
    const plan = b.plan(L) ?? (b.nowMs += BEACON_INTERVAL_MS, b.plan(L)!); // prettier-ignore
    b.primary.pushAnswered(L, plan, { status: 'logged', lastSeq: plan.lastSeq, syncedSeq: 0 }, b.nowMs);
    b.write(3);
    b.primary.wantedGroup(b.nowMs);
    const before = b.primary.committedSeq;
    b.write(2);
    expect(b.primary.committedSeq).toBe(before);
    b.deliver(L);
    const wanted = b.primary.wantedGroup(b.nowMs)!;
    expect(wanted).toMatchObject({ secondary: L, learners: [] });
    // Asked for: it cannot be taken back, whatever becomes of the node.
    b.write();
    b.nowMs += 10 * SECONDARY_SILENT_MS;
    expect(b.primary.wantedGroup(b.nowMs)).toEqual(wanted);
    expect(b.primary.committedSeq).toBe(before + 2);
    b.primary.catalogChanged(wanted, b.nowMs);
    expect(b.primary.committedSeq).toBe(before + 2);
    b.deliver(L);
    expect(b.primary.committedSeq).toBe(before + 3);
  });

  it('one that falls silent before it was asked for holds nothing up', () => {
    const b = new Bench(groupOf(null, [L], { minReplicas: 1 })).serve();
    b.deliver(L);
    b.write(2);
    b.primary.secondaryQuery(L, b.nowMs);
    // Joining, but it has not got what is committed yet.
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    b.write();
    expect(b.primary.committedSeq).toBe(2);
    b.nowMs += SECONDARY_SILENT_MS + 1;
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    expect(b.primary.committedSeq).toBe(3);
  });
});

describe('full copies', () => {
  it('are told once to a member that the log does not reach, and end', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.write(10);
    b.deliver(L);
    b.log.firstSeq = 8;
    b.nowMs += BEACON_INTERVAL_MS;
    b.primary.pushAnswered(L, b.plan(L)!, { status: 'mismatch', ends: [[0, 0], [5, 3]] }, b.nowMs); // prettier-ignore
    b.nowMs += BEACON_INTERVAL_MS;
    const told = b.plan(L)!;
    expect(told.copy).toBe(true);
    expect(b.primary.neededSeq).toBe(1);
    b.primary.pushAnswered(L, told, { status: 'copying' }, b.nowMs);
    b.nowMs += 1_000;
    const asked = b.plan(L)!;
    expect(asked.copy).toBe(false);
    b.primary.pushAnswered(L, asked, { status: 'logged', lastSeq: 10, syncedSeq: 0 }, b.nowMs);
    expect(b.primary.matchOf(L)).toBe(10);
  });
});

it('answers to pushes of an earlier understanding change nothing', () => {
  const b = new Bench(groupOf(S, [])).serve();
  b.write(2);
  const one = b.plan(S)!;
  b.write(2);
  const two = b.plan(S)!;
  expect(b.plan(S)).toBeUndefined();
  b.primary.pushFailed(S, one, b.nowMs);
  b.primary.pushAnswered(S, two, { status: 'logged', lastSeq: 4, syncedSeq: 4 }, b.nowMs);
  expect(b.primary.committedSeq).toBe(0);
  b.deliver(S);
  expect(b.primary.committedSeq).toBe(4);
});

describe('R5: the lease', () => {
  it('runs from the sending of what the secondary logged; a late answer does not stretch it', () => {
    const b = new Bench(groupOf(S, [])).serve();
    b.nowMs += BEACON_INTERVAL_MS;
    const sentMs = b.nowMs;
    const plan = b.plan(S)!;
    b.nowMs += LEASE_MS - 1;
    b.primary.pushAnswered(S, plan, { status: 'logged', lastSeq: plan.lastSeq, syncedSeq: 0 }, b.nowMs);
    expect(b.primary.serving(0, sentMs + LEASE_MS - 1).ok).toBe(true);
    expect(b.primary.serving(0, sentMs + LEASE_MS)).toMatchObject({
      ok: false,
      why: expect.stringContaining('R5') as string,
    });
  });

  it('is not given by learners, nor by an answer that is not "logged"', () => {
    const b = new Bench(groupOf(S, [L])).serve();
    b.nowMs += 10 * LEASE_MS;
    b.deliver(L);
    expect(b.primary.serving(0, b.nowMs).ok).toBe(false);
    b.nowMs += BEACON_INTERVAL_MS;
    b.primary.pushAnswered(S, b.plan(S)!, { status: 'copying' }, b.nowMs);
    expect(b.primary.serving(0, b.nowMs).ok).toBe(false);
  });

  it('ends when the machine slept, and begins with the next answer', () => {
    const b = new Bench(groupOf(S, [])).serve();
    b.primary.dropLease(b.nowMs);
    expect(b.primary.serving(0, b.nowMs).ok).toBe(false);
    b.deliver(S);
    expect(b.primary.serving(0, b.nowMs).ok).toBe(true);
  });

  it('of the primary before must have run out', () => {
    const b = new Bench(groupOf(S, []), 0, 0, { serveFromMs: 5_000 }).serve();
    b.nowMs = 4_900;
    b.deliver(S);
    b.nowMs = 4_999;
    expect(b.primary.serving(0, b.nowMs)).toMatchObject({ ok: false, why: expect.stringContaining('R5') as string });
    b.deliver(S);
    expect(b.primary.serving(0, b.nowMs).ok).toBe(true);
  });
});

describe('R7: a promoted primary', () => {
  /** P was the secondary of S in epoch 5, and the catalog has made it primary in epoch 6. */
  const promoted = (minReplicas: number, lastSeq: number, appliedSeq: number) => {
    const lastActivated = { epoch: 5 as Epoch, members: [S, P] };
    const group = groupOf(null, [L, S], { epoch: 6 as Epoch, lastActivated, minReplicas });
    return new Bench(group, lastSeq, appliedSeq, { epochFound: 5 as Epoch });
  };

  it('is activated together with its next secondary, which must have all of its log first', () => {
    const b = promoted(2, 9, 4);
    expect(b.primary.wantedGroup(0)).toBeUndefined();
    b.primary.secondaryQuery(L, 0);
    const probe = b.plan(L)!;
    b.primary.pushAnswered(L, probe, { status: 'mismatch', ends: [[0, 0], [5, 6]] }, 0); // prettier-ignore
    expect(b.primary.wantedGroup(0)).toBeUndefined();
    expect([b.primary.committedSeq, b.primary.serving(4, 0).ok]).toEqual([4, false]);
    b.deliver(L);
    const wanted = b.chosen();
    expect(wanted).toMatchObject({ epoch: 7, primary: P, secondary: L, learners: [S] });
    expect(wanted.lastActivated).toEqual({ epoch: 7, members: [P, L] });
    // All that was inherited may have been acknowledged: it is committed now, and applied before anything is answered.
    expect(b.primary.committedSeq).toBe(9);
    b.deliver(L);
    expect(b.primary.serving(8, b.nowMs).ok).toBe(false);
    expect(b.primary.serving(9, b.nowMs).ok).toBe(true);
  });

  it('is activated alone where one replica is enough', () => {
    const b = promoted(1, 9, 4);
    expect(b.primary.committedSeq).toBe(4);
    expect(b.chosen()).toMatchObject({ epoch: 7, secondary: null, lastActivated: { epoch: 7, members: [P] } });
    expect(b.primary.committedSeq).toBe(9);
    // R5: its lease comes from the voters.
    expect(b.primary.serving(9, 0).ok).toBe(false);
    b.primary.votersConfirmed(6, 0);
    expect(b.primary.serving(9, 0).ok).toBe(false);
    b.primary.votersConfirmed(7, 0);
    expect(b.primary.serving(9, LEASE_MS - 1).ok).toBe(true);
    expect(b.primary.serving(9, LEASE_MS).ok).toBe(false);
  });
});

describe('handing over', () => {
  function leaving(): Bench {
    const b = new Bench(groupOf(S, [L, M])).serve();
    b.write(3);
    b.primary.leave();
    return b;
  }

  it('stops answering, lets the secondary catch up, and asks to exchange the two', () => {
    const b = leaving();
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    expect(b.primary.serving(0, b.nowMs)).toMatchObject({ ok: false, why: `it hands the group over to ${S}` });
    b.deliver(S);
    const wanted = { epoch: 7, primary: S, secondary: P, learners: [L, M], handedOver: true };
    expect(b.primary.wantedGroup(b.nowMs)).toMatchObject(wanted);
    // Asked for: nobody hears anything more until the outcome is known, whatever happens.
    b.nowMs += 2 * SECONDARY_SILENT_MS;
    expect(b.plan(S)).toBeUndefined();
    expect(b.primary.wantedGroup(b.nowMs)).toMatchObject(wanted);
    expect(b.primary.serving(3, b.nowMs).ok).toBe(false);
  });

  it('is given up while it can be, when the secondary is', () => {
    const b = leaving();
    expect(b.primary.canHandOver(b.nowMs)).toBe(true);
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    b.primary.pushFailed(S, b.plan(S)!, b.nowMs);
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
    expect(b.primary.canHandOver(b.nowMs)).toBe(false);
    expect(b.primary.serving(0, b.nowMs)).not.toMatchObject({ why: expect.stringMatching(/hands/) });
  });

  it('is not for a secondary that leaves, too: that one is replaced by the learner that has most', () => {
    const b = leaving();
    b.deliver(S);
    b.deliver(M);
    expect(b.primary.memberLeaves(S, b.nowMs)).toBe(true);
    expect(b.primary.canHandOver(b.nowMs)).toBe(false);
    expect(b.primary.wantedGroup(b.nowMs)).toMatchObject({ primary: P, secondary: M, learners: [L, S] });
    // R2: until the outcome is known both must have what is acknowledged.
    b.write();
    b.deliver(S);
    expect(b.primary.committedSeq).toBe(3);
    b.deliver(M);
    expect(b.primary.committedSeq).toBe(4);
  });

  it('one that left and has come back can take the place of the next that leaves', () => {
    const b = new Bench(groupOf(S, [M])).serve();
    b.primary.memberLeaves(S, b.nowMs);
    expect(b.chosen()).toMatchObject({ secondary: M, learners: [S] });
    b.deliver(M);
    // Its process ends, and another one begins.
    b.nowMs += BEACON_INTERVAL_MS;
    b.primary.pushFailed(S, b.plan(S)!, b.nowMs);
    b.deliver(S);
    expect(b.primary.memberLeaves(M, b.nowMs)).toBe(true);
    expect(b.primary.wantedGroup(b.nowMs)).toMatchObject({ secondary: S, learners: [M] });
  });

  it('makes a primary that is activated at once, with the one before it as secondary', () => {
    const group = groupOf(S, [L], { handedOver: true, lastActivated: { epoch: 4 as Epoch, members: [S, P] } });
    const b = new Bench(group, 3, 3, { epochFound: 4 as Epoch, hasAll: true });
    expect(b.primary.needsTail).toBe(false);
    expect(b.chosen()).toMatchObject({ epoch: 6, secondary: S, lastActivated: { epoch: 6, members: [P, S] } });
  });

  it('but not if its log may lack something: then it compares first', () => {
    const group = groupOf(S, [L], { handedOver: true, lastActivated: { epoch: 4 as Epoch, members: [S, P] } });
    const b = new Bench(group, 3, 3, { epochFound: 4 as Epoch, hasAll: false });
    expect(b.primary.needsTail).toBe(true);
    expect(b.primary.wantedGroup(b.nowMs)).toBeUndefined();
  });
});

describe('a secondary that is drained', () => {
  it('is replaced; without a replacement it stays, unless the group can do without', () => {
    const drained = (learners: readonly NodeId[], minReplicas: number) =>
      new Bench(groupOf(S, learners, { minReplicas }), 0, 0, { isDraining: (node) => node === S }).serve();
    expect(drained([L], 2).primary.wantedGroup(BEACON_INTERVAL_MS)).toMatchObject({ secondary: L, learners: [S] });
    expect(drained([], 2).primary.wantedGroup(BEACON_INTERVAL_MS)).toBeUndefined();
    expect(drained([], 1).primary.wantedGroup(BEACON_INTERVAL_MS)).toMatchObject({ secondary: null, learners: [S] });
  });
});
