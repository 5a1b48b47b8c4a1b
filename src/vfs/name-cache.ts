/** Names looked up, listed or made here lately: (directory, name) -> inode number, for at most the attribute timeout. */
import type { Ino } from '../ids.ts';

const NAMES_KEPT = 65_536;
/** Dropped at a time, oldest first: a Map's slots before its first key are gone over each time that one asks for its oldest. */
const DROPPED_AT_ONCE = 4_096;
/** Own changes that are remembered, at least; a reply that was asked for before them all tells of no name. */
const CHANGES_KEPT = 4_096;

interface CachedName {
  readonly ino: Ino;
  readonly expiresMs: number;
}

export class NameCache {
  readonly #names = new Map<string, CachedName>();
  #changes = 0;
  /** Number of the last own change of a name, the oldest first. */
  readonly #changed = new Map<string, number>();
  #forgottenUpTo = 0;

  /** Stamp for {@link learn}: a reply asked for before an own change of this name is not kept. */
  stamp(): number {
    return this.#changes;
  }

  get(parent: Ino, name: Uint8Array): CachedName | undefined {
    return this.#names.get(keyOf(parent, name));
  }

  /** `key`: see {@link keyOf}. */
  learn(key: string, ino: Ino, expiresMs: number, askedAt: number): void {
    if (askedAt < this.#forgottenUpTo || (this.#changed.get(key) ?? 0) > askedAt) return;
    if (this.#names.size >= NAMES_KEPT) {
      for (const key of oldestOf(this.#names, DROPPED_AT_ONCE)) this.#names.delete(key);
    }
    this.#names.set(key, { ino, expiresMs });
  }

  /** It is asked for next time. */
  forget(key: string): void {
    this.#names.delete(key);
  }

  /** Whether an own change of this name began or ended after that stamp. */
  isChangedSince(parent: Ino, name: Uint8Array, askedAt: number): boolean {
    return askedAt < this.#forgottenUpTo || (this.#changed.get(keyOf(parent, name)) ?? 0) > askedAt;
  }

  /** An own change of this name begins or has ended: what was asked for meanwhile may be either state. */
  change(parent: Ino, name: Uint8Array): void {
    const key = keyOf(parent, name);
    this.#changes += 1;
    this.#changed.delete(key);
    this.#changed.set(key, this.#changes);
    this.#names.delete(key);
    if (this.#changed.size < 2 * CHANGES_KEPT) return;
    for (const key of oldestOf(this.#changed, CHANGES_KEPT)) {
      this.#forgottenUpTo = this.#changed.get(key) ?? this.#forgottenUpTo;
      this.#changed.delete(key);
    }
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
