/** Locks of programs on two mounts: fcntl and flock, as the kernel passes them on, while processes and nodes are killed. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { must, mustTatami, run, shell, tatami, TestCluster, waitUntil } from './support.ts';

const LOCKER = fileURLToPath(new URL('./locker.py', import.meta.url));
/** More for a long run: LOCK_ROUNDS=25000 are 100,000 of the four programs together, and some minutes. */
const ROUNDS = Number(process.env['LOCK_ROUNDS'] ?? 120);
/** A killed mount's locks end with its session, after a minute: only in a long run. */
const KILLS_MOUNT = ROUNDS >= 1_000;
const LIMIT_MS = KILLS_MOUNT ? 3_600_000 : 120_000;
const COUNTERS = 12;
const DIGITS = 16;

/** One lock of fcntl, by python, which every Debian has: what it prints is what came of it. */
const ONE_LOCK = `
import fcntl, signal, sys
class Alarm(Exception): pass
def ring(*_): raise Alarm()
signal.signal(signal.SIGALRM, ring)
signal.alarm(int(sys.argv[3]))
try:
    fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | int(sys.argv[2]), 1, 0)
    print('granted')
except OSError as error:
    print(error.strerror)
except Alarm:
    print('alarm')
`;
const TRANSACTIONS = `
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for _ in range(int(sys.argv[2])):
    database.execute('begin immediate')
    value = database.execute('select value from counter').fetchone()[0]
    database.execute('update counter set value = ?', (value + 1,))
    database.execute('commit')
`;

let cluster: TestCluster;
let second: string;
const children: ChildProcess[] = [];
beforeAll(async () => {
  cluster = await TestCluster.start();
  second = join(cluster.directory, 'second');
  mkdirSync(second);
  await mustTatami(['mount', second, '--data', cluster.data]);
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(async () => {
  await tatami(['umount', '--force', second]);
  await cluster.destroy();
});

function start(program: string, args: readonly string[]): ChildProcess {
  const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'inherit'] });
  children.push(child);
  return child;
}

const tryLock = async (path: string) => (await must('python3', ['-c', ONE_LOCK, path, '4', '60'])).trim();
const heldLocks = async (path?: string) =>
  JSON.parse(
    await mustTatami(['locks', ...(path === undefined ? [] : [path]), '--json', '--data', cluster.data]),
  ) as object[];

describe('a lock taken on one mount', () => {
  it('keeps programs on the other out until it is given up, whoever dies', async () => {
    const file = join(cluster.mount, 'file');
    const other = join(second, 'file');
    writeFileSync(file, 'x');
    // `cat` holds it for as long as its input is open.
    const holder = start('flock', ['-x', file, 'cat']);
    await waitUntil('it is held', async () => (await heldLocks()).length === 1, 20_000);
    expect(await heldLocks('/file')).toMatchObject([
      { path: '/file', kind: 'flock', type: 'write', start: 0, end: null },
    ]);
    expect(await mustTatami(['locks', '--data', cluster.data])).toMatch(
      /\/file +flock +write +all +\d+ +mount .*mnt on/,
    );
    expect((await run('flock', ['-n', '-x', other, 'true'])).code).toBe(1);
    // The two kinds do not see each other.
    expect(await tryLock(other)).toBe('granted');
    const waiter = start('flock', ['-x', other, 'true']);
    const granted = once(waiter, 'exit');
    holder.stdin?.end();
    expect(await granted).toEqual([0, null]);

    const killed = start('flock', ['-x', file, 'sleep', '1000']);
    await waitUntil('it is held', async () => (await heldLocks()).length === 1, 20_000);
    // The lock is that of the open file, which the sleeping child has, too.
    await shell(`pkill -KILL -P ${killed.pid} ; true`);
    killed.kill('SIGKILL');
    expect((await run('flock', ['-x', other, 'true'])).code).toBe(0);
    await waitUntil('nothing is left', async () => (await heldLocks()).length === 0, 20_000);
  });

  it('is waited for without holding others up, and an alarm ends the wait', async () => {
    const file = join(cluster.mount, 'file');
    const other = join(second, 'file');
    writeFileSync(file, 'x');
    const script = `import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); sys.stdin.read()`;
    start('python3', ['-c', script, file]);
    await waitUntil('it is held', async () => (await heldLocks()).length === 1, 20_000);
    expect(await tryLock(other)).toBe('Resource temporarily unavailable');
    const waiting = must('python3', ['-c', ONE_LOCK, other, '0', '2']);
    writeFileSync(join(second, 'beside'), 'written while another waits');
    expect(readFileSync(other, 'utf8')).toBe('x');
    expect((await waiting).trim()).toBe('alarm');
  });
});

describe('programs that take turns by locks', () => {
  it('of sqlite, from two mounts: no transaction is lost, and none fails', async () => {
    await shell(`sqlite3 ${cluster.mount}/db 'create table counter (value integer); insert into counter values (0)'`);
    const count = 15;
    const paths = [cluster.mount, second, cluster.mount, second].map((mount) => join(mount, 'db'));
    await Promise.all(
      paths.map((path) => must('python3', ['-c', TRANSACTIONS, path, String(count)], { timeoutMs: 120_000 })),
    );
    for (const path of paths.slice(0, 2)) {
      const answer = await must('sqlite3', [path, 'pragma integrity_check; select value from counter']);
      expect(answer.trim()).toBe(`ok\n${4 * count}`);
    }
  });

  it(
    'of fcntl, while a program is killed and the group fails over: nobody comes in between',
    { timeout: 60_000 + 2 * LIMIT_MS },
    async () => {
      await cluster.waitFor('a secondary', (now) => now.health === 'healthy' && now.groups[0]?.secondary !== null);
      writeFileSync(join(cluster.mount, 'counters'), '0'.repeat(COUNTERS * DIGITS));
      const manifests = [0, 1, 2, 3].map((index) => join(cluster.directory, `manifest-${index}`));
      const lines = (index: number) =>
        readFileSync(manifests[index]!, 'utf8')
          .split('\n')
          .filter((line) => line !== '');
      const rounds = (index: number) => lines(index).filter((line) => line === 'round').length;
      const programs = manifests.map((manifest, index) => {
        writeFileSync(manifest, '');
        const file = join(index % 2 === 0 ? cluster.mount : second, 'counters');
        const args = [LOCKER, file, String(COUNTERS), String(ROUNDS), String(index), manifest];
        return start('python3', args);
      });
      const ended = programs.map((program) => once(program, 'exit'));
      const until = (share: number, of: readonly number[]) =>
        waitUntil(`${share} of the rounds`, () => of.every((index) => rounds(index) >= ROUNDS * share), LIMIT_MS);

      await until(0.2, [0, 1, 2, 3]);
      programs[0]!.kill('SIGKILL');
      await until(0.4, [1, 2, 3]);
      const [group] = (await cluster.status()).groups;
      await cluster.kill(group!.primary);
      await until(0.6, [1, 2, 3]);
      await cluster.up();
      const survivors = KILLS_MOUNT ? [1, 3] : [1, 2, 3];
      if (KILLS_MOUNT) await cluster.kill('mount');
      for (const index of survivors) await ended[index];

      for (const index of survivors) expect(lines(index).at(-1)).toBe('ended');
      const values = readFileSync(join(second, 'counters'), 'latin1').match(/.{16}/g)!.map(Number);
      const added = new Array<number>(COUNTERS).fill(0);
      const unknown = new Array<number>(COUNTERS).fill(0);
      for (const index of manifests.keys()) {
        for (const line of lines(index)) {
          const [word, first, count] = line.split(' ');
          if (word !== 'begin' && word !== 'added') continue;
          for (let at = Number(first); at < Number(first) + Number(count); at++) {
            if (word === 'added') added[at]!++;
            unknown[at]! += word === 'begin' ? 1 : -1;
          }
        }
      }
      values.forEach((value, at) => {
        expect(value, `counter ${at}`).toBeGreaterThanOrEqual(added[at]!);
        expect(value, `counter ${at}`).toBeLessThanOrEqual(added[at]! + unknown[at]!);
      });
      expect(added.reduce((sum, one) => sum + one, 0)).toBeGreaterThan(ROUNDS);
      await waitUntil('nothing is left', async () => (await heldLocks()).length === 0, 90_000);
    },
  );
});
