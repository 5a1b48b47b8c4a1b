/** O_APPEND from several mounts: whose bytes are where is decided by the servers. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ROOT_INO } from '../ids.ts';
import { O_APPEND, O_CREAT, O_RDWR, O_WRONLY } from './handles.ts';
import { name, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const BLOCK = 4096;

type Step =
  | { readonly kind: 'append'; readonly mount: number; readonly length: number }
  | { readonly kind: 'flush' | 'read' | 'turn'; readonly mount: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      mount: fc.nat(1),
      length: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 * BLOCK })),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('flush' as const, 'read' as const, 'turn' as const),
      mount: fc.nat(1),
    }),
  },
);

/** Each write is full of its number, which tells mount and place in line. */
interface Written {
  readonly value: number;
  readonly length: number;
}

/** The writes that the content is made of, in its order. */
function writesIn(content: Uint8Array): Written[] {
  const found: Written[] = [];
  for (let at = 0; at < content.length;) {
    const value = content[at]!;
    let end = at;
    while (end < content.length && content[end] === value) end += 1;
    found.push({ value, length: end - at });
    at = end;
  }
  return found;
}

async function append(mount: TestMount, handle: number, { value, length }: Written): Promise<void> {
  // Where the kernel takes the end to be: it is not asked.
  expect(await mount.vfs.write(ROOT, handle, 0, new Uint8Array(length).fill(value))).toBe(length);
}

it('writes of two mounts are whole, all there, and each mount’s in its order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 60 }), async (steps) => {
      const cluster = await TestCluster.start(BLOCK);
      const limits = { dirtyMaxBytes: 6 * BLOCK, inlineMaxBytes: 200 };
      const mounts = [await cluster.mount(limits), await cluster.mount(limits)] as const;
      cluster.blocks.beforePut = () => turns(1);
      const { attr } = await mounts[0].vfs.create(ROOT, ROOT_INO, name('log'), 0o644, O_RDWR | O_CREAT);
      const handles = await Promise.all(
        mounts.map(async ({ vfs }) => (await vfs.open(ROOT, attr.ino, O_RDWR | O_APPEND)).handle),
      );
      const written: Written[][] = [[], []];
      for (const one of steps) {
        const mount = mounts[one.mount]!;
        const handle = handles[one.mount]!;
        const own = written[one.mount]!;
        if (one.kind === 'append') {
          const next = { value: 1 + one.mount * 100 + own.length, length: one.length };
          own.push(next);
          await append(mount, handle, next);
        } else if (one.kind === 'flush') {
          await mount.vfs.flush(ROOT, handle, 0n);
        } else if (one.kind === 'read') {
          // All of its own is there, whatever the others do.
          const seen = writesIn(await readAll(mount.vfs, handle, 0, 1e6));
          expect(seen.filter(({ value }) => value > 100 === (one.mount === 1))).toEqual(own);
        } else await turns(3);
      }
      for (const [index, { vfs }] of mounts.entries()) await vfs.flush(ROOT, handles[index]!, 0n);
      await turns();
      const reader = await cluster.mount();
      const opened = await reader.vfs.open(ROOT, attr.ino, O_RDWR);
      const all = writesIn(await readAll(reader.vfs, opened.handle, 0, 1e6));
      expect(all.filter(({ value }) => value < 101)).toEqual(written[0]);
      expect(all.filter(({ value }) => value > 100)).toEqual(written[1]);
      for (const mount of mounts) {
        expect(mount.vfs.usage().dirtyBytes).toBe(0);
        expect(mount.logged.filter((line) => line.level !== 'debug')).toEqual([]);
      }
    }),
    { numRuns: 150 },
  );
}, 60_000);

it('young pieces are merged only into a file that nobody else has changed', async () => {
  const cluster = await TestCluster.start(BLOCK);
  const limits = { inlineMaxBytes: 0 };
  const one = await cluster.mount(limits);
  const other = await cluster.mount(limits);
  const made = await one.vfs.create(ROOT, ROOT_INO, name('log'), 0o644, O_WRONLY | O_CREAT | O_APPEND);
  const there = await other.vfs.open(ROOT, made.attr.ino, O_RDWR);
  for (let count = 0; count < 15; count += 1) {
    await append(one, made.handle, { value: 1, length: 10 });
    await one.vfs.flush(ROOT, made.handle, 0n);
  }
  // The sixteenth flush rewrites what is stored before it. Between its reading and its commit somebody changes that.
  let changed = false;
  one.meta.beforeMutate = async (mutation) => {
    if (mutation.op !== 'commit' || mutation.rewrites === undefined || changed) return;
    changed = true;
    await other.vfs.write(ROOT, there.handle, 140, Buffer.alloc(10, 2));
    await other.vfs.flush(ROOT, there.handle, 0n);
    // What is known here of the file is as of then.
    one.vfs.release((await one.vfs.open(ROOT, made.attr.ino, O_RDWR)).handle);
  };
  await append(one, made.handle, { value: 3, length: 10 });
  await one.vfs.flush(ROOT, made.handle, 0n);
  expect(changed).toBe(true);
  for (const reader of [await cluster.mount(), one]) {
    const { handle } = await reader.vfs.open(ROOT, made.attr.ino, O_RDWR);
    expect(writesIn(await readAll(reader.vfs, handle, 0, 1_000))).toEqual([
      { value: 1, length: 140 },
      { value: 2, length: 10 },
      { value: 3, length: 10 },
    ]);
  }
});

it('what is written while young pieces are looked for is not taken for a copy of them', async () => {
  const cluster = await TestCluster.start(BLOCK);
  const limits = { inlineMaxBytes: 0 };
  const one = await cluster.mount(limits);
  const other = await cluster.mount(limits);
  const made = await one.vfs.create(ROOT, ROOT_INO, name('log'), 0o644, O_RDWR | O_CREAT);
  const there = await other.vfs.open(ROOT, made.attr.ino, O_RDWR);
  const write = async (offset: number, value: number): Promise<void> =>
    void (await one.vfs.write(ROOT, made.handle, offset, Buffer.alloc(10, value)));
  for (let count = 0; count < 15; count += 1) {
    await write(count * 10, 1);
    await one.vfs.flush(ROOT, made.handle, 0n);
  }
  await write(150, 1);
  let isAsked = false;
  one.meta.afterQuery = async (query) => {
    if (query.op !== 'extents' || isAsked) return;
    isAsked = true;
    await write(40, 3);
  };
  let isChanged = false;
  one.meta.beforeMutate = async (mutation) => {
    if (mutation.op !== 'commit' || isChanged) return;
    isChanged = true;
    await other.vfs.write(ROOT, there.handle, 0, Buffer.alloc(10, 2));
    await other.vfs.flush(ROOT, there.handle, 0n);
  };
  await one.vfs.fsync(ROOT, made.handle, false);
  expect([isAsked, isChanged]).toEqual([true, true]);
  const reader = await cluster.mount();
  const { handle } = await reader.vfs.open(ROOT, made.attr.ino, O_RDWR);
  expect(writesIn(await readAll(reader.vfs, handle, 0, 1_000))).toEqual([
    { value: 2, length: 10 },
    { value: 1, length: 30 },
    { value: 3, length: 10 },
    { value: 1, length: 110 },
  ]);
});

it('space that is asked for beyond the end never cuts off what others have appended', async () => {
  const cluster = await TestCluster.start(BLOCK);
  const one = await cluster.mount();
  const other = await cluster.mount();
  const made = await one.vfs.create(ROOT, ROOT_INO, name('log'), 0o644, O_WRONLY | O_CREAT | O_APPEND);
  const there = await other.vfs.open(ROOT, made.attr.ino, O_RDWR | O_APPEND);
  await append(other, there.handle, { value: 2, length: 1_000 });
  await other.vfs.flush(ROOT, there.handle, 0n);
  await append(one, made.handle, { value: 1, length: 50 });
  await one.vfs.fallocate(ROOT, made.handle, 0, 200, 0);
  expect(
    writesIn(await readAll(other.vfs, (await other.vfs.open(ROOT, made.attr.ino, O_RDWR)).handle, 0, 2_000)),
  ).toEqual([
    { value: 2, length: 1_000 },
    { value: 1, length: 50 },
  ]);
});

it('what is appended while a read waits is not seen where it is not', async () => {
  const cluster = await TestCluster.start(BLOCK);
  const one = await cluster.mount();
  const other = await cluster.mount();
  const made = await one.vfs.create(ROOT, ROOT_INO, name('log'), 0o644, O_RDWR | O_CREAT | O_APPEND);
  const there = await other.vfs.open(ROOT, made.attr.ino, O_RDWR | O_APPEND);
  await append(one, made.handle, { value: 1, length: 10 });
  const reading = readAll(one.vfs, made.handle, 0, 100);
  await append(one, made.handle, { value: 3, length: 10 });
  expect(writesIn(await reading)).toEqual([{ value: 1, length: 10 }]);
  await append(other, there.handle, { value: 2, length: 10 });
  await other.vfs.flush(ROOT, there.handle, 0n);
  expect(writesIn(await readAll(one.vfs, made.handle, 0, 100))).toEqual([
    { value: 1, length: 10 },
    { value: 2, length: 10 },
    { value: 3, length: 10 },
  ]);
});
