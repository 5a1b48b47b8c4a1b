/**
 * Which inodes and names the last commands have changed, for clients that keep what they were told: they ask every so often what
 * others have changed since (query `changes`), as the callbacks of AFS would tell them. In memory, bounded, and of what was applied since
 * this node took up the table; whoever asks for more is told that it has missed something.
 */
import type { Ino, Seq, SessionId } from '../ids.ts';
import { KEY_INO_AT, KEY_NAME_AT, keyToBytes, u64FromKey } from './keys.ts';
import type { QueryOf, QueryResults } from './types.ts';

/** Changed rows that are remembered, some 100 bytes each: seconds of the fastest changes. */
const CHANGES_KEPT = 32_768;

interface Change {
  readonly seq: Seq;
  /** That of the client that asked for it. */
  readonly session: SessionId | undefined;
  /** Of an inode's row, or of a directory entry's. */
  readonly key: string;
}

export class ChangeFeed {
  readonly #capacity: number;
  /** In order; a ring once it is full, whose oldest is at #oldest. */
  #changes: Change[] = [];
  #oldest = 0;
  /** Nothing is known of changes up to here. */
  #afterSeq: Seq;
  #seq: Seq;

  constructor(appliedSeq: Seq, capacity = CHANGES_KEPT) {
    this.#capacity = capacity;
    this.#afterSeq = this.#seq = appliedSeq;
  }

  /** The command of that seq has written these rows; seqs ascend. */
  applied(seq: Seq, session: SessionId | undefined, keys: Iterable<string>): void {
    this.#seq = seq;
    for (const key of keys) {
      const kind = key.charCodeAt(0);
      if (kind === INODE || kind === DIRENT) this.#add({ seq, session, key });
    }
  }

  #add(change: Change): void {
    if (this.#changes.length < this.#capacity) {
      this.#changes.push(change);
      return;
    }
    this.#afterSeq = this.#changes[this.#oldest]!.seq;
    this.#changes[this.#oldest] = change;
    this.#oldest = (this.#oldest + 1) % this.#capacity;
  }

  /** What other sessions have changed after `after`; whole commands, so a little more than `limit` perhaps. */
  since({ after, session, limit }: QueryOf<'changes'>): QueryResults['changes'] {
    const nothing = { inos: [], names: [], upToSeq: this.#seq };
    if (after === undefined) return { ...nothing, missed: false };
    if (after < this.#afterSeq || after > this.#seq) return { ...nothing, missed: true };
    const inos = new Set<Ino>();
    const names = new Map<string, { readonly parent: Ino; readonly name: Uint8Array }>();
    let upToSeq: number = after;
    for (let at = this.#firstAfter(after); at < this.#changes.length; at++) {
      const change = this.#at(at);
      if (change.seq !== upToSeq && inos.size + names.size >= limit) return answer(upToSeq);
      upToSeq = change.seq;
      if (change.session === session) continue;
      const { key } = change;
      const ino = u64FromKey(key, KEY_INO_AT) as Ino;
      if (key.charCodeAt(0) === INODE) inos.add(ino);
      else names.set(key, { parent: ino, name: keyToBytes(key.slice(KEY_NAME_AT)) });
    }
    return answer(this.#seq);

    function answer(upTo: number): QueryResults['changes'] {
      return { inos: [...inos], names: [...names.values()], upToSeq: upTo, missed: false };
    }
  }

  #at(index: number): Change {
    return this.#changes[(this.#oldest + index) % this.#changes.length]!;
  }

  #firstAfter(seq: number): number {
    let [low, high] = [0, this.#changes.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#at(middle).seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const INODE = 'i'.charCodeAt(0);
const DIRENT = 'd'.charCodeAt(0);
