import { describe, expect, it } from 'vitest';
import { NoSpaceError, StaleBlocksError, UnavailableError } from '../errors.ts';
import { ROOT_INO } from '../ids.ts';
import { FileSystem } from './api.ts';
import { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from './handles.ts';
import { name, pattern, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const BLOCK = 64 * 1024;

async function create({ vfs }: TestMount, path: string, flags = O_RDWR | O_CREAT) {
  return await vfs.create(ROOT, ROOT_INO, name(path), 0o644, flags);
}

describe('small files', () => {
  it('cost one mutation to make and one to write', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'small');
    expect(mount.vfs.write(ROOT, file.handle, 0, Buffer.from('hello'))).toBe(5);
    await mount.vfs.flush(ROOT, file.handle, 0n);
    expect(mount.vfs.release(file.handle)).toBeUndefined();
    expect(mount.meta.mutations.map((mutation) => mutation.op)).toEqual(['make', 'commit']);
    expect(mount.meta.queries).toEqual([]);
    expect(cluster.blocks.puts).toBe(0);

    const opened = await mount.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect((await readAll(mount.vfs, opened.handle, 0, 100)).toString()).toBe('hello');
    expect(mount.meta.queries.map((query) => query.op)).toEqual(['extents']);
  });

  it('are read while written, by all handles of the mount, with the grown size', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 10, Buffer.from('abc'));
    const other = await mount.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect(await readAll(mount.vfs, other.handle, 8, 100)).toEqual(Buffer.from('\0\0abc'));
    expect((await mount.vfs.getattr(ROOT, file.attr.ino, undefined)).attr.sizeBytes).toBe(13);
    expect(mount.meta.commits).toHaveLength(0);
  });
});

describe('write-back', () => {
  it('sends full blocks at once and in parallel, then commits them together in order', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    let open!: () => void;
    const gate = new Promise<void>((resolve) => (open = resolve));
    cluster.blocks.beforePut = () => gate;
    const file = await create(mount, 'big');
    const data = pattern(5 * BLOCK + 3000, 1);
    for (let at = 0; at < data.length; at += 10_000) {
      await mount.vfs.write(ROOT, file.handle, at, data.subarray(at, at + 10_000));
    }
    await turns();
    expect(cluster.blocks.putsInFlight).toBe(5);
    const flushed = Promise.resolve(mount.vfs.flush(ROOT, file.handle, 0n));
    await turns();
    expect(cluster.blocks.putsInFlight).toBe(6);
    expect(mount.meta.commits).toHaveLength(0);
    open();
    await flushed;
    expect(mount.meta.commits).toHaveLength(1);
    expect(mount.meta.commits[0]?.extents).toHaveLength(6);
    expect(mount.vfs.usage().dirtyBytes).toBe(0);
    const again = await mount.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect((await readAll(mount.vfs, again.handle, 0, data.length)).equals(data)).toBe(true);
  });

  it('never commits a block before its put was acknowledged', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const order: string[] = [];
    cluster.blocks.beforePut = async () => {
      await turns(3);
      order.push('put');
    };
    mount.meta.beforeMutate = (mutation) =>
      void (mutation.op === 'commit' && order.push(`commit ${mutation.extents.length}`));
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 0, pattern(3 * BLOCK, 2));
    await mount.vfs.fsync(ROOT, file.handle, false);
    expect(order).toEqual(['put', 'put', 'put', 'commit 3']);
    expect(mount.meta.syncs).toBe(1);
  });

  it('bounds memory: writers wait, and everything arrives', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount({ dirtyMaxBytes: 8 * BLOCK });
    cluster.blocks.beforePut = () => turns(2);
    const file = await create(mount, 'f');
    const data = pattern(64 * BLOCK, 3);
    let waited = 0;
    for (let at = 0; at < data.length; at += BLOCK / 2) {
      const written = mount.vfs.write(ROOT, file.handle, at, data.subarray(at, at + BLOCK / 2));
      if (written instanceof Promise) waited += 1;
      await written;
    }
    await mount.vfs.flush(ROOT, file.handle, 0n);
    expect(waited).toBeGreaterThan(3);
    expect(cluster.blocks.putsInFlightMax).toBe(8);
    expect(mount.vfs.usage().dirtyPeakBytes).toBeLessThanOrEqual(9 * BLOCK);
    const opened = await mount.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect((await readAll(mount.vfs, opened.handle, 0, data.length)).equals(data)).toBe(true);
  });

  it('bounds memory over many files that are each only partly written', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount({ dirtyMaxBytes: 8 * BLOCK });
    const handles: number[] = [];
    for (let index = 0; index < 40; index += 1) handles.push((await create(mount, `f${index}`)).handle);
    await Promise.all(handles.map(async (handle, index) => mount.vfs.write(ROOT, handle, 0, pattern(40_000, index))));
    expect(mount.vfs.usage().dirtyBytes).toBeLessThanOrEqual(8 * BLOCK);
    for (const [index, handle] of handles.entries()) {
      expect((await readAll(mount.vfs, handle, 0, BLOCK)).equals(pattern(40_000, index))).toBe(true);
    }
  });

  it('puts blocks again when a garbage collection made them stale', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const generations: (number | undefined)[] = [];
    mount.meta.beforeMutate = (mutation) => {
      if (mutation.op !== 'commit') return;
      generations.push(mutation.generation);
      if (generations.length === 1) throw new StaleBlocksError('old');
    };
    const file = await create(mount, 'f');
    const data = pattern(2 * BLOCK + 10, 4);
    await mount.vfs.write(ROOT, file.handle, 0, data);
    await mount.vfs.flush(ROOT, file.handle, 0n);
    expect(generations).toEqual([1, 2]);
    expect(cluster.blocks.puts).toBe(4);
    expect((await readAll(mount.vfs, file.handle, 0, data.length)).equals(data)).toBe(true);
  });

  it('reports a full disk to the writer once, and what was committed before stays', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    const data = pattern(2 * BLOCK, 5);
    await mount.vfs.write(ROOT, file.handle, 0, data);
    await mount.vfs.fsync(ROOT, file.handle, false);
    cluster.blocks.beforePut = () => {
      throw new NoSpaceError('full');
    };
    await mount.vfs.write(ROOT, file.handle, BLOCK, pattern(2 * BLOCK, 6));
    await expect(Promise.resolve(mount.vfs.flush(ROOT, file.handle, 0n))).rejects.toMatchObject({ code: 'ENOSPC' });
    cluster.blocks.beforePut = undefined;
    expect(mount.vfs.flush(ROOT, file.handle, 0n)).toBeUndefined();
    expect((await mount.vfs.getattr(ROOT, file.attr.ino, undefined)).attr.sizeBytes).toBe(2 * BLOCK);
    expect((await readAll(mount.vfs, file.handle, 0, 4 * BLOCK)).equals(data)).toBe(true);
    expect(mount.vfs.usage().dirtyBytes).toBe(0);
    await turns();
    expect(mount.logged.map((line) => line.facts)).toMatchObject([{ path: '/f', code: 'ENOSPC' }]);
    await mount.vfs.write(ROOT, file.handle, 2 * BLOCK, pattern(BLOCK, 7));
    await mount.vfs.flush(ROOT, file.handle, 0n);
    expect((await readAll(mount.vfs, file.handle, 2 * BLOCK, BLOCK)).equals(pattern(BLOCK, 7))).toBe(true);
  });

  it('tries again while nodes are away, and ends with EIO at the deadline', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount({ timeoutMs: 5_000 });
    const file = await create(mount, 'f');
    let isAway = true;
    cluster.blocks.beforePut = () => {
      if (isAway) throw new UnavailableError('away');
    };
    await mount.vfs.write(ROOT, file.handle, 0, pattern(5_000, 1));
    const first = Promise.resolve(mount.vfs.flush(ROOT, file.handle, 0n));
    await cluster.clock.advance(1_000);
    isAway = false;
    await cluster.clock.advance(2_000);
    await first;
    isAway = true;
    await mount.vfs.write(ROOT, file.handle, 0, pattern(5_000, 2));
    const second = expect(Promise.resolve(mount.vfs.flush(ROOT, file.handle, 0n))).rejects.toMatchObject({
      code: 'EIO',
    });
    await cluster.clock.advance(6_000);
    await second;
    expect((await readAll(mount.vfs, file.handle, 0, 5_000)).equals(pattern(5_000, 1))).toBe(true);
  });

  it('commits by itself what nobody flushes for some seconds', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 0, Buffer.from('idle'));
    await cluster.clock.advance(3_000);
    expect(mount.meta.commits).toHaveLength(0);
    await cluster.clock.advance(4_000);
    expect(mount.meta.commits).toHaveLength(1);
    expect(cluster.clock.timerCount).toBe(0);
  });

  it('keeps the number of extents of a file small that grows by flushed appends', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const { attr } = await create(mount, 'log');
    let expected = Buffer.alloc(0);
    for (let index = 0; index < 400; index += 1) {
      const { handle } = await mount.vfs.open(ROOT, attr.ino, O_WRONLY | O_APPEND);
      const line = pattern(100 + (index % 7), index);
      expected = Buffer.concat([expected, line]);
      await mount.vfs.write(ROOT, handle, 0, line);
      await mount.vfs.flush(ROOT, handle, 0n);
      mount.vfs.release(handle);
    }
    const reply = await mount.meta.query<'extents'>({
      op: 'extents',
      ino: attr.ino,
      offset: 0,
      lengthBytes: 1e9,
      limit: 1000,
    });
    expect(reply.extents.length).toBeLessThan(24);
    const { handle } = await mount.vfs.open(ROOT, attr.ino, O_RDONLY);
    expect((await readAll(mount.vfs, handle, 0, 1e6)).equals(expected)).toBe(true);
  });

  it('returns from close with the files that could not be written', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const good = await create(mount, 'good');
    const bad = await create(mount, 'bad');
    await mount.vfs.write(ROOT, good.handle, 0, Buffer.from('fine'));
    await mount.vfs.write(ROOT, bad.handle, 0, pattern(5_000, 1));
    cluster.blocks.beforePut = () => {
      throw new NoSpaceError('full');
    };
    expect(await mount.vfs.close(1_000)).toEqual(['/bad']);
    const other = await cluster.mount();
    const { handle } = await other.vfs.open(ROOT, good.attr.ino, O_RDONLY);
    expect((await readAll(other.vfs, handle, 0, 10)).toString()).toBe('fine');
  });

  it('ends close at its deadline although nothing answers', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'stuck');
    cluster.blocks.beforePut = () => new Promise(() => {});
    await mount.vfs.write(ROOT, file.handle, 0, pattern(5_000, 1));
    const closed = mount.vfs.close(1_000);
    await cluster.clock.advance(4_000);
    expect(await closed).toEqual(['/stuck']);
  });
});

describe('truncation', () => {
  it('is ordered against writes before and after it', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    const data = pattern(3 * BLOCK, 1);
    await mount.vfs.write(ROOT, file.handle, 0, data);
    await mount.vfs.setattr(ROOT, file.attr.ino, { sizeBytes: 100 }, file.handle);
    await mount.vfs.setattr(ROOT, file.attr.ino, { sizeBytes: 300 }, file.handle);
    await mount.vfs.write(ROOT, file.handle, 250, Buffer.from('x'));
    const expected = Buffer.concat([data.subarray(0, 100), Buffer.alloc(200)]);
    expected[250] = 0x78;
    expect(await readAll(mount.vfs, file.handle, 0, 1e6)).toEqual(expected);
    await mount.vfs.flush(ROOT, file.handle, 0n);
    expect(await readAll(mount.vfs, file.handle, 0, 1e6)).toEqual(expected);
    const other = await cluster.mount();
    const opened = await other.vfs.open(ROOT, file.attr.ino, O_RDWR | O_TRUNC);
    expect(await readAll(other.vfs, opened.handle, 0, 1e6)).toEqual(Buffer.alloc(0));
  });

  it('makes writers wait meanwhile', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 0, Buffer.from('0123456789'));
    const cut = Promise.resolve(mount.vfs.setattr(ROOT, file.attr.ino, { sizeBytes: 4 }, undefined));
    const data = Buffer.from('ab');
    const written = mount.vfs.write(ROOT, file.handle, 8, data);
    data.fill(0);
    await Promise.all([cut, written]);
    expect((await readAll(mount.vfs, file.handle, 0, 100)).toString()).toBe('0123\0\0\0\0ab');
  });

  it('keeps times that are set between write and close', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 0, Buffer.from('data'));
    await mount.vfs.setattr(ROOT, file.attr.ino, { mtimeNs: 1_000_000_000n, atimeNs: 2n }, file.handle);
    await mount.vfs.flush(ROOT, file.handle, 0n);
    const other = await cluster.mount();
    expect((await other.vfs.getattr(ROOT, file.attr.ino, undefined)).attr.mtimeNs).toBe(1_000_000_000n);
  });
});

describe('a program that is opened with O_TRUNC', () => {
  it.each([
    [1000, 0o6755, 0o755],
    [1000, 0o2644, 0o2644],
    [0, 0o6755, 0o6755],
  ])('by %i loses who it runs as', async (uid, before, after) => {
    const mount = await (await TestCluster.start()).mount();
    const made = await mount.vfs.create(ROOT, ROOT_INO, name('f'), before, O_RDWR | O_CREAT);
    const caller = { uid, gid: uid, pid: 1 };
    for (const file of [true, false]) {
      await mount.vfs.setattr(ROOT, made.attr.ino, { mode: before }, undefined);
      if (file) await mount.vfs.open(caller, made.attr.ino, O_RDWR | O_TRUNC);
      else await mount.vfs.create(caller, ROOT_INO, name('f'), 0o600, O_RDWR | O_CREAT | O_TRUNC);
      expect((await mount.vfs.getattr(ROOT, made.attr.ino, undefined)).attr.mode).toBe(after);
    }
  });

  it('keeps the mode that another mount has given it just before', async () => {
    const cluster = await TestCluster.start();
    const [mount, other] = [await cluster.mount(), await cluster.mount()];
    const { attr } = await mount.vfs.create(ROOT, ROOT_INO, name('f'), 0o4777, O_RDWR | O_CREAT);
    await other.vfs.setattr(ROOT, attr.ino, { mode: 0o4700 }, undefined);
    await mount.vfs.open({ uid: 1000, gid: 1000, pid: 1 }, attr.ino, O_RDWR | O_TRUNC);
    expect((await other.meta.query<'getattr'>({ op: 'getattr', ino: attr.ino })).attr.mode).toBe(0o700);
  });
});

describe('times', () => {
  it('move when fallocate makes a file longer that has uncommitted data', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 0, Buffer.from('abc'));
    const before = await mount.vfs.getattr(ROOT, file.attr.ino, undefined);
    await cluster.clock.advance(5);
    await mount.vfs.fallocate(ROOT, file.handle, 0, 10, 0);
    const grown = await mount.vfs.getattr(ROOT, file.attr.ino, undefined);
    expect(grown.attr.sizeBytes).toBe(10);
    expect(grown.attr.mtimeNs).toBe(before.attr.mtimeNs + 5_000_000n);
    await mount.vfs.flush(ROOT, file.handle, 0n);
    const committed = await mount.vfs.getattr(ROOT, file.attr.ino, undefined);
    expect(committed.attr.mtimeNs).toBeGreaterThanOrEqual(grown.attr.mtimeNs);
  });

  it('beyond what 64 bits hold are cut', async () => {
    const cluster = await TestCluster.start();
    const { vfs } = await cluster.mount();
    const { attr } = await vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_RDWR | O_CREAT);
    const year9999 = 253_370_764_800_000_000_000n;
    const set = await vfs.setattr(ROOT, attr.ino, { mtimeNs: year9999, atimeNs: -year9999 }, undefined);
    expect(set.attr).toMatchObject({ mtimeNs: 2n ** 63n - 1n, atimeNs: 1n - 2n ** 63n });
  });

  it('to come can be set on a file that has uncommitted data', async () => {
    const mount = await (await TestCluster.start()).mount();
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 0, Buffer.from('abc'));
    const mtimeNs = 4_000_000_000_000_000_001n;
    await mount.vfs.setattr(ROOT, file.attr.ino, { mtimeNs }, file.handle);
    await mount.vfs.flush(ROOT, file.handle, 0n);
    expect((await mount.vfs.getattr(ROOT, file.attr.ino, undefined)).attr).toMatchObject({ mtimeNs, sizeBytes: 3 });
  });

  it('of both files are known after an exchange, also of one seen under another name only', async () => {
    const cluster = await TestCluster.start();
    const [maker, mount] = [await cluster.mount(), await cluster.mount()];
    const file = await create(maker, 'a');
    await maker.vfs.link(ROOT, file.attr.ino, ROOT_INO, name('b'));
    await maker.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755);
    const before = await mount.vfs.lookup(ROOT, ROOT_INO, name('b'));
    await cluster.clock.advance(5);
    await mount.vfs.rename(ROOT, ROOT_INO, name('d'), ROOT_INO, name('a'), { noReplace: false, exchange: true });
    const after = await mount.vfs.getattr(ROOT, file.attr.ino, undefined);
    expect(after.attr.ctimeNs).toBeGreaterThan(before.attr.ctimeNs);
  });
});

describe('unlinked files', () => {
  it('keep working while they are open, and are released at the last close', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    await mount.vfs.write(ROOT, file.handle, 0, pattern(BLOCK + 5, 1));
    await mount.vfs.unlink(ROOT, ROOT_INO, name('f'));
    await expect(Promise.resolve(mount.vfs.lookup(ROOT, ROOT_INO, name('f')))).rejects.toMatchObject({
      code: 'ENOENT',
    });
    await mount.vfs.flush(ROOT, file.handle, 0n);
    await mount.vfs.write(ROOT, file.handle, BLOCK + 5, Buffer.from('more'));
    expect((await mount.vfs.getattr(ROOT, file.attr.ino, undefined)).attr).toMatchObject({
      nlink: 0,
      sizeBytes: BLOCK + 9,
    });
    expect((await readAll(mount.vfs, file.handle, BLOCK + 5, 10)).toString()).toBe('more');
    mount.vfs.release(file.handle);
    await turns();
    expect(mount.meta.mutations.at(-1)?.op).toBe('releaseOrphan');
    await expect(Promise.resolve(mount.vfs.getattr(ROOT, file.attr.ino, undefined))).rejects.toMatchObject({
      code: 'ENOENT',
    });
    expect(mount.vfs.usage().dirtyBytes).toBe(0);
  });

  it('are kept when another file is renamed over them', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const old = await create(mount, 'old');
    await mount.vfs.write(ROOT, old.handle, 0, Buffer.from('old'));
    await mount.vfs.flush(ROOT, old.handle, 0n);
    const fresh = await create(mount, 'new');
    await mount.vfs.rename(ROOT, ROOT_INO, name('new'), ROOT_INO, name('old'), { noReplace: false, exchange: false });
    expect((await readAll(mount.vfs, old.handle, 0, 10)).toString()).toBe('old');
    expect((await mount.vfs.lookup(ROOT, ROOT_INO, name('old'))).attr.ino).toBe(fresh.attr.ino);
  });

  it('are not kept when nothing has them open', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await create(mount, 'f');
    mount.vfs.release(file.handle);
    await create(mount, 'other');
    await mount.vfs.unlink(ROOT, ROOT_INO, name('f'));
    expect(mount.meta.mutations.at(-1)).toMatchObject({ op: 'unlink', keepOpen: { unless: file.attr.ino } });
  });
});

describe('a removed directory', () => {
  it('has no links at once, also after a rename to its name has failed', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const { ino } = (await mount.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755)).attr;
    const renamed = mount.vfs.rename(ROOT, ROOT_INO, name('not there'), ROOT_INO, name('d'), {
      noReplace: false,
      exchange: false,
    });
    await expect(renamed).rejects.toMatchObject({ code: 'ENOENT' });
    await mount.vfs.rmdir(ROOT, ROOT_INO, name('d'));
    // Whoever is in it sees that as on other filesystems, until the kernel forgets it.
    await cluster.clock.advance(2_000);
    expect((await mount.vfs.getattr(ROOT, ino, undefined)).attr).toMatchObject({ type: 'directory', nlink: 0 });
    mount.vfs.forget(ino, 1);
    await expect(Promise.resolve(mount.vfs.getattr(ROOT, ino, undefined))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('two mounts', () => {
  it('see each other from close to open', async () => {
    const cluster = await TestCluster.start();
    const [one, two] = [await cluster.mount(), await cluster.mount()];
    const file = await create(one, 'shared');
    await one.vfs.write(ROOT, file.handle, 0, pattern(2 * BLOCK, 1));
    await one.vfs.flush(ROOT, file.handle, 0n);
    const first = await two.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect(first.keepCache).toBe(false);
    expect((await readAll(two.vfs, first.handle, 0, 1e6)).equals(pattern(2 * BLOCK, 1))).toBe(true);
    two.vfs.release(first.handle);
    const unchanged = await two.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect(unchanged.keepCache).toBe(true);
    two.vfs.release(unchanged.handle);
    await one.vfs.write(ROOT, file.handle, 10, Buffer.from('changed'));
    await one.vfs.flush(ROOT, file.handle, 0n);
    const second = await two.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect(second.keepCache).toBe(false);
    expect((await readAll(two.vfs, second.handle, 10, 7)).toString()).toBe('changed');
    // The writer's own kernel pages saw its writes.
    const own = await one.vfs.open(ROOT, file.attr.ino, O_RDONLY);
    expect(own.keepCache).toBe(true);
  });

  it('see names again after the attribute timeout', async () => {
    const cluster = await TestCluster.start();
    const [one, two] = [await cluster.mount(), await cluster.mount()];
    await create(one, 'f');
    await two.vfs.lookup(ROOT, ROOT_INO, name('f'));
    await one.vfs.unlink(ROOT, ROOT_INO, name('f'));
    expect(two.vfs.lookup(ROOT, ROOT_INO, name('f'))).not.toBeInstanceOf(Promise);
    await cluster.clock.advance(1_001);
    await expect(Promise.resolve(two.vfs.lookup(ROOT, ROOT_INO, name('f')))).rejects.toMatchObject({ code: 'ENOENT' });
    const uncached = await cluster.mount({ attrTimeoutMs: 0 });
    const entry = await uncached.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755);
    expect(entry).toMatchObject({ attrTimeoutMs: 0, entryTimeoutMs: 0 });
    expect(uncached.vfs.getattr(ROOT, entry.attr.ino, undefined)).toBeInstanceOf(Promise);
  });
});

describe('the api', () => {
  it('writes, reads and lists', async () => {
    const cluster = await TestCluster.start();
    const { vfs } = await cluster.mount();
    const fs = new FileSystem(vfs, { uid: 5, gid: 6 });
    await fs.mkdir('/a/b', { recursive: true });
    await fs.writeFile('/a/b/c.txt', 'text');
    await fs.appendFile('/a/b/c.txt', ' more');
    expect(await fs.readFile('/a/b/c.txt', 'utf8')).toBe('text more');
    expect(await fs.readdir('/a', { recursive: true })).toEqual(['b', 'b/c.txt']);
    expect((await fs.stat('/a/b/c.txt')).uid).toBe(5);
    await expect(fs.readFile('/nothing')).rejects.toThrow("ENOENT: no such file or directory, open '/nothing'");
    await fs.rm('/a', { recursive: true });
    expect(await fs.readdir('/')).toEqual([]);
  });
});
