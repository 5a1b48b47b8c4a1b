/**
 * Queries as bytes: op number, then fields in a fixed order (as mutation-codec.ts). What is read is well-formed: types,
 * lengths, ranges of numbers.
 */
import type { Ino } from '../ids.ts';
import type { ByteReader, ByteWriter } from './bytes.ts';
import { readSessionId, writeSessionId } from './codec.ts';
import type { Query } from './types.ts';

/** Index = number on the wire; only grows. */
const OPS = [
  'lookup',
  'getattr',
  'readlink',
  'readdir',
  'extents',
  'getxattr',
  'listxattr',
  'statfs',
  'paths',
  'allExtents',
  'locks',
  'orphans',
  'madeNext',
  'changes',
] as const satisfies readonly Query['op'][];
const OP_NUMBERS = new Map<Query['op'], number>(OPS.map((op, number) => [op, number]));

/** Rows that may be asked for at once. */
export const QUERY_LIMIT_MAX = 10_000;

export function writeQuery(w: ByteWriter, query: Query): void {
  w.u8(OP_NUMBERS.get(query.op)!);
  switch (query.op) {
    case 'lookup':
      w.u53(query.parent).bytes16(query.name);
      break;
    case 'getattr':
    case 'readlink':
    case 'listxattr':
    case 'paths':
      w.u53(query.ino);
      break;
    case 'readdir':
      w.u53(query.ino)
        .bytes16(query.after)
        .u32(query.limit)
        .u8(query.withAttrs ? 1 : 0);
      break;
    case 'extents':
      w.u53(query.ino).u53(query.offset).u53(query.lengthBytes).u32(query.limit);
      break;
    case 'getxattr':
      w.u53(query.ino).bytes16(query.name);
      break;
    case 'statfs':
      break;
    case 'allExtents':
      w.u53(query.afterIno).u53(query.afterOffset).u32(query.limit);
      break;
    case 'orphans':
      w.u53(query.ino).u53(query.after).u32(query.limit);
      break;
    case 'madeNext':
      w.u53(query.ino).u53(query.after).u32(query.limit);
      break;
    case 'locks':
      w.u53(query.ino).u53(query.lastIno).u32(query.limit);
      break;
    case 'changes':
      writeSessionId(w.u53(query.ino), query.session)
        .u8(query.after === undefined ? 0 : 1)
        .u53(query.after ?? 0)
        .u32(query.limit);
      break;
  }
}

/** Byte fields are views. */
export function readQuery(r: ByteReader): Query {
  const op = OPS[r.u8()] ?? r.fail('it is of an unknown kind');
  switch (op) {
    case 'lookup':
      return { op, parent: readIno(r), name: r.bytes16() };
    case 'getattr':
    case 'readlink':
    case 'listxattr':
    case 'paths':
      return { op, ino: readIno(r) };
    case 'readdir':
      return { op, ino: readIno(r), after: r.bytes16(), limit: readLimit(r), withAttrs: r.flag() };
    case 'extents':
      return { op, ino: readIno(r), offset: r.u53(), lengthBytes: r.u53(), limit: readLimit(r) };
    case 'getxattr':
      return { op, ino: readIno(r), name: r.bytes16() };
    case 'statfs':
      return { op };
    case 'allExtents':
      return { op, afterIno: r.u53(), afterOffset: r.u53(), limit: readLimit(r) };
    case 'orphans':
      return { op, ino: readIno(r), after: r.u53(), limit: readLimit(r) };
    case 'madeNext':
      return { op, ino: readIno(r), after: readIno(r), limit: readLimit(r) };
    case 'locks':
      return { op, ino: readIno(r), lastIno: r.u53(), limit: readLimit(r) };
    case 'changes': {
      const asked = { op, ino: readIno(r), session: readSessionId(r) } as const;
      const [isAfter, after] = [r.flag(), r.u53()];
      return { ...asked, ...(isAfter && { after }), limit: readLimit(r) };
    }
  }
}

function readIno(r: ByteReader): Ino {
  const ino = r.u53();
  return ino > 0 ? (ino as Ino) : r.fail('there is no inode 0');
}

function readLimit(r: ByteReader): number {
  const limit = r.u32();
  return limit > 0 && limit <= QUERY_LIMIT_MAX ? limit : r.fail(`it asks for ${limit} rows`);
}
