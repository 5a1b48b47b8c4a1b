/**
 * The simplest filesystem that could be right: a tree of objects with whole byte arrays. The property tests compare
 * the state machine with it.
 */
import type { Errno } from '../errors.ts';
import { aclKindOf, encodeAcl } from './acl.ts';
import { extentEnd } from './extents.ts';
import { acl } from './testing-acl.ts';
import type { Ino } from '../ids.ts';
import { isKeptOpen } from './keep-open.ts';
import type { Extent, Mutation } from './types.ts';
import { patternByte } from './testing.ts';

interface ModelNode {
  readonly ino: number;
  readonly type: string;
  nlink: number;
  readonly entries: Map<string, ModelNode>;
  data: Uint8Array;
  /** Which bytes are stored, not holes. */
  stored: Uint8Array;
  readonly xattrs: Map<string, string>;
  parent: ModelNode | undefined;
  /** Sessions that keep it although it has no name. */
  readonly holders: Set<string>;
  /** Number under which sessions are asked whether they have it open; 0 when all have answered. */
  askedAs: number;
}

type Answer = { readonly ok: true; readonly ino?: number } | { readonly ok: false; readonly code: Errno };

class ModelError extends Error {
  readonly errno: Errno;
  constructor(errno: Errno) {
    super(errno);
    this.errno = errno;
  }
}

function fail(errno: Errno): never {
  throw new ModelError(errno);
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
/** The only access control lists that the model knows: one that says no more than a mode, one that does. */
export const PLAIN_LIST = encodeAcl(acl('u::rwx,g::r-x,o::--x'));
export const LONG_LIST = encodeAcl(acl('u::rw-,u:7:rwx,g::r--,m::r-x,o::r--'));

/** Bytes of a file that the tests lock. */
export const LOCKED_BYTES = 12;

export class ModelFs {
  /** By file and kind: for each byte, who holds it how: `session owner` -> type. */
  readonly locks = new Map<string, Map<string, 'read' | 'write'>[]>();
  readonly root = node(1, 'directory', 2);
  readonly nodes = new Map<number, ModelNode>([[1, this.root]]);

  /** Of orphans up to which number each session has answered for. */
  readonly answered = new Map<string, number>();
  orphanNumber = 0;

  /** `nextIno`: the number that the state machine gave; the model has no opinion on numbers. */
  apply(session: string, m: Mutation, newIno: () => number): Answer {
    try {
      const ino = this.#apply(session, m, newIno);
      return ino === undefined ? { ok: true } : { ok: true, ino };
    } catch (error) {
      if (error instanceof ModelError) return { ok: false, code: error.errno };
      throw error;
    }
  }

  #directory(ino: number): ModelNode {
    const found = this.nodes.get(ino) ?? fail('ENOENT');
    return found.type === 'directory' ? found : fail('ENOTDIR');
  }

  #apply(session: string, m: Mutation, newIno: () => number): number | undefined {
    switch (m.op) {
      case 'make': {
        const parent = this.#directory(m.parent);
        const name = text(m.name);
        const existing = parent.entries.get(name);
        if (existing !== undefined) {
          if (!m.exclusive && m.type === 'file' && existing.type === 'file') return existing.ino;
          fail('EEXIST');
        }
        const made = node(newIno(), m.type, m.type === 'directory' ? 2 : 1);
        this.nodes.set(made.ino, made);
        this.#attach(parent, name, made);
        const defaults = parent.xattrs.get(DEFAULT);
        if (defaults === text(LONG_LIST) && m.type !== 'symlink') made.xattrs.set(ACCESS, 'some list');
        if (defaults !== undefined && m.type === 'directory') made.xattrs.set(DEFAULT, defaults);
        return made.ino;
      }
      case 'makeNameless': {
        const parent = this.#directory(m.parent);
        const made = node(newIno(), 'file', 0);
        made.holders.add(session);
        this.nodes.set(made.ino, made);
        if (parent.xattrs.get(DEFAULT) === text(LONG_LIST)) made.xattrs.set(ACCESS, 'some list');
        return made.ino;
      }
      case 'link': {
        const parent = this.#directory(m.parent);
        const found = this.nodes.get(m.ino) ?? fail('ENOENT');
        if (found.nlink === 0 && !found.holders.has(session)) fail('ENOENT');
        if (parent.entries.has(text(m.name))) fail('EEXIST');
        if (found.type === 'directory') fail('EPERM');
        if (found.nlink++ === 0) {
          found.holders.clear();
          found.askedAs = 0;
        }
        this.#attach(parent, text(m.name), found);
        return found.ino;
      }
      case 'unlink': {
        const parent = this.#directory(m.parent);
        const found = parent.entries.get(text(m.name)) ?? fail('ENOENT');
        if (found.type === 'directory') fail('EISDIR');
        this.#detach(parent, text(m.name));
        this.#dropName(session, found, isKeptOpen(m.keepOpen, found.ino as Ino));
        return undefined;
      }
      case 'rmdir': {
        const parent = this.#directory(m.parent);
        const found = parent.entries.get(text(m.name)) ?? fail('ENOENT');
        if (found.type !== 'directory') fail('ENOTDIR');
        if (found.entries.size > 0) fail('ENOTEMPTY');
        this.#detach(parent, text(m.name));
        this.nodes.delete(found.ino);
        return undefined;
      }
      case 'rename':
        return this.#rename(session, m);
      case 'accessed':
        return (this.nodes.get(m.ino) ?? fail('ENOENT')).ino;
      case 'setattr': {
        const found = this.nodes.get(m.ino) ?? fail('ENOENT');
        if (m.set.sizeBytes !== undefined) {
          if (found.type === 'directory') fail('EISDIR');
          if (found.type !== 'file') fail('EINVAL');
          resize(found, m.set.sizeBytes);
        }
        return found.ino;
      }
      case 'commit': {
        const found = this.#file(m.ino);
        const moved = m.appendAt === undefined ? 0 : found.data.length - m.appendAt;
        // The tests never tell the right version.
        const from = m.rewrites?.beforeOffset ?? 0;
        const placed = m.extents.flatMap((extent) => placedIn(extent, from, moved));
        if (placed.some(({ offset }) => offset < 0)) fail('EINVAL');
        for (const extent of placed) {
          const end = extent.offset + extent.lengthBytes;
          if (end > found.data.length) resize(found, end);
          for (let i = 0; i < extent.lengthBytes; i++) {
            found.data[extent.offset + i] =
              extent.kind === 'inline' ? extent.data[i]! : patternByte(extent.id, extent.blockOffset + i);
          }
          found.stored.fill(1, extent.offset, end);
        }
        if (m.growToBytes + moved > found.data.length) resize(found, m.growToBytes + moved);
        return found.ino;
      }
      case 'clone': {
        const found = this.#file(m.ino);
        const end = m.offset + m.lengthBytes;
        if (m.lengthBytes === 0) fail('EINVAL');
        if (end > found.data.length) resize(found, end);
        found.data.fill(0, m.offset, end);
        found.stored.fill(0, m.offset, end);
        for (const extent of m.extents) {
          for (let i = 0; i < extent.lengthBytes; i++) {
            found.data[extent.offset + i] =
              extent.kind === 'inline' ? extent.data[i]! : patternByte(extent.id, extent.blockOffset + i);
          }
          found.stored.fill(1, extent.offset, extentEnd(extent));
        }
        return found.ino;
      }
      case 'compact':
        // The tests never tell the right digest.
        this.#file(m.ino);
        return fail('EAGAIN');
      case 'punch': {
        const found = this.#file(m.ino);
        if (m.lengthBytes === 0) fail('EINVAL');
        found.data.fill(0, m.offset, m.offset + m.lengthBytes);
        found.stored.fill(0, m.offset, m.offset + m.lengthBytes);
        return found.ino;
      }
      case 'setxattr': {
        const found = this.nodes.get(m.ino) ?? fail('ENOENT');
        if (aclKindOf(m.name) !== undefined) return setList(found, text(m.name), text(m.value));
        const exists = found.xattrs.has(text(m.name));
        if (exists && m.mode === 'create') fail('EEXIST');
        if (!exists && m.mode === 'replace') fail('ENODATA');
        found.xattrs.set(text(m.name), text(m.value));
        return found.ino;
      }
      case 'removexattr': {
        const found = this.nodes.get(m.ino) ?? fail('ENOENT');
        if (aclKindOf(m.name) !== undefined) return setList(found, text(m.name), '');
        if (!found.xattrs.delete(text(m.name))) fail('ENODATA');
        return found.ino;
      }
      case 'releaseOrphan': {
        this.#letGo(session, m.ino);
        return undefined;
      }
      case 'keepOrphans': {
        for (const ino of m.inos) {
          const found = this.nodes.get(ino);
          if (found?.nlink === 0) found.holders.add(session);
        }
        const upTo = Math.min(m.upToNumber, this.orphanNumber);
        this.answered.set(session, Math.max(upTo, this.answered.get(session)!));
        return undefined;
      }
      case 'lock':
        return this.#lock(session, m);
    }
  }

  #lock(session: string, { ino, lock }: Extract<Mutation, { op: 'lock' }>): number | undefined {
    const { kind, owner, type, start, end } = lock;
    if (type !== 'unlock' && !this.nodes.has(ino)) fail('ENOENT');
    const key = `${ino} ${kind}`;
    const bytes =
      this.locks.get(key) ?? Array.from({ length: LOCKED_BYTES }, () => new Map<string, 'read' | 'write'>());
    this.locks.set(key, bytes);
    const me = `${session} ${owner}`;
    const range = bytes.slice(start, end + 1);
    for (const holders of range) {
      for (const [holder, held] of holders) {
        if (holder !== me && type !== 'unlock' && (type === 'write' || held === 'write')) fail('EAGAIN');
      }
    }
    for (const holders of range) {
      if (type === 'unlock') holders.delete(me);
      else holders.set(me, type);
    }
    return this.nodes.has(ino) ? ino : undefined;
  }

  #file(ino: number): ModelNode {
    const found = this.nodes.get(ino) ?? fail('ENOENT');
    if (found.type !== 'file') fail(found.type === 'directory' ? 'EISDIR' : 'EINVAL');
    return found;
  }

  #rename(session: string, m: Extract<Mutation, { op: 'rename' }>): number {
    if (m.noReplace && m.exchange) fail('EINVAL');
    const from = this.#directory(m.parent);
    const to = this.#directory(m.newParent);
    const name = text(m.name);
    const newName = text(m.newName);
    const moved = from.entries.get(name) ?? fail('ENOENT');
    const target = to.entries.get(newName);
    if (target !== undefined && m.noReplace) fail('EEXIST');
    if (target === undefined && m.exchange) fail('ENOENT');
    if (moved === target) return moved.ino;
    if (isAncestor(moved, to)) fail('EINVAL');
    if (m.exchange && isAncestor(target!, from)) fail('EINVAL');
    if (!m.exchange && target !== undefined) {
      if (moved.type === 'directory' && target.type !== 'directory') fail('ENOTDIR');
      if (moved.type !== 'directory' && target.type === 'directory') fail('EISDIR');
      if (target.entries.size > 0) fail('ENOTEMPTY');
    }
    this.#detach(from, name);
    if (target !== undefined) this.#detach(to, newName);
    this.#attach(to, newName, moved);
    if (m.exchange) this.#attach(from, name, target!);
    else if (target?.type === 'directory') this.nodes.delete(target.ino);
    else if (target !== undefined) this.#dropName(session, target, isKeptOpen(m.keepOpen, target.ino as Ino));
    return moved.ino;
  }

  openSession(session: string): void {
    this.answered.set(session, this.orphanNumber);
  }

  /** What all have answered for, and nobody holds, is gone. */
  settle(): void {
    const upTo = Math.min(...this.answered.values());
    for (const found of this.nodes.values()) {
      if (found.askedAs > upTo) continue;
      found.askedAs = 0;
      if (found.nlink === 0 && found.holders.size === 0) this.nodes.delete(found.ino);
    }
  }

  endSession(session: string): void {
    this.answered.delete(session);
    for (const ino of this.nodes.keys()) this.#letGo(session, ino);
    for (const holders of [...this.locks.values()].flat()) {
      for (const holder of holders.keys()) if (holder.startsWith(session)) holders.delete(holder);
    }
  }

  #attach(parent: ModelNode, name: string, child: ModelNode): void {
    parent.entries.set(name, child);
    if (child.type !== 'directory') return;
    child.parent = parent;
    parent.nlink++;
  }

  #detach(parent: ModelNode, name: string): void {
    if (parent.entries.get(name)!.type === 'directory') parent.nlink--;
    parent.entries.delete(name);
  }

  #dropName(session: string, file: ModelNode, keepOpen: boolean): void {
    if (--file.nlink > 0) return;
    if (keepOpen) file.holders.add(session);
    if (file.type === 'file' && this.answered.size > 1) file.askedAs = ++this.orphanNumber;
    else if (!keepOpen) this.nodes.delete(file.ino);
  }

  #letGo(session: string, ino: number): void {
    const found = this.nodes.get(ino);
    if (found?.nlink !== 0 || (!found.holders.delete(session) && found.holders.size > 0)) return;
    if (found.holders.size === 0 && found.askedAs === 0) this.nodes.delete(ino);
  }

  /** Every path of every inode that has one. */
  paths(): Map<number, string[]> {
    const found = new Map<number, string[]>([[1, ['/']]]);
    const walk = (directory: ModelNode, path: string): void => {
      for (const [name, child] of directory.entries) {
        found.set(child.ino, [...(found.get(child.ino) ?? []), `${path}/${name}`]);
        walk(child, `${path}/${name}`);
      }
    };
    walk(this.root, '');
    return found;
  }
}

function node(ino: number, type: string, nlink: number): ModelNode {
  return {
    ino,
    type,
    nlink,
    entries: new Map(),
    data: new Uint8Array(0),
    stored: new Uint8Array(0),
    xattrs: new Map(),
    parent: undefined,
    holders: new Set(),
    askedAs: 0,
  };
}

/** The bytes from `from` on, moved. */
function placedIn(extent: Extent, from: number, moved: number): Extent[] {
  const skip = Math.max(0, from - extent.offset);
  if (skip >= extent.lengthBytes) return [];
  const at = { offset: extent.offset + skip + moved, lengthBytes: extent.lengthBytes - skip };
  if (extent.kind === 'inline') return [{ ...extent, ...at, data: extent.data.subarray(skip) }];
  return [{ ...extent, ...at, blockOffset: extent.blockOffset + skip }];
}

/** Which lists there are is all that the model keeps. */
function setList(found: ModelNode, name: string, value: string): number {
  if (found.type === 'symlink') fail('EOPNOTSUPP');
  if (name === DEFAULT && found.type !== 'directory' && value !== '') fail('EACCES');
  if (value === '' || (name === ACCESS && value === text(PLAIN_LIST))) found.xattrs.delete(name);
  else found.xattrs.set(name, value);
  return found.ino;
}

function isAncestor(maybe: ModelNode, of: ModelNode): boolean {
  for (let at: ModelNode | undefined = of; at !== undefined; at = at.parent) if (at === maybe) return true;
  return false;
}

function resize(file: ModelNode, sizeBytes: number): void {
  const grow = (old: Uint8Array): Uint8Array => {
    const sized = new Uint8Array(sizeBytes);
    sized.set(old.subarray(0, sizeBytes));
    return sized;
  };
  file.data = grow(file.data);
  file.stored = grow(file.stored);
}
