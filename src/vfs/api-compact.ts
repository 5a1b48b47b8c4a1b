/** `fs.compact`: files that were written in small pieces put together, one after the other, in whole trees. */
import { FsError } from '../errors.ts';
import type { Attr } from '../meta/types.ts';
import { listDirectory } from './api-tree.ts';
import type { Compacted } from './compactor.ts';
import type { Caller } from './ops.ts';
import type { Vfs } from './vfs.ts';

/** What a compaction has done. */
export interface CompactProgress {
  /** Files looked at. */
  readonly fileCount: number;
  /** Stretches of a block's length (the pool's, 4 MiB by default) that are in fewer pieces now. */
  readonly stretchCount: number;
  /** Extents that are no more. */
  readonly savedCount: number;
  /** Bytes written for it, copies not counted. */
  readonly writtenBytes: number;
  /** Stretches that somebody changed at that moment; they are as he left them. */
  readonly changedCount: number;
}

/** How to compact. */
export interface CompactFilesOptions {
  /** Ends it with EINTR; what is done stays. */
  readonly signal?: AbortSignal;
  /** Called after each step. */
  readonly onProgress?: (progress: CompactProgress) => void;
}

/** Files below `attr`, by inode; other entries are passed over. */
export async function compactTree(
  vfs: Vfs,
  caller: Caller,
  attr: Pick<Attr, 'ino' | 'type'>,
  options: CompactFilesOptions,
): Promise<CompactProgress> {
  let total: CompactProgress = { fileCount: 0, stretchCount: 0, savedCount: 0, writtenBytes: 0, changedCount: 0 };
  const visit = async ({ ino, type }: Pick<Attr, 'ino' | 'type'>): Promise<void> => {
    if (options.signal?.aborted === true) throw new FsError('EINTR');
    if (type === 'file') {
      const before = total;
      const onProgress = (done: Compacted): void => {
        total = plus(before, done);
        options.onProgress?.(total);
      };
      const { signal } = options;
      total = plus(before, await vfs.compact(ino, signal === undefined ? { onProgress } : { onProgress, signal }));
      total = { ...total, fileCount: total.fileCount + 1 };
      options.onProgress?.(total);
    } else if (type === 'directory') {
      for await (const entry of listDirectory(vfs, caller, ino)) {
        // What was removed meanwhile needs nothing.
        await visit(entry).catch(ignoreGone);
      }
    }
  };
  await visit(attr);
  return total;
}

function ignoreGone(error: unknown): void {
  if (!(error instanceof FsError) || error.code !== 'ENOENT') throw error;
}

function plus(total: CompactProgress, done: Compacted): CompactProgress {
  return {
    ...total,
    stretchCount: total.stretchCount + done.slotCount,
    savedCount: total.savedCount + done.savedCount,
    writtenBytes: total.writtenBytes + done.writtenBytes,
    changedCount: total.changedCount + done.changedCount,
  };
}
