/** Operations on open files, and on attributes. */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { FILE_MAX_BYTES } from '../limits.ts';
import { withoutSetId } from '../meta/setattr.ts';
import type { Attr, SetAttr } from '../meta/types.ts';
import { mayGoOn } from './append-rest.ts';
import { interruptible } from './async.ts';
import type { FileData } from './file-data.ts';
import { untilStored } from './prefetch.ts';
import { FileHandle, O_ACCMODE, O_APPEND, O_EXCL, O_TRUNC, O_WRONLY } from './handles.ts';
import type { Inode } from './inode-table.ts';
import type { MountState } from './mount-state.ts';
import type { NameOps } from './name-ops.ts';
import type { AttrReply, Caller, Entry, Handle, Maybe, Opened, ReadResult } from './ops.ts';
import { untilKnown } from './pools.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;
/** An open waits for the kernel to have heard of a change no longer than this. */
const TELL_KERNEL_MS = 1_000;
const MAX_TIME_NS = 2n ** 63n - 1n;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

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

  // Data

  read(caller: Caller, handle: Handle, offset: number, size: number): Maybe<ReadResult> {
    const opened = this.#state.handles.file(handle);
    opened.checkLocks();
    if (!opened.canRead) throw new FsError('EBADF', 'the file is not open for reading');
    checkRange(offset, size);
    this.#state.operations += 1;
    opened.used();
    const { file } = opened;
    this.#wasRead(opened);
    // Where it lies is known once it is committed.
    const flushed = file.appending && !file.isClean ? this.#flushAfter(caller, file) : undefined;
    if (flushed === undefined) return this.#state.readPath.read(caller, opened, offset, size);
    return interruptible(flushed, caller.signal).then(() => this.#state.readPath.read(caller, opened, offset, size));
  }

  #wasRead({ inode, leavesAtime }: FileHandle): void {
    const { accessTimes } = this.#state;
    if (accessTimes.kept && !leavesAtime) accessTimes.read(this.#state.attrOf(inode));
  }

  write(caller: Caller, handle: Handle, offset: number, data: Uint8Array, flags?: number): Maybe<number> {
    const opened = this.#state.handles.file(handle);
    const { file } = opened;
    const appends = flags === undefined ? opened.appends : (flags & O_APPEND) !== 0;
    if (!opened.canWrite) throw new FsError('EBADF', 'the file is not open for writing');
    opened.checkLocks();
    opened.reportError();
    this.#state.operations += 1;
    opened.used();
    if (data.length === 0) return 0;
    if (file.barrier !== undefined) {
      const kept = new Uint8Array(data);
      return file.barrier.then(() => this.write(caller, handle, offset, kept, flags));
    }
    if (appends !== file.appending && !file.isClean) {
      // Of what is written through a mapping not even the mode is told: that comes at any time.
      if (flags !== undefined && (flags & O_ACCMODE) !== 0) this.#state.writeBack.ended(file);
      return this.#writeFlushed(caller, handle, offset, data, flags);
    }
    const at = appends ? file.appendAt() : offset;
    if (at + data.length > FILE_MAX_BYTES) throw new FsError('EFBIG');
    checkRange(at, data.length);
    // Only the kernel tells flags; and not of what is written through a mapping.
    const goesOn = flags !== undefined && mayGoOn(offset, data.length);
    const room = this.#state.writeBack.write(
      file,
      at,
      data,
      appends ? { pid: caller.pid, mayGoOn: goesOn } : undefined,
    );
    // The kernel keeps the bytes where it takes the file's end to be.
    if (at !== offset && appends) this.#state.dropPages(opened.inode);
    // The kernel asks for an fsync after the last part.
    if (opened.syncs && !(appends && goesOn)) return this.#writeThrough(opened, data.length);
    if (room === undefined) return data.length;
    return this.#waitForRoom(caller, opened, room, data.length);
  }

  /** What is appended and what is written in its place do not wait together. */
  async #writeFlushed(
    caller: Caller,
    handle: Handle,
    offset: number,
    data: Uint8Array,
    flags: number | undefined,
  ): Promise<number> {
    const kept = new Uint8Array(data);
    const opened = this.#state.handles.file(handle);
    await this.#state.writeBack.flush(opened.file);
    return await this.write(caller, handle, offset, kept, flags);
  }

  async #writeThrough(opened: FileHandle, length: number): Promise<number> {
    await this.#sync(opened);
    return length;
  }

  async #waitForRoom(caller: Caller, opened: FileHandle, room: Promise<void>, length: number): Promise<number> {
    try {
      await interruptible(room, caller.signal);
    } catch {
      // Interrupted; but the bytes are taken already.
      return length;
    }
    opened.reportError();
    return length;
  }

  flush(caller: Caller, handle: Handle): Maybe<void> {
    const opened = this.#state.handles.file(handle);
    opened.used();
    if (!opened.canWrite) return undefined;
    const flushed = this.#flushAfter(caller, opened.file);
    if (flushed === undefined) return opened.reportError();
    return flushed.then(() => opened.reportError());
  }

  /** What the thread has written before has ended. */
  #flushAfter(caller: Caller, file: FileData): Promise<void> | undefined {
    this.#state.writeBack.ended(file, caller.pid);
    return this.#state.writeBack.flush(file);
  }

  /** The kernel asks for it when no write is under way, as for the changes of a size below. */
  async fsync(handle: Handle): Promise<void> {
    await this.#sync(this.#state.handles.file(handle));
  }

  async #sync(opened: FileHandle): Promise<void> {
    this.#state.writeBack.ended(opened.file);
    await this.#state.writeBack.flush(opened.file);
    opened.reportError();
    await this.#state.sync();
  }

  async fallocate(caller: Caller, handle: Handle, offset: number, length: number, mode: number): Promise<void> {
    const opened = this.#state.handles.file(handle);
    const { file } = opened;
    opened.checkLocks();
    if (!opened.canWrite) throw new FsError('EBADF', 'the file is not open for writing');
    if (length <= 0 || offset < 0) throw new FsError('EINVAL');
    if (offset + length > FILE_MAX_BYTES) throw new FsError('EFBIG');
    const what = mode & ~FALLOC_FL_KEEP_SIZE;
    if (what !== 0 && what !== FALLOC_FL_ZERO_RANGE && mode !== (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
      throw new FsError('EOPNOTSUPP', `fallocate mode ${mode} is not supported`);
    }
    // Space cannot be set aside: blocks are placed when they are written. A range of zeros is a hole.
    this.#state.writeBack.ended(file);
    if (what !== 0) await this.#punch(opened, offset, length);
    const end = offset + length;
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && end > file.sizeBytes()) await this.#grow(opened, end);
    else if (what === 0) await this.setattr(caller, file.inode.ino, { mtimeNs: 'now' });
  }

  /** Never cuts off what others have appended meanwhile. */
  async #grow(opened: FileHandle, growToBytes: number): Promise<void> {
    const { file } = opened;
    await file.alone(async () => {
      const askedAt = this.#state.inodes.stamp();
      const { ino } = file.inode;
      // What is not committed yet was written before.
      if (file.mtimeNs !== undefined) file.mtimeNs = file.changeNs = this.#state.clock.wallNs();
      const growth = { op: 'commit', ino, extents: [], growToBytes, mtimeNs: 'now' } as const;
      const { attr } = await this.#state.mutate(growth, opened);
      if (attr === undefined) return file.extents.forget();
      // The kernel moves the file's end once it has the answer, which it may never get.
      this.#state.changedContent(attr, askedAt).unseen();
      // It takes nothing away: another mount may have made it longer than that before.
      file.extents.apply(attr.version, []);
    });
  }

  async #punch(opened: FileHandle, offset: number, length: number): Promise<void> {
    const { file } = opened;
    await this.#state.writeBack.flush(file);
    opened.reportError();
    await file.alone(async () => {
      const askedAt = this.#state.inodes.stamp();
      const { ino } = file.inode;
      const { attr } = await this.#state.mutate({ op: 'punch', ino, offset, lengthBytes: length }, opened);
      if (attr === undefined) return file.extents.forget();
      this.#state.changedUnseen(attr, askedAt);
      file.extents.applyPunch(attr.version, offset, offset + length);
    });
  }

  /** Where the next data or hole begins, by extents and by what is not committed yet. */
  async lseek(caller: Caller, handle: Handle, offset: number, whence: number): Promise<number> {
    const { file } = this.#state.handles.file(handle);
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError('EINVAL');
    this.#state.writeBack.ended(file);
    if (file.appending && !file.isClean) await interruptible(file.flush(), caller.signal);
    const size = file.readableBytes();
    if (offset < 0 || offset >= size) throw new FsError('ENXIO', 'past the end of the file');
    for (let at = offset; ;) {
      if (at >= size) {
        if (whence === SEEK_HOLE) return size;
        throw new FsError('ENXIO', 'only a hole follows');
      }
      const { readPath } = this.#state;
      const { start, end } = await readPath.withExtents(caller, file, at, at + 1, () => nextData(file, at, size));
      if (whence === SEEK_DATA) {
        if (start < end) return start;
        at = end;
      } else {
        if (start > at || start >= end) return at;
        at = end;
      }
    }
  }
}

/** The first stretch of data from `at` on that is known; start = end: none before `end`, where one must look again. */
function nextData(file: FileData, at: number, size: number): { readonly start: number; readonly end: number } {
  let start = size;
  let end = size;
  const consider = (from: number, to: number): void => {
    if (to <= at) return;
    const begin = Math.max(from, at);
    if (begin < start) {
      start = begin;
      end = to;
    } else if (begin === start && to > end) end = to;
  };
  const mapped = file.extents.at(file.extents.find(at));
  const limit = Math.min(size, file.extents.knownTo);
  if (mapped !== undefined && mapped.offset < file.inode.attr.sizeBytes) consider(mapped.offset, mapped.end);
  for (const piece of file.pending) consider(piece.offset, piece.offset + piece.length);
  for (const index of file.dirty.indexes()) {
    for (const run of file.dirty.runs(index)) consider(run.offset, run.offset + run.length);
  }
  if (start >= limit && limit < size && limit > at) return { start: limit, end: limit };
  return { start, end: Math.min(end, size) };
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

function checkRange(offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0)
    throw new FsError('EINVAL');
}
