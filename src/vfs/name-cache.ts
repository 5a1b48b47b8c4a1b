/** Names looked up, listed or made here lately: (directory, name) -> inode number, for at most the attribute timeout. */
import type { Ino } from '../ids.ts';

const NAMES_KEPT = 65_536;

interface CachedName {
  readonly ino: Ino;
  readonly expiresMs: number;
}

export class NameCache {
  readonly #names = new Map<string, CachedName>();
  #changes = 0;

  /** Stamp for {@link learn}: a reply asked for before an own change of names is not kept. */
  stamp(): number {
    return this.#changes;
  }

  get(parent: Ino, name: Uint8Array): CachedName | undefined {
    return this.#names.get(keyOf(parent, name));
  }

  /** `key`: see {@link keyOf}. */
  learn(key: string, ino: Ino, expiresMs: number, askedAt: number): void {
    if (askedAt !== this.#changes) return;
    if (this.#names.size >= NAMES_KEPT) {
      let count = 0;
      for (const key of this.#names.keys()) {
        this.#names.delete(key);
        if (++count >= 64) break;
      }
    }
    this.#names.set(key, { ino, expiresMs });
  }

  /** An own change of this name begins or has ended: what was asked for meanwhile may be either state. */
  change(parent: Ino, name: Uint8Array): void {
    this.#changes += 1;
    this.#names.delete(keyOf(parent, name));
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
