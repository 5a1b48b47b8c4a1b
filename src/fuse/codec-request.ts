/**
 * Decoding of what the kernel asks. Hot requests (lookup, getattr, read, write) are read field by field by the
 * session through the accessors here; the others become small objects. Nothing is kept of the buffer: names and
 * values are copied, since it is filled again as soon as the request has been dispatched.
 */
import { FsError } from '../errors.ts';
import type { SetAttr } from '../meta/types.ts';
import { LOCK_END_MAX } from '../vfs/ops.ts';
import type { FileLock, Handle, LockOwner } from '../vfs/ops.ts';
import { IN_HEADER_BYTES, LOCK_FLOCK, LOCK_TYPES, SetattrValid } from './protocol.ts';
import { getTime, getU64 } from './wire.ts';

/** One request's bytes: the same memory seen two ways, and how much of it is filled. */
export interface RequestBytes {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly length: number;
}

const BODY = IN_HEADER_BYTES;

/** Copies the NUL-terminated string at `start`. EINVAL if it does not end within the request. */
export function stringAt(request: RequestBytes, start: number): Buffer {
  const end = request.bytes.indexOf(0, start);
  if (end < 0 || end >= request.length) throw new FsError('EINVAL', 'string without end in a kernel request');
  const copy = Buffer.allocUnsafe(end - start);
  request.bytes.copy(copy, 0, start, end);
  return copy;
}

/** Two strings, one after the other. */
export function stringsAt(request: RequestBytes, start: number): readonly [Buffer, Buffer] {
  const first = stringAt(request, start);
  return [first, stringAt(request, start + first.length + 1)];
}

/** Refuses a request that is shorter than its fixed part. */
export function expectBody(request: RequestBytes, bodyBytes: number): void {
  if (request.length < BODY + bodyBytes) throw new FsError('EINVAL', 'kernel request too short');
}

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadAheadBytes: number;
  readonly flags: number;
  readonly flags2: number;
}

export function decodeInit(request: RequestBytes): InitRequest {
  expectBody(request, 8);
  const { view, length } = request;
  return {
    major: view.getUint32(BODY, true),
    minor: view.getUint32(BODY + 4, true),
    maxReadAheadBytes: length >= BODY + 12 ? view.getUint32(BODY + 8, true) : 0,
    flags: length >= BODY + 16 ? view.getUint32(BODY + 12, true) : 0,
    flags2: length >= BODY + 20 ? view.getUint32(BODY + 16, true) : 0,
  };
}

export interface SetattrRequest {
  readonly set: SetAttr;
  readonly handle: number | undefined;
}

export function decodeSetattr(request: RequestBytes): SetattrRequest {
  expectBody(request, 88);
  const { view } = request;
  const valid = view.getUint32(BODY, true);
  const set: { -readonly [K in keyof SetAttr]: SetAttr[K] } = {};
  if (valid & SetattrValid.MODE) set.mode = view.getUint32(BODY + 68, true) & 0o7777;
  if (valid & SetattrValid.UID) set.uid = view.getUint32(BODY + 76, true);
  if (valid & SetattrValid.GID) set.gid = view.getUint32(BODY + 80, true);
  if (valid & SetattrValid.SIZE) set.sizeBytes = fileSize(getU64(view, BODY + 16));
  if (valid & SetattrValid.ATIME)
    set.atimeNs = valid & SetattrValid.ATIME_NOW ? 'now' : getTime(view, BODY + 32, BODY + 56);
  if (valid & SetattrValid.MTIME)
    set.mtimeNs = valid & SetattrValid.MTIME_NOW ? 'now' : getTime(view, BODY + 40, BODY + 60);
  return { set, handle: valid & SetattrValid.FH ? getU64(view, BODY + 8) : undefined };
}

function fileSize(size: number): number {
  if (size > Number.MAX_SAFE_INTEGER) throw new FsError('EFBIG', 'files end below 2^53 bytes');
  return size;
}

export interface MknodRequest {
  /** With the file type bits, and as in all requests that make something, before the umask. */
  readonly mode: number;
  readonly umask: number;
  readonly rdev: number;
  readonly name: Buffer;
}

export function decodeMknod(request: RequestBytes): MknodRequest {
  expectBody(request, 16);
  return {
    mode: request.view.getUint32(BODY, true),
    rdev: request.view.getUint32(BODY + 4, true),
    umask: umaskAt(request, BODY + 8),
    name: stringAt(request, BODY + 16),
  };
}

function umaskAt(request: RequestBytes, at: number): number {
  return request.view.getUint32(at, true) & 0o777;
}

export interface NamedRequest {
  readonly flags: number;
  readonly mode: number;
  readonly umask: number;
  readonly name: Buffer;
}

export function decodeMkdir(request: RequestBytes): NamedRequest {
  expectBody(request, 8);
  return {
    flags: 0,
    mode: request.view.getUint32(BODY, true),
    umask: umaskAt(request, BODY + 4),
    name: stringAt(request, BODY + 8),
  };
}

export function decodeCreate(request: RequestBytes): NamedRequest {
  expectBody(request, 16);
  return {
    flags: request.view.getUint32(BODY, true),
    mode: request.view.getUint32(BODY + 4, true),
    umask: umaskAt(request, BODY + 8),
    name: stringAt(request, BODY + 16),
  };
}

export interface RenameRequest {
  readonly newParent: number;
  readonly flags: number;
  readonly name: Buffer;
  readonly newName: Buffer;
}

/** RENAME (8 byte fixed part) and, with `second`, RENAME2 (16 bytes, with flags). */
export function decodeRename(request: RequestBytes, second: boolean): RenameRequest {
  const fixed = second ? 16 : 8;
  expectBody(request, fixed);
  const [name, newName] = stringsAt(request, BODY + fixed);
  return {
    newParent: getU64(request.view, BODY),
    flags: second ? request.view.getUint32(BODY + 8, true) : 0,
    name,
    newName,
  };
}

export interface SetxattrRequest {
  readonly name: Buffer;
  readonly value: Buffer;
  readonly flags: number;
  /** Undefined in the short form. */
  readonly moreFlags: number | undefined;
}

/** 8 bytes before the name, or `extended` (FUSE_SETXATTR_EXT was agreed on) 16. */
export function decodeSetxattr(request: RequestBytes, extended: boolean): SetxattrRequest {
  const fixed = extended ? 16 : 8;
  expectBody(request, fixed);
  const size = request.view.getUint32(BODY, true);
  const name = stringAt(request, BODY + fixed);
  const start = BODY + fixed + name.length + 1;
  if (start + size > request.length) throw new FsError('EINVAL', 'kernel request too short');
  return {
    name,
    value: Buffer.from(request.bytes.subarray(start, start + size)),
    flags: request.view.getUint32(BODY + 4, true),
    moreFlags: extended ? request.view.getUint32(BODY + 8, true) : undefined,
  };
}

export interface FallocateRequest {
  readonly handle: number;
  readonly offset: number;
  readonly length: number;
  readonly mode: number;
}

export function decodeFallocate(request: RequestBytes): FallocateRequest {
  expectBody(request, 32);
  const { view } = request;
  const offset = getU64(view, BODY + 8);
  const length = getU64(view, BODY + 16);
  fileSize(offset + length);
  return { handle: getU64(view, BODY), offset, length, mode: view.getUint32(BODY + 24, true) };
}

export interface LseekRequest {
  readonly handle: number;
  readonly offset: number;
  readonly whence: number;
}

export function decodeLseek(request: RequestBytes): LseekRequest {
  expectBody(request, 24);
  const { view } = request;
  return { handle: getU64(view, BODY), offset: getU64(view, BODY + 8), whence: view.getUint32(BODY + 16, true) };
}

export interface CopyFileRangeRequest {
  readonly handleIn: number;
  readonly offsetIn: number;
  readonly inoOut: number;
  readonly handleOut: number;
  readonly offsetOut: number;
  readonly length: number;
  /** None are known. */
  readonly flags: number;
}

export function decodeCopyFileRange(request: RequestBytes): CopyFileRangeRequest {
  expectBody(request, 56);
  const { view } = request;
  return {
    handleIn: getU64(view, BODY),
    offsetIn: getU64(view, BODY + 8),
    inoOut: getU64(view, BODY + 16),
    handleOut: getU64(view, BODY + 24),
    offsetOut: getU64(view, BODY + 32),
    length: getU64(view, BODY + 40),
    // Of 64 bits.
    flags: getU64(view, BODY + 48),
  };
}

export interface LockRequest {
  readonly handle: Handle;
  readonly owner: LockOwner;
  readonly lock: FileLock;
}

/** GETLK, SETLK, SETLKW. Ends beyond what a file can have mean "to the end of the file". */
export function decodeLock(request: RequestBytes): LockRequest {
  expectBody(request, 48);
  const { view } = request;
  const type = LOCK_TYPES[view.getUint32(BODY + 32, true)];
  if (type === undefined) throw new FsError('EINVAL', 'unknown type of lock');
  const start = Math.min(getU64(view, BODY + 16), LOCK_END_MAX);
  return {
    handle: getU64(view, BODY),
    owner: {
      kind: (view.getUint32(BODY + 40, true) & LOCK_FLOCK) === 0 ? 'posix' : 'flock',
      owner: view.getBigUint64(BODY + 8, true),
    },
    lock: {
      type,
      start,
      end: Math.max(start, Math.min(getU64(view, BODY + 24), LOCK_END_MAX)),
      pid: view.getUint32(BODY + 36, true),
    },
  };
}

/** Calls `each` for every (inode, count) of a BATCH_FORGET; stops at the end of the request whatever its count says. */
export function decodeBatchForget(request: RequestBytes, each: (ino: number, count: number) => void): void {
  expectBody(request, 8);
  const { view, length } = request;
  const count = view.getUint32(BODY, true);
  for (let i = 0, at = BODY + 8; i < count && at + 16 <= length; i++, at += 16)
    each(getU64(view, at), getU64(view, at + 8));
}
