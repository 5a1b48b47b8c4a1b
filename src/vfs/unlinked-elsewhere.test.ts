/** A file whose last name is removed through one mount while it is open in another. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ROOT_INO, type Ino } from '../ids.ts';
import { WALK_MS } from './contested-names.ts';
import { O_CREAT, O_RDWR, O_TRUNC } from './handles.ts';
import { RemovedMeanwhileError, type AttrReply, type Opened } from './ops.ts';
import { name, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const PLAIN = { noReplace: false, exchange: false };

let cluster: TestCluster;
let remover: TestMount;
let user: TestMount;

beforeEach(async () => {
  cluster = await TestCluster.start(4096);
  remover = await cluster.mount();
  user = await cluster.mount();
});

async function makeFile(called = 'f'): Promise<Ino> {
  const made = await remover.vfs.create(ROOT, ROOT_INO, name(called), 0o644, O_RDWR | O_CREAT);
  await remover.vfs.write(ROOT, made.handle, 0, Buffer.from('content'));
  await remover.vfs.flush(ROOT, made.handle, 0n);
  remover.vfs.release(made.handle);
  return made.attr.ino;
}

/** As the servers say: undefined if it is gone. */
async function nlinkAtServers(ino: Ino): Promise<number | undefined> {
  const other = await cluster.mount();
  try {
    return (await other.meta.query<'getattr'>({ op: 'getattr', ino })).attr.nlink;
  } catch {
    return undefined;
  } finally {
    await other.vfs.close();
    await other.meta.close();
  }
}

it('stays until its last handle is closed, and can be written', async () => {
  const ino = await makeFile();
  const { handle } = await user.vfs.open(ROOT, ino, O_RDWR);
  const again = await user.vfs.open(ROOT, ino, O_RDWR);
  await remover.vfs.unlink(ROOT, ROOT_INO, name('f'));
  expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content');
  await user.vfs.write(ROOT, handle, 7, Buffer.from(' and more'));
  await user.vfs.fsync(ROOT, handle, false);
  expect((await user.vfs.getattr(ROOT, ino, handle)).attr).toMatchObject({ nlink: 0, sizeBytes: 16 });
  user.vfs.release(again.handle);
  await turns();
  expect(await nlinkAtServers(ino)).toBe(0);
  user.vfs.release(handle);
  await turns();
  expect(await nlinkAtServers(ino)).toBeUndefined();
});

it.each(['unlink', 'rename'] as const)(
  'stays when another mount, which is gone by now, has given it the name that is removed here: %s',
  async (how) => {
    await makeFile('name');
    const ino = await makeFile('open');
    await user.vfs.lookup(ROOT, ROOT_INO, name('name'));
    const { handle } = await user.vfs.open(ROOT, ino, O_RDWR);
    await remover.vfs.rename(ROOT, ROOT_INO, name('open'), ROOT_INO, name('name'), PLAIN);
    await user.vfs.create(ROOT, ROOT_INO, name('third'), 0o644, O_RDWR | O_CREAT);
    await remover.vfs.close();
    await remover.meta.close();
    // It takes the name for that of a file that nobody has open, and nobody else is asked.
    if (how === 'unlink') await user.vfs.unlink(ROOT, ROOT_INO, name('name'));
    else await user.vfs.rename(ROOT, ROOT_INO, name('third'), ROOT_INO, name('name'), PLAIN);
    expect((await user.vfs.getattr(ROOT, ino, handle)).attr.nlink).toBe(0);
    expect(await nlinkAtServers(ino)).toBe(0);
    await user.vfs.write(ROOT, handle, 7, Buffer.from(' and more'));
    await user.vfs.fsync(ROOT, handle, false);
    expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content and more');
    user.vfs.release(handle);
    await turns();
    expect(await nlinkAtServers(ino)).toBeUndefined();
  },
);

it('is gone at once where nobody has it open, and cannot be opened once it has no name', async () => {
  const ino = await makeFile();
  await user.vfs.lookup(ROOT, ROOT_INO, name('f'));
  await remover.vfs.unlink(ROOT, ROOT_INO, name('f'));
  expect(await nlinkAtServers(ino)).toBeUndefined();
  const kept = await makeFile('g');
  const { handle } = await remover.vfs.open(ROOT, kept, O_RDWR);
  await user.vfs.lookup(ROOT, ROOT_INO, name('g'));
  await remover.vfs.unlink(ROOT, ROOT_INO, name('g'));
  expect(await nlinkAtServers(kept)).toBe(0);
  await expect(user.vfs.open(ROOT, kept, O_RDWR)).rejects.toMatchObject({ code: 'ENOENT' });
  // By what is remembered of its name neither, though others keep it.
  for (const ask of [
    () => user.vfs.lookup(ROOT, ROOT_INO, name('g')),
    () => user.vfs.getattr(ROOT, kept, undefined),
    () => user.vfs.setattr(ROOT, kept, { mode: 0o600 }, undefined),
    () => user.vfs.lookup(ROOT, ROOT_INO, name('g')),
  ]) {
    await expect(Promise.resolve().then(ask)).rejects.toMatchObject({ code: 'ENOENT' });
  }
  expect((await readAll(remover.vfs, handle, 0, 100)).toString()).toBe('content');
});

it('is kept when the answer to the open was on its way', async () => {
  const ino = await makeFile();
  let arrive!: () => void;
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  user.meta.afterQuery = async (query) => {
    if ('ino' in query && query.ino === ino) await arrived;
  };
  const opening = Promise.resolve(user.vfs.open(ROOT, ino, O_RDWR));
  await turns();
  const unlinking = Promise.resolve(remover.vfs.unlink(ROOT, ROOT_INO, name('f')));
  await turns();
  arrive();
  const { handle } = await opening;
  await unlinking;
  expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content');
});

it('is released also when it is closed while the servers are being told', async () => {
  const ino = await makeFile();
  const { handle } = await user.vfs.open(ROOT, ino, O_RDWR);
  let closed = false;
  user.meta.beforeKeep = async (open) => {
    if (closed) return;
    closed = true;
    expect(open).toEqual([ino]);
    user.vfs.release(handle);
    await turns();
  };
  await remover.vfs.unlink(ROOT, ROOT_INO, name('f'));
  await turns();
  expect(closed).toBe(true);
  expect(await nlinkAtServers(ino)).toBeUndefined();
});

it('is released when the session of whoever had it open ends', async () => {
  const ino = await makeFile();
  await user.vfs.open(ROOT, ino, O_RDWR);
  await remover.vfs.unlink(ROOT, ROOT_INO, name('f'));
  expect(await nlinkAtServers(ino)).toBe(0);
  await user.meta.close();
  expect(await nlinkAtServers(ino)).toBeUndefined();
});

it('a file renamed over is as one removed', async () => {
  const ino = await makeFile();
  const { handle } = await user.vfs.open(ROOT, ino, O_RDWR);
  const other = await remover.vfs.create(ROOT, ROOT_INO, name('g'), 0o644, O_RDWR | O_CREAT);
  remover.vfs.release(other.handle);
  await remover.vfs.rename(ROOT, ROOT_INO, name('g'), ROOT_INO, name('f'), { noReplace: false, exchange: false });
  expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content');
  user.vfs.release(handle);
  await turns();
  expect(await nlinkAtServers(ino)).toBeUndefined();
});

it('is not emptied by who opens its old name, and two who open it at once are refused both', async () => {
  const ino = await makeFile();
  const { handle } = await remover.vfs.open(ROOT, ino, O_RDWR);
  await user.vfs.lookup(ROOT, ROOT_INO, name('f'));
  await remover.vfs.unlink(ROOT, ROOT_INO, name('f'));
  const opens = [O_RDWR, O_RDWR, O_RDWR | O_TRUNC].map(async (flags) => user.vfs.open(ROOT, ino, flags));
  for (const outcome of await Promise.allSettled(opens)) {
    expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ENOENT' } });
  }
  await expect(Promise.resolve(user.vfs.setattr(ROOT, ino, { sizeBytes: 0 }, undefined))).rejects.toMatchObject({
    code: 'ENOENT',
  });
  expect((await readAll(remover.vfs, handle, 0, 100)).toString()).toBe('content');
  await remover.vfs.setattr(ROOT, ino, { sizeBytes: 3 }, handle);
  expect((await readAll(remover.vfs, handle, 0, 100)).toString()).toBe('con');
});

it('a fifo that is removed here is there until the kernel has forgotten it, as it alone knows who has it open', async () => {
  const { attr } = await user.vfs.mknod(ROOT, ROOT_INO, name('fifo'), 'fifo', 0o600, 0);
  await user.vfs.unlink(ROOT, ROOT_INO, name('fifo'));
  await turns();
  expect((await user.vfs.setattr(ROOT, attr.ino, { mode: 0o644 }, undefined)).attr).toMatchObject({
    nlink: 0,
    mode: 0o644,
  });
  expect((await user.vfs.getattr(ROOT, attr.ino, undefined)).attr.nlink).toBe(0);
  user.vfs.forget(attr.ino, 1);
  await turns();
  expect(await nlinkAtServers(attr.ino)).toBeUndefined();
});

describe('a name whose file is replaced faster than it can be opened', () => {
  /** As programs replace a file: a new one renamed over it. It stays with the servers, as `user` does not answer yet. */
  async function replace(): Promise<Ino> {
    const ino = await makeFile('f.new');
    await remover.vfs.rename(ROOT, ROOT_INO, name('f.new'), ROOT_INO, name('f'), PLAIN);
    return ino;
  }
  const find = async () => await user.vfs.lookup(ROOT, ROOT_INO, name('f'));
  const open = async (ino: Ino) => await user.vfs.open(ROOT, ino, O_RDWR);

  beforeEach(() => void (user.meta.owesAnswers = true));

  it('can be opened as it was when its name was looked up', async () => {
    const first = await makeFile('f');
    expect((await find()).entryTimeoutMs).toBeGreaterThan(0);
    const second = await replace();
    await expect(open(first)).rejects.toMatchObject({ code: 'ENOENT' });

    expect(await find()).toMatchObject({ attr: { ino: second }, entryTimeoutMs: 0 });
    const third = await replace();
    const { handle } = await open(second);
    expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content');
    // It is this mount's from now on.
    user.meta.owesAnswers = false;
    await remover.vfs.unlink(ROOT, ROOT_INO, name('f'));
    await turns();
    expect(await nlinkAtServers(second)).toBe(0);
    expect(await nlinkAtServers(third)).toBeUndefined();
    user.vfs.release(handle);
    await cluster.clock.advance(WALK_MS);
    await turns();
    expect(await nlinkAtServers(second)).toBeUndefined();
  });

  it('is asked for each time, and only then believed', async () => {
    const first = await makeFile('f');
    await find();
    const second = await replace();
    await expect(open(first)).rejects.toMatchObject({ code: 'ENOENT' });
    await find();
    const third = await replace();
    expect((await find()).attr.ino).toBe(third);
    // What was found long ago is not opened, nor what was never found at all.
    await cluster.clock.advance(6_000);
    await expect(open(second)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(open(first)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  /** Its second file, found when the path was walked once more. */
  async function foundAtTheNextTry(): Promise<Ino> {
    const first = await makeFile('f');
    await find();
    const second = await replace();
    await expect(open(first)).rejects.toMatchObject({ code: 'ENOENT' });
    await find();
    return second;
  }

  it('is kept for who has just found it when the servers ask, and not for long', async () => {
    const second = await foundAtTheNextTry();
    user.meta.owesAnswers = false;
    await replace();
    expect(await nlinkAtServers(second)).toBe(0);
    const { handle } = await open(second);
    await cluster.clock.advance(WALK_MS);
    expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content');
    user.vfs.release(handle);
    await turns();
    expect(await nlinkAtServers(second)).toBeUndefined();
  });

  it('is not kept for long when nobody opens it, and cannot be opened then', async () => {
    const second = await foundAtTheNextTry();
    user.meta.owesAnswers = false;
    await replace();
    await cluster.clock.advance(WALK_MS);
    await turns();
    expect(await nlinkAtServers(second)).toBeUndefined();
    await expect(open(second)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is kept also when another who had it open closes it meanwhile', async () => {
    const second = await foundAtTheNextTry();
    user.meta.owesAnswers = false;
    const others = await open(second);
    await replace();
    user.vfs.release(others.handle);
    await turns();
    // Two who look for a name at the same time share the kernel's question.
    const { handle } = await open(second);
    expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content');
    user.vfs.release(handle);
    await cluster.clock.advance(WALK_MS);
    await turns();
    expect(await nlinkAtServers(second)).toBeUndefined();
  });

  it('is kept also when it had another name, which was removed here', async () => {
    const first = await makeFile('f');
    await find();
    const second = await replace();
    await remover.vfs.link(ROOT, second, ROOT_INO, name('other'));
    await expect(open(first)).rejects.toMatchObject({ code: 'ENOENT' });
    await user.vfs.lookup(ROOT, ROOT_INO, name('other'));
    await find();
    user.meta.owesAnswers = false;
    await replace();
    await user.vfs.unlink(ROOT, ROOT_INO, name('other'));
    const { handle } = await open(second);
    expect((await readAll(user.vfs, handle, 0, 100)).toString()).toBe('content');
  });

  it('may have no file any more by the time that it is linked: the caller is told so, as by a local filesystem', async () => {
    const second = await foundAtTheNextTry();
    await replace();
    await expect(user.vfs.link(ROOT, second, ROOT_INO, name('l'))).rejects.toBeInstanceOf(RemovedMeanwhileError);
    const unfound = user.vfs.link(ROOT, (second + 1_000) as Ino, ROOT_INO, name('l'));
    await expect(unfound).rejects.not.toBeInstanceOf(RemovedMeanwhileError);
  });

  it.each(['open', 'stat'])('counts when it was asked for, however long the answer takes: %s', async (how) => {
    const second = await foundAtTheNextTry();
    await cluster.clock.advance(1_500);
    let failOver!: () => void;
    const over = new Promise<void>((resolve) => (failOver = resolve));
    user.meta.beforeQuery = async () => await over;
    const asked = how === 'open' ? open(second) : user.vfs.getattr(ROOT, second, undefined);
    await replace();
    await cluster.clock.advance(2 * WALK_MS);
    failOver();
    if (how === 'stat') expect((await asked) as AttrReply).toMatchObject({ attr: { ino: second, nlink: 0 } });
    else expect((await asked) as Opened).toMatchObject({ handle: expect.anything() as unknown });
  });

  it('is not found while this mount takes it away, which did not know of who comes by it', async () => {
    await makeFile('g');
    const first = await makeFile('f');
    await find();
    const second = await replace();
    await cluster.clock.advance(1_500);
    expect((await find()).attr.ino).toBe(second);
    let decide!: () => void;
    const decided = new Promise<void>((resolve) => (decide = resolve));
    user.meta.beforeMutate = async ({ op }) => (op === 'rename' ? await decided : undefined);
    const renaming = user.vfs.rename(ROOT, ROOT_INO, name('g'), ROOT_INO, name('f'), PLAIN);
    await expect(open(first)).rejects.toMatchObject({ code: 'ENOENT' });
    const finding = find();
    await turns();
    decide();
    await renaming;
    const found = (await finding).attr.ino;
    expect(found).not.toBe(second);
    expect(await open(found)).toMatchObject({ handle: expect.anything() as unknown });
  });
});
