/** Appends that come in parts, as from the kernel: no other mount's bytes lie between them, and nobody waits for long. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ROOT_INO } from '../ids.ts';
import { REST_MS, mayGoOn } from './append-rest.ts';
import { O_APPEND, O_CREAT, O_RDWR, O_SYNC, O_TRUNC } from './handles.ts';
import { name, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const BLOCK = 4096;
const FLAGS = O_RDWR | O_APPEND;
const MiB = 1024 * 1024;
const LOCK = { type: 'read', start: 0, end: 10, pid: 1 } as const;

/** A thread that has the file open on a mount, and what it does to it as the kernel passes it on. */
class Program {
  readonly mount: TestMount;
  readonly handle: number;
  readonly #caller: { readonly uid: 0; readonly gid: 0; readonly pid: number };
  readonly #flags: number;

  private constructor(mount: TestMount, handle: number, pid: number, flags: number) {
    this.mount = mount;
    this.handle = handle;
    this.#caller = { uid: 0, gid: 0, pid };
    this.#flags = flags;
  }

  static async open(mount: TestMount, pid: number, flags = FLAGS): Promise<Program> {
    const { attr } = await mount.vfs.lookup(ROOT, ROOT_INO, name('log'));
    return new Program(mount, (await mount.vfs.open(ROOT, attr.ino, flags)).handle, pid, flags);
  }

  /** A part that ends with a page of the kernel, or not. */
  async part(value: number, length: number, endsWithPage: boolean): Promise<void> {
    const end = endsWithPage ? 100 * BLOCK : 100 * BLOCK + 1;
    const data = new Uint8Array(length).fill(value);
    expect(await this.mount.vfs.write(this.#caller, this.handle, end - length, data, this.#flags)).toBe(length);
  }

  async flush(): Promise<void> {
    await this.mount.vfs.flush(this.#caller, this.handle, 0n);
  }

  fsync(): Promise<void> {
    return Promise.resolve(this.mount.vfs.fsync(this.#caller, this.handle, false));
  }

  async read(): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for (let offset = 0; ;) {
      const { chunks, release } = await this.mount.vfs.read(this.#caller, this.handle, offset, MiB);
      const part = Buffer.concat(chunks);
      release?.();
      if (part.length === 0) return Buffer.concat(parts);
      parts.push(part);
      offset += part.length;
    }
  }
}

async function start(
  flags = FLAGS,
  limits = {},
  blockSizeBytes = BLOCK,
): Promise<{ cluster: TestCluster; here: Program[]; there: Program }> {
  const cluster = await TestCluster.start(blockSizeBytes);
  const mount = await cluster.mount({ inlineMaxBytes: 200, ...limits });
  const other = await cluster.mount();
  await mount.vfs.create(ROOT, ROOT_INO, name('log'), 0o644, O_RDWR | O_CREAT);
  const here = await Promise.all([11, 12, 0, 0].map((pid) => Program.open(mount, pid, flags)));
  return { cluster, here, there: await Program.open(other, 21) };
}

/** Lengths of the runs of equal bytes. */
function runs(content: Uint8Array): (readonly [value: number, length: number])[] {
  const found: (readonly [number, number])[] = [];
  for (let at = 0, from = 0; at < content.length; from = at) {
    while (at < content.length && content[at] === content[from]) at += 1;
    found.push([content[from]!, at - from]);
  }
  return found;
}

async function content(cluster: TestCluster): Promise<(readonly [value: number, length: number])[]> {
  return runs(await (await Program.open(await cluster.mount(), 1)).read());
}

describe('what may be the first part of a write', () => {
  it('ends with a page, and begins within one', () => {
    expect(mayGoOn(1, 4095)).toBe(true);
    expect(mayGoOn(1, 3 * 4096 - 1)).toBe(true);
    expect(mayGoOn(4096, MiB)).toBe(false);
    expect(mayGoOn(1, 4096)).toBe(false);
    expect(mayGoOn(0, 4096)).toBe(false);
    expect(mayGoOn(4096, 4096)).toBe(false);
    expect(mayGoOn(0, 10)).toBe(false);
  });
});

describe('while more of an append may be to come', () => {
  const asks: [string, (program: Program) => Promise<unknown>][] = [
    ['closes the file', (program) => program.flush()],
    ['reads it', (program) => program.read()],
    [
      'empties it with an open',
      async ({ mount }) => {
        const { attr } = await mount.vfs.lookup(ROOT, ROOT_INO, name('log'));
        await mount.vfs.open(ROOT, attr.ino, O_RDWR | O_TRUNC);
      },
    ],
    [
      'locks it',
      async ({ mount, handle }) => {
        await mount.vfs.setlk({ ...ROOT, pid: 12 }, handle, { kind: 'posix', owner: 1n }, LOCK, false);
      },
    ],
  ];
  for (const [what, ask] of asks) {
    it(`another that ${what} waits for it`, async () => {
      const { cluster, here, there } = await start();
      const [writer, other] = here as [Program, Program];
      await writer.part(1, 1_000, true);
      let isDone = false;
      const asked = ask(other).then(() => (isDone = true));
      await turns();
      await there.part(2, 500, false);
      await there.fsync();
      expect(isDone).toBe(false);
      await writer.part(1, 1_000, false);
      await turns();
      expect(isDone).toBe(true);
      await asked;
      await writer.fsync();
      await cluster.clock.advance(0);
      // Emptied after it, there is nothing of either.
      const left = what.startsWith('empties') ? [] : [[2, 500] as const, [1, 2_000] as const];
      expect(await content(cluster)).toEqual(left);
    });

    it(`another that ${what} waits for a short time only`, async () => {
      const { cluster, here } = await start();
      const [writer, other] = here as [Program, Program];
      await writer.part(1, 1_000, true);
      let isDone = false;
      const asked = ask(other).then(() => (isDone = true));
      await cluster.clock.advance(REST_MS - 1);
      expect(isDone).toBe(false);
      await cluster.clock.advance(1);
      expect(isDone).toBe(true);
      await asked;
      // The next to ask does not wait.
      await other.flush();
    });
  }

  it('each part gives it as much time again', async () => {
    const { cluster, here, there } = await start();
    const [writer, other] = here as [Program, Program];
    await writer.part(1, 1_000, true);
    const closed = other.flush();
    await cluster.clock.advance(REST_MS - 1);
    await writer.part(1, 500, true);
    await cluster.clock.advance(REST_MS - 1);
    await there.part(2, 500, false);
    await there.fsync();
    await writer.part(1, 100, false);
    await closed;
    expect(await content(cluster)).toEqual([
      [2, 500],
      [1, 1_600],
    ]);
  });

  it('a commit that is on its way takes none of it, and moves it', async () => {
    const { cluster, here, there } = await start();
    const [writer, other] = here as [Program, Program];
    await other.part(3, 300, false);
    const closed = other.flush();
    await writer.part(1, BLOCK - 300, true);
    await there.part(2, 500, false);
    await there.fsync();
    await closed;
    const closedAgain = other.flush();
    await turns();
    await there.part(2, 500, false);
    await there.fsync();
    await writer.part(1, 1_000, false);
    await closedAgain;
    await there.part(2, 500, false);
    await there.fsync();
    await writer.fsync();
    expect(await content(cluster)).toEqual([
      [2, 500],
      [3, 300],
      [2, 500],
      [1, BLOCK + 700],
      [2, 500],
    ]);
  });
});

describe('that it was all is known at once', () => {
  const shown: [string, (here: readonly Program[]) => Promise<unknown>][] = [
    ['its thread closes the file', ([writer]) => writer!.flush()],
    ['its thread reads it', ([writer]) => writer!.read()],
    [
      'anybody asks for the next data',
      async ([, { mount, handle }]: readonly [Program, Program]) => await mount.vfs.lseek(ROOT, handle, 0, 3),
    ],
    [
      'its thread copies of it',
      async ([{ mount, handle }]: readonly [Program]) => {
        const made = await mount.vfs.create(ROOT, ROOT_INO, name('copy'), 0o644, O_RDWR | O_CREAT);
        await mount.vfs.copyFileRange({ ...ROOT, pid: 11 }, handle, 0, made.handle, 0, 1_000);
      },
    ],
    [
      'anybody copies into it',
      async ([, { mount }]: readonly [Program, Program]) => {
        const { attr } = await mount.vfs.lookup(ROOT, ROOT_INO, name('log'));
        const { handle } = await mount.vfs.open(ROOT, attr.ino, O_RDWR);
        const made = await mount.vfs.create(ROOT, ROOT_INO, name('source'), 0o644, O_RDWR | O_CREAT);
        await mount.vfs.write(ROOT, made.handle, 0, new Uint8Array(10).fill(4));
        await mount.vfs.copyFileRange(ROOT, made.handle, 0, handle, 0, 10);
      },
    ],
    [
      'its thread locks it',
      async ([{ mount, handle }]: readonly [Program]) =>
        await mount.vfs.setlk({ ...ROOT, pid: 11 }, handle, { kind: 'posix', owner: 1n }, LOCK, false),
    ],
    ['anybody asks for an fsync', ([, other]) => other!.fsync()],
    [
      'anybody appends',
      async ([, other]) => {
        await other!.part(3, 10, false);
        await other!.flush();
      },
    ],
    [
      'anybody changes its size',
      async ([, { mount, handle }]: readonly [Program, Program]) => {
        const { attr } = await mount.vfs.lookup(ROOT, ROOT_INO, name('log'));
        await mount.vfs.setattr(ROOT, attr.ino, { sizeBytes: 5_000 }, handle);
      },
    ],
    [
      'anybody asks for space',
      async ([, { mount, handle }]: readonly [Program, Program]) => {
        await mount.vfs.fallocate(ROOT, handle, 0, 5_000, 0);
      },
    ],
    [
      'anybody writes in its place',
      async ([, { mount, handle }]: readonly [Program, Program]) => {
        await mount.vfs.write(ROOT, handle, 0, new Uint8Array(5), O_RDWR);
        await mount.vfs.flush(ROOT, handle, 0n);
      },
    ],
  ] as [string, (here: readonly Program[]) => Promise<unknown>][];
  for (const [what, act] of shown) {
    it(`when ${what}`, async () => {
      const { cluster, here } = await start();
      await here[0]!.part(1, 1_000, true);
      await act(here);
      expect(cluster.clock.monotonicMs()).toBe(1_000);
      expect((await content(cluster)).some(([value]) => value === 1)).toBe(true);
    });
  }

  it('also by who waits for its commit already', async () => {
    const { cluster, here } = await start();
    const [writer, other, third] = here as [Program, Program, Program];
    await writer.part(1, 1_000, true);
    const closed = other.flush();
    await turns();
    await third.part(3, 10, false);
    await closed;
    expect(await content(cluster)).toEqual([[1, 1_000]]);
  });

  it('but not when one does who is not known', async () => {
    const { cluster, here } = await start();
    const [, , unknown, another] = here as [Program, Program, Program, Program];
    await unknown.part(1, 1_000, true);
    let isDone = false;
    const closed = another.flush().then(() => (isDone = true));
    await turns();
    expect(isDone).toBe(false);
    await cluster.clock.advance(REST_MS);
    await closed;
  });
});

it('what is written through is answered before its rest, which the kernel follows with an fsync', async () => {
  const { cluster, here, there } = await start(FLAGS | O_SYNC);
  const [writer] = here as [Program];
  await writer.part(1, 1_000, true);
  await there.part(2, 500, false);
  await there.fsync();
  await writer.part(1, 1_000, false);
  expect(await content(cluster)).toEqual([
    [2, 500],
    [1, 2_000],
  ]);
  await writer.part(1, 1_000, true);
  await writer.fsync();
  expect(await content(cluster)).toEqual([
    [2, 500],
    [1, 3_000],
  ]);
});

it('more than a mebibyte need not lie together, and is not taken for one write', async () => {
  const { cluster, here, there } = await start();
  const [writer, other] = here as [Program, Program];
  await writer.part(1, MiB - BLOCK + 1, true);
  await writer.part(1, 2 * BLOCK - 1, false);
  await other.flush();
  await writer.part(1, MiB - 2_000, true);
  // Another write.
  await writer.part(3, 3_000, true);
  const closed = other.flush();
  await turns();
  await there.part(2, 500, false);
  await there.fsync();
  await writer.part(3, 500, false);
  await closed;
  await writer.fsync();
  expect(await content(cluster)).toEqual([
    [1, MiB + BLOCK],
    [2, 500],
    [1, MiB - 2_000],
    [3, 3_500],
  ]);
});

it('who waits for the first parts of ever more writes waits for a mebibyte of them', async () => {
  const { cluster, here } = await start();
  const [writer, other] = here as [Program, Program];
  await writer.part(1, MiB - BLOCK + 1, true);
  const closed = other.flush();
  await writer.part(1, 2 * BLOCK - 1, true);
  await closed;
  expect(await content(cluster)).toEqual([[1, MiB - BLOCK + 1]]);
});

it('young pieces are not merged with a first part: such a commit would be made without its rest', async () => {
  const { cluster, here, there } = await start(FLAGS, { inlineMaxBytes: 0 }, 16 * BLOCK);
  const [writer, other] = here as [Program, Program];
  for (let count = 0; count < 15; count += 1) {
    await writer.part(1, 10, false);
    await writer.flush();
  }
  await writer.part(3, 1_000, true);
  const closed = other.flush();
  await turns();
  let isDone = false;
  writer.mount.meta.afterMutate = async ({ op }) => {
    if (op !== 'commit' || isDone) return;
    isDone = true;
    await there.part(2, 50, false);
    await there.fsync();
  };
  await writer.part(3, 700, false);
  await closed;
  expect(await content(cluster)).toEqual([
    [1, 150],
    [3, 1_700],
    [2, 50],
  ]);
});

it('a commit that waited for its turn takes no first part in place of what was lost meanwhile', async () => {
  const { cluster, here, there } = await start();
  const [writer, other] = here as [Program, Program];
  const { meta, vfs } = writer.mount;
  await writer.part(9, 300, false);
  let go!: () => void;
  const gate = new Promise<void>((resolve) => (go = resolve));
  meta.beforeMutate = async ({ op }) => (op === 'setattr' ? await gate : undefined);
  const { attr } = await vfs.lookup(ROOT, ROOT_INO, name('log'));
  const told = [Promise.resolve(vfs.setattr(ROOT, attr.ino, { mtimeNs: 5n }, writer.handle))];
  await turns();
  const lost = writer.flush();
  await turns();
  meta.loseSession();
  await expect(lost).rejects.toMatchObject({ errno: 'EIO' });
  const again = await Program.open(writer.mount, 11);
  await again.part(3, 1_000, true);
  const closed = other.flush().catch(() => undefined);
  await turns();
  go();
  await Promise.allSettled(told);
  await turns();
  await there.part(2, 50, false);
  await there.fsync();
  await again.part(3, 700, false);
  await closed;
  expect(await content(cluster)).toEqual([
    [2, 50],
    [3, 1_700],
  ]);
});

it('who waits for what was written before it does not wait for it', async () => {
  const { cluster, here } = await start(FLAGS, { inlineMaxBytes: 0 });
  const [writer, other, third] = here as [Program, Program, Program];
  let go!: () => void;
  const gate = new Promise<void>((resolve) => (go = resolve));
  cluster.blocks.beforePut = () => gate;
  await third.part(9, 100, false);
  const first = third.flush();
  await writer.part(1, 1_000, true);
  const closed = other.flush();
  await turns();
  go();
  await first;
  expect(await content(cluster)).toEqual([[9, 100]]);
  await writer.part(1, 10, false);
  await closed;
});

it('what is beyond the memory for writes is answered, and leaves in time', async () => {
  const { cluster, here, there } = await start(FLAGS, { dirtyMaxBytes: 4 * BLOCK });
  const [writer] = here as [Program];
  await writer.part(1, 5 * BLOCK - 1, true);
  await there.part(2, 500, false);
  await there.fsync();
  await writer.part(1, 1_000, false);
  await turns();
  await writer.fsync();
  expect(await content(cluster)).toEqual([
    [2, 500],
    [1, 5 * BLOCK + 999],
  ]);
  await writer.part(1, 5 * BLOCK - 1, true);
  // Of another file.
  const made = await writer.mount.vfs.create(ROOT, ROOT_INO, name('other'), 0o644, O_RDWR | O_CREAT);
  const waiting = Promise.resolve(writer.mount.vfs.write(ROOT, made.handle, 0, new Uint8Array(100)));
  await cluster.clock.advance(REST_MS);
  await waiting;
  expect(writer.mount.vfs.usage().dirtyBytes).toBeLessThanOrEqual(4 * BLOCK);
});

it('what is lost is lost with its rest', async () => {
  const { cluster, here } = await start();
  const [writer] = here as [Program];
  await writer.part(1, BLOCK - 1, true);
  await cluster.expire(writer.mount);
  const { attr } = await writer.mount.vfs.lookup(ROOT, ROOT_INO, name('log'));
  await writer.mount.vfs.open(ROOT, attr.ino, O_RDWR | O_TRUNC);
  await expect(writer.part(1, 1_000, false)).rejects.toMatchObject({ errno: 'EIO' });
  expect(await content(cluster)).toEqual([]);
});

/** Writers of two mounts, two threads on each, with whatever else they do between the parts of each other's writes. */
type Step =
  | { readonly kind: 'part'; readonly program: number; readonly length: number; readonly isLast: boolean }
  | { readonly kind: 'close' | 'read' | 'fsync'; readonly program: number }
  | { readonly kind: 'turns' | 'wait'; readonly program: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('part' as const),
      program: fc.nat(3),
      length: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 * BLOCK })),
      isLast: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('close' as const, 'read' as const, 'fsync' as const, 'turns' as const, 'wait' as const),
      program: fc.nat(3),
    }),
  },
);

it('writes that come in parts are whole, all there, and each thread’s in its order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 60 }), async (steps) => {
      const cluster = await TestCluster.start(BLOCK);
      const limits = { dirtyMaxBytes: 6 * BLOCK, inlineMaxBytes: 200 };
      const mounts = [await cluster.mount(limits), await cluster.mount(limits)];
      cluster.blocks.beforePut = () => turns(1);
      await mounts[0]!.vfs.create(ROOT, ROOT_INO, name('log'), 0o644, O_RDWR | O_CREAT);
      const programs = await Promise.all([0, 1, 2, 3].map((index) => Program.open(mounts[index % 2]!, 11 + index)));
      const written: [number, number][][] = programs.map(() => []);
      /** As the kernel's lock of the file on a mount: who is writing. */
      const writing: (number | undefined)[] = [undefined, undefined];
      const waiting = new Map<number, Promise<unknown>>();
      const begin = (program: number, call: Promise<unknown>): void =>
        void waiting.set(
          program,
          call.finally(() => waiting.delete(program)),
        );
      let waitedMs = 0;
      const part = async (index: number, length: number, isLast: boolean): Promise<void> => {
        const own = written[index]!;
        if (writing[index % 2] === index) own.at(-1)![1] += length;
        else own.push([1 + index * 60 + own.length, length]);
        writing[index % 2] = isLast ? undefined : index;
        await programs[index]!.part(own.at(-1)![0], length, !isLast && length < 2 * BLOCK);
      };
      for (const { kind, program, ...given } of steps) {
        const writer = writing[program % 2];
        // It waits for an answer.
        if (waiting.has(program)) continue;
        if (kind === 'part') {
          if (writer !== undefined && writer !== program) continue;
          const { length, isLast } = given as { length: number; isLast: boolean };
          await part(program, length, isLast || length === 2 * BLOCK);
          waitedMs = 0;
        } else if (kind === 'turns') await turns(3);
        else if (kind === 'wait') {
          // Each part comes in time.
          if (waitedMs + 10 >= REST_MS) continue;
          waitedMs += 10;
          await cluster.clock.advance(10);
        } else if (writer !== program) {
          if (kind === 'close') begin(program, programs[program]!.flush());
          else if (kind === 'read') begin(program, programs[program]!.read());
          else if (writer === undefined) begin(program, programs[program]!.fsync());
        }
      }
      for (const [mount, writer] of writing.entries()) if (writer !== undefined) await part(writer, 7 + mount, true);
      await cluster.clock.advance(2 * REST_MS);
      await Promise.all(waiting.values());
      for (const program of programs) await program.flush();
      const all = await content(cluster);
      for (const [index, own] of written.entries()) {
        expect(all.filter(([value]) => Math.floor((value - 1) / 60) === index)).toEqual(own);
      }
      for (const mount of mounts) {
        expect(mount.vfs.usage().dirtyBytes).toBe(0);
        expect(mount.logged.filter((line) => line.level !== 'debug')).toEqual([]);
      }
    }),
    { numRuns: 150 },
  );
}, 60_000);
