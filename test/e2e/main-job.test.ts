/** `tatami up` and `down` as a user runs them: start, use, stop, start again; nothing is left behind. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  TestCluster,
  isRunning,
  mountsBelow,
  must,
  mustTatami,
  processesWith,
  run,
  startTatami,
  tatami,
  waitUntil,
} from './support.ts';

describe('up and down', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await TestCluster.start();
  });
  afterEach(() => cluster.destroy());

  it('finds everything again after a restart', async () => {
    writeFileSync(join(cluster.mount, 'hello'), 'hello');
    writeFileSync(join(cluster.mount, 'large'), Buffer.alloc(9_000_000, 'tatami'));
    await cluster.down();
    expect(await readdir(cluster.mount)).toEqual([]);
    await cluster.up();
    expect(readFileSync(join(cluster.mount, 'hello'), 'utf8')).toBe('hello');
    expect(readFileSync(join(cluster.mount, 'large')).equals(Buffer.alloc(9_000_000, 'tatami'))).toBe(true);
  });

  it('keeps what is stored from other users of the machine', async () => {
    writeFileSync(join(cluster.mount, 'secret'), Buffer.alloc(100_000, 'secret'), { mode: 0o600 });
    const listed = await must('find', [join(cluster.data, 'nodes'), '-perm', '/o+r', '-path', '*/n1/*', '-type', 'f']);
    // Who is in the cluster is no secret.
    const names = listed
      .trim()
      .split('\n')
      .filter((path) => !/\/(node|catalog|votes)\.json$/.test(path));
    const stored = await must('find', [join(cluster.data, 'nodes', 'n1'), '-name', '*.pack']);
    expect(stored).not.toBe('');
    const asAnother = { uid: 65_534, gid: 65_534 };
    for (const path of [...names.filter((name) => name !== ''), ...stored.trim().split('\n')]) {
      expect((await run('cat', [path], asAnother)).code, path).not.toBe(0);
    }
  });

  it('leaves no process, mount or record after down', async () => {
    const pids = [...(await cluster.pids()).values()];
    expect(pids).toHaveLength(4);
    await cluster.down();
    expect(pids.filter(isRunning)).toEqual([]);
    expect(mountsBelow(cluster.directory)).toEqual([]);
    expect(await readdir(join(cluster.data, 'run'))).toEqual([]);
    expect(await processesWith(cluster.data)).toEqual([]);
  });

  it('does not mind another cluster made while it was down', async () => {
    await cluster.down();
    const other = await TestCluster.start({ nodes: 1 });
    try {
      await cluster.up();
      expect((await cluster.status()).nodes.map((node) => node.state)).toEqual(['up', 'up', 'up']);
    } finally {
      await other.destroy();
    }
  });

  it('unmounts what another mount namespace keeps: says who has it, and ends it by force', async () => {
    const keep = () => {
      const child = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', 'echo there; exec sleep 600']);
      return new Promise<typeof child>((resolve) => child.stdout.once('data', () => resolve(child)));
    };
    const [first, mountPid] = [await keep(), (await cluster.pids()).get('mount')!];
    writeFileSync(join(cluster.mount, 'file'), 'written');
    const { code, stderr } = await tatami(['umount', cluster.mount]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/other mount namespaces have it: .*\(pid \d+\)[^]*kill/)]);
    first.kill();
    await waitUntil('the mount has ended', () => !isRunning(mountPid));
    await cluster.up();
    expect(readFileSync(join(cluster.mount, 'file'), 'utf8')).toBe('written');
    const second = await keep();
    await mustTatami(['umount', '--force', cluster.mount]);
    expect(mountsBelow(cluster.directory)).toEqual([]);
    expect(second.exitCode).toBeNull();
    second.kill();
  });

  it('clears away the mount of a process that was killed', async () => {
    await cluster.kill('mount');
    expect(mountsBelow(cluster.directory)).toHaveLength(1);
    await cluster.down();
    expect(mountsBelow(cluster.directory)).toEqual([]);
    expect(await readdir(cluster.mount)).toEqual([]);
  });

  it('starts again what has died, and only that', async () => {
    const before = await cluster.pids();
    await cluster.kill('n3');
    await cluster.kill('mount');
    await cluster.up();
    const after = await cluster.pids();
    expect(after.get('n1')).toBe(before.get('n1'));
    expect(after.get('n2')).toBe(before.get('n2'));
    expect(after.get('n3')).not.toBe(before.get('n3'));
    writeFileSync(join(cluster.mount, 'works'), 'again');
    await cluster.waitFor('all is well', (status) => status.health === 'healthy');
  });

  it('says how it is, in words and as JSON', async () => {
    const status = await cluster.waitFor('all is well', (now) => now.health === 'healthy');
    expect(status.nodes.map((node) => [node.id, node.state])).toEqual([
      ['n1', 'up'],
      ['n2', 'up'],
      ['n3', 'up'],
    ]);
    const pids = await cluster.pids();
    for (const node of status.nodes) expect(node.pid).toBe(pids.get(node.id));
    expect(status.groups).toMatchObject([
      { name: 'g0', primary: 'n1', secondary: 'n2', learners: ['n3'], serving: true },
    ]);
    expect(status.mounts.filter((mount) => mount.kind === 'mount')).toMatchObject([
      { kind: 'mount', mountPoint: cluster.mount, pid: pids.get('mount'), host: hostname() },
    ]);
    const text = await mustTatami(['status', '--data', cluster.data]);
    expect(text).toContain('healthy');
    await cluster.kill('n3');
    const ran = await tatami(['status', '--data', cluster.data]);
    expect(ran.code).toBe(4);
    expect(ran.stdout).toMatch(/Node n3 .* is down/);
  });

  it('copies files in and out without a mount', async () => {
    const local = join(cluster.directory, 'local');
    writeFileSync(local, Buffer.alloc(5_000_000, 'q'));
    await mustTatami(['put', local, '/dir-less', '--data', cluster.data]);
    expect(await mustTatami(['ls', '/', '--data', cluster.data])).toContain('dir-less');
    await mustTatami(['get', '/dir-less', join(cluster.directory, 'back'), '--data', cluster.data]);
    expect(readFileSync(join(cluster.directory, 'back')).equals(readFileSync(local))).toBe(true);
    expect(readFileSync(join(cluster.mount, 'dir-less')).length).toBe(5_000_000);
    const listed = JSON.parse(await mustTatami(['ls', '--json', '/', '--data', cluster.data])) as {
      name: string;
      sizeBytes: number;
    }[];
    expect(listed.find((item) => item.name === 'dir-less')?.sizeBytes).toBe(5_000_000);
    const missing = await tatami(['get', '/nothing', join(cluster.directory, 'x'), '--data', cluster.data]);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toMatch(/ENOENT|no such file/i);
    expect(existsSync(join(cluster.directory, 'x'))).toBe(false);
  });
});

describe('in the foreground', () => {
  it.each(['SIGINT', 'SIGHUP'] as const)('stops everything within 5 s of %s', async (signal) => {
    const directory = await mkdtemp(join(tmpdir(), 'tatami-e2e-'));
    const data = join(directory, 'data');
    const mount = join(directory, 'mnt');
    const up = startTatami(['up', '--data', data, '--mount', mount]);
    try {
      await waitUntil('mounted', () => mountsBelow(mount).length === 1 && /healthy/.test(up.output.stdout), 60_000);
      writeFileSync(join(mount, 'file'), 'x');
      const asked = performance.now();
      up.child.kill(signal);
      expect(await up.ended).toBe(0);
      expect(performance.now() - asked).toBeLessThan(5_000);
      expect(mountsBelow(directory)).toEqual([]);
      expect(await processesWith(data)).toEqual([]);
    } finally {
      up.child.kill('SIGKILL');
      await tatami(['down', '--data', data]);
      await rm(directory, { recursive: true, force: true });
    }
  });

  it('does not tell a script that the cluster runs when it was interrupted on the way to the background', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tatami-e2e-'));
    const data = join(directory, 'data');
    const up = startTatami(['up', '--data', data, '--nodes', '1', '--no-mount', '--detach']);
    try {
      await up.says('new cluster');
      up.child.kill('SIGTERM');
      expect(await up.ended).toBe(130);
      expect(await processesWith(data)).toEqual([]);
    } finally {
      await tatami(['down', '--data', data]);
      await rm(directory, { recursive: true, force: true });
    }
  });

  it('ends when everything is stopped from another terminal', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tatami-e2e-'));
    const data = join(directory, 'data');
    const mount = join(directory, 'mnt');
    const up = startTatami(['up', '--data', data, '--mount', mount]);
    try {
      await waitUntil('mounted', () => mountsBelow(mount).length === 1 && /healthy/.test(up.output.stdout), 60_000);
      await tatami(['down', '--data', data]);
      await waitUntil('the end of tatami up', () => up.child.exitCode !== null, 30_000);
      expect([up.child.exitCode, up.output.stderr]).toEqual([0, expect.stringMatching(/was stopped from elsewhere/)]);
    } finally {
      up.child.kill('SIGKILL');
      await tatami(['down', '--data', data]);
      await rm(directory, { recursive: true, force: true });
    }
  });

  it('npm run chaos stops its cluster when it is interrupted', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tatami-e2e-'));
    const chaos = fileURLToPath(new URL('../../scripts/chaos.js', import.meta.url));
    const child = spawn(process.execPath, [chaos, '--nodes', '1'], { env: { ...process.env, TMPDIR: directory } });
    try {
      await waitUntil('mounted', () => mountsBelow(directory).length === 1, 60_000);
      child.kill('SIGTERM');
      expect((await once(child, 'close'))[0]).toBe(130);
      expect(await processesWith(directory)).toEqual([]);
      expect(await readdir(directory)).toEqual([]);
    } finally {
      child.kill('SIGKILL');
      for (const name of await readdir(directory)) await tatami(['down', '--data', join(directory, name, 'data')]);
      await rm(directory, { recursive: true, force: true });
    }
  });
});
