/** Linux error numbers (asm-generic: x86-64 and arm64), the only place where names become numbers. */
import type { Errno } from '../errors.ts';

export const ERRNO_NUMBERS = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  ESTALE: 116,
  EDQUOT: 122,
} as const satisfies Record<Errno, number>;

const byName: ReadonlyMap<string, number> = new Map(Object.entries(ERRNO_NUMBERS));

/** The positive Linux number of an errno name; undefined for a name that is none of ours. */
export function errnoNumber(name: string): number | undefined {
  return byName.get(name);
}
