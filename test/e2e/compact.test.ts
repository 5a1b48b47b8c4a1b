/** Files that were written at random, in small pieces: put together in the background, by hand, and under a writer's hands. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { must, mustTatami, tatami, TestCluster, waitUntil } from './support.ts';

const BLOCKS = 4;
const SIZE = BLOCKS * 4 * 1024 * 1024;
/** More for a long run: COMPACT_WRITES=2000. */
const WRITES = Number(process.env['COMPACT_WRITES'] ?? 150);

/**
 * Writes a file in order (its second argument says how long), and then small pieces at random with an fsync each; prints the hash that it
 * should have. `backwards`: the pieces go to the file's last block first, then to the one before it, and so on.
 */
const SCATTER = `
import hashlib, os, random, sys
path, size, writes, seed, backwards = sys.argv[1], *map(int, sys.argv[2:])
draw = random.Random(seed)
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
if size > 0:
    os.pwrite(fd, draw.randbytes(size), 0)
    os.fsync(fd)
content = bytearray(os.pread(fd, 1 << 30, 0))
while len(content) < os.fstat(fd).st_size:
    content += os.pread(fd, 1 << 30, len(content))
for count in range(writes):
    length = draw.randrange(1, 12000)
    at = draw.randrange(len(content) - length)
    if backwards:
        block = len(content) // ${BLOCKS}
        at = (${BLOCKS} - 1 - count * ${BLOCKS} // writes) * block + at % (block - length)
    piece = draw.randbytes(length)
    content[at:at + length] = piece
    os.pwrite(fd, piece, at)
    os.fsync(fd)
os.close(fd)
print(hashlib.sha256(content).hexdigest())
`;
const HOLES = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
at, found = 0, []
while at < os.fstat(fd).st_size:
    end = os.lseek(fd, at, os.SEEK_HOLE)
    found.append((at, end))
    try:
        at = os.lseek(fd, end, os.SEEK_DATA)
    except OSError:
        break
print(found, os.fstat(fd).st_blocks)
`;

let cluster: TestCluster;
let where: readonly string[];
let second: string;
let third: string;
beforeAll(async () => {
  cluster = await TestCluster.start({ nodes: 3, copies: 2 });
  where = ['--data', cluster.data];
  second = join(cluster.directory, 'second');
  third = join(cluster.directory, 'third');
  mkdirSync(second);
  mkdirSync(third);
  await mustTatami(['mount', second, '--compact-after', '1', ...where]);
  await mustTatami(['mount', third, '--compact-after', '0', ...where]);
});
afterAll(async () => {
  await tatami(['umount', '--force', second]);
  await tatami(['umount', '--force', third]);
  await cluster.destroy();
});

async function scatter(path: string, size: number, writes: number, seed: number, backwards = false): Promise<string> {
  const numbers = [size, writes, seed, Number(backwards)];
  return (await must('python3', ['-c', SCATTER, path, ...numbers.map(String)])).trim();
}

const hash = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

async function extents(path: string): Promise<{ readonly count: number; readonly needed: number }> {
  const told = JSON.parse(await mustTatami(['stat', path, '--json', ...where])) as {
    readonly extents: readonly unknown[];
    readonly extentsNeeded: number;
  };
  return { count: told.extents.length, needed: told.extentsNeeded };
}

/** All that stat(2) tells but the access time. */
function shown(path: string): string {
  const { size, blocks, mtimeNs, ctimeNs, ino, nlink, mode } = statSync(path, { bigint: true });
  return [size, blocks, mtimeNs, ctimeNs, ino, nlink, mode].join(' ');
}

it('a file that was written at random is put together once it is quiet, and nothing else of it changes', async () => {
  const expected = await scatter(join(second, 'db'), SIZE, WRITES, 1);
  const before = shown(join(second, 'db'));
  await waitUntil('the file is put together', async () => (await extents('/db')).count < 2 * BLOCKS + 16, 60_000);
  for (const mount of [second, cluster.mount, third]) {
    expect(shown(join(mount, 'db'))).toBe(before);
    expect(hash(join(mount, 'db'))).toBe(expected);
  }
}, 120_000);

it('what a mount left behind is put together by tatami compact, holes kept', async () => {
  const path = join(third, 'left');
  await must('truncate', ['-s', String(SIZE), path]);
  await must('fallocate', ['-l', '0x100000', '-o', '0x100000', '--punch-hole', path]);
  await scatter(path, 0, WRITES, 2);
  await must('fallocate', ['-l', '0x180000', '-o', '0x080000', '--punch-hole', path]);
  const expected = hash(path);
  const [before, holes] = [shown(path), await must('python3', ['-c', HOLES, path])];
  expect(holes.split('(').length).toBeGreaterThan(10);
  const { count, needed } = await extents('/left');
  expect((await mustTatami(['stat', '/left', ...where])).includes('would do')).toBe(count - needed >= 8);
  const whole = await scatter(join(third, 'full'), SIZE, WRITES, 3);
  expect(await mustTatami(['stat', '/full', ...where])).toContain('extents, where 4 would do');
  const told = await mustTatami(['compact', '/', ...where]);
  expect(told).toMatch(/^\/: \d+ files, \d+ extents fewer, .* written\n$/);
  expect(await extents('/full')).toEqual({ count: 4, needed: 4 });
  await mustTatami(['gc', ...where]);
  await mustTatami(['gc', ...where]);
  expect(hash(join(third, 'full'))).toBe(whole);
  for (const mount of [third, second]) {
    expect(hash(join(mount, 'left'))).toBe(expected);
    expect(shown(join(mount, 'left'))).toBe(before);
    expect(await must('python3', ['-c', HOLES, join(mount, 'left')])).toBe(holes);
  }
  expect((await tatami(['fsck', ...where])).code).toBe(0);
  const gone = await tatami(['compact', '/none', ...where]);
  expect(gone.code).toBe(1);
  expect(gone.stderr).toContain('there is no /none in the cluster');
}, 180_000);

it('a writer on another mount loses no byte, however often it is put together meanwhile', async () => {
  // By the mount that puts nothing together by itself.
  await scatter(join(third, 'busy'), SIZE, WRITES, 4);
  let isWriting = true;
  // Backwards, while it is put together forwards: they meet in one block at most each time, and the others have to be put together.
  const writing = scatter(join(third, 'busy'), 0, 4 * WRITES, 5, true).finally(() => (isWriting = false));
  let savedCount = 0;
  let rounds = 0;
  while (isWriting) {
    const done = JSON.parse(await mustTatami(['compact', '/busy', '--json', ...where])) as { savedCount: number };
    savedCount += done.savedCount;
    rounds += 1;
  }
  const expected = await writing;
  expect(rounds).toBeGreaterThan(0);
  expect(savedCount).toBeGreaterThan(0);
  for (const mount of [third, second, cluster.mount]) expect(hash(join(mount, 'busy'))).toBe(expected);
  await mustTatami(['compact', '/busy', ...where]);
  for (const mount of [third, second]) expect(hash(join(mount, 'busy'))).toBe(expected);
}, 180_000);
