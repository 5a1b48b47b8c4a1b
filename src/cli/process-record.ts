/**
 * Which processes belong to a local cluster: one small file each. A pid alone may have been given to another program
 * since; together with the start time from /proc it names one process for ever.
 */
import { readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { newDirectory } from './new-directory.ts';

export interface ProcessRecord {
  readonly role: 'node' | 'mount' | 'supervisor';
  /** Node id, or the mount point. */
  readonly name: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks after boot. */
  readonly startTicks: string;
  readonly address?: string;
  readonly mountPoint?: string;
  /** The same without symbolic links. */
  readonly realMountPoint?: string;
  /** Mounts: how long it may take to write its last data. */
  readonly closeTimeoutMs?: number;
  readonly logFile?: string;
}

/** Start time of a live (not zombie) process, or undefined. */
export async function startTicksOf(pid: number): Promise<string | undefined> {
  const fields = await statOf(pid);
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/** Fields of /proc/PID/stat after the command's name; none if there is no such process. */
async function statOf(pid: number): Promise<string[]> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The command's name is in parentheses and may itself hold spaces and parentheses.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

/** Whether it was stopped (SIGSTOP): it then does nothing until it is let go on. */
export async function isStopped(record: ProcessRecord): Promise<boolean> {
  const [state] = await statOf(record.pid);
  return state === 'T' && (await isAlive(record));
}

export async function writeRecord(path: string, record: Omit<ProcessRecord, 'startTicks'>): Promise<void> {
  const startTicks = await startTicksOf(record.pid);
  if (startTicks === undefined) return;
  await newDirectory(dirname(path));
  await writeFile(`${path}.tmp`, `${JSON.stringify({ ...record, startTicks })}\n`);
  await rename(`${path}.tmp`, path);
}

/** Unless another process has its own there by now. */
export async function removeRecord(path: string, pid = process.pid): Promise<void> {
  if ((await readRecord(path))?.pid === pid) await rm(path, { force: true });
}

/** What a mount needs to end besides writing: unmounting by force, its session. */
export const MOUNT_END_MARGIN_MS = 25_000;

/** Names of the files of all records, of dead processes too; empty after everything was stopped in order. */
export async function recordFiles(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => [] as string[]);
  return names.filter((name) => name.endsWith('.json')).sort();
}

/** Mount points of all records, of dead processes too. */
export async function recordedMountPoints(directory: string): Promise<string[]> {
  const names = await recordFiles(directory);
  const records = await Promise.all(names.map((name) => readRecord(join(directory, name))));
  return records.flatMap((record) => record?.mountPoint ?? []);
}

/** Records of processes that live; files of dead ones are removed. */
export async function liveRecords(directory: string): Promise<ProcessRecord[]> {
  const records: ProcessRecord[] = [];
  for (const name of await recordFiles(directory)) {
    const path = join(directory, name);
    const record = await readRecord(path);
    if (record !== undefined && (await isAlive(record))) records.push(record);
    else await rm(path, { force: true });
  }
  return records;
}

export async function readRecord(path: string): Promise<ProcessRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(path, 'utf8')) as ProcessRecord;
    return Number.isInteger(record.pid) && record.pid > 1 ? record : undefined;
  } catch {
    return undefined;
  }
}

export async function isAlive(record: ProcessRecord): Promise<boolean> {
  return (await startTicksOf(record.pid)) === record.startTicks;
}

/** Waits until none is alive; false if some still are after `timeoutMs`. */
export async function waitGone(records: readonly ProcessRecord[], timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const alive = await Promise.all(records.map(isAlive));
    if (!alive.includes(true)) return true;
    if (performance.now() >= deadline) return false;
    await sleep(20);
  }
}

/**
 * Asks the processes to stop; ends by force those that have not after `graceMs`. Mounts that are still at work then are
 * given the time that they may take to write their last data; `waiting` is told.
 */
export async function stopProcesses(
  records: readonly ProcessRecord[],
  graceMs: number,
  waiting: (record: ProcessRecord) => void = () => undefined,
): Promise<void> {
  await signalAll(records, 'SIGTERM');
  if (await waitGone(records, graceMs)) return;
  await Promise.all(
    records.map(async (record) => {
      const { closeTimeoutMs } = record;
      if (closeTimeoutMs === undefined || !(await isAlive(record)) || (await isStopped(record))) return;
      waiting(record);
      await waitGone([record], closeTimeoutMs + MOUNT_END_MARGIN_MS);
    }),
  );
  await signalAll(records, 'SIGKILL');
  await waitGone(records, 2_000);
}

async function signalAll(records: readonly ProcessRecord[], signal: NodeJS.Signals): Promise<void> {
  for (const record of records) {
    if (!(await isAlive(record))) continue;
    try {
      process.kill(record.pid, signal);
    } catch {
      // It ended between the look and the signal.
    }
  }
}
