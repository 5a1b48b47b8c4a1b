/** put, get, ls, stat and fsck with everything that a tree can hold, and ended before they are done. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TATAMI, TestCluster, mustTatami, run, startTatami, tatami, waitUntil } from './support.ts';

interface Listed {
  readonly name: string;
  readonly nameBase64?: string;
  readonly type: string;
}

interface StatJson {
  readonly type: string;
  readonly target?: string;
  readonly targetBase64?: string;
  readonly mtime: string;
  readonly uid: number;
  readonly extents?: readonly unknown[];
}

describe('files without a mount', () => {
  let cluster: TestCluster;
  let where: readonly string[];
  beforeAll(async () => {
    cluster = await TestCluster.start({ nodes: 1 });
    where = ['--data', cluster.data];
  });
  afterAll(() => cluster.destroy());

  it('stat tells what everything is, and extents of files only', async () => {
    const at = (name: string) => join(cluster.mount, name);
    mkdirSync(at('dir'), { mode: 0o750 });
    writeFileSync(at('dir/file'), Buffer.alloc(100_000, 'x'));
    symlinkSync('dir/file', at('link'));
    symlinkSync(Buffer.from([0x2f, 0xff]), at('odd-link'));
    execFileSync('mkfifo', [at('fifo')]);
    execFileSync('mknod', [at('null'), 'c', '1', '3']);
    const stat = async (path: string) => JSON.parse(await mustTatami(['stat', path, '--json', ...where])) as StatJson;
    expect(await stat('/dir')).toMatchObject({ type: 'directory', uid: process.getuid?.() });
    expect(await stat('/dir')).not.toHaveProperty('extents');
    expect(await stat('/')).toMatchObject({ type: 'directory' });
    expect((await stat('/dir/file')).extents).toHaveLength(1);
    expect(await stat('/link')).toMatchObject({ type: 'symlink', target: 'dir/file' });
    expect((await stat('/odd-link')).targetBase64).toBe('L/8=');
    expect(await stat('/fifo')).toMatchObject({ type: 'fifo' });
    expect(await stat('/null')).toMatchObject({ type: 'char', rdev: (1 << 8) | 3 });
    expect(Date.parse((await stat('/dir')).mtime)).toBeGreaterThan(Date.now() - 600_000);
    expect(await mustTatami(['stat', '/dir', ...where])).toMatch(/^\/dir: directory\ninode \d+, 1 entries, mode 0750/);
    expect(await mustTatami(['stat', '/link', ...where])).toMatch(/^\/link: symlink to dir\/file\n/);
    expect(await mustTatami(['stat', '/dir/file', ...where])).toMatch(/\n1 extents\n.*n1: 1 block copies\n/s);
  });

  it('names need not be UTF-8', async () => {
    const folder = join(cluster.mount, 'names');
    mkdirSync(folder);
    const odd = Buffer.from([0x61, 0xff, 0x0a, 0x62]);
    mkdirSync(Buffer.concat([Buffer.from(`${folder}/`), odd]));
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), odd, Buffer.from('/畳')]), Buffer.alloc(50_000));
    const plain = execFileSync(process.execPath, [TATAMI, 'ls', '/names', ...where]);
    expect(plain).toEqual(Buffer.concat([odd, Buffer.from('\n')]));
    expect(await mustTatami(['ls', '-l', '/names', ...where])).toMatch(/^drwxr-xr-x/);
    const [listed] = JSON.parse(await mustTatami(['ls', '--json', '/names', ...where])) as Listed[];
    expect(listed).toMatchObject({ type: 'directory', nameBase64: odd.toString('base64') });
    expect(await mustTatami(['fsck', '/names', ...where])).toMatch(/^1 blocks of 1 files checked, 0 findings/);
    const holder = spawn('bash', ['-c', `exec 9< $'${folder}/a\\377\\nb/畳' && flock 9 && echo held && exec sleep 60`]);
    await once(holder.stdout, 'data');
    const lock = {
      path: expect.stringMatching(/畳$/) as string,
      pathBase64: Buffer.concat([Buffer.from('/names/'), odd, Buffer.from('/畳')]).toString('base64'),
    };
    expect(JSON.parse(await mustTatami(['locks', '--json', ...where]))).toMatchObject([lock]);
    expect(await mustTatami(['locks', ...where])).toContain("$'/names/a\\377\\nb/畳'");
    holder.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });

  it('end quietly when nobody reads on', async () => {
    for (let index = 0; index < 2_000; index++) writeFileSync(join(cluster.mount, `many-${index}`), '');
    const script = `'${process.execPath}' '${TATAMI}' ls / --data '${cluster.data}' | head -1`;
    const ran = await run('bash', ['-c', script]);
    expect([ran.stdout.split('\n').length, ran.stderr]).toEqual([2, '']);
  });

  it('put and get that are interrupted leave nothing behind', async () => {
    const large = join(cluster.directory, 'large');
    execFileSync('truncate', ['-s', '20G', large]);
    const listing = async () => (await mustTatami(['ls', '/', ...where])).split('\n').filter((n) => /interr/.test(n));
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      const put = startTatami(['put', large, '/interrupted', ...where]);
      await waitUntil('it writes', async () => (await listing()).length > 0);
      put.child.kill(signal);
      expect([await put.ended, put.output.stderr]).toEqual([130, expect.stringMatching(/interrupted/)]);
      expect(await listing()).toEqual([]);
    }
    truncateSync(join(cluster.mount, 'many-0'), 20 * 2 ** 30);
    const get = startTatami(['get', '/many-0', join(cluster.directory, 'got'), ...where]);
    const got = () => readdirSync(cluster.directory).filter((name) => name.startsWith('got'));
    await waitUntil('it reads', () => got().length > 0);
    get.child.kill('SIGINT');
    expect(await get.ended).toBe(130);
    expect(got()).toEqual([]);
  });

  it('put clears away what a writer left that was killed long ago, and nothing else', async () => {
    const local = join(cluster.directory, 'small');
    writeFileSync(local, 'small');
    const long = Date.now() / 1000 - 7_200;
    for (const [name, time] of [
      ['target.tatami-put-1', long],
      ['target.tatami-put-2', Date.now() / 1000],
      ['target.tatami', long],
      ['target2.tatami-put-1', long],
    ] as const) {
      writeFileSync(join(cluster.mount, name), 'left');
      utimesSync(join(cluster.mount, name), time, time);
    }
    await mustTatami(['put', local, '/target', ...where]);
    const names = (await mustTatami(['ls', '/', ...where])).split('\n').filter((name) => name.startsWith('target'));
    expect(names).toEqual(['target', 'target.tatami', 'target.tatami-put-2', 'target2.tatami-put-1']);
  });

  it('errors are about the path that was given', async () => {
    const local = join(cluster.directory, 'small');
    const said = async (...args: string[]) => {
      const { code, stderr } = await tatami([...args, ...where]);
      expect(code).toBe(1);
      expect(stderr).not.toMatch(/tatami-(put|get)/);
      return stderr;
    };
    expect(await said('put', local, '/no/x')).toMatch(/there is no \/no in the cluster\n.*tatami ls/);
    expect(await said('get', '/', local)).toMatch(/\/ is a directory\n/);
    expect(await said('ls', '/nothing')).toMatch(/there is no \/nothing/);
    expect(await said('stat', '/nothing')).toMatch(/there is no \/nothing/);
  });

  it('names may be as long as names can be', async () => {
    const name = `${'n'.repeat(252)}畳`;
    const local = join(cluster.directory, name);
    writeFileSync(local, 'long');
    await mustTatami(['put', local, '/', ...where]);
    await mustTatami(['put', local, `/${name}`, ...where]);
    rmSync(local);
    await mustTatami(['get', `/${name}`, cluster.directory, ...where]);
    expect(readFileSync(local, 'utf8')).toBe('long');
    const tooLong = await tatami(['get', `/${name}`, `${local}n`, ...where]);
    expect([tooLong.code, tooLong.stderr]).toEqual([2, expect.stringMatching(/cannot write .*ENAMETOOLONG/)]);
  });

  it('what is no file is written to, and not replaced by one', async () => {
    const local = join(cluster.directory, 'to-device');
    writeFileSync(local, 'bytes');
    await mustTatami(['put', local, '/to-device', ...where]);
    const device = join(cluster.directory, 'null');
    execFileSync('mknod', [device, 'c', '1', '3']);
    const link = join(cluster.directory, 'link-to-device');
    symlinkSync(device, link);
    for (const path of [link, device]) {
      await mustTatami(['get', '/to-device', path, ...where]);
      expect([statSync(device).isCharacterDevice(), lstatSync(link).isSymbolicLink()]).toEqual([true, true]);
    }
  });

  it('reading back what was put', async () => {
    const local = join(cluster.directory, 'local');
    writeFileSync(local, Buffer.alloc(5_000_000, 'q'));
    await mustTatami(['put', local, '/put', ...where]);
    await mustTatami(['get', '/put', join(cluster.directory, 'back'), ...where]);
    expect(readFileSync(join(cluster.directory, 'back')).equals(readFileSync(local))).toBe(true);
    expect((await tatami(['get', '/put', '-', ...where])).stdout.length).toBe(5_000_000);
  });
});
