/** Answers that come late, or never arrive: what became known meanwhile stays, and nobody is shown bytes that no version of a file had. */
import { beforeEach, describe, expect, it } from 'vitest';
import { TimeoutError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import { LOCK_END_MAX } from '../meta/locks.ts';
import type { Mutation, Query } from '../meta/types.ts';
import { O_CREAT, O_RDONLY, O_RDWR, O_TRUNC } from './handles.ts';
import type { Handle } from './ops.ts';
import { name, readAll, ROOT, TestCluster, turns, WatchedKernel, type TestMount } from './testing.ts';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

let cluster: TestCluster;
let a: TestMount;
let b: TestMount;
let ino: Ino;
beforeEach(async () => {
  cluster = await TestCluster.start();
  a = await cluster.mount();
  b = await cluster.mount();
  const made = await a.vfs.create(ROOT, ROOT_INO, name('file'), 0o644, O_RDWR | O_CREAT);
  a.vfs.release(made.handle);
  ino = made.attr.ino;
});

async function opened({ vfs }: TestMount, flags = O_RDWR): Promise<Handle> {
  return (await vfs.open(ROOT, ino, flags)).handle;
}

/** Written and committed, by a program that opens it for that. */
async function wrote(mount: TestMount, text: string, offset = 0, flags = O_RDWR): Promise<void> {
  const handle = await opened(mount, flags);
  await mount.vfs.write(ROOT, handle, offset, Buffer.from(text));
  await mount.vfs.flush(ROOT, handle, 0n);
  mount.vfs.release(handle);
}

async function text(mount: TestMount, handle: Handle): Promise<string> {
  return (await readAll(mount.vfs, handle, 0, 4096)).toString();
}

/** Holds back the first one of that kind, until the function that it yields is called. */
function holds<T extends { readonly op: string }>(op: T['op']): { hold: (one: T) => Promise<void>; letGo: () => void } {
  let letGo!: () => void;
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  let isHeld = false;
  const hold = async (one: T) => {
    if (one.op !== op || isHeld) return;
    isHeld = true;
    await gate;
  };
  return { hold, letGo };
}

it('a read ends where the file ends by then', async () => {
  await wrote(a, 'x'.repeat(100));
  const handle = await opened(b);
  await wrote(a, 'yy', 0, O_RDWR | O_TRUNC);
  expect(await text(b, handle)).toBe('yy');
});

describe('a change under a lock that is lost while it waits in line', () => {
  it.each([
    ['truncate', (handle: Handle) => a.vfs.setattr(ROOT, ino, { sizeBytes: 3 }, handle)],
    ['punch', (handle: Handle) => a.vfs.fallocate(ROOT, handle, 0, 5, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)],
    ['grow', (handle: Handle) => a.vfs.fallocate(ROOT, handle, 0, 500, 0)],
    ['copy', (handle: Handle) => a.vfs.copyFileRange(ROOT, handle, 0, handle, 5, 5)],
  ] as const)('is not made: %s', async (_, change) => {
    const owner = { kind: 'posix', owner: 5n } as const;
    const lock = { type: 'write', start: 0, end: LOCK_END_MAX, pid: 7 } as const;
    await wrote(a, 'before');
    const mine = await opened(a);
    await a.vfs.setlk(ROOT, mine, owner, lock, false);
    await a.vfs.write(ROOT, mine, 0, Buffer.from('never committed'));
    const { hold, letGo } = holds<Mutation>('commit');
    a.meta.beforeMutate = hold;
    const flushed = Promise.resolve(a.vfs.fsync(ROOT, mine, false)).catch(() => undefined);
    await turns();
    const changed = expect(change(mine)).rejects.toMatchObject({ code: 'EIO' });
    await turns();
    await cluster.expire(a);
    const other = await opened(b);
    await b.vfs.setlk(ROOT, other, owner, lock, false);
    await wrote(b, 'of the new holder');
    letGo();
    await flushed;
    await changed;
    expect(await text(b, other)).toBe('of the new holder');
    expect((await b.meta.query<'getattr'>({ op: 'getattr', ino })).attr.sizeBytes).toBe('of the new holder'.length);
  });
});

it('the kernel keeps its pages only after an open whose end it has told of', async () => {
  await wrote(a, 'old');
  const open = async () => {
    const { handle, keepCache } = await b.vfs.open(ROOT, ino, O_RDONLY);
    return { handle, keepCache };
  };
  const first = await open();
  expect(await text(b, first.handle)).toBe('old');
  await wrote(a, 'new');
  // Interrupted: the answer never gets there, and nobody uses what was opened.
  const lost = await open();
  expect(lost.keepCache).toBe(false);
  b.vfs.release(lost.handle);
  const second = await open();
  expect(second.keepCache).toBe(false);
  // Two at once: neither has dropped anything yet.
  const third = await open();
  expect(third.keepCache).toBe(false);
  expect(await text(b, third.handle)).toBe('new');
  expect((await open()).keepCache).toBe(true);
});

it('what the kernel was told is told again if that answer was lost', async () => {
  const told: Ino[] = [];
  b.vfs.setNotifier({
    expiresNames: true,
    invalidateInode: async () => {},
    store: async () => false,
    invalidateAttributes: async (which) => void told.push(which),
    invalidateEntry: () => {},
  });
  await b.vfs.lookup(ROOT, ROOT_INO, name('file'));
  await opened(b);
  expect(told).toEqual([]);
  b.vfs.unseen(ino);
  await opened(b);
  expect(told).toEqual([ino]);
});

describe('the kernel is told anew where a file ends if the answer that made it longer may have been lost', () => {
  it.each([
    ['grow', (handle: Handle) => a.vfs.fallocate(ROOT, handle, 0, 500, 0)],
    ['copy', (handle: Handle) => a.vfs.copyFileRange(ROOT, handle, 0, handle, 10, 6)],
  ] as const)('%s', async (_, change) => {
    await wrote(a, 'before');
    const kernel = new WatchedKernel();
    a.vfs.setNotifier(kernel);
    await a.vfs.lookup(ROOT, ROOT_INO, name('file'));
    await change(await opened(a));
    expect(kernel.dropped).toEqual([]);
    await opened(a, O_RDONLY);
    expect(kernel.dropped).toEqual([`attributes of ${ino}`]);
    await opened(a, O_RDONLY);
    expect(kernel.dropped).toHaveLength(1);
  });
});

it('the kernel keeps nothing of a file that was emptied by an open whose answer was lost', async () => {
  await wrote(a, 'before');
  const kernel = new WatchedKernel();
  a.vfs.setNotifier(kernel);
  await a.vfs.lookup(ROOT, ROOT_INO, name('file'));
  const reader = await opened(a, O_RDONLY);
  expect(await text(a, reader)).toBe('before');
  a.vfs.release(reader);
  a.vfs.release(await opened(a, O_RDWR | O_TRUNC));
  expect(kernel.dropped).toEqual([]);
  expect((await a.vfs.open(ROOT, ino, O_RDONLY)).keepCache).toBe(false);
  expect(kernel.dropped).toEqual([`attributes of ${ino}`]);
});

describe('attributes that are known', () => {
  it('are not undone by an answer about extents to an earlier question', async () => {
    await wrote(a, 'old');
    const before = await opened(b);
    const { hold, letGo } = holds<Query>('extents');
    b.meta.afterQuery = hold;
    const reading = text(b, before);
    await turns();
    await wrote(a, 'new and longer');
    const after = await opened(b);
    letGo();
    await reading;
    expect(await text(b, after)).toBe('new and longer');
  });

  it('are not undone by the late answer to a commit of before', async () => {
    const mine = await opened(b);
    const { hold, letGo } = holds<Mutation>('commit');
    b.meta.afterMutate = hold;
    await b.vfs.write(ROOT, mine, 0, Buffer.from('mine'));
    const flushed = b.vfs.flush(ROOT, mine, 0n);
    await turns();
    await wrote(a, 'written after');
    const after = await opened(b);
    const made = await b.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined);
    expect(made.attr.mode).toBe(0o600);
    letGo();
    await flushed;
    expect(await text(b, after)).toBe('written after');
    expect((await b.vfs.getattr(ROOT, ino, undefined)).attr).toMatchObject({ mode: 0o600, sizeBytes: 13 });
  });
});

it('space that is asked for hides nothing that others have appended and this mount has seen meanwhile', async () => {
  await wrote(a, 'x'.repeat(10));
  const mine = await opened(b);
  await wrote(a, 'y'.repeat(90), 10);
  const { hold, letGo } = holds<Mutation>('commit');
  b.meta.beforeMutate = hold;
  const grown = b.vfs.fallocate(ROOT, mine, 0, 50, 0);
  await turns();
  const reader = await opened(b);
  const all = 'x'.repeat(10) + 'y'.repeat(90);
  expect(await text(b, reader)).toBe(all);
  letGo();
  await grown;
  expect(await text(b, reader)).toBe(all);
});

describe('what another mount wrote just before is not taken for an own change', () => {
  const owner = { uid: 1000 };
  it.each([
    ['chmod', () => b.vfs.setattr(ROOT, ino, { mode: 0o600 }, undefined)],
    ['chown', () => b.vfs.setattr(ROOT, ino, owner, undefined)],
    ['utimes', () => b.vfs.setattr(ROOT, ino, { mtimeNs: 5n }, undefined)],
    ['truncation to the same size', () => b.vfs.setattr(ROOT, ino, { sizeBytes: 3 }, undefined)],
    ['setxattr', () => b.vfs.setxattr(ROOT, ino, name('user.a'), name('1'), 'any', false)],
    ['link', () => b.vfs.link(ROOT, ino, ROOT_INO, name('other'))],
    [
      'rename',
      () => b.vfs.rename(ROOT, ROOT_INO, name('file'), ROOT_INO, name('other'), { noReplace: false, exchange: false }),
    ],
  ] as const)('%s', async (_, change) => {
    await wrote(a, 'old');
    const before = await opened(b, O_RDONLY);
    expect(await text(b, before)).toBe('old');
    await wrote(a, 'new');
    await change();
    const after = await b.vfs.open(ROOT, ino, O_RDONLY);
    expect([after.keepCache, await text(b, after.handle)]).toEqual([false, 'new']);
  });
});

it('the kernel does not keep pages of what was written and could not be stored', async () => {
  await wrote(a, 'x'.repeat(2_000));
  const kernel = new WatchedKernel();
  a.vfs.setNotifier(kernel);
  const handle = await opened(a);
  await a.vfs.write(ROOT, handle, 0, Buffer.from('y'.repeat(2_000)));
  cluster.blocks.beforePut = () => Promise.reject(new Error('no disk takes it'));
  await expect(Promise.resolve(a.vfs.flush(ROOT, handle, 0n))).rejects.toMatchObject({ code: 'EIO' });
  expect(kernel.dropped).toEqual([`pages of ${ino}`]);
  expect((await a.vfs.open(ROOT, ino, O_RDONLY)).keepCache).toBe(false);
});

it.each([
  ['link', () => a.vfs.link(ROOT, ino, ROOT_INO, name('new'))],
  [
    'rename',
    () => a.vfs.rename(ROOT, ROOT_INO, name('file'), ROOT_INO, name('new'), { noReplace: true, exchange: false }),
  ],
] as const)('a name that was removed is not there again when the %s that made it is answered', async (op, change) => {
  const { hold, letGo } = holds<Mutation>(op);
  a.meta.afterMutate = hold;
  const changed = change();
  await turns();
  const elsewhere = { noReplace: true, exchange: false };
  await a.vfs.rename(ROOT, ROOT_INO, name('new'), ROOT_INO, name('elsewhere'), elsewhere);
  letGo();
  await changed;
  const found = (async () => await a.vfs.lookup(ROOT, ROOT_INO, name('new')))();
  await expect(found).rejects.toMatchObject({ code: 'ENOENT' });
});

it('a directory into which others have put something is not taken to be empty when its making is answered', async () => {
  const { hold, letGo } = holds<Mutation>('make');
  a.meta.afterMutate = hold;
  const making = Promise.resolve(a.vfs.mkdir(ROOT, ROOT_INO, name('directory'), 0o755));
  await turns();
  const directory = (await b.vfs.lookup(ROOT, ROOT_INO, name('directory'))).attr.ino;
  await b.vfs.mkdir(ROOT, directory, name('theirs'), 0o755);
  await a.vfs.getattr(ROOT, directory, undefined);
  letGo();
  await making;
  expect((await a.vfs.lookup(ROOT, directory, name('theirs'))).attr.type).toBe('directory');
});

it('a file that was given capabilities is not taken to have none when that is answered to an earlier question', async () => {
  await a.vfs.setxattr(ROOT, ino, name('user.some'), name('value'), 'any');
  await b.vfs.lookup(ROOT, ROOT_INO, name('file'));
  const capability = name('security.capability');
  const { hold, letGo } = holds<Query>('getxattr');
  const query = b.meta.query.bind(b.meta);
  b.meta.query = async (asked, ...rest) => {
    try {
      return await query(asked, ...rest);
    } finally {
      await hold(asked);
    }
  };
  const ask = async () => Buffer.from(await b.vfs.getxattr(ROOT, ino, capability)).toString();
  const early = expect(ask()).rejects.toMatchObject({ code: 'ENODATA' });
  await turns();
  await b.vfs.setxattr(ROOT, ino, capability, name('all'), 'any');
  letGo();
  await early;
  expect(await ask()).toBe('all');
});

it('what was written is stored though somebody else fails to cut it off', async () => {
  const handle = await opened(a);
  await a.vfs.write(ROOT, handle, 0, Buffer.from('content'));
  a.meta.beforeMutate = ({ op }) => {
    if (op === 'setattr') throw new TimeoutError('no answer');
  };
  await expect(a.vfs.setattr(ROOT, ino, { sizeBytes: 3 }, undefined)).rejects.toMatchObject({ code: 'EIO' });
  await a.vfs.fsync(ROOT, handle, false);
  expect(await text(b, await opened(b))).toBe('content');
});
