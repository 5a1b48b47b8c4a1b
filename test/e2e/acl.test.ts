/** Access control lists: setfacl, getfacl and what follows of them, on two mounts and on ext4; by several users. */
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { must, mustTatami, run, shell, tatami, TestCluster, waitUntil } from './support.ts';

const RUNNER = fileURLToPath(new URL('./acl.py', import.meta.url));
const SCRIPT = fileURLToPath(new URL('./acl-script.txt', import.meta.url));
const COPIES = fileURLToPath(new URL('./acl-copies.txt', import.meta.url));
const EXT4_MIB = 32;
const ANN = { uid: 1000, gid: 1000 };

let cluster: TestCluster;
/** Two on which names and attributes are not kept, so that each shows at once what was done on the other. */
let first: string;
let second: string;
let ext4: string;
beforeAll(async () => {
  cluster = await TestCluster.start();
  chmodSync(cluster.directory, 0o755);
  [first, second, ext4] = ['first', 'second', 'ext4'].map((name) => join(cluster.directory, name)) as [
    string,
    string,
    string,
  ];
  for (const directory of [first, second, ext4]) mkdirSync(directory);
  for (const mount of [first, second]) {
    await mustTatami(['mount', mount, '--data', cluster.data, '--attr-timeout-ms', '0']);
  }
  await shell(
    `truncate -s ${EXT4_MIB}M ${ext4}.img && mkfs.ext4 -q ${ext4}.img && mount -o loop,acl ${ext4}.img ${ext4}`,
  );
});
afterAll(async () => {
  await run('umount', [ext4]);
  for (const mount of [first, second]) await tatami(['umount', '--force', mount]);
  await cluster.destroy();
});

const answers = (script: string, directories: readonly string[]) =>
  must('python3', [RUNNER, script, directories.join()]);

it('two mounts, and one that keeps names and attributes, answer as ext4 does', async () => {
  const expected = await answers(SCRIPT, [ext4]);
  // So that a script that nobody could run is no success.
  expect(expected).toContain('user:1002:rwx');
  expect(expected).not.toMatch(/^= 12[67]$/m);
  for (const mounts of [[first, second], [cluster.mount]]) {
    const places = mounts.map((mount) => join(mount, `by-${mounts.length}`));
    mkdirSync(places[0]!);
    expect(await answers(SCRIPT, places)).toBe(expected);
    // Without any cache it would take long, and show nothing more.
    if (mounts.length === 1) expect(await answers(COPIES, places)).toBe(await answers(COPIES, [ext4]));
  }
});

it('a change through another mount is seen when the attributes have run out', async () => {
  const path = (mount: string) => join(mount, 'secret');
  await shell(`echo secret > ${path(first)}; chmod 600 ${path(first)}`);
  const may = async () => (await run('cat', [path(cluster.mount)], ANN)).code === 0;
  expect(await may()).toBe(false);
  await must('setfacl', ['-m', `u:${ANN.uid}:r`, path(first)]);
  await waitUntil('ann may read', may, 10_000);
  await must('setfacl', ['-b', path(second)]);
  await waitUntil('ann may not read any more', async () => !(await may()), 10_000);
  await must('setfacl', ['-m', `u:${ANN.uid}:r`, path(cluster.mount)]);
  expect(readFileSync(path(cluster.mount), 'utf8')).toBe('secret\n');
  expect(await may()).toBe(true);
});
