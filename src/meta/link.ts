/** Hard links, unlink and rmdir. */
import { backPrefix, BACK_NAME_AT, BACK_PARENT_AT, prefixEnd, u64FromKey } from './keys.ts';
import type { Ino } from '../ids.ts';
import type { Inode } from './codec.ts';
import { addEntry, removeEntry } from './make.ts';
import { checkedName } from './names.ts';
import { adopt, dropOrOrphan } from './orphans.ts';
import { refuse } from './outcome.ts';
import type { TableProgram, Transaction } from './transaction.ts';
import { isKeptOpen } from './keep-open.ts';
import type { Mutation, MutationResult } from './types.ts';
import type { SessionId } from '../ids.ts';

/** As ext4: keeps the list of all paths of one inode of a bounded size. */
export const FILE_NLINK_MAX = 65_000;

export function link(tx: Transaction, m: Extract<Mutation, { op: 'link' }>, session: SessionId): MutationResult {
  const parent = tx.directory(m.parent);
  const name = checkedName(m.name);
  const inode = tx.existing(m.ino);
  if (inode.nlink === 0) adopt(tx, inode, session);
  if (tx.dirent(parent.ino, name) !== undefined) refuse('EEXIST');
  if (inode.type === 'directory') refuse('EPERM');
  if (inode.nlink >= FILE_NLINK_MAX) refuse('EMLINK');
  if (inode.nlink++ === 0) inode.parent = parent.ino;
  tx.touch(inode);
  tx.touchContent(parent);
  addEntry(tx, parent, name, inode);
  return { attr: tx.attr(inode), parentAttr: tx.attr(parent) };
}

type Unlink = Extract<Mutation, { op: 'unlink' }>;

export function* unlink(tx: Transaction, m: Unlink, session: SessionId): TableProgram<MutationResult> {
  const parent = tx.directory(m.parent);
  const name = checkedName(m.name);
  const dirent = tx.dirent(parent.ino, name) ?? refuse('ENOENT');
  if (dirent.type === 'directory') refuse('EISDIR');
  const victim = tx.named(dirent);
  tx.touchContent(parent);
  removeEntry(tx, parent, name, victim);
  const keepOpen = isKeptOpen(m.keepOpen, victim.ino);
  yield* loseName(tx, victim, parent.ino, keepOpen, session);
  const victimAttr = tx.attr(victim);
  const exists = victim.nlink > 0 || keepOpen;
  return { ...(exists && { attr: victimAttr }), parentAttr: tx.attr(parent), victim: victimAttr };
}

export function rmdir(tx: Transaction, m: Extract<Mutation, { op: 'rmdir' }>, session: SessionId): MutationResult {
  const parent = tx.directory(m.parent);
  const name = checkedName(m.name);
  const dirent = tx.dirent(parent.ino, name) ?? refuse('ENOENT');
  if (dirent.type !== 'directory') refuse('ENOTDIR');
  const victim = tx.named(dirent);
  if (victim.sizeBytes > 0) refuse('ENOTEMPTY');
  tx.touchContent(parent);
  removeEntry(tx, parent, name, victim);
  loseDirectory(tx, victim, session);
  return { parentAttr: tx.attr(parent), victim: tx.attr(victim) };
}

/** The empty directory has lost its entry; it goes at once. */
export function loseDirectory(tx: Transaction, victim: Inode, session: SessionId): void {
  victim.nlink = 0;
  tx.touch(victim);
  dropOrOrphan(tx, victim, false, session);
}

/** One entry of a file is gone (already removed by the caller): the last one takes the file with it. */
export function* loseName(
  tx: Transaction,
  victim: Inode,
  parent: Ino,
  keepOpen: boolean,
  session: SessionId,
): TableProgram<void> {
  victim.nlink--;
  tx.touch(victim);
  if (victim.nlink === 0) dropOrOrphan(tx, victim, keepOpen, session);
  else if (victim.parent === parent) victim.parent = yield* someParent(tx, victim.ino);
}

/** A directory that still has an entry for the inode. */
function* someParent(_tx: Transaction, ino: Ino): TableProgram<Ino | 0> {
  const prefix = backPrefix(ino);
  const [rows] = yield [{ gte: prefix, lt: prefixEnd(prefix), limit: 1, reverse: false }];
  const row = rows?.[0];
  return row === undefined ? 0 : (u64FromKey(row[0], BACK_PARENT_AT) as Ino);
}

/** The name part of a back pointer's key. */
export function backName(key: string): string {
  return key.slice(BACK_NAME_AT);
}
