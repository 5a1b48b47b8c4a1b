/** The primary of the metadata group is dead: status and the screen of `up` still say so, and at once. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRunning, mustTatami, processesWith, startTatami, tatami, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

describe('while no group serves', () => {
  let directory: string;
  let data: string;
  let up: ReturnType<typeof startTatami>;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-e2e-'));
    data = join(directory, 'data');
    // Two nodes: one alone cannot know whether the other has something newer, so nobody takes over.
    up = startTatami(['up', '--data', data, '--nodes', '2', '--no-mount']);
    await waitUntil('all is well', () => /healthy: 2 of 2/.test(up.output.stdout), 60_000);
  });
  afterEach(async () => {
    up.child.kill('SIGKILL');
    await tatami(['down', '--data', data]);
    await rm(directory, { recursive: true, force: true });
  });

  async function killPrimary(): Promise<void> {
    const { pid } = JSON.parse(await readFile(join(data, 'run', 'n1.json'), 'utf8')) as { pid: number };
    process.kill(pid, 'SIGKILL');
    await waitUntil('the primary is gone', () => !isRunning(pid));
  }

  it('status names the dead node within seconds, with exit code 4', async () => {
    await killPrimary();
    const asked = performance.now();
    const ran = await tatami(['status', '--data', data]);
    // The answer is due in 2 s; the rest is the start of the program on a busy machine.
    expect(performance.now() - asked).toBeLessThan(8_000);
    expect([ran.code, ran.stderr]).toEqual([4, '']);
    expect(ran.stdout).toMatch(/Node n1 .* is down/);
    expect(ran.stdout).toMatch(/group g0 does not serve/);
    const json = await tatami(['status', '--json', '--data', data]);
    expect(json.code).toBe(4);
    const status = JSON.parse(json.stdout) as StatusJson;
    expect(status.health).toBe('unavailable');
    expect(status.nodes.map((node) => [node.id, node.state])).toEqual([
      ['n1', 'down'],
      ['n2', 'up'],
    ]);
  });

  it('status --watch and the screen of up go on, and show when it is back', async () => {
    const watch = startTatami(['status', '--watch', '--data', data]);
    await watch.says('healthy');
    await killPrimary();
    await watch.says('unavailable');
    await up.says('unavailable: 1 of 2 nodes up');
    await mustTatami(['up', '--data', data, '--no-mount', '--detach']);
    await waitUntil('the screen shows that it is back', () => /unavailable[^]*healthy: 2 of 2/.test(up.output.stdout));
    watch.child.kill('SIGINT');
    await watch.ended;
    up.child.kill('SIGINT');
    expect(await up.ended).toBe(0);
    expect(await processesWith(data)).toEqual([]);
  });

  it('up without --detach says why nothing is mounted, and keeps its screen', async () => {
    const { pid } = JSON.parse(await readFile(join(data, 'run', 'n1.json'), 'utf8')) as { pid: number };
    process.kill(pid, 'SIGSTOP');
    try {
      const second = startTatami(['up', '--data', data, '--mount', join(directory, 'mnt')]);
      await second.says('unavailable: 1 of 2 nodes up', 90_000);
      expect(second.output.stderr).toMatch(/error: mount: .*not mounted.*tatami up/s);
      second.child.kill('SIGINT');
      expect(await second.ended).toBe(0);
    } finally {
      if (isRunning(pid)) process.kill(pid, 'SIGCONT');
    }
  });
});
