/**
 * One slot of a file put together (docs/decisions/0016-compaction.md): its extents are asked for, what lies end to end is read and
 * put as one block, and the group names that block in their place if they are still the extents that were read.
 *
 * Only what is committed is read, and nothing of it is changed: whoever writes there meanwhile, through this mount or
 * another, makes the group refuse, and his bytes stay.
 */
import type { BlockClient, PutReceipt } from '../blocks/types.ts';
import type { CancelSignal } from '../cancel.ts';
import { FsError, StaleBlocksError } from '../errors.ts';
import { blockIdToHex, type Ino, type PoolId } from '../ids.ts';
import { digestExtents } from '../meta/extent-digest.ts';
import { extentEnd } from '../meta/extents.ts';
import type { Attr, Extent } from '../meta/types.ts';
import { planMerges, type Merge, type Slot } from './compact-plan.ts';
import type { MountState } from './mount-state.ts';
import { COMPACT_SAVED_MIN, EXTENT_WINDOW } from './options.ts';

/** How often a merge is put again because a garbage collection began meanwhile. */
const STALE_RETRIES = 3;
/** Blocks that are read at once. With the merged block itself, that many are in memory at most, and one. */
const READS_AT_ONCE = 4;

export interface CompactedSlot {
  /** Extents before, less extents now. */
  readonly savedCount: number;
  readonly writtenBytes: number;
  /** Somebody has changed it meanwhile: his change stands, and the rest is for another time. */
  readonly isChanged: boolean;
}

const NOTHING: CompactedSlot = { savedCount: 0, writtenBytes: 0, isChanged: false };

/** `signal`: no more of it. Errors as those of the ports. */
export async function compactSlot(
  state: MountState,
  blocks: BlockClient,
  ino: Ino,
  slot: Slot,
  signal: CancelSignal,
): Promise<CompactedSlot> {
  const found = await extentsOf(state, ino, slot, signal);
  if (found === undefined) return { ...NOTHING, isChanged: true };
  const { attr, extents } = found;
  // Its space comes back soon.
  if (attr.nlink === 0) return NOTHING;
  let savedCount = 0;
  let writtenBytes = 0;
  for (const merge of planMerges(extents, slot, COMPACT_SAVED_MIN)) {
    signal.throwIfAborted();
    const data = await readMerge(state, blocks, merge, signal);
    try {
      await replace(state, blocks, attr, merge, data, signal);
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== 'EAGAIN') throw error;
      return { savedCount, writtenBytes, isChanged: true };
    }
    savedCount += merge.parts.length - 1;
    writtenBytes += merge.lengthBytes;
  }
  return { savedCount, writtenBytes, isChanged: false };
}

/** All extents of the slot, as they are at one moment; undefined if they change faster than they can be asked for. */
async function extentsOf(
  state: MountState,
  ino: Ino,
  slot: Slot,
  signal: CancelSignal,
): Promise<{ readonly attr: Attr; readonly extents: readonly Extent[] } | undefined> {
  const end = slot.offset + slot.lengthBytes;
  const extents: Extent[] = [];
  let first: Attr | undefined;
  for (let offset = slot.offset; ;) {
    const lengthBytes = end - offset;
    const query = { op: 'extents', ino, offset, lengthBytes, limit: EXTENT_WINDOW } as const;
    const page = await state.query<'extents'>(query, signal);
    first ??= page.attr;
    if (page.attr.version !== first.version) return undefined;
    extents.push(...page.extents);
    const last = page.extents.at(-1);
    if (!page.more || last === undefined) return { attr: page.attr, extents };
    offset = extentEnd(last);
  }
}

type BlockExtent = Extract<Extent, { kind: 'block' }>;

/** Each block is read once, the part of it that is wanted. */
async function readMerge(
  state: MountState,
  blocks: BlockClient,
  merge: Merge,
  signal: CancelSignal,
): Promise<Uint8Array> {
  const data = Buffer.allocUnsafeSlow(merge.lengthBytes);
  const named = new Map<string, BlockExtent[]>();
  for (const part of merge.parts) {
    if (part.kind === 'inline') {
      data.set(part.data, part.offset - merge.offset);
      continue;
    }
    const key = `${part.pool}:${blockIdToHex(part.id)}`;
    const same = named.get(key);
    if (same === undefined) named.set(key, [part]);
    else same.push(part);
  }
  const queue = named.values();
  const work = async (): Promise<void> => {
    for (const parts of queue) {
      const [{ pool, id, blockBytes }] = parts as [BlockExtent];
      const from = Math.min(...parts.map(({ blockOffset }) => blockOffset));
      const to = Math.max(...parts.map(({ blockOffset, lengthBytes }) => blockOffset + lengthBytes));
      let bytes = state.cache.find({ pool, id, blockBytes })?.data?.subarray(from, to);
      if (bytes === undefined) {
        bytes = Buffer.allocUnsafeSlow(to - from);
        await blocks.read(pool, id, blockBytes, from, bytes, { signal, priority: 'readahead' });
      }
      for (const { offset, blockOffset, lengthBytes } of parts) {
        const start = blockOffset - from;
        data.set(bytes.subarray(start, start + lengthBytes), offset - merge.offset);
      }
    }
  };
  await Promise.all(Array.from({ length: READS_AT_ONCE }, work));
  return data;
}

/** FsError EAGAIN: it has changed. */
async function replace(
  state: MountState,
  blocks: BlockClient,
  { ino, pool }: Attr,
  merge: Merge,
  data: Uint8Array,
  signal: CancelSignal,
): Promise<void> {
  const digest = digestExtents(merge.parts);
  const isInline = data.length <= state.limits.inlineMaxBytes;
  let minGeneration: number | undefined;
  for (let attempt = 0; ; attempt += 1) {
    const options = minGeneration === undefined ? { signal } : { signal, minGeneration };
    const receipt = isInline ? undefined : await blocks.put(pool, data, options);
    signal.throwIfAborted();
    try {
      return await nameInstead(state, ino, merged(merge, pool, data, receipt), digest, receipt);
    } catch (error) {
      const isStale = error instanceof FsError && error.cause instanceof StaleBlocksError;
      if (!isStale || attempt >= STALE_RETRIES) throw error;
      // A node that has missed the collection's beginning stamps it so all the same.
      minGeneration = (receipt?.generation ?? 0) + 1;
    }
  }
}

function merged(
  { offset, lengthBytes }: Merge,
  pool: PoolId,
  data: Uint8Array,
  receipt: PutReceipt | undefined,
): Extent {
  if (receipt === undefined) return { kind: 'inline', offset, lengthBytes, data };
  return { kind: 'block', offset, lengthBytes, pool, id: receipt.id, blockOffset: 0, blockBytes: data.length };
}

/** In line with the file's own commits, so that what is known of its extents goes on from one version to the next. */
async function nameInstead(
  state: MountState,
  ino: Ino,
  extent: Extent,
  digest: Uint8Array,
  receipt: PutReceipt | undefined,
): Promise<void> {
  const file = state.inodes.get(ino)?.data;
  const apply = async (): Promise<void> => {
    const askedAt = state.inodes.stamp();
    const generation = receipt === undefined ? {} : { generation: receipt.generation };
    let attr;
    try {
      ({ attr } = await state.mutate({ op: 'compact', ino, extent, digest, ...generation }));
    } catch (error) {
      // Perhaps it was done, and only the answer is missing.
      file?.extents.forget();
      state.inodes.expire(ino);
      throw error;
    }
    if (attr === undefined) return file?.extents.forget();
    state.changedContent(attr, askedAt);
    file?.extents.apply(attr.version, [extent]);
  };
  await (file === undefined ? apply() : file.order.run(apply));
}
