/** Serves the in-memory filesystem of the yardstick until SIGTERM: empty-mount-server DIRECTORY ZEROS_BYTES. */
import { tuneForLongRun } from '../src/cli/long-running.ts';
import { mountFuse } from '../src/fuse/mount.ts';
import { MemoryFs } from './memory-fs.ts';

const [directory, zeros] = process.argv.slice(2);
if (directory === undefined || zeros === undefined) throw new Error('usage: empty-mount-server DIRECTORY ZEROS_BYTES');
tuneForLongRun();
const fs = new MemoryFs();
fs.addZeros('zeros', Number(zeros));
const mounted = await mountFuse({
  ops: fs,
  mountPoint: directory,
  options: { fsName: 'empty', binding: 'dev-fuse' },
  log: (text) => process.stderr.write(`${text}\n`),
});
process.once('SIGTERM', () => void mounted.unmount({ force: true }));
process.send?.('ready');
await mounted.closed;
process.disconnect?.();
