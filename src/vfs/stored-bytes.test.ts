/** What a file tells it has stored while it has data that is not committed. */
import { expect, it } from 'vitest';
import { ROOT_INO } from '../ids.ts';
import { MiB } from '../limits.ts';
import { O_CREAT, O_RDWR } from './handles.ts';
import { name, pattern, ROOT, TestCluster } from './testing.ts';

it('a file that was written and made longer has blocks, and nobody keeps how many until they are committed', async () => {
  const mount = await (await TestCluster.start(4096)).mount();
  const { attr, handle } = await mount.vfs.create(ROOT, ROOT_INO, name('sparse'), 0o644, O_RDWR | O_CREAT);
  await mount.vfs.write(ROOT, handle, 0, pattern(1536, 1));
  const longer = await mount.vfs.setattr(ROOT, attr.ino, { sizeBytes: 10 * MiB }, handle);
  expect(longer.attr.sizeBytes).toBe(10 * MiB);
  expect(longer.attr.storedBytes).toBeGreaterThan(0);
  const isCommitted = longer.attr.storedBytes === 1536;
  expect(isCommitted || longer.attrTimeoutMs === 0).toBe(true);
  await mount.vfs.fsync(ROOT, handle, false);
  expect((await mount.vfs.getattr(ROOT, attr.ino, undefined)).attr.storedBytes).toBe(1536);
});
