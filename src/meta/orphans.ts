/**
 * The end of an inode: destroyed, or kept as an orphan while a session has it open. What may be long (a big file's
 * extents) is not deleted here: the number is put on the list of dead ones, whose rows `reclaim` commands remove a
 * bounded number at a time. Numbers are never reused, so what is left there can be reached by nobody.
 */
import type { Ino, SessionId } from '../ids.ts';
import { decodeDead, decodeOrphan, encodeDead, encodeOrphan, type Dead, type Inode } from './codec.ts';
import {
  deadKey,
  extentKey,
  extentPrefix,
  inoFromKey,
  KEY_NAME_AT,
  orphanKey,
  prefixEnd,
  u64FromKey,
  xattrPrefix,
} from './keys.ts';
import type { TableProgram, Transaction } from './transaction.ts';
import type { MutationResult } from './types.ts';
import { XATTR_MAX_COUNT } from './xattr-rows.ts';

/** Orphans read at a time when a session ends. */
const ORPHAN_PAGE_COUNT = 1024;
/** Dead numbers looked at by one reclaim command. */
const DEAD_PAGE_COUNT = 64;

/** An inode without names is destroyed now, or when the session lets go of it. */
export function dropOrOrphan(tx: Transaction, inode: Inode, keepOpen: boolean, session: SessionId): void {
  if (keepOpen) tx.put(orphanKey(inode.ino), encodeOrphan([session]));
  else destroy(tx, inode);
}

function destroy(tx: Transaction, inode: Inode): void {
  dropData(tx, inode);
  if (inode.xattrCount > 0) bury(tx, inode.ino, { extents: false, xattrs: true });
  tx.deleteInode(inode);
}

/** Leaves the inode without extents, in a few steps whatever their number. */
export function dropData(tx: Transaction, inode: Inode): void {
  if (inode.extentCount > 0) {
    const firstKey = extentKey(inode.dataIno, 0);
    if (inode.extentCount === 1 && tx.get(firstKey) !== undefined) {
      tx.delete(firstKey);
    } else {
      bury(tx, inode.dataIno, { extents: true, xattrs: false });
      inode.dataIno = tx.takeIno();
    }
  }
  tx.counters.storedBytes -= inode.storedBytes;
  inode.storedBytes = 0;
  inode.extentCount = 0;
  inode.blockExtentCount = 0;
  inode.extentEnd = 0;
}

function bury(tx: Transaction, ino: Ino, { extents, xattrs }: { extents: boolean; xattrs: boolean }): void {
  const key = deadKey(ino);
  const known = tx.get(key);
  if (known === undefined) tx.counters.deadCount++;
  const old: Dead = known === undefined ? { extents: false, xattrs: false, fromOffset: 0 } : decodeDead(known);
  tx.put(key, encodeDead({ ...old, extents: extents || old.extents, xattrs: xattrs || old.xattrs }));
}

/** Idempotent: a session that does not hold it, or a number that is gone, is no error. */
export function releaseOrphan(tx: Transaction, ino: Ino, session: SessionId): MutationResult {
  const value = tx.get(orphanKey(ino));
  if (value === undefined) return {};
  const left = decodeOrphan(value).filter((holder) => holder !== session);
  if (left.length > 0) {
    tx.put(orphanKey(ino), encodeOrphan(left));
    return {};
  }
  tx.delete(orphanKey(ino));
  const inode = tx.inode(ino);
  if (inode !== undefined) destroy(tx, inode);
  return {};
}

/** Releases every orphan of a session that ended. */
export function* releaseAllOrphans(tx: Transaction, session: SessionId): TableProgram<void> {
  let from = orphanKey(0);
  for (;;) {
    const [rows] = yield [{ gte: from, lt: prefixEnd('o'), limit: ORPHAN_PAGE_COUNT, reverse: false }];
    for (const [key, value] of rows!) {
      if (decodeOrphan(value).includes(session)) releaseOrphan(tx, inoFromKey(key), session);
    }
    if (rows!.length < ORPHAN_PAGE_COUNT) return;
    from = rows!.at(-1)![0] + '\0';
  }
}

/** Removes up to `maxRows` rows of dead numbers. */
export function* reclaim(tx: Transaction, maxRows: number): TableProgram<void> {
  if (tx.counters.deadCount === 0) return;
  let left = Math.max(1, maxRows);
  const [dead] = yield [{ gte: deadKey(0), lt: prefixEnd('r'), limit: DEAD_PAGE_COUNT, reverse: false }];
  for (const [key, value] of dead!) {
    const ino = inoFromKey(key);
    const { extents, xattrs, fromOffset } = decodeDead(value);
    if (extents) {
      const last = yield* deleteRows(tx, extentKey(ino, fromOffset), prefixEnd(extentPrefix(ino)), left);
      left -= last.count;
      if (left <= 0) {
        // Possibly more: this number stays on the list for the next command.
        const next = u64FromKey(last.key, KEY_NAME_AT) + 1;
        tx.put(key, encodeDead({ extents, xattrs, fromOffset: next }));
        return;
      }
    }
    // Few: their number is limited.
    if (xattrs) left -= (yield* deleteRows(tx, xattrPrefix(ino), prefixEnd(xattrPrefix(ino)), XATTR_MAX_COUNT)).count;
    tx.delete(key);
    tx.counters.deadCount--;
    if (left <= 0) return;
  }
}

function* deleteRows(
  tx: Transaction,
  gte: string,
  lt: string,
  limit: number,
): TableProgram<{ count: number; key: string }> {
  const [rows] = yield [{ gte, lt, limit, reverse: false }];
  for (const [key] of rows!) tx.delete(key);
  return { count: rows!.length, key: rows!.at(-1)?.[0] ?? gte };
}
