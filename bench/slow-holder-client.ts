/** The client of the slow-holder benchmark: writes /large, or reads its blocks in random order and prints what each took. */
import { connect } from '../src/index.ts';
import { MiB } from '../src/limits.ts';
import { coprimeNear, freshBytes } from './measure.ts';

const BLOCK_BYTES = 4 * MiB;
/** So many at once, as a program with some threads reads; all cores busy would measure the cores. */
const AT_ONCE = 2;
/** Not counted: programs are being compiled, connections made. */
const WARM_UP = 60;

const [mode, data, size, reads] = process.argv.slice(2);
if (data === undefined || size === undefined) throw new Error('usage: slow-holder-client write|read DATA BYTES READS');
const blockCount = Math.floor(Number(size) / BLOCK_BYTES);
const fs = await connect({ data, label: 'bench', localReads: false });
const latencies: number[] = [];
const file = await fs.open('/large', mode === 'write' ? 'w' : 'r');
if (mode === 'write') {
  const buffer = freshBytes(BLOCK_BYTES);
  for (let block = 0; block < blockCount; block++) {
    new DataView(buffer.buffer).setFloat64(0, block);
    await file.write(buffer, 0, BLOCK_BYTES, block * BLOCK_BYTES);
  }
} else {
  // A full period over the blocks, in no order: each comes again when the cache has long forgotten it.
  const step = coprimeNear(Math.floor(blockCount * 0.618), blockCount);
  let next = 0;
  const reader = async (): Promise<void> => {
    const buffer = new Uint8Array(BLOCK_BYTES);
    while (next < Number(reads) + WARM_UP) {
      const turn = next++;
      // Connected to all holders, which have all given something: now one of them may stop.
      if (turn === WARM_UP) process.stdout.write('ready\n');
      const started = performance.now();
      await file.read(buffer, 0, BLOCK_BYTES, ((turn * step) % blockCount) * BLOCK_BYTES);
      if (turn >= WARM_UP) latencies.push(performance.now() - started);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, reader));
}
await file.close();
process.stdout.write(JSON.stringify(latencies));
await fs.close();
