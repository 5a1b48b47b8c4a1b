import { execFile } from 'node:child_process';
import { readFile, readdir, readlink } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { FsError, UsageError } from '../../errors.ts';
import { print } from '../output.ts';

const run = promisify(execFile);
const GONE_TIMEOUT_MS = 35_000;

/** Unmounts; the mount process writes what is dirty and ends by itself. */
export async function umount(directory: string, options: { force?: boolean }): Promise<void> {
  const path = resolve(directory);
  const pid = await mountedBy(path);
  if (pid === undefined) {
    throw new UsageError(`${path} is not a mount of tatamifs`, { remedy: 'See `grep tatamifs /proc/mounts`.' });
  }
  try {
    if (process.getuid?.() === 0) await run('umount', [path]);
    else await run('fusermount', ['-u', path]);
  } catch (error) {
    if (options.force !== true) {
      const users = await usersOf(path);
      const who = users.length > 0 ? ` by ${users.join(', ')}` : '';
      throw new FsError('EBUSY', `${path} is in use${who}`, {
        cause: error,
        remedy: 'End what uses it, or use --force: files open there get errors.',
      });
    }
    await run('umount', ['-l', path]);
  }
  const deadline = performance.now() + GONE_TIMEOUT_MS;
  while ((await mountedBy(path)) !== undefined && performance.now() < deadline) await sleep(20);
  print(`unmounted ${path}`);
}

async function mountedBy(path: string): Promise<string | undefined> {
  const lines = (await readFile('/proc/self/mounts', 'utf8')).split('\n');
  const escaped = path.replace(/[ \t\n\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return lines.find((line) => line.split(' ')[1] === escaped && /fuse/.test(line.split(' ')[2] ?? ''));
}

/** Processes with a working directory or an open file below the mount point: what keeps it busy. */
async function usersOf(path: string): Promise<string[]> {
  const users: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const links = [`/proc/${pid}/cwd`, `/proc/${pid}/exe`];
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) links.push(`/proc/${pid}/fd/${fd}`);
    const targets = await Promise.all(links.map((link) => readlink(link).catch(() => '')));
    if (!targets.some((target) => target === path || target.startsWith(`${path}/`))) continue;
    const name = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim();
    users.push(`${name} (pid ${pid})`);
  }
  return users;
}
