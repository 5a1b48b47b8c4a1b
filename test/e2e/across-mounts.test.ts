/** One filesystem, two mounts: appends of both, and files that lose their names while the other has them open. */
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

const APPENDER = fileURLToPath(new URL('./appender.py', import.meta.url));
/** More for a long run: APPEND_LINES=5000. */
const LINES = Number(process.env['APPEND_LINES'] ?? 150);
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

describe('programs on two mounts that append to one file', () => {
  it('find each line whole, none missing, each writer’s in its order, also when the primary is killed', async () => {
    const path = join(first, 'log');
    writeFileSync(path, '');
    const primary = (await cluster.status()).groups[0]!.primary;
    const writers = ['a', 'b', 'c', 'd'].map((tag, index) =>
      must('python3', [APPENDER, join(index % 2 === 0 ? first : second, 'log'), tag, String(LINES), String(index)], {
        timeoutMs: 240_000,
      }),
    );
    await waitUntil('something is written', () => statSync(path).size > 100_000);
    await cluster.kill(primary);
    await Promise.all(writers);
    await cluster.up();
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
    expect(await mustTatami(['fsck', '--data', cluster.data])).not.toContain('lost');
  });
});
