/** What clients asked for and were told, in the order in which it happened. */

export interface Operation<Call = unknown, Answer = unknown> {
  readonly client: string;
  readonly call: Call;
  /** Undefined: unknown. It may take effect at any time after it was called, or never. */
  readonly answer: Answer | undefined;
  /** Places in one order of all calls and answers; `answered` is Infinity while unknown. */
  readonly called: number;
  readonly answered: number;
  readonly calledMs: number;
  readonly answeredMs: number;
}

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

/** An operation under way. */
export interface Pending<Answer> {
  /** It was answered at this instant. */
  done(answer: Answer): void;
}

export class History<Call, Answer> {
  readonly #nowMs: () => number;
  readonly #counter: { next: number };
  readonly #operations: Writable<Operation<Call, Answer>>[] = [];

  /** Histories with one counter are about one order. */
  constructor(nowMs: () => number, counter = { next: 0 }) {
    this.#nowMs = nowMs;
    this.#counter = counter;
  }

  get operations(): readonly Operation<Call, Answer>[] {
    return this.#operations;
  }

  begin(client: string, call: Call): Pending<Answer> {
    const operation: Writable<Operation<Call, Answer>> = {
      client,
      call,
      answer: undefined,
      called: this.#counter.next++,
      answered: Infinity,
      calledMs: this.#nowMs(),
      answeredMs: Infinity,
    };
    this.#operations.push(operation);
    return {
      done: (answer) => {
        operation.answer = answer;
        operation.answered = this.#counter.next++;
        operation.answeredMs = this.#nowMs();
      },
    };
  }
}
