/**
 * One open directory. Offsets given out name entries: 1 and 2 are `.` and `..`, n + 3 comes after the n-th name. Names
 * are fetched in windows by name, so entries made or removed meanwhile do not shift the others. The last windows stay. Of
 * those before them four bytes a name are kept: who seeks back so far has that window read anew, each name that is still there
 * has the number that it had, and what came since is left out.
 */
import type { Ino } from '../ids.ts';
import type { Attr, FileType, QueryOf, QueryResults } from '../meta/types.ts';
import { DIRECTORY_WINDOW } from './options.ts';

export interface ListedName {
  /** Its place in the order in which names were first told. */
  readonly number: number;
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

/** An answer of the servers. */
interface Page {
  readonly reply: QueryResults['readdir'];
  readonly askedAt: number;
  readonly namesAskedAt: number;
  readonly fetchedMs: number;
}

/** Names told before. */
interface Window {
  /** Of the first name. */
  readonly number: number;
  /** The name before the first, and the last one. */
  readonly after: Uint8Array;
  readonly last: Uint8Array;
  readonly hashes: Uint32Array;
}

interface DirPorts {
  /** Stamps of the tables of inodes and of names, as they are now. */
  inodes(): number;
  names(): number;
  nowMs(): number;
  /** Once what was asked before has left this process, or soon after. */
  sent(): Promise<void>;
}

export class DirHandle {
  readonly ino: Ino;
  readonly #ports: DirPorts;
  #names: ListedName[] = [];
  /** All names with numbers from here to {@link #end} that are still there are kept. */
  #base = 0;
  #end = 0;
  #ended = false;
  /** The last name before #end. */
  #after: Uint8Array = EMPTY;
  /** In order, without gaps: what was told since the last rewind. */
  #windows: Window[] = [];
  /** Of these the one that is read anew. */
  #again: Window | undefined;
  attr: Attr | undefined;
  /** The page after the last one, asked for before anybody wants it; undefined inside: that failed. */
  #ahead:
    { readonly after: Uint8Array; readonly withAttrs: boolean; readonly page: Promise<Page | undefined> } | undefined;

  constructor(ino: Ino, ports: DirPorts) {
    this.ino = ino;
    this.#ports = ports;
  }

  /** A new pass sees the directory as it is now. */
  rewind(): void {
    this.#windows = [];
    this.#restart(undefined);
  }

  #restart(window: Window | undefined): void {
    this.#names = [];
    this.#again = window;
    this.#base = this.#end = window?.number ?? 0;
    this.#after = window?.after ?? EMPTY;
    this.#ended = false;
    this.#ahead = undefined;
  }

  /** Names from `number` on that are here; undefined: call {@link fetch} first. */
  from(number: number, count: number): readonly ListedName[] | undefined {
    if (number < this.#base) return undefined;
    const start = firstFrom(this.#names, number);
    if (start >= this.#names.length && !this.#ended) return undefined;
    return this.#names.slice(start, start + count);
  }

  async fetch(number: number, withAttrs: boolean, ask: AskNames): Promise<void> {
    if (number < this.#base) {
      this.#restart(this.#windows.findLast((window) => window.number <= number));
    }
    while ((this.#names.at(-1)?.number ?? -1) < number && !this.#ended) await this.#fetchWindow(withAttrs, ask);
  }

  async #fetchWindow(withAttrs: boolean, ask: AskNames): Promise<void> {
    const after = this.#after;
    const ahead = this.#ahead;
    this.#ahead = undefined;
    // What was asked for ahead is answered by now, or soon; if it failed, it is asked again.
    const early = ahead?.after === after && ahead.withAttrs === withAttrs ? await ahead.page : undefined;
    const page = early ?? (await this.#askPage(after, withAttrs, ask));
    // Another reader of this handle may have fetched or rewound meanwhile.
    if (after !== this.#after) return;
    const { reply } = page;
    const { lastName } = reply;
    let next: Promise<Page | undefined> | undefined;
    // The servers gather the next names while these are read out of the answer, and then while the kernel and the reader are busy with them.
    if (this.#again === undefined && lastName !== undefined) {
      next = this.#askPage(lastName, withAttrs, ask).catch(() => undefined);
      await this.#ports.sent();
      if (after !== this.#after) return;
    }
    this.attr = reply.attr;
    if (this.#again === undefined) this.#takeNew(page);
    else this.#takeAgain(page, this.#again);
    if (!this.#ended) {
      next ??= this.#askPage(this.#after, withAttrs, ask).catch(() => undefined);
      this.#ahead = { after: this.#after, withAttrs, page: next };
    }
    if (this.#names.length > KEPT_NAMES) {
      this.#names.splice(0, this.#names.length - KEPT_NAMES);
      this.#base = this.#names[0]?.number ?? this.#end;
    }
  }

  #takeNew({ reply, ...asked }: Page): void {
    const { entries, more } = reply;
    const lastEntry = entries.at(-1);
    if (lastEntry === undefined || !more) this.#ended = true;
    if (lastEntry === undefined) return;
    // Of its own: windows stay, and would keep the whole answer.
    const last = new Uint8Array(lastEntry.name);
    const number = this.#end;
    for (const [index, entry] of entries.entries()) this.#names.push(listed(entry, number + index, asked));
    const hashes = Uint32Array.from(entries, ({ name }) => hashOf(name));
    this.#windows.push({ number, after: this.#after, last, hashes });
    this.#end = number + entries.length;
    this.#after = last;
  }

  /** Of the names up to the window's last, those that it had. */
  #takeAgain({ reply, ...asked }: Page, window: Window): void {
    const { number, last, hashes } = window;
    let index = Math.max(0, (this.#names.at(-1)?.number ?? -1) + 1 - number);
    let isWhole = !reply.more;
    let after = this.#after;
    for (const entry of reply.entries) {
      if (Buffer.compare(entry.name, last) > 0) {
        isWhole = true;
        break;
      }
      after = entry.name;
      const found = hashes.indexOf(hashOf(entry.name), index);
      if (found < 0) continue;
      this.#names.push(listed(entry, number + found, asked));
      index = found + 1;
    }
    this.#after = new Uint8Array(after);
    if (!isWhole) return;
    this.#end = number + hashes.length;
    this.#after = last;
    this.#again = this.#windows.find((next) => next.number === this.#end);
  }

  async #askPage(after: Uint8Array, withAttrs: boolean, ask: AskNames): Promise<Page> {
    const askedAt = this.#ports.inodes();
    const namesAskedAt = this.#ports.names();
    const reply = await ask({ op: 'readdir', ino: this.ino, after, limit: DIRECTORY_WINDOW, withAttrs });
    return { reply, askedAt, namesAskedAt, fetchedMs: this.#ports.nowMs() };
  }
}

function listed(
  { name, ino, type, attr }: QueryResults['readdir']['entries'][number],
  number: number,
  asked: Omit<Page, 'reply'>,
): ListedName {
  return { number, name, ino, type, attr, ...asked };
}

/** Index of the first name with that number or a greater one. */
function firstFrom(names: readonly ListedName[], number: number): number {
  let [low, high] = [0, names.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((names[middle] as ListedName).number < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** FNV-1a, 32 bits. Where two names of one window have the same, one is taken for the other: an offset is then off by some names. */
function hashOf(name: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of name) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

const EMPTY = new Uint8Array(0);
