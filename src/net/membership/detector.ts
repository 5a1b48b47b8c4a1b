/**
 * Finding out which nodes do not answer, as SWIM does it (Das, Gupta, Motivala 2002; hashicorp/memberlist). Pure: messages,
 * outcomes and time go in, probes come out, findings go to the board.
 *
 * Each period some members are probed, in an order that is shuffled for each round. Who was heard within the period needs no
 * probe. One that does not answer is probed through others: so a broken path between two is not taken for a dead
 * node. If nobody reaches it, it is suspected. It hears of that with the next message that reaches it and refutes it by a
 * new incarnation; if it does not within the suspicion time, it is held to be dead.
 *
 * Invariant: a node from which a message came since the suspicion began is not declared dead by this process.
 */
import type { NodeId } from '../../ids.ts';
import { PING_INTERVAL_MS } from '../../limits.ts';
import type { MemberBoard } from './board.ts';

/** As often as idle connections are pinged. */
export const PROBE_PERIOD_MS = PING_INTERVAL_MS;
/** A healthy node in one machine room answers in a millisecond, a busy one in tens. */
export const PROBE_TIMEOUT_MS = 500;
/** The way there and back through another, and that one's own wait of PROBE_TIMEOUT_MS. */
export const REACH_TIMEOUT_MS = 2 * PROBE_TIMEOUT_MS;
/** Probed by each node in one period: the load of a node does not grow with the cluster. */
export const PROBES_PER_PERIOD = 3;
/** Asked to try when a probe had no answer (SWIM's k): one of three is on a whole path even where many are broken. */
export const REACH_COUNT = 3;
/** Of up to ten members; longer by log10 of their number, as news of the suspicion, and its refutation, travel longer. */
export const SUSPICION_MS = 3_000;
/** Nothing was done here for this long although it was due: this process itself had stopped. */
const STALL_MS = PROBE_PERIOD_MS;
/** It then judges nobody for this long: others have given its connections up, and they have to be made again. */
const STALL_GRACE_MS = 3 * PROBE_PERIOD_MS;
/** Nodes of a cluster that starts whole come up within this; until then one that was never heard of is not suspected. */
const START_GRACE_MS = 5_000;
/** Periods between connections that are told everything once more (memberlist's push/pull: 30 s). */
const TELL_ALL_PERIODS = 30;

export type DetectorStep =
  | { readonly kind: 'probe'; readonly node: NodeId }
  /** Have `via` probe `node`. */
  | { readonly kind: 'reach'; readonly node: NodeId; readonly via: NodeId }
  /** Tell `node` everything once more with the next message. */
  | { readonly kind: 'tellAll'; readonly node: NodeId };

interface Probe {
  readonly startedMs: number;
  /** Others that were asked and have not answered yet; undefined while the node itself is being asked. */
  waiting: number | undefined;
}

export interface DetectorOptions {
  readonly self: NodeId;
  readonly board: MemberBoard;
  /** Uniform, 0 <= n < bound. */
  readonly below: (bound: number) => number;
  /** When a message of that node was last received, on whatever connection; undefined: never. */
  readonly heardMs: (node: NodeId) => number | undefined;
  /** Whether there is a connection of our own to it: without one it is probed, however much it talks. */
  readonly isConnected: (node: NodeId) => boolean;
}

export class FailureDetector {
  readonly #o: DetectorOptions;
  readonly #probes = new Map<NodeId, Probe>();
  /** Still to be probed in this round, the next one last. */
  #round: NodeId[] = [];
  /** By suspected node: when the suspicion began or was last held back, and of which incarnation it is. */
  readonly #suspicions = new Map<NodeId, { fromMs: number; incarnation: number }>();
  readonly #startedMs: number;
  #nextPeriodMs: number;
  #judgesFromMs = -Infinity;
  #periods = 0;

  constructor(options: DetectorOptions, nowMs: number) {
    this.#o = options;
    this.#startedMs = nowMs;
    this.#nextPeriodMs = nowMs + PROBE_PERIOD_MS;
  }

  /** When `tick` is to be called at the latest. */
  get nextMs(): number {
    let nextMs = this.#nextPeriodMs;
    const suspicionMs = suspicionMsOf(this.#o.board.members.size);
    for (const { fromMs } of this.#suspicions.values()) nextMs = Math.min(nextMs, fromMs + suspicionMs);
    return nextMs;
  }

  tick(nowMs: number): DetectorStep[] {
    this.#noticeStall(nowMs);
    this.#expire(nowMs);
    if (nowMs < this.#nextPeriodMs) return [];
    this.#nextPeriodMs = nowMs + PROBE_PERIOD_MS;
    this.#periods++;
    const steps = this.#chosen(nowMs).flatMap((node) => this.#probe(node, nowMs));
    if (this.#periods % TELL_ALL_PERIODS === 0) steps.push(...this.#tellAll());
    return steps;
  }

  /** The board has changed: suspicions begin and end. */
  changed(node: NodeId, nowMs: number): void {
    const view = this.#o.board.view(node);
    if (view?.state !== 'suspect' || node === this.#o.self) {
      this.#suspicions.delete(node);
      return;
    }
    if (this.#suspicions.get(node)?.incarnation === view.incarnation) return;
    this.#suspicions.set(node, { fromMs: nowMs, incarnation: view.incarnation });
  }

  /** Something happened with a node, for example its connection was made or broke: it is looked at now. */
  look(node: NodeId, nowMs: number): DetectorStep[] {
    this.#noticeStall(nowMs);
    const { board, self } = this.#o;
    return node === self || !board.members.has(node) ? [] : this.#probe(node, nowMs);
  }

  /** The outcome of a `probe`. */
  probed(node: NodeId, answered: boolean, nowMs: number): DetectorStep[] {
    this.#noticeStall(nowMs);
    const probe = this.#probes.get(node);
    if (probe === undefined || probe.waiting !== undefined) return [];
    if (answered || this.#heardSince(node, probe.startedMs)) {
      this.#probes.delete(node);
      return [];
    }
    if (isGone(this.#o.board.stateOf(node))) {
      this.#probes.delete(node);
      return [];
    }
    const proxies = this.#proxies(node);
    if (proxies.length === 0) {
      this.#suspect(node, nowMs);
      return [];
    }
    probe.waiting = proxies.length;
    return proxies.map((via) => ({ kind: 'reach', node, via }));
  }

  /** The outcome of a `reach`; false also if `via` itself did not answer. */
  reached(node: NodeId, reached: boolean, nowMs: number): void {
    this.#noticeStall(nowMs);
    const probe = this.#probes.get(node);
    if (probe?.waiting === undefined) return;
    probe.waiting--;
    if (reached || this.#heardSince(node, probe.startedMs)) this.#probes.delete(node);
    else if (probe.waiting === 0) this.#suspect(node, nowMs);
  }

  #probe(node: NodeId, nowMs: number): DetectorStep[] {
    if (this.#probes.has(node)) return [];
    this.#probes.set(node, { startedMs: nowMs, waiting: undefined });
    return [{ kind: 'probe', node }];
  }

  /** Those that are suspected, and the next ones of the round. */
  #chosen(nowMs: number): NodeId[] {
    const { board, self, heardMs, isConnected } = this.#o;
    const chosen = new Set([...this.#suspicions.keys()].filter((node) => board.members.has(node)));
    const isDue = (node: NodeId): boolean => {
      if (node === self || !board.members.has(node)) return false;
      return !isConnected(node) || nowMs - (heardMs(node) ?? -Infinity) >= PROBE_PERIOD_MS;
    };
    const wanted = chosen.size + PROBES_PER_PERIOD;
    // At most once around: who was heard of late is passed over.
    for (let left = board.members.size; left > 0 && chosen.size < wanted; left--) {
      const node = this.#nextOfRound();
      if (node !== undefined && isDue(node)) chosen.add(node);
    }
    return [...chosen];
  }

  #nextOfRound(): NodeId | undefined {
    if (this.#round.length === 0) this.#round = this.#shuffled([...this.#o.board.members]);
    return this.#round.pop();
  }

  #proxies(target: NodeId): NodeId[] {
    const { board, self } = this.#o;
    const others = [...board.members].filter(
      (node) => node !== self && node !== target && !isGone(board.stateOf(node)),
    );
    return this.#shuffled(others).slice(0, REACH_COUNT);
  }

  #tellAll(): DetectorStep[] {
    const [node] = this.#shuffled([...this.#o.board.members].filter((each) => each !== this.#o.self));
    return node === undefined ? [] : [{ kind: 'tellAll', node }];
  }

  #shuffled(nodes: NodeId[]): NodeId[] {
    for (let left = nodes.length; left > 1; left--) {
      const at = this.#o.below(left);
      const last = nodes[left - 1] as NodeId;
      nodes[left - 1] = nodes[at] as NodeId;
      nodes[at] = last;
    }
    return nodes;
  }

  #suspect(node: NodeId, nowMs: number): void {
    this.#probes.delete(node);
    const { board } = this.#o;
    const view = board.view(node);
    if (nowMs < this.#judgesFromMs) return;
    if (view === undefined && nowMs - this.#startedMs < START_GRACE_MS) return;
    if (view !== undefined && view.state !== 'alive') return;
    board.hear([{ node, incarnation: view?.incarnation ?? 0, state: 'suspect' }], nowMs);
    this.changed(node, nowMs);
  }

  #expire(nowMs: number): void {
    const suspicionMs = suspicionMsOf(this.#o.board.members.size);
    for (const [node, suspicion] of this.#suspicions) {
      if (nowMs < suspicion.fromMs + suspicionMs) continue;
      // It lives, as far as we can see; that it is suspected, it has to refute itself.
      if (this.#heardSince(node, suspicion.fromMs)) suspicion.fromMs = nowMs;
      else {
        this.#suspicions.delete(node);
        this.#o.board.hear([{ node, incarnation: suspicion.incarnation, state: 'dead' }], nowMs);
      }
    }
  }

  #noticeStall(nowMs: number): void {
    if (nowMs - this.nextMs <= STALL_MS) return;
    this.#probes.clear();
    this.#nextPeriodMs = nowMs;
    this.#judgesFromMs = nowMs + STALL_GRACE_MS;
    for (const suspicion of this.#suspicions.values()) suspicion.fromMs = nowMs;
  }

  #heardSince(node: NodeId, sinceMs: number): boolean {
    return (this.#o.heardMs(node) ?? -Infinity) > sinceMs;
  }
}

function isGone(state: string | undefined): boolean {
  return state === 'dead' || state === 'left';
}

/** How long a suspected node has to refute. */
export function suspicionMsOf(memberCount: number): number {
  return SUSPICION_MS * Math.max(1, Math.log10(Math.max(1, memberCount)));
}
