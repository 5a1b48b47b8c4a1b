/** One filesystem, two mounts: appends of both, and files that lose their names while the other has them open. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, mustTatami, tatami, TestCluster, waitUntil } from './support.ts';

/** Prints what it sees: of a file without a name that gets one, of O_APPEND that comes later, of a mapping of a file opened so. */
const OPEN_FILES = `
import fcntl, mmap, os, sys
first, second = sys.argv[1:]
descriptors = os.open('/proc/self/fd', os.O_RDONLY)
def named(fd, path):
    os.link(str(fd), path, src_dir_fd=descriptors, follow_symlinks=True)
fd = os.open(first, os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(fd, b'made')
print(os.fstat(fd).st_nlink, oct(os.fstat(fd).st_mode))
named(fd, first + '/named')
print(os.fstat(fd).st_nlink, os.listdir(second))
os.close(fd)
print(open(second + '/named').read())
fd = os.open(first, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
try:
    named(fd, first + '/other')
except OSError as error:
    print(error.strerror)
os.close(fd)
fd = os.open(first + '/named', os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
os.write(fd, b' and more')
os.close(fd)
print(open(second + '/named').read())
fd = os.open(first + '/named', os.O_RDWR | os.O_APPEND)
mapped = mmap.mmap(fd, 4)
mapped[0:1] = b'M'
mapped.flush()
mapped.close()
os.close(fd)
print(open(second + '/named').read())
one, other = (os.open(mount + '/named', os.O_WRONLY | os.O_APPEND) for mount in (first, second))
for fd in (one, other, one, other):
    os.write(fd, b'+')
os.close(one)
os.close(other)
print(open(first + '/named').read(), open(second + '/named').read())
`;
const APPENDER = fileURLToPath(new URL('./appender.py', import.meta.url));
/** More for a long run: APPEND_LINES=5000. */
const LINES = Number(process.env['APPEND_LINES'] ?? 150);
const MAILBOX = fileURLToPath(new URL('./mailbox.py', import.meta.url));
/** Likewise: MAILS=1000. */
const MAILS = Number(process.env['MAILS'] ?? 10);
const BYTES = 9 << 20;

let cluster: TestCluster;
let first: string;
let second: string;
beforeAll(async () => {
  cluster = await TestCluster.start();
  first = cluster.mount;
  second = join(cluster.directory, 'second');
  mkdirSync(second);
  await mustTatami(['mount', second, '--data', cluster.data]);
});
afterAll(async () => {
  await tatami(['umount', '--force', second]);
  await cluster.destroy();
});

/** Opens and closes a file for writing until it is ended: each close commits what others have written. */
const CLOSER = `
import os, sys
while True:
    os.close(os.open(sys.argv[1], os.O_WRONLY))
`;

describe('programs on two mounts that append to one file', () => {
  const append = (file: string): Promise<unknown> => {
    const writers = ['a', 'b', 'c', 'd'].map((tag, index) =>
      must('python3', [APPENDER, join(index % 2 === 0 ? first : second, file), tag, String(LINES), String(index)], {
        timeoutMs: 240_000,
      }),
    );
    return Promise.all(writers);
  };
  const expectLines = (path: string): void => {
    const next = new Map([...'abcd'].map((tag) => [tag, 0]));
    const lines = readFileSync(path, 'latin1').split('\n');
    expect(lines.pop()).toBe('');
    for (const line of lines) {
      const [tag, number, length, content] = line.split(' ') as [string, string, string, string];
      expect(content === tag.repeat(Number(length)), line.slice(0, 60)).toBe(true);
      expect(Number(number), tag).toBe(next.get(tag));
      next.set(tag, Number(number) + 1);
    }
    expect([...next.values()]).toEqual([LINES, LINES, LINES, LINES]);
  };

  it('find each line whole, none missing, each writer’s in its order, also when the primary is killed', async () => {
    const path = join(first, 'log');
    writeFileSync(path, '');
    const primary = (await cluster.status()).groups[0]!.primary;
    const appended = append('log');
    await waitUntil('something is written', () => statSync(path).size > 100_000);
    await cluster.kill(primary);
    await appended;
    await cluster.up();
    expectLines(path);
  });

  it('find each line whole beside others that close the file all the time', async () => {
    const path = join(first, 'closed');
    writeFileSync(path, '');
    const closers = [first, second].map((mount) =>
      spawn('python3', ['-c', CLOSER, join(mount, 'closed')], { stdio: 'ignore' }),
    );
    const ended = Promise.all(closers.map((closer) => once(closer, 'exit')));
    try {
      await append('closed');
    } finally {
      for (const closer of closers) closer.kill('SIGKILL');
      await ended;
    }
    expectLines(path);
  });
});

describe('a mailbox with dotlocks', () => {
  it('gets each message whole and once from writers on two mounts that also empty and replace it', async () => {
    const writers = ['a', 'b', 'c', 'd'];
    mkdirSync(join(first, 'mail'));
    const deliver = (tag: string, index: number) =>
      must('python3', [MAILBOX, join(index % 2 === 0 ? first : second, 'mail'), tag, String(MAILS), String(index)], {
        timeoutMs: 60_000 + MAILS * 2_000,
      });
    await Promise.all(writers.map(deliver));
    const next = new Map(writers.map((tag) => [tag, 0]));
    const mail = ['archive', 'mbox'].map((name) => readFileSync(join(first, 'mail', name), 'latin1')).join('');
    const lines = mail.split('\n');
    expect(lines.pop()).toBe('');
    for (let at = 0; at < lines.length; at += 2) {
      const [from, tag, number, length] = lines[at]?.split(' ') as [string, string, string, string];
      expect([from, Number(number)], lines[at]).toEqual(['From', next.get(tag)]);
      expect(lines[at + 1] === tag.repeat(Number(length)), `message ${number} of ${tag}`).toBe(true);
      next.set(tag, Number(number) + 1);
    }
    expect([...next.values()]).toEqual(writers.map(() => MAILS));
  });
});

describe('a file that is removed on one mount', () => {
  it('stays for the program that has it open on the other, and its space comes back after that', async () => {
    const content = Buffer.alloc(BYTES, 'kept ');
    writeFileSync(join(first, 'big'), content);
    const fd = openSync(join(second, 'big'), 'r+');
    unlinkSync(join(first, 'big'));
    const seen = Buffer.alloc(BYTES);
    const inodes = async () =>
      (JSON.parse(await must('stat', ['-f', '-c', '{"used":"%c %d"}', first])) as { used: string }).used;
    const before = await inodes();
    // Twice the time after which a mount is asked what it has open.
    await waitUntil('the mounts were asked', async () => fstatSync(fd).nlink === 0, 60_000);
    await mustTatami(['gc', '--data', cluster.data]);
    writeSync(fd, 'new', BYTES - 3);
    content.write('new', BYTES - 3);
    for (let at = 0; at < BYTES;) at += readSync(fd, seen, at, BYTES - at, at);
    expect(seen.equals(content)).toBe(true);
    closeSync(fd);
    await waitUntil('it is gone', async () => (await inodes()) !== before, 60_000);
    // A copy that the killed node has missed may still be on its way.
    expect((await tatami(['fsck', '--data', cluster.data])).stdout).not.toContain('unreadable');
  });
});

describe('a file that is opened again at once', () => {
  it('is as the other mount has left it, however it was opened there', async () => {
    const [there, here] = [join(first, 'opened'), join(second, 'opened')];
    mkdirSync(there);
    expect((await must('python3', ['-c', OPEN_FILES, there, here])).trim().split('\n')).toEqual([
      '0 0o100640',
      "1 ['named']",
      'made',
      'No such file or directory',
      'made and more',
      'Made and more',
      'Made and more++++ Made and more++++',
    ]);
  });
});

describe('access times', () => {
  it('move on a mount that keeps them, by the rule of relatime, and are seen on others', async () => {
    const keeps = join(cluster.directory, 'keeps');
    mkdirSync(keeps);
    await mustTatami(['mount', keeps, '--data', cluster.data, '-o', 'relatime']);
    try {
      const path = join(keeps, 'read');
      const atime = (of: string) => statSync(join(of, 'read'), { bigint: true }).atimeNs;
      writeFileSync(path, Buffer.alloc(8192, 'r'));
      const { mtimeNs } = statSync(path, { bigint: true });
      expect(readFileSync(join(second, 'read')).length).toBe(8192);
      expect(atime(keeps)).toBeLessThanOrEqual(mtimeNs);
      readFileSync(path);
      const readNs = atime(keeps);
      expect(readNs).toBeGreaterThan(mtimeNs);
      readFileSync(path);
      expect(atime(keeps)).toBe(readNs);
      await waitUntil('the other mount sees it', async () => atime(second) === readNs, 30_000);
      expect(statSync(join(second, 'read'), { bigint: true }).ctimeNs).toBe(statSync(path, { bigint: true }).ctimeNs);
      expect(atime(keeps)).toBe(readNs);
    } finally {
      await tatami(['umount', '--force', keeps]);
    }
  });
});
