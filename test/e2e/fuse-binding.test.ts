/**
 * The kernel binding against the kernel: a MemoryFs is mounted by a child process (this process must never touch a
 * mount of its own synchronously) and used by ordinary programs.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { inspectMountPoint, MOUNT_THREAD_COUNT } from '../../src/fuse/mount.ts';
import { bundleForNode, type Bundle } from '../support/bundle.ts';

const isRoot = process.getuid?.() === 0;
const canMount = isRoot && existsSync('/dev/fuse');
const hasSetfattr = existsSync('/usr/bin/setfattr');
const hasFusermount = existsSync('/usr/bin/fusermount');

let bundle: Bundle;
let scratch: string;

interface Mounted {
  readonly process: ChildProcess;
  readonly path: string;
  /** Waits for a line of its output that begins so. */
  line(start: string): Promise<string>;
}

const children: ChildProcess[] = [];

async function start(
  path: string,
  options: { readonly args?: readonly string[]; readonly uid?: number } = {},
): Promise<Mounted> {
  const child = spawn(process.execPath, [bundle.path, path, ...(options.args ?? [])], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, UV_THREADPOOL_SIZE: String(MOUNT_THREAD_COUNT) },
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  children.push(child);
  let said = '';
  let wake: (() => void)[] = [];
  const hear = (text: Buffer): void => {
    said += text.toString();
    for (const go of wake.splice(0)) go();
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  child.on('close', () => hear(Buffer.from('\nexited\n')));
  const line = async (from: string): Promise<string> => {
    for (;;) {
      const found = said.split('\n').find((text) => text.startsWith(from));
      if (found !== undefined) return found;
      if (said.includes('\nexited\n')) throw new Error(`the mount process ended without "${from}": ${said}`);
      await new Promise<void>((go) => (wake = [...wake, go]));
    }
  };
  return { process: child, path, line };
}

async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((done) => child.on('close', done));
  return child.exitCode;
}

/** Runs a bash script in the mount; its stdout. */
async function sh(script: string, cwd: string): Promise<string> {
  const { stdout } = await execa('bash', ['-euc', script], { cwd, timeout: 60_000, env: { LC_ALL: 'C' } });
  return stdout;
}

async function shFails(script: string, cwd: string): Promise<string> {
  const { exitCode, stderr } = await execa('bash', ['-uc', script], {
    cwd,
    timeout: 60_000,
    reject: false,
    env: { LC_ALL: 'C' },
  });
  expect(exitCode).not.toBe(0);
  return stderr;
}

const isMounted = async (path: string): Promise<boolean> =>
  (await readFile('/proc/self/mountinfo', 'utf8')).includes(` ${path} `);

beforeAll(async () => {
  bundle = await bundleForNode('test/support/memory-mount.ts');
});
afterAll(() => bundle.remove());

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'tatamifs-fuse-'));
  await mkdir(join(scratch, 'mnt'));
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill('SIGTERM');
    await ended(child);
  }
  for (let i = 0; i < 4 && (await isMounted(join(scratch, 'mnt'))); i++)
    await execa('umount', ['-l', join(scratch, 'mnt')], { reject: false });
  await rm(scratch, { recursive: true, force: true });
});

describe.skipIf(!canMount)('a mounted memory filesystem', () => {
  let mnt: string;
  let mounted: Mounted;
  beforeEach(async () => {
    mnt = join(scratch, 'mnt');
    mounted = await start(mnt);
    await mounted.line('ready');
  });

  it('keeps files, modes, owners, links and times', async () => {
    await sh(
      `cp /bin/bash b; cmp /bin/bash b
       mkdir -p d/e; mv b d/e/c; cmp /bin/bash d/e/c
       ln d/e/c hard; ln -s d/e/c soft; cmp soft hard`,
      mnt,
    );
    expect(await sh('readlink soft; stat -c %h hard; [ d/e/c -ef hard ] && echo same', mnt)).toBe('d/e/c\n2\nsame');
    await sh('chmod 4751 hard; chown 12:34 hard', mnt);
    expect(await sh('stat -c "%a %u %g" d/e/c', mnt)).toBe('751 12 34');
    await sh('touch -d "2001-02-03 04:05:06.123456789 UTC" hard; touch -a -d "1965-01-01 00:00:00.5 UTC" hard', mnt);
    expect(await sh('TZ=UTC stat -c "%x|%y" d/e/c', mnt)).toBe(
      '1965-01-01 00:00:00.500000000 +0000|2001-02-03 04:05:06.123456789 +0000',
    );
    expect(await sh('umask 027; mkdir m; touch f; stat -c %a m f', mnt)).toBe('750\n640');
    expect(await shFails('rmdir d', mnt)).toContain('Directory not empty');
    expect(await shFails('ln d x', mnt)).toContain('not allowed');
    await sh('rm -rf d hard soft m f; [ "$(ls -A | sort | tr "\\n" " ")" = "slow stuck zeros " ]', mnt);
  });

  it('truncates, extends, appends, overwrites, seeks and preallocates', async () => {
    expect(
      await sh(
        `printf 0123456789 > f; truncate -s 4 f; cat f; echo; truncate -s 6 f; od -An -c f
         printf ab >> f; printf XY | dd of=f bs=1 seek=1 conv=notrunc status=none; od -An -c f; : > f; stat -c %s f`,
        mnt,
      ),
    ).toBe('0123\n   0   1   2   3  \\0  \\0\n   0   X   Y   3  \\0  \\0   a   b\n0');
    await sh(
      'fallocate -l 10000 p; [ $(stat -c %s p) = 10000 ]; fallocate -n -l 99999 p; [ $(stat -c %s p) = 10000 ]; fallocate -p -o 0 -l 4096 p',
      mnt,
    );
    expect(await shFails('fallocate -c -o 0 -l 4096 p', mnt)).toMatch(/not supported/i);
    expect(await shFails('truncate -s 9007199254740993 p', mnt)).toMatch(/too large/i);
    expect(
      await sh(
        'dd if=zeros bs=1M count=64 status=none | sha256sum; dd if=/dev/zero bs=1M count=64 status=none | sha256sum',
        mnt,
      ),
    ).toMatch(/^(\w+) .*\n\1 /);
  });

  it('takes names of 255 bytes, refuses 256, and keeps bytes that are not UTF-8', async () => {
    const long = 'n'.repeat(255);
    await sh(`echo x > ${long}; cat ${long}`, mnt);
    expect(await shFails(`echo x > ${long}n`, mnt)).toContain('File name too long');
    expect(await shFails(`mkdir ${long}n`, mnt)).toContain('File name too long');
    expect(await sh('stat -f -c %l .', mnt)).toBe('255');
    await sh(
      `n=$'\\xff\\xfe\\x80 \\n*'; echo raw > "$n"; [ "$(cat $'\\xff'*)" = raw ]; ls -b | grep -q '377.376.200'; mv "$n" "$n$n"; ln -s "$n" $'l\\xc3\\x28'; rm "$n$n"`,
      mnt,
    );
    expect((await execa('bash', ['-c', `readlink $'l\\xc3\\x28'`], { cwd: mnt, encoding: 'buffer' })).stdout).toEqual(
      Uint8Array.of(0xff, 0xfe, 0x80, 0x20, 0x0a, 0x2a),
    );
  });

  it('renames: over a file, over an empty directory, not over a full one, without replacing, exchanging', async () => {
    await sh('mkdir a b c; touch c/x; mv -T a b; echo 1 > f; echo 2 > g; mv f g; [ $(cat g) = 1 ]', mnt);
    expect(await shFails('mv -T b c', mnt)).toContain('not empty');
    await sh('echo 3 > h; mv -n h g; [ $(cat g) = 1 ]; [ $(cat h) = 3 ]', mnt);
    expect(await shFails('mv b b/inside', mnt)).toContain('subdirectory of itself');
  });

  it('serves files that were unlinked while open, and frees them then', async () => {
    expect(
      await sh(
        'exec 3<>u; echo data >&3; rm u; echo more >&3; cat /proc/self/fd/3; stat -L -c "%h %s" /proc/self/fd/3; ls | grep -c "^u\\|hidden" || true',
        mnt,
      ),
    ).toBe('data\nmore\n0 10\n0');
    mounted.process.kill('SIGUSR1');
    expect(JSON.parse(await mounted.line('{'))).toMatchObject({ handles: 0 });
  });

  it('lists 5,000 entries while they are deleted', async () => {
    expect(
      await sh(
        'mkdir big; cd big; seq 1 5000 | xargs touch; ls | wc -l; find . -type f | wc -l; find . -type f -delete; ls -A | wc -l',
        mnt,
      ),
    ).toBe('5000\n5000\n0');
    await sh('cd big; seq 1 5000 | xargs touch; cd ..; rm -rf big', mnt);
  });

  it('makes fifos and sockets', async () => {
    expect(await sh('mkfifo p; stat -c %F p; (echo through > p &); cat p', mnt)).toBe('fifo\nthrough');
  });

  it.skipIf(!hasSetfattr)('keeps extended attributes', async () => {
    expect(
      await sh(
        'touch x; setfattr -n user.a -v one x; setfattr -n user.b -v 0x00ff x; getfattr -d -e hex x | grep = ; setfattr -x user.a x; getfattr -d -e hex x | grep -c =',
        mnt,
      ),
    ).toBe('user.a=0x6f6e65\nuser.b=0x00ff\n1');
    expect(await shFails('getfattr -n user.a x', mnt)).toContain('No such attribute');
  });

  it('carries a git repository', async () => {
    await sh(
      `git init -q r; cd r; git config user.email a@b; git config user.name n
       for i in $(seq 50); do echo $i > f$i; done; git add .; git commit -qm one; git mv f1 g1; git commit -qam two
       git fsck --strict; [ -z "$(git status --porcelain)" ]; git clone -q . ../s; cd ../s; git log --oneline | wc -l | grep -qx 2`,
      mnt,
    );
  });

  it('tells the caller apart and lets the kernel check modes', async () => {
    await sh(
      'chmod 1777 .; mkdir -m 700 private; setpriv --reuid 65534 --regid 65534 --clear-groups touch theirs',
      mnt,
    );
    expect(await sh('stat -c "%u %g" theirs', mnt)).toBe('65534 65534');
    expect(await shFails('setpriv --reuid 65534 --regid 65534 --clear-groups ls private', mnt)).toContain(
      'Permission denied',
    );
  });

  it('interrupts a read that waits, and forced unmounting ends one that never would', async () => {
    const reader = spawn('cat', [join(mnt, 'slow')], { stdio: 'ignore' });
    await new Promise((done) => setTimeout(done, 300));
    reader.kill('SIGINT');
    await ended(reader);
    const stuck = spawn('cat', [join(mnt, 'stuck')], { stdio: 'ignore' });
    await new Promise((done) => setTimeout(done, 300));
    mounted.process.kill('SIGTERM');
    expect(await mounted.line('closed')).toMatch(/aborted|unmounted/);
    expect(await ended(stuck)).not.toBe(0);
    expect(await isMounted(mnt)).toBe(false);
  });

  it('drops what it is told to drop, and keeps the rest as long as it was told to', async () => {
    const other = join(scratch, 'other');
    await mkdir(other);
    const cached = await start(other, { args: ['dev-fuse', '60000'] });
    await cached.line('ready');
    try {
      expect(await sh('stat -c %a zeros stuck', other)).toBe('644\n644');
      cached.process.kill('SIGWINCH');
      await cached.line('notified');
      // The notices leave by a thread; nothing tells when the kernel took them.
      await sh(
        'for i in $(seq 100); do [ $(stat -c %a zeros) = 600 ] && ! stat stuck 2>/dev/null && exit 0; sleep 0.05; done; exit 1',
        other,
      );
    } finally {
      cached.process.kill('SIGTERM');
      await ended(cached.process);
    }
  });

  it('refuses to unmount while it is used, and then still works', async () => {
    const user = spawn('sleep', ['60'], { cwd: mnt, stdio: 'ignore' });
    await new Promise((done) => setTimeout(done, 200));
    mounted.process.kill('SIGUSR2');
    expect(await mounted.line('refused')).toBe('refused EBUSY');
    await sh('echo still > f; [ $(cat f) = still ]', mnt);
    user.kill('SIGKILL');
    await ended(user);
  });

  it('refuses a second mount there, and cleans up what a killed process left', async () => {
    const second = await start(mnt);
    expect(await second.line('failed')).toMatch(/^failed EBUSY .*already mounted.*Unmount it/);
    expect(await inspectMountPoint(mnt)).toMatchObject({ state: 'mounted', ours: true });
    mounted.process.kill('SIGKILL');
    await ended(mounted.process);
    expect(await inspectMountPoint(mnt)).toMatchObject({ state: 'stale', ours: true });
    const third = await start(mnt);
    await third.line('Unmounted what a crash had left');
    await third.line('ready');
    await sh('echo new > f; cat f', mnt);
  });

  it('ends when it is unmounted from outside, and when its process exits without unmounting', async () => {
    await execa('umount', [mnt]);
    expect(await mounted.line('closed')).toBe('closed unmounted');
    expect(await ended(mounted.process)).toBe(0);
    const again = await start(mnt);
    await again.line('ready');
    again.process.kill('SIGHUP');
    expect(await ended(again.process)).toBe(3);
    await execa('umount', ['-l', mnt]);
  });
});

describe.skipIf(!canMount)('mount points that cannot be used', () => {
  it('each is refused with its reason and remedy', async () => {
    const { path } = await start(join(scratch, 'missing'));
    expect(await (await start(path)).line('failed')).toMatch(/^failed ERR_USAGE .*does not exist.*mkdir -p/);
    await writeFile(join(scratch, 'file'), '');
    expect(await (await start(join(scratch, 'file'))).line('failed')).toMatch(/^failed ERR_USAGE .*not a directory/);
    await writeFile(join(scratch, 'mnt/file'), '');
    expect(await (await start(join(scratch, 'mnt'))).line('failed')).toMatch(
      /^failed ERR_USAGE .*not empty.*Name an empty directory/,
    );
    expect(await (await start('/proc')).line('failed')).toMatch(/^failed EBUSY Another filesystem \(proc/);
    expect(await isMounted(join(scratch, 'mnt'))).toBe(false);
  });

  it('a symbolic link to a directory and names with blanks are mounted on the directory itself', async () => {
    await mkdir(join(scratch, 'with blank'));
    await execa('ln', ['-s', 'with blank', join(scratch, 'link')]);
    const mounted = await start(join(scratch, 'link'));
    await mounted.line('ready');
    await sh('echo 1 > f', join(scratch, 'with blank'));
    mounted.process.kill('SIGTERM');
    expect(await ended(mounted.process)).toBe(0);
    expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain('with\\040blank');
  });
});

describe.skipIf(!canMount || !hasFusermount)('mounting by fusermount', () => {
  it('serves the same', async () => {
    const mnt = join(scratch, 'mnt');
    const mounted = await start(mnt, { args: ['fuse-native'] });
    await mounted.line('ready');
    await sh(
      'touch -d "2001-02-03 04:05:06.123456789 UTC" f; [ "$(TZ=UTC stat -c %y f)" = "2001-02-03 04:05:06.123456789 +0000" ]; ln f g; [ f -ef g ]',
      mnt,
    );
    mounted.process.kill('SIGTERM');
    expect(await mounted.line('closed')).toBe('closed unmounted');
    expect(await ended(mounted.process)).toBe(0);
    expect(await isMounted(mnt)).toBe(false);
  });

  it('tells a user who may not open the device what to do', async () => {
    await execa('chown', ['65534', scratch, join(scratch, 'mnt')]);
    if (((await execa('stat', ['-c', '%a', '/dev/fuse'])).stdout.at(-1) ?? '') === '6') return;
    await execa('chmod', ['-R', 'a+rX', resolve(bundle.path, '..')]);
    const mounted = await start(join(scratch, 'mnt'), { uid: 65534 });
    expect(await mounted.line('failed')).toMatch(/ERR_USAGE .*\/dev\/fuse may not be opened.*chmod 666/);
  });
});
