import { expect, it } from 'vitest';
import { FsError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import { name, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const COUNT = 300;
const nameOf = (index: number) => name(`file-${index}`);

async function directoryOfFiles(): Promise<{ cluster: TestCluster; mount: TestMount; directory: Ino }> {
  const cluster = await TestCluster.start();
  const maker = await cluster.mount();
  const { attr } = await maker.vfs.mkdir(ROOT, ROOT_INO, name('d'), 0o755);
  for (let index = 0; index < COUNT; index++) await maker.vfs.mknod(ROOT, attr.ino, nameOf(index), 'file', 0o644, 0);
  const mount = await cluster.mount({ attrTimeoutMs: 1_000 });
  return { cluster, mount, directory: attr.ino };
}

it('looking up the names of a directory in the order of their making takes a question for hundreds', async () => {
  const { mount, directory } = await directoryOfFiles();
  for (let index = 0; index < COUNT; index++) {
    const { attr } = await mount.vfs.lookup(ROOT, directory, nameOf(index));
    expect(attr.parent).toBe(directory);
    await turns(1);
  }
  expect(mount.meta.queries.length).toBeLessThan(25);
});

it('removing them meanwhile takes no more, and what is gone is not believed to be there', async () => {
  const { mount, directory } = await directoryOfFiles();
  for (let index = 0; index < COUNT; index++) {
    await mount.vfs.lookup(ROOT, directory, nameOf(index));
    await mount.vfs.unlink(ROOT, directory, nameOf(index));
    if (index % 50 === 25) await turns(1);
  }
  expect(mount.meta.queries.length).toBeLessThan(60);
  await turns();
  for (let index = 0; index < COUNT; index += 7) {
    await expect((async () => mount.vfs.lookup(ROOT, directory, nameOf(index)))()).rejects.toMatchObject({
      code: 'ENOENT',
    });
  }
});

it('what it told is believed for the attribute timeout, not longer', async () => {
  const { cluster, mount, directory } = await directoryOfFiles();
  for (let index = 0; index < 20; index++) {
    await mount.vfs.lookup(ROOT, directory, nameOf(index));
    await turns(1);
  }
  const asked = mount.meta.queries.length;
  expect(await mount.vfs.lookup(ROOT, directory, nameOf(25))).toMatchObject({ entryTimeoutMs: 1_000 });
  expect(mount.meta.queries.length).toBe(asked);
  const other = await cluster.mount();
  await other.vfs.unlink(ROOT, directory, nameOf(26));
  await cluster.clock.advance(1_001);
  await expect((async () => mount.vfs.lookup(ROOT, directory, nameOf(26)))()).rejects.toMatchObject({ code: 'ENOENT' });
});

it('who is slow is told of no more names than are looked up before they expire', async () => {
  const { cluster, mount, directory } = await directoryOfFiles();
  let told = 0;
  mount.meta.beforeQuery = (query) => {
    if (query.op === 'madeNext') told += query.limit;
  };
  for (let index = 0; index < COUNT; index++) {
    await mount.vfs.lookup(ROOT, directory, nameOf(index));
    await cluster.clock.advance(20);
  }
  // 50 in a second.
  expect(told).toBeLessThan(5 * COUNT);
  expect(mount.meta.queries.length).toBeLessThan(COUNT / 3);
});

it('names in no order, or without attribute caching, cost one question each', async () => {
  const { cluster, mount, directory } = await directoryOfFiles();
  const uncached = await cluster.mount({ attrTimeoutMs: 0 });
  for (let index = 0; index < 100; index++) {
    await mount.vfs.lookup(ROOT, directory, nameOf((index * 377) % COUNT));
    await uncached.vfs.lookup(ROOT, directory, nameOf(index));
    await turns(1);
  }
  expect(mount.meta.queries.length).toBe(100);
  expect(uncached.meta.queries.length).toBe(100);
});

it('servers that do not know the question are asked it seldom', async () => {
  const { mount, directory } = await directoryOfFiles();
  mount.meta.beforeQuery = async (query) => {
    if (query.op === 'madeNext') throw new FsError('EIO');
  };
  for (let index = 0; index < COUNT; index++) {
    await mount.vfs.lookup(ROOT, directory, nameOf(index));
    await turns(1);
  }
  expect(mount.meta.queries.filter(({ op }) => op === 'madeNext').length).toBeLessThan(3);
});
