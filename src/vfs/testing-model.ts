/**
 * The simplest filesystem that could be right, as the operations of ops.ts show it: a tree of objects with whole byte arrays.
 * vfs-tree.test.ts compares two mounts with it. It knows nothing of mounts, caches, commits or blocks, and takes nothing from
 * src/meta: what is right is written here a second time.
 */
import type { Errno } from '../errors.ts';
import type { FileType } from '../meta/types.ts';

/** An access control list with at most one named user: enough for all rules of how lists and modes follow each other. */
export interface ModelList {
  readonly user: number;
  readonly named?: { readonly uid: number; readonly permissions: number };
  readonly group: number;
  readonly mask?: number;
  readonly other: number;
}

export interface ModelNode {
  readonly type: FileType;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  readonly rdev: number;
  readonly target: string;
  readonly entries: Map<string, ModelNode>;
  /** The directory that holds it, of directories. */
  parent: ModelNode | undefined;
  bytes: Buffer;
  /** For each byte whether it is stored: 1, or a hole: 0. */
  stored: Buffer;
  readonly attributes: Map<string, string>;
  access: ModelList | undefined;
  defaults: ModelList | undefined;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  /** By kind: for each byte, who holds it how. */
  readonly locks: { readonly posix: Holders[]; readonly flock: Holders[] };
}

type Holders = Map<string, 'read' | 'write'>;

export class ModelError extends Error {
  readonly code: Errno;
  constructor(code: Errno) {
    super(code);
    this.code = code;
  }
}

export function refuse(code: Errno): never {
  throw new ModelError(code);
}

export interface ModelSet {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly sizeBytes?: number;
  readonly atimeNs?: bigint | 'now';
  readonly mtimeNs?: bigint | 'now';
}

export interface ModelUser {
  readonly uid: number;
  readonly gid: number;
}

const SETUID = 0o4000;
const SETGID = 0o2000;
const NAME_MAX = 255;
const FILE_MAX = 2 ** 53 - 1;
/** Bytes of a file that the tests lock. */
export const LOCKED_BYTES = 8;

export class ModelFs {
  /** Now, to the millisecond. */
  nowNs = 0n;
  readonly root: ModelNode = this.#node('directory', { uid: 0, gid: 0 }, 0o755, 0, '');

  #node(type: FileType, owner: ModelUser, mode: number, rdev: number, target: string): ModelNode {
    const locks = () => Array.from({ length: LOCKED_BYTES }, (): Holders => new Map());
    return {
      type,
      mode,
      ...owner,
      nlink: type === 'directory' ? 2 : 1,
      rdev: type === 'char' || type === 'block' ? rdev : 0,
      target,
      entries: new Map(),
      parent: undefined,
      bytes: Buffer.alloc(0),
      stored: Buffer.alloc(0),
      attributes: new Map(),
      access: undefined,
      defaults: undefined,
      atimeNs: this.nowNs,
      mtimeNs: this.nowNs,
      ctimeNs: this.nowNs,
      locks: { posix: locks(), flock: locks() },
    };
  }

  // Names

  lookup(parent: ModelNode, name: string): ModelNode {
    checkName(name);
    return directory(parent).entries.get(name) ?? refuse('ENOENT');
  }

  make(
    user: ModelUser,
    parent: ModelNode,
    name: string,
    what: { readonly type: FileType; readonly mode: number; readonly umask: number; readonly rdev?: number },
    target = '',
  ): ModelNode {
    if (target.length > 4095) refuse('ENAMETOOLONG');
    checkName(name);
    if (directory(parent).entries.has(name)) refuse('EEXIST');
    if (what.type === 'symlink' && target === '') refuse('ENOENT');
    const made = this.#inherited(user, parent, what, target);
    this.#attach(parent, name, made);
    this.#contentChanged(parent);
    return made;
  }

  /** What open(2) with O_CREAT and without O_EXCL finds, if it is there. */
  existing(parent: ModelNode, name: string): ModelNode | undefined {
    checkName(name);
    const found = directory(parent).entries.get(name);
    if (found !== undefined && found.type !== 'file') refuse('EEXIST');
    return found;
  }

  makeNameless(user: ModelUser, parent: ModelNode, mode: number, umask: number): ModelNode {
    const made = this.#inherited(user, directory(parent), { type: 'file', mode, umask }, '');
    made.nlink = 0;
    return made;
  }

  #inherited(
    user: ModelUser,
    parent: ModelNode,
    what: { readonly type: FileType; readonly mode: number; readonly umask: number; readonly rdev?: number },
    target: string,
  ): ModelNode {
    const { type, umask, rdev = 0 } = what;
    const takesGroup = (parent.mode & SETGID) !== 0;
    const owner = { uid: user.uid, gid: takesGroup ? parent.gid : user.gid };
    if (type === 'symlink') return this.#node(type, owner, 0o777, 0, target);
    const mode = takesGroup && type === 'directory' ? what.mode | SETGID : what.mode;
    const made = this.#node(type, owner, mode, rdev, target);
    const { defaults } = parent;
    if (defaults === undefined) {
      made.mode &= ~umask;
      return made;
    }
    const list = {
      ...defaults,
      user: defaults.user & (mode >> 6),
      other: defaults.other & mode,
      ...(defaults.mask === undefined
        ? { group: defaults.group & (mode >> 3) }
        : { mask: defaults.mask & (mode >> 3) }),
    };
    made.mode = withList(mode, list);
    if (!isPlain(list)) made.access = list;
    if (type === 'directory') made.defaults = defaults;
    return made;
  }

  link(node: ModelNode, parent: ModelNode, name: string): void {
    checkName(name);
    if (directory(parent).entries.has(name)) refuse('EEXIST');
    if (node.type === 'directory') refuse('EPERM');
    node.nlink += 1;
    node.ctimeNs = this.nowNs;
    this.#attach(parent, name, node);
    this.#contentChanged(parent);
  }

  unlink(parent: ModelNode, name: string): ModelNode {
    const found = this.lookup(parent, name);
    if (found.type === 'directory') refuse('EISDIR');
    this.#detach(parent, name);
    this.#contentChanged(parent);
    this.#lost(found);
    return found;
  }

  rmdir(parent: ModelNode, name: string): void {
    const found = this.lookup(parent, name);
    if (found.type !== 'directory') refuse('ENOTDIR');
    if (found.entries.size > 0) refuse('ENOTEMPTY');
    this.#detach(parent, name);
    this.#contentChanged(parent);
    found.nlink = 0;
  }

  /** The file that lost a name by it. */
  rename(
    from: ModelNode,
    name: string,
    to: ModelNode,
    newName: string,
    { noReplace, exchange }: { readonly noReplace: boolean; readonly exchange: boolean },
  ): ModelNode | undefined {
    checkName(name);
    checkName(newName);
    if (noReplace && exchange) refuse('EINVAL');
    const moved = directory(directory(from) && to) && (from.entries.get(name) ?? refuse('ENOENT'));
    const target = to.entries.get(newName);
    if (target !== undefined && noReplace) refuse('EEXIST');
    if (target === undefined && exchange) refuse('ENOENT');
    if (moved === target) return undefined;
    if (isWithin(to, moved) || (exchange && target !== undefined && isWithin(from, target))) refuse('EINVAL');
    if (!exchange && target !== undefined) {
      if (moved.type === 'directory' && target.type !== 'directory') refuse('ENOTDIR');
      if (moved.type !== 'directory' && target.type === 'directory') refuse('EISDIR');
      if (target.entries.size > 0) refuse('ENOTEMPTY');
    }
    this.#detach(from, name);
    if (target !== undefined) this.#detach(to, newName);
    this.#attach(to, newName, moved);
    if (exchange) this.#attach(from, name, target!);
    moved.ctimeNs = this.nowNs;
    this.#contentChanged(from);
    this.#contentChanged(to);
    if (target === undefined) return undefined;
    if (exchange) target.ctimeNs = this.nowNs;
    else if (target.type === 'directory') target.nlink = 0;
    else this.#lost(target);
    return target;
  }

  #attach(parent: ModelNode, name: string, child: ModelNode): void {
    parent.entries.set(name, child);
    if (child.type !== 'directory') return;
    child.parent = parent;
    parent.nlink += 1;
  }

  #detach(parent: ModelNode, name: string): void {
    if (parent.entries.get(name)!.type === 'directory') parent.nlink -= 1;
    parent.entries.delete(name);
  }

  #lost(node: ModelNode): void {
    node.nlink -= 1;
    node.ctimeNs = this.nowNs;
  }

  #contentChanged(node: ModelNode): void {
    node.mtimeNs = node.ctimeNs = this.nowNs;
  }

  // Attributes

  setattr(node: ModelNode, set: ModelSet): void {
    if (set.sizeBytes !== undefined) {
      if (set.sizeBytes < 0) refuse('EINVAL');
      this.truncate(node, set.sizeBytes);
    }
    if (set.uid !== undefined || set.gid !== undefined) {
      node.uid = set.uid ?? node.uid;
      node.gid = set.gid ?? node.gid;
      // setgid without group execute is a mark for locking.
      if (node.type !== 'directory') node.mode &= (node.mode & 0o010) === 0 ? ~SETUID : ~(SETUID | SETGID);
    }
    if (set.mode !== undefined) {
      node.mode = set.mode;
      if (node.access !== undefined) node.access = chmodded(node.access, set.mode);
    }
    node.ctimeNs = this.nowNs;
    if (set.atimeNs !== undefined) node.atimeNs = set.atimeNs === 'now' ? this.nowNs : set.atimeNs;
    if (set.mtimeNs !== undefined) node.mtimeNs = set.mtimeNs === 'now' ? this.nowNs : set.mtimeNs;
  }

  setxattr(node: ModelNode, name: string, value: string, mode: 'any' | 'create' | 'replace'): void {
    checkXattr(name);
    const exists = node.attributes.has(name);
    if (exists && mode === 'create') refuse('EEXIST');
    if (!exists && mode === 'replace') refuse('ENODATA');
    node.attributes.set(name, value);
    node.ctimeNs = this.nowNs;
  }

  getxattr(node: ModelNode, name: string): string {
    checkXattr(name);
    return node.attributes.get(name) ?? refuse('ENODATA');
  }

  removexattr(node: ModelNode, name: string): void {
    checkXattr(name);
    if (!node.attributes.delete(name)) refuse('ENODATA');
    node.ctimeNs = this.nowNs;
  }

  /** `list` undefined: removes it. 'spoilt': one that lacks an entry. */
  setList(node: ModelNode, kind: 'access' | 'defaults', list: ModelList | 'spoilt' | undefined, killSetgid: boolean) {
    if (node.type === 'symlink') refuse('EOPNOTSUPP');
    if (list === undefined) {
      if (node[kind] !== undefined) node.ctimeNs = this.nowNs;
      node[kind] = undefined;
      return;
    }
    if (kind === 'defaults' && node.type !== 'directory') refuse('EACCES');
    if (list === 'spoilt') refuse('EINVAL');
    const before = [node.mode, JSON.stringify(node[kind])].join();
    if (kind === 'access') node.mode = withList(node.mode, list) & ~(killSetgid ? SETGID : 0);
    node[kind] = kind === 'access' && isPlain(list) ? undefined : list;
    if ([node.mode, JSON.stringify(node[kind])].join() !== before) node.ctimeNs = this.nowNs;
  }

  // Content

  write(node: ModelNode, offset: number, data: Uint8Array): number {
    if (offset + data.length > FILE_MAX) refuse('EFBIG');
    if (data.length === 0) return 0;
    grow(node, offset + data.length);
    node.bytes.set(data, offset);
    node.stored.fill(1, offset, offset + data.length);
    this.#contentChanged(node);
    return data.length;
  }

  /** O_TRUNC. */
  empty(user: ModelUser, node: ModelNode): void {
    this.truncate(node, 0);
    if (user.uid !== 0) node.mode &= (node.mode & 0o010) === 0 ? ~SETUID : ~(SETUID | SETGID);
  }

  truncate(node: ModelNode, size: number): void {
    if (node.type === 'directory') refuse('EISDIR');
    if (node.type !== 'file') refuse('EINVAL');
    node.bytes = Buffer.from(node.bytes.subarray(0, size));
    node.stored = Buffer.from(node.stored.subarray(0, size));
    grow(node, size);
    this.#contentChanged(node);
  }

  fallocate(node: ModelNode, offset: number, length: number, mode: number): void {
    if (length <= 0) refuse('EINVAL');
    if (![0, 1, 3, 16, 17].includes(mode)) refuse('EOPNOTSUPP');
    const end = offset + length;
    if (mode > 1) {
      node.bytes.fill(0, Math.min(offset, node.bytes.length), Math.min(end, node.bytes.length));
      node.stored.fill(0, Math.min(offset, node.bytes.length), Math.min(end, node.bytes.length));
    }
    if ((mode & 1) === 0) grow(node, end);
    this.#contentChanged(node);
  }

  /** SEEK_DATA 3, SEEK_HOLE 4. */
  lseek(node: ModelNode, offset: number, whence: number): number {
    if (offset >= node.bytes.length) refuse('ENXIO');
    const found = node.stored.indexOf(whence === 3 ? 1 : 0, offset);
    if (found >= 0) return found;
    return whence === 4 ? node.bytes.length : refuse('ENXIO');
  }

  copy(source: ModelNode, from: number, target: ModelNode, to: number, length: number): number {
    const count = Math.min(length, source.bytes.length - from);
    if (count <= 0) return 0;
    if (source === target && Math.abs(from - to) < count) refuse('EINVAL');
    const bytes = Buffer.from(source.bytes.subarray(from, from + count));
    const stored = Buffer.from(source.stored.subarray(from, from + count));
    grow(target, to + count);
    target.bytes.set(bytes, to);
    target.stored.set(stored, to);
    this.#contentChanged(target);
    return count;
  }

  // Locks

  lock(
    node: ModelNode,
    kind: 'posix' | 'flock',
    owner: string,
    type: 'read' | 'write' | 'unlock',
    start: number,
    end: number,
  ): void {
    const range = node.locks[kind].slice(start, end + 1);
    if (this.conflicts(node, kind, owner, type, start, end)) {
      // As the kernel does: who waits for a lock of the other kind has given up the one it had.
      if (kind === 'flock') this.unlock(node, kind, owner);
      refuse('EAGAIN');
    }
    for (const holders of range) {
      if (type === 'unlock') holders.delete(owner);
      else holders.set(owner, type);
    }
  }

  conflicts(
    node: ModelNode,
    kind: 'posix' | 'flock',
    owner: string,
    type: 'read' | 'write' | 'unlock',
    start: number,
    end: number,
  ): boolean {
    if (type === 'unlock') return false;
    return node.locks[kind]
      .slice(start, end + 1)
      .some((holders) =>
        [...holders].some(([holder, held]) => holder !== owner && (type === 'write' || held === 'write')),
      );
  }

  unlock(node: ModelNode, kind: 'posix' | 'flock', owner: string): void {
    for (const holders of node.locks[kind]) holders.delete(owner);
  }

  /** Everything that has a name, by path. */
  paths(): Map<string, ModelNode> {
    const found = new Map<string, ModelNode>([['', this.root]]);
    const walk = (from: ModelNode, path: string): void => {
      for (const [name, child] of from.entries) {
        found.set(`${path}/${name}`, child);
        walk(child, `${path}/${name}`);
      }
    };
    walk(this.root, '');
    return found;
  }
}

function directory(node: ModelNode): ModelNode {
  return node.type === 'directory' ? node : refuse('ENOTDIR');
}

function checkName(name: string): void {
  if (name.length > NAME_MAX) refuse('ENAMETOOLONG');
  if (name === '') refuse('ENOENT');
  if (name.includes('/')) refuse('EINVAL');
}

function checkXattr(name: string): void {
  if (name.length > NAME_MAX) refuse('ERANGE');
  const prefix = ['user.', 'trusted.', 'security.'].find((candidate) => name.startsWith(candidate));
  if (prefix === undefined) refuse('EOPNOTSUPP');
  if (prefix === name) refuse('EINVAL');
}

function isWithin(node: ModelNode, above: ModelNode): boolean {
  for (let at: ModelNode | undefined = node; at !== undefined; at = at.parent) if (at === above) return true;
  return false;
}

function grow(node: ModelNode, size: number): void {
  const more = size - node.bytes.length;
  if (more <= 0) return;
  node.bytes = Buffer.concat([node.bytes, Buffer.alloc(more)]);
  node.stored = Buffer.concat([node.stored, Buffer.alloc(more)]);
}

function isPlain({ named, mask }: ModelList): boolean {
  return named === undefined && mask === undefined;
}

function withList(mode: number, { user, group, mask, other }: ModelList): number {
  return (mode & ~0o777) | (user << 6) | ((mask ?? group) << 3) | other;
}

function chmodded(list: ModelList, mode: number): ModelList {
  const group = (mode >> 3) & 7;
  return {
    ...list,
    user: (mode >> 6) & 7,
    other: mode & 7,
    ...(list.mask === undefined ? { group } : { mask: group }),
  };
}
