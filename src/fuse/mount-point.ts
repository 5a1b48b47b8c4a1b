/** Is a directory fit to be mounted on, and if not, why? Used before mounting and by `tatami doctor`. */
import { lstat, opendir, readFile, readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { FsError, UsageError } from '../errors.ts';
import { findMount, parseMountInfo, type MountEntry } from './mount-table.ts';
import { runUnmount } from './tools.ts';
import type { FuseLog } from './types.ts';

/** Type of our mounts in /proc/mounts. */
export const FS_TYPE = 'fuse.tatamifs';
/** A live filesystem answers for its root sooner; a hung one must not hang us. */
const PROBE_TIMEOUT_MS = 3_000;

export type MountPointState =
  | { readonly state: 'usable'; readonly path: string }
  | {
      readonly state: 'missing' | 'not-a-directory' | 'not-empty' | 'no-access';
      readonly path: string;
      readonly message: string;
      readonly remedy: string;
    }
  /** Something is mounted here: alive, silent, or (stale) without its process. `ours`: a tatamifs mount. */
  | {
      readonly state: 'mounted' | 'unresponsive' | 'stale';
      readonly path: string;
      readonly ours: boolean;
      readonly entry: MountEntry;
      readonly message: string;
      readonly remedy: string;
    };

/** The mount table of this process. Reading it touches none of the mounts. */
export async function readMountTable(): Promise<MountEntry[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'latin1')).map((entry) => ({
    ...entry,
    mountPoint: Buffer.from(entry.mountPoint, 'latin1').toString('utf8'),
    source: Buffer.from(entry.source, 'latin1').toString('utf8'),
  }));
}

/** Looks at `path` without changing anything. `path` in the result is absolute, without symbolic links as far as it exists. */
export async function inspectMountPoint(path: string): Promise<MountPointState> {
  return inspect(resolve(path), 8);
}

async function inspect(wanted: string, linksLeft: number): Promise<MountPointState> {
  // Only the parent is resolved before the mount table is asked: the directory itself may be a dead mount.
  let path: string;
  try {
    path = wanted === '/' ? '/' : join(await realpath(dirname(wanted)), basename(wanted));
  } catch (error) {
    return unreadable(wanted, error);
  }
  const entry = findMount(await readMountTable(), path);
  if (entry !== undefined) return inspectMounted(path, entry);
  try {
    const stat = await lstat(path);
    if (stat.isSymbolicLink() && linksLeft > 0) return await inspect(await realpath(path), linksLeft - 1);
    if (!stat.isDirectory())
      return {
        state: 'not-a-directory',
        path,
        message: `${path} is not a directory.`,
        remedy: 'Name an empty directory.',
      };
    if ((await readdir(path)).length === 0) return { state: 'usable', path };
    return {
      state: 'not-empty',
      path,
      message: `${path} is not empty; its files would be hidden by the mount.`,
      remedy: 'Name an empty directory, or move its files away.',
    };
  } catch (error) {
    return unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): MountPointState {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT')
    return { state: 'missing', path, message: `${path} does not exist.`, remedy: `Make it: mkdir -p '${path}'` };
  if (code === 'ENOTDIR')
    return {
      state: 'not-a-directory',
      path,
      message: `A part of ${path} is not a directory.`,
      remedy: 'Name an empty directory.',
    };
  return {
    state: 'no-access',
    path,
    message: `${path} cannot be read (${code ?? String(error)}).`,
    remedy: 'Name a directory that this user may read, or use another user.',
  };
}

async function inspectMounted(path: string, entry: MountEntry): Promise<MountPointState> {
  const ours = entry.fsType === FS_TYPE;
  const common = { path, ours, entry };
  const what = ours ? 'A tatamifs' : `Another filesystem (${entry.fsType}, ${entry.source})`;
  const unmount = `Unmount it ("umount ${path}"${ours ? ` or "tatami umount ${path}"` : ''}) or name another directory.`;
  switch (await probe(path)) {
    case 'alive':
      return { ...common, state: 'mounted', message: `${what} is already mounted at ${path}.`, remedy: unmount };
    case 'dead':
      return {
        ...common,
        state: 'stale',
        message: ours
          ? `${path} is a mount whose process is gone.`
          : `${path} is a mount of another filesystem (${entry.fsType}, ${entry.source}) whose process is gone.`,
        remedy: `Unmount it: umount -l '${path}'`,
      };
    case 'silent':
      return {
        ...common,
        state: 'unresponsive',
        message: `${what} is mounted at ${path} and does not answer.`,
        remedy: `Unmount it by force: umount -f -l '${path}'`,
      };
  }
}

async function probe(path: string): Promise<'alive' | 'dead' | 'silent'> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<'silent'>((done) => (timer = setTimeout(() => done('silent'), PROBE_TIMEOUT_MS)));
  // Opening the directory asks its process; attributes might be answered from the kernel's cache, even for a dead mount.
  const answer = opendir(path).then(
    async (directory) => {
      await directory.close();
      return 'alive' as const;
    },
    (error: NodeJS.ErrnoException) =>
      error.code === 'ENOTCONN' || error.code === 'ECONNABORTED' || error.code === 'ENODEV'
        ? ('dead' as const)
        : ('alive' as const),
  );
  try {
    return await Promise.race([answer, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Makes sure that `path` can be mounted on and returns its real path. A mount of tatamifs left by a crash is unmounted (and
 * that is logged); everything else, dead mounts of other filesystems too, that is in the way is an error.
 */
export async function prepareMountPoint(path: string, log: FuseLog): Promise<string> {
  let place = await inspectMountPoint(path);
  // Several crashes can have left several layers.
  for (let layer = 0; place.state === 'stale' && place.ours && layer < 16; layer++) {
    // It would take away with it what is mounted below, alive or not.
    const below = (await readMountTable()).find(({ mountPoint }) => mountPoint.startsWith(`${place.path}/`));
    if (below !== undefined) {
      throw new FsError('EBUSY', `${place.message} ${below.mountPoint} is mounted below it.`, {
        remedy: `Unmount that first, then: umount -l '${place.path}'`,
      });
    }
    const result = await runUnmount(place.path, 'lazy');
    if (result.code !== 0)
      throw new FsError('EBUSY', `${place.message} It could not be unmounted: ${result.message}`, {
        remedy: place.remedy,
      });
    log(`Unmounted what a crash had left at ${place.path}.`);
    place = await inspectMountPoint(path);
  }
  if (place.state === 'usable') return place.path;
  const details = { remedy: place.remedy, info: { state: place.state, path: place.path } };
  if (place.state === 'mounted' || place.state === 'unresponsive' || place.state === 'stale')
    throw new FsError('EBUSY', place.message, details);
  throw new UsageError(place.message, details);
}
