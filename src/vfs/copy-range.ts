/**
 * A range of one open file copied into another: its blocks are shared where they can be, and only where that is refused (the
 * target is in another pool) are the bytes read and written. Holes stay holes either way.
 */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { MiB } from '../limits.ts';
import type { Caller, Handle, VfsOps } from './ops.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_FL_ZERO_RANGE = 16;
/** Read and written at once where the bytes themselves must be copied. */
const COPY_STEP_BYTES = 4 * MiB;

export interface CopiedRange {
  readonly ino: Ino;
  readonly source: Handle;
  /** Byte of the source to begin at. */
  readonly from: number;
  readonly target: Handle;
  /** Byte of the target to begin at. */
  readonly to: number;
  /** Bytes, fewer where the source ends. */
  readonly length: number;
  /** Told of the bytes of each step. */
  readonly onCopied?: ((bytes: number) => void) | undefined;
}

/** Resolves with the number of bytes copied. Errors as {@link VfsOps.copyFileRange}'s, but for EXDEV. */
export async function copyRange(ops: VfsOps, caller: Caller, range: CopiedRange): Promise<number> {
  const { ino, source, from, target, to, onCopied } = range;
  // Up to where it ends now: who appends to it, or is the target itself, would else be followed for ever.
  const { attr } = await ops.getattr(caller, ino, source);
  const length = Math.max(0, Math.min(range.length, attr.sizeBytes - from));
  for (let done = 0; done < length;) {
    let step: number;
    try {
      step = await ops.copyFileRange(caller, source, from + done, target, to + done, length - done);
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== 'EXDEV') throw error;
      const rest = { ...range, from: from + done, to: to + done, length: length - done };
      return done + (await copyBytes(ops, caller, rest));
    }
    if (step === 0) return done;
    done += step;
    onCopied?.(step);
  }
  return length;
}

async function copyBytes(ops: VfsOps, caller: Caller, range: CopiedRange): Promise<number> {
  const { ino, source, from, target, to, length, onCopied } = range;
  const { attr } = await ops.getattr(caller, ino, source);
  const end = Math.min(from + length, attr.sizeBytes);
  for (let at = from; at < end;) {
    const data = Math.min(end, await seek(ops, caller, source, at, SEEK_DATA, end));
    if (data > at) {
      await ops.fallocate(caller, target, to + at - from, data - at, FALLOC_FL_ZERO_RANGE);
      onCopied?.(data - at);
    }
    const stop = data === end ? end : Math.min(end, await seek(ops, caller, source, data, SEEK_HOLE, end));
    for (at = data; at < stop;) {
      const read = await ops.read(caller, source, at, Math.min(COPY_STEP_BYTES, stop - at));
      let count = 0;
      try {
        for (const chunk of read.chunks) {
          await ops.write(caller, target, to + at - from + count, chunk);
          count += chunk.length;
        }
      } finally {
        read.release?.();
      }
      // It has become shorter meanwhile.
      if (count === 0) return at - from;
      at += count;
      onCopied?.(count);
    }
  }
  return Math.max(0, end - from);
}

/** ENXIO says that there is none before the end. */
async function seek(
  ops: VfsOps,
  caller: Caller,
  handle: Handle,
  offset: number,
  whence: number,
  end: number,
): Promise<number> {
  try {
    return await ops.lseek(caller, handle, offset, whence);
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENXIO') return end;
    throw error;
  }
}
