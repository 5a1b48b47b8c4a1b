/**
 * A reader of the boot-storm benchmark: opens /large, says `ready`, waits for a line, reads all of it and prints the
 * milliseconds.
 */
import { once } from 'node:events';
import { connect } from '../src/index.ts';
import { MiB } from '../src/limits.ts';

const [mode, addresses, keyFile, size] = process.argv.slice(2);
if (addresses === undefined || keyFile === undefined)
  throw new Error('usage: boot-storm-client MODE ADDRESSES KEY SIZE');
const fs = await connect({ connect: addresses.split(','), keyFile, label: 'bench', share: mode === 'share' });
const buffer = new Uint8Array(4 * MiB);
if (mode === 'write') {
  const { freshBytes } = await import('./measure.ts');
  const file = await fs.open('/large', 'w');
  for (let at = 0; at < Number(size); at += buffer.length) await file.write(freshBytes(), 0, buffer.length, at);
  await file.close();
} else {
  const file = await fs.open('/large', 'r');
  process.stdout.write('ready\n');
  await once(process.stdin, 'data');
  const started = performance.now();
  let at = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  if (at !== Number(size)) throw new Error(`the file has ${at} bytes instead of ${size}`);
  process.stdout.write(`${performance.now() - started}\n`);
  // Whoever is done first serves on until the last is.
  await once(process.stdin, 'data');
  await file.close();
}
process.stdin.destroy();
await fs.close();
