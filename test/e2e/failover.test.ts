/** Fail-over in real processes: kill -9, SIGSTOP and cut networks under a register that is written and read. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { TATAMI, TestCluster, must, mustTatami, run, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

const CHAOS = join(dirname(TATAMI), '..', '..', '..', 'scripts', 'chaos.js');

it('kill -9 of the primary, three times, under writes from a mount and a program: nothing is lost or done twice', async () => {
  const ran = await run(process.execPath, [CHAOS, '--rounds', '3', '--nodes', '3', '--json'], { timeoutMs: 240_000 });
  expect(ran.stdout, ran.stderr).not.toBe('');
  const result = JSON.parse(ran.stdout) as { rounds: number; acknowledged: number; problems: string[] };
  expect(result).toMatchObject({ rounds: 3, problems: [] });
  expect(result.acknowledged).toBeGreaterThan(50);
});

/** A primary that was deposed and does not know it would answer with an older number. */
async function writeAndRead(
  count: { last: number },
  write: (text: string) => Promise<void> | void,
  read: () => Promise<string>,
): Promise<void> {
  count.last++;
  await write(`${count.last}\n`);
  expect(await read()).toBe(`${count.last}\n`);
}

describe('a primary that is stopped for longer than its lease', () => {
  it('is replaced, and answers nothing stale when it goes on', async () => {
    const cluster = await TestCluster.start();
    try {
      const old = (await cluster.waitFor('all is well', (now) => now.health === 'healthy')).groups[0]?.primary ?? '';
      const pid = (await cluster.pids()).get(old) ?? 0;
      const count = { last: 0 };
      const step = () =>
        writeAndRead(
          count,
          (text) => writeFileSync(join(cluster.mount, 'register'), text),
          () => mustTatami(['get', '/register', '-', '--data', cluster.data]),
        );
      await step();
      process.kill(pid, 'SIGSTOP');
      try {
        for (let round = 0; round < 4; round++) await step();
      } finally {
        process.kill(pid, 'SIGCONT');
      }
      for (let round = 0; round < 4; round++) await step();
      const now = await cluster.waitFor(
        'the old primary is a learner',
        (s) => s.groups[0]?.learners.includes(old) === true,
      );
      expect(now.groups[0]).toMatchObject({ serving: true });
      expect(now.groups[0]?.primary).not.toBe(old);
      await step();
    } finally {
      await cluster.destroy();
    }
  });
});

describe('a primary that is cut off from the other nodes but not from the client', () => {
  const running: ChildProcess[] = [];
  const hosts = [1, 2, 3];
  const name = (index: number) => `tatami-f${index}`;
  let directory = '';
  afterEach(async () => {
    for (const child of running.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    for (const index of hosts) await run('ip', ['netns', 'del', name(index)]);
    await run('ip', ['link', 'del', 'tatami-fo']);
    await rm(directory, { recursive: true, force: true });
  });

  async function makeHosts(): Promise<void> {
    await must('ip', ['link', 'add', 'tatami-fo', 'type', 'bridge']);
    await must('ip', ['addr', 'add', '10.78.0.254/24', 'dev', 'tatami-fo']);
    await must('ip', ['link', 'set', 'tatami-fo', 'up']);
    for (const index of hosts) {
      await must('ip', ['netns', 'add', name(index)]);
      await must('ip', [
        'link',
        'add',
        `tatami-w${index}`,
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'netns',
        name(index),
      ]);
      await must('ip', ['link', 'set', `tatami-w${index}`, 'master', 'tatami-fo', 'up']);
      await must('ip', ['-n', name(index), 'addr', 'add', `10.78.0.${index}/24`, 'dev', 'eth0']);
      await must('ip', ['-n', name(index), 'link', 'set', 'eth0', 'up']);
      await must('ip', ['-n', name(index), 'link', 'set', 'lo', 'up']);
    }
  }

  async function startNode(index: number, args: readonly string[]): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', name(index), process.execPath, TATAMI, 'node', ...args]);
    running.push(child);
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    await waitUntil(`node ${index}`, () => {
      if (child.exitCode !== null) throw new Error(`node ${index} ended with ${child.exitCode}\n${said}`);
      return said.includes('serves at');
    });
  }

  const indexOf = (id: string) => Number(id.slice(1));
  /** Packets of one host to another are dropped at the sender. */
  const cut = (from: number, to: number) =>
    must('ip', ['-n', name(from), 'route', 'add', 'blackhole', `10.78.0.${to}/32`]);
  const heal = (from: number, to: number) =>
    must('ip', ['-n', name(from), 'route', 'del', 'blackhole', `10.78.0.${to}/32`]);

  it.each(['in both directions', 'in one direction'])('%s: another takes over, and no read is stale', async (how) => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-cut-'));
    const key = join(directory, 'cluster.key');
    await makeHosts();
    const data = (index: number) => join(directory, `h${index}`);
    await mustTatami(['init', '--data', data(1), '--listen', '10.78.0.1:7400', '--key-file', key, '--id', 'h1']);
    await startNode(1, ['--data', data(1), '--key-file', key]);
    for (const index of [2, 3]) {
      const joining = ['--listen', `10.78.0.${index}:7400`, '--join', '10.78.0.1:7400', '--id', `h${index}`];
      await startNode(index, ['--data', data(index), '--key-file', key, ...joining]);
    }
    const where = ['--connect', hosts.map((index) => `10.78.0.${index}:7400`).join(','), '--key-file', key];
    const status = async () =>
      JSON.parse((await run(process.execPath, [TATAMI, 'status', '--json', ...where])).stdout) as StatusJson;
    await waitUntil('three voters and a secondary', async () => {
      const now = await status();
      return now.voters.length === 3 && now.groups[0]?.secondary !== null && now.groups[0]?.serving === true;
    });
    const local = join(directory, 'local');
    const count = { last: 0 };
    const step = () =>
      writeAndRead(
        count,
        async (text) => {
          writeFileSync(local, text);
          await mustTatami(['put', local, '/register', ...where]);
        },
        () => mustTatami(['get', '/register', '-', ...where]),
      );
    await step();
    const old = (await status()).groups[0]?.primary ?? '';
    const others = hosts.filter((index) => index !== indexOf(old));
    for (const other of others) {
      await cut(indexOf(old), other);
      if (how === 'in both directions') await cut(other, indexOf(old));
    }
    for (let round = 0; round < 3; round++) await step();
    expect((await status()).groups[0]?.primary).not.toBe(old);
    for (const other of others) {
      await heal(indexOf(old), other);
      if (how === 'in both directions') await heal(other, indexOf(old));
    }
    await waitUntil('the old primary is a learner that is up', async () => {
      const now = await status();
      return now.groups[0]?.learners.includes(old) === true && now.nodes.every((each) => each.state === 'up');
    });
    for (let round = 0; round < 3; round++) await step();
  });
});
