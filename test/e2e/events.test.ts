/** What happened in a cluster of real processes, and that one that stands still keeps nobody waiting. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster, mustTatami, startTatami, tatami, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

interface EventJson {
  readonly id: string;
  readonly kind: string;
  readonly at: string;
  readonly text: string;
  readonly node?: string;
  readonly group?: string;
}

const parse = (text: string): EventJson[] =>
  text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as EventJson);

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start({ nodes: 3, args: ['--no-mount'] });
  await cluster.waitFor('all is well', ({ health }) => health === 'healthy');
});

afterAll(async () => {
  await cluster.destroy();
});

const primaryOf = (status: StatusJson): string => status.groups[0]?.primary ?? '';

describe('tatami events', () => {
  it('a kill -9 is told to followers and to programs, and remembered, each event once', async () => {
    const heard = join(cluster.directory, 'heard');
    const script = join(cluster.directory, 'notify.sh');
    writeFileSync(heard, '');
    writeFileSync(
      script,
      `#!/bin/sh\necho "$TATAMI_EVENT $TATAMI_EVENT_NODE $(cat)" >> ${heard}\n[ "$TATAMI_EVENT" != node-suspect ]\n`,
    );
    chmodSync(script, 0o755);
    const follower = startTatami(['events', '--follow', '--json', '--data', cluster.data]);
    const runner = startTatami(['events', '--exec', script, '--data', cluster.data]);
    const lines = (): EventJson[] => parse(follower.output.stdout);
    const told = (kind: string, node: string) => lines().some((event) => event.kind === kind && event.node === node);
    const isConnected = (status: StatusJson) =>
      status.mounts.filter(({ label }) => label === 'tatami events').length === 2;
    await cluster.waitFor('both follow', isConnected);

    // The node that the followers found the cluster through may be the one that goes.
    const victim = primaryOf(await cluster.status());
    await cluster.kill(victim);
    await waitUntil('the follower is told', () => told('node-suspect', victim) && told('node-down', victim));
    await waitUntil('of the fail-over too', () => lines().some(({ kind }) => kind === 'promotion'));
    await mustTatami(['up', '--detach', '--no-mount', '--data', cluster.data]);
    await waitUntil('and that it is back', () => told('node-up', victim));
    await waitUntil('the program was run', () => readFileSync(heard, 'utf8').includes(`node-up ${victim} {`));

    const ids = lines().map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const [first = ''] = readFileSync(heard, 'utf8').split('\n');
    const [kind, node, ...json] = first.split(' ');
    expect(JSON.parse(json.join(' '))).toMatchObject({ kind, node });
    // A program that fails is told of and stops nothing.
    expect(runner.output.stderr).toMatch(/--exec: it ended with exit code 1 \(for: node n\d does not answer/);

    const past = parse(await mustTatami(['events', '--json', '--data', cluster.data]));
    expect(past.map(({ id }) => id)).toEqual(expect.arrayContaining(ids));
    expect(new Set(past.map(({ id }) => id)).size).toBe(past.length);
    const shown = await mustTatami(['events', '--since', '1h', '--data', cluster.data]);
    expect(shown).toMatch(
      new RegExp(`^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d {2}node-down .* node ${victim} is down`, 'm'),
    );

    for (const { child, ended } of [follower, runner]) {
      child.kill('SIGINT');
      expect(await ended).toBe(0);
    }
  });

  it('a program that does not end is ended, and Ctrl-C ends both', async () => {
    const started = join(cluster.directory, 'started');
    const command = `echo $$ >> ${started}; sleep 600`;
    const args = ['events', '--since', '1h', '--exec', command, '--exec-timeout', '1', '--data', cluster.data];
    const runner = startTatami(args);
    await waitUntil('it was ended', () => runner.output.stderr.includes('it was ended after 1 s'));
    const count = () => readFileSync(started, 'utf8').split('\n').length - 1;
    await waitUntil('the next one was begun', () => count() >= 2);
    runner.child.kill('SIGINT');
    expect(await runner.ended).toBe(0);
    const last = Number(readFileSync(started, 'utf8').trim().split('\n').at(-1));
    await waitUntil('nothing is left', () => !existsSync(`/proc/${last}`));
  });

  it('refuses what it does not understand', async () => {
    const ran = await tatami(['events', '--since', '2026-02-30', '--data', cluster.data]);
    expect([ran.code, ran.stderr]).toEqual([2, expect.stringMatching(/2026-11-25/)]);
  });
});

describe('a node that stands still', () => {
  it('is told of by the others, and keeps neither status nor new connections waiting for its time-out', async () => {
    const status = await cluster.waitFor('all is well', ({ health }) => health === 'healthy');
    const still = status.groups[0]?.learners[0] ?? '';
    const pid = (await cluster.pids()).get(still) ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      // That is what it says of a node that it has not waited for, as the others suspect it; else it names the time-out.
      await cluster.waitFor('nobody waits for it', ({ nodes }) =>
        nodes.some(({ id, state, reason }) => id === still && state === 'down' && reason === 'it does not answer'),
      );
      const now = await cluster.status();
      expect(now.ifFails.find(({ nodes }) => nodes.includes(primaryOf(now)))).toMatchObject({
        impact: 'outage',
        remedy: `Bring ${still} back.`,
      });
      expect(Number(new Date(now.groups[0]?.primarySince ?? ''))).toBeGreaterThan(0);
      const ran = await tatami(['events', '--since', '1h', '--data', cluster.data]);
      expect(ran.stderr).toContain(`not asked: ${still}: it does not answer`);
      expect(ran.code).toBe(0);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await cluster.waitFor('all is well again', ({ health }) => health === 'healthy');
  });
});
