/** Wrong keys, garbage, wrong directories, busy ports and mount points: each a clear error, and nothing is harmed. */
import { createSocket } from 'node:dgram';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, connect as connectTcp } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  TestCluster,
  isRunning,
  mountsBelow,
  mustTatami,
  processesWith,
  run,
  shell,
  tatami,
  waitUntil,
} from './support.ts';

describe('bad input', () => {
  let cluster: TestCluster;
  let address: string;
  beforeAll(async () => {
    cluster = await TestCluster.start();
    writeFileSync(join(cluster.mount, 'canary'), 'alive');
    address = (await cluster.status()).nodes[0]?.address ?? '';
  });
  afterAll(() => cluster.destroy());

  async function unharmed(): Promise<void> {
    expect(readFileSync(join(cluster.mount, 'canary'), 'utf8')).toBe('alive');
    expect((await cluster.status()).nodes.every((node) => node.state === 'up')).toBe(true);
  }

  it('a wrong cluster key', async () => {
    const own = readFileSync(join(cluster.data, 'cluster.key'), 'utf8').trim().split(' ');
    const wrong = join(cluster.directory, 'wrong.key');
    writeFileSync(wrong, `${own[0]} ${own[1]} ${randomBytes(32).toString('base64url')}\n`, { mode: 0o600 });
    const ran = await tatami(['ls', '/', '--connect', address, '--key-file', wrong]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/key/i);
    const other = join(cluster.directory, 'other.key');
    writeFileSync(other, `${own[0]} ${'0'.repeat(32)} ${own[2]}\n`, { mode: 0o600 });
    const elsewhere = await tatami(['ls', '/', '--connect', address, '--key-file', other]);
    expect(elsewhere.code).toBe(2);
    expect(elsewhere.stderr).toMatch(/cluster/i);
    await unharmed();
  });

  it('a key file that is no key file, is missing, or is open to everyone', async () => {
    const bad = join(cluster.directory, 'bad.key');
    writeFileSync(bad, 'hello', { mode: 0o600 });
    expect((await tatami(['ls', '/', '--connect', address, '--key-file', bad])).stderr).toMatch(
      /not a tatamifs key file/,
    );
    expect((await tatami(['ls', '/', '--connect', address, '--key-file', '/nonexistent'])).code).toBe(2);
    const open = join(cluster.directory, 'open.key');
    writeFileSync(open, readFileSync(join(cluster.data, 'cluster.key')));
    chmodSync(open, 0o644);
    expect((await tatami(['ls', '/', '--connect', address, '--key-file', open])).stderr).toMatch(/chmod 600/);
  });

  it('garbage and a huge length on the TCP port', async () => {
    const [host = '', port = ''] = address.split(':');
    const huge = Buffer.alloc(64, 0xff);
    for (const bytes of [randomBytes(100_000), huge, Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(0)]) {
      const socket = connectTcp(Number(port), host);
      await once(socket, 'connect');
      // The node may reset the connection while garbage is still on its way: that is a refusal too. ('once' would reject.)
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.on('error', () => undefined);
      socket.end(bytes);
      socket.resume();
      await closed;
    }
    await unharmed();
    const node = (await cluster.status()).nodes[0];
    expect(node?.residentBytes ?? 0).toBeLessThan(300 << 20);
  });

  it('a data directory of another cluster', async () => {
    const elsewhere = join(cluster.directory, 'elsewhere');
    const key = join(cluster.directory, 'elsewhere.key');
    await mustTatami(['init', '--data', elsewhere, '--listen', '127.0.0.1:17499', '--key-file', key]);
    const ran = await tatami(['node', '--data', elsewhere, '--key-file', join(cluster.data, 'cluster.key')]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/belongs to cluster/);
    await unharmed();
  });

  it('a data directory that another process uses', async () => {
    const key = join(cluster.data, 'cluster.key');
    const ran = await tatami(['node', '--data', join(cluster.data, 'nodes', 'n1'), '--key-file', key]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/another process/);
    await unharmed();
  });

  it('a port in use', async () => {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const data = join(cluster.directory, 'port');
    const key = join(cluster.directory, 'port.key');
    await mustTatami(['init', '--data', data, '--listen', `127.0.0.1:${port}`, '--key-file', key]);
    const ran = await tatami(['node', '--data', data, '--key-file', key]);
    server.close();
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(new RegExp(`127.0.0.1:${port}`));
    expect(ran.stderr).toMatch(/in use/);
  });

  it('a mount point that is missing, not empty, a file, or busy', async () => {
    const where = ['--data', cluster.data];
    const missing = await tatami(['mount', join(cluster.directory, 'nowhere'), ...where]);
    expect([missing.code, missing.stderr]).toEqual([2, expect.stringMatching(/does not exist|missing|no such/i)]);
    const full = join(cluster.directory, 'full');
    mkdirSync(full);
    writeFileSync(join(full, 'file'), 'x');
    const notEmpty = await tatami(['mount', full, ...where]);
    expect([notEmpty.code, notEmpty.stderr]).toEqual([2, expect.stringMatching(/not empty/)]);
    expect(readFileSync(join(full, 'file'), 'utf8')).toBe('x');
    const file = await tatami(['mount', join(full, 'file'), ...where]);
    expect([file.code, file.stderr]).toEqual([2, expect.stringMatching(/not a directory/)]);
    const busy = await tatami(['mount', cluster.mount, ...where]);
    expect(busy.code).not.toBe(0);
    expect(busy.stderr).toMatch(/mounted/);
    await unharmed();
  });

  it('a mount that cannot be written down is none', async () => {
    const point = join(cluster.directory, 'unknown');
    mkdirSync(point);
    const hash = createHash('sha256').update(point).digest('hex').slice(0, 12);
    const inTheWay = join(cluster.data, 'run', `mount-${hash}.json.tmp`);
    mkdirSync(inTheWay);
    const ran = await tatami(['mount', point, '--data', cluster.data]);
    rmdirSync(inTheWay);
    expect([ran.code, ran.stderr]).toEqual([1, expect.stringMatching(/EISDIR/)]);
    expect(mountsBelow(point)).toEqual([]);
    expect(await processesWith(point)).toEqual([]);
    await unharmed();
  });

  it('a machine without /dev/fuse', async () => {
    const point = join(cluster.directory, 'nofuse');
    mkdirSync(point);
    // In a mount namespace of its own, where /dev has no fuse.
    const script = `mount -t tmpfs none /dev && exec "$0" "$@"`;
    const args = [
      '-m',
      'sh',
      '-c',
      script,
      process.execPath,
      mainPath(),
      'mount',
      point,
      '--foreground',
      '--data',
      cluster.data,
    ];
    const ran = await run('unshare', args);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/\/dev\/fuse/);
    expect(ran.stderr).toMatch(/modprobe fuse/);
    await unharmed();
  });

  it('a mount of another filesystem is not unmounted', async () => {
    const point = join(cluster.directory, 'foreign');
    mkdirSync(point);
    const flags = 'fd=3,rootmode=40000,user_id=0,group_id=0';
    await shell(`exec 3<>/dev/fuse && mount -i -t fuse.other -o ${flags} other '${point}'`);
    try {
      const ran = await tatami(['umount', '--force', point]);
      expect([ran.code, ran.stderr]).toEqual([2, expect.stringMatching(/not a mount of tatamifs/)]);
      expect(mountsBelow(point)).toHaveLength(1);
    } finally {
      await run('umount', ['-l', point]);
    }
  });

  it('a file name of 256 bytes', () => {
    const name = 'n'.repeat(256);
    expect(() => writeFileSync(join(cluster.mount, name), 'x')).toThrow(/ENAMETOOLONG/);
    writeFileSync(join(cluster.mount, name.slice(1)), 'x');
    expect(readdirSync(cluster.mount)).toContain(name.slice(1));
  });

  it('a mount ends also where it cannot say how', async () => {
    const point = join(cluster.directory, 'silent');
    mkdirSync(point);
    await mustTatami(['mount', point, '--data', cluster.data]);
    const hash = createHash('sha256').update(point).digest('hex').slice(0, 12);
    const inTheWay = [`/run/tatamifs/${hash}.ended.tmp`, `/tmp/tatamifs-0/${hash}.ended.tmp`].filter((path) =>
      existsSync(dirname(path)),
    );
    for (const path of inTheWay) mkdirSync(path);
    const ran = await tatami(['umount', point]);
    for (const path of inTheWay) rmdirSync(path);
    expect([ran.code, ran.stderr]).toEqual([1, expect.stringMatching(/ended without saying/)]);
    expect(await processesWith(point)).toEqual([]);
  });

  it('wrong arguments', async () => {
    for (const args of [
      ['up', '--nodes', '0'],
      ['no-such-command'],
      ['put'],
      ['bench', 'no-such'],
      ['ls', '/', '--connect', address],
      ['ls', '/', '--connect', ''],
      ['ls', '/', '--connect', 'no-port'],
      ['up', '--data', join(cluster.directory, 'new'), '--nodes', '1', '--copies', '2'],
      ['up', '--data', cluster.data, '--copies', '2', '--detach'],
      ['up', '--data', '/proc/tatami'],
      ['bench', '--mount', join(cluster.directory, 'nowhere')],
    ]) {
      const ran = await tatami(args, { cwd: cluster.directory });
      expect([args.join(' '), ran.code]).toEqual([args.join(' '), 2]);
      expect(ran.stderr).not.toBe('');
    }
    expect(readdirSync(cluster.directory).filter((name) => name.startsWith('tatami-bench-'))).toEqual([]);
    expect((await tatami(['put'])).stderr).toMatch(/tatami COMMAND --help/);
    expect((await tatami(['status', '--data', join(cluster.directory, 'empty')])).stderr).toMatch(/tatami up/);
    expect((await tatami(['--help'])).code).toBe(0);
  });

  it('a cluster that does not run', async () => {
    const ran = await tatami(['ls', '/', '--connect', '127.0.0.1:1', '--key-file', join(cluster.data, 'cluster.key')]);
    expect(ran.code).toBe(3);
    expect(ran.stderr).toMatch(/no node answers/);
  });

  it('a stale mount left by a crash is cleared at the next start', async () => {
    await cluster.kill('mount');
    expect(() => readdirSync(cluster.mount)).toThrow(/ENOTCONN|ECONNABORTED/);
    await cluster.up();
    await unharmed();
    await cluster.kill('mount');
    const link = join(cluster.directory, 'link');
    symlinkSync(cluster.mount, link);
    await mustTatami(['umount', link]);
    expect(mountsBelow(cluster.directory)).toEqual([]);
    await cluster.up();
    await unharmed();
  });

  it('a failed start leaves nothing behind', async () => {
    await cluster.down();
    const damaged = join(cluster.data, 'nodes', 'n2', 'catalog.json');
    renameSync(damaged, `${damaged}.away`);
    writeFileSync(damaged, '{');
    const ran = await tatami(['up', '--data', cluster.data, '--mount', cluster.mount, '--detach']);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/n2/);
    expect(await processesWith(cluster.data)).toEqual([]);
    expect(mountsBelow(cluster.directory)).toEqual([]);
    renameSync(`${damaged}.away`, damaged);
    const inTheWay = join(cluster.data, 'run', 'n1.json.tmp');
    mkdirSync(inTheWay);
    const unknown = await tatami(['up', '--data', cluster.data, '--mount', cluster.mount, '--detach']);
    rmdirSync(inTheWay);
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringMatching(/EISDIR/)]);
    expect(await processesWith(cluster.data)).toEqual([]);
    await cluster.up();
    await unharmed();
  });

  it('a node whose discovery port gets old, replayed and foreign packets', async () => {
    const data = join(cluster.directory, 'discovered');
    const key = join(cluster.directory, 'discovered.key');
    await mustTatami(['init', '--data', data, '--listen', '127.0.0.1:17498', '--key-file', key]);
    const { spawn } = await import('node:child_process');
    const args = [mainPath(), 'node', '--data', data, '--key-file', key, '--discovery', '127.0.0.1:17497'];
    const node = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(node.stdout, 'data');
    const socket = createSocket('udp4');
    for (const packet of [randomBytes(1), randomBytes(200), randomBytes(1400), Buffer.from('TATAMI')]) {
      socket.send(packet, 17497, '127.0.0.1');
    }
    const answered = once(socket, 'message').then(() => true);
    const ls = await tatami(['ls', '/', '--connect', '127.0.0.1:17498', '--key-file', key]);
    expect(ls.code).toBe(0);
    expect(await Promise.race([answered, Promise.resolve(false)])).toBe(false);
    socket.close();
    node.kill('SIGTERM');
    await once(node, 'close');
    expect(node.exitCode).toBe(0);
    await waitUntil('the node is gone', () => !isRunning(node.pid ?? 0));
    expect(existsSync(join(data, 'node.json'))).toBe(true);
  });
});

function mainPath(): string {
  return new URL('../../dist/src/cli/main.js', import.meta.url).pathname;
}
