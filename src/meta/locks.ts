/**
 * Advisory locks of a file, as fcntl(2) and flock(2) have them: who holds which range, what a request would have to wait
 * for, and what is held after it. Pure; a file's locks are one row of the table (decisions/0013), so that they are
 * replicated, survive a fail-over, and end with their session.
 *
 * The two kinds do not see each other, as on local Linux filesystems. Ranges are of bytes, both ends included.
 */
import type { SessionId } from '../ids.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readSessionId, writeSessionId } from './codec.ts';

/** posix: fcntl's, owned by a process. flock: of the whole file, owned by an open file description. */
export type LockKind = 'posix' | 'flock';

/** An end of this value means "to the end of the file, wherever that will be". */
export const LOCK_END_MAX = Number.MAX_SAFE_INTEGER;
/** Locks (apart ranges of one owner count each) that one file may have; beyond it ENOLCK. Each change writes the row anew. */
export const LOCKS_PER_FILE_MAX_COUNT = 4096;

/** Who holds or wants a lock: a process (or open file) of one mount. */
export interface LockOwner {
  readonly session: SessionId;
  /** The kernel's number for the process or open file, 64 bits, unique in the session. */
  readonly owner: bigint;
}

export interface LockRange {
  /** First byte. */
  readonly start: number;
  /** Last byte; {@link LOCK_END_MAX} for all that may follow. */
  readonly end: number;
}

export interface HeldLock extends LockOwner, LockRange {
  readonly kind: LockKind;
  readonly type: 'read' | 'write';
  /** Process that asked for it, on the mount's machine: for people. */
  readonly pid: number;
}

export interface LockRequest extends LockOwner, LockRange {
  readonly kind: LockKind;
  readonly type: 'read' | 'write' | 'unlock';
  readonly pid: number;
}

export function isSameOwner(a: LockOwner, b: LockOwner): boolean {
  return a.owner === b.owner && a.session === b.session;
}

/** Whether the two cannot be held at once. */
export function excludes(
  held: Pick<HeldLock, keyof LockRange | keyof LockOwner | 'kind' | 'type'>,
  wanted: LockRequest,
): boolean {
  return (
    wanted.type !== 'unlock' &&
    held.kind === wanted.kind &&
    (held.type === 'write' || wanted.type === 'write') &&
    held.start <= wanted.end &&
    wanted.start <= held.end &&
    !isSameOwner(held, wanted)
  );
}

/** What the request has to wait for: the first one in the order of the row. */
export function conflictOf(held: readonly HeldLock[], wanted: LockRequest): HeldLock | undefined {
  return held.find((lock) => excludes(lock, wanted));
}

/**
 * What is held once the request is granted (nothing excludes it, the caller has looked). The owner's own locks in the
 * range are replaced, cut or split; its neighbours of the same type are joined. In the order of the row.
 */
export function withRequest(held: readonly HeldLock[], request: LockRequest): HeldLock[] {
  const { kind, session, owner, pid, type } = request;
  let { start, end } = request;
  const after: HeldLock[] = [];
  for (const lock of held) {
    if (lock.kind !== kind || !isSameOwner(lock, request)) {
      after.push(lock);
      continue;
    }
    if (lock.type === type && lock.start <= end + 1 && start <= lock.end + 1) {
      start = Math.min(start, lock.start);
      end = Math.max(end, lock.end);
      continue;
    }
    if (lock.end < start || end < lock.start) {
      after.push(lock);
      continue;
    }
    if (lock.start < start) after.push({ ...lock, end: start - 1 });
    if (lock.end > end) after.push({ ...lock, start: end + 1 });
  }
  if (type !== 'unlock') after.push({ kind, type, session, owner, pid, start, end });
  return after.sort(byRow);
}

/** Without those of a session that has ended. */
export function withoutSession(held: readonly HeldLock[], session: SessionId): HeldLock[] {
  return held.filter((lock) => lock.session !== session);
}

/** One order for all replicas, whose rows must be equal. No two locks of a row are equal in it. */
function byRow(a: HeldLock, b: HeldLock): number {
  if (a.kind !== b.kind) return a.kind === 'posix' ? -1 : 1;
  if (a.start !== b.start) return a.start - b.start;
  if (a.session !== b.session) return a.session < b.session ? -1 : 1;
  return a.owner < b.owner ? -1 : a.owner > b.owner ? 1 : 0;
}

// As bytes

const ROW_VERSION = 1;
const KINDS = ['posix', 'flock'] as const;
const TYPES = ['read', 'write', 'unlock'] as const;
const writer = new ByteWriter();

export function writeLockRequest(
  w: ByteWriter,
  { kind, type, owner, pid, start, end }: Omit<LockRequest, 'session'>,
): void {
  w.u8(KINDS.indexOf(kind)).u8(TYPES.indexOf(type)).i64(BigInt.asIntN(64, owner)).u32(pid).u53(start).u53(end);
}

/** FormatError also for a range that ends before it begins. */
export function readLockRequest(r: ByteReader): Omit<LockRequest, 'session'> {
  const kind = KINDS[r.u8()] ?? r.fail('a lock is of an unknown kind');
  const type = TYPES[r.u8()] ?? r.fail('a lock is of an unknown type');
  const owner = BigInt.asUintN(64, r.i64());
  const pid = r.u32();
  const start = r.u53();
  const end = r.u53();
  if (end < start) r.fail('a lock ends before it begins');
  return { kind, type, owner, pid, start, end };
}

export function writeHeldLock(w: ByteWriter, lock: HeldLock): void {
  writeSessionId(w, lock.session);
  writeLockRequest(w, lock);
}

export function readHeldLock(r: ByteReader): HeldLock {
  const session = readSessionId(r);
  const { type, ...rest } = readLockRequest(r);
  return type === 'unlock' ? r.fail('a lock that is held is of no type') : { session, type, ...rest };
}

/** Value of a file's `k` row. */
export function encodeLocks(held: readonly HeldLock[]): Uint8Array {
  writer.reset().u8(ROW_VERSION).u16(held.length);
  for (const lock of held) writeHeldLock(writer, lock);
  return writer.finish();
}

/** Throws FormatError. */
export function decodeLocks(bytes: Uint8Array): HeldLock[] {
  const r = new ByteReader(bytes, "a file's locks in the table");
  r.version(ROW_VERSION);
  const held = Array.from({ length: r.u16() }, () => readHeldLock(r));
  r.end();
  return held;
}
