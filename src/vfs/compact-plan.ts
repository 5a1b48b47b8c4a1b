/**
 * What a compaction of a slot (one block's length of a file, where its blocks begin and end) puts together: extents that lie
 * end to end become one. Pure. What has no neighbour stays as it is, and so do holes.
 */
import { clip, extentEnd, touches } from '../meta/extents.ts';
import type { Extent } from '../meta/types.ts';

/** One block's length of a file. */
export interface Slot {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** A range without holes that shall be one extent. */
export interface Merge {
  readonly offset: number;
  readonly lengthBytes: number;
  /** What it is made of now, cut to the range, ascending; two at least. */
  readonly parts: readonly Extent[];
}

export function slotAt(offset: number, blockSizeBytes: number): Slot {
  return { offset: offset - (offset % blockSizeBytes), lengthBytes: blockSizeBytes };
}

/** `extents`: all that touch the slot, ascending. None if that would save fewer than `savedMin` extents. */
export function planMerges(extents: readonly Extent[], slot: Slot, savedMin: number): readonly Merge[] {
  const runs: Extent[][] = [];
  let end = -1;
  for (const extent of clip(extents, slot.offset, slot.offset + slot.lengthBytes)) {
    if (extent.offset === end) runs.at(-1)!.push(extent);
    else runs.push([extent]);
    end = extentEnd(extent);
  }
  const merges = runs
    .filter((parts) => parts.length > 1)
    .map((parts) => ({
      offset: parts[0]!.offset,
      lengthBytes: extentEnd(parts.at(-1)!) - parts[0]!.offset,
      parts,
    }));
  const saved = merges.reduce((sum, { parts }) => sum + parts.length - 1, 0);
  return saved < savedMin ? [] : merges;
}

/** Slots of which `extents` (the first ones from a slot's beginning on; `more`: there are others) say that they are in many pieces. */
export interface Survey {
  readonly slots: readonly Slot[];
  /** Where to look on; undefined at the end. */
  readonly next: number | undefined;
}

/** Looks through a page of a file's extents, from the slot at `from` on. */
export function surveyPage(
  extents: readonly Extent[],
  more: boolean,
  from: number,
  blockSizeBytes: number,
  savedMin: number,
): Survey {
  const last = extents.at(-1);
  if (last === undefined) return { slots: [], next: undefined };
  const end = extentEnd(last);
  const slots: Slot[] = [];
  let first = 0;
  let slot = slotAt(Math.max(from, extents[0]!.offset), blockSizeBytes);
  for (;;) {
    const slotEnd = slot.offset + slot.lengthBytes;
    const isWhole = !more || slotEnd <= end;
    while (first < extents.length && extentEnd(extents[first]!) <= slot.offset) first += 1;
    let to = first;
    while (to < extents.length && touches(extents[to]!, slot.offset, slotEnd)) to += 1;
    const isMany = planMerges(extents.slice(first, to), slot, savedMin).length > 0;
    if (isMany) slots.push(slot);
    if (!isWhole) {
      // Of one slot there can be more extents than a page holds: then this one is looked at alone.
      const isAlone = slot.offset <= from;
      if (isAlone && !isMany) slots.push(slot);
      return { slots, next: isMany || isAlone ? slotEnd : slot.offset };
    }
    const next = extents.find((extent) => extentEnd(extent) > slotEnd);
    if (next === undefined) return { slots, next: more ? slotEnd : undefined };
    slot = slotAt(Math.max(slotEnd, next.offset), blockSizeBytes);
  }
}

/** How many extents the same bytes would be in if each slot were put together. */
export function extentsNeeded(
  extents: readonly { readonly offset: number; readonly lengthBytes: number }[],
  blockSizeBytes: number,
): number {
  let count = 0;
  let end = -1;
  for (const { offset, lengthBytes } of extents) {
    // What is whole already may lie across the slots' borders, as in clones.
    if (offset !== end || offset % blockSizeBytes === 0 || lengthBytes === blockSizeBytes) count += 1;
    else if (Math.floor(offset / blockSizeBytes) !== Math.floor((offset + lengthBytes - 1) / blockSizeBytes))
      count += 1;
    end = offset + lengthBytes;
  }
  return count;
}
