/** rename(2) with RENAME_NOREPLACE and RENAME_EXCHANGE. */
import type { SessionId } from '../ids.ts';
import type { Inode } from './codec.ts';
import { loseDirectory, loseName } from './link.ts';
import { addEntry, removeEntry } from './make.ts';
import { checkedName } from './names.ts';
import { refuse } from './outcome.ts';
import type { TableProgram, Transaction } from './transaction.ts';
import { isKeptOpen } from './keep-open.ts';
import type { Mutation, MutationResult } from './types.ts';

type Rename = Extract<Mutation, { op: 'rename' }>;

export function* rename(tx: Transaction, m: Rename, session: SessionId): TableProgram<MutationResult> {
  if (m.noReplace && m.exchange) refuse('EINVAL');
  const from = tx.directory(m.parent);
  const to = tx.directory(m.newParent);
  const name = checkedName(m.name);
  const newName = checkedName(m.newName);
  const source = tx.dirent(from.ino, name) ?? refuse('ENOENT');
  const moved = tx.named(source);
  const targetEntry = tx.dirent(to.ino, newName);
  const target = targetEntry === undefined ? undefined : tx.named(targetEntry);
  if (target !== undefined && m.noReplace) refuse('EEXIST');
  if (target === undefined && m.exchange) refuse('ENOENT');
  // Two names of one file (or one name): POSIX leaves both in place.
  if (target === moved) return result(tx, from, to, moved);

  if (from !== to) {
    if (moved.type === 'directory') refuseOwnDescendant(tx, moved, to);
    if (m.exchange && target?.type === 'directory') refuseOwnDescendant(tx, target, from);
  }
  if (m.exchange) return exchange(tx, { from, name, moved, to, newName, target: target! });

  if (target !== undefined) {
    refuseReplace(moved, target);
    removeEntry(tx, to, newName, target);
  }
  removeEntry(tx, from, name, moved);
  addEntry(tx, to, newName, moved);
  moved.parent = moved.type === 'directory' || moved.parent === from.ino ? to.ino : moved.parent;
  tx.touch(moved);
  tx.touchContent(from);
  if (to !== from) tx.touchContent(to);
  if (target === undefined) return result(tx, from, to, moved);
  if (target.type === 'directory') loseDirectory(tx, target, session);
  else yield* loseName(tx, target, to.ino, isKeptOpen(m.keepOpen, target.ino), session);
  return { ...result(tx, from, to, moved), victim: tx.attr(target) };
}

interface Exchange {
  readonly from: Inode;
  readonly name: string;
  readonly moved: Inode;
  readonly to: Inode;
  readonly newName: string;
  readonly target: Inode;
}

function exchange(tx: Transaction, { from, name, moved, to, newName, target }: Exchange): MutationResult {
  removeEntry(tx, from, name, moved);
  removeEntry(tx, to, newName, target);
  addEntry(tx, to, newName, moved);
  addEntry(tx, from, name, target);
  if (moved.type === 'directory' || moved.parent === from.ino) moved.parent = to.ino;
  if (target.type === 'directory' || target.parent === to.ino) target.parent = from.ino;
  tx.touch(moved);
  tx.touch(target);
  tx.touchContent(from);
  if (to !== from) tx.touchContent(to);
  return { ...result(tx, from, to, moved), victim: tx.attr(target) };
}

function result(tx: Transaction, from: Inode, to: Inode, moved: Inode): MutationResult {
  return { attr: tx.attr(moved), parentAttr: tx.attr(from), newParentAttr: tx.attr(to) };
}

/** A directory must not come to lie below itself: walks from `below` up to the root by the stored parents. */
function refuseOwnDescendant(tx: Transaction, moved: Inode, below: Inode): void {
  for (let at: Inode | undefined = below; at !== undefined; at = at.parent === 0 ? undefined : tx.inode(at.parent)) {
    if (at === moved) refuse('EINVAL');
  }
}

function refuseReplace(moved: Inode, target: Inode): void {
  if (moved.type === 'directory') {
    if (target.type !== 'directory') refuse('ENOTDIR');
    if (target.sizeBytes > 0) refuse('ENOTEMPTY');
  } else if (target.type === 'directory') {
    refuse('EISDIR');
  }
}
