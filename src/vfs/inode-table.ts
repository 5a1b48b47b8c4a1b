/**
 * The inodes this mount knows: their attributes as the servers last said, and what is open here. Inode numbers are
 * never reused, so an inode that is neither open nor dirty can be forgotten at any time; the kernel's references only
 * say which ones it will not ask for again.
 */
import type { Ino } from '../ids.ts';
import type { Attr, FileType } from '../meta/types.ts';
import type { FileData } from './file-data.ts';
import { LastChanged } from './last-changed.ts';

/** Some 400 bytes each. */
const INODES_KEPT = 65_536;
/** Looked at at a time when there are more: a Map's slots before its first key are gone over each time. */
const LOOKED_AT_ONCE = 4_096;

/** No version is this one. */
const NOT_TOLD = -1;

const SPECIAL: ReadonlySet<FileType> = new Set<FileType>(['fifo', 'socket', 'char', 'block']);

export class Inode {
  readonly ino: Ino;
  attr: Attr;
  /** Until then the attributes need no question. */
  attrExpiresMs = 0;
  /** Stamp of the last time that its attributes became newer, or a reply told of an own change. */
  changedAt = 0;
  kernelRefs = 0;
  /** Handles, and opens on their way. */
  openCount = 0;
  /** Of these, opens on their way. */
  opening = 0;
  /** Handles that may write. */
  writers = 0;
  /** Bytes of it that are on their way to the kernel (prefetch.ts), if any. */
  stores: Set<Promise<unknown>> | undefined;
  /** The size that the kernel was told last: content beyond it would move the file's end there. */
  toldSizeBytes = 0;
  /** The last name is gone; the servers keep it for us until releaseOrphan. */
  orphan = false;
  /** No name and not kept: what is still dirty has nowhere to go. */
  gone = false;
  /** Version that the kernel's pages show. */
  pageVersion: number | undefined;
  /** Version of the attributes that the kernel was told last; own writes it knows of itself. */
  toldVersion: number | undefined;
  /** The kernel asks for it on every write. */
  hasNoCapability = false;
  /** Flushes of a partly filled last block since its pieces were merged; outlives the handles of one append each. */
  partialFlushes = 0;
  /** A lock was taken through this mount: others may be writing what is beside it. */
  isLockedHere = false;
  /** Grows each time the servers are told that it is open here though it has no name. */
  keptCount = 0;
  data: FileData | undefined;
  /** The name under which it was seen last ({@link keyOf}): for reports while no server can be asked. */
  place: string | undefined;

  constructor(ino: Ino, attr: Attr) {
    this.ino = ino;
    this.attr = attr;
  }

  /** Open here, or perhaps: fifos, sockets and devices are opened by the kernel, which tells only when it has forgotten them. */
  get mayBeOpen(): boolean {
    return this.openCount > 0 || (this.kernelRefs > 0 && SPECIAL.has(this.attr.type));
  }

  /** What the kernel was told last is not known: the next open tells it anew. */
  unseen(): void {
    if (this.toldVersion !== undefined) this.toldVersion = NOT_TOLD;
  }

  /** The kernel drops its pages, and moves the end, once it has an answer that it may never get: the next open sees to both. */
  forgetPages(): void {
    this.pageVersion = undefined;
    this.unseen();
  }

  get isPinned(): boolean {
    // What is on its way to the kernel must be known to who opens it next.
    return this.openCount > 0 || this.stores !== undefined || (this.data !== undefined && !this.data.isClean);
  }
}

export class InodeTable {
  readonly #inodes = new Map<Ino, Inode>();
  /** A fifo, socket or device was seen: one may be open. */
  hasSpecial = false;
  #stamp = 0;
  #openInodes = 0;
  readonly #changedElsewhere = new LastChanged<Ino>();

  get(ino: Ino): Inode | undefined {
    return this.#inodes.get(ino);
  }

  get openCount(): number {
    return this.#openInodes;
  }

  /** Stamp to hand to {@link accept} with the reply of a query that starts now. */
  stamp(): number {
    return this.#stamp;
  }

  /**
   * Takes in attributes from a reply. Replies can overtake each other: one that was asked for before what is known became known
   * only counts if it is newer by version and change time.
   */
  accept(attr: Attr, askedAt: number, expiresMs: number, ownChange: boolean): Inode {
    let inode = this.#inodes.get(attr.ino);
    if (inode === undefined) {
      this.#makeRoom();
      inode = new Inode(attr.ino, attr);
      inode.changedAt = ++this.#stamp;
      if (SPECIAL.has(attr.type)) this.hasSpecial = true;
      this.#inodes.set(attr.ino, inode);
    } else if (inode.changedAt > askedAt && !isNewer(attr, inode.attr)) {
      return inode;
    } else {
      if (!ownChange && attr.ctimeNs !== inode.attr.ctimeNs) inode.hasNoCapability = false;
      // Whatever was asked before this was known tells of an earlier state.
      if (isNewer(attr, inode.attr) && !isNewer(inode.attr, attr)) inode.changedAt = ++this.#stamp;
      inode.attr = attr;
    }
    inode.attrExpiresMs = expiresMs;
    if (ownChange) inode.changedAt = ++this.#stamp;
    return inode;
  }

  /** Another client has changed it: whatever was asked before tells of it as it was, perhaps. */
  changedElsewhere(ino: Ino): void {
    this.#changedElsewhere.note(ino, ++this.#stamp);
    const inode = this.#inodes.get(ino);
    if (inode === undefined) return;
    inode.attrExpiresMs = 0;
    inode.hasNoCapability = false;
  }

  isChangedElsewhereSince(ino: Ino, askedAt: number): boolean {
    return this.#changedElsewhere.isSince(ino, askedAt);
  }

  /** Of what is asked from now on, apart from all that was asked before. */
  nextStamp(): number {
    return ++this.#stamp;
  }

  /** The next question about it goes to the servers. */
  expire(ino: Ino): void {
    const inode = this.#inodes.get(ino);
    if (inode !== undefined) inode.attrExpiresMs = 0;
  }

  opened(inode: Inode): void {
    inode.openCount += 1;
    if (inode.openCount === 1) this.#openInodes += 1;
  }

  closed(inode: Inode): void {
    inode.openCount -= 1;
    if (inode.openCount === 0) this.#openInodes -= 1;
  }

  forget(ino: Ino, count: number): void {
    const inode = this.#inodes.get(ino);
    if (inode === undefined) return;
    inode.kernelRefs = Math.max(0, inode.kernelRefs - count);
    if (inode.kernelRefs === 0 && !inode.isPinned) this.#inodes.delete(ino);
  }

  drop(inode: Inode): void {
    if (!inode.isPinned) this.#inodes.delete(inode.ino);
  }

  values(): IterableIterator<Inode> {
    return this.#inodes.values();
  }

  get size(): number {
    return this.#inodes.size;
  }

  #makeRoom(): void {
    if (this.#inodes.size < INODES_KEPT) return;
    let looked = 0;
    for (const [ino, inode] of this.#inodes) {
      // Oldest first; pinned ones move to the end so that they are not looked at each time.
      this.#inodes.delete(ino);
      if (inode.isPinned) this.#inodes.set(ino, inode);
      looked += 1;
      if (looked >= LOOKED_AT_ONCE) break;
    }
  }
}

function isNewer(candidate: Attr, known: Attr): boolean {
  if (candidate.version !== known.version) return candidate.version > known.version;
  return candidate.ctimeNs >= known.ctimeNs;
}
