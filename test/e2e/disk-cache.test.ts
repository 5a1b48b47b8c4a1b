/** A mount that keeps what it has read on a disk of its own. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MiB } from '../../src/limits.ts';
import { TestCluster, mustTatami, sha256, shell, tatami, waitUntil } from './support.ts';

const FILE_BYTES = 24 * MiB;

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.destroy());

it('reads a file from the nodes once, not again after a remount, and lets nobody else use the directory', async () => {
  const { data, directory, mount } = cluster;
  const source = join(directory, 'source');
  writeFileSync(source, randomBytes(FILE_BYTES));
  await shell(`cp ${source} ${mount}/file; sync`);
  const [second, third, cache] = ['second', 'third', 'cache'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(second);
  mkdirSync(third);
  const cached = ['--data', data, '--no-local-reads', '--cache-dir', cache];
  const readFromNodes = async () =>
    (await cluster.status()).nodes.reduce((sum, { readBytes }) => sum + (readBytes ?? 0), 0);
  const kept = () =>
    readdirSync(cache, { recursive: true, withFileTypes: true }).filter(({ name }) => /^[0-9a-f]{64}-\d+$/.test(name));

  await mustTatami(['mount', second, ...cached, '--cache-size', '1']);
  const refused = await tatami(['mount', third, ...cached]);
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/another mount.* keeps its cache in/)]);
  // Others on this machine may read what the mount lets them read, not its blocks.
  expect(statSync(join(cache, 'tatami-cache-1')).mode & 0o777).toBe(0o700);
  const before = await readFromNodes();
  expect(await sha256(`${second}/file`)).toBe(await sha256(source));
  expect((await readFromNodes()) - before).toBeGreaterThanOrEqual(FILE_BYTES);
  await waitUntil('the blocks are on the disk', () => kept().length === FILE_BYTES / (4 * MiB));
  await mustTatami(['umount', second]);

  await mustTatami(['mount', second, ...cached]);
  const after = await readFromNodes();
  expect(await sha256(`${second}/file`)).toBe(await sha256(source));
  expect(await readFromNodes()).toBe(after);
  await mustTatami(['umount', second]);

  const alone = await tatami(['mount', second, '--data', data, '--cache-size', '1']);
  expect([alone.code, alone.stderr]).toEqual([2, expect.stringMatching(/--cache-dir \(cache_dir=\) is missing/)]);
  const file = await tatami(['mount', second, '--data', data, '--cache-dir', source]);
  expect([file.code, file.stderr]).toEqual([2, expect.stringMatching(/cannot be used for a cache/)]);
});
