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
}

/** Start time of a live (not zombie) process, or undefined. */
export async function startTicksOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The command's name is in parentheses and may itself hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export async function writeRecord(path: string, record: Omit<ProcessRecord, 'startTicks'>): Promise<void> {
  const startTicks = await startTicksOf(record.pid);
  if (startTicks === undefined) return;
  await newDirectory(dirname(path));
  await writeFile(`${path}.tmp`, `${JSON.stringify({ ...record, startTicks })}\n`);
  await rename(`${path}.tmp`, path);
}

/** Mount points of all records, of dead processes too. */
export async function recordedMountPoints(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => [] as string[]);
  const records = await Promise.all(
    names.filter((name) => name.endsWith('.json')).map((name) => readRecord(join(directory, name))),
  );
  return records.flatMap((record) => record?.mountPoint ?? []);
}

/** Records of processes that live; files of dead ones are removed. */
export async function liveRecords(directory: string): Promise<ProcessRecord[]> {
  const names = await readdir(directory).catch(() => [] as string[]);
  const records: ProcessRecord[] = [];
  for (const name of names.filter((file) => file.endsWith('.json')).sort()) {
    const path = join(directory, name);
    const record = await readRecord(path);
    if (record !== undefined && (await isAlive(record))) records.push(record);
    else await rm(path, { force: true });
  }
  return records;
}

async function readRecord(path: string): Promise<ProcessRecord | undefined> {
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

/** Asks the processes to stop; ends by force those that have not after `graceMs`. */
export async function stopProcesses(records: readonly ProcessRecord[], graceMs: number): Promise<void> {
  await signalAll(records, 'SIGTERM');
  if (await waitGone(records, graceMs)) return;
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
