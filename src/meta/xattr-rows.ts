/** The rows of extended attributes, counted in their inode. */
import type { Inode } from './codec.ts';
import { xattrKey } from './keys.ts';
import { refuse } from './outcome.ts';
import type { Transaction } from './transaction.ts';

/** So many names of the greatest length still fit what listxattr(2) can return (64 KiB). */
export const XATTR_MAX_COUNT = 255;
const XATTR_VERSION = 1;

/** Refuses with ENOSPC if it would be one too many. The times are the caller's. */
export function putXattr(tx: Transaction, inode: Inode, name: string, value: Uint8Array): void {
  const key = xattrKey(inode.ino, name);
  const exists = tx.get(key) !== undefined;
  if (!exists && inode.xattrCount >= XATTR_MAX_COUNT) refuse('ENOSPC');
  const row = Buffer.allocUnsafe(1 + value.length);
  row[0] = XATTR_VERSION;
  row.set(value, 1);
  tx.put(key, row);
  if (!exists) inode.xattrCount++;
}

/** False if there was none. The times are the caller's. */
export function dropXattr(tx: Transaction, inode: Inode, name: string): boolean {
  const key = xattrKey(inode.ino, name);
  if (tx.get(key) === undefined) return false;
  tx.delete(key);
  inode.xattrCount--;
  return true;
}

export function xattrValue(row: Uint8Array): Uint8Array {
  return row.subarray(1);
}
