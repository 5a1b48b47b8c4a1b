/**
 * The client of the repair benchmark. `write`: /large, and small files. `read`: reads both in no order until its standard
 * input ends, and prints how many bytes it has read every now and then; it ends with an error when a read fails or is wrong.
 */
import { connect } from '../src/index.ts';
import { KiB, MiB } from '../src/limits.ts';
import { coprimeNear, freshBytes } from './measure.ts';

const BLOCK_BYTES = 4 * MiB;
const SMALL_BYTES = 64 * KiB;
/** Part of all bytes that is in small files. */
const SMALL_SHARE = 1 / 16;
/** Small files written at once. */
const SMALL_AT_ONCE = 16;
/** As a program with some threads reads. */
const LARGE_READERS = 2;
const TELL_MS = 200;

const [mode, data, size] = process.argv.slice(2);
if (data === undefined || size === undefined) throw new Error('usage: repair-client write|read DATA BYTES');
const blockCount = Math.floor((Number(size) * (1 - SMALL_SHARE)) / BLOCK_BYTES);
const smallCount = Math.floor((Number(size) * SMALL_SHARE) / SMALL_BYTES);
// As from another machine.
const fs = await connect({ data, label: 'bench', localReads: false });
await (mode === 'write' ? write() : read());
await fs.close();

/** Each block and file tells its number. */
function numbered(buffer: Uint8Array, number: number): Uint8Array {
  new DataView(buffer.buffer, buffer.byteOffset).setFloat64(0, number);
  return buffer;
}

async function write(): Promise<void> {
  const file = await fs.open('/large', 'w');
  const block = freshBytes(BLOCK_BYTES);
  for (let number = 0; number < blockCount; number++) {
    await file.write(numbered(block, number), 0, BLOCK_BYTES, number * BLOCK_BYTES);
  }
  await file.sync();
  await file.close();
  await fs.mkdir('/small');
  let next = 0;
  const writer = async (): Promise<void> => {
    const small = freshBytes(SMALL_BYTES);
    while (next < smallCount) {
      const number = next++;
      await fs.writeFile(`/small/${number}`, numbered(small, number));
    }
  };
  await Promise.all(Array.from({ length: SMALL_AT_ONCE }, writer));
}

async function read(): Promise<void> {
  const file = await fs.open('/large', 'r');
  let bytes = 0;
  let isOver = false;
  process.stdin.resume().once('end', () => (isOver = true));
  const telling = setInterval(() => process.stdout.write(`${bytes}\n`), TELL_MS);
  const check = (buffer: Uint8Array, number: number): void => {
    const found = new DataView(buffer.buffer, buffer.byteOffset).getFloat64(0);
    if (found !== number) throw new Error(`number ${number} reads as ${found}`);
    bytes += buffer.length;
  };
  const step = coprimeNear(Math.floor(blockCount * 0.618), blockCount);
  let turn = 0;
  const large = async (): Promise<void> => {
    const buffer = new Uint8Array(BLOCK_BYTES);
    while (!isOver) {
      const number = (turn++ * step) % blockCount;
      await file.read(buffer, 0, BLOCK_BYTES, number * BLOCK_BYTES);
      check(buffer, number);
    }
  };
  const small = async (): Promise<void> => {
    for (let index = 0; !isOver; index++) {
      const number = (index * 7919) % smallCount;
      check(await fs.readFile(`/small/${number}`), number);
    }
  };
  await Promise.all([...Array.from({ length: LARGE_READERS }, large), small()]);
  clearInterval(telling);
  await file.close();
}
