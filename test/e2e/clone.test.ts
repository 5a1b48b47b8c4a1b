/** Copies that move no bytes: cp and copy_file_range on mounts, tatami clone, and what collection makes of them. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster, must, mustTatami, shell, tatami, type StatusJson } from './support.ts';

const SIZE = 9_000_000;

/** Everything under a directory that can be seen of it, a line each, then the contents' hashes. */
const LISTED = `find . -printf '%p %y %m %U %G %s %b %T@ %n %l\\n' | LC_ALL=C sort; getfattr -R -h -d -m - . 2>/dev/null | LC_ALL=C sort
  find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; find . -printf '%i %p\\n' | awk '{ n[$1] = n[$1] " " $2 } END { for (i in n) print n[i] }' | LC_ALL=C sort`;

const COPY = `
import os, sys
source, target, start, to, length = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT)
while length > 0 and (n := os.copy_file_range(a, b, length, start, to)) > 0:
    start, to, length = start + n, to + n, length - n
print(length)
`;

describe('clones', () => {
  let cluster: TestCluster;
  let where: readonly string[];
  let second: string;
  const content = randomBytes(SIZE);

  beforeAll(async () => {
    cluster = await TestCluster.start({ nodes: 3, copies: 2 });
    where = ['--data', cluster.data];
    second = join(cluster.directory, 'second');
    mkdirSync(second);
    await mustTatami(['mount', second, ...where]);
    await writeFile(at('file'), content, { flush: true });
  });
  afterAll(async () => {
    await tatami(['umount', '--force', second]);
    await cluster.destroy();
  });

  const at = (name: string): string => join(cluster.mount, name);
  const hash = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
  const copyRange = (...args: (string | number)[]): Promise<string> =>
    must('python3', ['-c', COPY, ...args.map(String)]);
  /** Block copies, and the bytes that they take on the disks. */
  const stored = async (): Promise<readonly [number, number]> => {
    const { nodes } = JSON.parse(await mustTatami(['status', '--json', ...where])) as StatusJson;
    const sum = (of: (node: (typeof nodes)[number]) => number | null): number =>
      nodes.reduce((total, node) => total + (of(node) ?? 0), 0);
    return [sum(({ blockCount }) => blockCount), sum(({ usedBytes }) => usedBytes)];
  };
  /** Through the other mount, and so not from the pages and blocks of the first. */
  const seen = (name: string): string => hash(readFileSync(join(second, name)));

  it('cp on a mount shares all blocks, and st_blocks counts them', async () => {
    const [count, bytes] = await stored();
    await must('cp', ['--reflink=auto', at('file'), at('copy')]);
    const [countNow, bytesNow] = await stored();
    expect(countNow).toBe(count);
    expect(bytesNow - bytes).toBeLessThan(100_000);
    expect(seen('copy')).toBe(hash(content));
    expect((await stat(at('copy'))).blocks).toBe((await stat(at('file'))).blocks);
  });

  it('copy_file_range cuts at any byte, from either mount, and moves nothing', async () => {
    const [count] = await stored();
    writeFileSync(at('cut'), 'x'.repeat(1_000));
    expect(await copyRange(at('file'), at('cut'), 4_194_000, 501, 3_000_001)).toBe('0\n');
    expect(await copyRange(join(second, 'file'), join(second, 'cut'), 77, 5_000_000, 10_000_000)).toBe('1000077\n');
    const wanted = Buffer.concat([
      Buffer.alloc(501, 'x'),
      content.subarray(4_194_000, 7_194_001),
      Buffer.alloc(5_000_000 - 3_000_502),
      content.subarray(77),
    ]);
    expect(seen('cut')).toBe(hash(wanted));
    expect(hash(readFileSync(at('cut')))).toBe(hash(wanted));
    expect(await stored().then(([countNow]) => countNow)).toBe(count);
  });

  it('the copy stays what it is when the source is overwritten or deleted, and garbage collected', async () => {
    await must('cp', [at('copy'), at('second-copy')]);
    await writeFile(at('file'), randomBytes(SIZE), { flush: true });
    rmSync(at('copy'));
    await mustTatami(['gc', ...where]);
    await mustTatami(['gc', ...where]);
    expect(seen('second-copy')).toBe(hash(content));
    await mustTatami(['get', '/cut', join(cluster.directory, 'got'), ...where]);
    expect(readFileSync(join(cluster.directory, 'got')).subarray(5_000_000).equals(content.subarray(77))).toBe(true);
    expect((await tatami(['fsck', ...where])).code).toBe(0);
  });

  it('tatami clone copies a tree with all that belongs to it', async () => {
    await shell(
      `mkdir -p tree/deep/er; cd tree; cp ../second-copy big; ln big deep/again; ln -s ../big deep/link; mkfifo deep/fifo
      truncate -s 10M sparse; printf end | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none; chmod 750 deep; chown 12:34 deep/fifo
      for i in $(seq 50); do echo $i > deep/er/$i; done; setfattr -n user.a -v b big deep; touch -d 2001-02-03 deep/er/1 deep .`,
      {
        cwd: cluster.mount,
      },
    );
    const [count] = await stored();
    const made = await mustTatami(['clone', '/tree', '/tree2', '--json', ...where]);
    expect(JSON.parse(made)).toMatchObject({ entryCount: 58, fileCount: 52 });
    expect(await stored().then(([countNow]) => countNow)).toBe(count);
    const listed = (name: string): Promise<string> => shell(LISTED, { cwd: join(second, name) });
    expect(await listed('tree2')).toBe(await listed('tree'));
    const refusals = [
      ['/tree', '/tree2', /there is something at \/tree2 already/],
      ['/tree', '/tree/deep/new', /\/tree cannot be cloned into itself/],
      ['/none', '/new', /there is no \/none in the cluster/],
    ] as const;
    for (const [from, to, message] of refusals) {
      const { code, stderr } = await tatami(['clone', from, to, ...where]);
      expect(code).not.toBe(0);
      expect(stderr).toMatch(message);
    }
    expect(await shell('ls -A', { cwd: cluster.mount })).not.toContain('.tatami-clone');
  });
});
