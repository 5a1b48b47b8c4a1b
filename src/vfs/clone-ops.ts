/**
 * Copying within the filesystem without moving bytes: the target's range comes to name the blocks that the source's names
 * (docs/decisions/0014-clone.md). One step of it:
 *
 * 1. What was written here to either file is committed.
 * 2. The source's extents are asked for, as many as one command may carry.
 * 3. Their blocks are renewed at the nodes, as a put of present blocks would: garbage collection then leaves them to us. What
 *    too few nodes have, or say they have, is read and put again.
 * 4. One mutation replaces the target's range by these extents. Behind a collection's barrier it is refused
 *    (StaleBlocksError), and 3 is done again.
 *
 * The source is seen as it was in step 2, whatever happens to it later: blocks never change.
 */
import type { BlockClient } from '../blocks/types.ts';
import { BlockNotFoundError, FsError, StaleBlocksError } from '../errors.ts';
import type { Ino, PoolId } from '../ids.ts';
import { FILE_MAX_BYTES, MiB } from '../limits.ts';
import { extentEnd } from '../meta/extents.ts';
import { interruptible } from './async.ts';
import { blocksOf, isOfPool, planClone, shorten, type ClonePlan, type NamedBlock } from './clone-plan.ts';
import { toFsError } from './fs-errors.ts';
import type { FileHandle } from './handles.ts';
import type { MountState } from './mount-state.ts';
import type { Caller, Handle } from './ops.ts';
import { CLONE_EXTENTS_MAX, COMMIT_INLINE_BYTES_MAX } from './options.ts';

/** How often the same blocks are renewed again because a garbage collection began, or the source's were collected meanwhile. */
const RETRIES = 5;
/** Blocks that are read and put again at once. */
const PUTS_AT_ONCE = 4;
/** Bytes of blocks that are read and put again for one step, where too few nodes have them: what comes after waits for the next. */
const PUT_AGAIN_MAX_BYTES = 64 * MiB;
const BOUNDS = { extentsMax: CLONE_EXTENTS_MAX, inlineBytesMax: COMMIT_INLINE_BYTES_MAX };

export class CloneOps {
  readonly #state: MountState;
  readonly #blocks: BlockClient;

  constructor(state: MountState, blocks: BlockClient) {
    this.#state = state;
    this.#blocks = blocks;
  }

  /** See {@link VfsOps.copyFileRange}. */
  async copyRange(
    caller: Caller,
    sourceHandle: Handle,
    from: number,
    targetHandle: Handle,
    to: number,
    length: number,
  ): Promise<number> {
    const source = this.#state.handles.file(sourceHandle);
    const target = this.#state.handles.file(targetHandle);
    source.checkLocks();
    target.checkLocks();
    if (!source.canRead) throw new FsError('EBADF', 'the source is not open for reading');
    if (!target.canWrite || target.appends) throw new FsError('EBADF', 'the target is not open for writing at a place');
    for (const value of [from, to, length]) if (!Number.isSafeInteger(value) || value < 0) throw new FsError('EINVAL');
    if (length === 0) return 0;
    if (to >= FILE_MAX_BYTES) throw new FsError('EFBIG');
    const most = Math.min(length, FILE_MAX_BYTES - to, FILE_MAX_BYTES - from);
    if (most <= 0) return 0;
    // Bytes are copied into another pool, for that is what a copy to there is for.
    if (source.file.pool !== target.file.pool) throw otherPool();
    const { writeBack } = this.#state;
    writeBack.ended(source.file, caller.pid);
    writeBack.ended(target.file);
    await writeBack.flush(source.file);
    await writeBack.flush(target.file);
    target.reportError();
    const copied = await target.file.alone(() => this.#step(caller, source, from, target, to, most));
    if (copied > 0 && target.syncs) await this.#state.sync();
    return copied;
  }

  async #step(
    caller: Caller,
    source: FileHandle,
    from: number,
    target: FileHandle,
    to: number,
    most: number,
  ): Promise<number> {
    const { pool, inode } = target.file;
    let minGeneration: number | undefined;
    for (let attempt = 0; ; attempt += 1) {
      let plan = await this.#plan(caller, source, from, target, to, most);
      if (plan === undefined) return 0;
      let generation: number | undefined;
      try {
        const renewed = await this.#renew(caller, pool, blocksOf(plan.extents), minGeneration);
        ({ generation } = renewed);
        if (renewed.before !== undefined) plan = upTo(plan, to, renewed.before);
        await this.#replace(target, to, plan, generation);
        return plan.lengthBytes;
      } catch (error) {
        const isStale = causedByStaleBlocks(error);
        if (attempt >= RETRIES || !(isStale || error instanceof BlockNotFoundError)) {
          throw toFsError(error, `cloning into inode ${inode.ino}`);
        }
        // A node that has missed the collection's beginning stamps them so all the same.
        if (isStale) minGeneration = (generation ?? 0) + 1;
      }
    }
  }

  /** What the range comes from now; undefined if it begins at the source's end or behind. */
  async #plan(
    caller: Caller,
    source: FileHandle,
    from: number,
    target: FileHandle,
    to: number,
    most: number,
  ): Promise<ClonePlan | undefined> {
    const { ino } = source.inode;
    const found = await this.#extents(caller, ino, from, most);
    const end = Math.min(from + most, found.attr.sizeBytes);
    if (from >= end) return undefined;
    if (ino === target.inode.ino && from < to + (end - from) && to < end) {
      throw new FsError('EINVAL', 'the ranges overlap');
    }
    const plan = planClone(found.extents, found.more, from, end, to, BOUNDS);
    if (!isOfPool(plan.extents, target.file.pool)) throw otherPool();
    // What goes must be bounded, too. Another mount may add to it meanwhile; then the step is longer once.
    const old = await this.#extents(caller, target.inode.ino, to, plan.lengthBytes);
    const last = old.extents.at(-1);
    return old.more && last !== undefined ? shorten(plan, to, extentEnd(last) - to) : plan;
  }

  async #extents(caller: Caller, ino: Ino, offset: number, lengthBytes: number) {
    const askedAt = this.#state.inodes.stamp();
    const query = { op: 'extents', ino, offset, lengthBytes, limit: CLONE_EXTENTS_MAX } as const;
    const reply = await this.#state.query<'extents'>(query, caller.signal);
    this.#state.learn(reply.attr, askedAt);
    return reply;
  }

  /** The least receipt of the blocks; undefined without blocks. `before`: only of those before this one. BlockNotFoundError if one is gone: it was collected. */
  async #renew(
    caller: Caller,
    pool: PoolId,
    blocks: readonly NamedBlock[],
    minGeneration: number | undefined,
  ): Promise<{ readonly generation?: number; readonly before?: NamedBlock }> {
    if (blocks.length === 0) return {};
    const options = {
      ...(caller.signal === undefined ? {} : { signal: caller.signal }),
      ...(minGeneration === undefined ? {} : { minGeneration }),
    };
    const ids = blocks.map(({ id }) => id);
    const receipts = await interruptible(this.#blocks.renew(pool, ids, options), caller.signal);
    let least = Infinity;
    const lacking: NamedBlock[] = [];
    let lackingBytes = 0;
    let before: NamedBlock | undefined;
    for (const [index, block] of blocks.entries()) {
      const generation = receipts[index]?.generation;
      if (generation === undefined || generation < (minGeneration ?? 0)) {
        lackingBytes += block.blockBytes;
        if (lacking.length > 0 && lackingBytes > PUT_AGAIN_MAX_BYTES) {
          before = block;
          break;
        }
        lacking.push(block);
      } else least = Math.min(least, generation);
    }
    const queue = lacking.values();
    const work = async (): Promise<void> => {
      for (const { id, blockBytes } of queue) {
        const data = await this.#blocks.readBlock(pool, id, blockBytes, options);
        const receipt = await this.#blocks.put(pool, data, options);
        least = Math.min(least, receipt.generation);
      }
    };
    await interruptible(Promise.all(Array.from({ length: PUTS_AT_ONCE }, work)), caller.signal);
    return before === undefined ? { generation: least } : { generation: least, before };
  }

  async #replace(target: FileHandle, to: number, plan: ClonePlan, generation: number | undefined): Promise<void> {
    const { file } = target;
    const askedAt = this.#state.inodes.stamp();
    const mutation = {
      op: 'clone' as const,
      ino: file.inode.ino,
      offset: to,
      lengthBytes: plan.lengthBytes,
      extents: plan.extents,
      ...(generation === undefined ? {} : { generation }),
    };
    let attr;
    try {
      ({ attr } = await this.#state.mutate(mutation, target));
    } catch (error) {
      // Perhaps it was done, and only the answer is missing.
      file.extents.forget();
      file.inode.attrExpiresMs = 0;
      throw error;
    }
    file.writes += 1;
    if (attr === undefined) return file.extents.forget();
    this.#state.changedUnseen(attr, askedAt);
    file.extents.applyClone(attr.version, to, to + plan.lengthBytes, plan.extents);
  }
}

function causedByStaleBlocks(error: unknown): boolean {
  return error instanceof StaleBlocksError || (error instanceof FsError && error.cause instanceof StaleBlocksError);
}

/** The plan's part before the first extent of the block, which is not its first. */
function upTo(plan: ClonePlan, to: number, { id }: NamedBlock): ClonePlan {
  const first = plan.extents.find((extent) => extent.kind === 'block' && Buffer.compare(extent.id, id) === 0);
  return first === undefined ? plan : shorten(plan, to, first.offset - to);
}

function otherPool(): FsError {
  return new FsError('EXDEV', 'the blocks are in another pool than that of the target');
}
