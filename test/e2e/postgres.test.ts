/**
 * PostgreSQL with its data directory on a mount, while the primary of the metadata is killed. Runs where Debian's package
 * `postgresql` is installed; PG_SECONDS=60 for a long run.
 */
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, run, tatami, TestCluster, waitUntil, type Ran } from './support.ts';

const SECONDS = Number(process.env['PG_SECONDS'] ?? 8);
const CLIENTS = 4;
const VERSIONS = '/usr/lib/postgresql';
const version = existsSync(VERSIONS)
  ? readdirSync(VERSIONS)
      .sort((a, b) => Number(a) - Number(b))
      .at(-1)
  : undefined;
/** `pgbench`'s four tables agree: what it moves it adds to an account, a teller, a branch and the history. */
const AGREE = `select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
  and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)
  and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)`;

describe.skipIf(version === undefined)('PostgreSQL on a mount', () => {
  let cluster: TestCluster;
  let data: string;
  let user: { readonly uid: number; readonly gid: number };
  beforeAll(async () => {
    const [uid, gid] = (await must('getent', ['passwd', 'postgres'])).split(':').slice(2, 4).map(Number);
    user = { uid: uid!, gid: gid! };
    cluster = await TestCluster.start({ nodes: 3, copies: 2 });
    // Its socket lies in the directory of the test, which only root may enter.
    await must('chmod', ['755', cluster.directory]);
    await must('mknod', ['-m', '666', join(cluster.directory, 'null'), 'c', '1', '3']);
    data = join(cluster.mount, 'postgres');
    for (const directory of [data, join(cluster.directory, 'socket')]) {
      mkdirSync(directory, { mode: 0o700 });
      chownSync(directory, user.uid, user.gid);
    }
    await pg('initdb', '-D', data, '--data-checksums', '--auth=trust');
    await start();
    await pg('pgbench', '-i', '-q', '-s', '2', ...where(), 'postgres');
  });
  afterAll(async () => {
    await run('unshare', command('pg_ctl', ['-D', data, '-m', 'immediate', 'stop']), { cwd: '/' });
    await cluster.destroy();
  });

  const where = (): readonly string[] => ['-h', join(cluster.directory, 'socket')];
  /** Not as root, which it refuses; with a /dev/null of its own, as there are machines on which only root may write to that. */
  const command = (name: string, args: readonly string[]): readonly string[] => [
    ...[
      '-m',
      'bash',
      '-c',
      'mount --bind "$0" /dev/null && exec setpriv --reuid "$1" --regid "$2" --clear-groups "${@:3}"',
    ],
    ...[
      join(cluster.directory, 'null'),
      String(user.uid),
      String(user.gid),
      join(VERSIONS, version!, 'bin', name),
      ...args,
    ],
  ];
  /** What it said, warnings included. */
  async function pg(name: string, ...args: readonly string[]): Promise<string> {
    return must('unshare', command(name, args), { cwd: '/', timeoutMs: (SECONDS + 240) * 1_000 });
  }
  async function start(): Promise<void> {
    const options = `-k ${join(cluster.directory, 'socket')} -c listen_addresses=''`;
    await pg('pg_ctl', '-D', data, '-w', '-t', '120', '-l', join(data, 'log'), '-o', options, 'start');
  }
  const asked = async (query: string): Promise<string> =>
    (await pg('psql', ...where(), '-X', '-A', '-t', '-c', query, 'postgres')).trim();

  /** Transactions that pgbench was told are committed. */
  async function bench(): Promise<number> {
    const said = await pg('pgbench', ...where(), '-n', '-c', String(CLIENTS), '-T', String(SECONDS), 'postgres');
    expect(said).toMatch(/number of failed transactions: 0 /);
    return Number(/actually processed: (\d+)/.exec(said)?.[1]);
  }
  async function isWhole(committed: number): Promise<void> {
    expect(await asked(AGREE)).toBe('t');
    expect(Number(await asked('select count(*) from pgbench_history'))).toBe(committed);
    expect(await pg('pg_amcheck', ...where(), '--install-missing', '--heapallindexed', '--parent-check', '-a')).toBe(
      '',
    );
  }

  it('loses no transaction and fails none when the primary is killed, and is whole after a crash of its own', async () => {
    let committed = await bench();
    const primary = (await cluster.status()).groups[0]?.primary;
    const under = bench();
    const killed = (async () => {
      await new Promise((resolve) => setTimeout(resolve, (SECONDS * 1_000) / 3));
      await cluster.kill(primary!);
    })();
    committed += (await Promise.all([under, killed]))[0];
    expect((await cluster.status()).groups[0]?.primary).not.toBe(primary);
    await isWhole(committed);
    await cluster.up();
    await pg('pg_ctl', '-D', data, '-m', 'immediate', 'stop');
    await start();
    await isWhole(committed);
    await pg('pg_ctl', '-D', data, '-m', 'fast', 'stop');
    await cluster.restartCold();
    await start();
    await isWhole(committed);
    // What was written while a node was down is moved to where it belongs once all are up.
    let checked: Ran | undefined;
    const isSound = async () => (checked = await tatami(['fsck', '--data', cluster.data])).code === 0;
    await waitUntil('fsck finds nothing', isSound, 90_000).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${checked?.stdout}`);
    });
  });
});
