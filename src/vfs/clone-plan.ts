/**
 * What one step of a clone takes over: the source's extents cut to the range and moved to where they shall be. Pure. A step is
 * bounded, since it is one command of the log that every member applies in one go: who clones goes on where it ended.
 */
import type { BlockId, PoolId } from '../ids.ts';
import { clip, extentEnd, shift } from '../meta/extents.ts';
import type { Extent } from '../meta/types.ts';

/** Bounds of one step. */
export interface StepBounds {
  /** Extents that it may name. */
  readonly extentsMax: number;
  /** Bytes of inline extents that it may carry; one extent is taken in any case. */
  readonly inlineBytesMax: number;
}

export interface ClonePlan {
  /** In the target, ascending; what they leave out of the range is a hole. */
  readonly extents: readonly Extent[];
  /** Of the range, from its beginning; at least 1. */
  readonly lengthBytes: number;
}

/**
 * The beginning of the source's range [from, to), to < Infinity, as far as the bounds allow. `known`: its extents that touch
 * the range, ascending, all of them or (`more`) the first ones, of which there must be at least one then.
 */
export function planClone(
  known: readonly Extent[],
  more: boolean,
  from: number,
  to: number,
  target: number,
  bounds: StepBounds,
): ClonePlan {
  let end = more ? Math.min(to, extentEnd(known.at(-1) as Extent)) : to;
  let inlineBytes = 0;
  for (const [index, extent] of known.entries()) {
    if (extent.kind === 'inline') inlineBytes += extent.lengthBytes;
    if (index < bounds.extentsMax && (index === 0 || inlineBytes <= bounds.inlineBytesMax)) continue;
    end = Math.min(end, extent.offset);
    break;
  }
  return { extents: shift(clip(known, from, end), target - from), lengthBytes: end - from };
}

/** The plan, less what is beyond its first `lengthBytes`. */
export function shorten(plan: ClonePlan, start: number, lengthBytes: number): ClonePlan {
  if (lengthBytes >= plan.lengthBytes) return plan;
  return { extents: clip(plan.extents, start, start + lengthBytes), lengthBytes };
}

/** Whether all blocks are of this pool: a file's new blocks go to its pool, and a clone shall not change where they are kept. */
export function isOfPool(extents: readonly Extent[], pool: PoolId): boolean {
  return extents.every((extent) => extent.kind === 'inline' || extent.pool === pool);
}

/** A block of an extent, once, however many name it. */
export interface NamedBlock {
  readonly id: BlockId;
  readonly blockBytes: number;
}

export function blocksOf(extents: readonly Extent[]): NamedBlock[] {
  const found = new Map<string, NamedBlock>();
  for (const extent of extents) {
    if (extent.kind !== 'block') continue;
    const { id, blockBytes } = extent;
    found.set(Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1'), { id, blockBytes });
  }
  return [...found.values()];
}
