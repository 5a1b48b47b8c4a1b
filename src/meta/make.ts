/** Making files, directories, symlinks and special files. */
import type { SessionId } from '../ids.ts';
import { SYMLINK_MAX_BYTES } from '../limits.ts';
import { inheritAcl } from './acl-rows.ts';
import { EMPTY_BYTES, encodeDirent, type Inode } from './codec.ts';
import { backKey, direntKey } from './keys.ts';
import { checkedName } from './names.ts';
import { orphan } from './orphans.ts';
import { refuse } from './outcome.ts';
import type { Transaction } from './transaction.ts';
import type { Mutation, MutationResult } from './types.ts';

type Make = Extract<Mutation, { op: 'make' }>;

/** nlink is 32 bits in rows and in struct stat of old programs; a directory with more subdirectories is not useful. */
const DIRECTORY_NLINK_MAX = 0xffff_fffe;
const SETGID = 0o2000;
export const MODE_MASK = 0o7777;

export function make(tx: Transaction, m: Make): MutationResult {
  const parent = tx.directory(m.parent);
  const name = checkedName(m.name);
  const existing = tx.dirent(parent.ino, name);
  if (existing !== undefined) {
    if (m.exclusive || m.type !== 'file' || existing.type !== 'file') refuse('EEXIST');
    return { attr: tx.attr(tx.named(existing)), parentAttr: tx.attr(parent), created: false };
  }
  const target = checkedTarget(m);
  if (m.type === 'directory' && parent.nlink >= DIRECTORY_NLINK_MAX) refuse('EMLINK');
  tx.touchContent(parent);
  const inode = newInode(tx, parent, m, target);
  addEntry(tx, parent, name, inode);
  return { attr: tx.attr(inode), parentAttr: tx.attr(parent), created: true };
}

/** The directory itself is not changed. */
export function makeNameless(
  tx: Transaction,
  m: Extract<Mutation, { op: 'makeNameless' }>,
  session: SessionId,
): MutationResult {
  const inode = newInode(tx, tx.directory(m.parent), { ...m, type: 'file', rdev: 0 }, EMPTY_BYTES);
  inode.nlink = 0;
  orphan(tx, inode, session);
  return { attr: tx.attr(inode), created: true };
}

function newInode(
  tx: Transaction,
  parent: Inode,
  m: Pick<Make, 'type' | 'mode' | 'umask' | 'owner' | 'rdev'>,
  target: Uint8Array,
): Inode {
  const mode = m.mode & MODE_MASK;
  const isDirectory = m.type === 'directory';
  // As on every Linux filesystem, a setgid directory hands its group (and to directories the bit) to what is made in it.
  const inheritsGroup = (parent.mode & SETGID) !== 0;
  const nowNs = tx.timeFor(parent);
  const ino = tx.takeIno();
  const inode: Inode = {
    ino,
    type: m.type,
    mode: m.type === 'symlink' ? 0o777 : inheritsGroup && isDirectory ? mode | SETGID : mode,
    uid: m.owner.uid,
    gid: inheritsGroup ? parent.gid : m.owner.gid,
    nlink: isDirectory ? 2 : 1,
    sizeBytes: target.length,
    storedBytes: 0,
    atimeNs: nowNs,
    mtimeNs: nowNs,
    ctimeNs: nowNs,
    rdev: m.type === 'char' || m.type === 'block' ? m.rdev : 0,
    version: 1,
    generation: 1,
    pool: parent.pool,
    parent: parent.ino,
    dataIno: ino,
    extentCount: 0,
    blockExtentCount: 0,
    extentEnd: 0,
    xattrCount: 0,
    hasAcl: false,
    hasDefaultAcl: false,
    target,
  };
  tx.insertInode(inode);
  inheritAcl(tx, parent, inode, m.umask ?? 0);
  return inode;
}

function checkedTarget(m: Make): Uint8Array {
  if (m.type !== 'symlink') return EMPTY_BYTES;
  if (m.target === undefined || m.target.length === 0) return refuse('ENOENT');
  if (m.target.length > SYMLINK_MAX_BYTES) refuse('ENAMETOOLONG');
  if (m.target.includes(0)) refuse('EINVAL');
  return m.target;
}

/** Writes the entry and its back pointer and counts it in the directory. Times and the inode's own nlink are the caller's. */
export function addEntry(tx: Transaction, parent: Inode, name: string, inode: Inode): void {
  tx.put(direntKey(parent.ino, name), encodeDirent(inode));
  tx.put(backKey(inode.ino, parent.ino, name), EMPTY_BYTES);
  parent.sizeBytes++;
  parent.version++;
  if (inode.type === 'directory') parent.nlink++;
}

/** Inverse of {@link addEntry}. */
export function removeEntry(tx: Transaction, parent: Inode, name: string, inode: Inode): void {
  tx.delete(direntKey(parent.ino, name));
  tx.delete(backKey(inode.ino, parent.ino, name));
  parent.sizeBytes--;
  parent.version++;
  if (inode.type === 'directory') parent.nlink--;
}
