/**
 * Extended attributes: passed through, but for the pool, and those that the kernel asks about on every write (capabilities) and
 * when it looks whether somebody may do something (access control lists).
 */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../limits.ts';
import { aclKindOf, type AclKind } from '../meta/acl.ts';
import type { Attr, MutationResult } from '../meta/types.ts';
import type { MountState } from './mount-state.ts';
import type { Caller, Maybe } from './ops.ts';
import { findPool, poolNamed, POOL_XATTR, untilKnown } from './pools.ts';

const CAPABILITY = Buffer.from('security.capability');
/** Made once: the kernel asks before it writes to a file, and a stack costs more than the answer. */
const NO_CAPABILITY = new FsError('ENODATA');
const TRUSTED = Buffer.from('trusted.');
/** Made once, too: `ls -l` asks for the access control list of each file. */
const NO_ACL = new FsError('ENODATA');
/** And this, as `ls -l` asks for a security label as well. */
const NO_XATTR = new FsError('ENODATA');
/** Those that ext4 has, beside the access control lists. */
const NAMESPACES = [Buffer.from('user.'), TRUSTED, Buffer.from('security.')];
const NO_NAMESPACE = new FsError('EOPNOTSUPP', 'names of extended attributes begin with user., trusted. or security.');

export class XattrOps {
  readonly #state: MountState;

  constructor(state: MountState) {
    this.#state = state;
  }

  getxattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<Uint8Array> {
    const isCapability = CAPABILITY.equals(name);
    if (isCapability && this.#state.inodes.get(ino)?.hasNoCapability === true) throw NO_CAPABILITY;
    const acl = aclKindOf(name);
    if (acl !== undefined && this.#lacksAcl(ino, acl)) throw NO_ACL;
    if (!POOL_XATTR.equals(name) && this.#lacksAll(ino)) {
      checkName(name);
      throw NO_XATTR;
    }
    return this.#ask(caller, ino, name, isCapability);
  }

  /** As the attributes tell for as long as they are believed: the kernel forgets a list whenever it asks for these. */
  #lacksAcl(ino: Ino, kind: AclKind): boolean {
    const inode = this.#state.inodes.get(ino);
    if (inode === undefined || inode.attrExpiresMs <= this.#state.clock.monotonicMs()) return false;
    return !(kind === 'access' ? inode.attr.hasAcl : inode.attr.hasDefaultAcl);
  }

  #lacksAll(ino: Ino): boolean {
    const inode = this.#state.inodes.get(ino);
    return inode !== undefined && inode.attrExpiresMs > this.#state.clock.monotonicMs() && !inode.attr.hasXattrs;
  }

  async #ask(caller: Caller, ino: Ino, name: Uint8Array, isCapability: boolean): Promise<Uint8Array> {
    checkName(name);
    if (POOL_XATTR.equals(name)) return await this.#poolOf(caller, ino);
    const askedAt = this.#state.inodes.stamp();
    try {
      const { value } = await this.#state.query<'getxattr'>({ op: 'getxattr', ino, name }, caller.signal);
      return value;
    } catch (error) {
      if (isCapability && error instanceof FsError && error.code === 'ENODATA') {
        const inode = this.#state.inodes.get(ino);
        // It may have got one since it was asked.
        if (inode !== undefined && inode.changedAt <= askedAt) inode.hasNoCapability = true;
      }
      throw error;
    }
  }

  async #poolOf(caller: Caller, ino: Ino): Promise<Uint8Array> {
    const { pool } = await this.#attrOf(caller, ino);
    await untilKnown(this.#state, pool);
    return Buffer.from(findPool(this.#state.catalog, ({ id }) => id === pool)?.name ?? String(pool));
  }

  async #attrOf(caller: Caller, ino: Ino): Promise<Attr> {
    const askedAt = this.#state.inodes.stamp();
    const { attr } = await this.#state.query<'getattr'>({ op: 'getattr', ino }, caller.signal);
    this.#state.learn(attr, askedAt);
    return attr;
  }

  /** For what is made in the directory from now on. Whoever may change its mode may do that. */
  async #assign(caller: Caller, ino: Ino, value: Uint8Array, mode: 'any' | 'create' | 'replace'): Promise<void> {
    if (mode === 'create') throw new FsError('EEXIST');
    const { type, uid } = await this.#attrOf(caller, ino);
    if (type !== 'directory') throw new FsError('ENOTDIR', 'only directories are assigned to pools');
    if (caller.uid !== 0 && caller.uid !== uid) throw new FsError('EPERM', 'only its owner assigns a directory');
    const { id } = await poolNamed(this.#state, Buffer.from(value).toString());
    const askedAt = this.#state.inodes.stamp();
    const { attr } = await this.#state.mutate({ op: 'setattr', ino, set: { pool: id } });
    if (attr !== undefined) this.#state.changed(attr, askedAt);
  }

  async setxattr(
    caller: Caller,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: 'any' | 'create' | 'replace',
    killSetgid: boolean,
  ): Promise<void> {
    checkName(name);
    if (value.length > XATTR_VALUE_MAX_BYTES) throw new FsError('ERANGE');
    if (POOL_XATTR.equals(name)) return await this.#assign(caller, ino, value, mode);
    // The bytes may be the binding's request buffer.
    const given = { op: 'setxattr', ino, name, value: new Uint8Array(value), mode } as const;
    const askedAt = this.#state.inodes.stamp();
    this.#changed(await this.#state.mutate(killSetgid ? { ...given, killSetgid } : given), ino, askedAt);
  }

  async removexattr(_caller: Caller, ino: Ino, name: Uint8Array): Promise<void> {
    checkName(name);
    if (POOL_XATTR.equals(name)) throw new FsError('EPERM', 'everything has a pool: give the directory another one');
    const askedAt = this.#state.inodes.stamp();
    this.#changed(await this.#state.mutate({ op: 'removexattr', ino, name }), ino, askedAt);
  }

  listxattr(caller: Caller, ino: Ino): Maybe<readonly Uint8Array[]> {
    return this.#lacksAll(ino) ? [] : this.#askNames(caller, ino);
  }

  async #askNames(caller: Caller, ino: Ino): Promise<readonly Uint8Array[]> {
    const { names } = await this.#state.query<'listxattr'>({ op: 'listxattr', ino }, caller.signal);
    // The kernel keeps others from reading and writing them, but not from seeing their names.
    return caller.uid === 0 ? names : names.filter((name) => !TRUSTED.equals(name.subarray(0, TRUSTED.length)));
  }

  /** The change time is another now, and the mode after an access control list. */
  #changed({ attr }: MutationResult, ino: Ino, askedAt: number): void {
    const inode = this.#state.inodes.get(ino);
    if (inode === undefined) return;
    inode.hasNoCapability = false;
    if (attr === undefined) inode.attrExpiresMs = 0;
    else this.#state.changed(attr, askedAt);
  }
}

function checkName(name: Uint8Array): void {
  if (name.length === 0 || name.length > XATTR_NAME_MAX_BYTES) throw new FsError('ERANGE');
  if (POOL_XATTR.equals(name) || aclKindOf(name) !== undefined) return;
  const prefix = NAMESPACES.find((candidate) => candidate.equals(name.subarray(0, candidate.length)));
  if (prefix === undefined) throw NO_NAMESPACE;
  if (prefix.length === name.length) throw new FsError('EINVAL', 'the name ends after its namespace');
}
