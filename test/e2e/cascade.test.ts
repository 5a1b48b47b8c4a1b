/**
 * The cascade of the 2007 note in real processes: five nodes, and the primary dies again and again, each time as soon as the
 * next one has a secondary; until no majority is left. Then they come back.
 */
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/index.ts';
import { TestCluster, run, tatami, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

const WRITER = fileURLToPath(new URL('./manifest-writer.js', import.meta.url));
/** Of the mount, in seconds: the test waits for it once. */
const DEADLINE = 10;

describe('five nodes', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await TestCluster.start({ nodes: 5, args: ['--timeout', String(DEADLINE)] });
  });
  afterEach(() => cluster.destroy());

  const group = (status: StatusJson) => status.groups[0];
  const isInOrder = (status: StatusJson) => group(status)?.serving === true && group(status)?.secondary !== null;

  it('lose four, one after the other, and nothing that was acknowledged; without a majority they say so, and heal alone', async () => {
    const manifest = join(cluster.directory, 'manifest');
    await writeFile(manifest, '');
    await cluster.waitFor('five voters', (status) => status.voters.length === 5 && isInOrder(status));
    const held = openSync(join(cluster.mount, 'held'), 'w');
    writeSync(held, 'before');
    fsyncSync(held);
    const writer = fork(WRITER, [cluster.mount, manifest], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    let complaint = '';
    writer.stderr?.setEncoding('utf8').on('data', (text: string) => (complaint += text));
    const ended = new Promise((resolve) => writer.once('exit', resolve));
    const lines = async () => (await readFile(manifest, 'utf8')).split('\n').filter((line) => line !== '');
    const wrote = async (more: number) => {
      const before = (await lines()).length;
      await waitUntil('writing goes on', async () => (await lines()).length >= before + more, 60_000);
    };
    await wrote(5);

    // Two fail-overs: three of five voters are left.
    for (let round = 0; round < 2; round++) {
      const { primary = '' } = group(await cluster.waitFor('a secondary', isInOrder)) ?? {};
      await cluster.kill(primary);
      await cluster.waitFor('another primary', (status) => group(status)?.primary !== primary && isInOrder(status));
      await wrote(5);
    }
    // Two more: no majority is left, and nobody may take over.
    for (let round = 0; round < 2; round++) {
      const status = await cluster.status();
      const up = status.nodes.filter((node) => node.state === 'up').map((node) => node.id);
      const { primary = '' } = group(status) ?? {};
      await cluster.kill(up.includes(primary) ? primary : (up[0] ?? ''));
    }
    const status = await tatami(['status', '--data', cluster.data]);
    expect(status.code).toBe(4);
    expect(status.stdout).toMatch(/The catalog cannot change without voters/);
    expect(status.stdout).toMatch(/group g0 does not serve/);
    const down = (await cluster.status()).nodes.filter((node) => node.state === 'down').map((node) => node.id);
    expect(down).toHaveLength(4);

    // Programs get an error that says what is missing, and when; not silence.
    await ended;
    expect(complaint).toMatch(/EIO/);
    const listed = await run('ls', [cluster.mount], { timeoutMs: 60_000 });
    expect([listed.code === 0, listed.stderr]).toEqual([false, expect.stringContaining('Input/output error')]);
    await expect(connect({ data: cluster.data, timeoutMs: 3_000 })).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
      message: expect.stringMatching(new RegExp(`not reached: ${down.join(', ')}`)),
      remedy: expect.stringMatching(/^Start what is down/),
    });

    // They are started again; all else they do by themselves. The mount is still the same.
    await cluster.up();
    await cluster.waitFor('all is well', (now) => now.health === 'healthy', 60_000);
    writeSync(held, ' and after');
    fsyncSync(held);
    closeSync(held);
    expect(await readFile(join(cluster.mount, 'held'), 'utf8')).toBe('before and after');
    const promised = await lines();
    expect(promised.length).toBeGreaterThan(15);
    for (const line of promised) {
      const [name = '', digest] = line.split(' ');
      const data = await readFile(join(cluster.mount, 'files', name));
      expect([name, createHash('sha256').update(data).digest('hex')]).toEqual([name, digest]);
    }
  });
});
