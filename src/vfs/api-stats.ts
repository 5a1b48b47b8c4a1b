/** stat results and directory entries with the fields and methods of node:fs. */
import type { Attr, FileType } from '../meta/types.ts';

const TYPE_BITS: Readonly<Record<FileType, number>> = {
  fifo: 0o010000,
  char: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
};
/** st_blksize: what programs use as buffer size when they know no better. */
const IO_BYTES = 4096;
const SECTOR_BYTES = 512;

class TypeTests {
  readonly #type: FileType;
  constructor(type: FileType) {
    this.#type = type;
  }
  isFile(): boolean {
    return this.#type === 'file';
  }
  isDirectory(): boolean {
    return this.#type === 'directory';
  }
  isSymbolicLink(): boolean {
    return this.#type === 'symlink';
  }
  isFIFO(): boolean {
    return this.#type === 'fifo';
  }
  isSocket(): boolean {
    return this.#type === 'socket';
  }
  isCharacterDevice(): boolean {
    return this.#type === 'char';
  }
  isBlockDevice(): boolean {
    return this.#type === 'block';
  }
}

/** As fs.Stats, with the exact times in nanoseconds besides. There is no birth time: it shows the change time. */
export class Stats extends TypeTests {
  readonly dev = 0;
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blksize = IO_BYTES;
  readonly blocks: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;

  constructor(attr: Attr) {
    super(attr.type);
    this.ino = attr.ino;
    this.mode = TYPE_BITS[attr.type] | attr.mode;
    this.nlink = attr.nlink;
    this.uid = attr.uid;
    this.gid = attr.gid;
    this.rdev = attr.rdev;
    this.size = attr.sizeBytes;
    this.blocks = Math.ceil(attr.storedBytes / SECTOR_BYTES);
    this.atimeNs = attr.atimeNs;
    this.mtimeNs = attr.mtimeNs;
    this.ctimeNs = attr.ctimeNs;
    this.birthtimeNs = attr.ctimeNs;
  }

  get atimeMs(): number {
    return Number(this.atimeNs) / 1e6;
  }
  get mtimeMs(): number {
    return Number(this.mtimeNs) / 1e6;
  }
  get ctimeMs(): number {
    return Number(this.ctimeNs) / 1e6;
  }
  get birthtimeMs(): number {
    return Number(this.birthtimeNs) / 1e6;
  }
  get atime(): Date {
    return new Date(this.atimeMs);
  }
  get mtime(): Date {
    return new Date(this.mtimeMs);
  }
  get ctime(): Date {
    return new Date(this.ctimeMs);
  }
  get birthtime(): Date {
    return new Date(this.birthtimeMs);
  }
}

/** As fs.BigIntStats. */
export class BigIntStats extends TypeTests {
  readonly dev = 0n;
  readonly ino: bigint;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly size: bigint;
  readonly blksize = BigInt(IO_BYTES);
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;
  readonly atimeMs: bigint;
  readonly mtimeMs: bigint;
  readonly ctimeMs: bigint;
  readonly birthtimeMs: bigint;

  constructor(attr: Attr) {
    super(attr.type);
    this.ino = BigInt(attr.ino);
    this.mode = BigInt(TYPE_BITS[attr.type] | attr.mode);
    this.nlink = BigInt(attr.nlink);
    this.uid = BigInt(attr.uid);
    this.gid = BigInt(attr.gid);
    this.rdev = BigInt(attr.rdev);
    this.size = BigInt(attr.sizeBytes);
    this.blocks = BigInt(Math.ceil(attr.storedBytes / SECTOR_BYTES));
    this.atimeNs = attr.atimeNs;
    this.mtimeNs = attr.mtimeNs;
    this.ctimeNs = this.birthtimeNs = attr.ctimeNs;
    this.atimeMs = attr.atimeNs / 1_000_000n;
    this.mtimeMs = attr.mtimeNs / 1_000_000n;
    this.ctimeMs = this.birthtimeMs = attr.ctimeNs / 1_000_000n;
  }
  get atime(): Date {
    return new Date(Number(this.atimeMs));
  }
  get mtime(): Date {
    return new Date(Number(this.mtimeMs));
  }
  get ctime(): Date {
    return new Date(Number(this.ctimeMs));
  }
  get birthtime(): Date {
    return new Date(Number(this.birthtimeMs));
  }
}

/** As fs.Dirent. */
export class Dirent<Name extends string | Buffer = string> extends TypeTests {
  readonly name: Name;
  readonly parentPath: string;

  constructor(name: Name, parentPath: string, type: FileType) {
    super(type);
    this.name = name;
    this.parentPath = parentPath;
  }
  get path(): string {
    return this.parentPath;
  }
}

/** As fs.StatFs. */
export interface FileSystemStats {
  readonly type: number;
  readonly bsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
}
