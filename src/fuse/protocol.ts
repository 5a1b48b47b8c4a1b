/**
 * Numbers of the kernel's FUSE protocol (version 7, minors 31 to 38; Linux 5.4 to 6.x and later ones, which still speak
 * the older minors). Source of the facts: the kernel's public interface header `include/uapi/linux/fuse.h`.
 */
import { KiB, MiB } from '../limits.ts';

export const FUSE_MAJOR = 7;
/** The newest minor whose structures this code knows. */
export const FUSE_MINOR_MAX = 38;
/** Linux 5.4; older kernels lack max_pages and the 64 byte init reply rules that the codec relies on. */
export const FUSE_MINOR_MIN = 31;
/** Linux 6.2. */
export const FUSE_MINOR_EXPIRE_ONLY = 38;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
} as const;

/** Bits of `flags` (0..31) of INIT. */
export const InitFlag = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  ATOMIC_O_TRUNC: 1 << 3,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  FLOCK_LOCKS: 1 << 10,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  PARALLEL_DIROPS: 1 << 18,
  HANDLE_KILLPRIV: 1 << 19,
  POSIX_ACL: 1 << 20,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

export const SetattrValid = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

export const OpenReplyFlag = { DIRECT_IO: 1 << 0, KEEP_CACHE: 1 << 1, NONSEEKABLE: 1 << 2, CACHE_DIR: 1 << 3 } as const;
export const RenameFlag = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;
export const XattrFlag = { CREATE: 1, REPLACE: 2 } as const;
/** In setxattr_flags, of the longer SETXATTR: the setgid bit goes if an access control list is set. */
export const SETXATTR_ACL_KILL_SGID = 1;
export const NotifyCode = { POLL: 1, INVAL_INODE: 2, INVAL_ENTRY: 3, STORE: 4, RETRIEVE: 5, DELETE: 6 } as const;
/** Index = number in GETLK and SETLK: F_RDLCK, F_WRLCK, F_UNLCK. */
export const LOCK_TYPES = ['read', 'write', 'unlock'] as const;
/** In lk_flags: flock(2) instead of fcntl(2). */
export const LOCK_FLOCK = 1;
/** The kernel's end of a lock that has none. */
export const OFFSET_MAX = 2n ** 63n - 1n;

export const GETATTR_FH = 1;
export const FSYNC_FDATASYNC = 1;

// Sizes of the fixed parts, in bytes.

export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
export const ATTR_BYTES = 88;
export const ENTRY_OUT_BYTES = 128;
export const ATTR_OUT_BYTES = 104;
export const OPEN_OUT_BYTES = 16;
export const INIT_OUT_BYTES = 64;
export const STATFS_OUT_BYTES = 80;
export const WRITE_IN_BYTES = 40;
export const DIRENT_BYTES = 24;
export const DIRENTPLUS_BYTES = ENTRY_OUT_BYTES + DIRENT_BYTES;

/** Largest read and write: 256 pages of 4 KiB, the kernel's own bound (`max_pages`). */
export const MAX_IO_BYTES = 1 * MiB;
/** Largest copy_file_range: its reply counts in 32 bits. Whole pages and whole blocks; the program asks again for the rest. */
export const COPY_MAX_BYTES = 1024 * MiB;
/** A request with the largest write and everything before it fits; the kernel refuses to be read with less. */
export const REQUEST_BUFFER_BYTES = MAX_IO_BYTES + 64 * KiB;
/** st_blksize: programs that buffer by it (stdio, cat) then send writes that are worth a request each. */
export const PREFERRED_IO_BYTES = 128 * KiB;
/** Largest listing answered at once; newer kernels ask for up to max_pages. */
export const READDIR_MAX_BYTES = 64 * KiB;
