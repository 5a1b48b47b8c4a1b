/**
 * One kernel connection: takes requests, calls VfsOps, sends replies. Knows no device: bytes come in through
 * {@link FuseSession.handle} and leave through a {@link ReplySink}, so it runs in tests without a kernel.
 *
 * Answers known at once are sent before `handle` returns, from one reused buffer and without a promise; only
 * requests that wait are remembered, for INTERRUPT. Every request but the forgets is answered exactly once.
 *
 * The kernel says INTERRUPT for any signal, and cannot say which. A program that handles its signals (a timer, a child
 * that ended) does not expect EINTR of mkdir or fsync, and on local disks never gets it: as in NFS, only a thread that is
 * about to die ends its requests (docs/decisions/0009-which-signals-interrupt.md). It then ends them at once, whatever they wait for.
 */
import { CancelledError, FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import {
  RemovedMeanwhileError,
  type AttrReply,
  type DirItem,
  type Entry,
  type FileLock,
  type Maybe,
  type Opened,
  type ReadResult,
  type StatFs,
  type VfsOps,
} from '../vfs/ops.ts';
import { PendingRequest } from './pending-request.ts';
import * as reply from './codec-reply.ts';
import * as request from './codec-request.ts';
import type { RequestBytes } from './codec-request.ts';
import { errnoNumber, ERRNO_NUMBERS } from './errno.ts';
import * as p from './protocol.ts';
import { InitFlag, Opcode } from './protocol.ts';
import { withCause, type FuseLog } from './types.ts';
import { getU64 } from './wire.ts';

/** Carries replies to the kernel. The memory may be reused as soon as the call returns. */
export interface ReplySink {
  /** False if the kernel no longer knows the request. */
  send(bytes: Buffer, length: number): boolean;
  /** A header and the bytes that follow it; `done` runs when they were copied out. */
  sendData(header: Buffer, chunks: readonly Uint8Array[], dataBytes: number, done: (() => void) | undefined): void;
}

export interface SessionOptions {
  /** Upper bound of the kernel's read-ahead, bytes. */
  readonly maxReadAheadBytes: number;
  /** False: the kernel may not ask for an inode that it has from no name. Default true. */
  readonly fileHandles?: boolean;
  readonly log: FuseLog;
  /** The kernel and we agree; requests may come. */
  readonly onReady?: () => void;
  /** Whether this thread is about to die of a signal. Without it every INTERRUPT ends its request. */
  readonly isEnding?: (pid: number) => boolean;
  /** A request was interrupted, but its thread goes on: {@link FuseSession.lookAtInterrupted} is to be called for a while. */
  readonly onInterrupted?: () => void;
}

const BODY = p.IN_HEADER_BYTES;
const DATA = p.OUT_HEADER_BYTES;
/** Requests that the kernel queues by itself (read-ahead, asynchronous direct I/O) before it makes the reader wait. */
const MAX_BACKGROUND = 64;

/** What we ask for, where the kernel offers it; the reasons that are not obvious are in docs/decisions/0005-fuse-device.md. */
const WANTED_FLAGS =
  InitFlag.ASYNC_READ |
  InitFlag.POSIX_LOCKS |
  InitFlag.FLOCK_LOCKS |
  InitFlag.ATOMIC_O_TRUNC |
  InitFlag.EXPORT_SUPPORT |
  InitFlag.BIG_WRITES |
  InitFlag.DONT_MASK |
  InitFlag.DO_READDIRPLUS |
  InitFlag.ASYNC_DIO |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.POSIX_ACL |
  InitFlag.ABORT_ERROR |
  InitFlag.MAX_PAGES |
  InitFlag.SETXATTR_EXT;

/** setxattr with both: whether it is there or not, it is refused. */
const WHAT_CANNOT_BE = p.XattrFlag.CREATE | p.XattrFlag.REPLACE;
/**
 * Only of these may ENOENT be about a name. Of all others it means that the inode is gone which the kernel has open or under
 * some name (or in which it makes one): it was removed through another mount, and there may be another one under that
 * name. ESTALE makes the kernel look up the path anew, once, where ENOENT would be the program's.
 */
const OF_A_NAME: ReadonlySet<number> = new Set([
  Opcode.LOOKUP,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.RENAME2,
]);

type Answer<T> = (to: PendingRequest, value: T) => void;

export class FuseSession {
  readonly #ops: VfsOps;
  readonly #sink: ReplySink;
  readonly #options: SessionOptions;
  /** Requests that were not answered at once, by `unique`. */
  readonly #pending = new Map<number, PendingRequest>();
  /** Of these, the interrupted ones: the kernel says so once, and the thread may be killed later. */
  readonly #interrupted = new Set<PendingRequest>();
  readonly #out = Buffer.alloc(DATA + p.READDIR_MAX_BYTES + 1024);
  readonly #view = new DataView(this.#out.buffer, this.#out.byteOffset, this.#out.byteLength);
  #ready = false;
  /** What the kernel and we have agreed on. */
  #flags = 0;
  #kernelMinor = 0;

  constructor(ops: VfsOps, sink: ReplySink, options: SessionOptions) {
    this.#ops = ops;
    this.#sink = sink;
    this.#options = options;
  }

  /** Requests that wait for an answer. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Takes one request. `message`'s memory is free again when this returns. */
  handle(message: RequestBytes): void {
    const { view } = message;
    const opcode = view.getUint32(4, true);
    if (opcode === Opcode.FORGET) {
      this.#ops.forget(getU64(view, 16) as Ino, getU64(view, BODY));
      return;
    }
    if (opcode === Opcode.BATCH_FORGET) {
      request.decodeBatchForget(message, (ino, count) => this.#ops.forget(ino as Ino, count));
      return;
    }
    const from = new PendingRequest(view);
    try {
      this.#dispatch(opcode, from, message);
    } catch (error) {
      this.#fail(from, error);
    }
  }

  /** The kernel is gone: tells everything that still waits. Replies after this are of no interest to anyone. */
  end(): void {
    for (const waiting of this.#pending.values()) waiting.interrupt();
    this.#pending.clear();
    this.#interrupted.clear();
  }

  #dispatch(opcode: number, from: PendingRequest, message: RequestBytes): void {
    const ops = this.#ops;
    const { view } = message;
    switch (opcode) {
      case Opcode.LOOKUP:
        return this.#lookup(from, request.stringAt(message, BODY));
      case Opcode.GETATTR:
        return this.#settle(
          from,
          ops.getattr(from, from.ino, view.getUint32(BODY, true) & p.GETATTR_FH ? getU64(view, BODY + 8) : undefined),
          this.#sendAttr,
        );
      case Opcode.READ: {
        const offset = getU64(view, BODY + 8);
        from.size = view.getUint32(BODY + 16, true);
        if (offset > Number.MAX_SAFE_INTEGER) return this.#sendRead(from, { chunks: [] });
        return this.#settle(from, ops.read(from, getU64(view, BODY), offset, from.size), this.#sendRead);
      }
      case Opcode.WRITE: {
        const offset = getU64(view, BODY + 8);
        const size = view.getUint32(BODY + 16, true);
        const start = BODY + p.WRITE_IN_BYTES;
        request.expectBody(message, p.WRITE_IN_BYTES + size);
        if (offset + size > Number.MAX_SAFE_INTEGER) throw new FsError('EFBIG');
        // Of a page written through a mapping the kernel tells no flags: it is never appended.
        const flags = view.getUint32(BODY + 32, true);
        return this.#settle(
          from,
          ops.write(from, getU64(view, BODY), offset, message.bytes.subarray(start, start + size), flags),
          this.#sendCount,
        );
      }
      case Opcode.OPEN:
        return this.#settle(from, ops.open(from, from.ino, view.getUint32(BODY, true)), this.#sendOpen);
      case Opcode.CREATE: {
        const { name, mode, flags, umask } = request.decodeCreate(message);
        return this.#settle(from, ops.create(from, from.ino, name, mode & 0o7777, flags, umask), this.#sendCreate);
      }
      case Opcode.TMPFILE: {
        const { mode, flags, umask } = request.decodeCreate(message);
        if (ops.tmpfile === undefined) throw new FsError('EOPNOTSUPP');
        return this.#settle(from, ops.tmpfile(from, from.ino, mode & 0o7777, flags, umask), this.#sendCreate);
      }
      case Opcode.FLUSH:
        return this.#settle(
          from,
          ops.flush(from, getU64(view, BODY), view.getBigUint64(BODY + 16, true)),
          this.#sendEmpty,
        );
      case Opcode.RELEASE:
        return this.#settle(from, ops.release(getU64(view, BODY)), this.#sendEmpty);
      case Opcode.SETATTR: {
        const { set, handle } = request.decodeSetattr(message);
        return this.#settle(from, ops.setattr(from, from.ino, set, handle), this.#sendAttr);
      }
      case Opcode.READLINK:
        return this.#settle(from, ops.readlink(from, from.ino), this.#sendBytes);
      case Opcode.SYMLINK: {
        const [name, target] = request.stringsAt(message, BODY);
        return this.#settle(from, ops.symlink(from, from.ino, name, target), this.#sendEntry);
      }
      case Opcode.MKNOD: {
        const { mode, rdev, name, umask } = request.decodeMknod(message);
        const type = reply.fileTypeOfMode(mode);
        if (type === undefined || type === 'directory' || type === 'symlink') throw new FsError('EINVAL');
        return this.#settle(from, ops.mknod(from, from.ino, name, type, mode & 0o7777, rdev, umask), this.#sendEntry);
      }
      case Opcode.MKDIR: {
        const { name, mode, umask } = request.decodeMkdir(message);
        return this.#settle(from, ops.mkdir(from, from.ino, name, mode & 0o7777, umask), this.#sendEntry);
      }
      case Opcode.UNLINK:
        return this.#settle(from, ops.unlink(from, from.ino, request.stringAt(message, BODY)), this.#sendEmpty);
      case Opcode.RMDIR:
        return this.#settle(from, ops.rmdir(from, from.ino, request.stringAt(message, BODY)), this.#sendEmpty);
      case Opcode.RENAME:
      case Opcode.RENAME2:
        return this.#rename(from, request.decodeRename(message, opcode === Opcode.RENAME2));
      case Opcode.LINK:
        return this.#settle(
          from,
          ops.link(from, getU64(view, BODY) as Ino, from.ino, request.stringAt(message, BODY + 8)),
          this.#sendEntry,
        );
      case Opcode.FSYNC:
        return this.#settle(
          from,
          ops.fsync(from, getU64(view, BODY), (view.getUint32(BODY + 8, true) & p.FSYNC_FDATASYNC) !== 0),
          this.#sendEmpty,
        );
      case Opcode.OPENDIR:
        return this.#settle(from, ops.opendir(from, from.ino), this.#sendOpenDir);
      case Opcode.READDIR:
      case Opcode.READDIRPLUS:
        return this.#readdir(from, view, opcode === Opcode.READDIRPLUS);
      case Opcode.RELEASEDIR:
        return this.#settle(from, ops.releasedir(getU64(view, BODY)), this.#sendEmpty);
      case Opcode.FSYNCDIR:
        return this.#settle(from, ops.fsyncdir(from, getU64(view, BODY)), this.#sendEmpty);
      case Opcode.STATFS:
        return this.#settle(from, ops.statfs(from), this.#sendStatfs);
      case Opcode.GETXATTR:
        from.size = view.getUint32(BODY, true);
        return this.#settle(from, ops.getxattr(from, from.ino, request.stringAt(message, BODY + 8)), this.#sendXattr);
      case Opcode.LISTXATTR:
        from.size = view.getUint32(BODY, true);
        return this.#settle(from, ops.listxattr(from, from.ino), this.#sendXattrNames);
      case Opcode.SETXATTR: {
        const extended = (this.#flags & InitFlag.SETXATTR_EXT) !== 0;
        const { name, value, flags, moreFlags } = request.decodeSetxattr(message, extended);
        if ((flags & WHAT_CANNOT_BE) === WHAT_CANNOT_BE) return this.#refuseXattr(from, name);
        const mode = flags & p.XattrFlag.CREATE ? 'create' : flags & p.XattrFlag.REPLACE ? 'replace' : 'any';
        // Before Linux 5.13 the kernel does not tell whether the caller is in the file's group: root is taken to be.
        const killSetgid = moreFlags === undefined ? from.uid !== 0 : (moreFlags & p.SETXATTR_ACL_KILL_SGID) !== 0;
        return this.#settle(from, ops.setxattr(from, from.ino, name, value, mode, killSetgid), this.#sendEmpty);
      }
      case Opcode.REMOVEXATTR:
        return this.#settle(from, ops.removexattr(from, from.ino, request.stringAt(message, BODY)), this.#sendEmpty);
      case Opcode.FALLOCATE: {
        const { handle, offset, length, mode } = request.decodeFallocate(message);
        return this.#settle(from, ops.fallocate(from, handle, offset, length, mode), this.#sendEmpty);
      }
      case Opcode.COPY_FILE_RANGE:
        return this.#copyFileRange(from, request.decodeCopyFileRange(message));
      case Opcode.LSEEK: {
        const { handle, offset, whence } = request.decodeLseek(message);
        if (offset > Number.MAX_SAFE_INTEGER) throw new FsError('ENXIO');
        return this.#settle(from, ops.lseek(from, handle, offset, whence), this.#sendOffset);
      }
      case Opcode.GETLK: {
        const { handle, owner, lock } = request.decodeLock(message);
        return this.#settle(from, ops.getlk(from, handle, owner, lock), this.#sendLock);
      }
      case Opcode.SETLK:
      case Opcode.SETLKW: {
        const { handle, owner, lock } = request.decodeLock(message);
        from.waitsForOthers = opcode === Opcode.SETLKW;
        return this.#settle(from, ops.setlk(from, handle, owner, lock, from.waitsForOthers), this.#sendEmpty);
      }
      case Opcode.INTERRUPT:
        return this.#interrupt(from, getU64(view, BODY));
      case Opcode.INIT:
        return this.#init(from, request.decodeInit(message));
      case Opcode.DESTROY:
        return this.#sendEmpty(from);
      default:
        // The kernel remembers the ENOSYS of most opcodes and does without (access, bmap, poll, ...).
        return this.#sendError(from, ERRNO_NUMBERS.ENOSYS);
    }
  }

  /** Sends the answer now, or when the promise settles. */
  #settle<T>(from: PendingRequest, result: Maybe<T>, answer: Answer<T>): void {
    if (!isPromise(result)) {
      answer(from, result);
      return;
    }
    this.#pending.set(from.unique, from);
    result.then(
      (value) => {
        this.#forgetPending(from);
        try {
          answer(from, value);
        } catch (error) {
          this.#fail(from, error);
        }
      },
      (error: unknown) => {
        this.#forgetPending(from);
        if (!from.answered) this.#fail(from, error);
      },
    );
  }

  #forgetPending(from: PendingRequest): void {
    this.#pending.delete(from.unique);
    this.#interrupted.delete(from);
  }

  #fail(from: PendingRequest, error: unknown): void {
    let number = error instanceof FsError ? errnoNumber(error.code) : undefined;
    const isOfAName = OF_A_NAME.has(from.opcode) || error instanceof RemovedMeanwhileError;
    if (number === ERRNO_NUMBERS.ENOENT && !isOfAName) number = ERRNO_NUMBERS.ESTALE;
    if (number === undefined && error instanceof CancelledError && from.interrupted) number = ERRNO_NUMBERS.EINTR;
    if (number === undefined) {
      this.#options.log(withCause('An operation failed in an unforeseen way and was answered with EIO.', error));
      number = ERRNO_NUMBERS.EIO;
    }
    this.#sendError(from, number);
  }

  #init(from: PendingRequest, ask: request.InitRequest): void {
    if (ask.major > p.FUSE_MAJOR) {
      // The kernel then asks again in our version.
      this.#send(from, reply.encodeInit(this.#view, DATA, { ...NO_INIT, minor: p.FUSE_MINOR_MAX }));
      return;
    }
    if (ask.major < p.FUSE_MAJOR || ask.minor < p.FUSE_MINOR_MIN) {
      this.#options.log(
        `The kernel speaks FUSE ${ask.major}.${ask.minor}; at least ${p.FUSE_MAJOR}.${p.FUSE_MINOR_MIN} (Linux 5.4) is needed.`,
      );
      return this.#sendError(from, ERRNO_NUMBERS.EPROTO);
    }
    const answer = {
      major: p.FUSE_MAJOR,
      minor: Math.min(ask.minor, p.FUSE_MINOR_MAX),
      maxReadAheadBytes: Math.max(ask.maxReadAheadBytes, this.#options.maxReadAheadBytes),
      flags: ask.flags & (this.#options.fileHandles === false ? WANTED_FLAGS & ~InitFlag.EXPORT_SUPPORT : WANTED_FLAGS),
      flags2: 0,
      maxBackground: MAX_BACKGROUND,
      congestionThreshold: (MAX_BACKGROUND * 3) / 4,
      maxWriteBytes: p.MAX_IO_BYTES,
      timeGranularityNs: 1,
      maxPages: p.MAX_IO_BYTES / 4096,
    };
    this.#flags = answer.flags;
    this.#kernelMinor = ask.minor;
    this.#send(from, reply.encodeInit(this.#view, DATA, answer));
    if (this.#ready) return;
    this.#ready = true;
    this.#options.onReady?.();
  }

  /** `.` and `..` come from file handles (NFS export, open_by_handle_at) whose inode left the kernel's cache. */
  #lookup(from: PendingRequest, name: Buffer): void {
    if (name[0] !== 0x2e || name.length > 2 || (name.length === 2 && name[1] !== 0x2e)) {
      return this.#settle(from, this.#ops.lookup(from, from.ino, name), this.#sendEntry);
    }
    const own = this.#ops.getattr(from, from.ino, undefined);
    const wanted =
      name.length === 1
        ? own
        : Promise.resolve(own).then(({ attr }) => this.#ops.getattr(from, attr.parent || attr.ino, undefined));
    this.#settle(from, wanted, (to: PendingRequest, { attr, attrTimeoutMs }: AttrReply) => {
      if (to.answered) return;
      this.#ops.remember(attr.ino);
      this.#sendEntry(to, { attr, attrTimeoutMs, entryTimeoutMs: 0 });
    });
  }

  /** Only if it is not there, and only if it is. */
  #refuseXattr(from: PendingRequest, name: Uint8Array): void {
    const found = Promise.resolve(this.#ops.getxattr(from, from.ino, name));
    const refused = found.then(() => Promise.reject<void>(new FsError('EEXIST')));
    this.#settle(from, refused, this.#sendEmpty);
  }

  #rename(from: PendingRequest, { newParent, flags, name, newName }: request.RenameRequest): void {
    if (flags & ~(p.RenameFlag.NOREPLACE | p.RenameFlag.EXCHANGE)) throw new FsError('EINVAL');
    const options = {
      noReplace: (flags & p.RenameFlag.NOREPLACE) !== 0,
      exchange: (flags & p.RenameFlag.EXCHANGE) !== 0,
    };
    this.#settle(from, this.#ops.rename(from, from.ino, name, newParent as Ino, newName, options), this.#sendEmpty);
  }

  #copyFileRange(from: PendingRequest, ask: request.CopyFileRangeRequest): void {
    if (ask.flags !== 0) throw new FsError('EINVAL');
    if (ask.offsetOut > Number.MAX_SAFE_INTEGER) throw new FsError('EFBIG');
    // Nothing is stored there.
    if (ask.offsetIn > Number.MAX_SAFE_INTEGER) return this.#sendCount(from, 0);
    const length = Math.min(ask.length, p.COPY_MAX_BYTES);
    const copied = this.#ops.copyFileRange(from, ask.handleIn, ask.offsetIn, ask.handleOut, ask.offsetOut, length);
    this.#settle(from, copied, this.#sendCount);
  }

  #readdir(from: PendingRequest, view: DataView, plus: boolean): void {
    from.size = Math.min(view.getUint32(BODY + 16, true), p.READDIR_MAX_BYTES);
    // Names are 16 bytes or so on average; asking for what cannot fit would be work for nothing.
    const maxEntries = Math.max(2, Math.ceil(from.size / ((plus ? p.DIRENTPLUS_BYTES : p.DIRENT_BYTES) + 16)));
    const items = this.#ops.readdir(from, getU64(view, BODY), getU64(view, BODY + 8), maxEntries, plus);
    this.#settle(from, items, plus ? this.#sendDirPlus : this.#sendDir);
  }

  /**
   * If the interrupted request is unknown, it was answered already (the kernel then ignores this reply) or the two
   * overtook each other: EAGAIN makes the kernel repeat it.
   */
  #interrupt(from: PendingRequest, unique: number): void {
    const target = this.#pending.get(unique);
    if (target === undefined) return this.#sendError(from, ERRNO_NUMBERS.EAGAIN);
    // For as long as another likes, so any signal ends it: programs set an alarm. It says itself whether it got the lock.
    if (target.waitsForOthers) return target.interrupt();
    if (this.#endInterrupted(target)) return;
    this.#interrupted.add(target);
    this.#options.onInterrupted?.();
  }

  /** Whether the kernel knows FUSE_EXPIRE_ONLY. Once it is ready. */
  get expiresNames(): boolean {
    return this.#kernelMinor >= p.FUSE_MINOR_EXPIRE_ONLY;
  }

  /** Ends the interrupted requests of threads that are about to die by now. True while there are others. */
  lookAtInterrupted(): boolean {
    for (const waiting of this.#interrupted) this.#endInterrupted(waiting);
    return this.#interrupted.size > 0;
  }

  /** Answered here: what works on it may not look at its signal. What it yields after all is given back. */
  #endInterrupted(target: PendingRequest): boolean {
    if (this.#options.isEnding?.(target.pid) === false) return false;
    this.#forgetPending(target);
    target.interrupt();
    this.#sendError(target, ERRNO_NUMBERS.EINTR);
    target.answered = true;
    this.#ops.abandoned?.();
    return true;
  }

  // Replies. Fields, so that passing one on makes no closure.

  readonly #sendEntry: Answer<Entry> = (to, entry) => {
    if (!this.#send(to, reply.encodeEntry(this.#view, DATA, entry))) this.#forgetEntry(entry);
  };

  readonly #sendAttr: Answer<AttrReply> = (to, { attr, attrTimeoutMs }) => {
    if (!this.#send(to, reply.encodeAttrOut(this.#view, DATA, attr, attrTimeoutMs))) this.#ops.unseen?.(attr.ino);
  };

  readonly #sendOpen: Answer<Opened> = (to, { handle, keepCache }) => {
    if (!this.#send(to, reply.encodeOpen(this.#view, DATA, handle, keepCache ? p.OpenReplyFlag.KEEP_CACHE : 0)))
      this.#drop(this.#ops.release(handle));
  };

  readonly #sendOpenDir: Answer<Opened> = (to, { handle }) => {
    if (!this.#send(to, reply.encodeOpen(this.#view, DATA, handle, 0))) this.#drop(this.#ops.releasedir(handle));
  };

  readonly #sendCreate: Answer<Entry & Opened> = (to, made) => {
    const at = reply.encodeEntry(this.#view, DATA, made);
    if (this.#send(to, reply.encodeOpen(this.#view, at, made.handle, made.keepCache ? p.OpenReplyFlag.KEEP_CACHE : 0)))
      return;
    this.#drop(this.#ops.release(made.handle));
    this.#forgetEntry(made);
  };

  #forgetEntry({ attr: { ino } }: Entry): void {
    this.#ops.unseen?.(ino);
    this.#ops.forget(ino, 1);
  }

  readonly #sendRead: Answer<ReadResult> = (to, result) => {
    if (to.answered) return result.release?.();
    let total = 0;
    for (const chunk of result.chunks) total += chunk.length;
    if (total > to.size) throw new FsError('EIO', `a read of ${to.size} bytes was answered with ${total}`);
    reply.encodeHeader(this.#view, DATA + total, 0, to.unique);
    this.#sink.sendData(
      this.#out.subarray(0, DATA),
      result.chunks,
      total,
      result.release === undefined ? undefined : () => result.release?.(),
    );
  };

  readonly #sendCount: Answer<number> = (to, count) => {
    this.#send(to, reply.encodeCount(this.#view, DATA, count));
  };

  readonly #sendOffset: Answer<number> = (to, offset) => {
    this.#send(to, reply.encodeOffset(this.#view, DATA, offset));
  };

  readonly #sendLock: Answer<FileLock> = (to, lock) => {
    this.#send(to, reply.encodeLock(this.#view, DATA, lock));
  };

  readonly #sendStatfs: Answer<StatFs> = (to, stat) => {
    this.#send(to, reply.encodeStatfs(this.#view, DATA, stat));
  };

  readonly #sendBytes: Answer<Uint8Array> = (to, bytes) => {
    if (DATA + bytes.length > this.#out.length) throw new FsError('ERANGE');
    this.#out.set(bytes, DATA);
    this.#send(to, DATA + bytes.length);
  };

  readonly #sendXattr: Answer<Uint8Array> = (to, value) => {
    if (to.size === 0) return this.#sendCount(to, value.length);
    if (value.length > to.size) throw new FsError('ERANGE');
    this.#sendBytes(to, value);
  };

  readonly #sendXattrNames: Answer<readonly Uint8Array[]> = (to, names) => {
    const zero = new Uint8Array(1);
    this.#sendXattr(to, Buffer.concat(names.flatMap((name) => [name, zero])));
  };

  readonly #sendDir: Answer<readonly DirItem[]> = (to, items) => {
    let at = DATA;
    for (const item of items) {
      const next = reply.encodeDirent(this.#out, this.#view, at, DATA + to.size, item);
      if (next < 0) break;
      at = next;
    }
    this.#send(to, at);
  };

  readonly #sendDirPlus: Answer<readonly DirItem[]> = (to, items) => {
    let at = DATA;
    let kept = 0;
    for (const item of to.answered ? [] : items) {
      const next = reply.encodeDirentPlus(this.#out, this.#view, at, DATA + to.size, item);
      if (next < 0) break;
      at = next;
      kept += 1;
    }
    if (!this.#send(to, at)) kept = 0;
    for (const [index, { entry }] of items.entries()) {
      if (entry === undefined) continue;
      if (index < kept) this.#ops.remember(entry.attr.ino);
      else this.#ops.unseen?.(entry.attr.ino);
    }
  };

  readonly #sendEmpty = (to: PendingRequest): void => {
    this.#send(to, DATA);
  };

  #sendError(to: PendingRequest, errno: number): void {
    reply.encodeHeader(this.#view, DATA, errno, to.unique);
    this.#sink.send(this.#out, DATA);
  }

  #send(to: PendingRequest, length: number): boolean {
    if (to.answered) return false;
    reply.encodeHeader(this.#view, length, 0, to.unique);
    return this.#sink.send(this.#out, length);
  }

  #drop(result: Maybe<void>): void {
    if (isPromise(result))
      result.catch((error: unknown) =>
        this.#options.log(withCause('Closing a file that nobody waits for failed.', error)),
      );
  }
}

const NO_INIT = {
  major: p.FUSE_MAJOR,
  minor: 0,
  maxReadAheadBytes: 0,
  flags: 0,
  flags2: 0,
  maxBackground: 0,
  congestionThreshold: 0,
  maxWriteBytes: 0,
  timeGranularityNs: 0,
  maxPages: 0,
};

function isPromise<T>(value: Maybe<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}
