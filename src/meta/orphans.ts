/**
 * The end of an inode: destroyed, or kept as an orphan while a session has it open.
 *
 * Who removes the last name knows whether the file is open there. Of the other sessions the group does not know what they
 * have open, since opening a file changes nothing here. So the orphan gets a number, sessions are told of new numbers when they
 * tell that they are alive, and each answers which of these files it has open (`keepOrphans`). Up to the number that all sessions
 * have answered for, what nobody holds is destroyed (`settleOrphans`). An inode without names cannot be opened, so a session
 * answers once; a new one has nothing to answer for.
 *
 * What may be long (a big file's extents) is not deleted here: the number is put on the list of dead ones, whose rows
 * `reclaim` commands remove a bounded number at a time. Numbers are never reused, so what is left there can be reached by nobody.
 */
import type { Ino, SessionId } from '../ids.ts';
import {
  decodeDead,
  decodeOrphan,
  decodeUnanswered,
  encodeDead,
  encodeOrphan,
  encodeUnanswered,
  type Counters,
  type Dead,
  type Inode,
  type Orphan,
} from './codec.ts';
import {
  deadKey,
  extentKey,
  extentPrefix,
  inoFromKey,
  KEY_INO_AT as KEY_NUMBER_AT,
  KEY_NAME_AT,
  orphanKey,
  prefixEnd,
  u64FromKey,
  unansweredKey,
  xattrPrefix,
} from './keys.ts';
import { refuse } from './outcome.ts';
import type { Session } from './sessions.ts';
import type { TableProgram, Transaction } from './transaction.ts';
import type { Mutation, MutationResult } from './types.ts';
import { XATTR_MAX_COUNT } from './xattr-rows.ts';

/** Orphans read at a time when a session ends. */
const ORPHAN_PAGE_COUNT = 1024;
/** Sessions that have one file open, as far as they are remembered. */
const HOLDERS_MAX_COUNT = 60_000;
/** Dead numbers looked at by one reclaim command. */
const DEAD_PAGE_COUNT = 64;

/** An inode without names is destroyed now, or when no session has it open any more. */
export function dropOrOrphan(tx: Transaction, inode: Inode, keepOpen: boolean, session: SessionId): void {
  // Others are opened by the kernel, not here.
  const isAsked = tx.hasOtherSessions && inode.type === 'file';
  if (!keepOpen && !isAsked) return destroy(tx, inode);
  const number = isAsked ? ++tx.counters.orphanNumber : 0;
  if (isAsked) tx.put(unansweredKey(number), encodeUnanswered(inode.ino));
  tx.put(orphanKey(inode.ino), encodeOrphan({ holders: keepOpen ? [session] : [], number }));
}

/** A file that never had a name is open in this session. */
export function orphan(tx: Transaction, inode: Inode, session: SessionId): void {
  tx.put(orphanKey(inode.ino), encodeOrphan({ holders: [session], number: 0 }));
}

/** A file without a name is given one. Only by a session that has it open: for others its data may be gone at any moment. */
export function adopt(tx: Transaction, inode: Inode, session: SessionId): void {
  const value = tx.get(orphanKey(inode.ino));
  if (value === undefined || !decodeOrphan(value).holders.includes(session)) refuse('ENOENT');
  tx.delete(orphanKey(inode.ino));
}

/** A session tells which of the orphans up to a number it has open. Those that are gone are no error. */
export function keepOrphans(
  tx: Transaction,
  { inos }: Extract<Mutation, { op: 'keepOrphans' }>,
  session: SessionId,
): MutationResult {
  for (const ino of inos) {
    const value = tx.get(orphanKey(ino));
    if (value === undefined) continue;
    const { holders, number } = decodeOrphan(value);
    if (holders.includes(session) || holders.length >= HOLDERS_MAX_COUNT) continue;
    tx.put(orphanKey(ino), encodeOrphan({ holders: [...holders, session], number }));
  }
  return {};
}

/** The number up to which every session has answered. */
export function answeredByAll(
  counters: Readonly<Counters>,
  sessions: Iterable<Pick<Session, 'orphansAnswered'>>,
): number {
  let least = counters.orphanNumber;
  for (const { orphansAnswered } of sessions) least = Math.min(least, orphansAnswered);
  return least;
}

/** Destroys what nobody holds of the orphans up to `upToNumber`, which all have answered for; some at a time. */
function* settleOrphans(tx: Transaction, upToNumber: number): TableProgram<void> {
  const { counters } = tx;
  if (upToNumber <= counters.orphansAnswered) return;
  const range = { gte: unansweredKey(counters.orphansAnswered), lt: unansweredKey(upToNumber + 1) };
  const [rows] = yield [{ ...range, limit: ORPHAN_PAGE_COUNT, reverse: false }];
  for (const [key, value] of rows!) {
    const ino = decodeUnanswered(value);
    tx.delete(key);
    const orphan = tx.get(orphanKey(ino));
    if (orphan === undefined) continue;
    const { holders, number } = decodeOrphan(orphan);
    // Given a name again, and unlinked once more: that one is to be answered for.
    if (number === u64FromKey(key, KEY_NUMBER_AT)) keepOrDestroy(tx, ino, { holders, number: 0 });
  }
  counters.orphansAnswered =
    rows!.length < ORPHAN_PAGE_COUNT ? upToNumber : u64FromKey(rows!.at(-1)![0], KEY_NUMBER_AT);
}

function keepOrDestroy(tx: Transaction, ino: Ino, orphan: Orphan): void {
  if (orphan.holders.length > 0 || orphan.number > 0) return tx.put(orphanKey(ino), encodeOrphan(orphan));
  tx.delete(orphanKey(ino));
  const inode = tx.inode(ino);
  if (inode !== undefined) destroy(tx, inode);
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
  const { holders, number } = decodeOrphan(value);
  keepOrDestroy(tx, ino, { holders: holders.filter((holder) => holder !== session), number });
  return {};
}

/** Releases every orphan of a session that ended. */
export function* releaseAllOrphans(tx: Transaction, session: SessionId): TableProgram<void> {
  let from = orphanKey(0);
  for (;;) {
    const [rows] = yield [{ gte: from, lt: prefixEnd('o'), limit: ORPHAN_PAGE_COUNT, reverse: false }];
    for (const [key, value] of rows!) {
      if (decodeOrphan(value).holders.includes(session)) releaseOrphan(tx, inoFromKey(key), session);
    }
    if (rows!.length < ORPHAN_PAGE_COUNT) return;
    from = rows!.at(-1)![0] + '\0';
  }
}

/** Destroys some of the orphans that nobody has open, then removes up to `maxRows` rows of dead numbers. */
export function* reclaim(tx: Transaction, sessions: Iterable<Session>, maxRows: number): TableProgram<void> {
  yield* settleOrphans(tx, answeredByAll(tx.counters, sessions));
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
