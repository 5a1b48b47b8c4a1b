/**
 * Mutations as bytes: op number, then fields in a fixed order. Clients send them so; what is read is well-formed
 * (types, lengths, ranges of numbers). Whether it is *allowed* (names, overlaps, limits) is decided where it is applied,
 * so that the refusal is the same on every replica.
 */
import { StateError } from '../errors.ts';
import type { Ino, PoolId } from '../ids.ts';
import { PERMISSION_BITS } from './acl.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readExtent, readFileType, writeExtent, writeFileType } from './codec.ts';
import { EXTENT_DIGEST_BYTES } from './extent-digest.ts';
import { readLockRequest, writeLockRequest } from './locks.ts';
import { MODE_MASK } from './make.ts';
import type { KeepOpen } from './keep-open.ts';
import type { Extent, Mutation, SetAttr } from './types.ts';

/** Index = number on the wire; only grows. */
const OPS = [
  'make',
  'link',
  'unlink',
  'rmdir',
  'rename',
  'setattr',
  'commit',
  'punch',
  'setxattr',
  'removexattr',
  'releaseOrphan',
  'lock',
  'keepOrphans',
  'makeNameless',
  'clone',
  'compact',
  'accessed',
] as const satisfies readonly Mutation['op'][];
const OP_NUMBERS = new Map<Mutation['op'], number>(OPS.map((op, number) => [op, number]));
const XATTR_MODES = ['any', 'create', 'replace'] as const;
/** Beside the mode. */
const XATTR_KILL_SETGID = 4;
/** What of a `make` is present; programs before access control lists refuse the second. */
const MAKE_TARGET = 1;
const MAKE_UMASK = 2;
/** Beside 0 and 1: an inode follows, and all others are kept. */
const KEEP_UNLESS = 2;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const COMMIT_GENERATION = 1;
const COMMIT_APPEND = 2;
const COMMIT_REWRITES = 4;
const COMMIT_CTIME_TOO = 8;
const COMMIT_ALL = 15;

const writer = new ByteWriter();

/** Throws StateError or RangeError when a number is out of its range: a bug of the caller. */
export function encodeMutation(mutation: Mutation): Uint8Array {
  writeMutation(writer.reset(), mutation);
  return writer.finish();
}

/** Throws FormatError for what is not a whole, well-formed mutation. Byte fields are views of `bytes`. */
export function decodeMutation(bytes: Uint8Array): Mutation {
  const r = new ByteReader(bytes, 'a mutation');
  const mutation = readMutation(r);
  r.end();
  return mutation;
}

function flag(w: ByteWriter, value: boolean): ByteWriter {
  return w.u8(value ? 1 : 0);
}

function writeKeepOpen(w: ByteWriter, keepOpen: KeepOpen): void {
  if (typeof keepOpen === 'boolean') flag(w, keepOpen);
  else w.u8(KEEP_UNLESS).u53(keepOpen.unless);
}

function readKeepOpen(r: ByteReader): KeepOpen {
  const kind = r.u8();
  if (kind === KEEP_UNLESS) return { unless: readIno(r) };
  if (kind > 1) r.fail('what to keep open is of no known kind');
  return kind === 1;
}

/** A time, or 'now'. */
function time(w: ByteWriter, value: bigint | 'now'): ByteWriter {
  return value === 'now' ? w.u8(1) : w.u8(0).i64(value);
}

function readTime(r: ByteReader): bigint | 'now' {
  return r.flag() ? 'now' : r.i64();
}

/** The least receipt's generation, if there is one, and the extents. */
function writeExtents(w: ByteWriter, extents: readonly Extent[]): void {
  w.u32(extents.length);
  for (const extent of extents) writeExtent(w, extent);
}

function readGeneration(r: ByteReader): number | undefined {
  return r.flag() ? r.u53() : undefined;
}

/** Each extent takes bytes of its own, so a false count ends in FormatError before it costs memory. */
function readExtents(r: ByteReader): Extent[] {
  const extents: Extent[] = [];
  for (let left = r.u32(); left > 0; left--) extents.push(readExtent(r));
  return extents;
}

export function writeMutation(w: ByteWriter, m: Mutation): void {
  w.u8(OP_NUMBERS.get(m.op)!);
  switch (m.op) {
    case 'make':
      w.u53(m.parent).bytes16(m.name);
      writeFileType(w, m.type);
      w.u16(m.mode & MODE_MASK)
        .u32(m.owner.uid)
        .u32(m.owner.gid)
        .u32(m.rdev);
      flag(w, m.exclusive);
      w.u8((m.target === undefined ? 0 : MAKE_TARGET) | (m.umask === undefined ? 0 : MAKE_UMASK));
      if (m.target !== undefined) w.bytes16(m.target);
      if (m.umask !== undefined) w.u16(m.umask & PERMISSION_BITS);
      break;
    case 'accessed':
      w.u53(m.ino).i64(m.atimeNs);
      break;
    case 'makeNameless':
      w.u53(m.parent)
        .u16(m.mode & MODE_MASK)
        .u16((m.umask ?? 0) & PERMISSION_BITS)
        .u32(m.owner.uid)
        .u32(m.owner.gid);
      break;
    case 'link':
      w.u53(m.ino).u53(m.parent).bytes16(m.name);
      break;
    case 'unlink':
      writeKeepOpen(w.u53(m.parent).bytes16(m.name), m.keepOpen);
      break;
    case 'rmdir':
      w.u53(m.parent).bytes16(m.name);
      break;
    case 'rename':
      w.u53(m.parent).bytes16(m.name).u53(m.newParent).bytes16(m.newName);
      writeKeepOpen(flag(flag(w, m.noReplace), m.exchange), m.keepOpen);
      break;
    case 'setattr':
      w.u53(m.ino);
      writeSetAttr(w, m.set, m.ifNamed === true);
      break;
    case 'commit':
      w.u53(m.ino).u53(m.growToBytes);
      time(w, m.mtimeNs);
      w.u8(
        (m.generation === undefined ? 0 : COMMIT_GENERATION) |
          (m.appendAt === undefined ? 0 : COMMIT_APPEND) |
          (m.rewrites === undefined ? 0 : COMMIT_REWRITES) |
          (m.ctimeToo === undefined ? 0 : COMMIT_CTIME_TOO),
      );
      if (m.generation !== undefined) w.u53(m.generation);
      if (m.appendAt !== undefined) w.u53(m.appendAt);
      if (m.rewrites !== undefined) w.u53(m.rewrites.beforeOffset).u53(m.rewrites.version);
      writeExtents(w, m.extents);
      break;
    case 'clone':
      flag(w.u53(m.ino).u53(m.offset).u53(m.lengthBytes), m.generation !== undefined);
      if (m.generation !== undefined) w.u53(m.generation);
      writeExtents(w, m.extents);
      break;
    case 'compact':
      flag(w.u53(m.ino), m.generation !== undefined);
      if (m.generation !== undefined) w.u53(m.generation);
      if (m.digest.length !== EXTENT_DIGEST_BYTES) throw new StateError('a digest of extents of a wrong length');
      writeExtent(w.raw(m.digest), m.extent);
      break;
    case 'punch':
      w.u53(m.ino).u53(m.offset).u53(m.lengthBytes);
      break;
    case 'setxattr':
      w.u53(m.ino).bytes16(m.name).bytes32(m.value);
      w.u8(XATTR_MODES.indexOf(m.mode) | (m.killSetgid === true ? XATTR_KILL_SETGID : 0));
      break;
    case 'removexattr':
      w.u53(m.ino).bytes16(m.name);
      break;
    case 'releaseOrphan':
      w.u53(m.ino);
      break;
    case 'keepOrphans':
      w.u53(m.ino).u53(m.upToNumber).u32(m.inos.length);
      for (const ino of m.inos) w.u53(ino);
      break;
    case 'lock':
      writeLockRequest(w.u53(m.ino), m.lock);
      break;
  }
}

export function readMutation(r: ByteReader): Mutation {
  const op = OPS[r.u8()] ?? r.fail('it is of an unknown kind');
  switch (op) {
    case 'make': {
      const parent = readIno(r);
      const name = r.bytes16();
      const type = readFileType(r);
      const mode = r.u16() & MODE_MASK;
      const owner = { uid: r.u32(), gid: r.u32() };
      const rdev = r.u32();
      const exclusive = r.flag();
      const parts = r.u8();
      if (parts > (MAKE_TARGET | MAKE_UMASK)) r.fail('make has unknown parts');
      // Spelled out: copying objects into each other takes longer than all the rest.
      if ((parts & MAKE_TARGET) !== 0) {
        const target = r.bytes16();
        return (parts & MAKE_UMASK) === 0
          ? { op, parent, name, type, mode, owner, rdev, exclusive, target }
          : { op, parent, name, type, mode, umask: readUmask(r), owner, rdev, exclusive, target };
      }
      return (parts & MAKE_UMASK) === 0
        ? { op, parent, name, type, mode, owner, rdev, exclusive }
        : { op, parent, name, type, mode, umask: readUmask(r), owner, rdev, exclusive };
    }
    case 'makeNameless': {
      const parent = readIno(r);
      const mode = r.u16() & MODE_MASK;
      const umask = readUmask(r);
      const owner = { uid: r.u32(), gid: r.u32() };
      return umask === 0 ? { op, parent, mode, owner } : { op, parent, mode, umask, owner };
    }
    case 'accessed':
      return { op, ino: readIno(r), atimeNs: r.i64() };
    case 'link':
      return { op, ino: readIno(r), parent: readIno(r), name: r.bytes16() };
    case 'unlink':
      return { op, parent: readIno(r), name: r.bytes16(), keepOpen: readKeepOpen(r) };
    case 'rmdir':
      return { op, parent: readIno(r), name: r.bytes16() };
    case 'rename':
      return {
        op,
        parent: readIno(r),
        name: r.bytes16(),
        newParent: readIno(r),
        newName: r.bytes16(),
        noReplace: r.flag(),
        exchange: r.flag(),
        keepOpen: readKeepOpen(r),
      };
    case 'setattr': {
      const ino = readIno(r);
      const flags = r.u8();
      const set = readSetAttr(r, flags);
      return (flags & SET_IF_NAMED) === 0 ? { op, ino, set } : { op, ino, set, ifNamed: true };
    }
    case 'commit': {
      const ino = readIno(r);
      const growToBytes = r.u53();
      const mtimeNs = readTime(r);
      const flags = r.u8();
      if (flags > COMMIT_ALL) r.fail('a commit has unknown parts');
      const commit: Writable<Extract<Mutation, { op: 'commit' }>> = { op, ino, growToBytes, mtimeNs, extents: [] };
      // One by one: a spread of objects goes the long way round.
      if (flags & COMMIT_GENERATION) commit.generation = r.u53();
      if (flags & COMMIT_APPEND) commit.appendAt = r.u53();
      if (flags & COMMIT_REWRITES) commit.rewrites = { beforeOffset: r.u53(), version: r.u53() };
      if (flags & COMMIT_CTIME_TOO) commit.ctimeToo = true;
      commit.extents = readExtents(r);
      return commit;
    }
    case 'clone': {
      const ino = readIno(r);
      const offset = r.u53();
      const lengthBytes = r.u53();
      const generation = readGeneration(r);
      const extents = readExtents(r);
      return generation === undefined
        ? { op, ino, offset, lengthBytes, extents }
        : { op, ino, offset, lengthBytes, generation, extents };
    }
    case 'compact': {
      const ino = readIno(r);
      const generation = readGeneration(r);
      const digest = r.raw(EXTENT_DIGEST_BYTES);
      const extent = readExtent(r);
      return generation === undefined ? { op, ino, extent, digest } : { op, ino, extent, digest, generation };
    }
    case 'punch':
      return { op, ino: readIno(r), offset: r.u53(), lengthBytes: r.u53() };
    case 'setxattr': {
      const ino = readIno(r);
      const name = r.bytes16();
      const value = r.bytes32();
      const how = r.u8();
      const mode = XATTR_MODES[how & ~XATTR_KILL_SETGID] ?? r.fail('it has an unknown setxattr mode');
      const base = { op, ino, name, value, mode };
      return (how & XATTR_KILL_SETGID) === 0 ? base : { ...base, killSetgid: true };
    }
    case 'removexattr':
      return { op, ino: readIno(r), name: r.bytes16() };
    case 'releaseOrphan':
      return { op, ino: readIno(r) };
    case 'keepOrphans': {
      const ino = readIno(r);
      const upToNumber = r.u53();
      const inos: Ino[] = [];
      for (let left = r.u32(); left > 0; left--) inos.push(readIno(r));
      return { op, ino, upToNumber, inos };
    }
    case 'lock':
      return { op, ino: readIno(r), lock: readLockRequest(r) };
  }
}

function readUmask(r: ByteReader): number {
  return r.u16() & PERMISSION_BITS;
}

function readIno(r: ByteReader): Ino {
  return r.u53() as Ino;
}

const SET_MODE = 1;
const SET_UID = 2;
const SET_GID = 4;
const SET_SIZE = 8;
const SET_ATIME = 16;
const SET_MTIME = 32;
const SET_POOL = 64;
/** Not of the set: of the mutation. */
const SET_IF_NAMED = 128;

function writeSetAttr(w: ByteWriter, set: SetAttr, ifNamed: boolean): void {
  w.u8(
    (ifNamed ? SET_IF_NAMED : 0) |
      (set.mode === undefined ? 0 : SET_MODE) |
      (set.uid === undefined ? 0 : SET_UID) |
      (set.gid === undefined ? 0 : SET_GID) |
      (set.sizeBytes === undefined ? 0 : SET_SIZE) |
      (set.atimeNs === undefined ? 0 : SET_ATIME) |
      (set.mtimeNs === undefined ? 0 : SET_MTIME) |
      (set.pool === undefined ? 0 : SET_POOL),
  );
  if (set.mode !== undefined) w.u16(set.mode & MODE_MASK);
  if (set.uid !== undefined) w.u32(set.uid);
  if (set.gid !== undefined) w.u32(set.gid);
  if (set.sizeBytes !== undefined) w.u53(set.sizeBytes);
  if (set.atimeNs !== undefined) time(w, set.atimeNs);
  if (set.mtimeNs !== undefined) time(w, set.mtimeNs);
  if (set.pool !== undefined) w.u32(set.pool);
}

function readSetAttr(r: ByteReader, flags: number): SetAttr {
  return {
    ...(flags & SET_MODE && { mode: r.u16() & MODE_MASK }),
    ...(flags & SET_UID && { uid: r.u32() }),
    ...(flags & SET_GID && { gid: r.u32() }),
    ...(flags & SET_SIZE && { sizeBytes: r.u53() }),
    ...(flags & SET_ATIME && { atimeNs: readTime(r) }),
    ...(flags & SET_MTIME && { mtimeNs: readTime(r) }),
    ...(flags & SET_POOL && { pool: r.u32() as PoolId }),
  };
}
