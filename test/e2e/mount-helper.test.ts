/**
 * Mounting as administrators do it: mount(8), fstab, umount(8). The helpers are installed into /sbin of a mount namespace of the test,
 * where /sbin and /dev are overlays: the machine's own are not touched, and tests beside this one see nothing of it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TATAMI, must, processesWith, run, waitUntil, type Ran } from './support.ts';

const tatamiWord = `'${process.execPath}' '${TATAMI}'`;

let directory: string;
let holder: ChildProcess;
let data: string;
let whole: string;
let dir: string;
/** `host:port` of the node. */
let source: string;
let options: string;

/** Runs a script in the namespace; its error output is in `stderr`. */
function inside(script: string, timeoutMs = 20_000): Promise<Ran> {
  return run('nsenter', [`--mount=/proc/${holder.pid}/ns/mnt`, 'bash', '-c', `cd /; ${script}`], { timeoutMs });
}
async function mustInside(script: string): Promise<string> {
  const ran = await inside(script);
  if (ran.code !== 0) throw new Error(`${script}\nended with ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
  return ran.stdout;
}
const mountProcess = async (): Promise<number | undefined> => (await processesWith(`\0mount\0${dir}\0`))[0];
async function allEnded(): Promise<void> {
  await waitUntil('the end of the mount', async () => (await mountProcess()) === undefined, 10_000);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tatami-helper-'));
  [data, whole, dir] = ['data', 'whole', 'mnt'].map((name) => join(directory, name)) as [string, string, string];
  for (const name of ['layers', 'whole', 'mnt']) await mkdir(join(directory, name));
  const layers = join(directory, 'layers');
  const overlay = (path: string, name: string) =>
    `mkdir ${layers}/${name} ${layers}/${name}-work; mount -t overlay overlay -o lowerdir=${path},upperdir=${layers}/${name},workdir=${layers}/${name}-work ${path}`;
  const script = [
    `set -e; mount -t tmpfs tmpfs ${layers}`,
    overlay(realpathSync('/sbin'), 'sbin'),
    overlay('/dev', 'dev'),
    'echo ready; exec sleep 600',
  ];
  holder = spawn('unshare', ['--mount', '--propagation', 'private', 'bash', '-c', script.join('\n')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = (await once(holder.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  expect(said.toString()).toBe('ready\n');
  await mustInside(`${tatamiWord} install-helpers --no-units`);
  await mustInside(`${tatamiWord} up --data ${data} --mount ${whole} --nodes 1 --detach`);
  const cluster = JSON.parse(readFileSync(join(data, 'cluster.json'), 'utf8')) as { nodes: { address: string }[] };
  source = cluster.nodes.map(({ address }) => address).join(',');
  options = `key_file=${data}/cluster.key,log=${directory}/mount.log`;
  await mustInside(
    `mkdir -p ${whole}/projects/inner; echo inside > ${whole}/projects/file; echo out > ${whole}/outside`,
  );
});

afterAll(async () => {
  await inside(`umount -l ${dir}; ${tatamiWord} down --data ${data}`, 60_000);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  for (const pid of await processesWith(directory)) process.kill(pid, 'SIGKILL');
  await rm(directory, { recursive: true, force: true });
});

it('mounts and unmounts, with flags that the kernel obeys, and leaves no process and no dirty data', async () => {
  await mustInside(`mount -t tatamifs ${source} ${dir} -o ${options},nosuid,nodev,noexec`);
  expect(await mustInside(`findmnt -no SOURCE,FSTYPE,OPTIONS ${dir}`)).toMatch(
    new RegExp(`^${source} +fuse.tatamifs +rw,nosuid,nodev,noexec,noatime,`),
  );
  expect(await inside(`cp /bin/true ${dir}/program; ${dir}/program`)).toMatchObject({ code: 126 });
  const again = await inside(`mount -t tatamifs ${source} ${dir} -o ${options}`);
  expect([again.code, again.stderr]).toEqual([32, expect.stringMatching(/already mounted/)]);
  // Busy: nothing happens, and it is said who; then all that was written is there when umount returns.
  const busy = await inside(`exec 5>${dir}/large; head -c 20000000 /dev/urandom >&5; umount ${dir} 5>&-`);
  expect([busy.code, busy.stderr]).toEqual([32, expect.stringMatching(/in use by bash/)]);
  const sum = await mustInside(`sha256sum < ${dir}/large; echo last > ${dir}/last; umount ${dir}`);
  expect(await mountProcess()).toBeUndefined();
  expect(await mustInside(`sha256sum < ${whole}/large; cat ${whole}/last`)).toBe(`${sum}last\n`);
});

it('read-only means EROFS, and can be changed on a living mount', async () => {
  await mustInside(`mount -t tatamifs ${source} ${dir} -o ${options},ro`);
  const refused = await inside(`echo x > ${dir}/new`);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/Read-only file system/)]);
  await mustInside(`mount -o remount,rw ${dir}; echo x > ${dir}/new`);
  const busy = await inside(`exec 5>>${dir}/new; mount -o remount,ro ${dir} 5>&-`);
  expect([busy.code, busy.stderr]).toEqual([32, expect.stringMatching(/busy/)]);
  await mustInside(`mount -o remount,ro ${dir}`);
  expect(await inside(`rm ${dir}/new`)).toMatchObject({ code: 1 });
  await mustInside(`umount ${dir}`);
});

it('says what is wrong, and by which exit code', async () => {
  const unknown = await inside(`mount -t tatamifs ${source} ${dir} -o ${options},nonsense=1`);
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringMatching(/unknown option nonsense/)]);
  const noSource = await inside(`mount -t tatamifs nothing ${dir}`);
  expect([noSource.code, noSource.stderr]).toEqual([1, expect.stringMatching(/no source of tatamifs/)]);
  const noNode = await inside(`mount -t tatamifs 127.0.0.1:1 ${dir} -o ${options}`);
  expect([noNode.code, noNode.stderr]).toEqual([32, expect.stringMatching(/no node answers/)]);
  const noSubdir = await inside(`mount -t tatamifs ${data} ${dir} -o subdir=/nowhere`);
  expect([noSubdir.code, noSubdir.stderr]).toEqual([32, expect.stringMatching(/no directory \/nowhere/)]);
  await mustInside(`mount -s -t tatamifs ${data} ${dir} -o nonsense=1; umount ${dir}`);
});

it('shows only a directory, until that is removed elsewhere', async () => {
  await mustInside(`mount -t fuse.tatamifs ${source}:/projects ${dir} -o ${options},attr_timeout=0`);
  const seen = await mustInside(`cd ${dir}; ls; cat file ../${dir.split('/').at(-1)}/inner/../file; ls -id .`);
  expect(seen).toBe('file\ninner\ninside\ninside\n1 .\n');
  expect(await inside(`ls ${dir}/outside ${dir}/inner/../../outside`)).toMatchObject({ code: 2 });
  await mustInside(`rm -r ${whole}/projects`);
  for (const script of [`ls ${dir}`, `cat ${dir}/file`, `touch ${dir}/new`]) {
    expect([script, (await inside(script)).stderr]).toEqual([script, expect.stringMatching(/Stale file handle/)]);
  }
  await mustInside(`umount ${dir}; mkdir -p ${whole}/projects; echo inside > ${whole}/projects/file`);
});

it('follows a line of fstab, and clears away what a killed process left', async () => {
  const fstab = join(directory, 'fstab');
  const line = `${source} ${dir} tatamifs _netdev,nofail,x-systemd.automount,subdir=/projects,${options} 0 0\n`;
  writeFileSync(fstab, line);
  await mustInside(`mount --fstab ${fstab} ${dir}`);
  expect(await mustInside(`ls ${dir}; mount -a -T ${fstab}`)).toBe('file\n');
  process.kill((await mountProcess()) ?? 0, 'SIGKILL');
  await allEnded();
  // The kernel's second word is for who asked before it had noticed.
  expect((await inside(`ls ${dir}`)).stderr).toMatch(/not connected|connection abort/);
  await mustInside(`mount --fstab ${fstab} ${dir}`);
  expect(await mustInside(`ls ${dir}; grep -c ' ${dir} ' /proc/mounts`)).toBe('file\n1\n');
  await mustInside(`umount ${dir}; mount -a -T ${fstab}; ls ${dir}; umount ${dir}`);
});

it('leaves a dead mount of another filesystem alone', async () => {
  // A FUSE connection whose descriptor is closed: nobody serves it any more.
  await mustInside(
    `exec 3<>/dev/fuse; mount -i -t fuse.other -o fd=3,rootmode=40000,user_id=0,group_id=0 other ${dir}; exec 3>&-`,
  );
  try {
    const refused = await inside(`mount -t tatamifs ${source} ${dir} -o ${options}`);
    expect([refused.code, refused.stderr]).toEqual([32, expect.stringMatching(/another filesystem \(fuse.other/)]);
  } finally {
    await mustInside(`umount -l ${dir}`);
  }
});

it('ends in order after umount -l and fusermount -u', async () => {
  await mustInside(`mount -t tatamifs ${source} ${dir} -o ${options}`);
  await mustInside(`exec 5>${dir}/late; echo one >&5; umount -l ${dir}; echo two >&5`);
  await allEnded();
  expect(await mustInside(`cat ${whole}/late`)).toBe('one\ntwo\n');
  await mustInside(`mount -t tatamifs ${source} ${dir} -o ${options}; echo 1 > ${dir}/by-fuse; fusermount -u ${dir}`);
  await allEnded();
  expect(await mustInside(`cat ${whole}/by-fuse`)).toBe('1\n');
});

it('logs to the log of the system, with priorities', async () => {
  const listen = `import socket; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind('/dev/log'); print('bound',flush=True)
while True: print(s.recv(9999).decode(),flush=True)`;
  const at = [`--mount=/proc/${holder.pid}/ns/mnt`, 'python3', '-c', listen];
  const syslog = spawn('nsenter', at, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  syslog.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  try {
    await waitUntil('syslog', () => said.includes('bound'), 10_000);
    await mustInside(`mount -t tatamifs ${data} ${dir} -o log=syslog; umount ${dir}`);
    await waitUntil('the log', () => said.includes('"unmounted"'), 10_000);
    // daemon.info
    expect(said).toMatch(/^<30>.*tatami-mount.*"msg":"mounted"/m);
  } finally {
    syslog.kill();
    await once(syslog, 'exit');
  }
  await waitUntil('the end of logger', async () => !(await must('ps', ['-eo', 'args'])).includes('--tag tatami-mount'));
});

it('is installed and removed below a prefix, and touches no file of others', async () => {
  const prefix = join(directory, 'root');
  await must(process.execPath, [TATAMI, 'install-helpers', '--prefix', prefix]);
  const unit = join(prefix, 'etc/systemd/system/tatami-node@.service');
  expect(readFileSync(unit, 'utf8')).toContain(`ExecStart=${process.execPath} ${TATAMI} node --data`);
  writeFileSync(unit, 'mine');
  const refused = await run(process.execPath, [TATAMI, 'install-helpers', '--prefix', prefix]);
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/not written by this command/)]);
  await must(process.execPath, [TATAMI, 'install-helpers', '--prefix', prefix, '--uninstall']);
  expect(await must('find', [prefix, '-type', 'f'])).toBe(`${unit}\n`);
});
