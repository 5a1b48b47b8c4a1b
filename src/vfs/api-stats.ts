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
  /** A regular file. */
  isFile(): boolean {
    return this.#type === 'file';
  }
  /** A directory. */
  isDirectory(): boolean {
    return this.#type === 'directory';
  }
  /** A symbolic link (from lstat and listings). */
  isSymbolicLink(): boolean {
    return this.#type === 'symlink';
  }
  /** A named pipe. */
  isFIFO(): boolean {
    return this.#type === 'fifo';
  }
  /** A socket's name. */
  isSocket(): boolean {
    return this.#type === 'socket';
  }
  /** A character device. */
  isCharacterDevice(): boolean {
    return this.#type === 'char';
  }
  /** A block device. */
  isBlockDevice(): boolean {
    return this.#type === 'block';
  }
}

/** As fs.Stats, with the exact times in nanoseconds besides. */
export class Stats extends TypeTests {
  /** Always 0: a cluster is one device. */
  readonly dev = 0;
  /** Inode number: names the file as long as it exists, whatever its paths. */
  readonly ino: number;
  /** Type and permission bits, as in Linux's st_mode. */
  readonly mode: number;
  /** Names (hard links); of a directory 2 + its subdirectories. */
  readonly nlink: number;
  /** Owner. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Device number of a device node. */
  readonly rdev: number;
  /** Bytes; of a directory the number of its entries. */
  readonly size: number;
  /** Buffer size for programs that know no better: 4096. */
  readonly blksize = IO_BYTES;
  /** Stored bytes in units of 512: less than the size for files with holes. */
  readonly blocks: number;
  /** Last access, ns since 1970. (Reading does not change it; `utimes` does.) */
  readonly atimeNs: bigint;
  /** Last change of content, ns since 1970. */
  readonly mtimeNs: bigint;
  /** Last change of content or attributes, ns since 1970. */
  readonly ctimeNs: bigint;
  /** There is no birth time: as `ctimeNs`. */
  readonly birthtimeNs: bigint;

  /** @internal */
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

  /** As `atimeNs`, in ms. */
  get atimeMs(): number {
    return Number(this.atimeNs) / 1e6;
  }
  /** As `mtimeNs`, in ms. */
  get mtimeMs(): number {
    return Number(this.mtimeNs) / 1e6;
  }
  /** As `ctimeNs`, in ms. */
  get ctimeMs(): number {
    return Number(this.ctimeNs) / 1e6;
  }
  /** As `birthtimeNs`, in ms. */
  get birthtimeMs(): number {
    return Number(this.birthtimeNs) / 1e6;
  }
  /** As `atimeNs`. */
  get atime(): Date {
    return new Date(this.atimeMs);
  }
  /** As `mtimeNs`. */
  get mtime(): Date {
    return new Date(this.mtimeMs);
  }
  /** As `ctimeNs`. */
  get ctime(): Date {
    return new Date(this.ctimeMs);
  }
  /** As `birthtimeNs`. */
  get birthtime(): Date {
    return new Date(this.birthtimeMs);
  }
}

/** As fs.BigIntStats: {@link Stats} in which each number is a bigint. */
export class BigIntStats extends TypeTests {
  /** Always 0: a cluster is one device. */
  readonly dev = 0n;
  /** Inode number: names the file as long as it exists, whatever its paths. */
  readonly ino: bigint;
  /** Type and permission bits, as in Linux's st_mode. */
  readonly mode: bigint;
  /** Names (hard links); of a directory 2 + its subdirectories. */
  readonly nlink: bigint;
  /** Owner. */
  readonly uid: bigint;
  /** Group. */
  readonly gid: bigint;
  /** Device number of a device node. */
  readonly rdev: bigint;
  /** Bytes; of a directory the number of its entries. */
  readonly size: bigint;
  /** Buffer size for programs that know no better: 4096. */
  readonly blksize = BigInt(IO_BYTES);
  /** Stored bytes in units of 512: less than the size for files with holes. */
  readonly blocks: bigint;
  /** Last access, ns since 1970. (Reading does not change it; `utimes` does.) */
  readonly atimeNs: bigint;
  /** Last change of content, ns since 1970. */
  readonly mtimeNs: bigint;
  /** Last change of content or attributes, ns since 1970. */
  readonly ctimeNs: bigint;
  /** There is no birth time: as `ctimeNs`. */
  readonly birthtimeNs: bigint;
  /** As `atimeNs`, in ms. */
  readonly atimeMs: bigint;
  /** As `mtimeNs`, in ms. */
  readonly mtimeMs: bigint;
  /** As `ctimeNs`, in ms. */
  readonly ctimeMs: bigint;
  /** As `birthtimeNs`, in ms. */
  readonly birthtimeMs: bigint;

  /** @internal */
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
  /** As `atimeNs`. */
  get atime(): Date {
    return new Date(Number(this.atimeMs));
  }
  /** As `mtimeNs`. */
  get mtime(): Date {
    return new Date(Number(this.mtimeMs));
  }
  /** As `ctimeNs`. */
  get ctime(): Date {
    return new Date(Number(this.ctimeMs));
  }
  /** As `birthtimeNs`. */
  get birthtime(): Date {
    return new Date(Number(this.birthtimeMs));
  }
}

/** As fs.Dirent: an entry of a directory, with the type of what it names. */
export class Dirent<Name extends string | Buffer = string> extends TypeTests {
  /** Its name, without a path. */
  readonly name: Name;
  /** Path of the directory, as it was given (deeper, when listed recursively). */
  readonly parentPath: string;

  /** @internal */
  constructor(name: Name, parentPath: string, type: FileType) {
    super(type);
    this.name = name;
    this.parentPath = parentPath;
  }
  /** Old name of `parentPath`. */
  get path(): string {
    return this.parentPath;
  }
}

/** As fs.StatFs: space of the cluster, copies counted off; see {@link FileSystem.statfs}. */
export interface FileSystemStats {
  /** Fixed: `tata`, as a number. */
  readonly type: number;
  /** Bytes of one unit of the next three. */
  readonly bsize: number;
  /** Units in all. */
  readonly blocks: number;
  /** Free units. */
  readonly bfree: number;
  /** Free units; for everybody the same. */
  readonly bavail: number;
  /** Inodes that there may be. */
  readonly files: number;
  /** Inodes that may still be made. */
  readonly ffree: number;
}
