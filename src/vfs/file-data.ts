/**
 * The data side of one inode in this mount while it is open or dirty: what was written and has not been committed,
 * and what is known of the committed extents. Shared by all handles, so that all see one file.
 */
import type { PutReceipt } from '../blocks/types.ts';
import type { FsError } from '../errors.ts';
import type { PoolId } from '../ids.ts';
import { Mutex } from './async.ts';
import { DirtyBlocks } from './dirty-blocks.ts';
import { ExtentMap } from './extent-map.ts';
import type { Inode } from './inode-table.ts';
import type { WriteMemory } from './write-memory.ts';

/** A run of bytes on its way: fixed, being put as a block or going inline, kept until its commit is acknowledged. */
export interface Piece {
  /** Order in which pieces were cut off; commits keep it. */
  readonly seq: number;
  readonly cutMs: number;
  readonly offset: number;
  /** In the file; a truncation may shorten it. */
  length: number;
  /** All bytes that were put as the block. */
  readonly data: Uint8Array;
  readonly buffer: Uint8Array;
  readonly inline: boolean;
  state: 'waiting' | 'moving' | 'ready';
  receipt: PutReceipt | undefined;
  /** A transfer of the buffer was given up: somebody may still read it, so it is not used again. */
  abandoned: boolean;
  /** Dropped by truncation, failure or removal of the file; whoever works on it lets go. */
  dropped: boolean;
}

export class FileData {
  readonly inode: Inode;
  readonly pool: PoolId;
  readonly blockSizeBytes: number;
  readonly dirty: DirtyBlocks;
  readonly extents = new ExtentMap();
  /** Held while a commit, a truncation or an explicit time stamp is on its way, so that they take effect in order. */
  readonly order = new Mutex();
  /** In the order of seq. Invariant: a commit takes a prefix of it. */
  pending: Piece[] = [];
  readonly #pendingByBlock = new Map<number, Piece[]>();
  pendingBytes = 0;
  nextSeq = 1;
  /** Everything up to this seq shall be committed without waiting for more. */
  wantedSeq = 0;
  committing = false;
  /** Writes wait while it is set: the file is being truncated, or a range of it replaced. */
  barrier: Promise<void> | undefined;
  /** End of the bytes not yet committed, 0 when there are none. */
  uncommittedEnd = 0;
  /** Modification time that the file has once everything is committed; undefined when clean. */
  mtimeNs: bigint | undefined;
  changeNs = 0n;
  dirtySinceMs = 0;
  /** Grows with each failed background write; handles remember what they have reported. */
  errorCount = 0;
  lastError: FsError | undefined;
  /** Called when a writer is told of the last error. */
  errorTold: (() => void) | undefined;
  waiters: { readonly seq: number; readonly resolve: () => void }[] = [];
  /** Extents being asked for, so that one question serves all readers. */
  loading: { readonly offset: number; readonly promise: Promise<void> } | undefined;
  /** Writes, truncations and losses so far: tells whether the content changed while something was read. */
  writes = 0;

  constructor(inode: Inode, pool: PoolId, blockSizeBytes: number, memory: WriteMemory) {
    this.inode = inode;
    this.pool = pool;
    this.blockSizeBytes = blockSizeBytes;
    memory.useAgain(blockSizeBytes);
    this.dirty = new DirtyBlocks(memory, blockSizeBytes);
  }

  /** Nothing is uncommitted. */
  get isClean(): boolean {
    return this.pending.length === 0 && this.dirty.isEmpty;
  }

  /** Runs while no write and no commit of the file does. */
  async alone<T>(critical: () => Promise<T>): Promise<T> {
    while (this.barrier !== undefined) await this.barrier;
    let lift!: () => void;
    this.barrier = new Promise<void>((resolve) => (lift = resolve));
    try {
      return await this.order.run(critical);
    } finally {
      this.barrier = undefined;
      lift();
    }
  }

  sizeBytes(): number {
    const committed = this.inode.attr.sizeBytes;
    return this.uncommittedEnd > committed ? this.uncommittedEnd : committed;
  }

  addPending(piece: Piece): void {
    this.pending.push(piece);
    this.pendingBytes += piece.buffer.length;
    const index = Math.floor(piece.offset / this.blockSizeBytes);
    const same = this.#pendingByBlock.get(index);
    if (same === undefined) this.#pendingByBlock.set(index, [piece]);
    else same.push(piece);
  }

  /** Oldest first. */
  pendingIn(index: number): readonly Piece[] {
    return this.#pendingByBlock.get(index) ?? [];
  }

  /** The caller frees the buffers. */
  removePending(gone: ReadonlySet<Piece>): void {
    this.pending = this.pending.filter((piece) => !gone.has(piece));
    for (const piece of gone) {
      this.pendingBytes -= piece.buffer.length;
      const index = Math.floor(piece.offset / this.blockSizeBytes);
      const left = (this.#pendingByBlock.get(index) ?? []).filter((other) => other !== piece);
      if (left.length === 0) this.#pendingByBlock.delete(index);
      else this.#pendingByBlock.set(index, left);
    }
    this.updateEnd();
  }

  updateEnd(): void {
    let end = this.dirty.endBytes();
    for (const piece of this.pending) end = Math.max(end, piece.offset + piece.length);
    this.uncommittedEnd = end;
    if (this.isClean) this.mtimeNs = undefined;
  }
}
