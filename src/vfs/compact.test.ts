/** Compaction through whole mounts, on a clock that moves when told. */
import { describe, expect, it } from 'vitest';
import { StaleBlocksError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import type { Extent, Mutation } from '../meta/types.ts';
import { O_CREAT, O_RDONLY, O_RDWR } from './handles.ts';
import { COMPACT_ATTEMPTS, COMPACT_LATEST_MS } from './options.ts';
import { name, pattern, readAll, ROOT, TestCluster, WatchedKernel, type TestMount } from './testing.ts';

const BLOCK = 64 * 1024;
const PIECE = 4096;
const QUIET_MS = 10_000;
const SEEK_HOLE = 4;
const FALLOC_PUNCH = 3;

interface World {
  readonly cluster: TestCluster;
  readonly mount: TestMount;
  readonly ino: Ino;
  readonly handle: number;
  /** What the file should hold. */
  readonly content: Buffer;
}

/** A file of two blocks. */
async function start(): Promise<World> {
  const cluster = await TestCluster.start(BLOCK);
  const mount = await cluster.mount();
  const { attr, handle } = await mount.vfs.create(ROOT, ROOT_INO, name('db'), 0o644, O_RDWR | O_CREAT);
  const content = pattern(2 * BLOCK, 1);
  await mount.vfs.write(ROOT, handle, 0, content);
  await mount.vfs.fsync(ROOT, handle, false);
  return { cluster, mount, ino: attr.ino, handle, content };
}

/** Small writes with an fsync each, the same in what the file should hold. */
async function scatter({ mount, handle, content }: World, offsets: readonly number[], seed: number): Promise<void> {
  for (const [index, offset] of offsets.entries()) {
    const data = pattern(PIECE, seed + index);
    data.copy(content, offset);
    await mount.vfs.write(ROOT, handle, offset, data);
    await mount.vfs.fsync(ROOT, handle, false);
  }
}

const EVERY_OTHER = [6, 2, 0, 4, 8, 10].map((n) => n * PIECE);

async function extentsOf({ mount, ino }: World): Promise<readonly Extent[]> {
  const query = { op: 'extents', ino, offset: 0, lengthBytes: 10 * BLOCK, limit: 1_000 } as const;
  return (await mount.meta.query<'extents'>(query)).extents;
}

async function attrOf({ mount, ino }: World) {
  return (await mount.meta.query<'getattr'>({ op: 'getattr', ino })).attr;
}

function compactions({ meta }: TestMount): readonly Mutation[] {
  return meta.mutations.filter(({ op }) => op === 'compact');
}

/** As every mount sees it, a new one and those that there are. */
async function expectContent({ cluster, mount, ino, content }: World, ...others: TestMount[]): Promise<void> {
  for (const reader of [mount, ...others, await cluster.mount()]) {
    const { handle } = await reader.vfs.open(ROOT, ino, O_RDONLY);
    expect(Buffer.compare(await readAll(reader.vfs, handle, 0, 10 * BLOCK), content)).toBe(0);
    reader.vfs.release(handle);
    expect(reader.logged.filter(({ level }) => level !== 'debug')).toEqual([]);
  }
}

describe('a file that was written in small pieces', () => {
  it('is put together once it is quiet, and nothing else of it changes', async () => {
    const world = await start();
    const { cluster, mount, ino } = world;
    const kernel = new WatchedKernel();
    mount.vfs.setNotifier(kernel);
    await scatter(world, EVERY_OTHER, 10);
    expect(await extentsOf(world)).toHaveLength(13);
    const before = await attrOf(world);
    await cluster.clock.advance(QUIET_MS - 100);
    expect(compactions(mount)).toEqual([]);
    await cluster.clock.advance(2_000);
    expect(await extentsOf(world)).toMatchObject([
      { offset: 0, lengthBytes: BLOCK, blockOffset: 0, blockBytes: BLOCK },
      { offset: BLOCK, lengthBytes: BLOCK },
    ]);
    expect(await attrOf(world)).toEqual({ ...before, version: before.version + 1 });
    expect((await mount.vfs.getattr(ROOT, ino, undefined)).attr).toEqual(await attrOf(world));
    await expectContent(world);
    expect(kernel.dropped).toEqual([]);
    // The kernel may keep its pages: they show the same bytes.
    expect((await mount.vfs.open(ROOT, ino, O_RDONLY)).keepCache).toBe(true);
    expect(mount.vfs.usage().compacted).toMatchObject({ slotCount: 1, savedCount: 11, writtenBytes: BLOCK });
    // And then there is nothing more to do.
    expect(cluster.clock.timerCount).toBe(0);
  });

  it('is left alone where that is too little', async () => {
    const world = await start();
    await scatter(world, [0, 2 * PIECE, 4 * PIECE], 10);
    await scatter(world, [BLOCK, BLOCK + 2 * PIECE, BLOCK + 4 * PIECE], 20);
    // The same place again and again.
    for (let seed = 30; seed < 45; seed += 1) await scatter(world, [PIECE * 4], seed);
    await world.cluster.clock.advance(2 * COMPACT_LATEST_MS);
    expect(compactions(world.mount)).toEqual([]);
    await expectContent(world);
  });

  it('is left alone where a mount is told so', async () => {
    const cluster = await TestCluster.start(BLOCK);
    const mount = await cluster.mount({ compactAfterMs: 0 });
    const { attr, handle } = await mount.vfs.create(ROOT, ROOT_INO, name('db'), 0o644, O_RDWR | O_CREAT);
    const world = { cluster, mount, ino: attr.ino, handle, content: Buffer.alloc(11 * PIECE) };
    await scatter(world, EVERY_OTHER, 10);
    await scatter(
      world,
      EVERY_OTHER.slice(0, 5).map((offset) => offset + PIECE),
      20,
    );
    await cluster.clock.advance(2 * COMPACT_LATEST_MS);
    expect(compactions(mount)).toEqual([]);
    expect(await extentsOf(world)).toHaveLength(11);
  });

  it('is put together at last though it is never quiet', async () => {
    const world = await start();
    await scatter(world, EVERY_OTHER, 10);
    for (let nowMs = 0; nowMs < COMPACT_LATEST_MS + 2_000; nowMs += 2_000) {
      await scatter(world, [EVERY_OTHER[(nowMs / 2_000) % 6]!], nowMs);
      await world.cluster.clock.advance(2_000);
    }
    expect(compactions(world.mount)).toHaveLength(1);
    await expectContent(world);
  });

  it('keeps its holes', async () => {
    const world = await start();
    const { mount, handle, content } = world;
    await mount.vfs.fallocate(ROOT, handle, 5 * PIECE, PIECE, FALLOC_PUNCH);
    content.fill(0, 5 * PIECE, 6 * PIECE);
    await scatter(world, EVERY_OTHER, 10);
    const before = await attrOf(world);
    await world.cluster.clock.advance(2 * QUIET_MS);
    expect((await extentsOf(world)).map(({ offset, lengthBytes }) => [offset, lengthBytes])).toEqual([
      [0, 5 * PIECE],
      [6 * PIECE, 10 * PIECE],
      [BLOCK, BLOCK],
    ]);
    expect(await attrOf(world)).toEqual({ ...before, version: before.version + 2 });
    expect(await mount.vfs.lseek(ROOT, handle, 0, SEEK_HOLE)).toBe(5 * PIECE);
    await expectContent(world);
  });

  it('is put together by who reads it in order, if who wrote it is gone', async () => {
    const world = await start();
    await scatter(world, EVERY_OTHER, 10);
    await world.mount.vfs.close();
    expect(world.cluster.clock.timerCount).toBe(0);
    const reader = await world.cluster.mount();
    const { handle } = await reader.vfs.open(ROOT, world.ino, O_RDONLY);
    for (let at = 0; at < 2 * BLOCK; at += 16_384) await readAll(reader.vfs, handle, at, 16_384);
    await world.cluster.clock.advance(QUIET_MS + 1_000);
    expect(compactions(reader)).toHaveLength(1);
    await expectContent({ ...world, mount: reader });
    expect(await extentsOf({ ...world, mount: reader })).toHaveLength(2);
  });

  it('is not put together any more by a mount that is being closed', async () => {
    const world = await start();
    const { cluster, mount } = world;
    await scatter(world, EVERY_OTHER, 10);
    const reached = new Promise<void>((resolve) => {
      cluster.blocks.beforePut = () => {
        resolve();
        return new Promise<void>((go) => setImmediate(go));
      };
    });
    void cluster.clock.advance(QUIET_MS + 1_000);
    await reached;
    await mount.vfs.close();
    expect(compactions(mount)).toEqual([]);
  });

  it('can be put together at once', async () => {
    const world = await start();
    const { mount, ino } = world;
    await scatter(world, [...EVERY_OTHER, ...EVERY_OTHER.map((offset) => BLOCK + offset)], 10);
    const seen: number[] = [];
    const done = await mount.vfs.compact(ino, { onProgress: ({ slotCount }) => void seen.push(slotCount) });
    expect(done).toEqual({ slotCount: 2, savedCount: 22, writtenBytes: 2 * BLOCK, changedCount: 0 });
    expect(seen).toEqual([1, 2]);
    expect(await extentsOf(world)).toHaveLength(2);
    expect((await mount.vfs.compact(ino)).slotCount).toBe(0);
    await expectContent(world);
    await expect(mount.vfs.compact(ROOT_INO)).rejects.toMatchObject({ code: 'EISDIR' });
  });
});

describe('whoever writes while a file is put together loses nothing', () => {
  /** What happens between the reading and the moment when the group is asked to name the new block. */
  async function meanwhile(change: (world: World, other: TestMount, there: number) => Promise<void>): Promise<World> {
    const world = await start();
    const { cluster, mount, ino } = world;
    const other = await cluster.mount();
    const { handle: there } = await other.vfs.open(ROOT, ino, O_RDWR);
    await scatter(world, EVERY_OTHER, 10);
    let count = 0;
    mount.meta.beforeMutate = async (mutation) => {
      if (mutation.op === 'compact' && (count += 1) === 1) await change(world, other, there);
    };
    await cluster.clock.advance(QUIET_MS + 1_000);
    expect(count).toBeGreaterThan(0);
    await mount.vfs.fsync(ROOT, world.handle, false);
    await expectContent(world, other);
    return world;
  }

  it('through another mount, into the same range', async () => {
    const world = await meanwhile(async ({ content }, other, there) => {
      content.fill(7, 3_000, 9_000);
      await other.vfs.write(ROOT, there, 3_000, Buffer.alloc(6_000, 7));
      await other.vfs.fsync(ROOT, there, false);
    });
    expect((await extentsOf(world)).length).toBeGreaterThan(2);
    // It is tried again later.
    await world.cluster.clock.advance(QUIET_MS + 1_000);
    expect(await extentsOf(world)).toHaveLength(2);
    await expectContent(world);
  });

  it('through another mount, elsewhere in the file: that is no reason to wait', async () => {
    const world = await meanwhile(async ({ content }, other, there) => {
      content.fill(7, BLOCK + 3_000, BLOCK + 9_000);
      await other.vfs.write(ROOT, there, BLOCK + 3_000, Buffer.alloc(6_000, 7));
      await other.vfs.fsync(ROOT, there, false);
    });
    expect((await extentsOf(world))[0]).toMatchObject({ offset: 0, lengthBytes: BLOCK });
    expect(compactions(world.mount)).toHaveLength(1);
  });

  it('through the same mount, before and after its commit', async () => {
    for (const isFlushed of [false, true]) {
      await meanwhile(async ({ mount, handle, content }) => {
        content.fill(7, 3_000, 9_000);
        await mount.vfs.write(ROOT, handle, 3_000, Buffer.alloc(6_000, 7));
        // Its commit is in line behind the compaction.
        if (isFlushed) void mount.vfs.fsync(ROOT, handle, false);
      });
    }
  });

  it('by a truncation, a hole, and writing again what was cut off', async () => {
    await meanwhile(async ({ content, ino }, other, there) => {
      content.fill(0, 9_000, 2 * BLOCK);
      await other.vfs.setattr(ROOT, ino, { sizeBytes: 9_000 }, there);
      await other.vfs.setattr(ROOT, ino, { sizeBytes: 2 * BLOCK }, there);
    });
    await meanwhile(async ({ content }, other, there) => {
      content.fill(0, 9_000, 19_000);
      await other.vfs.fallocate(ROOT, there, 9_000, 10_000, FALLOC_PUNCH);
    });
  });

  it('again and again: it is then left alone', async () => {
    const world = await start();
    const { cluster, mount, ino, content } = world;
    const other = await cluster.mount({ compactAfterMs: 0 });
    const { handle: there } = await other.vfs.open(ROOT, ino, O_RDWR);
    await scatter(world, EVERY_OTHER, 10);
    let count = 0;
    mount.meta.beforeMutate = async (mutation) => {
      if (mutation.op !== 'compact') return;
      content.fill((count += 1), 100, 200);
      await other.vfs.write(ROOT, there, 100, Buffer.alloc(100, count));
      await other.vfs.fsync(ROOT, there, false);
    };
    await cluster.clock.advance((COMPACT_ATTEMPTS + 5) * (QUIET_MS + 2_000));
    expect(count).toBe(COMPACT_ATTEMPTS);
    await expectContent(world, other);
  });
});

it('blocks that a garbage collection might take are put again', async () => {
  const world = await start();
  const { mount, cluster } = world;
  await scatter(world, EVERY_OTHER, 10);
  let refusals = 2;
  mount.meta.beforeMutate = (mutation) => {
    if (mutation.op === 'compact' && refusals-- > 0) throw new StaleBlocksError('again');
  };
  await cluster.clock.advance(QUIET_MS + 1_000);
  expect(compactions(mount).map((mutation) => mutation.op === 'compact' && mutation.generation)).toEqual([1, 2, 3]);
  expect(await extentsOf(world)).toHaveLength(2);
  await expectContent(world);
});

it('a merge that cannot be read or stored harms nothing, and is done later', async () => {
  const world = await start();
  const { mount, cluster } = world;
  await scatter(world, EVERY_OTHER, 10);
  mount.vfs.release(world.handle);
  cluster.blocks.beforePut = () => {
    throw new Error('the disk is full of eels');
  };
  await cluster.clock.advance(QUIET_MS + 1_000);
  expect(await extentsOf(world)).toHaveLength(13);
  expect(mount.logged).toMatchObject([{ level: 'debug', message: 'a file could not be compacted' }]);
  cluster.blocks.beforePut = undefined;
  await cluster.clock.advance(QUIET_MS + 2_000);
  expect(await extentsOf(world)).toHaveLength(2);
  await expectContent(world);
});

it('an answer that got lost leaves nothing behind that is not so', async () => {
  const world = await start();
  const { mount, cluster } = world;
  await scatter(world, EVERY_OTHER, 10);
  mount.meta.afterMutate = (mutation) => {
    if (mutation.op !== 'compact') return;
    mount.meta.afterMutate = undefined;
    throw new Error('the answer is lost');
  };
  await cluster.clock.advance(QUIET_MS + 1_000);
  expect(await extentsOf(world)).toHaveLength(2);
  await scatter(world, [PIECE], 50);
  await expectContent(world);
});
