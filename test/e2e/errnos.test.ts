/**
 * What each call refuses, by each user, and why: every errno that POSIX lists for it and a filesystem can return. The cases
 * (errnos/*.py) are done on ext4 and on a mount, and each must come out the same; what differs by intent is listed here.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { must, run, shell, TestCluster } from './support.ts';

const RUNNER = fileURLToPath(new URL('./errnos/run.py', import.meta.url));
const EXT4_MIB = 128;

/** Every one is provoked at least once, else the cases have lost their point. */
const ERRNOS = [
  ...['E2BIG', 'EACCES', 'EAGAIN', 'EBADF', 'EBUSY', 'EEXIST', 'EFAULT', 'EFBIG', 'EINVAL', 'EISDIR', 'ELOOP'],
  ...[
    'ENAMETOOLONG',
    'ENODATA',
    'ENODEV',
    'ENOENT',
    'ENOEXEC',
    'ENOSPC',
    'ENOTDIR',
    'ENOTEMPTY',
    'EOPNOTSUPP',
    'ENOTTY',
  ],
  ...['ENXIO', 'EOVERFLOW', 'EPERM', 'EPIPE', 'ERANGE', 'EROFS', 'ESPIPE', 'ETXTBSY', 'EXDEV', 'EDEADLK'],
];

interface Difference {
  /** Of the line without its result. */
  readonly cases: RegExp;
  readonly ext4: RegExp;
  readonly mount: RegExp;
}

/** Each must be there: what no longer differs is to be taken out. */
const DIFFERENT: Readonly<Record<string, Difference>> = {
  'RENAME_WHITEOUT, for overlay filesystems, is not supported': {
    cases: /^renameat2 \| .* with flags [45] \|/,
    ext4: /^(ok|ENOTEMPTY)$/,
    mount: /^EINVAL$/,
  },
  "setgid without group execute, a mark for locking: the kernel's FUSE leaves it where others write": {
    cases: /\| sets of mode [26]767 \| (ann|root without capabilities)$/,
    ext4: /0o2?767$/,
    mount: /0o2767$/,
  },
  'O_TRUNC by user 0 without capabilities, which the kernel does not tell': {
    cases: /^O_TRUNC \| sets of mode [246]7[67]7 \| root without capabilities$/,
    ext4: /^ok, then ok 0o2?7[67]7$/,
    mount: /^ok, then ok 0o[246]7[67]7$/,
  },
  'O_TRUNC by another user with CAP_FSETID, which the kernel does not tell: it is taken for one without': {
    cases: /^O_TRUNC \| sets of mode [246]7[67]7 \| fsetid$/,
    ext4: /^ok, then ok 0o[246]7[67]7$/,
    mount: /^ok, then ok 0o2?7[67]7$/,
  },
  'the C library has a table of filesystems and their limits, in which ext4 stands': {
    cases: /^pathconf \| PC_LINK_MAX \|/,
    ext4: /^ok 65000$/,
    mount: /^ok 127$/,
  },
};

let cluster: TestCluster;
let ext4: string;
beforeAll(async () => {
  // Who refuses is the mount and the group's primary: others would only take their time.
  cluster = await TestCluster.start({ nodes: 1, copies: 1 });
  // Other users get there, too.
  chmodSync(cluster.directory, 0o755);
  ext4 = join(cluster.directory, 'ext4');
  mkdirSync(ext4);
  await shell(
    `truncate -s ${EXT4_MIB}M ${ext4}.img && mkfs.ext4 -q -b 4096 -O ea_inode ${ext4}.img && mount -o loop ${ext4}.img ${ext4}`,
  );
});
afterAll(async () => {
  await run('umount', [ext4]);
  await cluster.destroy();
});

/** Results by case. */
async function answers(root: string, other: string, part: string): Promise<Map<string, string>> {
  const directory = join(root, part);
  mkdirSync(directory);
  const said = await must('python3', [RUNNER, directory, other, part], { timeoutMs: 240_000 });
  const lines = said.trimEnd().split('\n');
  const cut = lines.map((line) => line.lastIndexOf(' | '));
  const results = new Map(lines.map((line, index) => [line.slice(0, cut[index]), line.slice(cut[index]! + 3)]));
  expect(results.size, 'every case has a name of its own').toBe(lines.length);
  return results;
}

const seen = new Set<string>();
const used = new Set<string>();

it.each(['names', 'content', 'attributes', 'mounted'])('a mount refuses what ext4 refuses: %s', async (part) => {
  const expected = await answers(ext4, cluster.mount, part);
  const got = await answers(cluster.mount, ext4, part);
  expect([...got.keys()]).toEqual([...expected.keys()]);
  const wrong: string[] = [];
  for (const [line, right] of expected) {
    const found = got.get(line)!;
    for (const errno of right.match(/\bE[A-Z0-9]{3,}\b/g) ?? []) seen.add(errno);
    if (/^\w+Error/.test(right)) wrong.push(`${line}: ${right}`);
    if (found === right) continue;
    const reason = Object.entries(DIFFERENT).find(
      ([, { cases, ext4: there, mount }]) => cases.test(line) && there.test(right) && mount.test(found),
    );
    if (reason === undefined) wrong.push(`${line}: ext4 ${right}, mount ${found}`);
    else used.add(reason[0]);
  }
  expect(wrong).toEqual([]);
});

it('the cases have provoked every errno, and every listed difference', () => {
  expect(ERRNOS.filter((errno) => !seen.has(errno))).toEqual([]);
  expect(Object.keys(DIFFERENT).filter((reason) => !used.has(reason))).toEqual([]);
});
