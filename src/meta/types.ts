/**
 * Metadata as the rest of the program sees it: attributes, extents, mutations and queries, and the port through which
 * vfs reaches the groups. Names are bytes. Times are nanoseconds since the Unix epoch (bigint).
 */
import type { CancelSignal } from '../cancel.ts';
import type { BlockId, GroupId, Ino, PoolId, SessionId } from '../ids.ts';
import type { KeepOpen } from './keep-open.ts';
import type { HeldLock, LockRequest } from './locks.ts';

export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block';

export interface Attr {
  readonly ino: Ino;
  readonly type: FileType;
  /** Permission bits, 0..0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** Files: bytes. Symlinks: target length. Directories: number of entries. */
  readonly sizeBytes: number;
  /** Bytes of all extents (holes excluded): st_blocks * 512. */
  readonly storedBytes: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly rdev: number;
  /** Grows with every change of content or size; tells whether cached pages are still right. */
  readonly version: number;
  /** Tells apart two uses of one inode number (numbers are never reused today: always 1). */
  readonly generation: number;
  /** Pool that new blocks of this file (or of files made in this directory) go to. */
  readonly pool: PoolId;
  /** The directory that holds it (directories: `..`; others: one of them, best effort). 0 for the root. */
  readonly parent: Ino | 0;
  /** It has an access control list: the mode's group bits are the list's mask (acl.ts). */
  readonly hasAcl: boolean;
  /** Directories: it has a list for what is made in it. */
  readonly hasDefaultAcl: boolean;
  /** It has extended attributes, or lists. */
  readonly hasXattrs: boolean;
}

/** A run of file bytes. What no extent covers is a hole and reads as zeros. */
export type Extent =
  | {
      readonly kind: 'block';
      /** In the file. */
      readonly offset: number;
      readonly lengthBytes: number;
      readonly pool: PoolId;
      readonly id: BlockId;
      /** Where the run starts in the block. */
      readonly blockOffset: number;
      /** Length of the whole block. */
      readonly blockBytes: number;
    }
  | { readonly kind: 'inline'; readonly offset: number; readonly lengthBytes: number; readonly data: Uint8Array };

export interface Dirent {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly type: FileType;
}

/** Owner of things made by a call, and who asks. Supplementary groups come with issue 5. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
}

export interface SetAttr {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Truncates or extends with a hole. */
  readonly sizeBytes?: number;
  readonly atimeNs?: bigint | 'now';
  readonly mtimeNs?: bigint | 'now';
  /** Directories only: where new blocks go of what is made in it from now on. */
  readonly pool?: PoolId;
}

/**
 * What a client asks to change. The primary adds time and new inode number (see Command in meta/commands.ts), so that
 * applying is deterministic. FsError conditions are part of the result, equal on every replica.
 */
export type Mutation =
  /** make: ENOENT ENOTDIR EEXIST ENAMETOOLONG EINVAL. With exclusive false and an existing *file*: returns it (open(O_CREAT)). */
  | {
      readonly op: 'make';
      readonly parent: Ino;
      readonly name: Uint8Array;
      readonly type: FileType;
      readonly mode: number;
      /** Bits that the mode does not get where the directory has no default access control list; 0 if absent. */
      readonly umask?: number;
      readonly owner: Credentials;
      readonly rdev: number;
      readonly target?: Uint8Array;
      readonly exclusive: boolean;
    }
  /** makeNameless (O_TMPFILE): a file that the session has open, gone with that unless `link` gives it a name. ENOENT ENOTDIR. */
  | {
      readonly op: 'makeNameless';
      /** Whose pool, group (setgid) and default access control list it takes. */
      readonly parent: Ino;
      readonly mode: number;
      readonly umask?: number;
      readonly owner: Credentials;
    }
  /** accessed: it was read then. Its atime goes there if it is before that; nothing else changes. ENOENT. */
  | { readonly op: 'accessed'; readonly ino: Ino; readonly atimeNs: bigint }
  /** link: ENOENT (also a file without a name, unless this session has it open) EEXIST EPERM (directories) EMLINK */
  | { readonly op: 'link'; readonly ino: Ino; readonly parent: Ino; readonly name: Uint8Array }
  /** unlink (not directories: EISDIR). keepOpen: if this session still has it open its data stays until releaseOrphan or the session's end. */
  | { readonly op: 'unlink'; readonly parent: Ino; readonly name: Uint8Array; readonly keepOpen: KeepOpen }
  /** rmdir: ENOTDIR ENOTEMPTY */
  | { readonly op: 'rmdir'; readonly parent: Ino; readonly name: Uint8Array }
  /** rename: noReplace -> EEXIST; exchange swaps; a replaced file is treated as by unlink with keepOpen. EINVAL into itself; ENOTEMPTY EISDIR ENOTDIR. */
  | {
      readonly op: 'rename';
      readonly parent: Ino;
      readonly name: Uint8Array;
      readonly newParent: Ino;
      readonly newName: Uint8Array;
      readonly noReplace: boolean;
      readonly exchange: boolean;
      readonly keepOpen: KeepOpen;
    }
  /** setattr: EISDIR EINVAL (size of what is no file), EFBIG, ENOTDIR (pool); with `ifNamed` ENOENT for a file that has lost its names */
  | { readonly op: 'setattr'; readonly ino: Ino; readonly set: SetAttr; readonly ifNamed?: true }
  /**
   * Replaces the file's bytes in the extents' ranges (which do not overlap each other) and grows the size to at least
   * `growToBytes`. `generation`: least put-receipt generation of the blocks named, undefined without blocks; too old
   * -> StaleBlocksError. mtimeNs: when the last of these writes happened, 'now' = on arrival. `ctimeToo`: the client has told
   * its programs that time as the ctime; it is that, unless the file was changed since, or it is long ago.
   * `appendAt`: what lies from there on is appended, wherever the file ends by now; all ranges move with it.
   * `rewrites`: what lies before that offset is a copy of what the file held at that version. It is left out if the file
   * has changed since, or ends elsewhere.
   */
  | {
      readonly op: 'commit';
      readonly ino: Ino;
      readonly extents: readonly Extent[];
      readonly growToBytes: number;
      readonly generation?: number;
      readonly mtimeNs: bigint | 'now';
      readonly ctimeToo?: true;
      readonly appendAt?: number;
      readonly rewrites?: { readonly beforeOffset: number; readonly version: number };
    }
  /**
   * Replaces the range by what another file (or another part of this one) has there: `extents`, moved to this file's
   * offsets, ascending and within the range; what none covers becomes a hole. The size grows to the end of the range.
   * The client has asked for the source's extents and renewed their blocks at the nodes: `generation` is the least of
   * those receipts, undefined without blocks; too old -> StaleBlocksError. EISDIR EINVAL (nothing, overlap, outside) EFBIG.
   * See docs/decisions/0014-clone.md.
   */
  | {
      readonly op: 'clone';
      readonly ino: Ino;
      readonly offset: number;
      readonly lengthBytes: number;
      readonly extents: readonly Extent[];
      readonly generation?: number;
    }
  /**
   * Names one extent in place of those that make up its range, which say the same bytes: the content, the size and the
   * times stay. Only if the range still is what `digest` says (digestExtents of the parts in it): EAGAIN otherwise. EINVAL:
   * the range has a hole, or is longer than a block. `generation` as for a commit. See docs/decisions/0016-compaction.md.
   */
  | {
      readonly op: 'compact';
      readonly ino: Ino;
      readonly extent: Extent;
      readonly digest: Uint8Array;
      readonly generation?: number;
    }
  /** Turns a range into a hole. */
  | { readonly op: 'punch'; readonly ino: Ino; readonly offset: number; readonly lengthBytes: number }
  /**
   * setxattr: mode create -> EEXIST, replace -> ENODATA; ENOSPC. Of an access control list: the mode bits follow; EINVAL,
   * EOPNOTSUPP (version; symlinks), EACCES (default list of what is no directory), ENOSPC (too long).
   */
  | {
      readonly op: 'setxattr';
      readonly ino: Ino;
      readonly name: Uint8Array;
      readonly value: Uint8Array;
      readonly mode: 'any' | 'create' | 'replace';
      /** With an access list the setgid bit goes: the caller is not in the file's group (and not CAP_FSETID). */
      readonly killSetgid?: boolean;
    }
  /** removexattr: ENODATA. An access control list that is not there is removed without an error, as by Linux. */
  | { readonly op: 'removexattr'; readonly ino: Ino; readonly name: Uint8Array }
  /** The session's last handle of an unlinked file is closed. */
  | { readonly op: 'releaseOrphan'; readonly ino: Ino }
  /**
   * Answers for all orphans up to `upToNumber`: of those that the session did not unlink itself it has `inos` open. `ino`: any
   * number of the group's.
   */
  | { readonly op: 'keepOrphans'; readonly ino: Ino; readonly upToNumber: number; readonly inos: readonly Ino[] }
  /** A lock is granted, changed or given up, never waited for: EAGAIN if another owner's excludes it; ENOENT, ENOLCK. */
  | { readonly op: 'lock'; readonly ino: Ino; readonly lock: OwnLockRequest };

/** Of the session that asks. */
export type OwnLockRequest = Omit<LockRequest, 'session'>;

/** What a mutation yields when it succeeds. attr: of the inode made or changed, after the change. */
export interface MutationResult {
  /** make, link, setattr, commit, clone, compact, punch, unlink (of the victim if it still exists), rename (of the moved), lock (if granted). */
  readonly attr?: Attr;
  /** The affected directory, after the change; keeps the client's cache right. */
  readonly parentAttr?: Attr;
  readonly newParentAttr?: Attr;
  /** unlink, rename over: the inode that lost a name. nlink 0 and keepOpen: it is now an orphan. Exchange: the other one. */
  readonly victim?: Attr;
  /** make: false if an existing file was returned. */
  readonly created?: boolean;
}

export type Query =
  | { readonly op: 'lookup'; readonly parent: Ino; readonly name: Uint8Array }
  | { readonly op: 'getattr'; readonly ino: Ino }
  | { readonly op: 'readlink'; readonly ino: Ino }
  /** Entries after `after` (exclusive; empty = from the start) in byte order of names. `.` and `..` are not stored. */
  | {
      readonly op: 'readdir';
      readonly ino: Ino;
      readonly after: Uint8Array;
      readonly limit: number;
      readonly withAttrs: boolean;
    }
  /**
   * Names in a directory of what was made after `ino`, with attributes, in order of inode numbers, of the next `limit` names at most
   * that are in any directory. `upToIno`: there are no others up to it.
   */
  | { readonly op: 'madeNext'; readonly ino: Ino; readonly after: Ino; readonly limit: number }
  /** Extents that touch the range, clipped to whole extents, ascending, plus attr. At most `limit`; `more` tells. */
  | {
      readonly op: 'extents';
      readonly ino: Ino;
      readonly offset: number;
      readonly lengthBytes: number;
      readonly limit: number;
    }
  | { readonly op: 'getxattr'; readonly ino: Ino; readonly name: Uint8Array }
  | { readonly op: 'listxattr'; readonly ino: Ino }
  | { readonly op: 'statfs' }
  /** Every path of an inode (hard links), for reports. */
  | { readonly op: 'paths'; readonly ino: Ino }
  /** All block extents of the table, by (ino, offset) after the cursor: for garbage collection and fsck. */
  | { readonly op: 'allExtents'; readonly afterIno: number; readonly afterOffset: number; readonly limit: number }
  /**
   * Files without names that came after number `after`, of which not every session has told whether it has them open: at
   * most `limit`. `upToNumber`: there are no others up to it. `ino`: any number of the group's.
   */
  | { readonly op: 'orphans'; readonly ino: Ino; readonly after: number; readonly limit: number }
  /**
   * Which inodes and names other sessions than `session` have changed after the command `after` of the group of `ino`, of which it is
   * any number; some `limit` at a time. Without `after`: from now on. See change-feed.ts.
   */
  | {
      readonly op: 'changes';
      readonly ino: Ino;
      readonly after?: number;
      readonly session: SessionId;
      readonly limit: number;
    }
  /** Locks of the files with numbers from `ino` to `lastIno`, of at most `limit` files; `more` tells. */
  | { readonly op: 'locks'; readonly ino: Ino; readonly lastIno: number; readonly limit: number };

export interface QueryResults {
  readonly lookup: { readonly attr: Attr };
  readonly getattr: { readonly attr: Attr };
  readonly readlink: { readonly target: Uint8Array };
  readonly readdir: {
    readonly entries: readonly (Dirent & { readonly attr?: Attr })[];
    readonly more: boolean;
    /** Of the last entry, where there are more: the page after it can be asked for before this one is looked at. */
    readonly lastName?: Uint8Array;
    readonly attr: Attr;
  };
  readonly madeNext: {
    readonly entries: readonly { readonly name: Uint8Array; readonly attr: Attr }[];
    readonly upToIno: number;
  };
  readonly extents: { readonly extents: readonly Extent[]; readonly more: boolean; readonly attr: Attr };
  readonly getxattr: { readonly value: Uint8Array };
  readonly listxattr: { readonly names: readonly Uint8Array[] };
  readonly statfs: { readonly inodeCount: number; readonly storedBytes: number };
  readonly paths: { readonly paths: readonly Uint8Array[] };
  readonly allExtents: {
    readonly items: readonly { readonly ino: Ino; readonly extent: Extent & { kind: 'block' } }[];
    readonly more: boolean;
  };
  readonly orphans: { readonly inos: readonly Ino[]; readonly upToNumber: number };
  readonly locks: { readonly files: readonly LockedFile[]; readonly more: boolean };
  /** `upToSeq`: what to ask after next time. `missed`: what was changed after `after` is not known any more. */
  readonly changes: {
    readonly inos: readonly Ino[];
    readonly names: readonly { readonly parent: Ino; readonly name: Uint8Array }[];
    readonly upToSeq: number;
    readonly missed: boolean;
  };
}

export interface LockedFile {
  readonly ino: Ino;
  /** At least one. `label`: of the mount that holds it, for people. */
  readonly locks: readonly (HeldLock & { readonly label: string })[];
}

/** What came of waiting for a lock: ask for it again, wait on, or give up (EDEADLK: its holders wait for this owner). */
export type LockWait = 'free' | 'held' | 'deadlock';

export type QueryOf<Op extends Query['op']> = Extract<Query, { op: Op }>;

/** What vfs and upkeep need of the metadata layer. Retries, fail-over and exactly-once are below it. */
export interface MetaClient {
  /** Another one after it has expired. */
  readonly sessionId: SessionId;
  /** Calls back each time the session has expired: what was not committed, and unlinked open files, are lost. */
  onSessionLost?(callback: () => void): void;
  /** Nothing was heard of the servers for a lease: the session's locks may be others' by now, or are still its own. */
  readonly isSessionDoubtful?: boolean;
  /** Calls back each time that begins. */
  onSessionDoubtful?(callback: () => void): void;
  /** Asks from now on which files are open here of those that lost their last name elsewhere. The others may be destroyed. */
  onUnlinked?(answer: AnswerForOrphans): void;
  /** FsError for the file conditions; UnavailableError or TimeoutError when the deadline passes; StaleBlocksError; SessionExpiredError. */
  mutate(
    mutation: Mutation,
    /** `fenced`: not under another session than this, of whose locks it may count on (a commit never is). */
    options?: { readonly timeoutMs?: number; readonly signal?: CancelSignal; readonly fenced?: boolean },
  ): Promise<MutationResult>;
  query<Op extends Query['op']>(
    query: QueryOf<Op>,
    options?: { readonly timeoutMs?: number; readonly signal?: CancelSignal },
  ): Promise<QueryResults[Op]>;
  /**
   * Resolves when the lock, which was just refused with EAGAIN, may be had, would never be, or after a few seconds. It
   * keeps its place among those that wait if it asks again soon.
   */
  waitForLock(
    ino: Ino,
    lock: OwnLockRequest,
    options?: { readonly timeoutMs?: number; readonly signal?: CancelSignal },
  ): Promise<LockWait>;
  /** Everything acknowledged before is on disk on every in-sync member when it resolves (fsync). */
  sync(options?: { readonly timeoutMs?: number }): Promise<void>;
  close(): Promise<void>;
}

/** Calls `keep` once, with those that are open here: they are kept until releaseOrphan. Once that resolves, the group knows. */
export type AnswerForOrphans = (inos: readonly Ino[], keep: (open: readonly Ino[]) => Promise<void>) => Promise<void>;

export interface GroupStatus {
  readonly id: GroupId;
  readonly role: 'primary' | 'secondary' | 'learner' | 'none';
  readonly epoch: number;
  readonly loggedSeq: number;
  readonly committedSeq: number;
  readonly appliedSeq: number;
  /** Serving, or in words why not. */
  readonly serving: boolean;
  readonly detail: string;
}
