/**
 * The data side of one inode in this mount while it is open or dirty: what was written and has not been committed,
 * and what is known of the committed extents. Shared by all handles, so that all see one file.
 */
import type { PutReceipt } from '../blocks/types.ts';
import type { FsError } from '../errors.ts';
import type { PoolId } from '../ids.ts';
import type { AppendUnderWay } from './append-rest.ts';
import { Mutex } from './async.ts';
import { DirtyBlocks } from './dirty-blocks.ts';
import { ExtentMap, type ExtentMemory } from './extent-map.ts';
import type { Inode } from './inode-table.ts';
import type { WriteMemory } from './write-memory.ts';

/** A run of bytes on its way: fixed, being put as a block or going inline, kept until its commit is acknowledged. */
export interface Piece {
  /** Order in which pieces were cut off; commits keep it. */
  readonly seq: number;
  readonly cutMs: number;
  /** In the file; of what is appended, where it lies if nobody else appends. */
  offset: number;
  /** In the file; a truncation may shorten it. */
  length: number;
  /** All bytes that were put as the block. */
  readonly data: Uint8Array;
  readonly buffer: Uint8Array;
  readonly inline: boolean;
  /** It ends within what one write appended: the piece after it is committed with it, so that no other's lies between. */
  continues: boolean;
  /** Its first bytes are a copy of what is stored there. Such a piece is committed alone. */
  readonly rewrites: Rewrites | undefined;
  state: 'waiting' | 'moving' | 'ready';
  receipt: PutReceipt | undefined;
  /** A transfer of the buffer was given up: somebody may still read it, so it is not used again. */
  abandoned: boolean;
  /** Dropped by truncation, failure or removal of the file; whoever works on it lets go. */
  dropped: boolean;
}

/** What lies before the offset was read from the file as it was at the version. */
export interface Rewrites {
  readonly beforeOffset: number;
  readonly version: number;
}

/** Bounds that all files of a mount share. */
export interface FileMemory {
  readonly written: WriteMemory;
  readonly extents: ExtentMemory;
}

export class FileData {
  readonly inode: Inode;
  readonly pool: PoolId;
  readonly blockSizeBytes: number;
  readonly dirty: DirtyBlocks;
  readonly extents: ExtentMap;
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
  /** What is uncommitted was appended (O_APPEND), end to end: the commit puts it where the file ends then. */
  appending = false;
  /** The latest append, if more of it may be to come. Nothing is committed of it yet. */
  underWay: AppendUnderWay | undefined;
  /** The dirty run that reaches across that offset begins with stored bytes. */
  merged: Rewrites | undefined;
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

  /** Resolves when all that was written before is committed or has failed. */
  readonly flush: () => Promise<void>;

  constructor(
    inode: Inode,
    pool: PoolId,
    blockSizeBytes: number,
    memory: FileMemory,
    flush: (file: FileData) => Promise<void> | undefined,
  ) {
    this.flush = async () => flush(this);
    this.inode = inode;
    this.pool = pool;
    this.blockSizeBytes = blockSizeBytes;
    this.extents = new ExtentMap(memory.extents);
    memory.written.useAgain(blockSizeBytes);
    this.dirty = new DirtyBlocks(memory.written, blockSizeBytes);
  }

  /** Nothing is uncommitted. */
  get isClean(): boolean {
    return this.pending.length === 0 && this.dirty.isEmpty;
  }

  /** Runs while no write and no commit of the file does. */
  async alone<T>(critical: () => Promise<T>): Promise<T> {
    // The rest of a write must not wait for what waits for it.
    while (this.barrier !== undefined || (this.underWay !== undefined && !this.isClean)) {
      await (this.barrier ?? this.flush());
    }
    let lift!: () => void;
    this.barrier = new Promise<void>((resolve) => (lift = resolve));
    try {
      // Where that lies is known once it is committed.
      if (this.appending) await this.flush();
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

  /** Bytes that were written and are not committed; those written twice meanwhile may count twice. */
  uncommittedBytes(): number {
    let bytes = this.dirty.bytes();
    for (const piece of this.pending) bytes += piece.length;
    return bytes;
  }

  /** Where the next appended byte goes, if nobody else appends meanwhile. */
  appendAt(): number {
    return this.appending && !this.isClean ? this.uncommittedEnd : this.sizeBytes();
  }

  /** What may be read: where appended bytes lie is known once they are committed. */
  readableBytes(): number {
    return this.appending ? this.inode.attr.sizeBytes : this.sizeBytes();
  }

  addPending(piece: Piece): void {
    this.pending.push(piece);
    this.pendingBytes += piece.buffer.length;
    this.#index(piece);
  }

  #index(piece: Piece): void {
    for (const index of this.#blocksOf(piece)) {
      const same = this.#pendingByBlock.get(index);
      if (same === undefined) this.#pendingByBlock.set(index, [piece]);
      else same.push(piece);
    }
  }

  /** One, unless it was moved. */
  #blocksOf({ offset, data }: Piece): readonly number[] {
    const first = Math.floor(offset / this.blockSizeBytes);
    const last = Math.floor((offset + data.length - 1) / this.blockSizeBytes);
    return last === first ? [first] : [first, last];
  }

  /** Others have appended (or cut the file off) before what is pending, all of which was appended. Nothing is dirty. */
  movePending(bytes: number): void {
    this.#pendingByBlock.clear();
    for (const piece of this.pending) {
      piece.offset += bytes;
      this.#index(piece);
    }
    if (this.underWay !== undefined) {
      this.underWay.startOffset += bytes;
      this.underWay.endOffset += bytes;
    }
    this.updateEnd();
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
      for (const index of this.#blocksOf(piece)) {
        const left = (this.#pendingByBlock.get(index) ?? []).filter((other) => other !== piece);
        if (left.length === 0) this.#pendingByBlock.delete(index);
        else this.#pendingByBlock.set(index, left);
      }
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
