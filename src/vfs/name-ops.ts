/** Operations on names: each is one question or one change at the servers, and what it teaches the caches here. */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { NAME_MAX_BYTES, SYMLINK_MAX_BYTES } from '../limits.ts';
import { isKeptOpen, type KeepOpen } from '../meta/keep-open.ts';
import type { Attr, FileType, MutationResult } from '../meta/types.ts';
import { interruptible } from './async.ts';
import type { Inode } from './inode-table.ts';
import type { MountState } from './mount-state.ts';
import { keyOf } from './name-cache.ts';
import { RemovedMeanwhileError, type Caller, type Entry, type Maybe } from './ops.ts';

/** Made once: the kernel asks for each name before it creates it, and a stack costs more than the answer. */
const NO_ENTRY = new FsError('ENOENT');

/** What is to be made; of the mode `umask` is not taken yet. */
export interface NewInode {
  readonly type: FileType;
  readonly mode: number;
  readonly umask: number;
  readonly rdev?: number;
  readonly target?: Uint8Array;
}

export class NameOps {
  readonly #state: MountState;

  constructor(state: MountState) {
    this.#state = state;
  }

  lookup(caller: Caller, parent: Ino, name: Uint8Array): Maybe<Entry> {
    const { names, inodes, clock } = this.#state;
    const known = names.get(parent, name);
    const now = clock.monotonicMs();
    if (known !== undefined && known.expiresMs > now) {
      const inode = inodes.get(known.ino);
      if (inode !== undefined && inode.attrExpiresMs > now && inode.attr.nlink > 0) {
        inode.kernelRefs += 1;
        this.#state.madeNext.lookedUp(parent, inode.ino, true);
        return this.#state.entry(inode, known.expiresMs - now);
      }
    }
    if (this.#state.whole.lacks(parent, name, now)) {
      checkName(name);
      throw NO_ENTRY;
    }
    return this.#lookup(caller, parent, name);
  }

  async #lookup(caller: Caller, parent: Ino, name: Uint8Array): Promise<Entry> {
    checkName(name);
    const { names, inodes, contested, removals, clock } = this.#state;
    const askedAt = inodes.stamp();
    const namesAskedAt = names.stamp();
    const { attr } = await this.#state.query<'lookup'>({ op: 'lookup', parent, name }, caller.signal);
    const inode = this.#state.learn(attr, askedAt);
    const now = clock.monotonicMs();
    const key = keyOf(parent, name);
    const isContested = contested.has(key, now);
    // The name is about to be taken away by who did not know that others come by it.
    const decided = isContested ? removals.untilDecided(inode.ino) : undefined;
    if (decided !== undefined) {
      await interruptible(decided, caller.signal);
      return await this.#lookup(caller, parent, name);
    }
    const validMs = this.#state.watched.nameValidMs(parent, key, askedAt, namesAskedAt, now);
    this.#state.learnName(key, inode, now + validMs, namesAskedAt, now);
    inode.kernelRefs += 1;
    if (isContested) {
      contested.found(inode, now);
      return this.#state.entry(inode, 0);
    }
    if (this.#state.limits.attrTimeoutMs > 0) this.#state.madeNext.lookedUp(parent, inode.ino, false);
    return this.#state.entry(inode, validMs);
  }

  #learnName(parent: Ino, name: Uint8Array, inode: Inode, askedAt: number): void {
    const now = this.#state.clock.monotonicMs();
    const { attrTimeoutMs } = this.#state.limits;
    this.#state.learnName(keyOf(parent, name), inode, now + attrTimeoutMs, askedAt, now);
  }

  /** Until when what a reply tells now may be believed. */
  #expiresMs(): number {
    const { clock, limits } = this.#state;
    return clock.monotonicMs() + limits.attrTimeoutMs;
  }

  /** Makes a name; with `exclusive` false an existing file is taken. */
  async make(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    what: NewInode,
    exclusive: boolean,
  ): Promise<{ readonly inode: Inode; readonly created: boolean }> {
    checkName(name);
    const { names, inodes } = this.#state;
    names.change(parent, name);
    const askedAt = inodes.stamp();
    const namesAskedAt = names.stamp();
    const result = await this.#state.mutate({
      op: 'make',
      parent,
      name,
      type: what.type,
      mode: what.mode,
      ...(what.umask === 0 ? {} : { umask: what.umask }),
      owner: { uid: caller.uid, gid: caller.gid },
      rdev: what.rdev ?? 0,
      exclusive,
      ...(what.target === undefined ? {} : { target: what.target }),
    });
    const inode = this.#made(result, askedAt);
    this.#learnName(parent, name, inode, namesAskedAt);
    const created = result.created !== false;
    if (created) {
      // Unless it is known already that another mount has changed it since.
      const isAsMade = inode.attr === result.attr;
      if (isAsMade) inode.hasNoCapability = true;
      this.#state.whole.changed(result.parentAttr, name, true, this.#expiresMs());
      if (isAsMade && what.type === 'directory') this.#state.whole.made(inode.attr, this.#expiresMs());
    }
    return { inode, created };
  }

  #made(result: MutationResult, askedAt: number): Inode {
    if (result.attr === undefined) throw new FsError('EIO', 'the servers did not tell the attributes of what was made');
    const inode = this.#state.changed(result.attr, askedAt);
    this.#parents(result, askedAt);
    return inode;
  }

  #parents(result: MutationResult, askedAt: number): void {
    if (result.parentAttr !== undefined) this.#state.changed(result.parentAttr, askedAt);
    if (result.newParentAttr !== undefined) this.#state.changed(result.newParentAttr, askedAt);
  }

  async makeEntry(caller: Caller, parent: Ino, name: Uint8Array, what: NewInode): Promise<Entry> {
    if (what.target !== undefined && what.target.length > SYMLINK_MAX_BYTES) throw new FsError('ENAMETOOLONG');
    const { inode } = await this.make(caller, parent, name, what, true);
    inode.kernelRefs += 1;
    return this.#state.entry(inode);
  }

  async link(_caller: Caller, ino: Ino, parent: Ino, name: Uint8Array): Promise<Entry> {
    checkName(name);
    const { names, inodes, contested, clock } = this.#state;
    names.change(parent, name);
    const askedAt = inodes.stamp();
    const namesAskedAt = names.stamp();
    const keptCount = inodes.get(ino)?.keptCount;
    const isFound = contested.mayOpen(ino, clock.monotonicMs());
    const result = await this.#state.mutate({ op: 'link', ino, parent, name }).catch((error: unknown) => {
      throw isFound && error instanceof FsError && error.code === 'ENOENT' ? new RemovedMeanwhileError() : error;
    });
    const inode = this.#made(result, askedAt);
    this.#state.whole.changed(result.parentAttr, name, true, this.#expiresMs());
    // Unless it has lost its names again meanwhile.
    if (inode.keptCount === keptCount) inode.orphan = false;
    inode.kernelRefs += 1;
    this.#learnName(parent, name, inode, namesAskedAt);
    return this.#state.entry(inode);
  }

  async unlink(_caller: Caller, parent: Ino, name: Uint8Array): Promise<void> {
    checkName(name);
    const { names, inodes } = this.#state;
    const keepOpen = this.#keepOpen(parent, name);
    names.change(parent, name);
    const askedAt = inodes.stamp();
    const asked = this.#state.mutate({ op: 'unlink', parent, name, keepOpen });
    const result = await this.#state.removals.track(keepOpen, asked);
    names.change(parent, name);
    this.#state.whole.changed(result.parentAttr, name, false, this.#expiresMs());
    this.#parents(result, askedAt);
    this.#lostName(result.victim ?? result.attr, keepOpen, askedAt);
  }

  #lostName(victim: Attr | undefined, keepOpen: KeepOpen, askedAt: number): void {
    if (victim !== undefined) this.#state.nameless.lostName(victim, isKeptOpen(keepOpen, victim.ino), askedAt);
  }

  /**
   * Whether the file that loses this name must be kept by the servers because it is open here. If it is not known
   * which file that is, or it is another one by now, it is kept, and released as soon as the reply tells.
   */
  #keepOpen(parent: Ino, name: Uint8Array): KeepOpen {
    const { names, inodes, contested, clock } = this.#state;
    const now = clock.monotonicMs();
    // Programs are on their way to its file, perhaps.
    if (contested.has(keyOf(parent, name), now)) return true;
    const known = names.get(parent, name);
    const isBelieved = known !== undefined && known.expiresMs > now;
    const inode = isBelieved ? inodes.get(known.ino) : undefined;
    if (inode !== undefined) return inode.mayBeOpen || contested.mayOpen(inode.ino, now) || { unless: inode.ino };
    return inodes.openCount > 0 || inodes.hasSpecial || this.#state.opens.size > 0;
  }

  async rmdir(_caller: Caller, parent: Ino, name: Uint8Array): Promise<void> {
    checkName(name);
    const { names, inodes } = this.#state;
    names.change(parent, name);
    const askedAt = inodes.stamp();
    const result = await this.#state.mutate({ op: 'rmdir', parent, name });
    names.change(parent, name);
    if (result.victim !== undefined) this.#state.whole.forget(result.victim.ino);
    this.#state.whole.changed(result.parentAttr, name, false, this.#expiresMs());
    this.#parents(result, askedAt);
    this.#lostName(result.victim, false, askedAt);
  }

  async rename(
    _caller: Caller,
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    options: { readonly noReplace: boolean; readonly exchange: boolean },
  ): Promise<void> {
    checkName(name);
    checkName(newName);
    const { names, inodes } = this.#state;
    const mayReplace = !options.noReplace && !options.exchange;
    const keepOpen = mayReplace && this.#keepOpen(newParent, newName);
    names.change(parent, name);
    names.change(newParent, newName);
    const askedAt = inodes.stamp();
    const namesAskedAt = names.stamp();
    const asked = this.#state.mutate({ op: 'rename', parent, name, newParent, newName, ...options, keepOpen });
    const result = await (mayReplace ? this.#state.removals.track(keepOpen, asked) : asked);
    // By a change that was answered before this one, though it was made later.
    const isChanged = names.isChangedSince(keyOf(newParent, newName), namesAskedAt);
    names.change(parent, name);
    names.change(newParent, newName);
    this.#state.whole.forget(parent);
    this.#state.whole.forget(newParent);
    this.#parents(result, askedAt);
    if (result.attr !== undefined) {
      const moved = this.#state.changed(result.attr, askedAt);
      // The kernel has given it a time of its own.
      this.#state.watched.kernel.changed({ inos: [moved.ino], names: [] });
      if (!isChanged) this.#learnName(newParent, newName, moved, names.stamp());
    }
    this.#lostName(result.victim, keepOpen, askedAt);
  }

  async readlink(caller: Caller, ino: Ino): Promise<Uint8Array> {
    const { target } = await this.#state.query<'readlink'>({ op: 'readlink', ino }, caller.signal);
    const inode = this.#state.inodes.get(ino);
    if (inode !== undefined) this.#state.accessTimes.read(this.#state.attrOf(inode));
    return target;
  }
}

/** A name in a directory: the servers check again. */
export function checkName(name: Uint8Array): void {
  if (name.length > NAME_MAX_BYTES) throw new FsError('ENAMETOOLONG');
  if (name.length === 0) throw new FsError('ENOENT');
  if (name.includes(0x2f) || name.includes(0)) throw new FsError('EINVAL', 'a name holds no slash and no zero byte');
}
