/**
 * Edits of a file's extents in the table. The usual ones (first write of a small file, append, overwrite of what was
 * written in the same pieces) need point reads only; extentCount and extentEnd of the inode tell when.
 */
import type { Ino } from '../ids.ts';
import { BLOCK_MAX_BYTES, FILE_MAX_BYTES, INLINE_MAX_BYTES } from '../limits.ts';
import { decodeExtent, encodeExtent, type Inode } from './codec.ts';
import { digestExtents } from './extent-digest.ts';
import { clip, contiguousRuns, cutExtent, extentEnd, sliceExtent, storedBytes, touches } from './extents.ts';
import { extentKey, extentPrefix, KEY_NAME_AT, prefixEnd, u64FromKey } from './keys.ts';
import { refuse } from './outcome.ts';
import type { Row } from './overlay.ts';
import type { PointReader, TableProgram, Transaction } from './transaction.ts';
import type { Extent, Mutation, MutationResult } from './types.ts';

/** Extents read at a time by an edit of a long range. */
const EDIT_PAGE_COUNT = 4096;
/**
 * Extents read at first for many ranges at once: with the one after them what the store fetches in one go, so this costs no more
 * than a look for a single one.
 */
const RUNS_PAGE_MIN_COUNT = 31;
/** Some MiB if all of them are inline and large. */
const RUNS_PAGE_MAX_COUNT = 511;
/** A client's clock this far from the primary's is not believed; and a write this long ago has changed the file for others only now. */
const CLOCK_APART_MAX_NS = 60_000_000_000n;

export function* commit(tx: Transaction, m: Extract<Mutation, { op: 'commit' }>): TableProgram<MutationResult> {
  const inode = existingFile(tx, m.ino);
  const { extents, growToBytes } = placed(inode, m);
  for (const extent of extents) checkExtent(extent);
  const runs = contiguousRuns(extents) ?? refuse('EINVAL');
  if (growToBytes > FILE_MAX_BYTES) refuse('EFBIG');
  checkReceipts(tx, extents, m.generation);

  if (runs.length > 1) yield* replaceRuns(tx, inode, runs);
  else for (const run of runs) yield* replaceRun(tx, inode, run);
  const last = runs.at(-1)?.at(-1);
  inode.sizeBytes = Math.max(inode.sizeBytes, growToBytes, last === undefined ? 0 : extentEnd(last));
  inode.version++;
  const { mtimeNs, ctimeNs } = inode;
  tx.touchContent(inode);
  if (m.mtimeNs !== 'now') setWriteTime(inode, m.mtimeNs, m.ctimeToo === true, { mtimeNs, ctimeNs });
  return { attr: tx.attr(inode) };
}

function* replaceRun(tx: Transaction, inode: Inode, run: readonly Extent[]): TableProgram<void> {
  yield* clearRange(tx, inode, run[0]!.offset, extentEnd(run.at(-1)!));
  for (const extent of run) putExtent(tx, inode, extent);
}

/**
 * As replaceRun of each, ascending, with the same rows in the end. What lies below them is read in pages that reach over several
 * runs: a range read for each would cost seconds for a commit of a thousand scattered pieces, and much more where many rows were
 * deleted nearby, all of which the store passes each time.
 */
function* replaceRuns(tx: Transaction, inode: Inode, runs: readonly (readonly Extent[])[]): TableProgram<void> {
  const spanEnd = extentEnd(runs.at(-1)!.at(-1)!);
  let limit = 0;
  /** Ascending. Invariant: of what the table has from the current run on up to `knownTo`, nothing is missing here. */
  let known: Extent[] = [];
  let knownTo = 0;
  let next = 0;
  let runsOfPage = 0;
  for (const run of runs) {
    const from = run[0]!.offset;
    const to = extentEnd(run.at(-1)!);
    for (let at = from; ;) {
      if (knownTo <= at) {
        if (at >= inode.extentEnd || inode.extentCount === 0) break;
        // Most of a page that ended with the only run it was good for was read for nothing.
        const wanted = runsOfPage === 1 ? (limit - 1) / 2 : 2 * limit + 1;
        limit = Math.min(Math.max(wanted, RUNS_PAGE_MIN_COUNT), RUNS_PAGE_MAX_COUNT);
        const { extents, more } = yield* readExtents(tx, inode, at, spanEnd, limit);
        known = extents;
        knownTo = more ? extentEnd(extents.at(-1)!) : spanEnd;
        next = 0;
        runsOfPage = 0;
      }
      for (; next < known.length && known[next]!.offset < to; next++) {
        const extent = known[next]!;
        if (extentEnd(extent) <= from) continue;
        dropExtent(tx, inode, extent);
        const pieces = cutExtent(extent, from, to);
        for (const piece of pieces) putExtent(tx, inode, piece);
        const rest = pieces.at(-1);
        if (rest === undefined || rest.offset < to) continue;
        // A later run may lie in it, too.
        known[next] = rest;
        break;
      }
      if (knownTo >= to) break;
      at = knownTo;
    }
    runsOfPage++;
    endedBy(inode, from, to);
    for (const extent of run) putExtent(tx, inode, extent);
  }
}

/** Where the bytes go: as they come, unless they are appended to a file that ends elsewhere by now. */
function placed(
  inode: Inode,
  { extents, growToBytes, appendAt, rewrites }: Extract<Mutation, { op: 'commit' }>,
): { readonly extents: readonly Extent[]; readonly growToBytes: number } {
  const moveBytes = appendAt === undefined ? 0 : inode.sizeBytes - appendAt;
  const isRewritten = rewrites !== undefined && moveBytes === 0 && rewrites.version === inode.version;
  if (moveBytes === 0 && (rewrites === undefined || isRewritten)) return { extents, growToBytes };
  const from = rewrites?.beforeOffset ?? 0;
  const kept = extents
    .filter((extent) => extentEnd(extent) > from)
    .map((extent) => (extent.offset < from ? sliceExtent(extent, from, extentEnd(extent)) : extent))
    .map((extent) => ({ ...extent, offset: extent.offset + moveBytes }));
  return { extents: kept, growToBytes: growToBytes + moveBytes };
}

/**
 * mtime of writes that happened at `writtenNs` by the client's clock. It does not go back behind an earlier write's, unless a user
 * had set that into the future. ctime is never earlier than it, and never what it was before, as by that others see a change.
 */
function setWriteTime(
  inode: Inode,
  writtenNs: bigint,
  ctimeToo: boolean,
  before: Pick<Inode, 'mtimeNs' | 'ctimeNs'>,
): void {
  const nowNs = inode.ctimeNs;
  if (writtenNs > nowNs + CLOCK_APART_MAX_NS) return;
  const isLaterWritten = before.mtimeNs <= before.ctimeNs && before.mtimeNs > writtenNs;
  inode.mtimeNs = isLaterWritten ? before.mtimeNs : writtenNs;
  const isSinceBefore = writtenNs > before.ctimeNs && writtenNs >= nowNs - CLOCK_APART_MAX_NS;
  if (inode.mtimeNs > nowNs || (ctimeToo && isSinceBefore)) inode.ctimeNs = inode.mtimeNs;
}

function existingFile(tx: Transaction, ino: Ino): Inode {
  const inode = tx.existing(ino);
  if (inode.type !== 'file') refuse(inode.type === 'directory' ? 'EISDIR' : 'EINVAL');
  return inode;
}

/**
 * Invariant: behind a collection's barrier no extent appears whose blocks its sweep may take. Everything that names
 * blocks which the inode did not have goes through here (docs/decisions/0003, 0014).
 */
function checkReceipts(tx: Transaction, extents: readonly Extent[], generation: number | undefined): void {
  if ((generation ?? 0) >= tx.counters.gcGeneration) return;
  if (extents.some((extent) => extent.kind === 'block')) refuse('ERR_STALE_BLOCKS');
}

/** As a commit of the whole range, holes included, with the primary's time. */
export function* clone(tx: Transaction, m: Extract<Mutation, { op: 'clone' }>): TableProgram<MutationResult> {
  const inode = existingFile(tx, m.ino);
  if (m.lengthBytes <= 0) refuse('EINVAL');
  if (m.offset > FILE_MAX_BYTES - m.lengthBytes) refuse('EFBIG');
  const end = m.offset + m.lengthBytes;
  let last = m.offset;
  for (const extent of m.extents) {
    checkExtent(extent);
    if (extent.offset < last || extentEnd(extent) > end) refuse('EINVAL');
    last = extentEnd(extent);
  }
  checkReceipts(tx, m.extents, m.generation);
  yield* clearRange(tx, inode, m.offset, end);
  for (const extent of m.extents) putExtent(tx, inode, extent);
  inode.sizeBytes = Math.max(inode.sizeBytes, end);
  inode.version++;
  tx.touchContent(inode);
  return { attr: tx.attr(inode) };
}

/**
 * The same bytes, otherwise stored. Invariant: nothing of the file that anybody can see changes, so it needs no lock and no
 * lease, and comes too late rather than undo a write. The version grows all the same: it tells which extents belong together.
 */
export function* compact(tx: Transaction, m: Extract<Mutation, { op: 'compact' }>): TableProgram<MutationResult> {
  const inode = existingFile(tx, m.ino);
  const { extent } = m;
  checkExtent(extent);
  if (extent.lengthBytes > BLOCK_MAX_BYTES) refuse('EINVAL');
  const end = extentEnd(extent);
  const found: Extent[] = [];
  for (let at = extent.offset; at < end;) {
    const { extents, more } = yield* readExtents(tx, inode, at, end, EDIT_PAGE_COUNT);
    found.push(...clip(extents, extent.offset, end));
    if (!more) break;
    at = extentEnd(extents.at(-1)!);
  }
  if (Buffer.compare(digestExtents(found), m.digest) !== 0) refuse('EAGAIN');
  if (storedBytes(found) !== extent.lengthBytes) refuse('EINVAL');
  checkReceipts(tx, [extent], m.generation);
  yield* clearRange(tx, inode, extent.offset, end);
  putExtent(tx, inode, extent);
  inode.version++;
  tx.change(inode);
  return { attr: tx.attr(inode) };
}

function checkExtent(extent: Extent): void {
  if (extent.lengthBytes <= 0 || extent.offset < 0) refuse('EINVAL');
  if (extent.offset > FILE_MAX_BYTES - extent.lengthBytes) refuse('EFBIG');
  if (extent.kind === 'inline') {
    if (extent.lengthBytes !== extent.data.length || extent.lengthBytes > INLINE_MAX_BYTES) refuse('EINVAL');
  } else if (extent.blockBytes > BLOCK_MAX_BYTES || extent.blockOffset + extent.lengthBytes > extent.blockBytes) {
    refuse('EINVAL');
  }
}

export function* punch(tx: Transaction, m: Extract<Mutation, { op: 'punch' }>): TableProgram<MutationResult> {
  const inode = existingFile(tx, m.ino);
  if (m.lengthBytes === 0) refuse('EINVAL');
  const end = Math.min(m.offset + m.lengthBytes, FILE_MAX_BYTES);
  yield* clearRange(tx, inode, m.offset, end);
  inode.version++;
  tx.touchContent(inode);
  return { attr: tx.attr(inode) };
}

/** Makes a hole of [from, to): extents inside go, those across an edge are cut. */
export function* clearRange(tx: Transaction, inode: Inode, from: number, to: number): TableProgram<void> {
  for (let at = from; at < to && at < inode.extentEnd && inode.extentCount > 0;) {
    const { extents, more } = yield* readExtents(tx, inode, at, to, EDIT_PAGE_COUNT);
    for (const extent of extents) {
      dropExtent(tx, inode, extent);
      for (const piece of cutExtent(extent, from, to)) putExtent(tx, inode, piece);
    }
    if (!more) break;
    at = extentEnd(extents.at(-1)!);
  }
  endedBy(inode, from, to);
}

/** The range is a hole now. */
function endedBy(inode: Inode, from: number, to: number): void {
  if (to >= inode.extentEnd) inode.extentEnd = inode.extentCount === 0 ? 0 : Math.min(inode.extentEnd, from);
}

function putExtent(tx: Transaction, inode: Inode, extent: Extent): void {
  tx.put(extentKey(inode.dataIno, extent.offset), encodeExtent(extent));
  inode.extentEnd = Math.max(inode.extentEnd, extentEnd(extent));
  count(tx, inode, extent, 1);
}

function dropExtent(tx: Transaction, inode: Inode, extent: Extent): void {
  tx.delete(extentKey(inode.dataIno, extent.offset));
  count(tx, inode, extent, -1);
}

function count(tx: Transaction, inode: Inode, extent: Extent, sign: 1 | -1): void {
  inode.extentCount += sign;
  if (extent.kind === 'block') inode.blockExtentCount += sign;
  inode.storedBytes += sign * extent.lengthBytes;
  tx.counters.storedBytes += sign * extent.lengthBytes;
}

export interface ExtentPage {
  readonly extents: Extent[];
  readonly more: boolean;
}

/**
 * Whole extents that touch [from, to), ascending, at most `limit`. Reads by points where the inode's numbers say that
 * no more can be found.
 */
export function* readExtents(
  table: PointReader,
  inode: Inode,
  from: number,
  to: number,
  limit: number,
): TableProgram<ExtentPage> {
  if (inode.extentCount === 0 || from >= inode.extentEnd || from >= to) return { extents: [], more: false };
  const only = inode.extentCount === 1 ? readExtent(table, inode, 0) : undefined;
  if (only !== undefined) return { extents: touches(only, from, to) ? [only] : [], more: false };
  // Extents do not overlap: if one starts exactly here, none before it reaches here.
  const here = readExtent(table, inode, from);
  if (here !== undefined) {
    const rangeEnd = Math.min(to, inode.extentEnd);
    if (extentEnd(here) >= rangeEnd) return { extents: [here], more: false };
    if (limit === 1) return { extents: [here], more: true };
  }
  const prefix = extentPrefix(inode.dataIno);
  const lt = to > FILE_MAX_BYTES - 1 ? prefixEnd(prefix) : extentKey(inode.dataIno, to);
  const forward = { gte: extentKey(inode.dataIno, from), lt, limit: limit + 1, reverse: false };
  // No extent is longer than a block, so the one before need not be looked for further back.
  const back = {
    gte: extentKey(inode.dataIno, Math.max(0, from - BLOCK_MAX_BYTES)),
    lt: forward.gte,
    limit: 1,
    reverse: true,
  };
  const [after, before] = yield here === undefined && from > 0 ? [forward, back] : [forward];
  const extents = [...(before ?? []), ...after!].map(decodeRow).filter((extent) => touches(extent, from, to));
  return { extents: extents.slice(0, limit), more: extents.length > limit };
}

function readExtent(table: PointReader, inode: Inode, offset: number): Extent | undefined {
  const value = table.get(extentKey(inode.dataIno, offset));
  return value === undefined ? undefined : decodeExtent(offset, value);
}

function decodeRow([key, value]: Row): Extent {
  return decodeExtent(u64FromKey(key, KEY_NAME_AT), value);
}
