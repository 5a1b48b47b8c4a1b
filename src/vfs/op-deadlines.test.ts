import { describe, expect, it } from 'vitest';
import { UnavailableError } from '../errors.ts';
import { ROOT_INO } from '../ids.ts';
import { O_CREAT, O_RDONLY, O_RDWR } from './handles.ts';
import { OpDeadlines } from './op-deadlines.ts';
import { HandClock, name, pattern, readAll, ROOT, TestCluster, turns } from './testing.ts';

const never = () => new Promise<never>(() => {});
const EIO = { code: 'EIO' };

describe('deadlines of operations', () => {
  it('end what waits too long, oldest first, and give back what comes later', async () => {
    const clock = new HandClock();
    const deadlines = new OpDeadlines(clock, 1_000);
    expect(deadlines.bound('read', 5)).toBe(5);
    let answer!: (value: number) => void;
    const late: number[] = [];
    const first = expect(
      deadlines.bound('open', new Promise<number>((resolve) => (answer = resolve)), (value) => late.push(value)),
    ).rejects.toMatchObject({ code: 'EIO', message: 'open did not end within 1000 ms' });
    await clock.advance(600);
    const second = expect(deadlines.bound('stat', never())).rejects.toMatchObject(EIO);
    await clock.advance(500);
    await first;
    expect(deadlines.waitingCount).toBe(1);
    answer(7);
    await turns(1);
    expect(late).toEqual([7]);
    await clock.advance(500);
    await second;
    expect(clock.timerCount).toBe(0);
  });

  it('leave no timer behind when all has ended by itself', async () => {
    const clock = new HandClock();
    const deadlines = new OpDeadlines(clock, 1_000);
    expect(await deadlines.bound('stat', Promise.resolve(1))).toBe(1);
    await expect(deadlines.bound('stat', Promise.reject(new UnavailableError('no')))).rejects.toThrow('no');
    expect(clock.timerCount).toBe(0);
  });
});

describe('a mount whose servers are gone', () => {
  async function stalled() {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount({ timeoutMs: 10_000, attrTimeoutMs: 0 });
    const { vfs, meta } = mount;
    const directory = await vfs.mkdir(ROOT, ROOT_INO, name('dir'), 0o755);
    const file = await vfs.create(ROOT, directory.attr.ino, name('file'), 0o644, O_RDWR | O_CREAT);
    await vfs.write(ROOT, file.handle, 0, pattern(5_000, 1));
    await vfs.fsync(ROOT, file.handle, false);
    const closing = await vfs.create(ROOT, ROOT_INO, name('closing'), 0o644, O_RDWR | O_CREAT);
    await vfs.sync();
    let away = true;
    const wait = () => (away ? never() : undefined);
    meta.beforeMutate = wait;
    meta.beforeQuery = wait;
    meta.beforeSync = wait;
    cluster.blocks.beforePut = wait;
    cluster.blocks.beforeRead = wait;
    return { cluster, vfs, mount, directory, file, closing, back: () => (away = false) };
  }

  it('ends every operation within its deadline, and tells the log of them by path', async () => {
    const { cluster, vfs, mount, directory, file, closing } = await stalled();
    const { ino } = directory.attr;
    const listing = vfs.opendir(ROOT, ino) as { handle: number };
    await vfs.write(ROOT, file.handle, 5_000, pattern(100, 2));
    await vfs.write(ROOT, closing.handle, 0, pattern(50_000, 2));
    const operations: Record<string, () => unknown> = {
      lookup: () => vfs.lookup(ROOT, ino, name('x')),
      getattr: () => vfs.getattr(ROOT, ino, undefined),
      setattr: () => vfs.setattr(ROOT, ino, { mode: 0o700 }, undefined),
      truncate: () => vfs.setattr(ROOT, file.attr.ino, { sizeBytes: 1 }, undefined),
      readlink: () => vfs.readlink(ROOT, ino),
      mkdir: () => vfs.mkdir(ROOT, ino, name('d'), 0o755),
      symlink: () => vfs.symlink(ROOT, ino, name('s'), name('to')),
      link: () => vfs.link(ROOT, file.attr.ino, ino, name('l')),
      unlink: () => vfs.unlink(ROOT, ino, name('file')),
      rmdir: () => vfs.rmdir(ROOT, ROOT_INO, name('dir')),
      rename: () =>
        vfs.rename(ROOT, ROOT_INO, name('dir'), ROOT_INO, name('other'), { noReplace: false, exchange: false }),
      open: () => vfs.open(ROOT, file.attr.ino, O_RDONLY),
      create: () => vfs.create(ROOT, ino, name('new'), 0o644, O_RDWR | O_CREAT),
      fsync: () => vfs.fsync(ROOT, file.handle, false),
      close: () => vfs.flush(ROOT, closing.handle, 0n),
      fallocate: () => vfs.fallocate(ROOT, file.handle, 0, 100_000, 0),
      readdir: () => vfs.readdir(ROOT, listing.handle, 0, 10, true),
      getxattr: () => vfs.getxattr(ROOT, ino, name('user.a')),
      setxattr: () => vfs.setxattr(ROOT, ino, name('user.a'), name('b'), 'any'),
      listxattr: () => vfs.listxattr(ROOT, ino),
      removexattr: () => vfs.removexattr(ROOT, ino, name('user.a')),
      statfs: () => vfs.statfs(ROOT),
      sync: () => vfs.sync(),
    };
    const ended = new Set<string>();
    const all = Object.entries(operations).map(async ([what, start]) => {
      await expect(Promise.resolve(start()), what).rejects.toMatchObject(EIO);
      ended.add(what);
    });
    await cluster.clock.advance(10_000);
    expect([...ended].sort()).toEqual(Object.keys(operations).sort());
    await Promise.all(all);
    const told = mount.logged.filter((line) => line.message === 'operations failed').map((line) => line.facts);
    expect(told[0]).toMatchObject({ path: '/closing', op: 'close', code: 'EIO' });
  });

  it('works again with files that were open, once the servers are back', async () => {
    const { cluster, vfs, file, back } = await stalled();
    const reading = expect(Promise.resolve(vfs.fsync(ROOT, file.handle, false)));
    await vfs.write(ROOT, file.handle, 0, pattern(5_000, 3));
    const failing = expect(Promise.resolve(vfs.fsync(ROOT, file.handle, false))).rejects.toMatchObject(EIO);
    await cluster.clock.advance(12_000);
    await failing;
    await reading.rejects.toMatchObject(EIO);
    back();
    await vfs.write(ROOT, file.handle, 0, pattern(5_000, 4));
    // The error was told; it is not told again.
    await vfs.fsync(ROOT, file.handle, false);
    expect((await readAll(vfs, file.handle, 0, 5_000)).equals(pattern(5_000, 4))).toBe(true);
  });

  it('is closed within its time, and names the files that could not be written, without asking anybody', async () => {
    const { cluster, vfs, file } = await stalled();
    await vfs.write(ROOT, file.handle, 0, pattern(5_000, 3));
    let lost: string[] | undefined;
    void vfs.close(4_000).then((paths) => (lost = paths));
    await cluster.clock.advance(4_000);
    expect(lost).toEqual(['/dir/file']);
  });

  it('is closed at once if nothing was left to write', async () => {
    const { cluster, vfs } = await stalled();
    let lost: string[] | undefined;
    void vfs.close(4_000).then((paths) => (lost = paths));
    await cluster.clock.advance(0);
    expect(lost).toEqual([]);
  });

  it('fails all that waits in line after one deadline, not one after the other', async () => {
    const { cluster, vfs, directory } = await stalled();
    cluster.blocks.beforePut = never;
    const mount = await cluster.mount({ timeoutMs: 10_000, dirtyMaxBytes: 64 * 65_536 });
    const made = await mount.vfs.create(ROOT, ROOT_INO, name('big'), 0o644, O_RDWR | O_CREAT);
    // Many times what is put at once.
    await mount.vfs.write(ROOT, made.handle, 0, pattern(60 * 65_536, 1));
    const flushed = expect(Promise.resolve(mount.vfs.flush(ROOT, made.handle, 0n))).rejects.toMatchObject(EIO);
    await cluster.clock.advance(10_000);
    await flushed;
    expect(mount.vfs.usage().dirtyBytes).toBeLessThanOrEqual(8 * 65_536);
    expect(vfs.usage().inodeCount).toBeGreaterThan(0);
    expect(directory.attr.type).toBe('directory');
  });
});

describe('a mount whose session has expired', () => {
  it('tells each file that lost what was not committed, and goes on', async () => {
    const cluster = await TestCluster.start();
    const mount = await cluster.mount();
    const file = await mount.vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_RDWR | O_CREAT);
    await mount.vfs.write(ROOT, file.handle, 0, pattern(100, 1));
    mount.meta.loseSession();
    await expect(Promise.resolve(mount.vfs.fsync(ROOT, file.handle, false))).rejects.toMatchObject(EIO);
    expect(mount.logged.map((line) => line.facts)).toContainEqual(expect.objectContaining({ path: '/f', code: 'EIO' }));
    await mount.vfs.write(ROOT, file.handle, 0, pattern(100, 2));
    await mount.vfs.fsync(ROOT, file.handle, false);
    expect((await readAll(mount.vfs, file.handle, 0, 100)).equals(pattern(100, 2))).toBe(true);
  });
});
