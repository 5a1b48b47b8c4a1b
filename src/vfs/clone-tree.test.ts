/** FileSystem.clone: what a clone has, that it appears whole or not at all, and what becomes of one that fails. */
import { describe, expect, it } from 'vitest';
import { FsError, TimeoutError } from '../errors.ts';
import type { PoolId } from '../ids.ts';
import { FileSystem } from './api.ts';
import { pattern, ROOT, TestCluster } from './testing.ts';

const BLOCK = 4096;

async function start() {
  const cluster = await TestCluster.start(BLOCK);
  const { vfs, meta } = await cluster.mount();
  const fs = new FileSystem(vfs);
  return { cluster, vfs, meta, fs };
}

type World = Awaited<ReturnType<typeof start>>;

async function furnish({ fs, vfs }: World): Promise<void> {
  await fs.mkdir('/a', 0o750);
  await fs.mkdir('/a/deep/er', { recursive: true });
  await fs.writeFile('/a/big', pattern(5 * BLOCK + 77, 1));
  await fs.writeFile('/a/small', 'inline');
  await fs.writeFile('/a/empty', '');
  const sparse = await fs.open('/a/deep/sparse', 'w');
  await sparse.write(Buffer.from('end'), 0, 3, 9 * BLOCK);
  await sparse.truncate(20 * BLOCK);
  await sparse.close();
  await fs.link('/a/big', '/a/deep/er/again');
  await fs.symlink('../small', '/a/deep/link');
  const { ino } = await fs.stat('/a/deep');
  await vfs.mknod(ROOT, ino as never, Buffer.from('null'), 'char', 0o666, 259);
  await vfs.mknod(ROOT, ino as never, Buffer.from([0x70, 0xff]), 'fifo', 0o600, 0);
  for (let count = 0; count < 40; count++) await fs.writeFile(`/a/deep/er/${count}`, pattern(count * 300, count));
  await fs.setxattr('/a/big', 'user.note', 'hello');
  await fs.setxattr('/a/deep', 'user.note', 'there');
  await fs.chmod('/a/big', 0o4711);
  await fs.chown('/a/small', 12, 34);
  await fs.lchown('/a/deep/link', 5, 6);
  for (const path of ['/a/big', '/a/deep/er', '/a/deep', '/a']) await fs.utimes(path, 1_000.5, 2_000.25);
}

/** Everything that a clone keeps, by path. */
async function everything(fs: FileSystem, top: string): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  const inos = new Map<bigint, string>();
  const look = async (path: Buffer, shown: string): Promise<void> => {
    const stats = await fs.lstat(path, { bigint: true });
    const { mode, nlink, uid, gid, size, blocks, mtimeNs, atimeNs, rdev, ino } = stats;
    if (!inos.has(ino)) inos.set(ino, shown);
    const names = stats.isSymbolicLink() ? [] : await fs.listxattr(path);
    const xattrs = await Promise.all(names.map(async (name) => [name, await fs.getxattr(path, name)]));
    const content = stats.isFile() ? await fs.readFile(path) : stats.isSymbolicLink() ? await fs.readlink(path) : '';
    found[shown] = {
      mode,
      nlink,
      uid,
      gid,
      size,
      blocks,
      rdev,
      mtimeNs,
      atimeNs,
      xattrs,
      content,
      same: inos.get(ino),
    };
    if (!stats.isDirectory()) return;
    for (const name of (await fs.readdir(path, 'buffer')).sort((x, y) => Buffer.compare(x, y))) {
      await look(Buffer.concat([path, Buffer.from('/'), name]), `${shown}/${name.toString('latin1')}`);
    }
  };
  await look(Buffer.from(top), '');
  return found;
}

describe('clone', () => {
  it('makes a tree with all that belongs to it, and moves no block', async () => {
    const world = await start();
    const { fs, cluster } = world;
    await furnish(world);
    const { puts } = cluster.blocks;
    const seen: number[] = [];
    const made = await fs.clone('/a', '/b', { onProgress: ({ entryCount }) => seen.push(entryCount) });
    expect(await everything(fs, '/b')).toEqual(await everything(fs, '/a'));
    expect(cluster.blocks.puts).toBe(puts);
    expect(made).toMatchObject({ entryCount: 51, fileCount: 44 });
    expect(seen.at(-1)).toBe(51);
    expect(seen).toEqual(seen.toSorted((x, y) => x - y));
    await fs.writeFile('/a/big', 'other');
    expect(await fs.readFile('/b/big')).toEqual(pattern(5 * BLOCK + 77, 1));
    expect(await fs.readdir('/')).toHaveLength(2);
  });

  it('clones single things, links as links', async () => {
    const world = await start();
    const { fs } = world;
    await furnish(world);
    expect(await fs.clone('/a/big', '/big')).toEqual({ entryCount: 1, fileCount: 1, bytes: 5 * BLOCK + 77 });
    expect(await fs.readFile('/big')).toEqual(await fs.readFile('/a/big'));
    expect((await fs.stat('/big')).nlink).toBe(1);
    await fs.clone('/a/deep/link', '/link');
    expect(await fs.readlink('/link')).toBe('../small');
    await fs.clone('/a/deep/null', '/null');
    expect((await fs.stat('/null')).rdev).toBe(259);
    await fs.mkdir('/none');
    await fs.clone('/none', '/none2/');
    expect(await fs.readdir('/none2')).toEqual([]);
  });

  it('refuses what cannot be meant', async () => {
    const world = await start();
    const { fs } = world;
    await furnish(world);
    const refused = async (from: string, to: string, code: string): Promise<void> => {
      await expect(fs.clone(from, to)).rejects.toMatchObject({ code, syscall: 'clone', path: from, dest: to });
    };
    await refused('/none', '/b', 'ENOENT');
    await refused('/a', '/none/b', 'ENOENT');
    await refused('/a', '/a', 'EEXIST');
    await refused('/a/big', '/a/small', 'EEXIST');
    await refused('/a', '/', 'EEXIST');
    await refused('/a', '/a/b', 'EINVAL');
    await refused('/a', '/a/deep/er/b', 'EINVAL');
    await refused('/', '/a/b', 'EINVAL');
    await refused('/a/big', '/b/', 'ENOTDIR');
    await refused('/a', '/a/big/b', 'ENOTDIR');
    expect(await fs.readdir('/')).toEqual(['a']);
  });

  it('leaves nothing when it fails on the way, says where, and what it could not remove', async () => {
    const world = await start();
    const { fs, meta } = world;
    await furnish(world);
    meta.beforeMutate = (mutation) => {
      if (mutation.op === 'link') throw new FsError('ENOSPC');
    };
    await expect(fs.clone('/a', '/b')).rejects.toMatchObject({
      code: 'ENOSPC',
      path: expect.stringMatching(/again|big/),
    });
    expect(await fs.readdir('/')).toEqual(['a']);
    meta.beforeMutate = (mutation) => {
      if (mutation.op === 'link' || mutation.op === 'unlink') throw new TimeoutError('nobody answers');
    };
    const error = (await fs.clone('/a', '/b').catch((reason: unknown) => reason)) as {
      code: string;
      leftBehind: string;
    };
    expect(error).toMatchObject({ code: 'EIO', leftBehind: expect.stringMatching(/^\/\.tatami-clone-\d+-0$/) });
    meta.beforeMutate = undefined;
    expect(await fs.readdir('/')).toContain(error.leftBehind.slice(1));
    // What is left of that one is not in the way of the next.
    await fs.clone('/a', '/b');
    expect(await everything(fs, '/b')).toEqual(await everything(fs, '/a'));
    await fs.rm(error.leftBehind, { recursive: true });
  });

  it('ends when it is told to, and gives way to who was first', async () => {
    const world = await start();
    const { fs, meta } = world;
    await furnish(world);
    const abort = new AbortController();
    const clone = fs.clone('/a', '/b', {
      signal: abort.signal,
      onProgress: ({ entryCount }) => (entryCount > 10 ? abort.abort() : undefined),
    });
    await expect(clone).rejects.toMatchObject({ code: 'EINTR' });
    expect(await fs.readdir('/')).toEqual(['a']);
    let once = true;
    meta.beforeMutate = async (mutation) => {
      if (mutation.op !== 'rename' || !once) return;
      once = false;
      await fs.mkdir('/b');
    };
    await expect(fs.clone('/a', '/b')).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await fs.readdir('/')).toEqual(['a', 'b']);
  });

  it('keeps the pools of directories; alone, a file goes to the pool of its new directory, as bytes', async () => {
    const { fs, cluster, meta } = await start();
    cluster.newPools.push({ ...cluster.catalog.current().pools[0]!, id: 2 as PoolId, name: 'scratch' });
    await fs.mkdir('/a');
    await fs.setxattr('/a', 'tatami.pool', 'scratch');
    const content = Buffer.concat([pattern(3 * BLOCK, 1), Buffer.alloc(5 * BLOCK), pattern(10, 2)]);
    const file = await fs.open('/a/f', 'w');
    await file.write(content, 0, 3 * BLOCK, 0);
    await file.write(content, 8 * BLOCK, 10, 8 * BLOCK);
    await file.truncate(10 * BLOCK);
    await file.close();
    await fs.clone('/a', '/b');
    expect(String(await fs.getxattr('/b/f', 'tatami.pool'))).toBe('scratch');
    const clones = (): number => meta.mutations.filter(({ op }) => op === 'clone').length;
    const count = clones();
    expect(count).toBeGreaterThan(0);
    await fs.clone('/a/f', '/f');
    expect(String(await fs.getxattr('/f', 'tatami.pool'))).toBe('files');
    expect(clones()).toBe(count);
    const wanted = Buffer.concat([content, Buffer.alloc(2 * BLOCK - 10)]);
    expect((await fs.readFile('/f')).equals(wanted)).toBe(true);
    expect((await fs.stat('/f')).blocks).toBe((await fs.stat('/a/f')).blocks);
    // By hand, and by force.
    await expect(fs.copyFile('/f', '/b/g', 4)).rejects.toMatchObject({ code: 'EXDEV', syscall: 'copyfile' });
    expect(await fs.exists('/b/g')).toBe(false);
    await fs.copyFile('/f', '/b/g', 2);
    expect((await fs.readFile('/b/g')).equals(wanted)).toBe(true);
  });
});

describe('FileHandle.copyTo', () => {
  it('copies ranges between open files', async () => {
    const { fs, cluster } = await start();
    const content = pattern(6 * BLOCK, 3);
    await fs.writeFile('/a', content);
    await using from = await fs.open('/a', 'r');
    await using to = await fs.open('/b', 'w+');
    const { puts } = cluster.blocks;
    expect(await from.copyTo(to, { start: 100, targetStart: 7, length: BLOCK })).toBe(BLOCK);
    expect(await from.copyTo(to, { start: 5 * BLOCK })).toBe(BLOCK);
    expect(cluster.blocks.puts).toBe(puts);
    const seen = await to.readBytes(0, 10 * BLOCK);
    expect(seen.subarray(7, 7 + BLOCK).equals(content.subarray(100, 100 + BLOCK))).toBe(true);
    expect(seen.subarray(5 * BLOCK).equals(content.subarray(5 * BLOCK))).toBe(true);
    expect(seen.length).toBe(6 * BLOCK);
    await expect(to.copyTo(from)).rejects.toMatchObject({ code: 'EBADF', syscall: 'copy_file_range' });
    await expect(to.copyTo(to, { targetStart: 1 })).rejects.toMatchObject({ code: 'EINVAL' });
  });
});
