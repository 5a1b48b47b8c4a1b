import { beforeEach, describe, expect, it } from 'vitest';
import { Cancellation } from '../cancel.ts';
import { NoSpaceError, UnavailableError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import { LOCK_END_MAX } from '../meta/locks.ts';
import { O_CREAT, O_RDONLY, O_RDWR } from './handles.ts';
import type { Caller, FileLock, Handle, LockOwner } from './ops.ts';
import { name, readAll, ROOT, TestCluster, turns, WatchedKernel, type TestMount } from './testing.ts';

const WHOLE = { start: 0, end: LOCK_END_MAX, pid: 7 };
const READ: FileLock = { ...WHOLE, type: 'read' };
const WRITE: FileLock = { ...WHOLE, type: 'write' };
const UNLOCK: FileLock = { ...WHOLE, type: 'unlock' };

/** A process of a mount, with a file open. */
class Program {
  readonly mount: TestMount;
  readonly handle: Handle;
  readonly owner: LockOwner;

  constructor(mount: TestMount, handle: Handle, owner: LockOwner) {
    this.mount = mount;
    this.handle = handle;
    this.owner = owner;
  }
  async set(lock: FileLock, wait = false, caller: Caller = ROOT): Promise<void> {
    await this.mount.vfs.setlk(caller, this.handle, this.owner, lock, wait);
  }
  async get(lock: FileLock): Promise<FileLock> {
    return await this.mount.vfs.getlk(ROOT, this.handle, this.owner, lock);
  }
  async close(): Promise<void> {
    await this.mount.vfs.flush(ROOT, this.handle, this.owner.owner);
    this.mount.vfs.release(this.handle);
  }
  async write(offset: number, text: string): Promise<void> {
    await this.mount.vfs.write(ROOT, this.handle, offset, Buffer.from(text));
  }
  async read(): Promise<string> {
    return (await readAll(this.mount.vfs, this.handle, 0, 100)).toString();
  }
}

let cluster: TestCluster;
let a: TestMount;
let b: TestMount;
let ino: Ino;
let nextOwner: bigint;
beforeEach(async () => {
  cluster = await TestCluster.start();
  a = await cluster.mount();
  b = await cluster.mount();
  nextOwner = 2n ** 63n + 5n;
  const made = await a.vfs.create(ROOT, ROOT_INO, name('file'), 0o644, O_RDWR | O_CREAT);
  a.vfs.release(made.handle);
  ino = made.attr.ino;
});

async function program(mount: TestMount, kind: LockOwner['kind'] = 'posix'): Promise<Program> {
  const { handle } = await mount.vfs.open(ROOT, ino, O_RDWR);
  return new Program(mount, handle, { kind, owner: nextOwner++ });
}

/** Whether it has ended by now. */
async function ended(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(
    () => (done = true),
    () => (done = true),
  );
  await turns();
  return done;
}

describe('a lock', () => {
  it('keeps out others, of the same mount and of another, until it is given up', async () => {
    const one = await program(a);
    const same = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    for (const loser of [same, other]) {
      await expect(loser.set(READ)).rejects.toMatchObject({ code: 'EAGAIN' });
      // A process of another machine has no number here.
      const pid = loser === same ? 7 : 0;
      expect(await loser.get(READ)).toEqual({ type: 'write', start: 0, end: LOCK_END_MAX, pid });
    }
    expect(await one.get(WRITE)).toMatchObject({ type: 'unlock' });
    await one.set(UNLOCK);
    await other.set(WRITE);
    await expect(same.set(WRITE)).rejects.toMatchObject({ code: 'EAGAIN' });
  });

  it('of a range leaves the rest to others', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set({ type: 'write', start: 0, end: 9, pid: 1 });
    await other.set({ type: 'write', start: 10, end: 19, pid: 1 });
    await expect(other.set({ type: 'write', start: 9, end: 9, pid: 1 })).rejects.toMatchObject({ code: 'EAGAIN' });
  });

  it('is waited for, and the wait holds nobody else up', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    const waiting = other.set(WRITE, true);
    expect(await ended(waiting)).toBe(false);
    await cluster.clock.advance(120_000);
    expect(await ended(waiting)).toBe(false);
    await other.write(0, 'meanwhile');
    await one.set(UNLOCK);
    await waiting;
    await expect(one.set(READ)).rejects.toMatchObject({ code: 'EAGAIN' });
  });

  it('is had by all of very many who wait, one after the other', async () => {
    const one = await program(a);
    await one.set(WRITE);
    const others = await Promise.all(Array.from({ length: 300 }, () => program(b)));
    let count = 0;
    const all = others.map(async (other) => {
      await other.set(WRITE, true);
      count++;
      await other.set(UNLOCK);
    });
    await turns();
    expect(count).toBe(0);
    await one.set(UNLOCK);
    for (let round = 0; count < others.length && round < 20; round++) await cluster.clock.advance(1_000);
    await Promise.all(all);
  });

  it('that is waited for is not had after an interrupt', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    const interrupt = new Cancellation();
    const waiting = other.set(WRITE, true, { ...ROOT, signal: interrupt.signal });
    expect(await ended(waiting)).toBe(false);
    interrupt.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'EINTR' });
    await one.set(UNLOCK);
    await one.set(WRITE);
  });

  it('is refused where waiting would never end', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set({ type: 'write', start: 0, end: 0, pid: 1 });
    await other.set({ type: 'write', start: 1, end: 1, pid: 1 });
    const waiting = one.set({ type: 'write', start: 1, end: 1, pid: 1 }, true);
    expect(await ended(waiting)).toBe(false);
    await expect(other.set({ type: 'write', start: 0, end: 0, pid: 1 }, true)).rejects.toMatchObject({
      code: 'EDEADLK',
    });
    await other.close();
    await waiting;
  });

  it('of flock(2) is turned into the other type by two at once without a standstill', async () => {
    const one = await program(a, 'flock');
    const other = await program(b, 'flock');
    await one.set(READ);
    await other.set(READ);
    const first = one.set(WRITE, true);
    await turns();
    const second = other.set(WRITE, true);
    // The first has let go of its lock while it waits, so the second may have it.
    await second;
    expect(await ended(first)).toBe(false);
    await other.set(UNLOCK);
    await first;
  });
});

describe('what ends a lock', () => {
  it('is a close by the process, of any handle, and the close waits for it', async () => {
    const one = await program(a);
    const other = await program(b);
    const again = await a.vfs.open(ROOT, ino, O_RDWR);
    await one.set(WRITE);
    await a.vfs.flush(ROOT, again.handle, one.owner.owner);
    await other.set(WRITE);
  });

  it('is the last close of the file for flock', async () => {
    const one = await program(a, 'flock');
    const other = await program(b, 'flock');
    await one.set(WRITE);
    await a.vfs.flush(ROOT, one.handle, one.owner.owner);
    await expect(other.set(WRITE)).rejects.toMatchObject({ code: 'EAGAIN' });
    a.vfs.release(one.handle);
    await other.set(WRITE, true);
  });

  it('is the end of the mount', async () => {
    const one = await program(a);
    await one.set(WRITE);
    await a.vfs.close();
    await a.meta.close();
    await (await program(b)).set(WRITE);
  });

  it('costs no question where there is no lock', async () => {
    const one = await program(a);
    await one.set(UNLOCK);
    await one.close();
    expect(a.meta.mutations.map(({ op }) => op)).toEqual(['make']);
  });

  it('is tried again until it works: others wait for it', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    let failures = 3;
    a.meta.beforeMutate = () => {
      if (failures-- > 0) throw new UnavailableError('the group does not serve now');
    };
    const closed = one.close();
    const waiting = other.set(WRITE, true);
    await cluster.clock.advance(1_000);
    await closed;
    await waiting;
    expect(failures).toBeLessThan(0);
  });

  it('cannot be known when no answer came: the lock is then given up with the rest', async () => {
    const one = await program(a);
    a.meta.afterMutate = () => {
      a.meta.afterMutate = undefined;
      throw new UnavailableError('the answer was lost');
    };
    await expect(one.set(WRITE)).rejects.toMatchObject({ code: 'EIO' });
    await one.close();
    await (await program(b)).set(WRITE);
  });
});

describe('under a lock', () => {
  it('each sees what the holders before it wrote', async () => {
    const one = await program(a);
    const other = await program(b);
    const kernel = new WatchedKernel();
    b.vfs.setNotifier(kernel);
    expect(await other.read()).toBe('');
    await one.set(WRITE);
    await one.write(0, 'first');
    expect(a.meta.commits).toHaveLength(0);
    await one.set(UNLOCK);
    await other.set(WRITE);
    expect(kernel.dropped).toEqual([`pages of ${ino}`]);
    expect(await other.read()).toBe('first');
    expect((await b.vfs.getattr(ROOT, ino, other.handle)).attr.sizeBytes).toBe(5);
    await other.write(5, ' second');
    await other.set(UNLOCK);
    await one.set(READ);
    expect(await one.read()).toBe('first second');
    // Nothing has changed since: the kernel keeps the pages.
    await other.set(READ);
    expect(kernel.dropped.at(-1)).toBe(`attributes of ${ino}`);
  });
});

describe('when the session is lost', () => {
  it('locks go to others, and the handle that had them fails until it is closed', async () => {
    const one = await program(a);
    const bystander = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    await one.write(0, 'never committed');
    await cluster.expire(a);
    await other.set(WRITE);
    await expect(one.write(0, 'x')).rejects.toMatchObject({ code: 'EIO' });
    await expect(one.read()).rejects.toMatchObject({ code: 'EIO' });
    await expect(one.set(READ, true)).rejects.toMatchObject({ code: 'EIO' });
    expect(await bystander.read()).toBe('');
    expect(a.logged.filter(({ level }) => level === 'error').map(({ facts }) => facts)).toContainEqual({
      path: '/file',
    });
    await one.close().catch(() => undefined);
    const anew = await program(a);
    await expect(anew.set(READ)).rejects.toMatchObject({ code: 'EAGAIN' });
    await other.set(UNLOCK);
    await anew.set(WRITE);
    await anew.write(0, 'good');
  });

  it('who only waited waits on', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    const waiting = other.set(WRITE, true);
    await turns();
    await cluster.expire(b);
    expect(await ended(waiting)).toBe(false);
    await one.set(UNLOCK);
    await waiting;
    await expect(one.set(WRITE)).rejects.toMatchObject({ code: 'EAGAIN' });
  });
});

describe('while no server has answered for a lease', () => {
  it("nothing that is kept here is read under a lock, which may be another's; others read, and afterwards it does", async () => {
    const one = await program(a);
    const bystander = await program(a);
    await one.set(WRITE);
    await one.write(0, 'mine');
    await a.vfs.fsync(ROOT, one.handle, false);
    const kernel = new WatchedKernel();
    a.vfs.setNotifier(kernel);
    a.meta.doubtSession();
    expect(kernel.dropped).toEqual([`pages of ${ino}`]);
    await expect(one.read()).rejects.toMatchObject({
      code: 'EIO',
      message: expect.stringContaining('no server has answered'),
    });
    expect(await bystander.read()).toBe('mine');
    a.meta.isSessionDoubtful = false;
    expect(await one.read()).toBe('mine');
  });

  it('what has given up its lock is read as always', async () => {
    const one = await program(a);
    await one.write(0, 'text');
    await one.set(WRITE);
    await one.set(UNLOCK);
    a.meta.doubtSession();
    expect(await one.read()).toBe('text');
  });
});

/** The reviewer's cases: what is on its way when a file is closed, a session ends or a lock is given up. */
describe('what comes too late', () => {
  it('is written before the lock is given up, whichever handle is closed', async () => {
    const one = await program(a);
    const reader = await a.vfs.open(ROOT, ino, O_RDONLY);
    const other = await program(b);
    await one.set(WRITE);
    await one.write(0, 'under the lock');
    // The process closes another descriptor of the file: its locks go, as POSIX wants.
    await a.vfs.flush(ROOT, reader.handle, one.owner.owner);
    await other.set(WRITE);
    expect(await other.read()).toBe('under the lock');
  });

  it('is given up when it is granted to an open file that was closed meanwhile', async () => {
    const holder = await program(b);
    const one = await program(a);
    await holder.set(WRITE);
    const waiting = one.set(WRITE, true);
    await turns();
    await one.close();
    await holder.set(UNLOCK);
    await expect(waiting).rejects.toMatchObject({ code: 'EBADF' });
    await holder.set(WRITE, true);
  });

  it('is given up also if the question was on its way when the process closed the file', async () => {
    const one = await program(a);
    const other = await program(b);
    let arrive!: () => void;
    a.meta.beforeMutate = (mutation) => {
      if (mutation.op !== 'lock') return;
      a.meta.beforeMutate = undefined;
      return new Promise<void>((resolve) => (arrive = resolve));
    };
    const asked = one.set(WRITE);
    await turns();
    const closed = one.close();
    arrive();
    await Promise.allSettled([asked, closed]);
    await turns();
    await other.set(WRITE);
  });

  it('is given up when the session ended while it was asked for, and was granted under the next', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set({ type: 'read', start: 0, end: 9, pid: 1 });
    let lost = false;
    a.meta.beforeMutate = async (mutation) => {
      if (mutation.op !== 'lock' || lost) return;
      lost = true;
      await cluster.expire(a);
    };
    await expect(one.set(WRITE)).rejects.toMatchObject({ code: 'EIO' });
    await turns();
    await other.set(WRITE);
  });

  it('does not take back what is known since the grant', async () => {
    const one = await program(a);
    const other = await program(b);
    expect(await one.read()).toBe('');
    // A question of another program of the mount, answered late with what was true before.
    let answer!: () => void;
    a.meta.afterQuery = () => {
      a.meta.afterQuery = undefined;
      return new Promise<void>((resolve) => (answer = resolve));
    };
    const slow = a.vfs.open(ROOT, ino, O_RDONLY);
    await turns();
    await other.set(WRITE);
    await other.write(0, 'new');
    await other.set(UNLOCK);
    await one.set(WRITE);
    answer();
    await slow;
    expect(await one.read()).toBe('new');
  });

  it('is not done to a file whose lock is lost', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    await cluster.expire(a);
    await other.set(WRITE);
    await other.write(0, 'kept');
    await other.set(UNLOCK);
    const { vfs } = a;
    await expect(vfs.setattr(ROOT, ino, { sizeBytes: 0 }, one.handle)).rejects.toMatchObject({ code: 'EIO' });
    await expect(vfs.fallocate(ROOT, one.handle, 0, 4, 3)).rejects.toMatchObject({ code: 'EIO' });
    await expect(one.set(UNLOCK)).rejects.toMatchObject({ code: 'EIO' });
    expect(await other.read()).toBe('kept');
  });

  it('leaves a handle alone that has given up its lock before the session was lost', async () => {
    const one = await program(a);
    const range = { start: 3, end: 8, pid: 1 };
    await one.set({ ...range, type: 'write' });
    await one.set({ ...range, type: 'unlock' });
    await cluster.expire(a);
    await one.write(0, 'fine');
    expect(await one.read()).toBe('fine');
  });

  it('is given up by a close that has an earlier write to complain of', async () => {
    const one = await program(a);
    const other = await program(b);
    await one.set(WRITE);
    cluster.blocks.beforePut = () => {
      throw new NoSpaceError('full');
    };
    await one.write(0, 'x'.repeat(5_000));
    await expect(one.close()).rejects.toMatchObject({ code: 'ENOSPC' });
    await other.set(WRITE);
  });
});
