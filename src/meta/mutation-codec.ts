/**
 * Mutations as bytes: op number, then fields in a fixed order. Clients send them so; what is read is well-formed
 * (types, lengths, ranges of numbers). Whether it is *allowed* (names, overlaps, limits) is decided where it is applied,
 * so that the refusal is the same on every replica.
 */
import type { Ino, PoolId } from '../ids.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readExtent, readFileType, writeExtent, writeFileType } from './codec.ts';
import { readLockRequest, writeLockRequest } from './locks.ts';
import { MODE_MASK } from './make.ts';
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
  'clone',
] as const satisfies readonly Mutation['op'][];
const OP_NUMBERS = new Map<Mutation['op'], number>(OPS.map((op, number) => [op, number]));
const XATTR_MODES = ['any', 'create', 'replace'] as const;

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

/** A time, or 'now'. */
function time(w: ByteWriter, value: bigint | 'now'): ByteWriter {
  return value === 'now' ? w.u8(1) : w.u8(0).i64(value);
}

function readTime(r: ByteReader): bigint | 'now' {
  return r.flag() ? 'now' : r.i64();
}

/** The least receipt's generation, if there is one, and the extents. */
function writeExtents(
  w: ByteWriter,
  { generation, extents }: { readonly generation?: number; readonly extents: readonly Extent[] },
): void {
  flag(w, generation !== undefined);
  if (generation !== undefined) w.u53(generation);
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
      flag(w, m.target !== undefined);
      if (m.target !== undefined) w.bytes16(m.target);
      break;
    case 'link':
      w.u53(m.ino).u53(m.parent).bytes16(m.name);
      break;
    case 'unlink':
      flag(w.u53(m.parent).bytes16(m.name), m.keepOpen);
      break;
    case 'rmdir':
      w.u53(m.parent).bytes16(m.name);
      break;
    case 'rename':
      w.u53(m.parent).bytes16(m.name).u53(m.newParent).bytes16(m.newName);
      flag(flag(flag(w, m.noReplace), m.exchange), m.keepOpen);
      break;
    case 'setattr':
      w.u53(m.ino);
      writeSetAttr(w, m.set);
      break;
    case 'commit':
      w.u53(m.ino).u53(m.growToBytes);
      time(w, m.mtimeNs);
      writeExtents(w, m);
      break;
    case 'clone':
      writeExtents(w.u53(m.ino).u53(m.offset).u53(m.lengthBytes), m);
      break;
    case 'punch':
      w.u53(m.ino).u53(m.offset).u53(m.lengthBytes);
      break;
    case 'setxattr':
      w.u53(m.ino).bytes16(m.name).bytes32(m.value).u8(XATTR_MODES.indexOf(m.mode));
      break;
    case 'removexattr':
      w.u53(m.ino).bytes16(m.name);
      break;
    case 'releaseOrphan':
      w.u53(m.ino);
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
      // Spelled out: copying objects into each other takes longer than all the rest.
      return r.flag()
        ? { op, parent, name, type, mode, owner, rdev, exclusive, target: r.bytes16() }
        : { op, parent, name, type, mode, owner, rdev, exclusive };
    }
    case 'link':
      return { op, ino: readIno(r), parent: readIno(r), name: r.bytes16() };
    case 'unlink':
      return { op, parent: readIno(r), name: r.bytes16(), keepOpen: r.flag() };
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
        keepOpen: r.flag(),
      };
    case 'setattr':
      return { op, ino: readIno(r), set: readSetAttr(r) };
    case 'commit': {
      const ino = readIno(r);
      const growToBytes = r.u53();
      const mtimeNs = readTime(r);
      const generation = readGeneration(r);
      const extents = readExtents(r);
      return generation === undefined
        ? { op, ino, growToBytes, mtimeNs, extents }
        : { op, ino, growToBytes, mtimeNs, generation, extents };
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
    case 'punch':
      return { op, ino: readIno(r), offset: r.u53(), lengthBytes: r.u53() };
    case 'setxattr':
      return {
        op,
        ino: readIno(r),
        name: r.bytes16(),
        value: r.bytes32(),
        mode: XATTR_MODES[r.u8()] ?? r.fail('it has an unknown setxattr mode'),
      };
    case 'removexattr':
      return { op, ino: readIno(r), name: r.bytes16() };
    case 'releaseOrphan':
      return { op, ino: readIno(r) };
    case 'lock':
      return { op, ino: readIno(r), lock: readLockRequest(r) };
  }
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
const SET_ALL = 127;

function writeSetAttr(w: ByteWriter, set: SetAttr): void {
  w.u8(
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

function readSetAttr(r: ByteReader): SetAttr {
  const flags = r.u8();
  if (flags > SET_ALL) r.fail('setattr has unknown parts');
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
