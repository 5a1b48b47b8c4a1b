/** What a file tells about itself while it has data that is not committed, and after. */
import { expect, it } from 'vitest';
import { ROOT_INO } from '../ids.ts';
import { MiB } from '../limits.ts';
import { O_CREAT, O_RDWR } from './handles.ts';
import { name, pattern, ROOT, TestCluster } from './testing.ts';

async function written(offset: number) {
  const cluster = await TestCluster.start(4096);
  const mount = await cluster.mount();
  const { attr, handle } = await mount.vfs.create(ROOT, ROOT_INO, name('sparse'), 0o644, O_RDWR | O_CREAT);
  await cluster.clock.advance(1);
  await mount.vfs.write(ROOT, handle, offset, pattern(1536, 1));
  const told = async () => await mount.vfs.getattr(ROOT, attr.ino, undefined);
  return { cluster, vfs: mount.vfs, ino: attr.ino, handle, told };
}

it('a file that was written and made longer has blocks, and nobody keeps how many until they are committed', async () => {
  const { vfs, ino, handle, told } = await written(0);
  const longer = await vfs.setattr(ROOT, ino, { sizeBytes: 10 * MiB }, handle);
  expect(longer).toMatchObject({ attr: { sizeBytes: 10 * MiB, storedBytes: 1536 }, attrTimeoutMs: 0 });
  await vfs.fsync(ROOT, handle, false);
  const committed = await told();
  expect(committed.attr.storedBytes).toBe(1536);
  expect(committed.attrTimeoutMs).toBeGreaterThan(0);
});

it('a hole before what was written has none, and what is written again does not count beyond the end', async () => {
  const { vfs, handle, told } = await written(10 * MiB);
  expect((await told()).attr).toMatchObject({ sizeBytes: 10 * MiB + 1536, storedBytes: 1536 });
  await vfs.fsync(ROOT, handle, false);
  const whole = await written(0);
  await whole.vfs.fsync(ROOT, whole.handle, false);
  await whole.vfs.write(ROOT, whole.handle, 0, pattern(1536, 2));
  expect((await whole.told()).attr).toMatchObject({ sizeBytes: 1536, storedBytes: 1536 });
});

it('does not change once more when it is committed', async () => {
  const { cluster, vfs, handle, told } = await written(0);
  const { mtimeNs, ctimeNs } = (await told()).attr;
  expect(ctimeNs).toBe(mtimeNs);
  await cluster.clock.advance(3);
  await vfs.fsync(ROOT, handle, false);
  expect((await told()).attr).toMatchObject({ mtimeNs, ctimeNs });
});
