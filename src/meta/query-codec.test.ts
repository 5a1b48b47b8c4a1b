import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CorruptionError, FormatError } from '../errors.ts';
import type { BlockId, Ino, PoolId, SessionId } from '../ids.ts';
import { attrOf, encodeInode, StoredEntry, type Inode } from './codec.ts';
import { decodeQueryResult, encodeQueryResult } from './query-codec.ts';
import { decodeQueryRequest, encodeQueryRequest } from './requests.ts';
import type { Attr, Dirent, Extent, FileType, Query, QueryOf, QueryResults } from './types.ts';

const TYPES: readonly FileType[] = ['file', 'directory', 'symlink', 'fifo', 'socket', 'char', 'block'];
const u53 = fc.maxSafeNat();
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const ns = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const ino = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }) as fc.Arbitrary<Ino>;
const data = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => new Uint8Array(Buffer.from(array)));
const name = data(255);
const attr: fc.Arbitrary<Attr> = fc.record({
  ino,
  type: fc.constantFrom(...TYPES),
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: u32,
  gid: u32,
  nlink: u32,
  sizeBytes: u53,
  storedBytes: u53,
  atimeNs: ns,
  mtimeNs: ns,
  ctimeNs: ns,
  rdev: u32,
  version: u53,
  generation: u32,
  pool: fc.integer({ min: 1, max: 2 ** 32 - 1 }) as fc.Arbitrary<PoolId>,
  parent: ino,
  hasAcl: fc.boolean(),
  hasDefaultAcl: fc.boolean(),
  hasXattrs: fc.boolean(),
});
const blockExtent = fc.record({
  kind: fc.constant('block' as const),
  offset: fc.integer({ min: 0, max: 2 ** 52 }),
  lengthBytes: fc.integer({ min: 1, max: 1024 }),
  pool: fc.integer({ min: 1, max: 2 ** 32 - 1 }) as fc.Arbitrary<PoolId>,
  id: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((id) => new Uint8Array(id) as BlockId),
  blockOffset: fc.integer({ min: 0, max: 1024 }),
  blockBytes: fc.constant(65_536),
});
const inlineExtent = fc
  .record({ offset: fc.integer({ min: 0, max: 2 ** 52 }), bytes: data(300).filter((array) => array.length > 0) })
  .map(({ offset, bytes }) => ({ kind: 'inline' as const, offset, lengthBytes: bytes.length, data: bytes }));
const extent: fc.Arbitrary<Extent> = fc.oneof(blockExtent, inlineExtent);
const type = fc.constantFrom(...TYPES);
const entry: fc.Arbitrary<Dirent & { attr?: Attr }> = fc.oneof(
  fc.record({ name, ino, type }),
  fc.record({ name, ino, type, attr }),
);
const few = { maxLength: 5 };
const session = fc.constantFrom('a'.repeat(32), '0f'.repeat(16)) as fc.Arbitrary<SessionId>;
const heldLock = fc.record({
  kind: fc.constantFrom('posix' as const, 'flock' as const),
  type: fc.constantFrom('read' as const, 'write' as const),
  session,
  owner: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  pid: fc.nat(),
  start: fc.nat(),
  end: fc.integer({ min: 2 ** 31, max: Number.MAX_SAFE_INTEGER }),
  label: fc.string({ maxLength: 20 }),
});

const RESULTS: { readonly [Op in Query['op']]: fc.Arbitrary<QueryResults[Op]> } = {
  lookup: fc.record({ attr }),
  getattr: fc.record({ attr }),
  readlink: fc.record({ target: data(4095) }),
  readdir: fc
    .record({ entries: fc.array(entry, few), more: fc.boolean(), attr })
    .map(({ entries, more, attr }) => ({ entries, more: more && (entries.at(-1)?.name ?? []).length > 0, attr })),
  madeNext: fc.record({ entries: fc.array(fc.record({ name, attr }), few), upToIno: u53 }),
  extents: fc.record({ extents: fc.array(extent, few), more: fc.boolean(), attr }),
  getxattr: fc.record({ value: data(1000) }),
  listxattr: fc.record({ names: fc.array(name, few) }),
  statfs: fc.record({ inodeCount: u53, storedBytes: u53 }),
  paths: fc.record({ paths: fc.array(data(2000), few) }),
  allExtents: fc.record({ items: fc.array(fc.record({ ino, extent: blockExtent }), few), more: fc.boolean() }),
  orphans: fc.record({ inos: fc.array(ino, few), upToNumber: u53 }),
  changes: fc.record({
    inos: fc.array(ino, few),
    names: fc.array(fc.record({ parent: ino, name }), few),
    upToSeq: u53,
    missed: fc.boolean(),
  }),
  locks: fc.record({
    files: fc.array(fc.record({ ino, locks: fc.array(heldLock, few) }), few),
    more: fc.boolean(),
  }),
};

/** Buffers and plain arrays of bytes alike. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value];
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, plain(field)]));
}

/** Decoded to the end: a page of names that is not the last is decoded when it is looked at. */
function decoded<Op extends Query['op']>(op: Op, bytes: Uint8Array): QueryResults[Op] {
  const result = decodeQueryResult(op, bytes);
  if (!('entries' in result && 'more' in result)) return result;
  const { entries, more, attr } = result;
  return { entries, more, attr } as QueryResults[Op];
}

it.each(Object.keys(RESULTS) as Query['op'][])('results of %s come back as they were, and no shorter', (op) => {
  fc.assert(
    fc.property(RESULTS[op] as fc.Arbitrary<QueryResults[typeof op]>, fc.nat(), (result, cut) => {
      const bytes = encodeQueryResult(op, result);
      expect(plain(decoded(op, bytes))).toEqual(plain(result));
      expect(() => decoded(op, bytes.subarray(0, cut % bytes.length))).toThrow(FormatError);
      expect(() => decoded(op, Buffer.concat([bytes, Uint8Array.of(0)]))).toThrow(FormatError);
    }),
    { numRuns: 40 },
  );
});

it('a name with the row of its inode is sent as one with its attributes', () => {
  const counts = fc.record({ dataIno: ino, extentCount: u53, blockExtentCount: u53, extentEnd: u53, xattrCount: u53 });
  fc.assert(
    fc.property(attr, counts, name, name, (own, rest, text, target) => {
      const inode: Inode = { ...own, ...rest, target };
      const row = encodeInode(inode);
      const entries = [{ name: text, ino: own.ino, type: own.type, attr: attrOf(inode) }];
      const stored = [new StoredEntry(text, own, row)];
      expect(stored[0]!.attr).toEqual(entries[0]!.attr);
      const encoded = (listed: QueryResults['readdir']['entries']): Uint8Array =>
        encodeQueryResult('readdir', { entries: listed, more: false, attr: own });
      expect(plain(encoded(stored))).toEqual(plain(encoded(entries)));
      expect(() => new StoredEntry(text, own, row.subarray(0, 123))).toThrow(CorruptionError);
      expect(() => new StoredEntry(text, own, row.with(0, 3))).toThrow(FormatError);
      expect(() => new StoredEntry(text, own, row.with(1, 15))).toThrow(CorruptionError);
    }),
    { numRuns: 100 },
  );
});

it('the last name of a page of names is known before the page is read, and is the right one', () => {
  const [attrs, [first, second]] = [
    fc.sample(attr, { numRuns: 1, seed: 1 }),
    ['a', 'b'].map((text) => Buffer.from(text)),
  ];
  const entries = [first, second].map((name) => ({ name: name!, ino: 2 as Ino, type: 'file' as const }));
  const bytes = encodeQueryResult('readdir', { entries, more: true, attr: attrs[0]! });
  const page = decodeQueryResult('readdir', bytes.subarray(0, 20));
  expect(plain([page.more, page.lastName])).toEqual([true, plain(second)]);
  expect(() => page.entries).toThrow(FormatError);
  expect(decodeQueryResult('readdir', bytes).entries).toHaveLength(2);
  const other = Buffer.from(bytes);
  other[other.indexOf('b')] = 0x63;
  expect(() => decodeQueryResult('readdir', other).attr).toThrow('its last name is another');
});

it('garbage is refused, never misread into something huge', () => {
  const ops = fc.constantFrom(...(Object.keys(RESULTS) as Query['op'][]));
  fc.assert(
    fc.property(ops, fc.uint8Array({ maxLength: 200 }), (op, bytes) => {
      try {
        decoded(op, bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
    }),
  );
});

const QUERIES: { readonly [Op in Query['op']]: fc.Arbitrary<QueryOf<Op>> } = {
  lookup: fc.record({ op: fc.constant('lookup'), parent: ino, name }),
  getattr: fc.record({ op: fc.constant('getattr'), ino }),
  readlink: fc.record({ op: fc.constant('readlink'), ino }),
  readdir: fc.record({ op: fc.constant('readdir'), ino, after: name, limit: fc.constant(10), withAttrs: fc.boolean() }),
  madeNext: fc.record({ op: fc.constant('madeNext'), ino, after: ino, limit: fc.constant(9) }),
  extents: fc.record({ op: fc.constant('extents'), ino, offset: u53, lengthBytes: u53, limit: fc.constant(1) }),
  getxattr: fc.record({ op: fc.constant('getxattr'), ino, name }),
  listxattr: fc.record({ op: fc.constant('listxattr'), ino }),
  statfs: fc.record({ op: fc.constant('statfs') }),
  paths: fc.record({ op: fc.constant('paths'), ino }),
  allExtents: fc.record({ op: fc.constant('allExtents'), afterIno: u53, afterOffset: u53, limit: fc.constant(9) }),
  orphans: fc.record({ op: fc.constant('orphans'), ino, after: u53, limit: fc.constant(9) }),
  locks: fc.record({ op: fc.constant('locks'), ino, lastIno: u53, limit: fc.constant(9) }),
  changes: fc.oneof(
    fc.record({ op: fc.constant('changes'), ino, session, limit: fc.constant(9) }),
    fc.record({ op: fc.constant('changes'), ino, after: u53, session, limit: fc.constant(9) }),
  ),
};

it.each(Object.keys(QUERIES) as Query['op'][])('a question survives its encoding: %s', (op) => {
  fc.assert(
    fc.property(QUERIES[op] as fc.Arbitrary<Query>, fc.nat(), (query, cut) => {
      const header = new Uint8Array(encodeQueryRequest('g0', query));
      const read = decodeQueryRequest(header);
      expect(read.group).toBe('g0');
      expect(encodeQueryRequest('g0', read.query)).toEqual(encodeQueryRequest('g0', query));
      expect(() => decodeQueryRequest(header.subarray(0, cut % header.length))).toThrow(FormatError);
      expect(() => decodeQueryRequest(Buffer.concat([header, Uint8Array.of(0)]))).toThrow(FormatError);
    }),
    { numRuns: 30 },
  );
});

it('questions from the wire are checked', () => {
  const listing = { op: 'readdir', ino: 1 as Ino, after: new Uint8Array(), limit: 10, withAttrs: true } as const;
  expect(decodeQueryRequest(encodeQueryRequest('g0', listing)).query).toMatchObject({ limit: 10, withAttrs: true });
  const zero = { op: 'getattr', ino: 0 as Ino } as const;
  const badRows = [zero, { ...listing, limit: 0 }, { ...listing, limit: 1e9 }].map((q) => encodeQueryRequest('g0', q));
  for (const bad of [undefined, null, 7, 'lookup', {}, new Uint8Array(), Uint8Array.of(1, 0, 0, 99), ...badRows]) {
    expect(() => decodeQueryRequest(bad)).toThrow(FormatError);
  }
});
