/** Directories that are assigned to pools, as programs on a mount see it. */
import { describe, expect, it } from 'vitest';
import type { Pool } from '../catalog/types.ts';
import { ROOT_INO, type Ino, type PoolId } from '../ids.ts';
import { O_CREAT, O_RDWR } from './handles.ts';
import { name, pattern, ROOT, TestCluster, type TestMount } from './testing.ts';

const BLOCK = 64 * 1024;
const ATTRIBUTE = name('tatami.pool');

function pool(cluster: TestCluster, id: number, changes: Partial<Pool>): Pool {
  return { ...cluster.catalog.current().pools[0]!, id: id as PoolId, ...changes };
}

async function poolAt({ vfs }: TestMount, ino: Ino): Promise<string> {
  return Buffer.from(await vfs.getxattr(ROOT, ino, ATTRIBUTE)).toString();
}

function assign({ vfs }: TestMount, ino: Ino, to: string, caller = ROOT) {
  return vfs.setxattr(caller, ino, ATTRIBUTE, name(to), 'any');
}

/** A file of three small blocks; resolves with the pool and length of each of its blocks. */
async function write(mount: TestMount, parent: Ino): Promise<readonly (readonly [number, number])[]> {
  const file = await mount.vfs.create(ROOT, parent, name('file'), 0o644, O_RDWR | O_CREAT);
  await mount.vfs.write(ROOT, file.handle, 0, pattern(3 * BLOCK, 1));
  await mount.vfs.flush(ROOT, file.handle, 0n);
  const extents = mount.meta.commits.at(-1)?.extents ?? [];
  return extents.map((extent) => (extent.kind === 'block' ? ([extent.pool, extent.lengthBytes] as const) : [0, 0]));
}

describe('a directory that is assigned to a pool', () => {
  it('hands it on to what is made in it, files and directories; no further question is asked for that', async () => {
    const cluster = await TestCluster.start(BLOCK);
    cluster.newPools.push(pool(cluster, 3, { name: 'scratch', blockSizeBytes: 2 * BLOCK }));
    const mount = await cluster.mount();
    const before = await mount.vfs.mkdir(ROOT, ROOT_INO, name('before'), 0o755);
    const made = await mount.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755);
    expect(await poolAt(mount, made.attr.ino)).toBe('files');
    await assign(mount, made.attr.ino, 'scratch');
    expect(await poolAt(mount, made.attr.ino)).toBe('scratch');
    const below = await mount.vfs.mkdir(ROOT, made.attr.ino, name('below'), 0o755);
    const asked = mount.meta.queries.length;
    expect(await write(mount, below.attr.ino)).toEqual([
      [3, 2 * BLOCK],
      [3, BLOCK],
    ]);
    expect(mount.meta.queries).toHaveLength(asked);
    expect(await write(mount, before.attr.ino)).toEqual([
      [1, BLOCK],
      [1, BLOCK],
      [1, BLOCK],
    ]);
    // What is moved keeps its pool.
    const options = { noReplace: false, exchange: false };
    await mount.vfs.rename(ROOT, before.attr.ino, name('file'), below.attr.ino, name('moved'), options);
    const moved = await mount.vfs.lookup(ROOT, below.attr.ino, name('moved'));
    expect(await poolAt(mount, moved.attr.ino)).toBe('files');
    expect(await mount.vfs.listxattr(ROOT, made.attr.ino)).toEqual([]);
  });

  it('is so at other mounts, which may not have heard of the pool yet', async () => {
    const cluster = await TestCluster.start(BLOCK);
    const [one, other] = [await cluster.mount(), await cluster.mount()];
    const { ino } = (await one.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755)).attr;
    // By somebody whose catalog is newer.
    await one.meta.mutate({ op: 'setattr', ino, set: { pool: 4 as PoolId } });
    cluster.newPools.push(pool(cluster, 4, { name: 'new' }));
    expect(await write(other, ino)).toEqual([
      [4, BLOCK],
      [4, BLOCK],
      [4, BLOCK],
    ]);
  });

  it('fails with EIO where the pool is in no catalog', async () => {
    const cluster = await TestCluster.start(BLOCK);
    const mount = await cluster.mount();
    const { ino } = (await mount.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755)).attr;
    await mount.meta.mutate({ op: 'setattr', ino, set: { pool: 9 as PoolId } });
    const made = Promise.resolve(mount.vfs.create(ROOT, ino, name('f'), 0o644, O_RDWR | O_CREAT));
    made.catch(() => undefined);
    for (let round = 0; round < 10; round++) await cluster.clock.advance(1_000);
    await expect(made).rejects.toMatchObject({ code: 'EIO', message: expect.stringMatching(/pool 9/) as string });
  });

  it('refuses what is no pool of files, what is no directory, and who is not the owner', async () => {
    const cluster = await TestCluster.start(BLOCK);
    cluster.newPools.push(pool(cluster, 2, { name: 'library', kind: 'library' }));
    const mount = await cluster.mount();
    const { ino } = (await mount.vfs.mkdir({ ...ROOT, uid: 1000 }, ROOT_INO, name('d'), 0o755)).attr;
    const file = await mount.vfs.create(ROOT, ino, name('f'), 0o644, O_RDWR | O_CREAT);
    await expect(assign(mount, ino, 'nowhere')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(assign(mount, ino, 'library')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(assign(mount, file.attr.ino, 'files')).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(assign(mount, ino, 'files', { ...ROOT, uid: 1001 })).rejects.toMatchObject({ code: 'EPERM' });
    await assign(mount, ino, 'files', { ...ROOT, uid: 1000 });
    await expect(mount.vfs.removexattr(ROOT, ino, ATTRIBUTE)).rejects.toMatchObject({ code: 'EPERM' });
  });
});
