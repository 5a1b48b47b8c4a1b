/**
 * Access control lists in the table: extended attributes in the kernel's own format, which change and are changed by the
 * mode bits in the same command.
 */
import { StateError } from '../errors.ts';
import {
  aclAfterChmod,
  aclName,
  aclOfNew,
  checkAcl,
  decodeAcl,
  encodeAcl,
  isPlain,
  modeWithAcl,
  type Acl,
  type AclKind,
} from './acl.ts';
import type { Inode } from './codec.ts';
import { keyFromBytes, xattrKey } from './keys.ts';
import { refuse } from './outcome.ts';
import type { Transaction } from './transaction.ts';
import { dropXattr, putXattr, xattrValue } from './xattr-rows.ts';

const SETGID = 0o2000;
const NAMES: Readonly<Record<AclKind, string>> = {
  access: keyFromBytes(aclName('access')),
  default: keyFromBytes(aclName('default')),
};

function storedAcl(tx: Transaction, inode: Inode, kind: AclKind): Acl {
  const row = tx.get(xattrKey(inode.ino, NAMES[kind]));
  const acl = row === undefined ? undefined : decodeAcl(xattrValue(row));
  if (acl === undefined) throw new StateError(`inode ${inode.ino} should have an access control list, and has none`);
  return acl;
}

/** Keeps the list, or none. False if nothing was changed by that. Invariant: the inode says which lists it has. */
function keepAcl(tx: Transaction, inode: Inode, kind: AclKind, acl: Acl | undefined): boolean {
  if (kind === 'access') inode.hasAcl = acl !== undefined;
  else inode.hasDefaultAcl = acl !== undefined;
  if (acl === undefined) return dropXattr(tx, inode, NAMES[kind]);
  const value = encodeAcl(acl);
  const row = tx.get(xattrKey(inode.ino, NAMES[kind]));
  if (row !== undefined && Buffer.compare(xattrValue(row), value) === 0) return false;
  putXattr(tx, inode, NAMES[kind], value);
  return true;
}

/**
 * Sets (or, by an empty value, removes) a list. The mode follows an access list; one that says no more than the mode is not
 * kept. `killSetgid`: whoever asks is not in the file's group and may not give it away. Refuses as decodeAcl and checkAcl
 * do; EOPNOTSUPP for symlinks, EACCES for the default list of what is no directory, in the kernel's order (set_posix_acl).
 */
export function setAcl(tx: Transaction, inode: Inode, kind: AclKind, value: Uint8Array, killSetgid: boolean): void {
  const acl = decodeAcl(value);
  if (acl === undefined) return removeAcl(tx, inode, kind);
  if (inode.type === 'symlink') refuse('EOPNOTSUPP');
  if (kind === 'default' && inode.type !== 'directory') refuse('EACCES');
  checkAcl(acl);
  let changed = false;
  if (kind === 'access') {
    const mode = modeWithAcl(inode.mode, acl) & ~(killSetgid ? SETGID : 0);
    changed = mode !== inode.mode;
    inode.mode = mode;
  }
  const kept = kind === 'access' && isPlain(acl) ? undefined : acl;
  if (keepAcl(tx, inode, kind, kept) || changed) tx.touch(inode);
}

/** The mode stays as it is, the mask in the group's place. None there: nothing to do, as in Linux. */
export function removeAcl(tx: Transaction, inode: Inode, kind: AclKind): void {
  if (inode.type === 'symlink') refuse('EOPNOTSUPP');
  if (keepAcl(tx, inode, kind, undefined)) tx.touch(inode);
}

/** After the mode was changed. */
export function aclFollowsMode(tx: Transaction, inode: Inode): void {
  if (!inode.hasAcl) return;
  keepAcl(tx, inode, 'access', aclAfterChmod(storedAcl(tx, inode, 'access'), inode.mode));
}

/** Gives the new inode, whose mode is the one asked for, what the directory's default list says; without one, the umask's part goes. */
export function inheritAcl(tx: Transaction, parent: Inode, inode: Inode, umask: number): void {
  if (inode.type === 'symlink') return;
  if (!parent.hasDefaultAcl) {
    inode.mode &= ~umask;
    return;
  }
  const defaults = storedAcl(tx, parent, 'default');
  const acl = aclOfNew(defaults, inode.mode);
  inode.mode = modeWithAcl(inode.mode, acl);
  if (!isPlain(acl)) keepAcl(tx, inode, 'access', acl);
  if (inode.type === 'directory') keepAcl(tx, inode, 'default', defaults);
}
