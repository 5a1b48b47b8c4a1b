/** Reads of the table, as programs that yield their range reads. Refusals are those of FsError. */
import type { Ino, SessionId } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { FILE_MAX_BYTES, MiB } from '../limits.ts';
import type { ChangeFeed } from './change-feed.ts';
import {
  attrOf,
  decodeDirent,
  decodeInode,
  decodeUnanswered,
  StoredEntry,
  type Counters,
  type Inode,
} from './codec.ts';
import { readExtents } from './data.ts';
import {
  BACK_PARENT_AT,
  backPrefix,
  direntKey,
  direntPrefix,
  inodeKey,
  inoFromKey,
  lockKey,
  KEY_INO_AT,
  KEY_NAME_AT,
  keyFromBytes,
  keyToBytes,
  prefixEnd,
  u64FromKey,
  unansweredKey,
  xattrKey,
  xattrPrefix,
} from './keys.ts';
import { backName, FILE_NLINK_MAX } from './link.ts';
import { decodeLocks, LOCKS_PER_FILE_MAX_COUNT } from './locks.ts';
import { checkedName } from './names.ts';
import { refuse } from './outcome.ts';
import type { PointReader, TableProgram } from './transaction.ts';
import type { Attr, Dirent, Extent, LockedFile, Query, QueryOf, QueryResults } from './types.ts';
import { XATTR_MAX_COUNT, xattrValue } from './xattr-rows.ts';
import { checkedXattrName } from './xattrs.ts';

export interface QueryTable extends PointReader {
  readonly counters: Readonly<Counters>;
  readonly feed: Pick<ChangeFeed, 'since'>;
  /** For people: host and mount point. Empty for a session that is not open. */
  sessionLabel(id: SessionId): string;
}

/** Rows that one answer holds at most, whatever the caller asks. */
const PAGE_MAX_COUNT = 8192;
/** Inline bytes that one answer holds at most: with all else in it, it stays below FRAME_HEADER_MAX_BYTES. */
const REPLY_INLINE_MAX_BYTES = 2 * MiB;
/** Inodes looked at per range read when all extents are listed. */
const INODE_PAGE_COUNT = 512;

export type AnyQueryResult = QueryResults[Query['op']];

export function* runQuery(table: QueryTable, query: Query): TableProgram<AnyQueryResult> {
  switch (query.op) {
    case 'lookup':
      return lookup(table, query);
    case 'getattr':
      return { attr: attrOf(existing(table, query.ino)) };
    case 'readlink': {
      const inode = existing(table, query.ino);
      return { target: inode.type === 'symlink' ? inode.target : refuse('EINVAL') };
    }
    case 'readdir':
      return yield* readdir(table, query);
    case 'madeNext':
      return yield* madeNext(table, query);
    case 'extents':
      return yield* extents(table, query);
    case 'getxattr': {
      const inode = existing(table, query.ino);
      const row = table.get(xattrKey(inode.ino, checkedXattrName(query.name)));
      return { value: row === undefined ? refuse('ENODATA') : xattrValue(row) };
    }
    case 'listxattr':
      return yield* listxattr(table, query);
    case 'statfs':
      return { inodeCount: table.counters.inodeCount, storedBytes: table.counters.storedBytes };
    case 'paths':
      return yield* paths(table, query);
    case 'allExtents':
      return yield* allExtents(table, query);
    case 'orphans':
      return yield* orphans(table, query);
    case 'locks':
      return yield* locks(table, query);
    case 'changes':
      return table.feed.since({ ...query, limit: pageCount(query.limit) });
  }
}

function findInode(table: PointReader, ino: Ino): Inode | undefined {
  const value = table.get(inodeKey(ino));
  return value === undefined ? undefined : decodeInode(ino, value);
}

function existing(table: PointReader, ino: Ino): Inode {
  return findInode(table, ino) ?? refuse('ENOENT');
}

function pageCount(limit: number): number {
  return Math.max(1, Math.min(PAGE_MAX_COUNT, Math.floor(limit)));
}

function* orphans(table: QueryTable, query: QueryOf<'orphans'>): TableProgram<QueryResults['orphans']> {
  const limit = pageCount(query.limit);
  // As of now: what comes while the rows are read has a greater number.
  const { orphanNumber } = table.counters;
  const range = { gte: unansweredKey(query.after + 1), lt: unansweredKey(orphanNumber + 1) };
  const [rows] = yield [{ ...range, limit, reverse: false }];
  const inos = rows!.map(([, value]) => decodeUnanswered(value));
  return { inos, upToNumber: rows!.length < limit ? orphanNumber : u64FromKey(rows!.at(-1)![0], KEY_INO_AT) };
}

function lookup(table: PointReader, query: QueryOf<'lookup'>): QueryResults['lookup'] {
  const row = table.get(direntKey(query.parent, checkedName(query.name)));
  if (row === undefined) {
    // Nothing there: find out why only now.
    return existing(table, query.parent).type === 'directory' ? refuse('ENOENT') : refuse('ENOTDIR');
  }
  return { attr: attrOf(existing(table, decodeDirent(row).ino)) };
}

function* readdir(table: PointReader, query: QueryOf<'readdir'>): TableProgram<QueryResults['readdir']> {
  const inode = existing(table, query.ino);
  if (inode.type !== 'directory') refuse('ENOTDIR');
  const attr = attrOf(inode);
  if (inode.sizeBytes === 0) return { entries: [], more: false, attr };
  const limit = pageCount(query.limit);
  const prefix = direntPrefix(inode.ino);
  const gte = query.after.length === 0 ? prefix : prefix + keyFromBytes(query.after) + '\0';
  const [rows] = yield [{ gte, lt: prefixEnd(prefix), limit: limit + 1, reverse: false }];
  const entries: (Dirent & { attr?: Attr })[] = [];
  for (const [key, value] of rows!.slice(0, limit)) {
    const dirent = decodeDirent(value);
    const name = keyToBytes(key.slice(KEY_NAME_AT));
    const row = query.withAttrs ? table.get(inodeKey(dirent.ino)) : undefined;
    entries.push(row === undefined ? { name, ...dirent } : new StoredEntry(name, dirent, row));
  }
  return { entries, more: rows!.length > limit, attr };
}

/** Goes by back pointers: they are in the order of inode numbers, and so are the inodes' rows beside each other. */
function* madeNext(table: PointReader, query: QueryOf<'madeNext'>): TableProgram<QueryResults['madeNext']> {
  const limit = pageCount(query.limit);
  const [rows, inodeRows] = yield [
    { gte: backPrefix(query.after + 1), lt: prefixEnd('p'), limit, reverse: false },
    { gte: inodeKey(query.after + 1), lt: prefixEnd('i'), limit, reverse: false },
  ];
  const inodes = new Map(inodeRows);
  const entries: { name: Uint8Array; attr: Attr }[] = [];
  for (const [key] of rows!) {
    if (u64FromKey(key, BACK_PARENT_AT) !== query.ino) continue;
    const ino = inoFromKey(key);
    const row = inodes.get(inodeKey(ino));
    const inode = row === undefined ? findInode(table, ino) : decodeInode(ino, row);
    // Removed since the rows were read.
    if (inode !== undefined) entries.push({ name: keyToBytes(backName(key)), attr: attrOf(inode) });
  }
  const last = rows!.at(-1);
  // A number's names may go on beyond the page.
  const upToIno = last === undefined || rows!.length < limit ? Number.MAX_SAFE_INTEGER : inoFromKey(last[0]) - 1;
  return { entries, upToIno };
}

function* extents(table: PointReader, query: QueryOf<'extents'>): TableProgram<QueryResults['extents']> {
  const inode = existing(table, query.ino);
  if (inode.type !== 'file') refuse(inode.type === 'directory' ? 'EISDIR' : 'EINVAL');
  const end = Math.min(FILE_MAX_BYTES, query.offset + query.lengthBytes);
  const page = yield* readExtents(table, inode, query.offset, end, pageCount(query.limit));
  const count = countWithin(page.extents);
  const attr = attrOf(inode);
  if (count === page.extents.length) return { ...page, attr };
  return { extents: page.extents.slice(0, count), more: true, attr };
}

/** How many of them, from the first on, one answer may hold. */
function countWithin(extents: readonly Extent[]): number {
  let inlineBytes = 0;
  for (const [index, extent] of extents.entries()) {
    if (extent.kind === 'inline') inlineBytes += extent.lengthBytes;
    if (inlineBytes > REPLY_INLINE_MAX_BYTES && index > 0) return index;
  }
  return extents.length;
}

function* listxattr(table: PointReader, query: QueryOf<'listxattr'>): TableProgram<QueryResults['listxattr']> {
  const inode = existing(table, query.ino);
  if (inode.xattrCount === 0) return { names: [] };
  const prefix = xattrPrefix(inode.ino);
  const [rows] = yield [{ gte: prefix, lt: prefixEnd(prefix), limit: XATTR_MAX_COUNT, reverse: false }];
  return { names: rows!.map(([key]) => keyToBytes(key.slice(KEY_NAME_AT))) };
}

function* locks(table: QueryTable, query: QueryOf<'locks'>): TableProgram<QueryResults['locks']> {
  const labelled = (ino: Ino, row: Uint8Array): LockedFile => ({
    ino,
    locks: decodeLocks(row).map((lock) => ({ ...lock, label: table.sessionLabel(lock.session) })),
  });
  if (query.lastIno === query.ino) {
    const row = table.get(lockKey(query.ino));
    return { files: row === undefined ? [] : [labelled(query.ino, row)], more: false };
  }
  const limit = pageCount(query.limit);
  // Strings as keys: the end of the range is the first key after the last number's.
  const range = { gte: lockKey(query.ino), lt: lockKey(query.lastIno) + '\0' };
  const [rows] = yield [{ ...range, limit: limit + 1, reverse: false }];
  const files: LockedFile[] = [];
  let count = 0;
  for (const [key, row] of rows!) {
    if (files.length === limit || count >= LOCKS_PER_FILE_MAX_COUNT) return { files, more: true };
    const file = labelled(inoFromKey(key), row);
    files.push(file);
    count += file.locks.length;
  }
  return { files, more: false };
}

/** Follows the back pointers of every name up to the root. What was renamed on the way meanwhile is left out. */
function* paths(table: PointReader, query: QueryOf<'paths'>): TableProgram<QueryResults['paths']> {
  existing(table, query.ino);
  if (query.ino === ROOT_INO) return { paths: [keyToBytes('/')] };
  const directories = new Map<number, string | undefined>([[ROOT_INO, '']]);
  const found: Uint8Array[] = [];
  for (const { parent, name } of yield* names(query.ino)) {
    const directory = yield* directoryPath(parent, directories);
    if (directory !== undefined) found.push(keyToBytes(`${directory}/${name}`));
  }
  return { paths: found };
}

function* names(ino: number): TableProgram<{ parent: number; name: string }[]> {
  const prefix = backPrefix(ino);
  const [rows] = yield [{ gte: prefix, lt: prefixEnd(prefix), limit: FILE_NLINK_MAX, reverse: false }];
  return rows!.map(([key]) => ({ parent: u64FromKey(key, BACK_PARENT_AT), name: backName(key) }));
}

/** Remembers in `known` what it finds; undefined if the directory hangs from nothing. */
function* directoryPath(ino: number, known: Map<number, string | undefined>): TableProgram<string | undefined> {
  const chain: { ino: number; name: string }[] = [];
  let at = ino;
  while (!known.has(at)) {
    const [entry] = yield* names(at);
    if (entry === undefined || chain.some((step) => step.ino === at)) {
      known.set(at, undefined);
      break;
    }
    chain.push({ ino: at, name: entry.name });
    at = entry.parent;
  }
  let path = known.get(at);
  for (const step of chain.reverse()) {
    if (path !== undefined) path = `${path}/${step.name}`;
    known.set(step.ino, path);
  }
  return path;
}

/**
 * Goes by inodes, not by extent rows: the bytes of inline files are never read, and rows of dead numbers are not met.
 */
function* allExtents(table: PointReader, query: QueryOf<'allExtents'>): TableProgram<QueryResults['allExtents']> {
  const limit = pageCount(query.limit);
  // The first extent of a page may be the last of the page before, which reaches into the range: alone it leads nowhere.
  const atOnce = Math.max(2, limit);
  const items: { ino: Ino; extent: Extent & { kind: 'block' } }[] = [];
  let next = inodeKey(query.afterIno);
  for (;;) {
    const [rows] = yield [{ gte: next, lt: prefixEnd('i'), limit: INODE_PAGE_COUNT, reverse: false }];
    for (const [key, value] of rows!) {
      const inode = decodeInode(inoFromKey(key), value);
      if (inode.blockExtentCount === 0) continue;
      let from = inode.ino === query.afterIno ? query.afterOffset + 1 : 0;
      for (let more = true; more;) {
        const page: { extents: Extent[]; more: boolean } = yield* readExtents(
          table,
          inode,
          from,
          FILE_MAX_BYTES,
          atOnce,
        );
        more = page.more;
        for (const extent of page.extents) {
          if (extent.offset < from || extent.kind !== 'block') continue;
          if (items.length === limit) return { items, more: true };
          items.push({ ino: inode.ino, extent });
        }
        if (more) from = page.extents.at(-1)!.offset + 1;
      }
    }
    if (rows!.length < INODE_PAGE_COUNT) return { items, more: false };
    next = rows!.at(-1)![0] + '\0';
  }
}
