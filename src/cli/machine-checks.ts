/**
 * What this machine must have for tatamifs, each with its remedy. Used by `tatami doctor`; `npm start` checks the
 * same through scripts/ before anything is built.
 */
import { constants } from 'node:fs';
import { access, readFile, statfs } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { GiB, MiB } from '../limits.ts';

export interface MachineCheck {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'missing';
  readonly detail: string;
  /** Absent when ok. */
  readonly remedy?: string;
}

const NODE_LEAST = [20, 19] as const;
const OPEN_FILES_LEAST = 4_096;
/** Not a literal where it is imported: the package is optional and has no types. */
const FUSE_NATIVE: string = 'fuse-native';

export async function checkMachine(): Promise<MachineCheck[]> {
  const isRoot = process.getuid?.() === 0;
  const checks = await Promise.all([
    checkFuseDevice(isRoot),
    checkBinding(isRoot),
    checkOpenFiles(),
    checkSpace(),
    checkClock(),
  ]);
  return [checkNode(), ...checks.flat(), checkMemory()];
}

function checkNode(): MachineCheck {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const good = major > NODE_LEAST[0] || (major === NODE_LEAST[0] && minor >= NODE_LEAST[1]);
  const detail = `Node ${process.versions.node}`;
  if (good) return { name: 'node', state: 'ok', detail };
  return { name: 'node', state: 'missing', detail, remedy: `Install Node ${NODE_LEAST.join('.')} or newer.` };
}

async function checkFuseDevice(isRoot: boolean): Promise<MachineCheck> {
  const name = 'fuse device';
  try {
    await access('/dev/fuse', constants.R_OK | constants.W_OK);
    return { name, state: 'ok', detail: '/dev/fuse can be opened' };
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const remedy = missing
      ? 'Load the kernel module: `modprobe fuse`. In a container, start it with --device /dev/fuse.'
      : `Let this user open it: \`chmod 666 /dev/fuse\`${isRoot ? '' : ', or run as root'}.`;
    return { name, state: 'missing', detail: `/dev/fuse: ${(error as Error).message}`, remedy };
  }
}

async function checkBinding(isRoot: boolean): Promise<MachineCheck[]> {
  if (isRoot) {
    const found = await inPath('mount');
    const check: MachineCheck = found
      ? { name: 'binding', state: 'ok', detail: 'dev-fuse: tatamifs speaks to /dev/fuse itself, as this user is root' }
      : { name: 'binding', state: 'missing', detail: 'no mount(8)', remedy: 'apt-get install mount' };
    return [check];
  }
  const fusermount = await inPath('fusermount');
  const native = await loadsFuseNative();
  return [
    fusermount
      ? { name: 'fusermount', state: 'ok', detail: 'lets users mount' }
      : { name: 'fusermount', state: 'missing', detail: 'not found', remedy: 'apt-get install fuse' },
    native === undefined
      ? {
          name: 'binding',
          state: 'ok',
          detail: 'fuse-native, as this user is not root (limits: docs/no-root-mount.md)',
        }
      : {
          name: 'binding',
          state: 'missing',
          detail: `fuse-native does not load: ${native}`,
          remedy: 'apt-get install fuse, then npm install fuse-native; or mount as root.',
        },
  ];
}

async function inPath(program: string): Promise<boolean> {
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  for (const directory of directories) {
    const found = await access(`${directory}/${program}`, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}

/** The reason why it does not load, or undefined. */
async function loadsFuseNative(): Promise<string | undefined> {
  try {
    await import(FUSE_NATIVE);
    return undefined;
  } catch (error) {
    return (error as Error).message.split('\n')[0];
  }
}

async function checkOpenFiles(): Promise<MachineCheck> {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const soft = /Max open files\s+(\S+)/.exec(limits)?.[1] ?? 'unlimited';
  const count = soft === 'unlimited' ? Infinity : Number(soft);
  const detail = `${soft} open files`;
  if (count >= OPEN_FILES_LEAST) return { name: 'limits', state: 'ok', detail };
  return { name: 'limits', state: 'warning', detail, remedy: `Raise it: \`ulimit -n ${OPEN_FILES_LEAST}\` or more.` };
}

function checkMemory(): MachineCheck {
  const detail = `${(totalmem() / GiB).toFixed(1)} GiB`;
  // A mount takes up to 512 MiB, a node up to 300 MiB.
  if (totalmem() >= 2 * GiB) return { name: 'memory', state: 'ok', detail };
  return { name: 'memory', state: 'warning', detail, remedy: 'Three nodes and a mount want 2 GiB.' };
}

async function checkSpace(): Promise<MachineCheck> {
  const { bavail, bsize } = await statfs('.');
  const free = bavail * bsize;
  const detail = `${(free / GiB).toFixed(1)} GiB free in this directory`;
  if (free >= 512 * MiB) return { name: 'disk', state: 'ok', detail };
  return { name: 'disk', state: 'warning', detail, remedy: 'Keep the data on a larger disk with --data.' };
}

async function checkClock(): Promise<MachineCheck> {
  // Safety never depends on wall clocks, but time stamps and the replay window of discovery do.
  const sane = Date.now() > Date.UTC(2024, 0, 1);
  const synced = await access('/run/systemd/timesync/synchronized').then(
    () => true,
    () => false,
  );
  const detail = `${new Date().toISOString()}${synced ? ', synchronised' : ''}`;
  if (sane) return { name: 'clock', state: 'ok', detail };
  return { name: 'clock', state: 'warning', detail, remedy: 'Set the clock; discovery needs it right to 30 s.' };
}
