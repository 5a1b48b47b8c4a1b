/**
 * Access control lists as Linux has them (acl(5), after POSIX.1e draft 17): decoding, checking, and how they and the mode
 * bits follow each other. Pure. The source of all rules is the kernel (`fs/posix_acl.c`,
 * `include/uapi/linux/posix_acl_xattr.h`): programs that work on ext4 must see the same here.
 *
 * The kernel of each mount decides by them who may do what; here they are kept, changed by chmod and inherited.
 */
import { refuse } from './outcome.ts';

/** `access`: of the inode itself; `default`: of a directory, for what is made in it. */
export type AclKind = 'access' | 'default';

/** Whom an entry is about. Values are the kernel's e_tag. */
export const AclTag = { OWNER: 0x01, USER: 0x02, OWNING_GROUP: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 } as const;

export interface AclEntry {
  /** One of {@link AclTag}. */
  readonly tag: number;
  /** 4 read, 2 write, 1 execute. */
  readonly permissions: number;
  /** uid of USER, gid of GROUP; NO_ID with the other tags. */
  readonly id: number;
}

/** Entries in the order in which they were given, which is that of their tags. */
export type Acl = readonly AclEntry[];

/** The attribute's value: version u32, then entries of tag u16, permissions u16, id u32; little endian. */
const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const NO_ID = 0xffff_ffff;
/**
 * Longest value, 511 entries: the kernel's FUSE passes access control lists in one page of 4 KiB. ext4 keeps about as many
 * (a block's worth).
 */
export const ACL_MAX_BYTES = 4096;

const ACCESS_NAME = Buffer.from('system.posix_acl_access');
const DEFAULT_NAME = Buffer.from('system.posix_acl_default');
const FIRST_BYTE = ACCESS_NAME[0];

/** Which list the extended attribute of this name is; undefined for all other names. */
export function aclKindOf(name: Uint8Array): AclKind | undefined {
  if (name[0] !== FIRST_BYTE) return undefined;
  if (ACCESS_NAME.equals(name)) return 'access';
  return DEFAULT_NAME.equals(name) ? 'default' : undefined;
}

/** The name of the extended attribute. */
export function aclName(kind: AclKind): Uint8Array {
  return kind === 'access' ? ACCESS_NAME : DEFAULT_NAME;
}

/**
 * Reads an attribute's value; undefined for one without entries, which means "none" (to set it is to remove the list). Ids
 * of tags that have none are dropped. Refuses with EINVAL what has another length or unknown tags, with EOPNOTSUPP
 * another version, with ENOSPC what is longer than ACL_MAX_BYTES (posix_acl_from_xattr, but for the last).
 */
export function decodeAcl(value: Uint8Array): Acl | undefined {
  if (value.length === 0) return undefined;
  if (value.length < HEADER_BYTES) refuse('EINVAL');
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  if (view.getUint32(0, true) !== VERSION) refuse('EOPNOTSUPP');
  if ((value.length - HEADER_BYTES) % ENTRY_BYTES !== 0) refuse('EINVAL');
  if (value.length === HEADER_BYTES) return undefined;
  if (value.length > ACL_MAX_BYTES) refuse('ENOSPC');
  const acl: AclEntry[] = [];
  for (let at = HEADER_BYTES; at < value.length; at += ENTRY_BYTES) {
    const tag = view.getUint16(at, true);
    const id = hasId(tag) ? view.getUint32(at + 4, true) : NO_ID;
    if (!TAGS.has(tag)) refuse('EINVAL');
    acl.push({ tag, permissions: view.getUint16(at + 2, true), id });
  }
  return acl;
}

/** The attribute's value. */
export function encodeAcl(acl: Acl): Uint8Array {
  const value = new Uint8Array(HEADER_BYTES + acl.length * ENTRY_BYTES);
  const view = new DataView(value.buffer);
  view.setUint32(0, VERSION, true);
  acl.forEach(({ tag, permissions, id }, index) => {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    view.setUint32(at + 4, id, true);
  });
  return value;
}

const TAGS: ReadonlySet<number> = new Set(Object.values(AclTag));

function hasId(tag: number): boolean {
  return tag === AclTag.USER || tag === AclTag.GROUP;
}

/** What may follow each tag. The ends are OWNER in front and OTHER behind; groups and users need a mask. */
const FOLLOWERS: ReadonlyMap<number, readonly number[]> = new Map([
  [AclTag.OWNER, [AclTag.USER, AclTag.OWNING_GROUP]],
  [AclTag.USER, [AclTag.USER, AclTag.OWNING_GROUP]],
  [AclTag.OWNING_GROUP, [AclTag.GROUP, AclTag.MASK, AclTag.OTHER]],
  [AclTag.GROUP, [AclTag.GROUP, AclTag.MASK]],
  [AclTag.MASK, [AclTag.OTHER]],
  [AclTag.OTHER, []],
]);

/**
 * Refuses with EINVAL a list that is out of order, lacks an entry, has one too many, permissions that there are not, or the
 * id that means nobody (posix_acl_valid). That ids come twice or in no order is no fault.
 */
export function checkAcl(acl: Acl): void {
  if (acl[0]?.tag !== AclTag.OWNER || acl.at(-1)?.tag !== AclTag.OTHER) refuse('EINVAL');
  const namesIds = acl.some(({ tag }) => hasId(tag));
  if (namesIds && !acl.some(({ tag }) => tag === AclTag.MASK)) refuse('EINVAL');
  acl.forEach(({ tag, permissions, id }, index) => {
    if (permissions > 7 || (hasId(tag) && id === NO_ID)) refuse('EINVAL');
    const next = acl[index + 1];
    if (next !== undefined && FOLLOWERS.get(tag)?.includes(next.tag) !== true) refuse('EINVAL');
  });
}

export const PERMISSION_BITS = 0o777;

/** How far the permissions of an entry stand left in the mode; undefined for those that the mode does not show. */
function shiftOf(tag: number, hasMask: boolean): number | undefined {
  switch (tag) {
    case AclTag.OWNER:
      return 6;
    case AclTag.OWNING_GROUP:
      return hasMask ? undefined : 3;
    case AclTag.MASK:
      return 3;
    case AclTag.OTHER:
      return 0;
    default:
      return undefined;
  }
}

function hasMask(acl: Acl): boolean {
  return acl.some(({ tag }) => tag === AclTag.MASK);
}

/** Whether the mode bits say all that the list does, so that it need not be kept (posix_acl_equiv_mode). */
export function isPlain(acl: Acl): boolean {
  return !acl.some(({ tag }) => hasId(tag) || tag === AclTag.MASK);
}

/** The mode with the permission bits that stat(2) shows: the group's are the mask's, if there is one. */
export function modeWithAcl(mode: number, acl: Acl): number {
  const masked = hasMask(acl);
  let bits = 0;
  for (const { tag, permissions } of acl) {
    const shift = shiftOf(tag, masked);
    if (shift !== undefined) bits |= permissions << shift;
  }
  return (mode & ~PERMISSION_BITS) | bits;
}

/** The access list after chmod(2): the group's bits become the mask's, if there is one (posix_acl_chmod). */
export function aclAfterChmod(acl: Acl, mode: number): Acl {
  const masked = hasMask(acl);
  return acl.map((entry) => {
    const shift = shiftOf(entry.tag, masked);
    return shift === undefined ? entry : { ...entry, permissions: (mode >> shift) & 7 };
  });
}

/**
 * The access list of what is made with this mode in a directory with that default list: no entry that the mode shows
 * allows more than the mode that was asked for, in which no umask is (posix_acl_create). {@link modeWithAcl} is the mode.
 */
export function aclOfNew(defaults: Acl, mode: number): Acl {
  const masked = hasMask(defaults);
  return defaults.map((entry) => {
    const shift = shiftOf(entry.tag, masked);
    return shift === undefined ? entry : { ...entry, permissions: entry.permissions & (mode >> shift) };
  });
}
