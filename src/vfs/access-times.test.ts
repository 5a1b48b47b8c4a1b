/** Mounts on which reads move access times, by the rule of `relatime`. */
import { beforeEach, expect, it } from 'vitest';
import { ROOT_INO, type Ino } from '../ids.ts';
import { TELL_AFTER_MS } from './access-times.ts';
import { O_CREAT, O_NOATIME, O_RDONLY, O_RDWR } from './handles.ts';
import { name, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const DAY_MS = 86_400_000;

let cluster: TestCluster;
let reader: TestMount;
let other: TestMount;

beforeEach(async () => {
  cluster = await TestCluster.start(4096);
  reader = await cluster.mount({}, 'relative');
  other = await cluster.mount();
});

async function write(mount: TestMount, text: string): Promise<Ino> {
  const made = await mount.vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_RDWR | O_CREAT);
  await mount.vfs.write(ROOT, made.handle, 0, Buffer.from(text));
  await mount.vfs.flush(ROOT, made.handle, 0n);
  mount.vfs.release(made.handle);
  return made.attr.ino;
}

async function read({ vfs }: TestMount, ino: Ino, flags = O_RDONLY): Promise<void> {
  const { handle } = await vfs.open(ROOT, ino, flags);
  expect((await readAll(vfs, handle, 0, 100)).length).toBeGreaterThan(0);
  vfs.release(handle);
}

const told = () => reader.meta.mutations.filter(({ op }) => op === 'accessed').length;
const times = async ({ vfs }: TestMount, ino: Ino) => (await vfs.getattr(ROOT, ino, undefined)).attr;
const atServers = async (ino: Ino) => (await other.meta.query<'getattr'>({ op: 'getattr', ino })).attr;

it('shows the time of the read at once, and tells the servers soon; nothing else moves', async () => {
  const ino = await write(reader, 'text');
  const before = await atServers(ino);
  await cluster.clock.advance(1_000);
  await read(reader, ino);
  const readNs = cluster.clock.wallNs();
  expect((await times(reader, ino)).atimeNs).toBe(readNs);
  expect((await atServers(ino)).atimeNs).toBe(before.atimeNs);
  await cluster.clock.advance(TELL_AFTER_MS);
  expect(await atServers(ino)).toEqual({ ...before, atimeNs: readNs });
  expect((await times(reader, ino)).atimeNs).toBe(readNs);
});

it('moves it once after each change, and once a day', async () => {
  const ino = await write(reader, 'text');
  for (const [afterMs, expected] of [
    [1_000, 1],
    [TELL_AFTER_MS, 1],
    [1_000, 1],
    [DAY_MS, 2],
    [1_000, 2],
  ] as const) {
    await cluster.clock.advance(afterMs);
    await read(reader, ino);
    await read(reader, ino);
    await cluster.clock.advance(TELL_AFTER_MS);
    expect([afterMs, told()]).toEqual([afterMs, expected]);
  }
  await write(other, 'changed elsewhere');
  await cluster.clock.advance(2_000);
  await read(reader, ino);
  await cluster.clock.advance(TELL_AFTER_MS);
  expect(told()).toBe(3);
});

it('lets the kernel keep its pages only where a read of them need not be seen', async () => {
  const ino = await write(reader, 'text');
  const open = async () => {
    const opened = await reader.vfs.open(ROOT, ino, O_RDONLY);
    reader.vfs.release(opened.handle);
    return opened.keepCache;
  };
  await open();
  expect(await open()).toBe(false);
  await read(reader, ino);
  expect(await open()).toBe(true);
});

it('is later than the change that was read, also where the clock here is behind that of the servers', async () => {
  const ino = await write(other, 'text');
  const mtimeNs = cluster.clock.wallNs() + 60_000_000_000n;
  await other.vfs.setattr(ROOT, ino, { mtimeNs }, undefined);
  await read(reader, ino);
  await cluster.clock.advance(TELL_AFTER_MS);
  expect((await atServers(ino)).atimeNs).toBe(mtimeNs + 1n);
  await read(reader, ino);
  await cluster.clock.advance(TELL_AFTER_MS);
  expect(told()).toBe(1);
});

it('does not come after a time that a program sets, not even when it is on its way', async () => {
  const ino = await write(reader, 'text');
  await read(reader, ino);
  await reader.vfs.setattr(ROOT, ino, { atimeNs: 7n }, undefined);
  await cluster.clock.advance(TELL_AFTER_MS);
  expect([told(), (await atServers(ino)).atimeNs]).toEqual([0, 7n]);

  await read(reader, ino);
  let arrive!: () => void;
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  reader.meta.beforeMutate = ({ op }) => (op === 'accessed' ? arrived : undefined);
  await cluster.clock.advance(TELL_AFTER_MS);
  const setting = Promise.resolve(reader.vfs.setattr(ROOT, ino, { atimeNs: 8n }, undefined));
  await turns();
  arrive();
  await setting;
  expect([told(), (await atServers(ino)).atimeNs]).toEqual([1, 8n]);
  expect((await times(reader, ino)).atimeNs).toBe(8n);
});

it('is told when the mount is closed, and never goes back', async () => {
  const ino = await write(reader, 'text');
  await cluster.clock.advance(1_000);
  await read(reader, ino);
  const readNs = cluster.clock.wallNs();
  await reader.vfs.close();
  expect((await atServers(ino)).atimeNs).toBe(readNs);
  expect(cluster.clock.timerCount).toBe(0);
  await other.meta.mutate({ op: 'accessed', ino, atimeNs: readNs - 1n });
  expect((await atServers(ino)).atimeNs).toBe(readNs);
});

it('is not moved by O_NOATIME, nor by mounts that do not keep it; of directories and links it is', async () => {
  const ino = await write(reader, 'text');
  await read(reader, ino, O_RDONLY | O_NOATIME);
  await read(other, ino);
  const link = await reader.vfs.symlink(ROOT, ROOT_INO, name('l'), Buffer.from('f'));
  await cluster.clock.advance(TELL_AFTER_MS);
  expect(told()).toBe(0);
  const list = async ({ vfs }: TestMount) => {
    await vfs.lookup(ROOT, ROOT_INO, name('f'));
    await vfs.getattr(ROOT, ROOT_INO, undefined);
    const { handle } = await vfs.opendir(ROOT, ROOT_INO);
    await vfs.readdir(ROOT, handle, 0, 10, false);
    vfs.releasedir(handle);
  };
  await list(await cluster.mount({}, 'relative-but-directories'));
  await cluster.clock.advance(TELL_AFTER_MS);
  const root = await atServers(ROOT_INO);
  expect(root.atimeNs).toBeLessThan(root.mtimeNs);
  await list(reader);
  await reader.vfs.readlink(ROOT, link.attr.ino);
  const readNs = cluster.clock.wallNs();
  await cluster.clock.advance(TELL_AFTER_MS);
  expect([(await atServers(ROOT_INO)).atimeNs, (await atServers(link.attr.ino)).atimeNs]).toEqual([readNs, readNs]);
});

it('of a removed file is nobody’s business, and other failures do not end the mount', async () => {
  const ino = await write(reader, 'text');
  await read(reader, ino);
  await other.vfs.unlink(ROOT, ROOT_INO, name('f'));
  await cluster.clock.advance(TELL_AFTER_MS);
  expect(told()).toBe(1);
  expect(reader.logged).toEqual([]);
});
