/** One directory with many entries: all are there, each once, also while they are removed; offsets stay; `rm -r` ends. */
import { readdirSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connect } from '../../src/index.ts';
import { must, TestCluster } from './support.ts';

/** More for a long run: DIRECTORY_ENTRIES=100000. Beyond 10,000 `find` and `rm` go by inode numbers. */
const COUNT = Number(process.env['DIRECTORY_ENTRIES'] ?? 1_500);
const REMOVED = 300;
const SEEKS = 200;
const IN_FLIGHT = 64;
const SEEK_DIRECTORY = fileURLToPath(new URL('./seek-directory.py', import.meta.url));
let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start({ nodes: 2, copies: 2 });
});
afterAll(() => cluster.destroy());

it('entries are neither lost nor told twice, offsets stay, and rm -r takes them all while others list', async () => {
  const directory = join(cluster.mount, 'large');
  await using program = await connect({ data: cluster.data, label: 'test' });
  await program.mkdir('/large');
  let next = 0;
  const make = async () => {
    while (next < COUNT) await (await program.open(`/large/file-${next++}`, 'wx')).close();
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, make));
  const all = Array.from({ length: COUNT }, (_, index) => `file-${index}`).sort();
  expect(readdirSync(directory).sort()).toEqual(all);
  expect((await must('find', [directory, '-size', '-1', '-type', 'f'])).trim().split('\n')).toHaveLength(COUNT);

  // In the order of their making, which the mount notices and has the next ones told ahead.
  const inos = Array.from({ length: COUNT }, (_, index) => statSync(join(directory, `file-${index}`)).ino);
  expect(new Set(inos).size).toBe(COUNT);

  const seeks = ['python3', [SEEK_DIRECTORY, directory, REMOVED, SEEKS, 7].map(String)] as const;
  expect(await must(...seeks)).toBe(`${SEEKS}\n`);

  const removing = { ended: false };
  const removal = must('rm', ['-r', directory]).finally(() => (removing.ended = true));
  let before = new Set(await readdir(directory));
  const listings = [() => readdir(directory), () => program.readdir('/large')];
  for (let turn = 0; !removing.ended; turn++) {
    const listed = await listings[turn % 2]!().catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    const told = new Set(listed);
    expect(told.size).toBe(listed.length);
    // Nothing is made any more, so what is there now was there before.
    expect(listed.filter((name) => !before.has(name))).toEqual([]);
    before = told;
  }
  await removal;
  expect(readdirSync(cluster.mount)).toEqual([]);
});
