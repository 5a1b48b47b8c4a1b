/**
 * Extent maths: a file's content as a list of extents, ascending by offset, that do not overlap. Pure functions; the
 * table applies their results row by row (data.ts), the block a run lies in never changes.
 */
import type { Extent } from './types.ts';

export function extentEnd(extent: Extent): number {
  return extent.offset + extent.lengthBytes;
}

/** The part of the extent in [from, to), which must touch it. Inline bytes are a view of the extent's. */
export function sliceExtent(extent: Extent, from: number, to: number): Extent {
  const start = Math.max(from, extent.offset);
  const end = Math.min(to, extentEnd(extent));
  if (start === extent.offset && end === extentEnd(extent)) return extent;
  const skip = start - extent.offset;
  const lengthBytes = end - start;
  if (extent.kind === 'inline') {
    return { kind: 'inline', offset: start, lengthBytes, data: extent.data.subarray(skip, skip + lengthBytes) };
  }
  return { ...extent, offset: start, lengthBytes, blockOffset: extent.blockOffset + skip };
}

/** Whether the extent has bytes in [from, to), which may be empty. */
export function touches(extent: Extent, from: number, to: number): boolean {
  return from < to && extent.offset < to && extentEnd(extent) > from;
}

/** What is left of the extent when [from, to) is taken out of it: none, one or two pieces. */
export function cutExtent(extent: Extent, from: number, to: number): Extent[] {
  if (!touches(extent, from, to)) return [extent];
  const left: Extent[] = [];
  if (extent.offset < from) left.push(sliceExtent(extent, extent.offset, from));
  if (extentEnd(extent) > to) left.push(sliceExtent(extent, to, extentEnd(extent)));
  return left;
}

/** The file with a hole in [from, to). */
export function punch(extents: readonly Extent[], from: number, to: number): Extent[] {
  return extents.flatMap((extent) => cutExtent(extent, from, to));
}

/** The file with the bytes of `added` in place of what was there. `added` must be ascending and free of overlap. */
export function overwrite(extents: readonly Extent[], added: readonly Extent[]): Extent[] {
  let result = [...extents];
  for (const extent of added) result = punch(result, extent.offset, extentEnd(extent));
  return [...result, ...added].sort(byOffset);
}

/** The file cut off at `sizeBytes`. */
export function truncate(extents: readonly Extent[], sizeBytes: number): Extent[] {
  return punch(extents, sizeBytes, Number.MAX_SAFE_INTEGER);
}

/** The parts of the extents in [from, to). */
export function clip(extents: readonly Extent[], from: number, to: number): Extent[] {
  return extents.filter((extent) => touches(extent, from, to)).map((extent) => sliceExtent(extent, from, to));
}

/** The extents `byBytes` further on in the file, or (negative) further ahead. */
export function shift(extents: readonly Extent[], byBytes: number): Extent[] {
  return extents.map((extent) => ({ ...extent, offset: extent.offset + byBytes }));
}

export function storedBytes(extents: readonly Extent[]): number {
  let total = 0;
  for (const extent of extents) total += extent.lengthBytes;
  return total;
}

export function byOffset(a: Extent, b: Extent): number {
  return a.offset - b.offset;
}

/**
 * Ascending runs of extents that lie end to end, so that each run replaces one range. Undefined if any two overlap.
 */
export function contiguousRuns(extents: readonly Extent[]): Extent[][] | undefined {
  const sorted = extents.length > 1 ? [...extents].sort(byOffset) : extents;
  const runs: Extent[][] = [];
  let end = -1;
  for (const extent of sorted) {
    if (extent.offset < end) return undefined;
    const run = runs.at(-1);
    if (run !== undefined && extent.offset === end) run.push(extent);
    else runs.push([extent]);
    end = extentEnd(extent);
  }
  return runs;
}
