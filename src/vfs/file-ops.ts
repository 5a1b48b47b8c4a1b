/** Attributes, and opening and closing files. */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { FILE_MAX_BYTES } from '../limits.ts';
import { withoutSetId } from '../meta/setattr.ts';
import type { Attr, SetAttr } from '../meta/types.ts';
import { interruptible } from './async.ts';
import type { FileData } from './file-data.ts';
import { untilStored } from './prefetch.ts';
import { FileHandle, O_ACCMODE, O_EXCL, O_TRUNC, O_WRONLY } from './handles.ts';
import type { Inode } from './inode-table.ts';
import type { MountState } from './mount-state.ts';
import type { NameOps } from './name-ops.ts';
import type { AttrReply, Caller, Entry, Handle, Maybe, Opened } from './ops.ts';
import { untilKnown } from './pools.ts';

/** An open waits for the kernel to have heard of a change no longer than this. */
const TELL_KERNEL_MS = 1_000;
const MAX_TIME_NS = 2n ** 63n - 1n;

export class FileOps {
  readonly #state: MountState;
  readonly #names: NameOps;

  constructor(state: MountState, names: NameOps) {
    this.#state = state;
    this.#names = names;
  }

  // Attributes

  getattr(caller: Caller, ino: Ino): Maybe<AttrReply> {
    const inode = this.#state.inodes.get(ino);
    if (inode?.gone === true && inode.attr.type === 'directory') return this.#state.attrReply(inode);
    if (inode !== undefined && inode.attrExpiresMs > this.#state.clock.monotonicMs())
      return this.#state.attrReply(inode);
    return this.#ask(caller, ino).then((fresh) => this.#state.attrReply(fresh));
  }

  async #ask(caller: Pick<Caller, 'signal'>, ino: Ino): Promise<Inode> {
    const { inodes, contested, clock, nameless } = this.#state;
    const askedAt = inodes.stamp();
    const arrivedMs = clock.monotonicMs();
    const { attr } = await this.#state.query<'getattr'>({ op: 'getattr', ino }, caller.signal);
    const inode = this.#state.learn(attr, askedAt);
    if (inode.openCount === 0 && !inode.orphan && !contested.mayOpen(ino, arrivedMs)) nameless.refuse(inode);
    return inode;
  }

  async setattr(_caller: Caller, ino: Ino, given: SetAttr, handle?: Handle): Promise<AttrReply> {
    const set = withinTime(given);
    const { sizeBytes } = set;
    const under = handle === undefined || sizeBytes === undefined ? undefined : this.#state.handles.file(handle);
    if (set.atimeNs !== undefined) await this.#state.accessTimes.giveUp(ino);
    if (sizeBytes !== undefined) {
      under?.checkLocks();
      if (under?.canWrite === false) throw new FsError('EINVAL', 'the file is not open for writing');
      if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw new FsError('EINVAL');
      if (sizeBytes > FILE_MAX_BYTES) throw new FsError('EFBIG');
    }
    const file = this.#state.inodes.get(ino)?.data;
    if (file === undefined) {
      const inode = await this.#change(ino, set);
      if (sizeBytes !== undefined) await untilStored(inode);
      return this.#state.attrReply(inode);
    }
    this.#state.writeBack.ended(file);
    // The servers do not believe a commit that tells of a time to come.
    if (typeof set.mtimeNs === 'bigint' && set.mtimeNs > this.#state.clock.wallNs())
      await this.#state.writeBack.flush(file);
    if (sizeBytes !== undefined) {
      const inode = await this.#truncate(file, set, sizeBytes, under);
      await untilStored(inode);
      return this.#state.attrReply(inode);
    }
    if (set.mtimeNs === undefined || file.isClean) return this.#state.attrReply(await this.#change(ino, set));
    // The commit of what was written before must not undo the time that is set now.
    const mtimeNs = set.mtimeNs === 'now' ? this.#state.clock.wallNs() : set.mtimeNs;
    const inode = await file.order.run(async () => {
      if (file.mtimeNs !== undefined) file.mtimeNs = mtimeNs;
      return await this.#change(ino, { ...set, mtimeNs });
    });
    return this.#state.attrReply(inode);
  }

  async #change(ino: Ino, set: SetAttr): Promise<Inode> {
    return (await this.#changed(ino, set)).inode;
  }

  /** `version`: the one that the change made; the inode may be known at a later one by now. */
  async #changed(
    ino: Ino,
    set: SetAttr,
    under?: FileHandle,
  ): Promise<{ readonly inode: Inode; readonly version: number }> {
    const askedAt = this.#state.inodes.stamp();
    // By a name: not one that is gone by now, for then others alone have the file.
    const known = this.#state.inodes.get(ino);
    const isFound = this.#state.contested.mayOpen(ino, this.#state.clock.monotonicMs());
    const ifNamed = !isFound && (known === undefined || (known.openCount === known.opening && !known.orphan));
    const { attr } = await this.#state.mutate({ op: 'setattr', ino, set, ...(ifNamed && { ifNamed }) }, under);
    if (attr === undefined) throw new FsError('EIO', 'the servers did not tell the new attributes');
    const cuts = set.sizeBytes !== undefined;
    const inode = cuts ? this.#state.changedContent(attr, askedAt) : this.#state.changed(attr, askedAt);
    return { inode, version: attr.version };
  }

  /** Ordered against the file's writes and commits: nothing written before comes back, nothing after it is lost. */
  async #truncate(file: FileData, set: SetAttr, sizeBytes: number, under?: FileHandle): Promise<Inode> {
    return await file.alone(async () => {
      under?.checkLocks();
      const { inode, version } = await this.#changed(file.inode.ino, set, under);
      // Not before: if it fails, what others have written is still to be stored.
      this.#state.writeBack.truncate(file, sizeBytes);
      if (file.mtimeNs !== undefined) file.mtimeNs = file.changeNs = this.#state.clock.wallNs();
      file.extents.applyPunch(version, sizeBytes, Infinity);
      if (file.mtimeNs !== undefined && typeof set.mtimeNs === 'bigint') file.mtimeNs = set.mtimeNs;
      return inode;
    });
  }

  // Open and close

  open(caller: Caller, ino: Ino, flags: number): Promise<Opened> {
    return this.#opening(this.#open(caller, ino, flags));
  }

  async #opening<T>(opening: Promise<T>): Promise<T> {
    const { opens } = this.#state;
    opens.add(opening);
    try {
      return await opening;
    } finally {
      opens.delete(opening);
    }
  }

  async #open(caller: Caller, ino: Ino, flags: number): Promise<Opened> {
    const { inodes, clock } = this.#state;
    const arrivedMs = clock.monotonicMs();
    const known = inodes.get(ino);
    // Counted before the question, so that an unlink meanwhile keeps the file.
    let counted = known;
    if (known !== undefined) {
      inodes.opened(known);
      known.opening += 1;
    }
    try {
      const decided = this.#state.removals.untilDecided(ino);
      if (decided !== undefined) {
        // Before the next removal is asked for.
        this.#state.contestNameOf(ino);
        await interruptible(decided, caller.signal);
      }
      const inode = await this.#revalidate(caller, ino, flags, known);
      if (known !== inode) {
        inodes.opened(inode);
        inode.opening += 1;
        counted = inode;
        if (known !== undefined) {
          known.opening -= 1;
          this.#letGo(known);
        }
      }
      // Others that are just being opened do not keep it either.
      if (inode.openCount === inode.opening) this.#refuseUnlessJustFound(inode, arrivedMs);
      const catalogComes = untilKnown(this.#state, inode.attr.pool);
      if (catalogComes !== undefined) await catalogComes;
      await this.#tellKernel(inode);
      const stored = untilStored(inode);
      if (stored !== undefined) await interruptible(stored, caller.signal);
      // The kernel empties the file itself once it has the answer.
      if ((flags & O_TRUNC) !== 0) inode.forgetPages();
      return this.#opened(inode, flags);
    } catch (error) {
      if (counted !== undefined) this.#letGo(counted);
      throw error;
    } finally {
      if (counted !== undefined) counted.opening -= 1;
    }
  }

  /** The answer may have taken as long as a fail-over does: it counts when the open came. */
  #refuseUnlessJustFound(inode: Inode, arrivedMs: number): void {
    if (inode.attr.nlink === 0 && this.#state.contested.mayOpen(inode.ino, arrivedMs)) inode.orphan = true;
    else this.#state.nameless.refuse(inode);
  }

  /** The kernel takes a file to end where it was told last, for as long as it may believe that, also in a new open. */
  async #tellKernel(inode: Inode): Promise<void> {
    const { version } = inode.attr;
    const { clock, watched } = this.#state;
    const { kernel } = watched;
    const { notifier } = kernel;
    if (notifier === undefined || inode.toldVersion === version) return;
    // The kernel may know what this mount has forgotten that it told.
    if (inode.toldVersion === undefined && !kernel.mayKeepAttributes(inode.ino)) return;
    // It may have to stand in line. The next open tells it then.
    const told = notifier.invalidateAttributes(inode.ino).then(() => true);
    if (await Promise.race([told, clock.sleep(TELL_KERNEL_MS).then(() => false)])) inode.toldVersion = version;
  }

  #letGo(inode: Inode): void {
    this.#state.inodes.closed(inode);
    if (inode.openCount === 0) this.#state.closedLast(inode);
  }

  /** Close-to-open: an open sees what was committed before it, so it asks. */
  async #revalidate(caller: Caller, ino: Ino, flags: number, known: Inode | undefined): Promise<Inode> {
    // Also when it is opened for reading, as Linux does; the kernel has asked whether the caller may write.
    if ((flags & O_TRUNC) !== 0) {
      // A mode that is to be changed must not be one that another mount has changed meanwhile.
      const mayChangeMode = known !== undefined && 'mode' in emptied(caller, known.attr);
      const { attr } = known === undefined || mayChangeMode ? await this.#ask(caller, ino) : known;
      checkOpenable(attr.type, flags);
      const file = this.#state.inodes.get(ino)?.data;
      if (file === undefined) return await this.#change(ino, emptied(caller, attr));
      return await this.#truncate(file, emptied(caller, attr), 0);
    }
    const isWriter = (flags & O_ACCMODE) === O_WRONLY;
    const haveExtents = known?.data !== undefined && known.data.extents.version === known.attr.version;
    if (known === undefined || isWriter || haveExtents || known.attr.type !== 'file') {
      const inode = await this.#ask(caller, ino);
      checkOpenable(inode.attr.type, flags);
      return inode;
    }
    const catalogComes = untilKnown(this.#state, known.attr.pool);
    if (catalogComes !== undefined) await catalogComes;
    // The extents come with the attributes: one question for both.
    await interruptible(this.#state.loadExtents(this.#state.dataOf(known), 0, true), caller.signal);
    return known;
  }

  #opened(inode: Inode, flags: number): Opened {
    const opened = new FileHandle(inode, this.#state.dataOf(inode), flags);
    const handle = this.#state.handles.add(opened);
    if (opened.canWrite) inode.writers += 1;
    const { accessTimes } = this.#state;
    // What the kernel reads from its pages is not seen here: where a read has to move the time, it must come.
    const mustBeSeen = accessTimes.kept && accessTimes.isDue(this.#state.attrOf(inode));
    const keepCache = inode.pageVersion === inode.attr.version && !mustBeSeen;
    if (!keepCache) opened.pagesVersion = inode.attr.version;
    return { handle, keepCache };
  }

  create(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    umask: number,
    flags: number,
  ): Promise<Entry & Opened> {
    return this.#opening(this.#create(caller, parent, name, mode, umask, flags));
  }

  async #create(
    caller: Caller,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    umask: number,
    flags: number,
  ): Promise<Entry & Opened> {
    const { inodes } = this.#state;
    const { inode, created } = await this.#names.make(
      caller,
      parent,
      name,
      { type: 'file', mode, umask },
      (flags & O_EXCL) !== 0,
    );
    checkOpenable(inode.attr.type, flags);
    inodes.opened(inode);
    return await this.#openMade(caller, inode, created, flags);
  }

  /** A file without a name: the servers know that it is open here. */
  async tmpfile(caller: Caller, parent: Ino, mode: number, umask: number, flags: number): Promise<Entry & Opened> {
    const { inodes } = this.#state;
    const askedAt = inodes.stamp();
    const owner = { uid: caller.uid, gid: caller.gid };
    const set = umask === 0 ? { mode } : { mode, umask };
    const { attr } = await this.#state.mutate({ op: 'makeNameless', parent, ...set, owner });
    if (attr === undefined) throw new FsError('EIO', 'the servers did not tell the attributes of what was made');
    const inode = this.#state.changed(attr, askedAt);
    inode.orphan = true;
    inodes.opened(inode);
    return await this.#openMade(caller, inode, true, flags);
  }

  async #openMade(caller: Caller, inode: Inode, created: boolean, flags: number): Promise<Entry & Opened> {
    try {
      const catalogComes = untilKnown(this.#state, inode.attr.pool);
      if (catalogComes !== undefined) await catalogComes;
      if (created) {
        // Another mount may have written to it since it was made.
        const { sizeBytes, version } = inode.attr;
        if (sizeBytes === 0) this.#state.dataOf(inode).extents.setEmpty(version);
      } else if ((flags & O_TRUNC) !== 0) {
        await this.#truncate(this.#state.dataOf(inode), emptied(caller, inode.attr), 0);
        inode.forgetPages();
      }
      const opened = await this.#openedOnceStored(inode, flags);
      inode.kernelRefs += 1;
      return { ...this.#state.entry(inode), ...opened };
    } catch (error) {
      this.#letGo(inode);
      throw error;
    }
  }

  /** Nothing more is given to the kernel until the handle is there. */
  async #openedOnceStored(inode: Inode, flags: number): Promise<Opened> {
    inode.opening += 1;
    try {
      const stored = untilStored(inode);
      if (stored !== undefined) await stored;
      return this.#opened(inode, flags);
    } finally {
      inode.opening -= 1;
    }
  }

  /** What was open, if it was a file. */
  release(handle: Handle): FileHandle | undefined {
    const opened = this.#state.handles.remove(handle);
    if (!(opened instanceof FileHandle)) return undefined;
    this.#state.readPath.close(opened);
    if (opened.canWrite) opened.inode.writers -= 1;
    this.#letGo(opened.inode);
    return opened;
  }
}

/** Times of 64 bits: those beyond (the year 9999) are cut, as on local disks. */
function withinTime(set: SetAttr): SetAttr {
  const { atimeNs, mtimeNs } = set;
  if (typeof atimeNs !== 'bigint' && typeof mtimeNs !== 'bigint') return set;
  const cut = <T>(time: T): T | bigint => {
    if (typeof time !== 'bigint') return time;
    return time > MAX_TIME_NS ? MAX_TIME_NS : time < -MAX_TIME_NS ? -MAX_TIME_NS : time;
  };
  return {
    ...set,
    ...(atimeNs !== undefined && { atimeNs: cut(atimeNs) }),
    ...(mtimeNs !== undefined && { mtimeNs: cut(mtimeNs) }),
  };
}

function checkOpenable(type: string, flags: number): void {
  if (type === 'file') return;
  if (type === 'directory') throw new FsError('EISDIR');
  if (type === 'symlink') throw new FsError('ELOOP');
  throw new FsError('ENXIO', `a ${type} is opened by the kernel, not here (flags ${flags})`);
}

/**
 * O_TRUNC. The kernel, which asks for the mode of a program to be changed when it is written to, leaves that to us here. Only
 * root is taken to keep it: it does not say who else may (CAP_FSETID).
 */
function emptied({ uid }: Caller, { mode }: Attr): SetAttr {
  const kept = withoutSetId(mode);
  return uid === 0 || kept === mode ? { sizeBytes: 0 } : { sizeBytes: 0, mode: kept };
}
