/**
 * sqlite3 and git work on a mount while the primary of the metadata is killed, stopped and cut off, again and again. No
 * operation may fail for them, as every stall is shorter than the deadline; afterwards databases and repository check
 * clean, and hold every transaction and commit that was told.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { TestHosts } from './hosts.ts';
import { TATAMI, must, mustTatami, run, shell, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

const TRANSACTIONS = fileURLToPath(new URL('./transactions.py', import.meta.url));
const COMMITS = fileURLToPath(new URL('./commits.sh', import.meta.url));
const LIMIT_MS = 60_000;

/** A program that notes in a manifest what it has been promised. */
class Worker {
  readonly #manifest: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said = '';

  constructor(manifest: string, program: string, args: readonly string[]) {
    this.#manifest = manifest;
    writeFileSync(manifest, '');
    // A process group of its own, so that what it has started ends with it: `git gc` renames packs under `git fsck`.
    this.#child = spawn(program, [...args, manifest], { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#said += text));
    // Once the last process that holds stderr has ended.
    this.#ended = once(this.#child, 'close');
  }

  async promised(): Promise<string[]> {
    const lines = (await readFile(this.#manifest, 'utf8')).split('\n').filter((line) => line !== '');
    expect(lines.filter((line) => line.startsWith('failed')).join('\n') + this.#said).toBe('');
    return lines;
  }

  async goesOn(): Promise<void> {
    const before = (await this.promised()).length;
    await waitUntil('it works on', async () => (await this.promised()).length >= before + 1, LIMIT_MS);
  }

  async stop(): Promise<void> {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL');
    await this.#ended;
  }
}

describe('programs on a mount', () => {
  let directory = '';
  let hosts: TestHosts | undefined;
  const workers: Worker[] = [];
  afterEach(async () => {
    for (const worker of workers.splice(0)) await worker.stop();
    await run(process.execPath, [TATAMI, 'umount', '--force', join(directory, 'mnt')], { timeoutMs: LIMIT_MS });
    await hosts?.destroy();
    hosts = undefined;
    await rm(directory, { recursive: true, force: true });
  });

  it('survive that the primary is killed, stopped and cut off', async () => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-programs-'));
    const key = join(directory, 'cluster.key');
    const mnt = join(directory, 'mnt');
    hosts = await TestHosts.make(3);
    const net = hosts;
    const at = (index: number) => `${net.address(index)}:7400`;
    const data = (index: number) => join(directory, `h${index}`);
    const nodes = new Map<number, ChildProcess>();
    const startNode = async (index: number, args: readonly string[] = []) =>
      void nodes.set(index, await net.startNode(index, ['--data', data(index), '--key-file', key, ...args]));
    await mustTatami(['init', '--data', data(1), '--listen', at(1), '--key-file', key, '--id', 'h1', '--host', 'h1']);
    await startNode(1);
    for (const index of [2, 3]) {
      const id = `h${index}`;
      await startNode(index, ['--listen', at(index), '--join', at(1), '--id', id, '--host', id]);
    }
    const where = ['--connect', [1, 2, 3].map(at).join(','), '--key-file', key];
    const status = async () =>
      JSON.parse((await run(process.execPath, [TATAMI, 'status', '--json', ...where])).stdout) as StatusJson;
    const inOrder = () =>
      waitUntil(
        'three voters, a secondary, all up',
        async () => {
          const now = await status();
          const [group] = now.groups;
          const allUp = now.nodes.every((node) => node.state === 'up');
          return now.voters.length === 3 && allUp && group?.serving === true && group.secondary !== null;
        },
        LIMIT_MS,
      );
    await inOrder();
    mkdirSync(mnt);
    await mustTatami(['mount', mnt, ...where]);

    const rollback = new Worker(join(directory, 'rollback'), 'python3', [TRANSACTIONS, `${mnt}/rollback.db`, 'delete']);
    const wal = new Worker(join(directory, 'wal'), 'python3', [TRANSACTIONS, `${mnt}/wal.db`, 'wal']);
    const git = new Worker(join(directory, 'git'), 'bash', [COMMITS, `${mnt}/repository`]);
    workers.push(rollback, wal, git);
    const goOn = () => Promise.all(workers.map((worker) => worker.goesOn()));
    await goOn();

    const disturbances: Record<string, (primary: number) => Promise<void>> = {
      async killed(primary) {
        const child = nodes.get(primary)!;
        child.kill('SIGKILL');
        await once(child, 'exit');
        await goOn();
        await startNode(primary);
      },
      async stopped(primary) {
        const child = nodes.get(primary)!;
        child.kill('SIGSTOP');
        await goOn();
        child.kill('SIGCONT');
      },
      async 'cut off from the other nodes'(primary) {
        const others = [1, 2, 3].filter((index) => index !== primary);
        for (const other of others) await net.cut(primary, other);
        await goOn();
        for (const other of others) await net.heal(primary, other);
      },
    };
    for (const [what, disturb] of Object.entries(disturbances)) {
      const old = (await status()).groups[0]?.primary ?? '';
      await disturb(Number(old.slice(1)));
      await inOrder();
      expect([what, (await status()).groups[0]?.primary]).not.toEqual([what, old]);
      await goOn();
    }

    for (const worker of workers) await worker.stop();
    for (const [name, worker] of [
      ['rollback.db', rollback],
      ['wal.db', wal],
    ] as const) {
      const promised = await worker.promised();
      const asked =
        'pragma integrity_check; select sum(amount) from account; select number from moved order by number;';
      const [integrity, sum, ...numbers] = (await must('sqlite3', [join(mnt, name), asked])).trim().split('\n');
      expect([name, integrity, sum]).toEqual([name, 'ok', '1000000']);
      // The last one may have been committed without having been told any more.
      expect(numbers.length - promised.length).toBeLessThanOrEqual(1);
      expect(numbers.slice(0, promised.length)).toEqual(promised);
    }
    // What was killed in its middle may have left locks and loose ends, but nothing broken.
    const commits = await git.promised();
    const repository = join(mnt, 'repository');
    await shell(
      `rm -f ${repository}/.git/*.lock ${repository}/.git/refs/heads/*.lock; git -C ${repository} fsck --full --strict`,
    );
    const known = (await must('git', ['-C', repository, 'rev-list', 'HEAD'])).trim().split('\n').reverse();
    expect(known.length - commits.length).toBeLessThanOrEqual(1);
    expect(known.slice(0, commits.length)).toEqual(commits);
  }, 600_000);
});
