/** Whole directories: listing, removing, copying. */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { FileType } from '../meta/types.ts';
import type { FileSystem } from './api.ts';
import { nodeError } from './api-errors.ts';
import { pathText, type PathLike } from './api-path.ts';
import { Dirent } from './api-stats.ts';
import type { Caller, VfsOps } from './ops.ts';

/** Entries asked for at a time. */
const DIRECTORY_STEP = 512;

export interface ListedEntry {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly type: FileType;
}

export function join(directory: string, name: string): string {
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

/** Every entry but `.` and `..`. */
export async function* listDirectory(ops: VfsOps, caller: Caller, directory: Ino): AsyncGenerator<ListedEntry> {
  const { handle } = await ops.opendir(caller, directory);
  try {
    for (let offset = 0; ;) {
      const items = await ops.readdir(caller, handle, offset, DIRECTORY_STEP, false);
      const last = items[items.length - 1];
      if (last === undefined) return;
      offset = last.nextOffset;
      for (const item of items) if (!isDots(item.name)) yield item;
    }
  } finally {
    await ops.releasedir(handle);
  }
}

export function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** What is in the directory; by inode, so that a link put in its place meanwhile is not followed. */
export async function removeTree(ops: VfsOps, caller: Caller, directory: Ino): Promise<void> {
  for await (const { name, ino, type } of listDirectory(ops, caller, directory)) {
    try {
      if (type === 'directory') {
        await removeTree(ops, caller, ino);
        await ops.rmdir(caller, directory, name);
      } else await ops.unlink(caller, directory, name);
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== 'ENOENT') throw error;
    }
  }
}

export interface CopyTreeOptions {
  readonly recursive?: boolean;
  readonly force?: boolean;
  readonly errorOnExist?: boolean;
}

/** Where a path is, or would be: what of it exists has no links and dots. */
async function realPlace(fs: FileSystem, path: string): Promise<string> {
  const names = path.split('/').filter((name) => name !== '');
  for (let count = names.length; ; count -= 1) {
    try {
      const there = await fs.realpath(`/${names.slice(0, count).join('/')}`);
      return [there.replace(/\/$/, ''), ...names.slice(count)].join('/');
    } catch (error) {
      if (count === 0 || (error as { readonly code?: unknown }).code !== 'ENOENT') throw error;
    }
  }
}

export async function copyTree(
  fs: FileSystem,
  source: PathLike,
  target: PathLike,
  options: CopyTreeOptions,
): Promise<void> {
  const stats = await fs.lstat(source);
  const [from, to] = [pathText(source), pathText(target)];
  if (stats.isDirectory()) {
    if (options.recursive !== true) {
      const error = new Error(`Recursive option not enabled, cannot copy a directory: ${from}`);
      throw Object.assign(error, { code: 'ERR_FS_EISDIR', path: from, syscall: 'cp' });
    }
    const realFrom = (await fs.realpath(from)).replace(/\/$/, '');
    if (`${await realPlace(fs, to)}/`.startsWith(`${realFrom}/`)) {
      throw nodeError('EINVAL', { syscall: 'cp', path: from, dest: to });
    }
    await fs.mkdir(target, { recursive: true, mode: stats.mode & 0o7777 });
    for (const entry of await fs.readdir(source)) await fs.cp(join(from, entry), join(to, entry), options);
  } else if (stats.isSymbolicLink()) {
    const link = await fs.readlink(source);
    if (options.force !== false) await fs.rm(target, { force: true });
    await fs.symlink(link, target);
  } else if (options.force === false && (await fs.exists(target))) {
    if (options.errorOnExist === true) throw nodeError('EEXIST', { syscall: 'cp', path: from, dest: to });
  } else await fs.copyFile(source, target);
}

/** As fs.Dir: an open directory, whose entries come as they are asked for; one use, by `for await` or by `read`. */
export class Directory implements AsyncDisposable {
  /** As it was given. */
  readonly path: string;
  readonly #entries: AsyncGenerator<ListedEntry>;

  /** @internal Made by FileSystem.opendir. */
  constructor(path: string, entries: AsyncGenerator<ListedEntry>) {
    this.path = path;
    this.#entries = entries;
  }

  /** The next entry, or null at the end. Entries made or removed meanwhile may or may not appear; others appear once. */
  async read(): Promise<Dirent | null> {
    const next = await this.#entries.next();
    return next.done === true ? null : this.#dirent(next.value);
  }

  #dirent({ name, type }: ListedEntry): Dirent {
    return new Dirent(Buffer.from(name).toString(), this.path, type);
  }

  /** Ends the listing. */
  async close(): Promise<void> {
    await this.#entries.return(undefined);
  }

  /** What is left of the entries; closes at the end. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Dirent> {
    for await (const entry of this.#entries) yield this.#dirent(entry);
  }

  /** As {@link Directory.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
