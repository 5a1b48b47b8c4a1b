/** Extended attributes. */
import { XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../limits.ts';
import { keyFromBytes, xattrKey } from './keys.ts';
import { refuse } from './outcome.ts';
import type { Transaction } from './transaction.ts';
import type { Mutation, MutationResult } from './types.ts';

/** So many names of the greatest length still fit what listxattr(2) can return (64 KiB). */
export const XATTR_MAX_COUNT = 255;
const XATTR_VERSION = 1;

export function checkedXattrName(name: Uint8Array): string {
  if (name.length > XATTR_NAME_MAX_BYTES) refuse('ERANGE');
  if (name.length === 0 || name.includes(0)) refuse('EINVAL');
  return keyFromBytes(name);
}

export function setxattr(tx: Transaction, m: Extract<Mutation, { op: 'setxattr' }>): MutationResult {
  const inode = tx.existing(m.ino);
  const key = xattrKey(inode.ino, checkedXattrName(m.name));
  if (m.value.length > XATTR_VALUE_MAX_BYTES) refuse('ERANGE');
  const exists = tx.get(key) !== undefined;
  if (exists && m.mode === 'create') refuse('EEXIST');
  if (!exists && m.mode === 'replace') refuse('ENODATA');
  if (!exists && inode.xattrCount >= XATTR_MAX_COUNT) refuse('ENOSPC');
  const value = Buffer.allocUnsafe(1 + m.value.length);
  value[0] = XATTR_VERSION;
  value.set(m.value, 1);
  tx.put(key, value);
  if (!exists) inode.xattrCount++;
  tx.touch(inode);
  return { attr: tx.attr(inode) };
}

export function removexattr(tx: Transaction, m: Extract<Mutation, { op: 'removexattr' }>): MutationResult {
  const inode = tx.existing(m.ino);
  const key = xattrKey(inode.ino, checkedXattrName(m.name));
  if (tx.get(key) === undefined) refuse('ENODATA');
  tx.delete(key);
  inode.xattrCount--;
  tx.touch(inode);
  return { attr: tx.attr(inode) };
}

export function xattrValue(row: Uint8Array): Uint8Array {
  return row.subarray(1);
}
