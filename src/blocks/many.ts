/**
 * Work on many items of a source that may be slow, endless or failing: bounded, with back-pressure (the source is asked
 * for no more than there is room for), and over at once when the caller gives up. What the stores' `...Many` calls and
 * the streams share.
 */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import { CancelledError, StateError } from '../errors.ts';

/** Items that are there, or come one after the other. */
export type Source<T> = Iterable<T> | AsyncIterable<T>;

/** How many items are worked on at once. */
export interface Bounds<T> {
  readonly maxCount: number;
  /** With `bytesOf`: no further item is taken while those under way have this many bytes. */
  readonly maxBytes?: number;
  readonly bytesOf?: (item: T) => number;
  readonly signal?: CancelSignal | undefined;
}

type Outcome<R> = { readonly value: R } | { readonly error: unknown };

/**
 * Runs `work` on each item. The first failure (of the source, of the work, or the signal's CancelledError) ends it: no
 * further item is taken, what is under way is waited for, and then that failure is thrown.
 */
export async function eachOf<T>(
  source: Source<T>,
  bounds: Bounds<T>,
  work: (item: T, index: number, signal: CancelSignal) => Promise<void>,
): Promise<void> {
  const { maxCount, maxBytes = Infinity, bytesOf = () => 0, signal } = bounds;
  const own = new SharedSignal(signal);
  const intake = new Intake(source, signal);
  const bell = new Bell();
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown): void => {
    failure ??= { error };
    intake.interrupt(error);
  };
  let count = 0;
  let bytes = 0;
  let index = 0;
  try {
    for (;;) {
      const next = await intake.next();
      if (next.done === true) break;
      const item = next.value;
      const itemBytes = bytesOf(item);
      count++;
      bytes += itemBytes;
      void settled(work, item, index++, own.signal).then((outcome) => {
        if ('error' in outcome) fail(outcome.error);
        count--;
        bytes -= itemBytes;
        bell.ring();
      });
      while (failure === undefined && (count >= maxCount || bytes >= maxBytes)) await bell.wait();
    }
  } catch (error) {
    failure ??= { error };
  }
  while (count > 0) await bell.wait();
  own.end();
  await intake.close();
  if (failure !== undefined) throw failure.error;
}

/**
 * Results of `work`, in the order of the items, up to `maxCount` of them worked on ahead of the reader. A failure is
 * thrown at its place: what comes before it in order is delivered first. A reader that stops early ends what is under
 * way (`work` gets a signal) and the source.
 */
export async function* inOrder<T, R>(
  source: Source<T>,
  bounds: Bounds<T>,
  work: (item: T, signal: CancelSignal) => Promise<R>,
): AsyncGenerator<R, void, undefined> {
  const { maxCount, maxBytes = Infinity, bytesOf = () => 0, signal } = bounds;
  checkSignal(signal);
  const own = new SharedSignal(signal);
  const intake = new Intake(source, signal);
  const ahead: Promise<Outcome<R>>[] = [];
  const arrival = new Bell();
  const room = new Bell();
  let bytes = 0;
  let ended = false;
  const begin = (item: T): Promise<Outcome<R>> => {
    const itemBytes = bytesOf(item);
    bytes += itemBytes;
    return settled(work, item, own.signal).finally(() => {
      bytes -= itemBytes;
      room.ring();
    });
  };
  const fill = async (): Promise<void> => {
    try {
      while (!ended) {
        const next = await intake.next();
        if (next.done === true) break;
        ahead.push(begin(next.value));
        arrival.ring();
        while (!ended && (ahead.length >= maxCount || bytes >= maxBytes)) await room.wait();
      }
    } catch (error) {
      ahead.push(Promise.resolve({ error }));
    }
    ended = true;
    arrival.ring();
  };
  const filled = fill();
  try {
    for (;;) {
      const [first] = ahead;
      if (first === undefined) {
        if (ended) return;
        await arrival.wait();
        continue;
      }
      const outcome = await first;
      checkSignal(signal);
      if ('error' in outcome) throw outcome.error;
      void ahead.shift();
      room.ring();
      yield outcome.value;
      checkSignal(signal);
    }
  } finally {
    ended = true;
    own.abort();
    room.ring();
    await intake.close();
    await filled;
    await Promise.all(ahead);
  }
}

/** The items, up to `count` at a time. */
export async function* inBatches<T>(source: Source<T>, count: number): AsyncGenerator<T[], void, undefined> {
  const intake = new Intake(source, undefined);
  let batch: T[] = [];
  try {
    for (let next = await intake.next(); next.done !== true; next = await intake.next()) {
      batch.push(next.value);
      if (batch.length < count) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  } finally {
    await intake.close();
  }
}

/** Throws CancelledError if the signal has fired. */
export function checkSignal(signal: CancelSignal | undefined): void {
  if (signal?.aborted === true) throw new CancelledError();
}

/** The caller's wish for how many at once, or the default. */
export function concurrencyOf(wanted: number | undefined, otherwise: number): number {
  if (wanted === undefined) return otherwise;
  if (!Number.isSafeInteger(wanted) || wanted < 1)
    throw new StateError(`concurrency is a whole number from 1 on, not ${wanted}`);
  return wanted;
}

function settled<A extends unknown[], R>(work: (...args: A) => Promise<R>, ...args: A): Promise<Outcome<R>> {
  // Within a promise, so that what throws before its first await is an outcome, too.
  return new Promise<R>((resolve) => resolve(work(...args))).then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

/** A caller's signal for many listeners at once, and ours to fire, too. */
class SharedSignal {
  readonly #controller = new Cancellation();
  readonly #outer: CancelSignal | undefined;
  readonly #onAbort = (): void => this.#controller.abort(this.#outer?.reason);

  constructor(outer: CancelSignal | undefined) {
    this.#outer = outer;
    outer?.addEventListener('abort', this.#onAbort);
    if (outer?.aborted === true) this.#onAbort();
  }

  get signal(): CancelSignal {
    return this.#controller.signal;
  }

  abort(): void {
    this.end();
    this.#controller.abort();
  }

  /** The caller's signal is of no interest any more. */
  end(): void {
    this.#outer?.removeEventListener('abort', this.#onAbort);
  }
}

/** Wakes who waits; one at a time does. (Promise.race over all that is under way costs as much as there is, each time.) */
class Bell {
  #ring: (() => void) | undefined;

  wait(): Promise<void> {
    return new Promise((resolve) => (this.#ring = resolve));
  }

  ring(): void {
    this.#ring?.();
  }
}

/** A source whose reader need not wait for it once it has given up. */
export class Intake<T> {
  readonly #iterator: Iterator<T> | AsyncIterator<T>;
  readonly #signal: CancelSignal | undefined;
  readonly #onAbort = (): void => this.interrupt(new CancelledError());
  #reject: ((error: unknown) => void) | undefined;
  #pending = false;
  #interrupted: { readonly error: unknown } | undefined;
  #ended = false;

  constructor(source: Source<T>, signal: CancelSignal | undefined) {
    this.#iterator = iteratorOf(source);
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort);
    if (signal?.aborted === true) this.#onAbort();
  }

  /** The next item, or what the source or {@link interrupt} failed with. One call at a time. */
  next(): Promise<IteratorResult<T>> {
    return new Promise((resolve, reject) => {
      if (this.#interrupted !== undefined) throw this.#interrupted.error;
      this.#reject = reject;
      this.#pending = true;
      Promise.resolve(this.#iterator.next()).then(
        (result) => {
          this.#pending = false;
          if (result.done === true) this.#ended = true;
          resolve(result);
        },
        (error: unknown) => {
          this.#pending = false;
          this.#ended = true;
          this.interrupt(error);
        },
      );
    });
  }

  /** From now on next fails with this, also the one that is waited for. */
  interrupt(error: unknown): void {
    this.#interrupted ??= { error };
    this.#reject?.(error);
  }

  /** Tells the source that no more is wanted. Waits for it, unless it was left in the middle of something. */
  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    // Who waits for the next item waits no longer: the source may have none for ever.
    this.interrupt(new StateError('the source is closed'));
    if (this.#ended) return;
    this.#ended = true;
    const wasPending = this.#pending;
    // What a source says about being closed early changes nothing any more.
    const closed = new Promise((resolve) => resolve(this.#iterator.return?.())).catch(() => undefined);
    if (!wasPending) await closed;
  }
}

function iteratorOf<T>(source: Source<T>): Iterator<T> | AsyncIterator<T> {
  if (typeof source === 'object' && source !== null) {
    if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]();
    if (Symbol.iterator in source) return source[Symbol.iterator]();
  }
  throw new StateError(`a list or stream of items is wanted, not ${source === null ? 'null' : `a ${typeof source}`}`);
}
