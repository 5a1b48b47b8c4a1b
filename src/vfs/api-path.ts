/**
 * Path walk of the API: bytes between slashes, from the root. Symbolic links are followed inside the tree only: `..` at
 * the root stays there and an absolute target begins at the root.
 */
import { FsError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import type { Attr } from '../meta/types.ts';
import type { Caller, VfsOps } from './ops.ts';
import { invalidArgument } from './api-errors.ts';

/** A path: text, as UTF-8, or bytes. At most 4095 bytes, and 255 between slashes. */
export type PathLike = string | Uint8Array;

/** As Linux's MAXSYMLINKS. */
const LINKS_FOLLOWED_MAX = 40;
const PATH_MAX_BYTES = 4096;
const SLASH = 0x2f;

export interface Walked {
  /** Directory that holds (or would hold) the last name. */
  readonly parent: Ino;
  /** Undefined for the root, and for paths that end in `.` or `..`. */
  readonly name: Uint8Array | undefined;
  /** Undefined if the last name does not exist. */
  readonly attr: Attr | undefined;
  /** The path ended in a slash. */
  readonly wantsDirectory: boolean;
  /** The last name was `..` or `.`. */
  readonly dots: '.' | '..' | undefined;
  /** Names from the root to here, links resolved. */
  readonly names: readonly Uint8Array[];
}

/** Where a name is, or would be. */
export type Place = Pick<Walked, 'parent'> & { readonly name: Uint8Array };

interface Step {
  readonly ino: Ino;
  readonly name: Uint8Array;
}

export function pathBytes(path: PathLike): Buffer {
  if (typeof path !== 'string' && !(path instanceof Uint8Array)) {
    throw invalidArgument('path', 'must be a string, Buffer or Uint8Array');
  }
  const bytes =
    typeof path === 'string' ? Buffer.from(path) : Buffer.from(path.buffer, path.byteOffset, path.byteLength);
  if (bytes.includes(0)) throw invalidArgument('path', 'must be a string, Uint8Array, or URL without null bytes');
  return bytes;
}

export function pathText(path: PathLike): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString();
}

function split(path: Uint8Array): Uint8Array[] {
  const names: Uint8Array[] = [];
  for (let start = 0; start <= path.length;) {
    let end = path.indexOf(SLASH, start);
    if (end < 0) end = path.length;
    if (end > start) names.push(path.subarray(start, end));
    start = end + 1;
  }
  return names;
}

/** `follow`: resolve a symbolic link at the end, too. ENOENT only for a missing directory on the way. */
export async function walk(ops: VfsOps, caller: Caller, path: PathLike, follow: boolean): Promise<Walked> {
  return (await walkOn(ops, caller, path, follow ? 'follow' : 'find')) as Walked;
}

/**
 * The directory and the name that the path ends in, without a question about the name itself: whoever changes it is told
 * by the servers what is there. Undefined where the path ends in no plain name (a slash, dots, the root).
 */
export async function walkToName(ops: VfsOps, caller: Caller, path: PathLike): Promise<Place | undefined> {
  const walked = await walkOn(ops, caller, path, 'stop');
  return 'attr' in walked ? undefined : walked;
}

/** `end`: what is done about the last name. */
async function walkOn(
  ops: VfsOps,
  caller: Caller,
  path: PathLike,
  end: 'follow' | 'find' | 'stop',
): Promise<Walked | Place> {
  const bytes = pathBytes(path);
  if (bytes.length === 0) throw new FsError('ENOENT');
  if (bytes.length >= PATH_MAX_BYTES) throw new FsError('ENAMETOOLONG');
  let wantsDirectory = bytes[bytes.length - 1] === SLASH;
  let left = split(bytes).reverse();
  let steps: Step[] = [];
  let links = 0;
  let attr: Attr | undefined;
  let dots: '.' | '..' | undefined;
  for (let name = left.pop(); name !== undefined; name = left.pop()) {
    const parent = steps.at(-1)?.ino ?? ROOT_INO;
    if (attr !== undefined && attr.type !== 'directory') throw new FsError('ENOTDIR');
    if (isDots(name)) {
      dots = name.length === 1 ? '.' : '..';
      if (dots === '..') {
        steps.pop();
        attr = undefined;
      }
      continue;
    }
    dots = undefined;
    const isLast = left.length === 0;
    if (isLast && end === 'stop' && !wantsDirectory) return { parent, name };
    let found: Attr;
    try {
      const entry = ops.lookup(caller, parent, name);
      found = (entry instanceof Promise ? await entry : entry).attr;
    } catch (error) {
      if (isLast && error instanceof FsError && error.code === 'ENOENT') {
        const names = [...steps.map((step) => step.name), name];
        return { parent, name, attr: undefined, wantsDirectory, dots, names };
      }
      throw error;
    }
    if (found.type === 'symlink' && (!isLast || end === 'follow' || wantsDirectory)) {
      links += 1;
      if (links > LINKS_FOLLOWED_MAX) throw new FsError('ELOOP');
      const target = await ops.readlink(caller, found.ino);
      if (target.length === 0) throw new FsError('ENOENT');
      if (target[0] === SLASH) steps = [];
      if (isLast && target[target.length - 1] === SLASH) wantsDirectory = true;
      left = [...left, ...split(target).reverse()];
      attr = undefined;
      continue;
    }
    attr = found;
    steps.push({ ino: found.ino, name });
  }
  const last = steps.at(-1);
  if (attr === undefined || dots !== undefined) {
    const reply = ops.getattr(caller, last?.ino ?? ROOT_INO, undefined);
    attr = (reply instanceof Promise ? await reply : reply).attr;
  }
  if (wantsDirectory && attr.type !== 'directory') throw new FsError('ENOTDIR');
  return {
    parent: steps.at(-2)?.ino ?? ROOT_INO,
    name: dots === undefined ? last?.name : undefined,
    attr,
    wantsDirectory,
    dots,
    names: steps.map((step) => step.name),
  };
}

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}
