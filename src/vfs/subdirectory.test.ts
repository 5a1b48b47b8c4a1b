import { expect, it } from 'vitest';
import type { Ino } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { Vfs } from './vfs.ts';
import { directoryAt, SubdirectoryOps } from './subdirectory.ts';
import { name, ROOT, TestCluster, turns, WatchedKernel } from './testing.ts';

const TIMEOUT_MS = 1_000;

/** `/projects/inner`, seen by one mount whole and by another from /projects on. */
async function start() {
  const cluster = await TestCluster.start();
  const whole = (await cluster.mount({ attrTimeoutMs: TIMEOUT_MS })).vfs;
  const made = await whole.mkdir(ROOT, ROOT_INO, name('projects'), 0o755);
  const inner = await whole.mkdir(ROOT, made.attr.ino, name('inner'), 0o755);
  await whole.symlink(ROOT, ROOT_INO, name('link'), name('/projects/inner/..'));
  const { vfs } = await cluster.mount({ attrTimeoutMs: TIMEOUT_MS });
  const top = await directoryAt(vfs, ROOT, '/projects');
  return { cluster, whole, vfs, top, inner: inner.attr.ino, ops: new SubdirectoryOps(vfs, top) };
}

it('finds the directory, through links of the filesystem too', async () => {
  const { vfs, top } = await start();
  expect(await directoryAt(vfs, ROOT, 'link')).toBe(top);
  expect(await directoryAt(vfs, ROOT, '/')).toBe(ROOT_INO);
  expect(await directoryAt(vfs, ROOT, '/../../projects/')).toBe(top);
  await expect(directoryAt(vfs, ROOT, '/nowhere')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(directoryAt(vfs, ROOT, '/nowhere/further')).rejects.toMatchObject({ code: 'ENOENT' });
  const file = await vfs.create(ROOT, ROOT_INO, name('file'), 0o644, 0);
  vfs.release(file.handle);
  await expect(directoryAt(vfs, ROOT, '/file')).rejects.toMatchObject({ code: 'ENOTDIR' });
});

it('is the root: of number 1, its own parent, and the parent of what is in it', async () => {
  const { ops, top, inner } = await start();
  expect((await ops.getattr(ROOT, ROOT_INO, undefined)).attr).toMatchObject({ ino: ROOT_INO, parent: 0 });
  const entry = await ops.lookup(ROOT, ROOT_INO, name('inner'));
  expect(entry.attr).toMatchObject({ ino: inner, parent: ROOT_INO });
  await expect(async () => ops.lookup(ROOT, ROOT_INO, name('projects'))).rejects.toMatchObject({ code: 'ENOENT' });
  const listed = async (ino: Ino) => {
    const { handle } = await ops.opendir(ROOT, ino);
    const items = await ops.readdir(ROOT, handle, 0, 100, true);
    await ops.releasedir(handle);
    return items.map((item) => [Buffer.from(item.name).toString(), item.ino]);
  };
  expect(await listed(ROOT_INO)).toEqual([
    ['.', ROOT_INO],
    ['..', ROOT_INO],
    ['inner', inner],
  ]);
  expect(await listed(inner)).toEqual([
    ['.', inner],
    ['..', ROOT_INO],
  ]);
  // The number by which others know it was never given.
  await expect(async () => ops.getattr(ROOT, top, undefined)).rejects.toMatchObject({ code: 'ESTALE' });
});

it('makes, renames and removes in the directory', async () => {
  const { ops, whole, top, inner, cluster } = await start();
  const made = await ops.mkdir(ROOT, ROOT_INO, name('a'), 0o700);
  await ops.rename(ROOT, ROOT_INO, name('a'), inner, name('b'), { noReplace: false, exchange: false });
  await ops.rename(ROOT, inner, name('b'), ROOT_INO, name('c'), { noReplace: false, exchange: false });
  await cluster.clock.advance(2 * TIMEOUT_MS);
  expect((await whole.lookup(ROOT, top, name('c'))).attr.ino).toBe(made.attr.ino);
  await ops.rmdir(ROOT, ROOT_INO, name('c'));
  await ops.setattr(ROOT, ROOT_INO, { mode: 0o711 }, undefined);
  expect((await ops.getattr(ROOT, ROOT_INO, undefined)).attr).toMatchObject({ ino: ROOT_INO, mode: 0o711 });
});

it('is stale once it is removed elsewhere', async () => {
  const { ops, whole, top, cluster } = await start();
  await ops.getattr(ROOT, ROOT_INO, undefined);
  await whole.rmdir(ROOT, top, name('inner'));
  await whole.rmdir(ROOT, ROOT_INO, name('projects'));
  await cluster.clock.advance(2 * TIMEOUT_MS);
  await expect(async () => ops.lookup(ROOT, ROOT_INO, name('inner'))).rejects.toMatchObject({ code: 'ESTALE' });
  await expect(async () => ops.unlink(ROOT, ROOT_INO, name('inner'))).rejects.toMatchObject({ code: 'ESTALE' });
  // The kernel's binding makes ESTALE of it where the question is not about a name.
  await expect(async () => ops.getattr(ROOT, ROOT_INO, undefined)).rejects.toMatchObject({ code: 'ENOENT' });
});

it('tells the kernel in its own numbers', async () => {
  const { ops, top, inner } = await start();
  const kernel = new WatchedKernel();
  const told: unknown[] = [];
  const notifier = ops.notifierFor({
    expiresNames: true,
    invalidateInode: (ino) => (told.push(['inode', ino]), kernel.invalidateInode(ino)),
    invalidateAttributes: (ino) => (told.push(['attributes', ino]), kernel.invalidateAttributes(ino)),
    store: (ino, offset, data) => (told.push(['content', ino, offset, data.length]), kernel.store(ino, offset)),
    invalidateEntry: (parent) => void told.push(['entry', parent]),
  });
  await notifier.invalidateInode(top);
  await notifier.invalidateAttributes(inner);
  await notifier.invalidateInode(ROOT_INO);
  notifier.invalidateEntry(top, name('x'));
  notifier.invalidateEntry(ROOT_INO, name('x'));
  await notifier.store(inner, 4096, [name('x')]);
  await turns();
  expect(told).toEqual([
    ['inode', ROOT_INO],
    ['attributes', inner],
    ['entry', ROOT_INO],
    ['content', inner, 4096, 1],
  ]);
});

it('passes on all that an operation is called with', () => {
  const top = 50 as Ino;
  const asked: unknown[][] = [];
  const recorder = new Proxy(
    {},
    {
      get:
        () =>
        (...args: unknown[]) =>
          void asked.push(args),
    },
  );
  const ops = new SubdirectoryOps(recorder as unknown as Vfs, top) as unknown as Record<
    string,
    (...args: unknown[]) => unknown
  >;
  const given = [ROOT, 11, 12, 13, 14, 15, 16, 17];
  const names = Object.getOwnPropertyNames(SubdirectoryOps.prototype).filter(
    (one) => one in Vfs.prototype && one !== 'constructor',
  );
  expect(names).toContain('tmpfile');
  for (const one of names) {
    const { length } = (Vfs.prototype as unknown as Record<string, (...args: unknown[]) => unknown>)[one]!;
    try {
      ops[one]!(...given.slice(0, length));
    } catch {
      // It answers nothing that could be made an answer of.
    }
    expect(asked.pop(), one).toEqual(given.slice(0, length));
  }
});
