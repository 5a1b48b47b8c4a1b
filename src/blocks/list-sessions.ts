/**
 * Paged lists over the wire. An engine lists in no order, so a page cannot be found again by the last id; the node keeps
 * the open iterator under a random cursor instead and drops it when nobody asks for the next page. A caller whose
 * cursor is gone (or whose reply was lost) starts again: a page is given once.
 */
import { UnavailableError } from '../errors.ts';
import type { Clock, Random, Timer } from '../env.ts';

const SESSIONS_MAX = 64;
const IDLE_MS = 60_000;

interface Session<T> {
  readonly iterator: AsyncIterator<T>;
  timer: Timer | undefined;
}

export class ListSessions<T> {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #sessions = new Map<string, Session<T>>();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Up to `limit` items that pass, and the cursor for more (null at the end). `start` is called when cursor is null. */
  async page(
    cursor: string | null,
    limit: number,
    start: () => AsyncIterable<T>,
    passes: (item: T) => boolean,
  ): Promise<{ items: T[]; cursor: string | null }> {
    const session = cursor === null ? this.#begin(start()) : this.#take(cursor);
    const items: T[] = [];
    try {
      while (items.length < limit) {
        const next = await session.iterator.next();
        if (next.done === true) return { items, cursor: null };
        if (passes(next.value)) items.push(next.value);
      }
    } catch (error) {
      this.#drop(session);
      throw error;
    }
    return { items, cursor: this.#keep(session) };
  }

  close(): void {
    for (const session of this.#sessions.values()) {
      session.timer?.cancel();
      this.#drop(session);
    }
    this.#sessions.clear();
  }

  #begin(items: AsyncIterable<T>): Session<T> {
    return { iterator: items[Symbol.asyncIterator](), timer: undefined };
  }

  #take(cursor: string): Session<T> {
    const session = this.#sessions.get(cursor);
    if (session === undefined) {
      throw new UnavailableError('this list was given up: its cursor is unknown or was used before', {
        remedy: 'Start the list again.',
      });
    }
    session.timer?.cancel();
    this.#sessions.delete(cursor);
    return session;
  }

  #keep(session: Session<T>): string {
    if (this.#sessions.size >= SESSIONS_MAX) {
      const oldest = this.#sessions.keys().next().value;
      if (oldest !== undefined) this.#drop(this.#take(oldest));
    }
    const cursor = Buffer.from(this.#random.bytes(16)).toString('hex');
    session.timer = this.#clock.setTimer(IDLE_MS, () => {
      this.#sessions.delete(cursor);
      this.#drop(session);
    });
    this.#sessions.set(cursor, session);
    return cursor;
  }

  #drop(session: Session<T>): void {
    session.iterator.return?.().catch(() => undefined);
  }
}
