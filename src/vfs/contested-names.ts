/**
 * Names whose file is replaced faster than it can be opened: a path is walked in two steps, the name's lookup and the open
 * of the inode that it led to, and between them another mount or another program may have removed that inode. The kernel then walks the path
 * once more, and only once: a program sees ESTALE when the same happens again. So such a name is looked up at the
 * servers for every open from then on, and the inode that was found under it may be opened though it has lost its name
 * meanwhile: the open then counts from its lookup, as on a local disk.
 */
import type { Ino } from '../ids.ts';
import type { Inode } from './inode-table.ts';

/** A name counts as contested for so long after an open that found its file gone. */
const CONTESTED_MS = 10_000;
const NAMES_KEPT = 1_024;
/** An open comes that soon after the lookup of its name, or it is no longer taken for the same walk. */
export const WALK_MS = 5_000;

export class ContestedNames {
  /** Key of the name (see `keyOf`) to when it ceases to be contested. */
  readonly #untilMs = new Map<string, number>();
  readonly #foundMs = new Map<Ino, number>();

  /** An inode that was found under this name is gone. */
  lost(key: string, nowMs: number): void {
    this.#untilMs.delete(key);
    makeRoom(this.#untilMs);
    this.#untilMs.set(key, nowMs + CONTESTED_MS);
  }

  has(key: string, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(key);
    if (untilMs === undefined) return false;
    if (untilMs > nowMs) return true;
    this.#untilMs.delete(key);
    return false;
  }

  /** The servers were asked for a contested name, which leads to this inode. The kernel must not keep the answer. */
  found(inode: Inode, nowMs: number): void {
    this.#foundMs.delete(inode.ino);
    if (inode.attr.nlink === 0) return;
    makeRoom(this.#foundMs);
    this.#foundMs.set(inode.ino, nowMs);
  }

  /**
   * Whether an inode that has no name any more had one when the path was walked that is now being opened. Also when one has
   * opened it since: programs that look for a name at once share the kernel's one question.
   */
  mayOpen(ino: Ino, nowMs: number): boolean {
    const foundMs = this.#foundMs.get(ino);
    return foundMs !== undefined && nowMs - foundMs < WALK_MS;
  }

  /** The servers were told that it is not open here: it may be destroyed at any time. */
  denied(ino: Ino): void {
    this.#foundMs.delete(ino);
  }
}

function makeRoom(map: Map<unknown, unknown>): void {
  if (map.size < NAMES_KEPT) return;
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}
