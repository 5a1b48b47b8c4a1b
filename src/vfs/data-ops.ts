/** What is done to the content of an open file: reading, writing, and making it durable; space, and where data lies. */
import { FsError } from '../errors.ts';
import { FILE_MAX_BYTES } from '../limits.ts';
import { mayGoOn } from './append-rest.ts';
import { interruptible } from './async.ts';
import type { FileData } from './file-data.ts';
import type { FileOps } from './file-ops.ts';
import { O_ACCMODE, O_APPEND, type FileHandle } from './handles.ts';
import type { MountState } from './mount-state.ts';
import type { Caller, Handle, Maybe, ReadResult } from './ops.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export class DataOps {
  readonly #state: MountState;
  readonly #files: Pick<FileOps, 'setattr'>;

  constructor(state: MountState, files: Pick<FileOps, 'setattr'>) {
    this.#state = state;
    this.#files = files;
  }

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
    else if (what === 0) await this.#files.setattr(caller, file.inode.ino, { mtimeNs: 'now' });
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

function checkRange(offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0)
    throw new FsError('EINVAL');
}
