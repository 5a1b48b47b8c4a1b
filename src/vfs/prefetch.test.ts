/**
 * What is given to the kernel ahead of who reads at random. The kernel here is a model of its page cache: it takes what it is given whenever
 * its turn comes, over whatever it has, and drops pages only once it has an answer that says so.
 */
import { describe, expect, it } from 'vitest';
import { KiB } from '../limits.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import { O_CREAT, O_DIRECT, O_RDONLY, O_RDWR, O_TRUNC } from './handles.ts';
import type { Handle, KernelNotifier } from './ops.ts';
import { name, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const PAGE = 4 * KiB;
/** Four pages of verification. */
const BLOCK = 256 * KiB;
const PAGES_OF_BLOCK = BLOCK / PAGE;

/** Numbers that look random, the same for the same seed. */
function randomOf(seed: number): (below: number) => number {
  let state = seed * 2654435761 + 1;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

class Kernel implements KernelNotifier {
  readonly expiresNames = true;
  readonly pages = new Map<number, Buffer>();
  /** Reads that came to the mount. */
  asked = 0;
  stored = 0;
  readonly #mount: TestMount;
  readonly #ino: Ino;
  readonly #random: (below: number) => number;
  readonly #locked = new Map<number, Promise<unknown>>();
  /** Notifications wait for it. */
  gate: Promise<void> = Promise.resolve();
  dropped = 0;
  #told: Promise<unknown> = Promise.resolve();

  constructor(mount: TestMount, ino: Ino, random: (below: number) => number) {
    this.#mount = mount;
    this.#ino = ino;
    this.#random = random;
    mount.vfs.setNotifier(this);
  }

  store(_ino: Ino, offset: number, data: readonly Uint8Array[]): Promise<boolean> {
    return this.#tell(async () => {
      let first = offset / PAGE;
      for (const part of data) {
        expect(part.length % PAGE).toBe(0);
        for (let at = 0; at < part.length; at += PAGE, first += 1) {
          // Whoever reads or writes the page has it locked.
          while (this.#locked.has(first)) await this.#locked.get(first);
          this.pages.set(first, Buffer.from(part.subarray(at, at + PAGE)));
        }
      }
      this.stored += 1;
      return true;
    });
  }
  async invalidateInode(): Promise<void> {
    await this.#tell(async () => {
      this.dropped += 1;
      this.pages.clear();
    });
  }
  async invalidateAttributes(): Promise<void> {}
  invalidateEntry(): void {}

  /** One after the other, each some time later. */
  async #tell<T>(what: () => Promise<T>): Promise<T> {
    const told = this.#told.then(async () => {
      await turns(this.#random(8));
      await this.gate;
      return await what();
    });
    this.#told = told;
    return await told;
  }

  async open(flags: number): Promise<Handle> {
    const { handle, keepCache } = await this.#mount.vfs.open(ROOT, this.#ino, flags);
    await turns(this.#random(3));
    if (!keepCache || (flags & O_TRUNC) !== 0) this.pages.clear();
    return handle;
  }

  /** The number that stands in the page. */
  async read(handle: Handle, page: number): Promise<number> {
    return await this.#lock(page, async () => {
      let bytes = this.pages.get(page);
      if (bytes === undefined) {
        this.asked += 1;
        bytes = await readAll(this.#mount.vfs, handle, page * PAGE, PAGE);
        await turns(this.#random(2));
        if (bytes.length === PAGE) this.pages.set(page, bytes);
      }
      return bytes.length < 4 ? 0 : bytes.readUInt32LE(0);
    });
  }

  async write(handle: Handle, page: number, value: number): Promise<void> {
    await this.#lock(page, async () => {
      const bytes = filled(value);
      this.pages.set(page, bytes);
      await this.#mount.vfs.write(ROOT, handle, page * PAGE, bytes);
    });
  }

  async cut(pages: number): Promise<void> {
    await this.#mount.vfs.setattr(ROOT, this.#ino, { sizeBytes: pages * PAGE }, undefined);
    for (const page of [...this.pages.keys()]) if (page >= pages) this.pages.delete(page);
  }

  async close(handle: Handle): Promise<void> {
    await this.#mount.vfs.flush(ROOT, handle, 0n);
    this.#mount.vfs.release(handle);
  }

  async #lock<T>(page: number, work: () => Promise<T>): Promise<T> {
    while (this.#locked.has(page)) await this.#locked.get(page);
    const done = work();
    const isDone = done.then(
      () => undefined,
      () => undefined,
    );
    this.#locked.set(page, isDone);
    try {
      return await done;
    } finally {
      this.#locked.delete(page);
    }
  }
}

function filled(value: number): Buffer {
  const bytes = Buffer.alloc(PAGE);
  for (let at = 0; at < PAGE; at += 4) bytes.writeUInt32LE(value, at);
  return bytes;
}

interface Setup {
  readonly cluster: TestCluster;
  readonly mount: TestMount;
  readonly other: TestMount;
  readonly kernel: Kernel;
  readonly ino: Ino;
}

/** A file of blocks whose pages hold their number + 1. */
async function setup({ blocks = 4, seed = 1, prefetchBytes = 1e9 } = {}): Promise<Setup> {
  const cluster = await TestCluster.start(BLOCK);
  cluster.blocks.aheadCount = () => 4;
  const limits = { prefetchBytes, compactAfterMs: 0 };
  const [mount, other] = [await cluster.mount(limits), await cluster.mount(limits)];
  const made = await other.vfs.create(ROOT, ROOT_INO, name('file'), 0o644, O_RDWR | O_CREAT);
  for (let page = 0; page < blocks * PAGES_OF_BLOCK; page += 1) {
    await other.vfs.write(ROOT, made.handle, page * PAGE, filled(page + 1));
  }
  await other.vfs.flush(ROOT, made.handle, 0n);
  other.vfs.release(made.handle);
  const { ino } = made.attr;
  await mount.vfs.lookup(ROOT, ROOT_INO, name('file'));
  return { cluster, mount, other, kernel: new Kernel(mount, ino, randomOf(seed)), ino };
}

/** At two places of each block: enough for its rest to be fetched. */
async function readHereAndThere(kernel: Kernel, handle: Handle, blocks: number): Promise<void> {
  for (const at of [PAGES_OF_BLOCK - 3, 5]) {
    for (let block = 0; block < blocks; block += 1) await kernel.read(handle, block * PAGES_OF_BLOCK + at);
  }
}

it('the kernel gets the rest of what is read at random, and asks no more', async () => {
  const { kernel, mount } = await setup();
  const handle = await kernel.open(O_RDONLY);
  await readHereAndThere(kernel, handle, 4);
  await turns(200);
  expect([kernel.pages.size, mount.vfs.usage().prefetchedBytes]).toEqual([4 * PAGES_OF_BLOCK, 4 * BLOCK]);
  const { asked } = kernel;
  for (let page = 0; page < 4 * PAGES_OF_BLOCK; page += 1) expect(await kernel.read(handle, page)).toBe(page + 1);
  expect(kernel.asked).toBe(asked);
});

it('the page in which the file ends is left to the kernel', async () => {
  const { kernel, other, ino } = await setup({ blocks: 2 });
  await other.vfs.setattr(ROOT, ino, { sizeBytes: 2 * BLOCK - 1000 }, undefined);
  const handle = await kernel.open(O_RDONLY);
  await readHereAndThere(kernel, handle, 2);
  await turns(200);
  expect([kernel.pages.size, kernel.pages.has(2 * PAGES_OF_BLOCK - 1)]).toEqual([2 * PAGES_OF_BLOCK - 1, false]);
});

it.each([
  ['a file is longer than may be given', { prefetchBytes: 4 * BLOCK - 1 }, O_RDONLY],
  ['it is turned off', { prefetchBytes: 0 }, O_RDONLY],
  ['it is read past the pages', {}, O_RDONLY | O_DIRECT],
  ['it may be written', {}, O_RDWR],
])('nothing is given when %s', async (_when, options, flags) => {
  const { kernel } = await setup(options);
  const handle = await kernel.open(flags);
  await readHereAndThere(kernel, handle, 4);
  await turns(200);
  expect(kernel.stored).toBe(0);
});

it('nothing is given of a file in which something is locked', async () => {
  const { kernel, mount } = await setup();
  const handle = await kernel.open(O_RDONLY);
  await mount.vfs.setlk(ROOT, handle, { kind: 'posix', owner: 5n }, { type: 'read', start: 0, end: 9, pid: 1 }, false);
  await readHereAndThere(kernel, handle, 4);
  await turns(200);
  expect(kernel.stored).toBe(0);
});

it('what cannot be read is left alone', async () => {
  const { kernel, cluster } = await setup();
  cluster.blocks.beforeRead = (_key, priority) => {
    if (priority === 'readahead') throw new Error('no such disk');
  };
  const handle = await kernel.open(O_RDONLY);
  await readHereAndThere(kernel, handle, 4);
  await turns(200);
  expect(kernel.stored).toBe(0);
  expect(await kernel.read(handle, 20)).toBe(21);
});

it('a mount that is closed gives nothing more', async () => {
  const { kernel, cluster, mount } = await setup();
  const fetched = gate();
  cluster.blocks.beforeRead = (_key, priority) => (priority === 'readahead' ? fetched.gate : undefined);
  const handle = await kernel.open(O_RDONLY);
  await readHereAndThere(kernel, handle, 4);
  await turns();
  const closed = mount.vfs.close();
  await turns();
  fetched.letGo();
  await closed;
  await turns();
  expect([kernel.stored, cluster.blocks.readsInFlight]).toEqual([0, 0]);
});

/** A gate, and what opens it. */
function gate(): { readonly gate: Promise<void>; readonly letGo: () => void } {
  let letGo!: () => void;
  return { gate: new Promise<void>((resolve) => (letGo = resolve)), letGo };
}

describe('what is on its way to the kernel is waited for', () => {
  const PATHS: readonly (readonly [string, (setup: Setup) => Promise<unknown>])[] = [
    ['by an open for writing', ({ kernel }) => kernel.open(O_RDWR)],
    ['by an open that empties', ({ kernel }) => kernel.open(O_RDWR | O_TRUNC)],
    [
      'by a create that finds the file',
      ({ mount }) => Promise.resolve(mount.vfs.create(ROOT, ROOT_INO, name('file'), 0o644, O_RDWR | O_CREAT)),
    ],
    ['by who cuts it', ({ kernel }) => kernel.cut(3)],
    [
      'by who cuts it after it was closed',
      async ({ kernel, mount }) => {
        mount.vfs.release(1);
        await kernel.cut(3);
      },
    ],
  ];
  it.each(PATHS)('%s', async (_who, act) => {
    const made = await setup();
    const { kernel } = made;
    const held = gate();
    kernel.gate = held.gate;
    const handle = await kernel.open(O_RDONLY);
    expect(handle).toBe(1);
    await readHereAndThere(kernel, handle, 4);
    await turns(50);
    let isDone = false;
    const done = act(made).then(() => (isDone = true));
    await turns(50);
    expect([isDone, kernel.stored]).toEqual([false, 0]);
    held.letGo();
    await done;
    expect(kernel.stored).toBeGreaterThan(0);
  });
});

it('an inode that the kernel forgets while something is on its way to it stays known', async () => {
  const { kernel, mount, ino } = await setup();
  const held = gate();
  const handle = await kernel.open(O_RDONLY);
  kernel.gate = held.gate;
  await readHereAndThere(kernel, handle, 4);
  await turns(50);
  mount.vfs.release(handle);
  mount.vfs.forget(ino, 1);
  let isOpen = false;
  const opening = kernel.open(O_RDWR).then(() => (isOpen = true));
  await turns(50);
  expect(isOpen).toBe(false);
  held.letGo();
  await opening;
});

it('nothing is given while the file is being opened, and goes on after it', async () => {
  const { kernel, mount, cluster } = await setup();
  const handle = await kernel.open(O_RDONLY);
  const [asked, fetched] = [gate(), gate()];
  cluster.blocks.beforeRead = (_key, priority) => (priority === 'readahead' ? fetched.gate : undefined);
  await readHereAndThere(kernel, handle, 4);
  mount.meta.beforeQuery = ({ op }) => (op === 'extents' || op === 'getattr' ? asked.gate : undefined);
  const opening = kernel.open(O_RDONLY);
  await turns();
  fetched.letGo();
  await turns(100);
  expect(kernel.stored).toBe(0);
  asked.letGo();
  await opening;
  await turns(200);
  expect(kernel.pages.size).toBe(4 * PAGES_OF_BLOCK);
});

it('nothing is given over what was written and is not stored yet', async () => {
  const { kernel, mount } = await setup();
  const writing = await kernel.open(O_RDWR);
  const commit = gate();
  mount.meta.beforeMutate = ({ op }) => (op === 'commit' ? commit.gate : undefined);
  await kernel.write(writing, 40, 77);
  mount.vfs.release(writing);
  const handle = await kernel.open(O_RDONLY);
  await readHereAndThere(kernel, handle, 4);
  await turns(200);
  expect([await kernel.read(handle, 40), kernel.stored]).toEqual([77, 0]);
  commit.letGo();
  await turns(200);
  expect(await kernel.read(handle, 40)).toBe(77);
});

it('when another mount has changed the file meanwhile the kernel drops what it was given', async () => {
  const { kernel, mount, other, ino } = await setup();
  const held = gate();
  kernel.gate = held.gate;
  const handle = await kernel.open(O_RDONLY);
  await readHereAndThere(kernel, handle, 4);
  await turns(50);
  await other.vfs.setattr(ROOT, ino, { sizeBytes: PAGE }, undefined);
  await mount.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined);
  held.letGo();
  await turns(200);
  // As much as was on its way.
  expect([kernel.stored, kernel.dropped, kernel.pages.size]).toEqual([2, 2, 0]);
});

/** What stood in the pages, in order; what is done of it must be seen. */
class Truth {
  readonly #pages: { readonly values: number[]; doneCount: number }[] = [];
  constructor(count: number) {
    for (let page = 0; page < count; page += 1) this.#pages.push({ values: [page + 1], doneCount: 0 });
  }
  begins(page: number, value: number): () => void {
    const known = this.#pages[page]!;
    const index = known.values.push(value) - 1;
    return () => (known.doneCount = Math.max(known.doneCount, index));
  }
  /** Called before the read; what it yields says whether that could be read. */
  reader(page: number): (value: number) => boolean {
    const known = this.#pages[page]!;
    const from = known.doneCount;
    return (value) => known.values.slice(from).includes(value);
  }
}

const SEEDS = Array.from({ length: 40 }, (_, index) => index + 1);

it.each(SEEDS)('no page is older than what was written here (seed %i)', async (seed) => {
  const blocks = 4;
  const count = blocks * PAGES_OF_BLOCK;
  const { kernel, cluster } = await setup({ blocks, seed });
  const random = randomOf(seed + 1000);
  const truth = new Truth(count);
  let stamp = 1_000_000;
  let isOver = false;
  // Slow enough that much happens while something is on its way.
  cluster.blocks.beforeRead = async (_key, priority) => await turns(random(priority === 'readahead' ? 12 : 3));
  const wrong: string[] = [];
  const reader = async (): Promise<void> => {
    while (!isOver) {
      const handle = await kernel.open(O_RDONLY);
      for (let reads = 5 + random(30); reads > 0 && !isOver; reads -= 1) {
        const page = random(count);
        const couldBe = truth.reader(page);
        const value = await kernel.read(handle, page);
        if (!couldBe(value)) wrong.push(`page ${page} held ${value}`);
        await turns(1);
      }
      await kernel.close(handle);
    }
  };
  const writer = async (): Promise<void> => {
    for (let round = 0; round < 12; round += 1) {
      await turns(10 + random(60));
      if (random(3) === 0) {
        const pages = random(count);
        const zeroed = Array.from({ length: count - pages }, (_, index) => truth.begins(pages + index, 0));
        if (random(2) === 0) await kernel.cut(pages);
        else {
          for (let page = 0; page < pages; page += 1) zeroed.push(truth.begins(page, 0));
          await kernel.close(await kernel.open(O_RDWR | O_TRUNC));
        }
        for (const done of zeroed) done();
      }
      const handle = await kernel.open(O_RDWR);
      for (let writes = random(10); writes > 0; writes -= 1) {
        const page = random(count);
        const done = truth.begins(page, (stamp += 1));
        await kernel.write(handle, page, stamp);
        done();
      }
      // So that the file is long, and blocks are worth being fetched.
      for (let page = 0; page < count; page += 1) {
        const done = truth.begins(page, (stamp += 1));
        await kernel.write(handle, page, stamp);
        done();
      }
      await kernel.close(handle);
      await cluster.clock.advance(400_000);
    }
    isOver = true;
  };
  await Promise.all([reader(), reader(), writer()]);
  expect([wrong, kernel.stored > 0]).toEqual([[], true]);
});

it.each(SEEDS)('an open sees what others had written before (seed %i)', async (seed) => {
  const blocks = 3;
  const count = blocks * PAGES_OF_BLOCK;
  const { kernel, cluster, other, ino } = await setup({ blocks, seed });
  const random = randomOf(seed + 2000);
  const current = Array.from({ length: count }, (_, page) => page + 1);
  cluster.blocks.beforeRead = async (_key, priority) => await turns(random(priority === 'readahead' ? 12 : 3));
  for (let round = 0; round < 10; round += 1) {
    const reading = await kernel.open(O_RDONLY);
    await readHereAndThere(kernel, reading, blocks);
    await turns(random(40));
    const writing = (await other.vfs.open(ROOT, ino, O_RDWR)).handle;
    for (let writes = 0; writes < 20; writes += 1) {
      const page = random(count);
      current[page] = 1_000 * (round + 1) + writes;
      await other.vfs.write(ROOT, writing, page * PAGE, filled(current[page]));
    }
    await other.vfs.flush(ROOT, writing, 0n);
    other.vfs.release(writing);
    const handle = await kernel.open(O_RDONLY);
    const seen: number[] = [];
    for (let page = 0; page < count; page += 1) seen.push(await kernel.read(handle, page));
    expect([round, seen]).toEqual([round, current]);
    await kernel.close(reading);
    await turns(random(30));
    for (let page = 0; page < count; page += 1)
      expect([page, await kernel.read(handle, page)]).toEqual([page, current[page]]);
    await kernel.close(handle);
    await cluster.clock.advance(400_000);
  }
  expect(kernel.stored).toBeGreaterThan(0);
});
