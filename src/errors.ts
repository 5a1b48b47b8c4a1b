/**
 * Every error that crosses a module's border. One class per condition a caller can react to, each with a stable
 * `code` that users can search for and that survives the wire (see net/wire-errors.ts). `remedy` says what to do next.
 *
 * Programmers' errors throw StateError or InvariantError and are not meant to be caught; all others are operating
 * conditions and must be handled.
 */

/** What an error carries besides code and message. */
export interface ErrorDetails {
  /** What the person who sees this can do about it; a whole sentence. */
  readonly remedy?: string;
  /** What led to it, as in `Error`. */
  readonly cause?: unknown;
  /** Extra facts for the program that catches it; must be msgpack-able. */
  readonly info?: Readonly<Record<string, unknown>>;
}

/**
 * What every part of tatamifs throws. Subclasses say which condition it is; so does `code`, also where the class was lost
 * (in another copy of the package, over a wire, in a log). Calls of a FileSystem throw `NodeFsError`s instead, for the
 * sake of programs written for `node:fs`, with one of these as `cause`.
 */
export class TatamiError extends Error {
  /** Stable name of the condition: `ERR_UNAVAILABLE`, or an errno's name. */
  readonly code: string;
  /** What the person who sees this can do about it, a whole sentence; if there is something to say. */
  readonly remedy: string | undefined;
  /** Facts for the program that catches it; each class says which. */
  readonly info: Readonly<Record<string, unknown>> | undefined;

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = code;
    this.remedy = details.remedy;
    this.info = details.info;
  }
}

/** The caller broke a module's contract: a bug in this program. */
export class StateError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_STATE', message, details);
  }
}

/** A safety rule would be broken if we went on. The process must stop rather than continue. */
export class InvariantError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_INVARIANT', message, details);
  }
}

/** Asserts a safety rule or a data-structure invariant; `rule` names it, for example `R3`. */
export function invariant(condition: boolean, rule: string, message: string): asserts condition {
  if (!condition) throw new InvariantError(`${rule}: ${message}`);
}

/** Input of a user or a configuration file that cannot be used. */
export class UsageError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_USAGE', message, details);
  }
}

/** The file operations' errno conditions. `code` is the errno's name (`ENOENT`), as in `node:fs`. */
export class FsError extends TatamiError {
  constructor(errno: Errno, message: string = errno, details?: ErrorDetails) {
    super(errno, message, details);
  }
  /**
   * One that another process has answered with: without a stack, which would only tell who passes it on, and costs more than
   * the answer.
   *
   * @internal
   */
  static answered(errno: Errno, message?: string, details?: ErrorDetails): FsError {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    try {
      return new FsError(errno, message, details);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
  }
  /** The errno's name: the same as `code`, typed. */
  get errno(): Errno {
    return this.code as Errno;
  }
}

/** The block is on no node that could be asked (it may be on one that is down). */
export class BlockNotFoundError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_BLOCK_NOT_FOUND', message, details);
  }
}

/** Bytes do not match the hash or checksum that names them. */
export class CorruptionError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_CORRUPT', message, details);
  }
}

/** A file or message of a format newer than this program, or not of ours at all. */
export class FormatError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_FORMAT', message, details);
  }
}

/** A block or message larger than its bound. */
export class TooLargeError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TOO_LARGE', message, details);
  }
}

/** The disk (or too many of the nodes' disks) is full, its reserve excepted. */
export class NoSpaceError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_NO_SPACE', message, details);
  }
}

/** No connection to the peer could be had, or it broke before the reply. The request may or may not have been done. */
export class PeerUnreachableError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_PEER_UNREACHABLE', message, details);
  }
}

/** The deadline passed first. The request may or may not have been done. */
export class TimeoutError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_TIMEOUT', message, details);
  }
}

/** The caller gave up (its AbortSignal fired). */
export class CancelledError extends TatamiError {
  constructor(message = 'cancelled', details?: ErrorDetails) {
    super('ERR_CANCELLED', message, details);
  }
}

/** The receiver's queue is full; try again, later or elsewhere. */
export class OverloadedError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_OVERLOADED', message, details);
  }
}

/** Wrong cluster key, wrong cluster, replayed or malformed handshake. */
export class AuthError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_AUTH', message, details);
  }
}

/** The peer's or our catalog is too old for this request; `info.epoch` is the newer one. Refresh and retry. */
export class StaleEpochError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_STALE_EPOCH', message, details);
  }
}

/** This node is not the group's activated primary; `info.primary` names the one it believes in, if any. */
export class NotPrimaryError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_NOT_PRIMARY', message, details);
  }
}

/** The group (or pool) cannot serve now: too few members. It may come back. */
export class UnavailableError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_UNAVAILABLE', message, details);
  }
}

/** The session is unknown or expired. */
export class SessionExpiredError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_SESSION_EXPIRED', message, details);
  }
}

/** A commit names blocks that were put before the last garbage collection began; put them again, then commit again. */
export class StaleBlocksError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_STALE_BLOCKS', message, details);
  }
}

/** A compare-and-set on the catalog lost against another change. */
export class ConflictError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_CONFLICT', message, details);
  }
}

/** This node, or the name, was taken out of the cluster for good; `info.epoch` is the catalog that says so. */
export class RemovedError extends TatamiError {
  constructor(message: string, details?: ErrorDetails) {
    super('ERR_REMOVED', message, details);
  }
}

/** errno names that our operations return; numbers are in fuse/errno.ts. */
export type Errno =
  | 'EPERM'
  | 'ENOENT'
  | 'EINTR'
  | 'EIO'
  | 'ENXIO'
  | 'EBADF'
  | 'EAGAIN'
  | 'ENOMEM'
  | 'EACCES'
  | 'EBUSY'
  | 'EEXIST'
  | 'EXDEV'
  | 'ENODEV'
  | 'ENOTDIR'
  | 'EISDIR'
  | 'EINVAL'
  | 'ENOTTY'
  | 'EFBIG'
  | 'ENOSPC'
  | 'EROFS'
  | 'EMLINK'
  | 'ERANGE'
  | 'EDEADLK'
  | 'ENAMETOOLONG'
  | 'ENOLCK'
  | 'ENOSYS'
  | 'ENOTEMPTY'
  | 'ELOOP'
  | 'ENODATA'
  | 'EOVERFLOW'
  | 'EOPNOTSUPP'
  | 'ETIMEDOUT'
  | 'ESTALE'
  | 'EDQUOT'
  | 'EPROTO';
