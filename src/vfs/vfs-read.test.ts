import { describe, expect, it } from 'vitest';
import { BlockNotFoundError, CorruptionError, UnavailableError } from '../errors.ts';
import { ROOT_INO } from '../ids.ts';
import { encodeAcl } from '../meta/acl.ts';
import { acl } from '../meta/testing-acl.ts';
import { FileSystem } from './api.ts';
import { PAGE_BYTES, READ_CACHE_PAGES_FIRST_BYTES } from '../limits.ts';
import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY } from './handles.ts';
import { EXTENTS_KEPT } from './options.ts';
import { name, pattern, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const BLOCK = 512 * 1024;
const BLOCKS = 24;

async function bigFile(
  limits = {},
): Promise<{ cluster: TestCluster; mount: TestMount; data: Buffer; ino: number; handle: number }> {
  const cluster = await TestCluster.start(BLOCK);
  const writer = await cluster.mount();
  const data = Buffer.alloc(BLOCKS * BLOCK);
  for (let index = 0; index < BLOCKS; index += 1)
    data.fill(pattern(4096, index + 1), index * BLOCK, (index + 1) * BLOCK);
  const file = await writer.vfs.create(ROOT, ROOT_INO, name('big'), 0o644, O_RDWR | O_CREAT);
  await writer.vfs.write(ROOT, file.handle, 0, data);
  await writer.vfs.flush(ROOT, file.handle, 0n);
  const mount = await cluster.mount({ readCacheBytes: 16 * BLOCK, ...limits });
  await mount.vfs.lookup(ROOT, ROOT_INO, name('big'));
  const { handle } = await mount.vfs.open(ROOT, file.attr.ino, O_RDONLY);
  return { cluster, mount, data, ino: file.attr.ino, handle };
}

describe('sequential reads', () => {
  it('fetch nothing ahead for what was closed meanwhile', async () => {
    const { cluster, mount, ino, handle } = await bigFile();
    for (let at = 0; at < 2 * BLOCK; at += BLOCK) await readAll(mount.vfs, handle, at, BLOCK);
    const writer = await cluster.mount();
    const changed = (await writer.vfs.open(ROOT, ino as never, O_RDWR)).handle;
    await writer.vfs.write(ROOT, changed, 0, Buffer.from('changed'));
    await writer.vfs.fsync(ROOT, changed, false);
    await cluster.clock.advance(2_000);
    await mount.vfs.getattr(ROOT, ino as never, undefined);
    let arrive!: () => void;
    const gate = new Promise<void>((resolve) => (arrive = resolve));
    mount.meta.afterQuery = () => gate;
    // Interrupted: the kernel has its answer, and closes the file.
    const reading = Promise.resolve(mount.vfs.read(ROOT, handle, 2 * BLOCK, BLOCK));
    await turns();
    mount.vfs.release(handle);
    arrive();
    (await reading).release?.();
    await turns();
    expect(mount.vfs.usage().readAheadBytes).toBe(0);
  });

  it('fetch whole blocks ahead in parallel, in a window that doubles, within the bound', async () => {
    const { cluster, mount, data, handle } = await bigFile();
    const windows: number[] = [];
    let inFlight = 0;
    cluster.blocks.beforeRead = async () => {
      inFlight += 1;
      await turns(3);
      inFlight -= 1;
    };
    for (let at = 0; at < data.length; at += BLOCK / 4) {
      expect((await readAll(mount.vfs, handle, at, BLOCK / 4)).equals(data.subarray(at, at + BLOCK / 4))).toBe(true);
      windows.push(inFlight);
      expect(mount.vfs.usage().cachedBytes).toBeLessThanOrEqual(16 * BLOCK);
      expect(mount.vfs.usage().readAheadBytes).toBeLessThanOrEqual(8 * BLOCK);
    }
    expect(cluster.blocks.reads).toHaveLength(BLOCKS);
    expect(Math.max(...windows)).toBeGreaterThanOrEqual(4);
    expect(cluster.blocks.reads[0]?.priority).toBe('foreground');
    expect(cluster.blocks.reads.slice(2).every((read) => read.priority === 'readahead')).toBe(true);
    expect(mount.meta.queries.filter((query) => query.op === 'extents')).toHaveLength(1);
    // The window is grown step by step.
    expect(windows.slice(0, 8)).toEqual([...windows.slice(0, 8)].sort((a, b) => a - b));
  });

  it('are answered at once, by views, when the block is here; and held until released', async () => {
    const { mount, data, handle } = await bigFile();
    await readAll(mount.vfs, handle, 0, 4096);
    const result = mount.vfs.read(ROOT, handle, 4096, 8192);
    expect(result).not.toBeInstanceOf(Promise);
    if (result instanceof Promise) return;
    expect(result.chunks).toHaveLength(1);
    expect(Buffer.from(result.chunks[0] ?? []).equals(data.subarray(4096, 12288))).toBe(true);
    for (let at = 0; at < data.length; at += BLOCK) await readAll(mount.vfs, handle, at, BLOCK);
    expect(Buffer.from(result.chunks[0] ?? []).equals(data.subarray(4096, 12288))).toBe(true);
    result.release?.();
    result.release?.();
  });

  it('share the memory among several streams, which all get on', async () => {
    const { mount, data, ino } = await bigFile();
    const handles: number[] = [];
    for (let index = 0; index < 4; index += 1)
      handles.push((await mount.vfs.open(ROOT, ino as never, O_RDONLY)).handle);
    for (let at = 0; at < data.length / 4; at += BLOCK / 2) {
      await Promise.all(
        handles.map(async (handle, index) => {
          const from = at + (index * data.length) / 4;
          const seen = await readAll(mount.vfs, handle, from, BLOCK / 2);
          expect(seen.equals(data.subarray(from, from + BLOCK / 2))).toBe(true);
        }),
      );
      expect(mount.vfs.usage().readAheadBytes).toBeLessThanOrEqual(8 * BLOCK);
    }
    for (const handle of handles) mount.vfs.release(handle);
    expect(mount.vfs.usage().readAheadBytes).toBe(0);
  });

  it('keep what was read ahead for a slow stream while a fast one fills the cache', async () => {
    const { cluster, mount, data, ino, handle } = await bigFile();
    const fast = (await mount.vfs.open(ROOT, ino as never, O_RDONLY)).handle;
    for (let at = 0; at < 3 * BLOCK; at += BLOCK / 2) await readAll(mount.vfs, handle, at, BLOCK / 2);
    await turns();
    const ahead = cluster.blocks.reads.map((read) => read.key);
    expect(ahead.length).toBeGreaterThanOrEqual(5);
    for (let at = 8 * BLOCK; at < data.length; at += BLOCK / 2) await readAll(mount.vfs, fast, at, BLOCK / 2);
    for (let at = 3 * BLOCK; at < ahead.length * BLOCK; at += BLOCK / 2)
      await readAll(mount.vfs, handle, at, BLOCK / 2);
    for (const key of ahead) expect(cluster.blocks.reads.filter((read) => read.key === key)).toHaveLength(1);
  });

  it('are no further ahead, all together, than the blocks are near', async () => {
    const { cluster, mount, data, ino, handle } = await bigFile();
    cluster.blocks.aheadCount = () => 4;
    let most = 0;
    for (let at = 0; at < 8 * BLOCK; at += BLOCK / 2) {
      await readAll(mount.vfs, handle, at, BLOCK / 2);
      most = Math.max(most, mount.vfs.usage().readAheadBytes);
    }
    // And the block that is read next.
    expect(most).toBe(5 * BLOCK);
    const second = (await mount.vfs.open(ROOT, ino as never, O_RDONLY)).handle;
    for (let at = 0; at < 6 * BLOCK; at += BLOCK / 2) {
      await readAll(mount.vfs, second, 15 * BLOCK + at, BLOCK / 2);
      const seen = await readAll(mount.vfs, handle, 8 * BLOCK + at, BLOCK / 2);
      expect(seen.equals(data.subarray(8 * BLOCK + at, 8 * BLOCK + at + BLOCK / 2))).toBe(true);
      // The first may still have what it was ahead when it was alone.
      if (at >= 4 * BLOCK) expect(mount.vfs.usage().readAheadBytes).toBeLessThanOrEqual(6 * BLOCK);
    }
  });

  it('stop reading ahead when the reader jumps', async () => {
    const { cluster, mount, data, handle } = await bigFile();
    for (let at = 0; at < 4 * BLOCK; at += BLOCK / 2) await readAll(mount.vfs, handle, at, BLOCK / 2);
    await turns();
    const before = cluster.blocks.reads.length;
    const far = 20 * BLOCK + 100_000;
    expect((await readAll(mount.vfs, handle, far, 4096)).equals(data.subarray(far, far + 4096))).toBe(true);
    await turns();
    expect(cluster.blocks.reads.slice(before)).toMatchObject([{ offset: 65536, length: 65536 }]);
    expect(mount.vfs.usage().readAheadBytes).toBe(0);
  });
});

describe('random reads', () => {
  it('fetch pages, once each', async () => {
    const { cluster, mount, data, handle } = await bigFile();
    const read = async (at: number, size: number): Promise<void> => {
      expect((await readAll(mount.vfs, handle, at, size)).equals(data.subarray(at, at + size))).toBe(true);
    };
    await read(5 * BLOCK + 70_000, 4096);
    await read(5 * BLOCK + 80_000, 4096);
    await read(3 * BLOCK + 65_000, 2000);
    await read(5 * BLOCK + 60_000, 100_000);
    expect(cluster.blocks.reads.map(({ offset, length }) => [offset, length])).toEqual([
      [65536, 65536],
      [0, 131072],
      [0, 65536],
      [131072, 65536],
    ]);
  });

  it('tell which blocks may be next: those of the file, from there on and round', async () => {
    const { cluster, mount, handle } = await bigFile();
    await readAll(mount.vfs, handle, 21 * BLOCK + 70_000, 4096);
    for (let block = 0; block < BLOCKS; block += 1) await readAll(mount.vfs, handle, block * BLOCK + 200_000, 4096);
    const { reads, besides } = cluster.blocks;
    const order = reads.slice(1).map(({ key }) => key);
    expect(besides[0]).toEqual([...order.slice(21), ...order.slice(0, 21)]);
    expect(besides[1]).toEqual(order);
  });

  it('for one block at the same time become one fetch', async () => {
    const { cluster, mount, handle } = await bigFile();
    cluster.blocks.beforeRead = () => turns(3);
    await Promise.all([0, 1, 2, 3].map((part) => readAll(mount.vfs, handle, (part * BLOCK) / 4, BLOCK / 4)));
    const first = cluster.blocks.reads[0]?.key;
    expect(cluster.blocks.reads.filter((read) => read.key === first)).toHaveLength(1);
  });
});

describe('the read cache', () => {
  const first = { readCacheFirstBytes: 4 * BLOCK };

  it('uses little memory for what is read once in order', async () => {
    const { mount, data, handle } = await bigFile(first);
    let most = 0;
    for (let at = 0; at < data.length; at += BLOCK / 4) {
      await readAll(mount.vfs, handle, at, BLOCK / 4);
      const { cachedBytes, readAheadBytes } = mount.vfs.usage();
      most = Math.max(most, cachedBytes - readAheadBytes);
    }
    expect(most).toBeLessThanOrEqual(4 * BLOCK);
  });

  it('uses more of its bound when blocks are read again, and then keeps them', async () => {
    const { cluster, mount, data, handle } = await bigFile(first);
    const round = async (): Promise<number> => {
      const before = cluster.blocks.reads.length;
      // No order that a reader in order would have.
      for (const block of [9, 2, 11, 4, 7, 0, 5, 12]) {
        const seen = await readAll(mount.vfs, handle, block * BLOCK, BLOCK);
        expect(seen.equals(data.subarray(block * BLOCK, (block + 1) * BLOCK))).toBe(true);
        expect(mount.vfs.usage().cachedBytes).toBeLessThanOrEqual(16 * BLOCK);
      }
      return cluster.blocks.reads.length - before;
    };
    expect(await round()).toBe(8);
    let rounds = 1;
    while ((await round()) > 0) expect((rounds += 1)).toBeLessThan(6);
    expect(await round()).toBe(0);
  });

  it('uses less memory for pages, until they are read again', async () => {
    const { cluster, mount, data, handle } = await bigFile();
    // No order that a reader in order would have.
    const place = (page: number): number =>
      ((page * 7) % BLOCKS) * BLOCK + (1 + Math.floor(page / BLOCKS)) * PAGE_BYTES;
    const round = async (pages: number): Promise<number> => {
      const before = cluster.blocks.reads.length;
      for (let page = 0; page < pages; page += 1) {
        const seen = await readAll(mount.vfs, handle, place(page), 4096);
        expect(seen.equals(data.subarray(place(page), place(page) + 4096))).toBe(true);
      }
      return cluster.blocks.reads.length - before;
    };
    expect(await round(120)).toBe(120);
    expect(mount.vfs.usage().cachedBytes).toBeLessThanOrEqual(READ_CACHE_PAGES_FIRST_BYTES);
    let rounds = 1;
    while ((await round(120)) > 0) expect((rounds += 1)).toBeLessThan(6);
    expect(mount.vfs.usage().cachedBytes).toBe(120 * PAGE_BYTES);
    // Whole blocks still have their part.
    for (let at = 0; at < data.length; at += BLOCK / 4) await readAll(mount.vfs, handle, at, BLOCK / 4);
    expect(mount.vfs.usage().cachedBytes).toBeLessThanOrEqual(16 * BLOCK);
  });

  it('gives the buffers of pages back, and not while somebody reads them', async () => {
    const { cluster, mount, data, handle } = await bigFile({ readCacheFirstBytes: 4 * PAGE_BYTES });
    const given: Uint8Array[] = [];
    cluster.blocks.recycle = (bytes) => void given.push(bytes.fill(0xdb));
    const place = (page: number): number => ((page * 7) % BLOCKS) * BLOCK + page * PAGE_BYTES;
    const held = await mount.vfs.read(ROOT, handle, place(3), 4096);
    for (const page of [1, 2, 4, 5, 6, 7]) await readAll(mount.vfs, handle, place(page), 4096);
    expect(given.length).toBeGreaterThanOrEqual(2);
    expect(given.every(({ length }) => length === PAGE_BYTES)).toBe(true);
    expect(Buffer.concat(held.chunks).equals(data.subarray(place(3), place(3) + 4096))).toBe(true);
    held.release?.();
  });
});

describe('a stream that passes over pages which the kernel has', () => {
  it('is read ahead of, and each block is fetched once', async () => {
    const { cluster, mount, data, handle } = await bigFile();
    for (let at = 0; at < data.length; at += 65_536) {
      const seen = await readAll(mount.vfs, handle, at, 65_536 - 4096);
      expect(seen.equals(data.subarray(at, at + 65_536 - 4096))).toBe(true);
    }
    expect(cluster.blocks.reads).toHaveLength(BLOCKS);
    expect(cluster.blocks.reads.slice(2).every(({ priority }) => priority === 'readahead')).toBe(true);
  });
});

describe('files of very many extents', () => {
  it('are known window by window, and stay right while they change here and elsewhere', async () => {
    const small = 4096;
    const cluster = await TestCluster.start(small);
    const [one, two] = [
      await cluster.mount({ inlineMaxBytes: 0 }),
      await cluster.mount({ readCacheBytes: 64 * small }),
    ];
    const data = pattern(1700 * small, 1);
    const { attr, handle } = await one.vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_RDWR | O_CREAT);
    await one.vfs.write(ROOT, handle, 0, data);
    await one.vfs.flush(ROOT, handle, 0n);
    const write = async (mount: TestMount, to: number, at: number, size: number): Promise<void> => {
      const bytes = pattern(size, at);
      bytes.copy(data, at);
      await mount.vfs.write(ROOT, to, at, bytes);
      await mount.vfs.flush(ROOT, to, 0n);
    };
    await two.vfs.lookup(ROOT, ROOT_INO, name('f'));
    const reader = (await two.vfs.open(ROOT, attr.ino, O_RDWR)).handle;
    for (let at = 0; at < data.length; at += 50_000) {
      expect((await readAll(two.vfs, reader, at, 50_000)).equals(data.subarray(at, at + 50_000))).toBe(true);
    }
    expect(two.meta.queries.filter((query) => query.op === 'extents')).toHaveLength(4);
    // A random reader starts in the middle; own writes keep what is known right.
    const third = await cluster.mount();
    const writer = (await third.vfs.open(ROOT, attr.ino, O_RDWR)).handle;
    for (const at of [1000, 300, 1690, 5, 700, 1200]) {
      await write(third, writer, at * small - 100, 3 * small);
      const from = at * small - 5000;
      expect((await readAll(third.vfs, writer, from, 30_000)).equals(data.subarray(from, from + 30_000))).toBe(true);
    }
    // And the first mount, at its next open.
    const again = (await one.vfs.open(ROOT, attr.ino, O_RDONLY)).handle;
    expect((await readAll(one.vfs, again, 0, data.length)).equals(data)).toBe(true);
  });
});

describe('reads that fail', () => {
  it('look at the extents again when a block is gone, before they give up', async () => {
    const { cluster, mount, handle } = await bigFile();
    let failures = 1;
    cluster.blocks.beforeRead = () => {
      if (failures-- > 0) throw new BlockNotFoundError('gone');
    };
    const before = mount.meta.queries.length;
    expect(await readAll(mount.vfs, handle, 0, 10)).toHaveLength(10);
    expect(mount.meta.queries.slice(before).map((query) => query.op)).toEqual(['extents']);
    failures = 100;
    await expect(readAll(mount.vfs, handle, 9 * BLOCK, 10)).rejects.toMatchObject({ code: 'EIO' });
    await turns();
    const line = mount.logged.find(({ level }) => level === 'error');
    expect(line?.facts).toMatchObject({ path: '/big', code: 'EIO' });
    expect(JSON.stringify(line?.facts)).toMatch(/block [0-9a-f]{64}/);
  });

  it('are EIO for damage, and work again once a copy is there', async () => {
    const { cluster, mount, data, handle } = await bigFile();
    cluster.blocks.beforeRead = () => {
      throw new CorruptionError('all copies damaged');
    };
    await expect(readAll(mount.vfs, handle, 0, 10)).rejects.toMatchObject({ code: 'EIO' });
    cluster.blocks.beforeRead = undefined;
    expect((await readAll(mount.vfs, handle, 0, 10)).equals(data.subarray(0, 10))).toBe(true);
  });

  it('wait for nodes to come back, until the deadline', async () => {
    const { cluster, mount, handle } = await bigFile({ timeoutMs: 4_000 });
    let isAway = true;
    cluster.blocks.beforeRead = () => {
      if (isAway) throw new UnavailableError('no node');
    };
    const first = readAll(mount.vfs, handle, 0, 10);
    await cluster.clock.advance(2_000);
    isAway = false;
    await cluster.clock.advance(1_000);
    expect(await first).toHaveLength(10);
    isAway = true;
    const second = expect(readAll(mount.vfs, handle, 9 * BLOCK, 10)).rejects.toMatchObject({ code: 'EIO' });
    await cluster.clock.advance(5_000);
    await second;
  });

  it('end when nothing answers at all', async () => {
    const { cluster, mount, handle } = await bigFile({ timeoutMs: 4_000 });
    cluster.blocks.beforeRead = () => new Promise(() => {});
    const read = expect(readAll(mount.vfs, handle, 0, 10)).rejects.toMatchObject({ code: 'EIO' });
    await cluster.clock.advance(5_000);
    await read;
  });

  it('end with EINTR when the caller is interrupted', async () => {
    const { cluster, mount, handle } = await bigFile();
    cluster.blocks.beforeRead = () => turns(50);
    const interrupt = new AbortController();
    const read = mount.vfs.read({ ...ROOT, signal: interrupt.signal }, handle, 0, 10);
    interrupt.abort();
    await expect(Promise.resolve(read)).rejects.toMatchObject({ code: 'EINTR' });
  });
});

describe('lseek', () => {
  it('finds data and holes, committed or not', async () => {
    const cluster = await TestCluster.start(BLOCK);
    const { vfs } = await cluster.mount();
    const { handle } = await vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_RDWR | O_CREAT);
    await vfs.write(ROOT, handle, 1000, Buffer.alloc(50, 1));
    await vfs.flush(ROOT, handle, 0n);
    await vfs.write(ROOT, handle, 5000, Buffer.alloc(50, 1));
    expect(await vfs.lseek(ROOT, handle, 0, 3)).toBe(1000);
    expect(await vfs.lseek(ROOT, handle, 1000, 4)).toBe(1050);
    expect(await vfs.lseek(ROOT, handle, 1050, 3)).toBe(5000);
    expect(await vfs.lseek(ROOT, handle, 5000, 4)).toBe(5050);
    await expect(Promise.resolve(vfs.lseek(ROOT, handle, 5050, 3))).rejects.toMatchObject({ code: 'ENXIO' });
  });
});

describe('directories', () => {
  it('keep their offsets while entries come and go', async () => {
    const cluster = await TestCluster.start();
    const { vfs, meta } = await cluster.mount();
    const dir = await vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755);
    const count = 3000;
    for (let index = 0; index < count; index += 1) {
      const file = await vfs.create(ROOT, dir.attr.ino, name(`n${String(index).padStart(4, '0')}`), 0o644, O_WRONLY);
      vfs.release(file.handle);
    }
    const { handle } = await vfs.opendir(ROOT, dir.attr.ino);
    const seen: string[] = [];
    const marks: { offset: number; next: string }[] = [];
    const before = meta.queries.length;
    let offset = 0;
    for (let round = 0; ; round += 1) {
      const items = await vfs.readdir(ROOT, handle, offset, 100, true);
      if (items.length === 0) break;
      if (offset > 0) marks.push({ offset, next: Buffer.from(items[0]?.name ?? []).toString() });
      for (const item of items) {
        seen.push(Buffer.from(item.name).toString());
        if (item.name[0] !== 0x2e) expect(item.entry?.attr.ino).toBe(item.ino);
        offset = item.nextOffset;
        // The reader removes what it has read, as rm does.
        if (item.name[0] !== 0x2e && round % 2 === 0) await vfs.unlink(ROOT, dir.attr.ino, item.name);
      }
    }
    expect(seen.slice(0, 2)).toEqual(['.', '..']);
    expect(seen).toHaveLength(count + 2);
    expect(new Set(seen).size).toBe(count + 2);
    expect(meta.queries.length - before).toBeLessThan(10);
    const late = marks.at(-5);
    const again = await vfs.readdir(ROOT, handle, late?.offset ?? 0, 5, true);
    expect(Buffer.from(again[0]?.name ?? []).toString()).toBe(late?.next);
    const restarted = await vfs.readdir(ROOT, handle, 0, 1000, false);
    expect(restarted.length).toBeGreaterThan(2);
  });

  it('fill the caches: what was listed needs no more question', async () => {
    const cluster = await TestCluster.start();
    const writer = await cluster.mount();
    const file = await writer.vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_WRONLY);
    const { vfs, meta } = await cluster.mount();
    const { handle } = await vfs.opendir(ROOT, ROOT_INO);
    await vfs.readdir(ROOT, handle, 0, 100, true);
    const before = meta.queries.length;
    expect(vfs.lookup(ROOT, ROOT_INO, name('f'))).not.toBeInstanceOf(Promise);
    expect(vfs.getattr(ROOT, file.attr.ino, undefined)).not.toBeInstanceOf(Promise);
    expect(meta.queries.length).toBe(before);
  });
});

describe('extended attributes', () => {
  it('pass through; the one asked for on every write is remembered as missing', async () => {
    const cluster = await TestCluster.start();
    const { vfs, meta } = await cluster.mount();
    const { attr } = await vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_RDWR);
    expect(() => vfs.getxattr(ROOT, attr.ino, name('security.capability'))).toThrow(
      expect.objectContaining({ code: 'ENODATA' }),
    );
    expect(meta.queries).toEqual([]);
    await vfs.setxattr(ROOT, attr.ino, name('user.a'), Buffer.from('1'), 'create');
    expect(Buffer.from(await vfs.getxattr(ROOT, attr.ino, name('user.a'))).toString()).toBe('1');
    await expect(
      Promise.resolve(vfs.setxattr(ROOT, attr.ino, name('user.a'), Buffer.from('2'), 'create')),
    ).rejects.toMatchObject({ code: 'EEXIST' });
    expect((await vfs.listxattr(ROOT, attr.ino)).map(String)).toHaveLength(1);
    await expect(Promise.resolve(vfs.getxattr(ROOT, attr.ino, name('user.b')))).rejects.toMatchObject({
      code: 'ENODATA',
    });
    await vfs.removexattr(ROOT, attr.ino, name('user.a'));
    const asked = meta.queries.length;
    for (const which of ['user.a', 'security.selinux']) {
      expect(() => vfs.getxattr(ROOT, attr.ino, name(which))).toThrow(expect.objectContaining({ code: 'ENODATA' }));
    }
    expect(() => vfs.getxattr(ROOT, attr.ino, name('mine.a'))).toThrow(expect.objectContaining({ code: 'EOPNOTSUPP' }));
    expect(await vfs.listxattr(ROOT, attr.ino)).toEqual([]);
    expect(meta.queries.length).toBe(asked);
    expect(await vfs.statfs(ROOT)).toMatchObject({ totalBytes: 1_000_000, freeBytes: 500_000 });
  });
});

describe('access control lists', () => {
  const ACCESS = name('system.posix_acl_access');
  const DEFAULT = name('system.posix_acl_default');
  const list = Buffer.from(encodeAcl(acl('u::rw-,u:7:rw-,g::---,m::rw-,o::---')));
  const noData = expect.objectContaining({ code: 'ENODATA' }) as Error;

  it('that are not there cost no question while the attributes are known', async () => {
    const cluster = await TestCluster.start();
    const { vfs, meta } = await cluster.mount({ attrTimeoutMs: 1_000 });
    const made = await vfs.create(ROOT, ROOT_INO, name('f'), 0o600, O_RDWR);
    const other = await cluster.mount({ attrTimeoutMs: 1_000 });
    const { attr } = await other.vfs.lookup(ROOT, ROOT_INO, name('f'));
    const asked = [meta.queries.length, other.meta.queries.length];
    for (const mount of [vfs, other.vfs]) {
      for (const kind of [ACCESS, DEFAULT]) expect(() => mount.getxattr(ROOT, attr.ino, kind)).toThrow(noData);
    }
    expect([meta.queries.length, other.meta.queries.length]).toEqual(asked);

    await vfs.setxattr(ROOT, made.attr.ino, ACCESS, list, 'any');
    // The mode has come with the reply.
    expect(vfs.getattr(ROOT, made.attr.ino, undefined)).toMatchObject({ attr: { mode: 0o660, hasAcl: true } });
    expect(Buffer.from(await vfs.getxattr(ROOT, made.attr.ino, ACCESS))).toEqual(list);
    expect(() => vfs.getxattr(ROOT, made.attr.ino, DEFAULT)).toThrow(noData);
    // Another mount sees it as soon as it sees the mode.
    expect(() => other.vfs.getxattr(ROOT, attr.ino, ACCESS)).toThrow(noData);
    await cluster.clock.advance(1_001);
    expect(Buffer.from(await other.vfs.getxattr(ROOT, attr.ino, ACCESS))).toEqual(list);
    expect((await other.vfs.getattr(ROOT, attr.ino, undefined)).attr.mode).toBe(0o660);
    await other.vfs.removexattr(ROOT, attr.ino, ACCESS);
    expect(() => other.vfs.getxattr(ROOT, attr.ino, ACCESS)).toThrow(noData);
  });

  it('decide instead of the umask, for what the library makes, too', async () => {
    const cluster = await TestCluster.start();
    const { vfs } = await cluster.mount();
    const fs = new FileSystem(vfs, { uid: 1, gid: 1, umask: 0o077 });
    await fs.mkdir('/d');
    await fs.setxattr('/d', 'system.posix_acl_default', encodeAcl(acl('u::rwx,g::r-x,o::r--')));
    await fs.writeFile('/d/f', '');
    await fs.mkdir('/d/d/e', { recursive: true });
    await fs.writeFile('/f', '');
    const modes = await Promise.all(
      ['/d', '/d/f', '/d/d', '/d/d/e', '/f'].map(async (path) => (await fs.stat(path)).mode),
    );
    expect(modes.map((mode) => (mode & 0o777).toString(8))).toEqual(['700', '644', '754', '754', '600']);
    expect(await fs.listxattr('/d/d/e')).toEqual(['system.posix_acl_default']);
    await expect(fs.setxattr('/f', 'system.posix_acl_access', 'x')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(fs.setxattr('/f', 'system.other', 'x')).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
  });
});

it('a stretch in more pieces than are kept of a file is read as any other', async () => {
  const cluster = await TestCluster.start(BLOCK);
  const mount = await cluster.mount();
  const { attr, handle } = await mount.vfs.create(ROOT, ROOT_INO, name('pieces'), 0o644, O_RDWR | O_CREAT);
  const count = EXTENTS_KEPT + 1_000;
  for (let first = 0; first < count; first += 1_000) {
    const extents = Array.from({ length: 1_000 }, (_, index) => {
      const data = Buffer.from([first + index]);
      return { kind: 'inline' as const, offset: 2 * (first + index), lengthBytes: 1, data };
    });
    const growToBytes = 2 * (first + 1_000);
    await mount.meta.mutate({ op: 'commit', ino: attr.ino, extents, growToBytes, mtimeNs: 'now' });
  }
  mount.vfs.release((await mount.vfs.open(ROOT, attr.ino, O_RDONLY)).handle);
  const expected = Buffer.from(Array.from({ length: 2 * count }, (_, at) => (at % 2 === 0 ? at / 2 : 0)));
  expect((await readAll(mount.vfs, handle, 0, 2 * count)).equals(expected)).toBe(true);
}, 30_000);
