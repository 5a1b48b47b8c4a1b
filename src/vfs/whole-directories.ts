/**
 * Directories of which this mount knows every name, because it made them and every change since was its own. There a
 * name that is not known does not exist, and no question is needed: the kernel looks up each name before it creates it,
 * so this halves the questions of unpacking an archive or copying a tree.
 *
 * Invariant: the names are those of the directory at `version`. A version grows by one with each change of names, so a
 * reply whose version is not the next one tells of a change elsewhere, and the knowledge is dropped. Like every cached
 * name it is believed for at most the attribute timeout after the last reply that confirmed it.
 */
import type { Ino } from '../ids.ts';
import type { Attr } from '../meta/types.ts';

/** Names kept over all directories; a directory counts as one. */
const NAMES_MAX = 100_000;

interface Whole {
  version: number;
  expiresMs: number;
  readonly names: Set<string>;
}

export class WholeDirectories {
  readonly #known = new Map<Ino, Whole>();
  #nameCount = 0;

  /** A directory that was just made is empty. */
  made(directory: Attr, expiresMs: number): void {
    this.forget(directory.ino);
    if (this.#nameCount >= NAMES_MAX) this.clear();
    this.#nameCount += 1;
    this.#known.set(directory.ino, { version: directory.version, expiresMs, names: new Set() });
  }

  /** An own change of one name has been answered with the directory as it is after it. */
  changed(directory: Attr | undefined, name: Uint8Array, exists: boolean, expiresMs: number): void {
    const whole = directory === undefined ? undefined : this.#known.get(directory.ino);
    if (whole === undefined || directory === undefined) return;
    if (directory.version !== whole.version + 1) return this.forget(directory.ino);
    whole.version = directory.version;
    whole.expiresMs = expiresMs;
    const key = textOf(name);
    if (exists) {
      if (!whole.names.has(key)) this.#nameCount++;
      whole.names.add(key);
    } else if (whole.names.delete(key)) this.#nameCount--;
    if (this.#nameCount > NAMES_MAX) this.clear();
  }

  /** Whether it is known that the directory has no such name. */
  lacks(parent: Ino, name: Uint8Array, nowMs: number): boolean {
    const whole = this.#known.get(parent);
    if (whole === undefined) return false;
    if (whole.expiresMs <= nowMs) {
      this.forget(parent);
      return false;
    }
    return !whole.names.has(textOf(name));
  }

  forget(directory: Ino): void {
    const whole = this.#known.get(directory);
    if (whole === undefined) return;
    this.#nameCount -= whole.names.size + 1;
    this.#known.delete(directory);
  }

  clear(): void {
    this.#known.clear();
    this.#nameCount = 0;
  }
}

function textOf(name: Uint8Array): string {
  return Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');
}
