/**
 * One open directory. Offsets given out name entries: 1 and 2 are `.` and `..`, n + 3 comes after the n-th name. Names
 * are fetched in windows by name, so entries made or removed meanwhile do not shift the others. The last windows stay;
 * who seeks back further starts again from the name that began that window.
 */
import type { Ino } from '../ids.ts';
import type { Attr, FileType, QueryOf, QueryResults } from '../meta/types.ts';
import { DIRECTORY_WINDOW } from './options.ts';

export interface ListedName {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly type: FileType;
  readonly attr: Attr | undefined;
  /** Stamps of the tables when the question was asked. */
  readonly askedAt: number;
  readonly namesAskedAt: number;
  readonly fetchedMs: number;
}

/** Names kept behind the reader: a getdents buffer is far smaller. */
const KEPT_NAMES = 4 * DIRECTORY_WINDOW;
export const FIRST_NAME_OFFSET = 2;

/** The question for a window of names, as the mount asks it. */
export type AskNames = (query: QueryOf<'readdir'>) => Promise<QueryResults['readdir']>;

interface Window {
  readonly reply: QueryResults['readdir'];
  readonly askedAt: number;
  readonly namesAskedAt: number;
  readonly fetchedMs: number;
}

interface Stamps {
  inodes(): number;
  names(): number;
  nowMs(): number;
}

export class DirHandle {
  readonly ino: Ino;
  readonly #stamps: Stamps;
  #names: ListedName[] = [];
  /** Number of the first name kept. */
  #base = 0;
  #ended = false;
  #after: Uint8Array = EMPTY;
  /** The name before each window's first, by the window's first number. */
  #windows: { readonly number: number; readonly after: Uint8Array }[] = [{ number: 0, after: EMPTY }];
  attr: Attr | undefined;
  /** The window after the last one, asked for before anybody wants it; undefined inside: that failed. */
  #ahead:
    | { readonly after: Uint8Array; readonly withAttrs: boolean; readonly window: Promise<Window | undefined> }
    | undefined;

  constructor(ino: Ino, stamps: Stamps) {
    this.ino = ino;
    this.#stamps = stamps;
  }

  /** A new pass sees the directory as it is now. */
  rewind(): void {
    this.#restart({ number: 0, after: EMPTY });
    this.#windows = [{ number: 0, after: EMPTY }];
  }

  #restart(window: { readonly number: number; readonly after: Uint8Array }): void {
    this.#names = [];
    this.#base = window.number;
    this.#after = window.after;
    this.#ended = false;
    this.#ahead = undefined;
  }

  /** Names from `number` on that are here; undefined: call {@link fetch} first. */
  from(number: number, count: number): readonly ListedName[] | undefined {
    const start = number - this.#base;
    if (start < 0) return undefined;
    if (start >= this.#names.length && !this.#ended) return undefined;
    return this.#names.slice(start, start + count);
  }

  async fetch(number: number, withAttrs: boolean, ask: AskNames): Promise<void> {
    if (number < this.#base) {
      const window = this.#windows.findLast((candidate) => candidate.number <= number);
      this.#restart(window ?? { number: 0, after: EMPTY });
    }
    while (number >= this.#base + this.#names.length && !this.#ended) await this.#fetchWindow(withAttrs, ask);
  }

  async #fetchWindow(withAttrs: boolean, ask: AskNames): Promise<void> {
    const after = this.#after;
    const ahead = this.#ahead;
    this.#ahead = undefined;
    // What was asked for ahead is answered by now, or soon; if it failed, it is asked again.
    const early = ahead?.after === after && ahead.withAttrs === withAttrs ? await ahead.window : undefined;
    const { reply, askedAt, namesAskedAt, fetchedMs } = early ?? (await this.#askWindow(after, withAttrs, ask));
    // Another reader of this handle may have fetched or rewound meanwhile.
    if (after !== this.#after) return;
    this.attr = reply.attr;
    for (const { name, ino, type, attr } of reply.entries) {
      this.#names.push({ name, ino, type, attr, askedAt, namesAskedAt, fetchedMs });
    }
    const last = reply.entries[reply.entries.length - 1];
    if (last === undefined || !reply.more) this.#ended = true;
    if (last !== undefined) {
      this.#after = last.name;
      const number = this.#base + this.#names.length;
      if ((this.#windows.at(-1)?.number ?? 0) < number) this.#windows.push({ number, after: last.name });
    }
    // While the kernel and the reader are busy with these names, the servers gather the next ones.
    if (!this.#ended) {
      const window = this.#askWindow(this.#after, withAttrs, ask).catch(() => undefined);
      this.#ahead = { after: this.#after, withAttrs, window };
    }
    if (this.#names.length > KEPT_NAMES) {
      const surplus = this.#names.length - KEPT_NAMES;
      this.#names.splice(0, surplus);
      this.#base += surplus;
    }
  }

  async #askWindow(after: Uint8Array, withAttrs: boolean, ask: AskNames): Promise<Window> {
    const askedAt = this.#stamps.inodes();
    const namesAskedAt = this.#stamps.names();
    const reply = await ask({ op: 'readdir', ino: this.ino, after, limit: DIRECTORY_WINDOW, withAttrs });
    return { reply, askedAt, namesAskedAt, fetchedMs: this.#stamps.nowMs() };
  }
}

const EMPTY = new Uint8Array(0);
