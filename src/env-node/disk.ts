/**
 * Disk over node:fs. Files are used by descriptor and callback: a FileHandle costs a second promise for each operation.
 */
import fs from 'node:fs';
import { promises as fsp } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import {
  DIRECT_BYTES,
  type Disk,
  type DiskFile,
  type Kv,
  type KvCheck,
  type KvOptions,
  type OpenMode,
} from '../env.ts';
import { StateError } from '../errors.ts';
import { DirectWriter } from './direct-write.ts';
import { openLevelKv } from './kv.ts';
import { checkLevelFiles } from './leveldb-files.ts';
import { takeLock } from './lock.ts';
import { makeDirectory } from './make-directory.ts';

const OPEN_FLAGS = {
  read: fs.constants.O_RDONLY,
  direct: fs.constants.O_RDONLY | fs.constants.O_DIRECT,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT,
  exclusive: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
} as const;

/** Numbers of devices mean something on one machine only. */
const BOOT_ID = bootId();

function bootId(): string {
  try {
    return fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return hostname();
  }
}

/** Most buffers of one writev (Linux IOV_MAX). */
const IOV_MAX = 1024;

export class NodeDisk implements Disk {
  /** Ends of the chains of atomic writes under way, by path: two to one path would share its `.tmp`. */
  readonly #atomicWrites = new Map<string, Promise<void>>();

  open(path: string, mode: OpenMode): Promise<DiskFile> {
    return new Promise((resolve, reject) => {
      fs.open(path, OPEN_FLAGS[mode], 0o644, (error, fd) => {
        if (error) reject(error);
        else resolve(new NodeFile(path, fd, mode === 'direct'));
      });
    });
  }

  async readFile(path: string): Promise<Uint8Array> {
    // A plain array: a Buffer's own slice would share memory where an array's copies.
    const content = await fsp.readFile(path);
    return new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
  }

  writeFileAtomic(path: string, data: Uint8Array, mode = 0o644): Promise<void> {
    const write = (this.#atomicWrites.get(path) ?? Promise.resolve()).then(
      () => writeAtomic(path, data, mode),
      () => writeAtomic(path, data, mode),
    );
    this.#atomicWrites.set(path, write);
    const forget = (): void => {
      if (this.#atomicWrites.get(path) === write) this.#atomicWrites.delete(path);
    };
    write.then(forget, forget);
    return write;
  }

  async readdir(path: string): Promise<string[]> {
    return (await fsp.readdir(path)).sort(byCodeUnit);
  }

  async permissions(path: string): Promise<number> {
    return (await fsp.stat(path)).mode & 0o777;
  }

  async exists(path: string): Promise<boolean> {
    try {
      await fsp.access(path);
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return false;
      throw error;
    }
  }

  /** The directories made are durable on return: it happens seldom, and a lost directory takes all below it along. */
  async mkdir(path: string, mode?: number): Promise<void> {
    const first = await makeDirectory(path, mode);
    if (first === undefined) return;
    const above = dirname(first);
    for (let made = resolve(path); made !== above; made = dirname(made)) {
      await syncDirectory(dirname(made));
    }
  }

  unlink(path: string): Promise<void> {
    return fsp.unlink(path);
  }

  rename(from: string, to: string): Promise<void> {
    return fsp.rename(from, to);
  }

  remove(path: string): Promise<void> {
    return fsp.rm(path, { recursive: true, force: true });
  }

  syncDir(path: string): Promise<void> {
    return syncDirectory(path);
  }

  async space(path: string): Promise<{ totalBytes: number; freeBytes: number; diskId: string }> {
    const [{ bsize, blocks, bfree, bavail }, { dev }] = await Promise.all([fsp.statfs(path), fsp.stat(path)]);
    // What is kept for root counts as not there, as df shows it.
    return { totalBytes: (blocks - (bfree - bavail)) * bsize, freeBytes: bavail * bsize, diskId: `${BOOT_ID}:${dev}` };
  }

  lock(path: string): Promise<{ release(): Promise<void> }> {
    return takeLock(path);
  }

  async openKv(path: string, options: KvOptions = {}): Promise<Kv> {
    await this.mkdir(path);
    return openLevelKv(path, options);
  }

  checkKv(path: string, maxBytes: number): Promise<KvCheck> {
    return checkLevelFiles(path, maxBytes);
  }
}

class NodeFile implements DiskFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #isDirect: boolean;
  #closing: Promise<void> | undefined;
  #past: DirectWriter | undefined;
  /**
   * Operations given to the thread pool. Invariant: the descriptor is closed only when this is 0; it could otherwise
   * be another file's by the time a late operation uses it.
   */
  #pendingCount = 0;
  #onIdle: (() => void) | undefined;

  constructor(path: string, fd: number, isDirect: boolean) {
    this.#path = path;
    this.#fd = fd;
    this.#isDirect = isDirect;
  }

  read(buffer: Uint8Array, position: number): Promise<number> {
    return this.#run((resolve, reject) => {
      let filled = 0;
      const more = (): void => {
        fs.read(this.#fd, buffer, filled, buffer.length - filled, position + filled, (error, count) => {
          if (error) return reject(error);
          filled += count;
          if (count === 0 || filled === buffer.length || this.#endsHere(count)) return resolve(filled);
          more();
        });
      };
      if (buffer.length === 0) resolve(0);
      else more();
    });
  }

  write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    return this.#run((resolve, reject) => this.#write(buffers, position, resolve, reject));
  }

  writePast(buffers: readonly Uint8Array[], position: number): Promise<void> {
    this.#past ??= new DirectWriter(this.#path);
    const past = this.#past;
    const ordinary = (parts: readonly Uint8Array[], at: number): Promise<void> =>
      new Promise((resolve, reject) => this.#write(parts, at, resolve, reject));
    return this.#run((resolve, reject) => void past.write(buffers, position, ordinary).then(resolve, reject));
  }

  #write(buffers: readonly Uint8Array[], position: number, resolve: () => void, reject: (error: Error) => void): void {
    let rest = buffers.filter((buffer) => buffer.length > 0);
    let at = position;
    const more = (): void => {
      const first = rest[0];
      if (first === undefined) return resolve();
      if (rest.length === 1) fs.write(this.#fd, first, 0, first.length, at, wrote);
      else fs.writev(this.#fd, rest.length > IOV_MAX ? rest.slice(0, IOV_MAX) : rest, at, wrote);
    };
    const wrote = (error: Error | null, count: number): void => {
      if (error) return reject(error);
      at += count;
      rest = withoutFirstBytes(rest, count);
      more();
    };
    more();
  }

  writeNow(data: Uint8Array, position: number): void {
    for (let done = 0; done < data.length;) {
      done += fs.writeSync(this.#fd, data, done, data.length - done, position + done);
    }
  }

  datasync(): Promise<void> {
    return this.#run((resolve, reject) => {
      fs.fdatasync(this.#fd, (error) => (error ? reject(error) : resolve()));
    });
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#run((resolve, reject) => {
      fs.ftruncate(this.#fd, sizeBytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  sizeBytes(): Promise<number> {
    return this.#run((resolve, reject) => {
      fs.fstat(this.#fd, (error, stats) => (error ? reject(error) : resolve(stats.size)));
    });
  }

  /** A direct read that stops within a sector has come to the file's end: to go on from there would not be allowed. */
  #endsHere(count: number): boolean {
    return this.#isDirect && count % DIRECT_BYTES !== 0;
  }

  /** Waits for what is under way. Closing again does nothing. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve, reject) => {
      const closeOwn = (): void => fs.close(this.#fd, (error) => (error ? reject(error) : resolve()));
      // What it has written is made durable by the other descriptor: that its closing fails means nothing.
      const close = (): void =>
        this.#past === undefined ? closeOwn() : void this.#past.close().then(closeOwn, closeOwn);
      if (this.#pendingCount === 0) close();
      else this.#onIdle = close;
    });
    return this.#closing;
  }

  #run<T>(start: (resolve: (value: T) => void, reject: (error: Error) => void) => void): Promise<T> {
    if (this.#closing) return Promise.reject(new StateError(`${this.#path} is used after it was closed`));
    this.#pendingCount++;
    return new Promise<T>((resolve, reject) => {
      const settled = (): void => {
        if (--this.#pendingCount === 0) this.#onIdle?.();
      };
      start(
        (value) => {
          settled();
          resolve(value);
        },
        (error) => {
          settled();
          reject(error);
        },
      );
    });
  }
}

function withoutFirstBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let left = count;
  let index = 0;
  while (index < buffers.length && left >= (buffers[index] as Uint8Array).length) {
    left -= (buffers[index] as Uint8Array).length;
    index++;
  }
  const rest = buffers.slice(index);
  if (left > 0) rest[0] = (rest[0] as Uint8Array).subarray(left);
  return rest;
}

async function writeAtomic(path: string, data: Uint8Array, mode: number): Promise<void> {
  const temporary = `${path}.tmp`;
  // One that a crash left may have another mode.
  await fsp.rm(temporary, { force: true });
  const handle = await fsp.open(temporary, 'wx', mode);
  try {
    await handle.writeFile(data);
    await handle.datasync();
  } catch (error) {
    await handle.close();
    await fsp.rm(temporary, { force: true });
    throw error;
  }
  await handle.close();
  await fsp.rename(temporary, path);
  await syncDirectory(dirname(path));
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await fsp.open(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}
