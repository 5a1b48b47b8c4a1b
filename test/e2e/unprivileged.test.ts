/** Without root: a cluster is made, mounted through fusermount, written to, read and stopped by a plain user. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, statSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TATAMI, mountsBelow, must, mustTatami, processesWith, run, shell, startTatami } from './support.ts';

/** `nobody`. */
const USER = { uid: 65_534, gid: 65_534 };
const canMount = process.getuid?.() === 0 && existsSync('/dev/fuse') && existsSync('/usr/bin/fusermount');
const canRead = spawnSync(process.execPath, [TATAMI, '--version'], { ...USER, cwd: '/' }).status === 0;

describe.skipIf(!canMount || !canRead)('a user who is not root', () => {
  let directory: string;
  let data: string;
  let deviceMode: number;
  const asUser = { ...USER, cwd: '/', env: { HOME: '/nonexistent' } };
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-user-'));
    chownSync(directory, USER.uid, USER.gid);
    data = join(directory, 'data');
    // As `tatami doctor` asks for it; Debian's fuse package does it by itself.
    deviceMode = statSync('/dev/fuse').mode & 0o7777;
    chmodSync('/dev/fuse', 0o666);
  });
  afterEach(async () => {
    await run(process.execPath, [TATAMI, 'down', '--data', data], asUser);
    await run('umount', ['-l', join(directory, 'mnt')]);
    chmodSync('/dev/fuse', deviceMode);
    await rm(directory, { recursive: true, force: true });
  });

  it('owns what `tatami up` makes', async () => {
    const mount = join(directory, 'mnt');
    await mustTatami(['up', '--data', data, '--mount', mount, '--detach'], asUser);
    const script = `cd '${mount}'; mkdir d; head -c 5000000 /dev/urandom > d/f; cp d/f d/g; cmp d/f d/g; stat -c %u:%g . d d/f`;
    expect(await shell(script, asUser)).toBe('65534:65534\n65534:65534\n65534:65534\n');
    await mustTatami(['down', '--data', data], asUser);
    expect(mountsBelow(directory)).toEqual([]);
    expect(await processesWith(data)).toEqual([]);
    await mustTatami(['up', '--data', data, '--mount', mount, '--detach'], asUser);
    expect(await shell(`cmp '${mount}/d/f' '${mount}/d/g'; rm -r '${mount}/d'; ls -A '${mount}'`, asUser)).toBe('');
    // Root may not even enter another user's mount: the program goes there itself.
    const user = spawn('sh', ['-c', `cd '${mount}' && echo there && exec sleep 60`], { ...USER, cwd: '/' });
    await once(user.stdout, 'data');
    const busy = await run(process.execPath, [TATAMI, 'umount', mount], asUser);
    expect([busy.code, busy.stderr]).toEqual([1, expect.stringMatching(/in use by sleep/)]);
    await mustTatami(['umount', '--force', mount], asUser);
    expect(mountsBelow(directory)).toEqual([]);
    user.kill();
  });

  it('needs neither a /dev/null to write to nor /sys/fs/fuse, which containers often lack', async () => {
    const mount = join(directory, 'mnt');
    const asPlainUser = `setpriv --reuid ${USER.uid} --regid ${USER.gid} --clear-groups`;
    const program = `'${process.execPath}' '${TATAMI}'`;
    const steps = `cd /
      ${program} up --data '${data}' --mount '${mount}' --detach
      sh -c 'cd ${mount} && exec sleep 600' & user=$!
      until [ "$(readlink /proc/$user/cwd)" = '${mount}' ]; do sleep 0.05; done
      ${program} umount --force '${mount}'
      kill $user
      ${program} down --data '${data}'`;
    await writeFile(join(directory, 'steps'), steps);
    const script = `mknod -m 644 '${directory}/null' c 1 3
      mount --bind '${directory}/null' /dev/null
      ! mountpoint -q /sys/fs/fuse/connections || umount /sys/fs/fuse/connections
      exec ${asPlainUser} bash -eu '${directory}/steps'`;
    const said = await must('unshare', ['-m', 'bash', '-euc', script], { env: asUser.env });
    expect(said).toContain(`unmounted ${mount}`);
    expect(await processesWith(data)).toEqual([]);
  });

  it('owns what `tatami init` makes', async () => {
    const key = join(directory, 'key');
    await mustTatami(['init', '--data', data, '--listen', '127.0.1.7:17430', '--key-file', key], asUser);
    const node = startTatami(['node', '--data', data, '--key-file', key], USER);
    try {
      await node.says('serves at');
      const where = ['--connect', '127.0.1.7:17430', '--key-file', key];
      const root = JSON.parse(await mustTatami(['stat', '/', '--json', ...where], asUser)) as { uid: number };
      expect(root.uid).toBe(USER.uid);
    } finally {
      node.child.kill('SIGTERM');
      await node.ended;
    }
  });
});
