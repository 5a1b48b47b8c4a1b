/**
 * Who is held to be alive: one process's view of all nodes, and the news about them that ride on its messages. Pure.
 *
 * A rumour is (node, incarnation, state). Of two about one node the one with the higher incarnation holds; at the same
 * incarnation the worse one does. So views are joined as sets are, in any order and any number of times, with one outcome.
 * Only the node itself takes up a new incarnation: that is how it refutes a suspicion (Das, Gupta, Motivala: SWIM, 2002).
 *
 * Dissemination: a connection is told each rumour once (TCP does not lose them); a rumour goes to at most about
 * 3 log2(n) connections with nodes, besides those that are new, which are told all that is known, and the node that the
 * rumour is about. Clients hear everything and tell nothing.
 *
 * It is a hint: nothing here decides who is primary.
 */
import type { NodeId } from '../../ids.ts';

/** In the order in which a later one overrides an earlier one of the same incarnation. */
export const MEMBER_STATES = ['alive', 'suspect', 'dead', 'left'] as const;

/**
 * `suspect`: it answered neither a node nor others that were asked to try. `dead`: it did not refute that in time.
 * `left`: it said itself that it stops.
 */
export type MemberState = (typeof MEMBER_STATES)[number];

export interface Rumour {
  readonly node: NodeId;
  readonly incarnation: number;
  readonly state: MemberState;
}

/** What a process holds of one node. */
export interface MemberView extends Rumour {
  /** Monotonic time since when it is held to be in this state. */
  readonly sinceMs: number;
}

/** Rumours in one message: some 30 bytes each, so that no message grows by more than a few hundred. */
export const RUMOURS_PER_MESSAGE_MAX = 8;
/** The same for what a new connection is told first: what most clusters have, at once. */
export const CATCH_UP_PER_MESSAGE_MAX = 64;
/** SWIM's lambda: with three times log2(n) tellings a rumour misses a node of 200 once in some ten thousand times. */
const TELLINGS_FACTOR = 3;
/** Rumours kept of nodes that this process's catalog does not know yet. */
const STRANGERS_MAX_COUNT = 256;

/** What one connection has been told. */
export class Teller {
  /** All rumours up to this version, but for those of `catchUp`. */
  told = 0;
  /** Nodes of which it is still to be told what is held of them, whatever was told elsewhere; `'all'`: of every node. */
  catchUp: NodeId[] | 'all' | undefined = 'all';
}

interface Entry {
  rumour: Rumour;
  sinceMs: number;
  /** Of the board when this came to be. */
  version: number;
  tellingsLeft: number;
}

export interface BoardOptions {
  /** Absent on clients. */
  readonly self?: NodeId;
  /** Of this process's node: higher than any that it had before, as far as can be. */
  readonly incarnation?: number;
  /** Told of every change of what is held of a node, own refutations included. */
  readonly onChange?: (now: MemberView, before: MemberState | undefined) => void;
}

export class MemberBoard {
  readonly #options: BoardOptions;
  /**
   * By node, the latest change last. Absent: in the address book, nothing heard. Invariant: versions ascend in the order
   * of the map, and the last one is #version.
   */
  readonly #entries = new Map<NodeId, Entry>();
  readonly #strangers = new Map<NodeId, Rumour>();
  #members: ReadonlySet<NodeId> = new Set();
  #version = 0;
  #own: number;
  #leaving = false;

  constructor(options: BoardOptions = {}) {
    this.#options = options;
    this.#own = options.incarnation ?? 0;
  }

  /** The nodes of the catalog. */
  setMembers(members: ReadonlySet<NodeId>, nowMs: number): void {
    this.#members = members;
    for (const node of this.#entries.keys()) if (!members.has(node)) this.#entries.delete(node);
    const { self } = this.#options;
    if (self !== undefined && members.has(self) && !this.#entries.has(self)) this.#assert('alive', nowMs);
    for (const [node, rumour] of this.#strangers) {
      if (!members.has(node)) continue;
      this.#strangers.delete(node);
      this.hear([rumour], nowMs);
    }
  }

  get members(): ReadonlySet<NodeId> {
    return this.#members;
  }

  /** Undefined of a node that nothing was heard of. */
  view(node: NodeId): MemberView | undefined {
    const entry = this.#entries.get(node);
    return entry && { ...entry.rumour, sinceMs: entry.sinceMs };
  }

  stateOf(node: NodeId): MemberState | undefined {
    return this.#entries.get(node)?.rumour.state;
  }

  views(): MemberView[] {
    return [...this.#entries.values()].map(({ rumour, sinceMs }) => ({ ...rumour, sinceMs }));
  }

  /** Takes in what was told, or found out by this process itself. */
  hear(rumours: readonly Rumour[], nowMs: number): void {
    for (const rumour of rumours) {
      if (rumour.node === this.#options.self) this.#hearOfSelf(rumour, nowMs);
      else if (this.#members.has(rumour.node)) this.#take(rumour, nowMs);
      else this.#remember(rumour);
    }
  }

  /** This node stops: nothing that is said of it is refuted any more. */
  leave(nowMs: number): void {
    this.#leaving = true;
    this.#assert('left', nowMs);
  }

  // Telling

  /** Called for every message: mostly there is nothing to tell. */
  hasNews(teller: Teller): boolean {
    return teller.told !== this.#version || teller.catchUp !== undefined;
  }

  /** What to tell next on a connection with `to` (undefined: a client); undefined: nothing. */
  take(teller: Teller, to: NodeId | undefined): readonly Rumour[] | undefined {
    if (this.#options.self === undefined) return undefined;
    const rumours = teller.catchUp === undefined ? this.#latest(teller, to) : this.#catchUp(teller, teller.catchUp);
    return rumours.length === 0 ? undefined : rumours;
  }

  /** The connection is told everything once more: what may have been missed is made up for. */
  tellAll(teller: Teller): void {
    teller.catchUp = 'all';
  }

  /** Of a new connection: first what is out of the ordinary. */
  #catchUp(teller: Teller, pending: NodeId[] | 'all'): Rumour[] {
    let nodes = pending;
    if (nodes === 'all') {
      teller.told = this.#version;
      const all = [...this.#entries.values()].map(({ rumour }) => rumour);
      const [ordinary, others] = [all.filter(({ state }) => state === 'alive'), all.filter(isUnusual)];
      nodes = [...others, ...ordinary].map(({ node }) => node);
    }
    const now = nodes.splice(0, CATCH_UP_PER_MESSAGE_MAX);
    teller.catchUp = nodes.length === 0 ? undefined : nodes;
    return now.flatMap((node) => this.#entries.get(node)?.rumour ?? []);
  }

  #latest(teller: Teller, to: NodeId | undefined): Rumour[] {
    const rumours: Rumour[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.version <= teller.told) continue;
      if (rumours.length === RUMOURS_PER_MESSAGE_MAX) return rumours;
      teller.told = entry.version;
      if (to !== undefined && entry.rumour.node !== to) {
        if (entry.tellingsLeft === 0) continue;
        entry.tellingsLeft--;
      }
      rumours.push(entry.rumour);
    }
    teller.told = this.#version;
    return rumours;
  }

  #hearOfSelf(rumour: Rumour, nowMs: number): void {
    const own = this.#entries.get(rumour.node)?.rumour;
    if (own !== undefined && !overrides(rumour, own)) return;
    // Said of us, or left over from an earlier run of this node whose clock was ahead: we are above it.
    this.#own = Math.max(this.#own, rumour.incarnation + 1);
    if (own !== undefined) this.#assert(this.#leaving ? 'left' : 'alive', nowMs);
  }

  #assert(state: MemberState, nowMs: number): void {
    const { self } = this.#options;
    if (self !== undefined) this.#put({ node: self, incarnation: this.#own, state }, nowMs);
  }

  #take(rumour: Rumour, nowMs: number): void {
    const entry = this.#entries.get(rumour.node);
    if (entry === undefined || overrides(rumour, entry.rumour)) this.#put(rumour, nowMs);
  }

  #put(rumour: Rumour, nowMs: number): void {
    const before = this.#entries.get(rumour.node);
    const sameState = before?.rumour.state === rumour.state;
    const sinceMs = sameState ? before.sinceMs : nowMs;
    this.#version++;
    const tellingsLeft = tellingsOf(this.#members.size);
    this.#entries.delete(rumour.node);
    this.#entries.set(rumour.node, { rumour, sinceMs, version: this.#version, tellingsLeft });
    this.#options.onChange?.({ ...rumour, sinceMs }, before?.rumour.state);
  }

  /** The catalog that knows the node is on its way. */
  #remember(rumour: Rumour): void {
    const known = this.#strangers.get(rumour.node);
    if (known !== undefined && !overrides(rumour, known)) return;
    this.#strangers.delete(rumour.node);
    this.#strangers.set(rumour.node, rumour);
    const [oldest] = this.#strangers.keys();
    if (this.#strangers.size > STRANGERS_MAX_COUNT && oldest !== undefined) this.#strangers.delete(oldest);
  }
}

/** Whether other nodes are to be preferred to one that is held to be in this state. */
export function isDoubtful(state: MemberState | undefined): boolean {
  return state !== undefined && state !== 'alive';
}

function isUnusual({ state }: Rumour): boolean {
  return isDoubtful(state);
}

/** Whether the first holds although the second was heard before. */
export function overrides(a: Rumour, b: Rumour): boolean {
  if (a.incarnation !== b.incarnation) return a.incarnation > b.incarnation;
  return MEMBER_STATES.indexOf(a.state) > MEMBER_STATES.indexOf(b.state);
}

/** To how many nodes a rumour is told by each. */
export function tellingsOf(memberCount: number): number {
  return TELLINGS_FACTOR * Math.ceil(Math.log2(memberCount + 1));
}
