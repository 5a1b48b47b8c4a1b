/**
 * Every bound of the program: its name with the unit last, its value and the reason for it. Relations between
 * bounds are asserted when this module loads.
 */
import { invariant } from './errors.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;

// Blocks

/** Unit of verification: a range read fetches whole pages. 64 KiB keeps the page list of a 4 MiB block at 2 KiB. */
export const PAGE_BYTES = 64 * KiB;
/** Largest block: large enough that a disk streams, small enough that a few in flight fit in memory. */
export const BLOCK_MAX_BYTES = 4 * MiB;
/** Up to this size a whole file (or extent) stays inline in the metadata: below it a block's round trips cost more than its bytes. */
export const INLINE_MAX_BYTES = 16 * KiB;
/** A pack is rewritten as a unit and found by 32-bit offsets; 256 MiB rewrites in about a second. */
export const PACK_MAX_BYTES = 256 * MiB;
/** Kept back on each node for its logs and for deletes: max of this and DISK_RESERVE_FRACTION. */
export const DISK_RESERVE_BYTES = 256 * MiB;
export const DISK_RESERVE_FRACTION = 0.02;
/** Nodes fuller than this are skipped by placement. */
export const NODE_FULL_FRACTION = 0.95;
/** Default number of placement groups of a pool: 50-100 a node on small clusters. */
export const DEFAULT_PG_COUNT = 128;
/** Placement groups of a pool, at most. */
export const PG_MAX_COUNT = 65_536;
/** Copies of a block, at most. */
export const COPIES_MAX_COUNT = 16;
/**
 * Copies that the lists of all pools may name together (placement groups times copies): after a split nearly every list is an
 * exception that the catalog spells out, some 10 bytes a copy, and each process reads the whole catalog at each of its epochs.
 */
export const LISTED_COPIES_MAX_COUNT = 65_536;
/**
 * Placement groups, and these times nodes, to which a pool may be set: a voter levels it within the change and answers nobody
 * meanwhile, less than half a second (a lease is one); it takes the square of the one, and in proportion to the other.
 */
export const LEVEL_PG_MAX_COUNT = 4_096;
export const LEVEL_WORK_MAX_COUNT = 131_072;

// Names and attributes

/** POSIX NAME_MAX, in bytes. */
export const NAME_MAX_BYTES = 255;
/** POSIX PATH_MAX less the terminator: longest symlink target. */
export const SYMLINK_MAX_BYTES = 4095;
/** Linux XATTR_SIZE_MAX. */
export const XATTR_VALUE_MAX_BYTES = 64 * KiB;
/** Linux XATTR_NAME_MAX. */
export const XATTR_NAME_MAX_BYTES = 255;
/** Largest file: 2^53-1 is the largest exact integer of the language. */
export const FILE_MAX_BYTES = Number.MAX_SAFE_INTEGER;

// Wire

/** Piece in which a payload travels, so that a large one does not block its connection for the small ones. */
export const PAYLOAD_CHUNK_BYTES = 256 * KiB;
/** Largest msgpack header of a frame; inline data and listings travel in it. */
export const FRAME_HEADER_MAX_BYTES = 4 * MiB;
/** Largest payload of one message: one block and its page list fit with room. */
export const PAYLOAD_MAX_BYTES = 8 * MiB;
/** Requests one connection may have open at a peer before it gets `ERR_OVERLOADED`. */
export const REQUESTS_PER_CONNECTION_MAX = 1024;
/** Largest UDP discovery packet: fits an Ethernet frame unfragmented. */
export const DATAGRAM_MAX_BYTES = 1400;

// Time

/** Deadline of one operation of a client (a read, a write, a rename, an fsync, ...), unless it is given another. */
export const OP_TIMEOUT_MS = 30_000;
/** A fail-over takes two to three seconds; with a shorter deadline than this programs would see every one. */
export const OP_TIMEOUT_MIN_MS = 1_000;
export const OP_TIMEOUT_MAX_MS = 30 * 60_000;
/** One step of an operation has this much of its time, so that the reason why it failed gets to the caller before the end. */
export const STEP_FRACTION = 0.95;
/** Deadline of a metadata call, all retries included. */
export const META_TIMEOUT_MS = 30_000;
/** Deadline of a block's transfer, all retries included. */
export const DATA_TIMEOUT_MS = 30_000;
/** One attempt at one peer: after this another peer is tried. */
export const ATTEMPT_TIMEOUT_MS = 5_000;
export const CONNECT_TIMEOUT_MS = 2_000;
export const HANDSHAKE_TIMEOUT_MS = 3_000;
/** An idle connection is pinged this often; a peer that talks needs no ping. */
export const PING_INTERVAL_MS = 1_000;
/** A peer silent for this long is considered down (a hint only). */
export const PEER_DOWN_AFTER_MS = 4_000;
/** Default lifetime of names and attributes cached by the kernel. */
export const ATTR_TIMEOUT_MS = 1_000;
/** The same, while the servers tell what other clients change. A mount that is cut off shows what it has for so long at most. */
export const WATCHED_MS = 60_000;
/** A client's session ends when it has not been heard of for this long; or for two deadlines, if that is longer. */
export const SESSION_LEASE_MS = 60_000;
/** Longest lease that a session may have. */
export const SESSION_LEASE_MAX_MS = 3_600_000;
/** Small pieces of a file are put together when nobody has written there for so long: by then a burst of writes is over. */
export const COMPACT_AFTER_MS = 10_000;

// Memory of a mount

/** Dirty data of one mount; writers wait beyond it. */
export const DIRTY_MAX_BYTES = 64 * MiB;
/** Verified block data cached by one mount, read-ahead included. */
export const READ_CACHE_BYTES = 128 * MiB;
/** So much of it is used until more of it would have served a read (vfs/cache-goal.ts). */
export const READ_CACHE_FIRST_BYTES = 32 * MiB;
/** Likewise of pages of blocks, which are read at random. */
export const READ_CACHE_PAGES_FIRST_BYTES = 4 * MiB;
/** Given to the kernel of files that are read at random (vfs/prefetch.ts), unless a mount is told otherwise. */
export const PREFETCH_BYTES = 1024 * MiB;

invariant(BLOCK_MAX_BYTES % PAGE_BYTES === 0, 'limits', 'a block is a whole number of pages');
invariant(
  BLOCK_MAX_BYTES + (BLOCK_MAX_BYTES / PAGE_BYTES) * 32 <= PAYLOAD_MAX_BYTES,
  'limits',
  'a block with its page list fits a payload',
);
invariant(BLOCK_MAX_BYTES * 4 <= DIRTY_MAX_BYTES, 'limits', 'at least four blocks can be written at once');
invariant(BLOCK_MAX_BYTES * 4 <= READ_CACHE_FIRST_BYTES, 'limits', 'at least four blocks can be read at once');
invariant(OP_TIMEOUT_MS * 2 <= SESSION_LEASE_MS, 'limits', 'a session outlives what is tried in it');
invariant(OP_TIMEOUT_MAX_MS * 2 <= SESSION_LEASE_MAX_MS, 'limits', 'a session outlives what is tried in it');
invariant(PING_INTERVAL_MS * 2 < PEER_DOWN_AFTER_MS, 'limits', 'one lost ping does not make a peer look down');
invariant(INLINE_MAX_BYTES * 64 <= FRAME_HEADER_MAX_BYTES, 'limits', 'a batch of inline files fits a frame');
