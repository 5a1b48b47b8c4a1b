/** kill -9 of everything at once while files are written: what was closed or fsynced before is whole. */
import { closeSync, fsyncSync, openSync, readFileSync, readdirSync, writeSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { createHash, randomBytes } from 'node:crypto';
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestCluster, mountsBelow, waitUntil } from './support.ts';

const WRITER = fileURLToPath(new URL('./manifest-writer.js', import.meta.url));

describe('kill -9 of every process at once, during writing', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await TestCluster.start();
  });
  afterEach(() => cluster.destroy());

  it('loses no file that was closed or fsynced, and shows none half', async () => {
    const manifest = join(cluster.directory, 'manifest');
    await writeFile(manifest, '');
    const writer = fork(WRITER, [cluster.mount, manifest], { stdio: 'ignore' });
    const lines = async () => (await readFile(manifest, 'utf8')).split('\n').filter((line) => line !== '');
    await waitUntil('some files are written', async () => (await lines()).length > 60, 60_000);
    const pids = await cluster.pids();
    for (const pid of pids.values()) process.kill(pid, 'SIGKILL');
    await new Promise((resolve) => {
      if (writer.exitCode !== null || writer.signalCode !== null) resolve(undefined);
      writer.once('exit', resolve);
      writer.kill('SIGKILL');
    });
    const promised = await lines();
    // The dead mount is still there and answers with errors; the next start clears it away.
    expect(mountsBelow(cluster.mount)).toHaveLength(1);
    await cluster.up();
    for (const line of promised) {
      const [name = '', digest] = line.split(' ');
      const data = readFileSync(join(cluster.mount, 'files', name));
      expect([name, createHash('sha256').update(data).digest('hex')]).toEqual([name, digest]);
    }
    // Files are renamed into place when closed: whatever is visible under its final name is whole.
    const known = new Set(promised.map((line) => line.split(' ')[0]));
    const extra = readdirSync(join(cluster.mount, 'files')).filter(
      (name) => !name.endsWith('.part') && !known.has(name),
    );
    for (const name of extra) {
      const data = readFileSync(join(cluster.mount, 'files', name));
      const stated = Number(name.split('-')[2]);
      expect(data.length).toBe(stated);
    }
    await cluster.waitFor('healthy', (status) => status.health === 'healthy');
    // And it can be written to.
    const fd = openSync(join(cluster.mount, 'after'), 'w');
    writeSync(fd, randomBytes(100_000));
    fsyncSync(fd);
    closeSync(fd);
  });
});
