import { beforeEach, expect, it } from 'vitest';
import { FsError, TimeoutError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import { ASK_TIMEOUT_MS } from './change-watch.ts';
import type { Entry, KernelNotifier } from './ops.ts';
import { name, ROOT, TestCluster, turns, WatchedKernel, type TestMount } from './testing.ts';

const WATCHED_MS = 60_000;
/** Within this others' changes show. */
const TIMEOUT_MS = 1_000;

/** As the kernel: keeps what it was told for as long as it was told, unless it is told that it has changed. */
class Kernel implements KernelNotifier {
  readonly expiresNames: boolean;
  /** Questions about what there is. */
  asked = 0;
  readonly #mount: TestMount;
  readonly #nowMs: () => number;
  readonly #names = new Map<string, { ino: Ino; untilMs: number }>();
  readonly #attrs = new Map<Ino, { attr: Entry['attr']; untilMs: number }>();

  constructor(mount: TestMount, nowMs: () => number, expiresNames = true) {
    this.expiresNames = expiresNames;
    this.#mount = mount;
    this.#nowMs = nowMs;
    mount.vfs.setNotifier(this);
  }

  async store(): Promise<boolean> {
    return false;
  }
  async invalidateInode(ino: Ino): Promise<void> {
    this.#attrs.delete(ino);
  }
  async invalidateAttributes(ino: Ino): Promise<void> {
    this.#attrs.delete(ino);
  }
  invalidateEntry(parent: Ino, text: Uint8Array): void {
    expect(this.expiresNames).toBe(true);
    this.#names.delete(keyOf(parent, text));
  }

  take(parent: Ino, text: Uint8Array, { attr, attrTimeoutMs, entryTimeoutMs }: Entry): void {
    this.#names.set(keyOf(parent, text), { ino: attr.ino, untilMs: this.#nowMs() + entryTimeoutMs });
    this.#attrs.set(attr.ino, { attr, untilMs: this.#nowMs() + attrTimeoutMs });
  }

  /** stat(2) of a name in a directory. */
  async stat(parent: Ino, text: string): Promise<Entry['attr'] | undefined> {
    const known = this.#names.get(keyOf(parent, name(text)));
    if (known !== undefined && known.untilMs > this.#nowMs()) {
      const kept = this.#attrs.get(known.ino);
      if (kept !== undefined && kept.untilMs > this.#nowMs()) return kept.attr;
      this.asked += 1;
      const { attr, attrTimeoutMs } = await this.#mount.vfs.getattr(ROOT, known.ino, undefined);
      this.#attrs.set(attr.ino, { attr, untilMs: this.#nowMs() + attrTimeoutMs });
      return attr;
    }
    this.asked += 1;
    try {
      const entry = await this.#mount.vfs.lookup(ROOT, parent, name(text));
      this.take(parent, name(text), entry);
      return entry.attr;
    } catch (error) {
      this.asked -= 1;
      if (error instanceof FsError && error.code === 'ENOENT') return undefined;
      throw error;
    }
  }
}

function keyOf(parent: Ino, text: Uint8Array): string {
  return `${parent}/${Buffer.from(text).toString('latin1')}`;
}

let cluster: TestCluster;
let reader: TestMount;
let kernel: Kernel;
let writer: TestMount;

beforeEach(async () => {
  cluster = await TestCluster.start();
  reader = await cluster.mount({ watchedMs: WATCHED_MS });
  writer = await cluster.mount({ attrTimeoutMs: 0 });
  kernel = new Kernel(reader, () => cluster.clock.monotonicMs());
});

async function make(text: string, type: 'file' | 'directory' = 'file', parent: Ino = ROOT_INO): Promise<Ino> {
  const { vfs } = writer;
  if (type === 'directory') return (await vfs.mkdir(ROOT, parent, name(text), 0o755)).attr.ino;
  return (await vfs.mknod(ROOT, parent, name(text), 'file', 0o644, 0)).attr.ino;
}

/** Keeps it for long: the watch is under way when it is asked for. */
async function keep(text: string, parent: Ino = ROOT_INO): Promise<void> {
  await kernel.stat(parent, text);
  await cluster.clock.advance(TIMEOUT_MS + 1);
  await kernel.stat(parent, text);
}

it('what is kept needs no question for as long as nobody changes it', async () => {
  await make('f');
  await keep('f');
  kernel.asked = 0;
  const asked = reader.meta.queries.length;
  for (let times = 0; times < 50; times += 1) {
    await cluster.clock.advance(TIMEOUT_MS);
    expect(await kernel.stat(ROOT_INO, 'f')).toBeDefined();
  }
  expect(kernel.asked).toBe(0);
  expect(reader.meta.queries.slice(asked).filter(({ op }) => op !== 'changes')).toEqual([]);
});

it('listed attributes are kept as well', async () => {
  const [directory] = [await make('d', 'directory'), await make('f')];
  await make('a', 'file', directory);
  await keep('f');
  const { handle } = await reader.vfs.opendir(ROOT, directory);
  for (const { name: text, entry } of await reader.vfs.readdir(ROOT, handle, 0, 100, true)) {
    if (entry !== undefined) kernel.take(directory, text, entry);
  }
  kernel.asked = 0;
  await cluster.clock.advance(WATCHED_MS - TIMEOUT_MS);
  expect(await kernel.stat(directory, 'a')).toMatchObject({ mode: 0o644 });
  expect(kernel.asked).toBe(0);
  await writer.vfs.setattr(ROOT, (await kernel.stat(directory, 'a'))!.ino, { mode: 0o600 }, undefined);
  await cluster.clock.advance(TIMEOUT_MS);
  expect(await kernel.stat(directory, 'a')).toMatchObject({ mode: 0o600 });
});

it("others' changes of all kinds show within the attribute timeout", async () => {
  const texts = ['a', 'b', 'c', 'd'];
  const { vfs } = writer;
  const directory = await make('sub', 'directory');
  let found = 0;
  let seed = 7;
  const chance = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  const find = async (parent: Ino, text: string) =>
    Promise.resolve(vfs.lookup(ROOT, parent, name(text))).then(
      ({ attr }) => attr,
      () => undefined,
    );
  for (let step = 0; step < 600; step += 1) {
    const [parent, otherParent] = [chance(2) ? ROOT_INO : directory, chance(2) ? ROOT_INO : directory];
    const [text, other] = [texts[chance(4)]!, texts[chance(4)]!];
    const there = await find(parent, text);
    const set = { noReplace: false, exchange: chance(3) === 0 };
    const change = [
      () => make(text, 'file', parent),
      () => vfs.unlink(ROOT, parent, name(text)),
      () => vfs.rename(ROOT, parent, name(text), otherParent, name(other), set),
      () => there && vfs.link(ROOT, there.ino, otherParent, name(other)),
      () => there && vfs.setattr(ROOT, there.ino, { mode: 0o600 + (step % 64) }, undefined),
      () => there && vfs.setxattr(ROOT, there.ino, name('user.x'), name(String(step)), 'any'),
      async () => {
        if (there === undefined) return;
        const { handle } = await vfs.open(ROOT, there.ino, 1);
        await vfs.write(ROOT, handle, 0, name(`step ${step}`));
        await vfs.fsync(ROOT, handle, false);
        vfs.release(handle);
      },
    ][chance(7)]!;
    await Promise.resolve(change()).catch((error: unknown) => {
      if (!(error instanceof FsError)) throw error;
    });
    // Half of the time what is asked for meets the change on its way.
    if (chance(2) === 0) await Promise.all(texts.map((each) => kernel.stat(parent, each)));
    await cluster.clock.advance(TIMEOUT_MS);
    for (const at of [ROOT_INO, directory]) {
      for (const each of texts) {
        const seen = await kernel.stat(at, each);
        expect(seen, `step ${step}: ${at}/${each}`).toEqual(await find(at, each));
        if (seen !== undefined) found += 1;
      }
    }
  }
  expect(found).toBeGreaterThan(1_000);
  expect(kernel.asked).toBeLessThan(found / 2);
});

it('an answer that a change has overtaken is not kept', async () => {
  const ino = await make('f');
  await make('g');
  await keep('f');
  await cluster.clock.advance(WATCHED_MS - TIMEOUT_MS);
  await keep('g');
  await cluster.clock.advance(TIMEOUT_MS);
  // It is answered before the change, and the answer comes after the change was told.
  let release = (): void => {};
  reader.meta.afterQuery = ({ op }) => (op === 'changes' ? undefined : new Promise((resolve) => (release = resolve)));
  const asked = kernel.stat(ROOT_INO, 'f');
  await turns();
  await writer.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined);
  await cluster.clock.advance(TIMEOUT_MS / 2);
  release();
  reader.meta.afterQuery = undefined;
  expect(await asked).toMatchObject({ mode: 0o644 });
  await cluster.clock.advance(TIMEOUT_MS / 2);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ mode: 0o600 });
});

it('nor is one about a name', async () => {
  await make('f');
  await make('g');
  await keep('g');
  let release = (): void => {};
  reader.meta.afterQuery = ({ op }) => (op === 'changes' ? undefined : new Promise((resolve) => (release = resolve)));
  const asked = kernel.stat(ROOT_INO, 'f');
  await turns();
  await writer.vfs.unlink(ROOT, ROOT_INO, name('f'));
  const ino = await make('f');
  await cluster.clock.advance(TIMEOUT_MS / 2);
  release();
  reader.meta.afterQuery = undefined;
  await asked;
  await cluster.clock.advance(TIMEOUT_MS / 2);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ ino });
});

it('nor one to a question from before the watch began', async () => {
  const ino = await make('f');
  await make('g');
  let release = (): void => {};
  reader.meta.afterQuery = (query) =>
    query.op === 'lookup' && query.name[0] === 'f'.charCodeAt(0)
      ? new Promise((resolve) => (release = resolve))
      : undefined;
  const asked = kernel.stat(ROOT_INO, 'f');
  await turns();
  await writer.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined);
  await keep('g');
  reader.meta.afterQuery = undefined;
  release();
  await asked;
  await cluster.clock.advance(TIMEOUT_MS);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ mode: 0o600 });
});

it('a directory that was made here is known to be empty until somebody else makes something in it', async () => {
  await make('g');
  await keep('g');
  const directory = (await reader.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755)).attr.ino;
  expect(await kernel.stat(directory, 'x')).toBeUndefined();
  const ino = await make('x', 'file', directory);
  await cluster.clock.advance(TIMEOUT_MS / 2);
  expect(await kernel.stat(directory, 'x')).toMatchObject({ ino });
});

it('a capability that others give a file is seen', async () => {
  const ino = await make('f');
  const capability = name('security.capability');
  await writer.vfs.setxattr(ROOT, ino, name('user.other'), name('x'), 'any');
  const ask = async () => reader.vfs.getxattr(ROOT, ino, capability);
  await keep('f');
  for (let times = 0; times < 2; times += 1) await expect(ask()).rejects.toMatchObject({ code: 'ENODATA' });
  await writer.vfs.setxattr(ROOT, ino, capability, name('all'), 'any');
  await cluster.clock.advance(TIMEOUT_MS);
  expect(Buffer.from(await ask()).toString()).toBe('all');
});

it('where the kernel counts and stamps for itself it is told to ask', async () => {
  const told = new WatchedKernel();
  reader.vfs.setNotifier(told);
  const inos = [await make('f'), await make('g')] as const;
  for (const text of ['f', 'g']) await keep(text);
  await reader.vfs.link(ROOT, inos[0], ROOT_INO, name('other'));
  await reader.vfs.unlink(ROOT, ROOT_INO, name('other'));
  expect(told.dropped).toEqual([`attributes of ${inos[0]}`]);
  await reader.vfs.rename(ROOT, ROOT_INO, name('g'), ROOT_INO, name('h'), { noReplace: false, exchange: false });
  expect(told.dropped.slice(1)).toEqual([`attributes of ${inos[1]}`]);
  // And once more: a notice may overtake the answer that it is about.
  await cluster.clock.advance(TIMEOUT_MS);
  expect(told.dropped.slice(2)).toEqual(inos.map((ino) => `attributes of ${ino}`));
});

/** Nothing that this mount asks is answered. */
async function cutOff(ms: number): Promise<void> {
  const { clock } = cluster;
  reader.meta.beforeQuery = async ({ op }) => {
    await clock.sleep(op === 'changes' ? ASK_TIMEOUT_MS : 15_000);
    throw new TimeoutError('cut off');
  };
  await cluster.clock.advance(ms);
}

it('a mount that was cut off asks the servers, and hears afterwards what it has missed', async () => {
  const ino = await make('f');
  await keep('f');
  await cutOff(4_000);
  const asked = expect(Promise.resolve(reader.vfs.getattr(ROOT, ino, undefined))).rejects.toMatchObject({
    code: 'EIO',
  });
  await cluster.clock.advance(15_000);
  await asked;
  // The kernel goes on with what it has.
  await writer.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ mode: 0o644 });
  reader.meta.beforeQuery = undefined;
  await cluster.clock.advance(ASK_TIMEOUT_MS + TIMEOUT_MS);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ mode: 0o600 });
});

it('a mount that has missed changes keeps nothing of before', async () => {
  const [ino, other] = [await make('f'), await make('g')];
  for (const text of ['f', 'g']) await keep(text);
  await cutOff(4_000);
  await writer.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined);
  await writer.vfs.unlink(ROOT, ROOT_INO, name('g'));
  for (let times = 0; times < 20_000; times += 1) await writer.vfs.setattr(ROOT, ROOT_INO, { mtimeNs: 1n }, undefined);
  // More than the servers remember, of other things.
  const scratch = await make('scratch');
  for (let times = 0; times < 20_000; times += 1) await writer.vfs.setattr(ROOT, scratch, { mtimeNs: 1n }, undefined);
  reader.meta.beforeQuery = undefined;
  await cluster.clock.advance(ASK_TIMEOUT_MS + TIMEOUT_MS);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ mode: 0o600 });
  expect(await kernel.stat(ROOT_INO, 'g')).toBeUndefined();
  expect(other).not.toBe(ino);
});

it('an own change that was made though its caller was told of a failure shows, too', async () => {
  await make('f');
  await keep('f');
  // The change is made, and its answer lost; that takes its time.
  reader.meta.afterMutate = () => cluster.clock.sleep(5_000).then(() => Promise.reject(new TimeoutError('no answer')));
  const unlinked = expect(reader.vfs.unlink(ROOT, ROOT_INO, name('f'))).rejects.toMatchObject({ code: 'EIO' });
  await cluster.clock.advance(5_000);
  await unlinked;
  reader.meta.afterMutate = undefined;
  await cluster.clock.advance(TIMEOUT_MS);
  expect(await kernel.stat(ROOT_INO, 'f')).toBeUndefined();
});

it('an own change that is made long after its caller was told of a failure shows, too', async () => {
  await make('f');
  await keep('f');
  let release = (): void => {};
  reader.meta.beforeMutate = () => new Promise((resolve) => (release = resolve));
  const unlinked = Promise.resolve(reader.vfs.unlink(ROOT, ROOT_INO, name('f')));
  void unlinked.catch(() => undefined);
  reader.vfs.abandoned();
  await cluster.clock.advance(20_000);
  await keep('f');
  release();
  await cluster.clock.advance(TIMEOUT_MS);
  expect(await kernel.stat(ROOT_INO, 'f')).toBeUndefined();
});

it('a mount that nobody uses asks nothing, and begins anew when it is used', async () => {
  const ino = await make('f');
  await keep('f');
  await cluster.clock.advance(2 * WATCHED_MS);
  const asked = reader.meta.queries.length;
  await cluster.clock.advance(10 * WATCHED_MS);
  expect(reader.meta.queries.length).toBe(asked);
  expect(cluster.clock.timerCount).toBe(0);
  await writer.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ mode: 0o600 });
  await keep('f');
  kernel.asked = 0;
  await cluster.clock.advance(WATCHED_MS / 2);
  expect([await kernel.stat(ROOT_INO, 'f'), kernel.asked]).toMatchObject([{ mode: 0o600 }, 0]);
});

it('without an attribute timeout nothing is kept or watched', async () => {
  const mount = await cluster.mount({ watchedMs: WATCHED_MS, attrTimeoutMs: 0 });
  await make('f');
  for (let times = 0; times < 3; times += 1) {
    const entry = await mount.vfs.lookup(ROOT, ROOT_INO, name('f'));
    expect(entry).toMatchObject({ attrTimeoutMs: 0, entryTimeoutMs: 0 });
    await cluster.clock.advance(TIMEOUT_MS);
  }
  expect(mount.meta.queries.map(({ op }) => op)).toEqual(['lookup', 'lookup', 'lookup']);
});

it('what is open here is kept no longer than others are told', async () => {
  const ino = await make('f');
  await keep('f');
  const { handle } = await reader.vfs.open(ROOT, ino, 1);
  expect((await reader.vfs.getattr(ROOT, ino, undefined)).attrTimeoutMs).toBeLessThanOrEqual(TIMEOUT_MS);
  reader.vfs.release(handle);
});

it('a file that is opened ends where its last writer left it, though the kernel alone knows that it was told otherwise', async () => {
  const ino = await make('f');
  await keep('f');
  reader.vfs.forget(ino, 100);
  const { handle } = await writer.vfs.open(ROOT, ino, 1);
  await writer.vfs.write(ROOT, handle, 0, name('longer'));
  await writer.vfs.flush(ROOT, handle, 0n);
  writer.vfs.release(handle);
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ sizeBytes: 0 });
  const opened = await reader.vfs.open(ROOT, ino, 0);
  // No time has passed.
  expect(await kernel.stat(ROOT_INO, 'f')).toMatchObject({ sizeBytes: 6 });
  reader.vfs.release(opened.handle);
});

it('a name whose file turns out to be gone is not believed any more', async () => {
  const ino = await make('f');
  await keep('f');
  await writer.vfs.unlink(ROOT, ROOT_INO, name('f'));
  await expect(reader.vfs.open(ROOT, ino, 0)).rejects.toMatchObject({ code: 'ENOENT' });
  expect(await kernel.stat(ROOT_INO, 'f')).toBeUndefined();
});

it('a kernel that could only drop names keeps them no longer than the attribute timeout, and attributes as others do', async () => {
  kernel = new Kernel(reader, () => cluster.clock.monotonicMs(), false);
  await make('f');
  await keep('f');
  const entry = await reader.vfs.lookup(ROOT, ROOT_INO, name('f'));
  expect(entry.entryTimeoutMs).toBe(TIMEOUT_MS);
  expect(entry.attrTimeoutMs).toBeGreaterThan(WATCHED_MS / 2);
  await writer.vfs.rename(ROOT, ROOT_INO, name('f'), ROOT_INO, name('g'), { noReplace: false, exchange: false });
  await cluster.clock.advance(TIMEOUT_MS);
  expect([await kernel.stat(ROOT_INO, 'f'), await kernel.stat(ROOT_INO, 'g')]).toMatchObject([undefined, {}]);
});
