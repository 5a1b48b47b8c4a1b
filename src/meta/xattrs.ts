/** Extended attributes. */
import { XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../limits.ts';
import { removeAcl, setAcl } from './acl-rows.ts';
import { aclKindOf } from './acl.ts';
import { keyFromBytes, xattrKey } from './keys.ts';
import { refuse } from './outcome.ts';
import type { Transaction } from './transaction.ts';
import type { Mutation, MutationResult } from './types.ts';
import { dropXattr, putXattr } from './xattr-rows.ts';

export function checkedXattrName(name: Uint8Array): string {
  if (name.length > XATTR_NAME_MAX_BYTES) refuse('ERANGE');
  if (name.length === 0 || name.includes(0)) refuse('EINVAL');
  return keyFromBytes(name);
}

export function setxattr(tx: Transaction, m: Extract<Mutation, { op: 'setxattr' }>): MutationResult {
  const inode = tx.existing(m.ino);
  const name = checkedXattrName(m.name);
  if (m.value.length > XATTR_VALUE_MAX_BYTES) refuse('ERANGE');
  const acl = aclKindOf(m.name);
  if (acl !== undefined) {
    // Linux does not look at "create" and "replace" here.
    setAcl(tx, inode, acl, m.value, m.killSetgid === true);
    return { attr: tx.attr(inode) };
  }
  const exists = tx.get(xattrKey(inode.ino, name)) !== undefined;
  if (exists && m.mode === 'create') refuse('EEXIST');
  if (!exists && m.mode === 'replace') refuse('ENODATA');
  putXattr(tx, inode, name, m.value);
  tx.touch(inode);
  return { attr: tx.attr(inode) };
}

export function removexattr(tx: Transaction, m: Extract<Mutation, { op: 'removexattr' }>): MutationResult {
  const inode = tx.existing(m.ino);
  const name = checkedXattrName(m.name);
  const acl = aclKindOf(m.name);
  if (acl !== undefined) {
    removeAcl(tx, inode, acl);
    return { attr: tx.attr(inode) };
  }
  if (!dropXattr(tx, inode, name)) refuse('ENODATA');
  tx.touch(inode);
  return { attr: tx.attr(inode) };
}
