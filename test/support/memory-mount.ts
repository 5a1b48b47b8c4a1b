/**
 * Mounts a MemoryFs in a process of its own, for tests and benchmarks that must not touch a mount of their own
 * process: `node --import ... memory-mount.ts MOUNTPOINT [binding]`. Prints `ready` when it is mounted; SIGTERM unmounts.
 * SIGWINCH changes `zeros` and removes `stuck` behind the kernel's back, then notifies it.
 * Special files: `zeros` (4 GiB), `slow` (reads wait for an interrupt), `stuck` (reads wait for ever).
 */
import { FsError } from '../../src/errors.ts';
import { ROOT_INO, type Ino } from '../../src/ids.ts';
import { mountFuse, type FuseMountOptions } from '../../src/fuse/mount.ts';
import type { Caller } from '../../src/vfs/ops.ts';
import { MemoryFs } from '../../bench/memory-fs.ts';

const say = (text: string): void => void process.stdout.write(`${text}\n`);

const [mountPoint, binding = 'dev-fuse', timeoutMs = '1000', outstandingReads = '0'] = process.argv.slice(2);
if (mountPoint === undefined)
  throw new Error('usage: memory-mount.ts MOUNTPOINT [BINDING] [TIMEOUT_MS] [OUTSTANDING_READS]');

const slow = new Set<Ino>();
const stuck = new Set<Ino>();
const fs = new MemoryFs({
  timeoutMs: Number(timeoutMs),
  beforeRead(caller: Caller, ino: Ino) {
    if (stuck.has(ino)) return new Promise<void>(() => undefined);
    if (!slow.has(ino)) return undefined;
    return new Promise<void>((_, reject) =>
      caller.signal?.addEventListener('abort', () => reject(new FsError('EINTR'))),
    );
  },
});
const zeros = fs.addZeros('zeros', 4 * 1024 ** 3);
slow.add(fs.addZeros('slow', 1024 ** 2));
stuck.add(fs.addZeros('stuck', 1024 ** 2));

try {
  const mount = await mountFuse({
    ops: fs,
    mountPoint,
    options: {
      binding: binding as NonNullable<FuseMountOptions['binding']>,
      fsName: 'memory',
      outstandingReads: Number(outstandingReads),
    },
    log: say,
  });
  process.on('SIGTERM', () => void mount.unmount({ force: true }));
  process.on('SIGUSR2', () => {
    mount.unmount().then(
      () => say('unmounted'),
      (error: unknown) => say(`refused ${(error as FsError).code}`),
    );
  });
  process.on('SIGWINCH', () => {
    const self = { uid: 0, gid: 0, pid: 0 };
    fs.setattr(self, zeros, { mode: 0o600 });
    fs.unlink(self, ROOT_INO, Buffer.from('stuck'));
    mount.notifier.invalidateEntry(ROOT_INO, Buffer.from('stuck'));
    mount.notifier.invalidateEntry(ROOT_INO, Buffer.from('never seen'));
    // What the kernel does not know is no error.
    const dropped = [zeros, 4711 as Ino].map((ino) => mount.notifier.invalidateInode(ino));
    void Promise.all(dropped).then(() => say('notified'));
  });
  process.on('SIGHUP', () => process.exit(3));
  process.on('SIGUSR1', () => {
    say(JSON.stringify(fs.counts));
  });
  say('ready');
  const end = await mount.closed;
  say(`closed ${end.reason}`);
} catch (error) {
  const { code, message, remedy } = error as FsError;
  say(`failed ${code} ${message} | ${remedy ?? ''}`);
  process.exitCode = 1;
}
