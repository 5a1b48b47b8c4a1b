/** What the kernel counts, read from /proc: processor time by process and thread, the machine's, and the disk's writes. */
import { readFileSync, readdirSync } from 'node:fs';
import type { MachineTimes, ProcessTimes, Snapshot } from './types.ts';

/** USER_HZ: the unit of times in /proc, the same on every Linux that Node runs on. */
const MS_PER_TICK = 10;
const SECTOR_BYTES = 512;

export interface ProcessStat {
  readonly state: string;
  readonly parent: number;
  readonly userMs: number;
  readonly systemMs: number;
}

/** A line of /proc/PID/stat (or of a thread's). The command's name is in parentheses and may hold spaces and parentheses. */
export function parseProcessStat(line: string): ProcessStat {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return {
    state: fields[0] ?? '',
    parent: Number(fields[1]),
    userMs: Number(fields[11]) * MS_PER_TICK,
    systemMs: Number(fields[12]) * MS_PER_TICK,
  };
}

/** The first line of /proc/stat. Guests' time is part of `user` and `nice` already. */
export function parseMachineStat(text: string): MachineTimes {
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = (
    text.split('\n')[0] ?? ''
  )
    .split(/ +/)
    .slice(1)
    .map((field) => Number(field) * MS_PER_TICK);
  return { busyMs: user + nice + system + irq + softirq, idleMs: idle + iowait, stolenMs: steal };
}

/** Bytes written to a device, from /proc/diskstats; `device` is a file's `dev` as stat gives it. */
export function parseWrittenBytes(diskstats: string, device: number): number | undefined {
  // Numbered as glibc does: 12 bits of major above 8 of minor, whose upper bits come after.
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  for (const line of diskstats.split('\n')) {
    const fields = line.trim().split(/ +/);
    if (Number(fields[0]) === major && Number(fields[1]) === minor) return Number(fields[9]) * SECTOR_BYTES;
  }
  return undefined;
}

/** All processes of this program's process namespace but itself and the first; the kernel's have no command line. */
export function snapshot(device: number): Snapshot {
  const processes: ProcessTimes[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === 1 || pid === process.pid) continue;
    const times = processTimes(pid);
    if (times !== undefined && times.commandLine !== '') processes.push(times);
  }
  const { user, system } = process.cpuUsage();
  return {
    atMs: performance.now(),
    processes,
    worker: { userMs: user / 1000, systemMs: system / 1000 },
    machine: parseMachineStat(readFileSync('/proc/stat', 'utf8')),
    writtenBytes: parseWrittenBytes(readFileSync('/proc/diskstats', 'utf8'), device),
  };
}

function processTimes(pid: number): ProcessTimes | undefined {
  const folder = `/proc/${pid}`;
  try {
    const { userMs, systemMs } = parseProcessStat(readFileSync(`${folder}/stat`, 'utf8'));
    const threadMs: Record<string, number> = {};
    for (const thread of readdirSync(`${folder}/task`)) {
      const times = parseProcessStat(readFileSync(`${folder}/task/${thread}/stat`, 'utf8'));
      threadMs[thread] = times.userMs + times.systemMs;
    }
    const commandLine = readFileSync(`${folder}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    return { pid, commandLine, userMs, systemMs, threadMs };
  } catch {
    // It ended while we looked.
    return undefined;
  }
}
