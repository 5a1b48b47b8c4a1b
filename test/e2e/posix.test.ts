/** Random file operations, on a mount (or two of them) and on ext4, by one user and by several: all must come out the same. */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, mustTatami, run, shell, tatami, TestCluster } from './support.ts';

const POSIX = fileURLToPath(new URL('./posix.py', import.meta.url));
/** More for a long run, with other seeds: POSIX_OPS=25000 POSIX_SEED=100 are 100,000 operations. */
const COUNT = Number(process.env['POSIX_OPS'] ?? 200);
const FIRST_SEED = Number(process.env['POSIX_SEED'] ?? 1);
/** Operations of one run: longer histories are harder to read. */
const RUN_COUNT = 1_000;
const EXT4_MIB = 64;

describe('a mount and ext4', () => {
  let cluster: TestCluster;
  let first: string;
  let second: string;
  let ext4: string;
  beforeAll(async () => {
    cluster = await TestCluster.start({ args: ['--no-mount'] });
    first = join(cluster.directory, 'first');
    second = join(cluster.directory, 'second');
    ext4 = join(cluster.directory, 'ext4');
    for (const directory of [first, second, ext4]) mkdirSync(directory);
    // Other users get there, too.
    chmodSync(cluster.directory, 0o755);
    // Names and attributes are not kept, so that each mount shows at once what was done on the other.
    for (const mount of [first, second]) {
      await mustTatami(['mount', mount, '--data', cluster.data, '--attr-timeout-ms', '0']);
    }
    await shell(
      `truncate -s ${EXT4_MIB}M ${ext4}.img && mkfs.ext4 -q -b 4096 -O ea_inode ${ext4}.img && mount -o loop ${ext4}.img ${ext4}`,
    );
  });
  afterAll(async () => {
    await run('umount', [ext4]);
    for (const mount of [first, second]) await tatami(['umount', '--force', mount]);
    await cluster.destroy();
  });

  it.each([
    ['by one user on one mount', 1, []],
    ['by several users on one mount', 1, ['users']],
    ['by one user on two mounts', 2, []],
    ['by several users on two mounts', 2, ['users']],
  ] as const)('do the same: %s', async (_, mounts, rest) => {
    for (let done = 0, seed = FIRST_SEED; done < COUNT; done += RUN_COUNT, seed++) {
      const name = `${mounts}-${rest.length}-${seed}`;
      const places = [first, second].slice(0, mounts).map((mount) => join(mount, name));
      const reference = join(ext4, name);
      for (const directory of [reference, places[0]!]) mkdirSync(directory);
      const count = Math.min(RUN_COUNT, COUNT - done);
      const said = await must('python3', [POSIX, reference, places.join(), String(seed), String(count), ...rest], {
        timeoutMs: 240_000,
      });
      expect(said.trim(), `seed ${seed}`).toBe(`${count} operations, no difference`);
      await shell(`rm -rf ${reference} ${places[0]}`);
    }
  });
});
