/** Files that are read at random are fetched into the kernel's page cache ahead of their readers; what others change is seen all the same. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { must, mustTatami, tatami, TestCluster, waitUntil } from './support.ts';

const MiB = 1024 * 1024;
const BLOCK = 4 * MiB;
const BLOCKS = 8;
const SIZE = BLOCKS * BLOCK;

/** Prints how many pages of a file the kernel has. */
const RESIDENT = `
import ctypes, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
found = ctypes.create_string_buffer((size + 4095) // 4096)
if libc.mincore(at, size, found) != 0:
    raise OSError(ctypes.get_errno(), 'mincore')
print(sum(byte & 1 for byte in found.raw))
`;

let cluster: TestCluster;
let second: string;
let third: string;
const content = randomBytes(SIZE);
beforeAll(async () => {
  cluster = await TestCluster.start({ nodes: 3, copies: 2 });
  [second, third] = [join(cluster.directory, 'second'), join(cluster.directory, 'third')];
  for (const directory of [second, third]) mkdirSync(directory);
  await mustTatami(['mount', second, '--data', cluster.data]);
  await mustTatami(['mount', third, '--prefetch', '0', '--data', cluster.data]);
});
afterAll(async () => {
  for (const directory of [second, third]) await tatami(['umount', '--force', directory]);
  await cluster.destroy();
});

async function residentCount(path: string): Promise<number> {
  return Number(await must('python3', ['-c', RESIDENT, path]));
}

/** 4 KiB at places of each block, in no order. */
function readHereAndThere(fd: number, expected: Buffer): void {
  const piece = Buffer.alloc(4096);
  for (let round = 0; round < 6; round += 1) {
    for (let block = 0; block < BLOCKS; block += 1) {
      const at = ((block * 3 + 1) % BLOCKS) * BLOCK + ((round * 7 + 5) % 16) * 256 * 1024;
      readSync(fd, piece, 0, piece.length, at);
      expect(piece.equals(expected.subarray(at, at + piece.length))).toBe(true);
    }
  }
}

it('a file that is read at random is soon in the page cache, with what others write to it once it is opened again', async () => {
  writeFileSync(join(cluster.mount, 'file'), content);
  const path = join(second, 'file');
  const fd = openSync(path, 'r');
  readHereAndThere(fd, content);
  await waitUntil('it is in the page cache', async () => (await residentCount(path)) === SIZE / 4096, 30_000);
  expect(readFileSync(path).equals(content)).toBe(true);

  const changed = Buffer.from(content);
  const writing = openSync(join(cluster.mount, 'file'), 'r+');
  for (let block = 0; block < BLOCKS; block += 2) {
    const piece = randomBytes(10_000);
    piece.copy(changed, block * BLOCK + 123_456);
    writeSync(writing, piece, 0, piece.length, block * BLOCK + 123_456);
  }
  closeSync(writing);
  expect(readFileSync(path).equals(changed)).toBe(true);
  closeSync(fd);

  const own = openSync(path, 'r+');
  ftruncateSync(own, BLOCK + 1000);
  closeSync(own);
  expect(readFileSync(path).equals(changed.subarray(0, BLOCK + 1000))).toBe(true);
});

it('nothing is fetched ahead with --prefetch 0', async () => {
  writeFileSync(join(cluster.mount, 'other'), content);
  const path = join(third, 'other');
  const fd = openSync(path, 'r');
  readHereAndThere(fd, content);
  const found = await residentCount(path);
  closeSync(fd);
  expect(found).toBeLessThanOrEqual(6 * BLOCKS);
});
