/** Pools on a real mount: a directory with blocks of its own length and number of copies, changed while it is used. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster, must, mustTatami, sha256, tatami } from './support.ts';

interface StatJson {
  readonly pool: string;
  readonly extents: readonly {
    readonly lengthBytes: number;
    readonly kind: string;
    readonly nodes?: readonly { readonly state: string }[];
  }[];
}

interface PoolJson {
  readonly name: string;
  readonly copies: number;
  readonly blockSizeBytes: number;
  readonly pgCount: number;
  readonly isDefault: boolean | null;
  readonly settled: boolean;
}

describe('pools', () => {
  let cluster: TestCluster;
  const written = new Map<string, string>();

  beforeAll(async () => {
    cluster = await TestCluster.start({ nodes: 4, copies: 2 });
    for (const directory of ['d/e', 'plain', 'other']) mkdirSync(join(cluster.mount, directory), { recursive: true });
  });
  afterAll(() => cluster.destroy());

  const pool = (...args: string[]) => tatami(['pool', ...args, '--data', cluster.data]);
  const mustPool = (...args: string[]) => mustTatami(['pool', ...args, '--data', cluster.data]);
  const pools = async () => JSON.parse(await mustPool('ls', '--json')) as PoolJson[];
  const stat = async (path: string) =>
    JSON.parse(await mustTatami(['stat', path, '--json', '--data', cluster.data])) as StatJson;
  /** Number of copies of each block. */
  const copiesOf = ({ extents }: StatJson): number[] =>
    extents.map(({ nodes }) => nodes?.filter(({ state }) => state === 'held').length ?? 0);
  const write = async (path: string, lengthBytes: number): Promise<void> => {
    const data = randomBytes(lengthBytes);
    await writeFile(join(cluster.mount, path), data, { flush: true });
    written.set(path, createHash('sha256').update(data).digest('hex'));
  };
  /** Not from the kernel's pages. */
  const verify = async (paths: Iterable<string>): Promise<void> => {
    const copy = join(cluster.directory, 'copy');
    for (const path of paths) {
      await mustTatami(['get', `/${path}`, copy, '--data', cluster.data]);
      expect([path, await sha256(copy)]).toEqual([path, written.get(path)]);
    }
  };

  it('are made, and a directory that is assigned to one keeps its blocks as that one says', async () => {
    await write('d/before', 300_000);
    const made = await mustPool('create', 'scratch', '--copies', '1', '--block-size', '64K', '--pgs', '16');
    expect(made).toMatch(/pool scratch made: 1 copy, blocks of 64 KiB, 16 placement groups/);
    expect(await pools()).toMatchObject([
      { name: 'files', copies: 2, isDefault: true },
      { name: 'library', isDefault: false },
      { name: 'scratch', copies: 1, blockSizeBytes: 65_536, pgCount: 16, isDefault: false },
    ]);
    const assigned = await tatami(['pool', 'assign', '/d', 'scratch', '--data', cluster.data]);
    expect(assigned.stdout).toMatch(
      /\/d and 1 directory below it: what is made there from now on goes to pool scratch/,
    );
    expect(assigned.stderr).toMatch(/Files that exist keep their pool/);
    await write('d/e/file', 1_000_000);
    await write('plain/file', 1_000_000);
    expect((await stat('/d/before')).pool).toBe('files');
    const small = await stat('/d/e/file');
    expect(small.pool).toBe('scratch');
    expect(small.extents).toHaveLength(16);
    expect(copiesOf(small)).toEqual(Array.from({ length: 16 }, () => 1));
    const plain = await stat('/plain/file');
    expect(plain.pool).toBe('files');
    expect(copiesOf(plain)).toEqual([2]);
    expect(await mustTatami(['stat', '/d/e', '--data', cluster.data])).toMatch(/pool scratch, for what is made here/);
  });

  it('are an extended attribute on the mount', async () => {
    const other = join(cluster.mount, 'other');
    const get = (path: string) => must('getfattr', ['--only-values', '-n', 'tatami.pool', path]);
    expect(await get(other)).toBe('files');
    await must('setfattr', ['-n', 'tatami.pool', '-v', 'scratch', other]);
    mkdirSync(join(other, 'sub'));
    expect([await get(other), await get(join(other, 'sub'))]).toEqual(['scratch', 'scratch']);
    await must('setfattr', ['-n', 'tatami.pool', '-v', 'files', other]);
    expect([await get(other), await get(join(other, 'sub'))]).toEqual(['files', 'scratch']);
    expect(await must('getfattr', ['-d', '-m', '-', other])).not.toContain('tatami');
  });

  it('get more placement groups while files are written and read', async () => {
    let writing = true;
    let count = 0;
    const writer = (async () => {
      for (; writing || count < 20; count++) await write(`${count % 2 === 0 ? 'd/e' : 'plain'}/f${count}`, 400_000);
    })();
    const readers = (async () => {
      while (writing) await verify([...written.keys()].slice(-1));
    })();
    await mustPool('set', 'files', '--pgs', '512');
    await mustPool('set', 'scratch', '--pgs', '64');
    await mustPool('set', 'scratch', '--pgs', '128');
    writing = false;
    await Promise.all([writer, readers]);
    expect((await pools()).map(({ pgCount }) => pgCount)).toEqual([512, 128, 128]);
    for (const path of written.keys()) {
      const sum = createHash('sha256')
        .update(readFileSync(join(cluster.mount, path)))
        .digest('hex');
      expect([path, sum]).toEqual([path, written.get(path)]);
    }
    await verify([...written.keys()].slice(0, 6));
  });

  it('are told how many copies to keep, and the nodes make them', async () => {
    expect(await mustPool('set', 'scratch', '--copies', '2')).toMatch(/pool scratch: 2 copies on different hosts/);
    await mustTatami(['repair', '--wait', '--data', cluster.data]);
    expect(new Set(copiesOf(await stat('/d/e/file')))).toEqual(new Set([2]));
    expect((await pools()).map(({ settled }) => settled)).toEqual([true, true, true]);
    const checked = await tatami(['fsck', '--data', cluster.data]);
    expect([checked.code, checked.stdout]).toEqual([0, expect.not.stringMatching(/under-replicated|unreadable/)]);
    const events = await mustTatami(['events', '--data', cluster.data]);
    expect(events).toMatch(/pool scratch was made: copies 1, block size 65536, placement groups 16, domain host/);
    expect(events).toMatch(/pool scratch was changed: copies 2 instead of 1/);
    await verify(['d/e/file', 'd/before']);
  });

  it('are refused where they cannot be', async () => {
    writeFileSync(join(cluster.mount, 'plain/small'), 'x');
    for (const [args, said] of [
      [['create', 'files'], /there is a pool files already/],
      [['create', 'x', '--copies', '5'], /5 copies need as many nodes; the cluster has 4/],
      [
        ['create', 'x', '--domain', 'rack', '--copies', '2'],
        /2 copies on different racks, but the nodes are in one rack/,
      ],
      [['create', 'x', '--block-size', '100000'], /power of two from 64K to 4M/],
      [['set', 'nowhere', '--copies', '1'], /there is no pool nowhere/],
      [['set', 'files', '--pgs', '128'], /there can be more of them, not fewer/],
      [['assign', '/d', 'library'], /is for programs/],
    ] as const) {
      const { code, stderr } = await pool(...args);
      expect([args.join(' '), code, stderr]).toEqual([args.join(' '), 2, expect.stringMatching(said)]);
    }
    expect(await pool('assign', '/nowhere', 'scratch')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/there is no \/nowhere/) as string,
    });
    expect(await pool('assign', '/plain/small', 'scratch')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/not a directory/) as string,
    });
  });
});
