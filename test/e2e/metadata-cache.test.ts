/** Names and attributes that nobody changes stay in the kernel; what others change shows within the attribute timeout. */
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connect } from '../../src/index.ts';
import { must, mustTatami, tatami, TestCluster, waitUntil } from './support.ts';

/** The attribute timeout, and time for a machine that is busy. */
const SHOWN_WITHIN_MS = 5_000;
/** A kernel without the watch would have to ask by then. */
const KEPT_FOR_MS = 4_000;

let cluster: TestCluster;
let other: string;
beforeAll(async () => {
  cluster = await TestCluster.start();
  other = join(cluster.directory, 'other');
  mkdirSync(other);
  await mustTatami(['mount', other, '--data', cluster.data]);
});
afterAll(async () => {
  await tatami(['umount', '--force', other]);
  await cluster.destroy();
});

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Looked at through the other mount until it is kept there: the watch is under way by the second time. */
async function keep(...names: readonly string[]): Promise<void> {
  for (let times = 0; times < 2; times += 1) {
    for (const name of names) lstatSync(join(other, name), { throwIfNoEntry: false });
    await sleep(times === 0 ? 1_100 : 0);
  }
}

it('the kernel answers for what it keeps, though the mount stands still', async () => {
  const names = Array.from({ length: 20 }, (_, index) => `kept-${index}`);
  for (const name of names) writeFileSync(join(cluster.mount, name), name);
  await keep(...names);
  await sleep(KEPT_FOR_MS);
  await cluster.kill(other, 'SIGSTOP');
  try {
    const paths = names.map((name) => join(other, name));
    expect(await must('timeout', ['5', 'stat', '--format=%s', ...paths])).toBe(
      names.map(({ length }) => `${length}\n`).join(''),
    );
  } finally {
    await cluster.kill(other, 'SIGCONT');
  }
});

it('what is changed through another mount or by a program shows in time', async () => {
  const here = (name: string) => join(cluster.mount, name);
  const seen = (name: string) => lstatSync(join(other, name), { throwIfNoEntry: false });
  const shows = async (what: string, holds: () => boolean): Promise<void> => {
    await waitUntil(what, async () => holds(), SHOWN_WITHIN_MS);
    await keep('f', 'g', 'd', 'd/x');
  };
  writeFileSync(here('f'), '1');
  mkdirSync(here('d'));
  await keep('f', 'g', 'd', 'd/x');
  chmodSync(here('f'), 0o640);
  await shows('the mode', () => (seen('f')!.mode & 0o777) === 0o640);
  truncateSync(here('f'), 77);
  await shows('the size', () => seen('f')!.size === 77);
  linkSync(here('f'), here('d/x'));
  await shows('the number of names', () => seen('f')!.nlink === 2 && seen('d/x') !== undefined);
  renameSync(here('f'), here('g'));
  await shows('the name', () => seen('f') === undefined && seen('g') !== undefined);
  writeFileSync(here('new'), 'another file');
  renameSync(here('new'), here('g'));
  await shows('the file of that name', () => seen('g')!.size === 12 && seen('d/x')!.nlink === 1);
  rmSync(here('d'), { recursive: true });
  await shows('that it is gone', () => seen('d') === undefined && seen('d/x') === undefined);
  await using files = await connect({ data: cluster.data });
  await files.writeFile('/g', 'by a program');
  await files.chmod('/g', 0o600);
  await shows('the change of a program', () => (seen('g')!.mode & 0o777) === 0o600);
});

it('and while the metadata finds another primary, and after', { timeout: 120_000 }, async () => {
  const here = (name: string) => join(cluster.mount, name);
  writeFileSync(here('f'), '1');
  await keep('f');
  const status = await cluster.status();
  await cluster.kill(status.groups[0]!.primary);
  chmodSync(here('f'), 0o600);
  await waitUntil('the mode', async () => (statSync(join(other, 'f')).mode & 0o777) === 0o600, 30_000);
  await keep('f');
  chmodSync(here('f'), 0o644);
  await waitUntil('the next mode', async () => (statSync(join(other, 'f')).mode & 0o777) === 0o644, SHOWN_WITHIN_MS);
});
