/**
 * One command's view of the table: reads see what the command has written, writes are kept aside until the command
 * succeeds. Point reads are answered at once; range reads are yielded to the driver, which may have to wait for the
 * disk (see decisions/0002).
 */
import { StateError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import {
  attrOf,
  decodeDirent,
  decodeInode,
  encodeInode,
  type Counters,
  type DirentValue,
  type Inode,
} from './codec.ts';
import { direntKey, inodeKey } from './keys.ts';
import { refuse } from './outcome.ts';
import { Overlay, type RangeRead, type Row } from './overlay.ts';
import type { Attr } from './types.ts';

/** Range reads that are answered together, from one state of the table. */
export type RangeReads = readonly RangeRead[];
/** A computation over the table that yields its range reads and gets their rows back. */
export type TableProgram<T> = Generator<RangeReads, T, readonly (readonly Row[])[]>;

export interface PointReader {
  get(key: string): Uint8Array | undefined;
}

export class Transaction implements PointReader {
  readonly #below: PointReader;
  /** Rows written by the command. The driver puts them over the table in range reads. */
  readonly writes = new Overlay();
  /** Decoded inodes by number, so that one inode is one object within a command. */
  readonly #inodes = new Map<number, Inode>();
  readonly #changed = new Set<Inode>();
  /** The command's own copy. */
  counters: Counters;
  #countersBefore: Counters;
  /** The command's time. */
  nowNs = 0n;
  /** Others than the session that asks may have files open. */
  hasOtherSessions = false;
  /** Files whose locks the command has changed. */
  relocked: Ino[] = [];

  constructor(below: PointReader, counters: Counters) {
    this.#below = below;
    this.#countersBefore = counters;
    this.counters = copyOf(counters);
  }

  /** Forgets everything, for the next command. */
  restart(counters: Counters): void {
    this.#countersBefore = counters;
    this.discard();
  }

  /** Takes back all that the command did. */
  discard(): void {
    this.writes.clear();
    this.#inodes.clear();
    this.#changed.clear();
    if (this.relocked.length > 0) this.relocked = [];
    this.counters = copyOf(this.#countersBefore);
  }

  get(key: string): Uint8Array | undefined {
    return this.writes.size > 0 && this.writes.has(key) ? this.writes.get(key) : this.#below.get(key);
  }

  put(key: string, value: Uint8Array): void {
    this.writes.set(key, value);
  }

  delete(key: string): void {
    this.writes.set(key, undefined);
  }

  /** The inode, which the command may change; then it calls {@link Transaction.change}. */
  inode(ino: Ino | number): Inode | undefined {
    const known = this.#inodes.get(ino);
    if (known !== undefined) return known;
    const value = this.get(inodeKey(ino));
    if (value === undefined) return undefined;
    const inode = decodeInode(ino as Ino, value);
    this.#inodes.set(ino, inode);
    return inode;
  }

  /** As inode; refuses with ENOENT. */
  existing(ino: Ino): Inode {
    return this.inode(ino) ?? refuse('ENOENT');
  }

  /** As existing; refuses with ENOTDIR. */
  directory(ino: Ino): Inode {
    const inode = this.existing(ino);
    return inode.type === 'directory' ? inode : refuse('ENOTDIR');
  }

  dirent(parent: Ino, name: string): DirentValue | undefined {
    const value = this.get(direntKey(parent, name));
    return value === undefined ? undefined : decodeDirent(value);
  }

  /** The inode that a directory entry names; that it exists is the table's invariant. */
  named(dirent: DirentValue): Inode {
    const inode = this.inode(dirent.ino);
    if (inode === undefined) throw new StateError(`a directory entry names inode ${dirent.ino}, which does not exist`);
    return inode;
  }

  change(inode: Inode): void {
    this.#changed.add(inode);
  }

  insertInode(inode: Inode): void {
    this.#inodes.set(inode.ino, inode);
    this.#changed.add(inode);
    this.counters.inodeCount++;
  }

  deleteInode(inode: Inode): void {
    this.#inodes.delete(inode.ino);
    this.#changed.delete(inode);
    this.delete(inodeKey(inode.ino));
    this.counters.inodeCount--;
  }

  takeIno(): Ino {
    return this.counters.nextIno++ as Ino;
  }

  /** The time for changes to this inode: its ctime never goes back, whatever the primary's clock does. */
  timeFor(inode: Inode): bigint {
    return this.nowNs > inode.ctimeNs ? this.nowNs : inode.ctimeNs;
  }

  /** What was changed of it has no time of its own. */
  changed(inode: Inode): void {
    this.#changed.add(inode);
  }

  /** Marks the attributes as changed now. */
  touch(inode: Inode): void {
    inode.ctimeNs = this.timeFor(inode);
    this.#changed.add(inode);
  }

  /** Marks the content as changed now. */
  touchContent(inode: Inode): void {
    inode.ctimeNs = this.timeFor(inode);
    inode.mtimeNs = inode.ctimeNs;
    this.#changed.add(inode);
  }

  attr(inode: Inode): Attr {
    return attrOf(inode);
  }

  /** Turns changed inodes into rows; call once, when the command has succeeded. */
  seal(): void {
    for (const inode of this.#changed) this.writes.set(inodeKey(inode.ino), encodeInode(inode));
  }
}

/** Field by field: a spread of an object goes the long way round. */
function copyOf(counters: Counters): Counters {
  const { nextIno, inodeCount, storedBytes, deadCount, gcGeneration, orphanNumber, orphansAnswered } = counters;
  return { nextIno, inodeCount, storedBytes, deadCount, gcGeneration, orphanNumber, orphansAnswered };
}
