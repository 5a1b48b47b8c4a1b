/** Names looked up, listed or made here lately: (directory, name) -> inode number, for as long as they may be believed (watched.ts). */
import type { Ino } from '../ids.ts';
import { LastChanged } from './last-changed.ts';

const NAMES_KEPT = 65_536;
/** Dropped at a time, oldest first: a Map's slots before its first key are gone over each time that one asks for its oldest. */
const DROPPED_AT_ONCE = 4_096;

interface CachedName {
  readonly ino: Ino;
  readonly expiresMs: number;
}

export class NameCache {
  readonly #names = new Map<string, CachedName>();
  #changes = 0;
  readonly #changed = new LastChanged<string>();

  /** Stamp for {@link learn}: a reply asked for before a change of this name is not kept. */
  stamp(): number {
    return this.#changes;
  }

  get(parent: Ino, name: Uint8Array): CachedName | undefined {
    return this.#names.get(keyOf(parent, name));
  }

  /** `key`: see {@link keyOf}. */
  learn(key: string, ino: Ino, expiresMs: number, askedAt: number): void {
    if (this.#changed.isSince(key, askedAt)) return;
    if (this.#names.size >= NAMES_KEPT) {
      for (const key of oldestOf(this.#names, DROPPED_AT_ONCE)) this.#names.delete(key);
    }
    this.#names.set(key, { ino, expiresMs });
  }

  /** It is asked for next time. */
  forget(key: string): void {
    this.#names.delete(key);
  }

  /** As {@link keyOf} makes them. */
  keys(): IterableIterator<string> {
    return this.#names.keys();
  }

  /** All are asked for next time; which they were is still known. */
  expire(): void {
    for (const [key, { ino }] of this.#names) this.#names.set(key, { ino, expiresMs: 0 });
  }

  /** Whether an own change of this name began or ended after that stamp, or another's was told. */
  isChangedSince(key: string, askedAt: number): boolean {
    return this.#changed.isSince(key, askedAt);
  }

  /** An own change of this name begins or has ended, or another's is told: what was asked for meanwhile may be either state. */
  change(parent: Ino, name: Uint8Array): void {
    const key = keyOf(parent, name);
    this.#changes += 1;
    this.#changed.note(key, this.#changes);
    this.#names.delete(key);
  }
}

function* oldestOf(names: ReadonlyMap<string, unknown>, count: number): Generator<string> {
  let told = 0;
  for (const name of names.keys()) {
    yield name;
    if (++told >= count) return;
  }
}

/** A name as one string: where an inode was seen last, for reports. */
export function keyOf(parent: Ino, name: Uint8Array): string {
  return `${parent}/${Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1')}`;
}

/** What {@link keyOf} put together. */
export function partsOf(key: string): { readonly parent: Ino; readonly name: Uint8Array } {
  const slash = key.indexOf('/');
  return { parent: Number(key.slice(0, slash)) as Ino, name: Buffer.from(key.slice(slash + 1), 'latin1') };
}
