/** Who keeps a mount busy, or alive: found in /proc, which shows a plain user only that user's own processes. */
import { readFile, readdir, readlink } from 'node:fs/promises';
import { parseMountInfo } from '../fuse/mount-table.ts';

/** Processes with a working directory or an open file below the mount point: what keeps it busy. */
export async function usersOf(path: string): Promise<string[]> {
  const users: string[] = [];
  // Neither this process nor the umount(8) that called it.
  const asking = new Set([process.pid, process.ppid].map(String));
  for (const pid of (await processIds()).filter((name) => !asking.has(name))) {
    const links = [`/proc/${pid}/cwd`, `/proc/${pid}/exe`];
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) links.push(`/proc/${pid}/fd/${fd}`);
    const targets = await Promise.all(links.map((link) => readlink(link).catch(() => '')));
    if (targets.some((target) => target === path || target.startsWith(`${path}/`))) users.push(await named(pid));
  }
  return users;
}

/**
 * One process of each mount namespace that has the filesystem of this device (`major:minor`) mounted. A container, or what
 * was started in a namespace of its own, keeps what was mounted then, though it is unmounted here.
 */
export async function namespacesWith(device: string): Promise<string[]> {
  const seen = new Set<string>();
  const found: string[] = [];
  for (const pid of await processIds()) {
    const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => undefined);
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    const table = await readFile(`/proc/${pid}/mountinfo`, 'latin1').catch(() => '');
    if (parseMountInfo(table).some((entry) => entry.device === device)) found.push(await named(pid));
  }
  return found;
}

async function processIds(): Promise<string[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
}

async function named(pid: string): Promise<string> {
  const name = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim();
  return `${name} (pid ${pid})`;
}
