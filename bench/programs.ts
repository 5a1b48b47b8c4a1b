/** The processes of a cluster on this machine: processor time and resident memory, from /proc. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Program {
  /** `mount`, or the node's name. */
  readonly name: string;
  readonly role: 'mount' | 'node';
  readonly pid: number;
}

/** Of the kernel's clock, in which /proc counts processor time: 100 a second on every Linux that we know of. */
const TICK_MS = 10;

/** Mounts and nodes that `tatami up` has started over this data directory, mounts first. */
export function programs(data: string): readonly Program[] {
  const directory = join(data, 'run');
  return readdirSync(directory)
    .filter((name) => name.endsWith('.json'))
    .map((name): Program => {
      const record = JSON.parse(readFileSync(join(directory, name), 'utf8')) as { role: string; pid: number };
      const role = record.role === 'mount' ? 'mount' : 'node';
      return { name: role === 'mount' ? 'mount' : name.replace(/\.json$/, ''), role, pid: record.pid };
    })
    .sort((a, b) => a.role.localeCompare(b.role) || a.name.localeCompare(b.name));
}

export function cpuMs(running: readonly Program[]): { readonly mountMs: number; readonly nodesMs: number } {
  let [mountMs, nodesMs] = [0, 0];
  for (const { role, pid } of running) {
    // After the name, which may have spaces in it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    const ms = (Number(fields[11]) + Number(fields[12])) * TICK_MS;
    if (role === 'mount') mountMs += ms;
    else nodesMs += ms;
  }
  return { mountMs, nodesMs };
}

/** The most resident memory since {@link resetPeaks}. */
export function peakMiB(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

export function resetPeaks(running: readonly Program[]): void {
  for (const { pid } of running) writeFileSync(`/proc/${pid}/clear_refs`, '5');
}
