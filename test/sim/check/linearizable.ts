/**
 * Is a history linearizable: could each operation have happened at one instant between its call and its answer? The
 * search of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with Lowe's memory of configurations seen
 * (Testing for Linearizability, 2017), as Knossos and Porcupine do it.
 *
 * An operation of unknown outcome may have happened at any time after its call, or never.
 */
import type { Operation } from './history.ts';

/** What the object is to do, one operation at a time. States are values: equal keys, equal states. */
export interface Model<State, Call, Answer> {
  readonly initial: State;
  /**
   * The states in which the object may be after the call, if it gave this answer; none if it cannot have given it.
   * Answer undefined: whatever it answered.
   */
  step(state: State, call: Call, answer: Answer | undefined): readonly State[];
  key(state: State): string;
}

export type Verdict<Call, Answer> =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** The longest beginning that could be explained, in an order that explains it. */
      readonly explained: readonly Operation<Call, Answer>[];
      /** What could not come next: the operations that were open then. */
      readonly stuck: readonly Operation<Call, Answer>[];
      readonly state: string;
    };

/** A call or an answer, in a doubly linked list from which operations are taken out and put back. */
interface Mark<Call, Answer> {
  readonly operation: Operation<Call, Answer>;
  readonly index: number;
  /** Of a call: the mark of its answer, if it has one. */
  answer: Mark<Call, Answer> | undefined;
  readonly isCall: boolean;
  before: Mark<Call, Answer> | undefined;
  after: Mark<Call, Answer> | undefined;
}

interface Choice<State, Call, Answer> {
  readonly mark: Mark<Call, Answer>;
  readonly state: State;
  /** Other states in which that operation may have left the object. */
  readonly others: State[];
}

export function checkLinearizable<State, Call, Answer>(
  model: Model<State, Call, Answer>,
  operations: readonly Operation<Call, Answer>[],
): Verdict<Call, Answer> {
  const head = link(operations);
  const seen = new Set<string>();
  const taken = new Bits(operations.length);
  const chosen: Choice<State, Call, Answer>[] = [];
  let open = operations.filter((operation) => operation.answered !== Infinity).length;
  let state = model.initial;
  let best: { explained: Operation<Call, Answer>[]; stuck: Operation<Call, Answer>[]; state: string } | undefined;
  let at = head.after;

  const take = (mark: Mark<Call, Answer>, next: State, others: State[]): boolean => {
    taken.set(mark.index);
    const key = `${taken.key()} ${model.key(next)}`;
    if (seen.has(key)) {
      taken.clear(mark.index);
      return false;
    }
    seen.add(key);
    chosen.push({ mark, state, others });
    state = next;
    lift(mark);
    if (mark.answer !== undefined) open--;
    return true;
  };

  while (open > 0) {
    if (at?.isCall === true) {
      const { call, answer } = at.operation;
      const states = [...model.step(state, call, answer)];
      let went = false;
      for (let next = states.shift(); next !== undefined && !went; next = went ? undefined : states.shift()) {
        went = take(at, next, states);
      }
      at = went ? head.after : at.after;
      continue;
    }
    // An answer whose operation is not placed yet (or the end of the list): something earlier must be otherwise.
    if (best === undefined || chosen.length > best.explained.length) {
      best = { explained: chosen.map(({ mark }) => mark.operation), stuck: openAt(head), state: model.key(state) };
    }
    for (;;) {
      const last = chosen.pop();
      if (last === undefined) return { ok: false, ...best };
      taken.clear(last.mark.index);
      ({ state } = last);
      unlift(last.mark);
      if (last.mark.answer !== undefined) open++;
      let went = false;
      for (let next = last.others.shift(); next !== undefined && !went; next = went ? undefined : last.others.shift()) {
        went = take(last.mark, next, last.others);
      }
      at = went ? head.after : last.mark.after;
      if (went || at !== undefined) break;
    }
  }
  return { ok: true };
}

/** Operations that may come next. */
function openAt<Call, Answer>(head: Mark<Call, Answer>): Operation<Call, Answer>[] {
  const found: Operation<Call, Answer>[] = [];
  for (let mark = head.after; mark?.isCall === true; mark = mark.after) found.push(mark.operation);
  return found;
}

function link<Call, Answer>(operations: readonly Operation<Call, Answer>[]): Mark<Call, Answer> {
  const marks: { at: number; mark: Mark<Call, Answer> }[] = [];
  for (const [index, operation] of operations.entries()) {
    const blank = { operation, index, before: undefined, after: undefined, answer: undefined };
    const call: Mark<Call, Answer> = { ...blank, isCall: true };
    marks.push({ at: operation.called, mark: call });
    if (operation.answered === Infinity) continue;
    call.answer = { ...blank, isCall: false };
    marks.push({ at: operation.answered, mark: call.answer });
  }
  marks.sort((a, b) => a.at - b.at);
  const [first] = operations;
  const head = { operation: first, index: -1, isCall: true, answer: undefined, before: undefined } as unknown as Mark<
    Call,
    Answer
  >;
  let last = head;
  for (const { mark } of marks) {
    last.after = mark;
    mark.before = last;
    last = mark;
  }
  return head;
}

function lift<Call, Answer>(mark: Mark<Call, Answer>): void {
  for (const each of [mark, mark.answer]) {
    if (each === undefined) continue;
    if (each.before !== undefined) each.before.after = each.after;
    if (each.after !== undefined) each.after.before = each.before;
  }
}

/** The reverse of lift, in reverse order. */
function unlift<Call, Answer>(mark: Mark<Call, Answer>): void {
  for (const each of [mark.answer, mark]) {
    if (each === undefined) continue;
    if (each.before !== undefined) each.before.after = each;
    if (each.after !== undefined) each.after.before = each;
  }
}

/** A set of small numbers; its key leaves out the full words at the beginning, which all sets later in a search share. */
class Bits {
  readonly #words: Uint32Array;

  constructor(count: number) {
    this.#words = new Uint32Array(Math.ceil(count / 32) + 1);
  }

  set(index: number): void {
    this.#words[index >>> 5]! |= 1 << (index & 31);
  }

  clear(index: number): void {
    this.#words[index >>> 5]! &= ~(1 << (index & 31));
  }

  key(): string {
    let first = 0;
    while (this.#words[first] === 0xffff_ffff) first++;
    let last = this.#words.length - 1;
    while (last > first && this.#words[last] === 0) last--;
    return `${first}:${Array.from(this.#words.subarray(first, last + 1), (word) => word.toString(36)).join('.')}`;
  }
}
