/** Boards and detectors of a whole cluster in a world of their own: time, chance, loss, cuts and pauses, no network code. */
import { describe, expect, it } from 'vitest';
import { SimRandom } from '../../../test/sim/random.ts';
import type { NodeId } from '../../ids.ts';
import { MemberBoard, Teller } from './board.ts';
import type { MemberState, MemberView, Rumour } from './board.ts';
import { FailureDetector, PROBE_PERIOD_MS, PROBE_TIMEOUT_MS, REACH_TIMEOUT_MS, suspicionMsOf } from './detector.ts';
import type { DetectorStep } from './detector.ts';

interface Member {
  readonly id: NodeId;
  board: MemberBoard;
  detector: FailureDetector;
  heard: Map<NodeId, number>;
  tellers: Map<NodeId, Teller>;
  state: 'running' | 'paused' | 'crashed';
  /** What waits while it is paused. */
  backlog: (() => void)[];
}

interface WorldOptions {
  readonly seed: number;
  readonly count: number;
  /** Of messages, in hundredths. A lost one breaks its connection, as with TCP. */
  readonly lossPercent?: number;
  readonly maxDelayMs?: number;
}

class World {
  nowMs = 1_000_000;
  readonly members: Member[] = [];
  readonly cuts = new Set<string>();
  /** All that was found out: who holds whom to be what. */
  readonly findings: (MemberView & { readonly by: NodeId })[] = [];
  messageCount = 0;
  readonly #options: WorldOptions;
  readonly #rng: SimRandom;
  #queue: { atMs: number; order: number; run: () => void }[] = [];
  #order = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#rng = new SimRandom(options.seed);
    for (let index = 1; index <= options.count; index++) this.members.push(this.#make(`n${index}` as NodeId));
  }

  #make(id: NodeId): Member {
    const member = { id, state: 'running', backlog: [] as (() => void)[] } as unknown as Member;
    this.#begin(member, 100);
    return member;
  }

  #begin(member: Member, incarnation: number): void {
    const { id } = member;
    member.heard = new Map();
    member.tellers = new Map();
    member.board = new MemberBoard({
      self: id,
      incarnation,
      onChange: (now) => {
        this.findings.push({ ...now, by: id });
        if (member.detector !== undefined) member.detector.changed(now.node, this.nowMs);
      },
    });
    const members = new Set(Array.from({ length: this.#options.count }, (_, index) => `n${index + 1}` as NodeId));
    member.board.setMembers(members, this.nowMs);
    member.detector = new FailureDetector(
      {
        self: id,
        board: member.board,
        below: (bound) => this.#rng.below(bound),
        heardMs: (node) => member.heard.get(node),
        isConnected: (node) => member.tellers.has(node),
      },
      this.nowMs,
    );
    this.#tickLater(member, member.detector);
  }

  #tickLater(member: Member, detector: FailureDetector): void {
    this.#at(Math.max(this.nowMs + 1, detector.nextMs), () =>
      this.#whenAwake(member, () => {
        if (member.detector !== detector) return;
        this.#run(member, detector.tick(this.nowMs));
        this.#tickLater(member, detector);
      }),
    );
  }

  #whenAwake(member: Member, work: () => void): void {
    if (member.state === 'running') work();
    else if (member.state === 'paused') member.backlog.push(work);
  }

  #run(member: Member, steps: readonly DetectorStep[]): void {
    for (const step of steps) {
      if (step.kind === 'tellAll') {
        const teller = member.tellers.get(step.node);
        if (teller !== undefined) member.board.tellAll(teller);
      } else if (step.kind === 'probe') {
        this.#ask(
          member,
          step.node,
          PROBE_TIMEOUT_MS,
          (answer) => answer(true),
          (answered) => this.#run(member, member.detector.probed(step.node, answered, this.nowMs)),
        );
      } else {
        const via = this.#member(step.via);
        this.#ask(
          member,
          step.via,
          REACH_TIMEOUT_MS,
          (answer) => this.#ask(via, step.node, PROBE_TIMEOUT_MS, (inner) => inner(true), answer),
          (reached) => member.detector.reached(step.node, reached, this.nowMs),
        );
      }
    }
  }

  /** A call: the outcome is false when no answer came in time. */
  #ask(
    from: Member,
    to: NodeId,
    timeoutMs: number,
    handle: (answer: (outcome: boolean) => void) => void,
    settle: (outcome: boolean) => void,
  ): void {
    const run = from.detector;
    let open = true;
    const finish = (outcome: boolean): void => {
      if (!open || from.detector !== run) return;
      open = false;
      settle(outcome);
    };
    const target = this.#member(to);
    this.#send(from, target, () => handle((outcome) => this.#send(target, from, () => finish(outcome))));
    this.#at(this.nowMs + timeoutMs, () => this.#whenAwake(from, () => finish(false)));
  }

  #send(from: Member, to: Member, receive: () => void): void {
    this.messageCount++;
    const teller = from.tellers.get(to.id) ?? new Teller();
    from.tellers.set(to.id, teller);
    const rumours: readonly Rumour[] = from.board.take(teller, to.id) ?? [];
    const lost = this.#rng.below(100) < (this.#options.lossPercent ?? 0);
    if (lost || this.cuts.has(`${from.id}>${to.id}`) || to.state === 'crashed') {
      from.tellers.delete(to.id);
      return;
    }
    this.#at(this.nowMs + 1 + this.#rng.below(this.#options.maxDelayMs ?? 20), () =>
      this.#whenAwake(to, () => {
        to.heard.set(from.id, this.nowMs);
        to.board.hear(rumours, this.nowMs);
        receive();
      }),
    );
  }

  #at(atMs: number, run: () => void): void {
    this.#queue.push({ atMs, order: this.#order++, run });
  }

  #member(id: NodeId): Member {
    return this.members.find((member) => member.id === id)!;
  }

  member(index: number): Member {
    return this.members[index - 1]!;
  }

  run(forMs: number): void {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      this.#queue.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
      const next = this.#queue[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#queue.shift();
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.run();
    }
    this.nowMs = untilMs;
  }

  pause(index: number): void {
    this.member(index).state = 'paused';
  }

  resume(index: number): void {
    const member = this.member(index);
    member.state = 'running';
    for (const work of member.backlog.splice(0)) work();
  }

  crash(index: number): void {
    this.member(index).state = 'crashed';
  }

  restart(index: number, incarnation: number): void {
    const member = this.member(index);
    member.state = 'running';
    this.#begin(member, incarnation);
  }

  cut(from: number, to: number): void {
    this.cuts.add(`n${from}>n${to}`);
  }

  /** What the running nodes hold of it. */
  heldOf(index: number): Set<MemberState | undefined> {
    const node = this.member(index).id;
    const others = this.members.filter((member) => member.id !== node && member.state === 'running');
    return new Set(others.map((member) => member.board.stateOf(node)));
  }

  deadFindings(): string[] {
    return this.findings.filter(({ state }) => state === 'dead').map(({ by, node }) => `${by}: ${node}`);
  }
}

/** By when all know of a node that died: found within a round, suspected, not refuted, and told to all. */
function boundMs(count: number): number {
  const roundMs = PROBE_PERIOD_MS * Math.ceil(count / 3);
  const spreadMs = 4 * PROBE_PERIOD_MS * Math.ceil(Math.log2(count + 1));
  return roundMs + PROBE_TIMEOUT_MS + REACH_TIMEOUT_MS + 2 * suspicionMsOf(count) + spreadMs;
}

const SEEDS = Array.from({ length: 12 }, (_, index) => index + 1);

describe('membership', () => {
  it.each(SEEDS)('a live node is never declared dead, though a fifth of all messages is lost (seed %i)', (seed) => {
    const world = new World({ seed, count: 3 + (seed % 6), lossPercent: 20, maxDelayMs: 150 });
    world.run(120_000);
    expect(world.deadFindings()).toEqual([]);
    world.members.forEach((_, index) => expect(world.heldOf(index + 1)).not.toContain('dead'));
  });

  it.each(SEEDS)(
    'a node that died is found by all within a bound, and known again when it is back (seed %i)',
    (seed) => {
      const count = 2 + seed;
      const world = new World({ seed, count, lossPercent: 5 });
      world.run(10_000);
      world.crash(2);
      world.run(boundMs(count));
      expect(world.heldOf(2)).toEqual(new Set(['dead']));
      expect(new Set(world.deadFindings().map((finding) => finding.split(' ')[1]))).toEqual(new Set(['n2']));
      // Its clock was put back: the others have to tell it.
      world.restart(2, 1);
      world.run(boundMs(count));
      expect(world.heldOf(2)).toEqual(new Set(['alive']));
    },
  );

  it.each(SEEDS)('a path that is broken in one direction makes nobody dead (seed %i)', (seed) => {
    const world = new World({ seed, count: 3 + (seed % 5) });
    world.run(5_000);
    world.cut(1, 2);
    if (seed % 2 === 0) world.cut(2, 1);
    world.run(60_000);
    expect(world.deadFindings()).toEqual([]);
  });

  it.each(SEEDS)(
    'a node that was stopped is found, judges nobody when it goes on, and is back at once (seed %i)',
    (seed) => {
      const count = 3 + (seed % 6);
      const world = new World({ seed, count, lossPercent: 2 });
      world.run(10_000);
      world.pause(3);
      world.run(boundMs(count));
      expect(world.heldOf(3)).toEqual(new Set(['dead']));
      world.resume(3);
      world.run(boundMs(count));
      expect(world.heldOf(3)).toEqual(new Set(['alive']));
      expect(world.findings.filter(({ by, state }) => by === 'n3' && state === 'dead')).toEqual([]);
    },
  );

  it('one that stops in order is known to have left, and is not suspected', () => {
    const world = new World({ seed: 1, count: 5 });
    world.run(5_000);
    world.member(4).board.leave(world.nowMs);
    world.run(3_000);
    world.crash(4);
    world.run(20_000);
    expect(world.heldOf(4)).toEqual(new Set(['left']));
    expect(world.findings.filter(({ node, state }) => node === 'n4' && state === 'suspect')).toEqual([]);
  });

  it('the load of a node does not grow with the cluster', () => {
    const perNode = (count: number): number => {
      const world = new World({ seed: 7, count });
      world.run(20_000);
      const before = world.messageCount;
      world.run(20_000);
      return (world.messageCount - before) / count / 20;
    };
    expect(perNode(60)).toBeLessThan(8);
    expect(perNode(4)).toBeLessThan(8);
  });
});
