/** An open file with the manners of node:fs/promises' FileHandle. */
import { Readable, type Writable } from 'node:stream';
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { LOCK_END_MAX } from '../meta/locks.ts';
import type { SetAttr } from '../meta/types.ts';
import { asNode } from './api-errors.ts';
import { BigIntStats, Stats } from './api-stats.ts';
import { copyRange } from './copy-range.ts';
import { readStream, STEP_BYTES, writeStream, type StreamOptions } from './api-streams.ts';
import type { Caller, Handle, LockOwner, VfsOps } from './ops.ts';

/** A text encoding of Node: `utf8`, `latin1`, `hex`, ... */
export type Encoding = BufferEncoding;
/** An encoding, alone or among options. Without one, bytes come as a Buffer. */
export type EncodingOption =
  | Encoding
  | null
  | {
      /** Default, and null: bytes. */
      readonly encoding?: Encoding | null;
      /** How a path is opened, see {@link FileSystem.open}; of no effect on an open file. */
      readonly flag?: string | number;
    }
  | undefined;
/** What can be written as a whole: text, bytes, or a source of pieces. */
export type WriteInput =
  string | Uint8Array | DataView | Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

/** Arguments of {@link FileHandle.read} by name. */
export interface ReadOptions {
  /** Where the bytes go. Default: a new one of 16 KiB. */
  readonly buffer?: Uint8Array;
  /** First byte of the buffer to fill. Default 0. */
  readonly offset?: number;
  /** Bytes wanted. Default: as many as fit. */
  readonly length?: number;
  /** Byte of the file to begin at. Default, null and negative: where the last read or write ended. */
  readonly position?: number | bigint | null;
}

/** Which lock, see {@link FileHandle.lock}. */
export interface LockOptions {
  /** Others may have it, too, as long as all of them want it so. Default: it is for one alone. */
  readonly shared?: boolean;
  /** First byte of the range. Default 0. */
  readonly start?: number;
  /** Bytes of the range. Default, and 0: to the end of the file, wherever that will be. */
  readonly length?: number;
  /** Whether to wait while another has it, for as long as that takes. Default true; false: EAGAIN at once. */
  readonly wait?: boolean;
  /** Ends the wait, with EINTR. */
  readonly signal?: AbortSignal;
}

/** A time: seconds since 1970 (also as text), a Date, date text, or, as a bigint, nanoseconds. */
export type TimeLike = number | string | Date | bigint;

export function encodingOf(options: EncodingOption): Encoding | undefined {
  return (typeof options === 'string' ? options : options?.encoding) ?? undefined;
}

/** Seconds, Date or date text as in node:fs; a bigint is nanoseconds. */
export function timeNs(time: TimeLike): bigint {
  if (typeof time === 'bigint') return time;
  if (time instanceof Date) return BigInt(Math.round(time.getTime())) * 1_000_000n;
  const seconds =
    typeof time === 'string' && Number.isNaN(Number(time)) ? new Date(time).getTime() / 1000 : Number(time);
  if (!Number.isFinite(seconds)) throw new FsError('EINVAL', `not a time: ${String(time)}`);
  const whole = Math.floor(seconds);
  return BigInt(whole) * 1_000_000_000n + BigInt(Math.round((seconds - whole) * 1e6)) * 1_000n;
}

function checkFits(offset: number, length: number, bufferLength: number): void {
  if (offset >= 0 && length >= 0 && offset + length <= bufferLength) return;
  throw Object.assign(new RangeError(`offset ${offset} and length ${length} do not fit a buffer of ${bufferLength}`), {
    code: 'ERR_OUT_OF_RANGE',
  });
}

/** The handle is the owner: two handles of one program exclude each other. Of the kind that has ranges. */
function lockOwner(handle: Handle): LockOwner {
  return { kind: 'posix', owner: BigInt(handle) };
}

function rangeOf({ start = 0, length = 0 }: Pick<LockOptions, 'start' | 'length'>): { start: number; end: number } {
  if (!Number.isSafeInteger(start) || start < 0 || !Number.isSafeInteger(length) || length < 0) {
    throw new FsError('EINVAL', `not a range of bytes: ${length} from ${start} on`);
  }
  return { start, end: length === 0 ? LOCK_END_MAX : Math.min(LOCK_END_MAX, start + length - 1) };
}

/**
 * An open file, or directory, of a {@link FileSystem}, with the manners of node:fs/promises' FileHandle.
 *
 * Reads see all that this filesystem has written so far. Writes are kept in memory (bounded; then writers wait) and
 * leave in the background; an error of that is thrown once, by the next write, sync or close, as ENOSPC or EIO.
 * A closed handle throws EBADF.
 */
export class FileHandle implements AsyncDisposable {
  readonly #ops: VfsOps;
  readonly #caller: Caller;
  readonly #ino: Ino;
  /** Undefined for a directory: it can be opened, but neither read nor written. */
  readonly #handle: Handle | undefined;
  #position = 0;
  #closing: Promise<void> | undefined;
  readonly #fsync: () => Promise<void>;

  /** @internal Made by FileSystem.open. */
  constructor(ops: VfsOps, caller: Caller, ino: Ino, handle: Handle | undefined, fsyncDirectory: () => Promise<void>) {
    this.#ops = ops;
    this.#caller = caller;
    this.#ino = ino;
    this.#handle = handle;
    this.#fsync = fsyncDirectory;
  }

  /** A number that is its own among the open files of this filesystem; -1 once closed. It is no descriptor of the system. */
  get fd(): number {
    return this.#closing === undefined ? (this.#handle ?? 0) : -1;
  }

  #open(syscall: string): Handle {
    if (this.#closing !== undefined) throw new FsError('EBADF', 'the file is closed');
    if (this.#handle === undefined) throw new FsError(syscall === 'read' ? 'EISDIR' : 'EBADF');
    return this.#handle;
  }

  /**
   * `read(buffer, offset?, length?, position?)` or `read({ buffer, ... })`; position null goes on where the last ended.
   * `bytesRead` is less than asked only at the end of the file, and 0 behind it.
   *
   * @throws EISDIR; `ERR_OUT_OF_RANGE` for a range that the buffer does not have
   */
  async read(
    bufferOrOptions: Uint8Array | ReadOptions = {},
    offset?: number | null,
    length?: number | null,
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: Uint8Array }> {
    const given: ReadOptions =
      bufferOrOptions instanceof Uint8Array
        ? {
            buffer: bufferOrOptions,
            offset: offset ?? 0,
            position: position ?? null,
            ...(length === undefined || length === null ? {} : { length }),
          }
        : bufferOrOptions;
    const buffer = given.buffer ?? Buffer.alloc(16 * 1024);
    const start = given.offset ?? 0;
    const count = given.length ?? buffer.length - start;
    checkFits(start, count, buffer.length);
    return await asNode({ syscall: 'read' }, async () => {
      const isPositioned = given.position !== undefined && given.position !== null && Number(given.position) >= 0;
      const from = isPositioned ? Number(given.position) : this.#position;
      const result = await this.#ops.read(this.#caller, this.#open('read'), from, count);
      let bytesRead = 0;
      for (const chunk of result.chunks) {
        buffer.set(chunk, start + bytesRead);
        bytesRead += chunk.length;
      }
      result.release?.();
      if (!isPositioned) this.#position = from + bytesRead;
      return { bytesRead, buffer };
    });
  }

  /** Where reads and writes without a position go on. */
  get position(): number {
    return this.#position;
  }

  /** Bytes in a buffer of their own, fewer than asked only at the end of the file. */
  async readBytes(position: number, size: number): Promise<Buffer> {
    return await asNode({ syscall: 'read' }, async () => {
      const result = await this.#ops.read(this.#caller, this.#open('read'), position, size);
      const data = Buffer.concat(result.chunks);
      result.release?.();
      return data;
    });
  }

  /**
   * `write(buffer, offset?, length?, position?)` or `write(text, position?, encoding?)`. Without a position it goes on
   * where the last one ended (or, opened for appending, at the end). All bytes are taken; they are copied.
   *
   * @throws EBADF if it was opened for reading only; ENOSPC, EIO for earlier writes that could not be stored;
   * `ERR_OUT_OF_RANGE` for a range that the buffer does not have
   */
  async write<T extends Uint8Array | string>(
    data: T,
    offsetOrPosition?:
      number | null | { readonly offset?: number; readonly length?: number; readonly position?: number | null },
    lengthOrEncoding?: number | null | Encoding,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: T }> {
    let bytes: Uint8Array;
    let at: number | null | undefined;
    if (typeof data === 'string') {
      bytes = Buffer.from(data, typeof lengthOrEncoding === 'string' ? lengthOrEncoding : 'utf8');
      at = typeof offsetOrPosition === 'number' ? offsetOrPosition : undefined;
    } else {
      const options = typeof offsetOrPosition === 'object' && offsetOrPosition !== null ? offsetOrPosition : undefined;
      const offset = options?.offset ?? (typeof offsetOrPosition === 'number' ? offsetOrPosition : 0);
      const length =
        options?.length ?? (typeof lengthOrEncoding === 'number' ? lengthOrEncoding : data.length - offset);
      checkFits(offset, length, data.length);
      bytes = data.subarray(offset, offset + length);
      at = options === undefined ? position : options.position;
    }
    return await asNode({ syscall: 'write' }, async () => {
      await this.#put(bytes, at ?? undefined);
      return { bytesWritten: bytes.length, buffer: data };
    });
  }

  async #put(bytes: Uint8Array, position: number | undefined): Promise<void> {
    const at = position ?? this.#position;
    const written = this.#ops.write(this.#caller, this.#open('write'), at, bytes);
    if (position === undefined) this.#position = at + bytes.length;
    if (written instanceof Promise) await written;
  }

  /** Writes the buffers one behind the other, from `position` or where the last write ended. */
  async writev(
    buffers: readonly Uint8Array[],
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffers: readonly Uint8Array[] }> {
    return await asNode({ syscall: 'write' }, async () => {
      let bytesWritten = 0;
      for (const buffer of buffers) {
        await this.#put(buffer, position === undefined || position === null ? undefined : position + bytesWritten);
        bytesWritten += buffer.length;
      }
      return { bytesWritten, buffers };
    });
  }

  /** Fills the buffers one after the other, from `position` or where the last read ended; fewer only at the end of the file. */
  async readv(
    buffers: readonly Uint8Array[],
    position?: number | null,
  ): Promise<{ bytesRead: number; buffers: readonly Uint8Array[] }> {
    let bytesRead = 0;
    for (const buffer of buffers) {
      const step = await this.read(
        buffer,
        0,
        buffer.length,
        position === undefined || position === null ? null : position + bytesRead,
      );
      bytesRead += step.bytesRead;
      if (step.bytesRead < buffer.length) break;
    }
    return { bytesRead, buffers };
  }

  /**
   * Copies a range into another open file of the same filesystem, or elsewhere into this one, without moving its bytes: both
   * then name the same blocks, and holes stay holes. Only where the target is kept in another pool are they read and written.
   * Positions are left as they are. (As Linux's copy_file_range, but all of the range; several clients see it grow by steps.)
   *
   * @param options - `start`: byte to begin at (default 0); `targetStart`: where it goes (default `start`); `length`: bytes
   * (default: to the end)
   * @returns bytes copied, fewer than `length` where this file ends
   * @throws EBADF if the target is not open for writing, or for appending; EINVAL if ranges of one file overlap; EFBIG; ENOSPC
   */
  async copyTo(
    target: FileHandle,
    options: { readonly start?: number; readonly targetStart?: number; readonly length?: number } = {},
  ): Promise<number> {
    const { start = 0, targetStart = start, length = Number.MAX_SAFE_INTEGER } = options;
    return await asNode({ syscall: 'copy_file_range' }, () => {
      if (target.#ops !== this.#ops) throw new FsError('EXDEV', 'the files are of different filesystems');
      return copyRange(this.#ops, this.#caller, {
        ...{ ino: this.#ino, source: this.#open('read'), from: start },
        ...{ target: target.#open('write'), to: targetStart, length },
      });
    });
  }

  /** From the current position to the end: a string if an encoding is given, else a Buffer. */
  async readFile(options: { readonly encoding: Encoding } | Encoding): Promise<string>;
  async readFile(options?: EncodingOption): Promise<Buffer | string>;
  async readFile(options?: EncodingOption): Promise<Buffer | string> {
    const parts: Buffer[] = [];
    for (;;) {
      const part = await this.readBytes(this.#position, STEP_BYTES);
      if (part.length === 0) break;
      this.#position += part.length;
      parts.push(part);
    }
    const data = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    const encoding = encodingOf(options);
    return encoding === undefined ? data : data.toString(encoding);
  }

  /** Writes at the current position; does not truncate (as in node:fs). */
  async writeFile(data: WriteInput, options?: EncodingOption): Promise<void> {
    await asNode({ syscall: 'write' }, async () => {
      const encoding = encodingOf(options) ?? 'utf8';
      if (typeof data === 'string') return await this.#put(Buffer.from(data, encoding), undefined);
      if (ArrayBuffer.isView(data)) {
        return await this.#put(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), undefined);
      }
      for await (const part of data) {
        await this.#put(typeof part === 'string' ? Buffer.from(part, encoding) : part, undefined);
      }
    });
  }

  /** As {@link FileHandle.writeFile}: to append, open with `a`. */
  async appendFile(data: WriteInput, options?: EncodingOption): Promise<void> {
    await this.writeFile(data, options);
  }

  /** Attributes, with the size as this filesystem's own writes have made it. */
  async stat(options: { readonly bigint: true }): Promise<BigIntStats>;
  async stat(options?: { readonly bigint?: false }): Promise<Stats>;
  async stat(options?: { readonly bigint?: boolean }): Promise<Stats | BigIntStats> {
    return await asNode({ syscall: 'fstat' }, async () => {
      this.#alive();
      const { attr } = await this.#ops.getattr(this.#caller, this.#ino, this.#handle);
      return options?.bigint === true ? new BigIntStats(attr) : new Stats(attr);
    });
  }

  #alive(): void {
    if (this.#closing !== undefined) throw new FsError('EBADF', 'the file is closed');
  }

  async #set(syscall: string, set: SetAttr): Promise<void> {
    await asNode({ syscall }, async () => {
      this.#alive();
      await this.#ops.setattr(this.#caller, this.#ino, set, this.#handle);
    });
  }

  /** Cuts the file to `length` bytes, or extends it by a hole that reads as zeros. EBADF for a directory. */
  async truncate(length = 0): Promise<void> {
    await asNode({ syscall: 'ftruncate' }, () => void this.#open('write'));
    await this.#set('ftruncate', { sizeBytes: Math.max(0, length) });
  }
  /** Sets the permission bits. */
  async chmod(mode: number): Promise<void> {
    await this.#set('fchmod', { mode: mode & 0o7777 });
  }
  /** Sets owner and group; -1 leaves one as it is. */
  async chown(uid: number, gid: number): Promise<void> {
    await this.#set('fchown', { ...(uid < 0 ? {} : { uid }), ...(gid < 0 ? {} : { gid }) });
  }
  /** Sets the times of access and change of content; later writes change the latter again. */
  async utimes(atime: TimeLike, mtime: TimeLike): Promise<void> {
    await this.#set('futime', { atimeNs: timeNs(atime), mtimeNs: timeNs(mtime) });
  }

  /** All that was written is on disk on two nodes when it resolves. */
  async sync(): Promise<void> {
    await this.#sync('fsync', false);
  }
  /** As {@link FileHandle.sync}, without attributes that are not needed to read the data. */
  async datasync(): Promise<void> {
    await this.#sync('fdatasync', true);
  }
  async #sync(syscall: string, dataOnly: boolean): Promise<void> {
    await asNode({ syscall }, async () => {
      this.#alive();
      if (this.#handle === undefined) await this.#fsync();
      else await this.#ops.fsync(this.#caller, this.#handle, dataOnly);
    });
  }

  /** From `start` (default: the current position) to `end` inclusive. Closes the handle at its end unless autoClose is false. */
  createReadStream(options: StreamOptions = {}): Readable {
    return readStream(() => Promise.resolve(this), options);
  }

  /** A stream that writes from `start` (default: the current position). Closes the handle at its end unless autoClose is false. */
  createWriteStream(options: StreamOptions = {}): Writable {
    return writeStream(() => Promise.resolve(this), options);
  }

  /** The rest of the file as a web stream; leaves the handle open. */
  readableWebStream(): ReturnType<typeof Readable.toWeb> {
    return Readable.toWeb(this.createReadStream({ autoClose: false }));
  }

  /**
   * Takes a lock on the file or a range of it, which excludes other handles, other mounts and programs that use fcntl(2)
   * on them; or changes the type of one that is held. What the holders before have written is seen from here on.
   * Locks are advisory: who does not ask for one is not kept out. They end with the handle, and with the session of a
   * program that the servers have not heard of for a minute; the handle then fails with EIO.
   *
   * @throws EAGAIN if it is not waited for; EDEADLK if its holder waits for this handle; EINTR; ENOLCK; EBADF; EIO
   */
  async lock(options: LockOptions = {}): Promise<void> {
    const { shared = false, wait = true, signal } = options;
    await asNode({ syscall: 'lock' }, async () => {
      const handle = this.#open('lock');
      const lock = { ...rangeOf(options), type: shared ? 'read' : 'write', pid: this.#caller.pid } as const;
      const caller = signal === undefined ? this.#caller : { ...this.#caller, signal };
      await this.#ops.setlk(caller, handle, lockOwner(handle), lock, wait);
    });
  }

  /** Commits what was written and gives up the lock of the file, or of a range of it. No error where there is none. */
  async unlock(range: Pick<LockOptions, 'start' | 'length'> = {}): Promise<void> {
    await asNode({ syscall: 'lock' }, async () => {
      const handle = this.#open('lock');
      const lock = { ...rangeOf(range), type: 'unlock', pid: this.#caller.pid } as const;
      await this.#ops.setlk(this.#caller, handle, lockOwner(handle), lock, false);
    });
  }

  /** Commits what was written, as close does, and stays open. */
  async flush(): Promise<void> {
    await asNode({ syscall: 'close' }, async () => {
      if (this.#handle !== undefined) await this.#ops.flush(this.#caller, this.#handle, 0n);
    });
  }

  /** Commits what was written, so that an open anywhere in the cluster sees it; write errors show here at the latest. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await asNode({ syscall: 'close' }, async () => {
        const handle = this.#handle;
        if (handle !== undefined) await this.#ops.flush(this.#caller, handle, lockOwner(handle).owner);
      });
    } finally {
      if (this.#handle !== undefined) await this.#ops.release(this.#handle);
    }
  }

  /** As {@link FileHandle.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
