/**
 * Where two logs part. Entries of one (seq, epoch) are equal and so is all before them, because one primary orders the
 * entries of an epoch; so it is enough to compare where each log's epochs end. Pure.
 */
import type { EpochEnds } from './log-files.ts';

/**
 * The last seq up to which both logs agree; undefined if that lies before what one of them still knows.
 * Both begin with the epoch of the entry before their first.
 */
export function commonPrefix(a: EpochEnds, b: EpochEnds): number | undefined {
  const ends = new Map(b);
  for (const [epoch, endInA] of [...a].reverse()) {
    const endInB = ends.get(epoch);
    if (endInB !== undefined) return Math.min(endInA, endInB);
  }
  return undefined;
}

/** Order of logs by (last epoch, last seq): the greater one holds everything that was ever acknowledged by both. */
export function compareLogs(a: EpochEnds, b: EpochEnds): number {
  const [epochA = 0, seqA = 0] = a.at(-1) ?? [];
  const [epochB = 0, seqB = 0] = b.at(-1) ?? [];
  return epochA - epochB || seqA - seqB;
}
