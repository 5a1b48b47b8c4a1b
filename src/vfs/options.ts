/** What a mount's filesystem is made of, and its bounds. */
import type { BlockClient } from '../blocks/types.ts';
import type { CatalogService } from '../catalog/types.ts';
import type { Env } from '../env.ts';
import { FsError } from '../errors.ts';
import type { PoolId } from '../ids.ts';
import * as limits from '../limits.ts';
import type { MetaClient } from '../meta/types.ts';

/** The part of a pino logger that is used here. */
export interface VfsLog {
  debug(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export const SILENT_LOG: VfsLog = { debug: () => {}, warn: () => {}, error: () => {} };

export interface VfsLimits {
  /** Bytes written and not yet committed, buffers counted whole; writers wait beyond it. At least four blocks. */
  readonly dirtyMaxBytes: number;
  /** Verified block bytes kept for reading, read-ahead included. At least four blocks. */
  readonly readCacheBytes: number;
  /** So much of them is used until more of it would have served a read. */
  readonly readCacheFirstBytes: number;
  /**
   * Of files that are read at random so much is given to the kernel ahead of their readers within PREFETCH_KEPT_MS, and of none that is
   * longer; 0: nothing.
   */
  readonly prefetchBytes: number;
  /** How long names and attributes may be kept without asking; 0 asks each time. */
  readonly attrTimeoutMs: number;
  /** How long while the servers tell what others change; no longer than attrTimeoutMs: not watched. */
  readonly watchedMs: number;
  /** Deadline of one operation: it then ends with EIO, whatever it waits for. */
  readonly timeoutMs: number;
  /** Runs of written bytes up to this size are stored in the metadata. */
  readonly inlineMaxBytes: number;
  /** What was written in small pieces is put together once nobody has written there for so long; 0 never. */
  readonly compactAfterMs: number;
}

export const DEFAULT_VFS_LIMITS: VfsLimits = {
  dirtyMaxBytes: limits.DIRTY_MAX_BYTES,
  readCacheBytes: limits.READ_CACHE_BYTES,
  readCacheFirstBytes: limits.READ_CACHE_FIRST_BYTES,
  prefetchBytes: limits.PREFETCH_BYTES,
  attrTimeoutMs: limits.ATTR_TIMEOUT_MS,
  watchedMs: limits.WATCHED_MS,
  timeoutMs: limits.OP_TIMEOUT_MS,
  inlineMaxBytes: limits.INLINE_MAX_BYTES,
  compactAfterMs: limits.COMPACT_AFTER_MS,
};

/** What reads do to access times: nothing (the default), or as `relatime`, that of directories (`nodiratime`) left out or not. */
export type AccessTimeMode = 'unchanged' | 'relative' | 'relative-but-directories';

export interface VfsOptions {
  readonly meta: MetaClient;
  readonly blocks: BlockClient;
  /** Pools: block size, and by how many copies raw space is divided. */
  readonly catalog: Pick<CatalogService, 'current' | 'lookForNewer'>;
  readonly env: Pick<Env, 'clock'>;
  readonly log?: VfsLog;
  /** Raw bytes of all nodes' disks, copies not counted off. */
  readonly space: () => Promise<{ totalBytes: number; freeBytes: number }>;
  readonly limits?: Partial<VfsLimits>;
  readonly accessTimes?: AccessTimeMode;
}

/** Deadline of one step of an operation: one block's transfer, one commit. */
export function stepTimeoutMs(own: VfsLimits): number {
  return own.timeoutMs * limits.STEP_FRACTION;
}

/** Block puts in flight at once: enough that every node's disk is busy, few enough that one file's blocks keep their order. */
export const UPLOADS_IN_FLIGHT = 8;
/** Data dirty for longer leaves by itself, so that a crash of this machine loses little. */
export const IDLE_FLUSH_MS = 5_000;
/** How often dirty files are looked through for old data. */
export const IDLE_CHECK_MS = 1_000;
/** Extents asked for at once: 2 GiB of full blocks in about 60 KiB of reply. */
export const EXTENT_WINDOW = 512;
/** Extents of one file kept in memory: some 64 GiB of full blocks. */
export const EXTENTS_KEPT = 16_384;
/** What is known of the extents of all files, bytes stored in them included; one answer of the servers may be beyond it. */
export const EXTENT_MEMORY_BYTES = 48 * limits.MiB;
/** Extents and inline bytes in one commit; both keep the message far below FRAME_HEADER_MAX_BYTES. */
export const COMMIT_EXTENTS_MAX = 1_024;
export const COMMIT_INLINE_BYTES_MAX = limits.MiB;
/**
 * Of one step of a clone: 4 GiB of full blocks, some 70 KiB in the log, and a command that a member applies in milliseconds. Its
 * inline bytes are bounded as a commit's.
 */
export const CLONE_EXTENTS_MAX = 1_024;
/**
 * A block's length of a file is compacted if that saves as many extents as this. Fewer cost a reader less time than the writing
 * of a whole block costs everybody.
 */
export const COMPACT_SAVED_MIN = 8;
/** Small writes after which a mount looks at a block's length: one in the midst of an extent makes two more of it. */
export const COMPACT_WRITES_MIN = COMPACT_SAVED_MIN / 2;
/** What is written all the time is compacted this long after it got into many pieces. */
export const COMPACT_LATEST_MS = 120_000;
/** Written in pieces again within this after a compaction: both times double for that block's length. */
export const COMPACT_AGAIN_MS = 600_000;
/** To some eleven minutes of quiet, or two hours, at most. */
export const COMPACT_VAIN_MAX = 6;
/** Block's lengths with small pieces that a mount remembers, some 200 bytes each. */
export const COMPACT_SLOTS_KEPT = 16_384;
/** How often one is tried that somebody changes each time. */
export const COMPACT_ATTEMPTS = 5;
/** How often the mount looks what is due. */
export const COMPACT_CHECK_MS = 1_000;
/** Pause after each block, as a multiple of the time that it took: a fifth of the time goes to it at most while programs use the mount, else half. */
export const COMPACT_PAUSE_BUSY = 4;
export const COMPACT_PAUSE_IDLE = 1;
/** Directory entries asked for at once. */
export const DIRECTORY_WINDOW = 512;
/** Bytes that one random read brings in at least; the unit of verification. */
export const READ_PAGE_BYTES = limits.PAGE_BYTES;
/** Of a block that was read at random at so great a share of its pages the rest is fetched too: less than those reads cost. */
export const PREFETCH_SHARE_NEAR = 1 / 16;
/** The same, where blocks come over a network, which others use, too. */
export const PREFETCH_SHARE_FAR = 1 / 4;
/** Pages fetched at once, and so often at the same time: more of them, and reads at random wait behind them at the disk. */
export const PREFETCH_PAGES = 8;
export const PREFETCH_AT_ONCE = 2;
/** Reads at random count for so long; a block is not fetched again before, whatever the kernel has dropped. */
export const PREFETCH_KEPT_MS = 300_000;
/** Blocks that are remembered, some 150 bytes each, up to twice as many: 64 GiB of full ones. */
export const PREFETCH_BLOCKS_KEPT = 16_384;
/** Blocks that wait to be fetched. */
export const PREFETCH_WAITING_MAX = 1_024;
/** Largest number of blocks read ahead on one handle. */
export const READ_AHEAD_BLOCKS_MAX = 16;
export function blockSizeOf(catalog: Pick<CatalogService, 'current'>, pool: PoolId): number {
  const found = catalog.current().pools.find((candidate) => candidate.id === pool);
  if (found === undefined) throw new FsError('EIO', `pool ${pool} is not in the catalog`);
  return found.blockSizeBytes;
}
