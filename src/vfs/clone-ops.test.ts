/** copyFileRange of a mount: what the files then have, what the nodes and servers are asked for, and what is refused. */
import { describe, expect, it } from 'vitest';
import { FsError, StaleBlocksError } from '../errors.ts';
import { ROOT_INO, type PoolId } from '../ids.ts';
import { FILE_MAX_BYTES } from '../limits.ts';
import type { Mutation } from '../meta/types.ts';
import { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY } from './handles.ts';
import { name, pattern, readAll, ROOT, TestCluster, type TestMount } from './testing.ts';

const BLOCK = 4096;

async function made(mount: TestMount, file: string, content?: Buffer) {
  const { attr, handle } = await mount.vfs.create(ROOT, ROOT_INO, name(file), 0o644, O_RDWR | O_CREAT);
  if (content !== undefined) await mount.vfs.write(ROOT, handle, 0, content);
  return { ino: attr.ino, handle };
}

async function start(content = pattern(10 * BLOCK + 100, 1)) {
  const cluster = await TestCluster.start(BLOCK);
  const mount = await cluster.mount();
  const source = await made(mount, 'source', content);
  const target = await made(mount, 'target');
  const copy = (from: number, to: number, length: number): Promise<number> =>
    Promise.resolve(mount.vfs.copyFileRange(ROOT, source.handle, from, target.handle, to, length));
  const read = (length = 100 * BLOCK): Promise<Buffer> => readAll(mount.vfs, target.handle, 0, length);
  const clones = (): Extract<Mutation, { op: 'clone' }>[] =>
    mount.meta.mutations.filter((mutation) => mutation.op === 'clone');
  return { cluster, mount, source, target, content, copy, read, clones };
}

describe('copyFileRange', () => {
  it('copies without reading or writing a block, and another mount sees it', async () => {
    const { cluster, mount, target, content, copy, read, clones } = await start();
    expect(await copy(0, 0, 2 ** 40)).toBe(content.length);
    const { puts } = cluster.blocks;
    expect((await read()).equals(content)).toBe(true);
    expect(clones()).toHaveLength(1);
    expect(cluster.blocks.puts).toBe(puts);
    expect(cluster.blocks.renewed).toBe(10);
    const { attr } = await mount.vfs.getattr(ROOT, target.ino, undefined);
    expect(attr).toMatchObject({ sizeBytes: content.length, storedBytes: content.length });
    const other = await cluster.mount();
    const { handle } = await other.vfs.open(ROOT, target.ino, O_RDONLY);
    expect((await readAll(other.vfs, handle, 0, content.length)).equals(content)).toBe(true);
  });

  it('ends at the end of the source, and copies nothing from there on', async () => {
    const { content, copy, read } = await start();
    expect(await copy(content.length - 10, 5, 100)).toBe(10);
    expect((await read()).subarray(5).equals(content.subarray(-10))).toBe(true);
    expect(await copy(content.length, 0, 100)).toBe(0);
    expect(await copy(2 * content.length, 0, 100)).toBe(0);
    expect(await copy(0, 0, 0)).toBe(0);
  });

  it('cuts at any byte, over dirty and stored bytes of the target, and keeps holes', async () => {
    const { mount, source, target, content, copy, read } = await start(pattern(3 * BLOCK, 2));
    await mount.vfs.setattr(ROOT, source.ino, { sizeBytes: 5 * BLOCK }, source.handle);
    const old = pattern(6 * BLOCK, 3);
    await mount.vfs.write(ROOT, target.handle, 0, old);
    await mount.vfs.fsync(ROOT, target.handle, false);
    const dirty = pattern(50, 4);
    await mount.vfs.write(ROOT, target.handle, 1_000, dirty);
    await mount.vfs.write(ROOT, target.handle, 5_000, dirty);
    expect(await copy(BLOCK + 7, 1_020, 3 * BLOCK)).toBe(3 * BLOCK);
    const expected = Buffer.from(old);
    dirty.copy(expected, 1_000);
    expected.fill(0, 1_020, 1_020 + 3 * BLOCK);
    content.copy(expected, 1_020, BLOCK + 7, 3 * BLOCK);
    expect((await read()).equals(expected)).toBe(true);
    // What is written afterwards is over it.
    await mount.vfs.write(ROOT, target.handle, 2_000, dirty);
    dirty.copy(expected, 2_000);
    expect((await read()).equals(expected)).toBe(true);
    await mount.vfs.fsync(ROOT, target.handle, false);
    expect((await read()).equals(expected)).toBe(true);
  });

  it('is not touched by what becomes of the source', async () => {
    const { mount, source, content, copy, read } = await start();
    await copy(0, 0, content.length);
    await mount.vfs.write(ROOT, source.handle, 0, pattern(content.length, 9));
    await mount.vfs.fsync(ROOT, source.handle, false);
    expect((await read()).equals(content)).toBe(true);
    await mount.vfs.unlink(ROOT, ROOT_INO, name('source'));
    expect((await read()).equals(content)).toBe(true);
  });

  it('renews and asks again behind the barrier of a collection, with a newer generation', async () => {
    const { cluster, mount, content, copy, read, clones } = await start();
    let refusals = 2;
    mount.meta.beforeMutate = (mutation) => {
      if (mutation.op === 'clone' && refusals-- > 0) throw new StaleBlocksError('again');
    };
    expect(await copy(0, 0, content.length)).toBe(content.length);
    expect(clones().map(({ generation }) => generation)).toEqual([1, 2, 3]);
    expect(cluster.blocks.renewed).toBe(30);
    expect((await read()).equals(content)).toBe(true);
    refusals = Infinity;
    await expect(copy(0, 0, content.length)).rejects.toMatchObject({ code: 'EIO' });
  });

  it('puts again what too few nodes have', async () => {
    const { cluster, content, copy, read, clones } = await start();
    const renew = cluster.blocks.renew.bind(cluster.blocks);
    cluster.blocks.renew = async (...args) => (await renew(...args)).map((one, at) => (at % 3 === 0 ? undefined : one));
    cluster.blocks.generation = 7;
    await copy(0, 0, 1);
    const { puts } = cluster.blocks;
    expect(await copy(0, 0, content.length)).toBe(content.length);
    expect(cluster.blocks.puts - puts).toBe(4);
    expect(clones().at(-1)!.generation).toBe(7);
    expect((await read()).equals(content)).toBe(true);
  });

  it('looks at the source again when its blocks were collected in between', async () => {
    const { cluster, mount, source, content, copy, read } = await start();
    await mount.vfs.fsync(ROOT, source.handle, false);
    const other = await cluster.mount();
    const theirs = (await other.vfs.open(ROOT, source.ino, O_RDWR)).handle;
    const newer = pattern(content.length, 5);
    let once = true;
    cluster.blocks.beforeRenew = async () => {
      if (!once) return;
      once = false;
      const old = [...cluster.blocks.stored.keys()];
      await other.vfs.write(ROOT, theirs, 0, newer);
      await other.vfs.fsync(ROOT, theirs, false);
      for (const key of old) cluster.blocks.stored.delete(key);
    };
    expect(await copy(0, 0, content.length)).toBe(content.length);
    expect((await read()).equals(newer)).toBe(true);
  });

  it('fails with EIO, and changes nothing, when a block is really lost', async () => {
    const { cluster, mount, source, target, content, copy } = await start();
    await mount.vfs.fsync(ROOT, source.handle, false);
    cluster.blocks.stored.delete([...cluster.blocks.stored.keys()][4]!);
    await expect(copy(0, 0, content.length)).rejects.toMatchObject({ code: 'EIO' });
    expect((await mount.vfs.getattr(ROOT, target.ino, undefined)).attr.sizeBytes).toBe(0);
  });

  it('goes on in steps where files have many extents', async () => {
    const { mount, source, target, copy, read, clones } = await start(Buffer.alloc(0));
    const content = Buffer.alloc(3_000 * 4);
    for (let at = 0; at < content.length; at += 8) {
      const piece = pattern(4, at);
      piece.copy(content, at);
      await mount.vfs.write(ROOT, source.handle, at, piece);
    }
    await mount.vfs.setattr(ROOT, source.ino, { sizeBytes: content.length }, source.handle);
    let done = 0;
    for (let more = -1; more !== 0; done += more) more = await copy(done, done, content.length);
    expect(done).toBe(content.length);
    expect(clones().length).toBeGreaterThan(1);
    expect((await read()).equals(content)).toBe(true);
    // What is replaced is bounded as well: one large hole over many pieces.
    const hole = await made(mount, 'hole');
    await mount.vfs.setattr(ROOT, hole.ino, { sizeBytes: content.length }, hole.handle);
    const first = await mount.vfs.copyFileRange(ROOT, hole.handle, 0, target.handle, 0, content.length);
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThan(content.length);
  });

  it('refuses what Linux refuses', async () => {
    const { cluster, mount, source, target, copy } = await start();
    const between = (from: number, to: number, length: number): Promise<number> =>
      Promise.resolve(mount.vfs.copyFileRange(ROOT, source.handle, from, source.handle, to, length));
    await expect(between(0, 100, 101)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(between(100, 0, 101)).rejects.toMatchObject({ code: 'EINVAL' });
    expect(await between(0, 100, 100)).toBe(100);
    await expect(copy(-1, 0, 1)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(copy(0, FILE_MAX_BYTES, 1)).rejects.toMatchObject({ code: 'EFBIG' });
    expect(await copy(0, FILE_MAX_BYTES - 5, 10)).toBe(5);
    const reader = (await mount.vfs.open(ROOT, source.ino, O_RDONLY)).handle;
    const writer = (await mount.vfs.open(ROOT, target.ino, O_WRONLY)).handle;
    const appender = (await mount.vfs.open(ROOT, target.ino, O_RDWR | O_APPEND)).handle;
    const refused = async (from: number, to: number, code: string): Promise<void> => {
      const copied = Promise.resolve().then(() => mount.vfs.copyFileRange(ROOT, from, 0, to, 0, 1));
      await expect(copied).rejects.toMatchObject({ code });
    };
    await refused(writer, target.handle, 'EBADF');
    await refused(source.handle, reader, 'EBADF');
    await refused(source.handle, appender, 'EBADF');
    await refused(source.handle, 999, 'EBADF');
    // A copy into a directory of another pool is made for the sake of that pool.
    const [pool] = cluster.catalog.current().pools;
    cluster.newPools.push({ ...pool!, id: 2 as PoolId, name: 'scratch' });
    const { attr } = await mount.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755);
    await mount.vfs.setxattr(ROOT, attr.ino, Buffer.from('tatami.pool'), Buffer.from('scratch'), 'any');
    const there = await mount.vfs.create(ROOT, attr.ino, name('f'), 0o644, O_RDWR | O_CREAT);
    await refused(source.handle, there.handle, 'EXDEV');
  });

  it('is told of writes that were lost before, and keeps nothing of a failed attempt', async () => {
    const { cluster, mount, target, copy } = await start();
    cluster.blocks.beforePut = (data) => {
      if (data[0] === 0xee) throw new FsError('ENOSPC');
    };
    await mount.vfs.write(ROOT, target.handle, 0, Buffer.alloc(BLOCK, 0xee));
    await expect(copy(0, 0, 10)).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(await copy(0, 0, 10)).toBe(10);
  });
});
