/** Fail-over in real processes: kill -9, SIGSTOP and cut networks under a register that is written and read. */
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { TestHosts } from './hosts.ts';
import { TATAMI, TestCluster, mustTatami, run, waitUntil } from './support.ts';
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
  let directory = '';
  let hosts: TestHosts | undefined;
  afterEach(async () => {
    await hosts?.destroy();
    hosts = undefined;
    await rm(directory, { recursive: true, force: true });
  });
  const indexOf = (id: string) => Number(id.slice(1));

  it.each(['in both directions', 'in one direction'])('%s: another takes over, and no read is stale', async (how) => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-cut-'));
    const key = join(directory, 'cluster.key');
    hosts = await TestHosts.make(3);
    const net = hosts;
    const at = (index: number) => `${net.address(index)}:7400`;
    const data = (index: number) => join(directory, `h${index}`);
    await mustTatami(['init', '--data', data(1), '--listen', at(1), '--key-file', key, '--id', 'h1']);
    await hosts.startNode(1, ['--data', data(1), '--key-file', key]);
    for (const index of [2, 3]) {
      const joining = ['--listen', at(index), '--join', at(1), '--id', `h${index}`];
      await hosts.startNode(index, ['--data', data(index), '--key-file', key, ...joining]);
    }
    const where = ['--connect', [1, 2, 3].map(at).join(','), '--key-file', key];
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
    const others = [1, 2, 3].filter((index) => index !== indexOf(old));
    for (const other of others) {
      await net.cut(indexOf(old), other);
      if (how === 'in both directions') await net.cut(other, indexOf(old));
    }
    for (let round = 0; round < 3; round++) await step();
    expect((await status()).groups[0]?.primary).not.toBe(old);
    for (const other of others) {
      await net.heal(indexOf(old), other);
      if (how === 'in both directions') await net.heal(other, indexOf(old));
    }
    await waitUntil('the old primary is a learner that is up', async () => {
      const now = await status();
      return now.groups[0]?.learners.includes(old) === true && now.nodes.every((each) => each.state === 'up');
    });
    for (let round = 0; round < 3; round++) await step();
  });
});
