/**
 * Keeps a file that grows by small appends, each flushed, from being stored in ever more pieces. After a number of such
 * flushes the young pieces at its end are read and written anew together with the next append. Young are those
 * shorter than what follows them, doubled: so a byte is rewritten a logarithmic number of times.
 *
 * Only appends: bytes in the middle of a file are never rewritten on behalf of their neighbours, since another mount
 * may be writing them. And only if nobody else changed the file: the commit tells which version was read, and the servers
 * leave out what was only copied if the file is at another by then.
 */
import type { FileData } from './file-data.ts';
import type { MountState } from './mount-state.ts';

/** Flushes of a partly filled end between two looks at its extents. */
const LOOK_EVERY = 16;
/** Pieces are merged in any case while they make no more than this. */
const SMALL_TAIL_BYTES = 64 * 1024;

/** Undefined: nothing to do. Otherwise resolves when the dirty end has been completed with the pieces before it, and `cut` was called. */
export function mergeBeforeFlush(state: MountState, file: FileData, cut: () => void): Promise<void> | undefined {
  const { inode } = file;
  // Who takes turns by locks of ranges counts on it that only its own bytes are written.
  if (inode.isLockedHere) return undefined;
  inode.partialFlushes += 1;
  if (inode.partialFlushes < LOOK_EVERY) return undefined;
  inode.partialFlushes = 0;
  if (file.pending.length > 0 || file.committing || file.barrier !== undefined) return undefined;
  // It would be committed without its rest, for such a piece is committed alone.
  if (file.underWay !== undefined) return undefined;
  return merge(state, file, cut).catch((error: unknown) => {
    // Merging saves metadata and can be done another time; the flush itself goes on.
    state.log.debug({ ino: inode.ino, error: String(error) }, 'pieces could not be merged');
  });
}

async function merge(state: MountState, file: FileData, cut: () => void): Promise<void> {
  const { inode, blockSizeBytes } = file;
  const index = Math.floor((file.uncommittedEnd - 1) / blockSizeBytes);
  const run = file.dirty.runs(index)[0];
  if (run === undefined || run.offset !== inode.attr.sizeBytes) return;
  const known = inode.attr.version;
  const end = run.offset;
  const blockStart = index * blockSizeBytes;
  // What is written from here on is no copy, and must not be taken for one.
  const { writes } = file;
  await state.loadExtents(file, blockStart);
  if (inode.attr.version !== known || !file.extents.knows(known, blockStart, end)) return;
  const from = youngTail(file, blockStart, end);
  if (from === undefined) return;
  const data = await state.readPath.readStored(file, from, end);
  if (file.writes !== writes || inode.attr.version !== known || file.pending.length > 0 || file.barrier !== undefined)
    return;
  file.dirty.write(from, data);
  file.merged = { beforeOffset: end, version: known };
  // At once: what is written from now on is no copy.
  cut();
}

/** Where the pieces that are worth rewriting with an append begin. */
function youngTail(file: FileData, blockStart: number, end: number): number | undefined {
  let from = end;
  let count = 0;
  for (let index = file.extents.find(end - 1); index >= 0; index -= 1) {
    const mapped = file.extents.at(index);
    if (mapped === undefined || mapped.end !== from || mapped.offset < blockStart) break;
    const young = end - from;
    if (end - mapped.offset > SMALL_TAIL_BYTES && mapped.end - mapped.offset > 2 * young) break;
    from = mapped.offset;
    count += 1;
  }
  return count > 1 ? from : undefined;
}
