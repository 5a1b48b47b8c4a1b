/**
 * A program's write can come in parts: the kernel ends a request at the end of a page of which it does not have what is
 * before those bytes, as of the page in which a file ends. Nothing tells whether more is to come. Of an append it matters:
 * no other's bytes may lie between its parts.
 *
 * So what may be the first part of a write is committed with what follows it, or once it is known to have been all. The
 * kernel sends no other write, fsync or change of size of a file before a write of it has ended, and nothing that the
 * same thread does to it (but reads, for a write out of a mapping of the file itself). Where none of these comes, whoever
 * needs the bytes committed waits for REST_MS.
 *
 * Not recognised: a part that ends within a page, for the rest of the program's memory had to be fetched first (seen on
 * Linux 6.18; 6.1 fetches it before).
 *
 * Source: fuse_fill_write_pages of Linux 6.1 and 6.18; M. Szeredi on linux-fsdevel, 14 April 2021: "the multi-page case
 * with a partial & non-uptodate head page will always result in the write request being split into two".
 */
import type { Timer } from '../env.ts';
import { MiB } from '../limits.ts';

/** Within so long of one part the next one has come: the writer only has to run again. */
export const REST_MS = 100;
/** Of these: once more for what has come already, should this process not have run for a while. */
export const LAST_LOOK_MS = 1;
/** What one write appends lies together up to this. */
const TOGETHER_BYTES = MiB;
/** Of most kernels; of one with larger pages not every first part is recognised. */
const KERNEL_PAGE_BYTES = 4096;

/** Who appends. */
export interface Appender {
  /** The thread; 0: unknown. */
  readonly pid: number;
  /** See {@link mayGoOn}. */
  readonly mayGoOn: boolean;
}

/** An append of which more may be to come. */
export class AppendUnderWay {
  readonly pid: number;
  /** In the file, if nobody else appends. */
  startOffset: number;
  endOffset: number;
  /** When its latest part came. */
  latestMs: number;
  /** Runs while somebody waits for it. */
  timer: Timer | undefined;

  constructor(pid: number, startOffset: number, endOffset: number, nowMs: number) {
    this.pid = pid;
    this.startOffset = startOffset;
    this.endOffset = endOffset;
    this.latestMs = nowMs;
  }

  /** Are these bytes its rest? If it has ended they are another write of the same thread, and lie well with it, too. */
  isFollowedBy(offset: number, endOffset: number, pid: number): boolean {
    return offset === this.endOffset && pid === this.pid && endOffset - this.startOffset <= TOGETHER_BYTES;
  }

  goOn(endOffset: number, nowMs: number): void {
    this.endOffset = endOffset;
    this.latestMs = nowMs;
  }
}

/** Where the kernel ends requests within a write. What begins with a page goes on to its end, or is as much as it passes on. */
export function mayGoOn(offset: number, length: number): boolean {
  return offset % KERNEL_PAGE_BYTES !== 0 && (offset + length) % KERNEL_PAGE_BYTES === 0;
}
