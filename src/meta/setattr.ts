/** chmod, chown, utimens, truncate, and the pool of a directory. */
import { FILE_MAX_BYTES } from '../limits.ts';
import { aclFollowsMode } from './acl-rows.ts';
import type { Inode } from './codec.ts';
import { clearRange } from './data.ts';
import { MODE_MASK } from './make.ts';
import { dropData } from './orphans.ts';
import { refuse } from './outcome.ts';
import type { TableProgram, Transaction } from './transaction.ts';
import type { Mutation, MutationResult } from './types.ts';

const SETUID = 0o4000;
const SETGID = 0o2000;
const GROUP_EXECUTE = 0o0010;

export function* setattr(tx: Transaction, m: Extract<Mutation, { op: 'setattr' }>): TableProgram<MutationResult> {
  const inode = tx.existing(m.ino);
  const { set } = m;
  if (m.ifNamed === true && inode.nlink === 0) refuse('ENOENT');
  if (set.pool !== undefined) {
    if (inode.type !== 'directory') refuse('ENOTDIR');
    inode.pool = set.pool;
  }
  if (set.sizeBytes !== undefined) yield* truncate(tx, inode, set.sizeBytes);
  if (set.uid !== undefined || set.gid !== undefined) {
    inode.uid = set.uid ?? inode.uid;
    inode.gid = set.gid ?? inode.gid;
    if (inode.type !== 'directory') inode.mode = withoutSetId(inode.mode);
  }
  if (set.mode !== undefined) {
    inode.mode = set.mode & MODE_MASK;
    aclFollowsMode(tx, inode);
  }
  tx.touch(inode);
  if (set.atimeNs !== undefined) inode.atimeNs = set.atimeNs === 'now' ? inode.ctimeNs : set.atimeNs;
  if (set.mtimeNs !== undefined) inode.mtimeNs = set.mtimeNs === 'now' ? inode.ctimeNs : set.mtimeNs;
  return { attr: tx.attr(inode) };
}

/** Not a change of the inode in any other respect: ctime and version stay, and what is kept of it elsewhere stays valid. */
export function accessed(tx: Transaction, m: Extract<Mutation, { op: 'accessed' }>): MutationResult {
  const inode = tx.existing(m.ino);
  if (m.atimeNs > inode.atimeNs) {
    inode.atimeNs = m.atimeNs;
    tx.changed(inode);
  }
  return { attr: tx.attr(inode) };
}

/** A new owner, or new content, must not get a program that runs as someone else. setgid without group execute marks locking, and stays. */
export function withoutSetId(mode: number): number {
  const clear = (mode & GROUP_EXECUTE) !== 0 ? SETUID | SETGID : SETUID;
  return mode & ~clear;
}

function* truncate(tx: Transaction, inode: Inode, sizeBytes: number): TableProgram<void> {
  if (inode.type === 'directory') refuse('EISDIR');
  if (inode.type !== 'file') refuse('EINVAL');
  if (sizeBytes > FILE_MAX_BYTES) refuse('EFBIG');
  if (sizeBytes === 0) dropData(tx, inode);
  else if (sizeBytes < inode.extentEnd) yield* clearRange(tx, inode, sizeBytes, FILE_MAX_BYTES);
  // Also to the same size: whoever cuts must see by the version whether others wrote meanwhile.
  inode.version++;
  inode.sizeBytes = sizeBytes;
  tx.touchContent(inode);
}
