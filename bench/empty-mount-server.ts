/**
 * Serves the in-memory filesystem of the yardstick until SIGTERM, or until whoever has started it is gone:
 * empty-mount-server DIRECTORY ZEROS_BYTES.
 */
import { tuneForLongRun } from '../src/cli/long-running.ts';
import { mountFuse } from '../src/fuse/mount.ts';
import { MemoryFs } from './memory-fs.ts';

const [directory, zeros] = process.argv.slice(2);
if (directory === undefined || zeros === undefined) throw new Error('usage: empty-mount-server DIRECTORY ZEROS_BYTES');
const stopped = new Promise<void>((resolve) => {
  process.once('SIGTERM', resolve);
  process.once('disconnect', resolve);
});
// Ctrl-C is for the benchmark, which then stops what it has started, in order.
process.on('SIGINT', () => {});
tuneForLongRun();
const fs = new MemoryFs();
fs.addZeros('zeros', Number(zeros));
const mounted = await mountFuse({
  ops: fs,
  mountPoint: directory,
  options: { fsName: 'empty', binding: 'dev-fuse' },
  log: (text) => process.stderr.write(`${text}\n`),
});
process.send?.('ready');
await Promise.race([stopped, mounted.closed]);
await mounted.unmount({ force: true });
if (process.connected) process.disconnect();
