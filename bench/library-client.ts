/** The client of the library benchmark: writes or reads /large in a cluster and prints the milliseconds. */
import { connect } from '../src/index.ts';
import { MiB } from '../src/limits.ts';
import { freshBytes } from './measure.ts';

const [mode, data, size] = process.argv.slice(2);
if (data === undefined || size === undefined) throw new Error('usage: library-client write|read DATA BYTES');
const sizeBytes = Number(size);
const fs = await connect({ data, label: 'bench' });
const started = performance.now();
const file = await fs.open('/large', mode === 'write' ? 'w' : 'r');
const buffer = freshBytes(4 * MiB);
for (let at = 0; at < sizeBytes;) {
  if (mode === 'write') {
    new DataView(buffer.buffer).setFloat64(0, at);
    const { bytesWritten } = await file.write(buffer, 0, Math.min(buffer.length, sizeBytes - at), at);
    at += bytesWritten;
  } else {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw new Error(`the file ends at ${at}`);
    at += bytesRead;
  }
}
await file.close();
process.stdout.write(String(performance.now() - started));
await fs.close();
