/** What a step cost, and what limited it: from the looks at /proc before and after. */
import { cpus } from 'node:os';
import type { ProcessTimes, StepResult } from './types.ts';

/** Processor time of a part, in ms for each MiB or operation. */
export interface PartCost {
  readonly totalMs: number;
  /** Of that, in the kernel on its behalf: system calls, copies, its side of FUSE. */
  readonly systemMs: number;
}

export interface Cost {
  readonly mount: PartCost;
  readonly servers: PartCost;
  /** The program that reads and writes. */
  readonly worker: PartCost;
  /** What the kernel does for nobody in particular, and other programs on this machine. */
  readonly restMs: number;
  /** The same as a share of all processors, 0 to 1. */
  readonly rest: number;
  /** Of all processors together, 0 to 1. */
  readonly busy: number;
  readonly stolen: number;
  /** The thread that was busiest: of what, and which part of the time. */
  readonly busiest: { readonly part: 'mount' | 'server'; readonly share: number };
}

/** From here on a part of the machine, or one thread, counts as what limits. Looks are 10 ms apart at best. */
const FULL = 0.85;

export function costOf(result: StepResult, isMount: (commandLine: string) => boolean): Cost {
  const { before, after, units } = result;
  const wallMs = after.atMs - before.atMs;
  const earlier = new Map(before.processes.map((times) => [times.pid, times]));
  const parts = { mount: { totalMs: 0, systemMs: 0 }, server: { totalMs: 0, systemMs: 0 } };
  let busiest: Cost['busiest'] = { part: 'server', share: 0 };
  for (const times of after.processes) {
    const was = earlier.get(times.pid);
    const part = isMount(times.commandLine) ? 'mount' : 'server';
    const systemMs = times.systemMs - (was?.systemMs ?? 0);
    parts[part].totalMs += times.userMs - (was?.userMs ?? 0) + systemMs;
    parts[part].systemMs += systemMs;
    const share = busiestThreadMs(times, was) / wallMs;
    if (share > busiest.share) busiest = { part, share };
  }
  const busyMs = after.machine.busyMs - before.machine.busyMs;
  const stolenMs = after.machine.stolenMs - before.machine.stolenMs;
  const allMs = busyMs + stolenMs + after.machine.idleMs - before.machine.idleMs;
  const each = ({ totalMs, systemMs }: PartCost): PartCost => ({
    totalMs: totalMs / units,
    systemMs: systemMs / units,
  });
  const workerSystemMs = after.worker.systemMs - before.worker.systemMs;
  const worker = {
    totalMs: after.worker.userMs - before.worker.userMs + workerSystemMs,
    systemMs: workerSystemMs,
  };
  const restMs = Math.max(0, busyMs - parts.mount.totalMs - parts.server.totalMs - worker.totalMs);
  return {
    mount: each(parts.mount),
    servers: each(parts.server),
    worker: each(worker),
    restMs: restMs / units,
    rest: restMs / Math.max(1, allMs),
    busy: busyMs / Math.max(1, allMs),
    stolen: stolenMs / Math.max(1, allMs),
    busiest,
  };
}

function busiestThreadMs(times: ProcessTimes, was: ProcessTimes | undefined): number {
  const spent = Object.entries(times.threadMs).map(([thread, ms]) => ms - (was?.threadMs[thread] ?? 0));
  return Math.max(0, ...spent);
}

/** What was taken away is worth a word from here on: a step that shares the processors is slower than it need be. */
const MUCH = 0.25;

/** In a few words. */
export function limitOf(cost: Cost): string {
  const { busy, stolen, busiest, rest } = cost;
  if (busy + stolen >= FULL) {
    const processors = cpus().length === 1 ? 'the processor' : `all ${cpus().length} processors`;
    const away = rest + stolen;
    return away >= MUCH ? `${processors}, ${(away * 100).toFixed(0)}% of them at other work` : processors;
  }
  if (busiest.share >= FULL) return `one thread of ${busiest.part === 'mount' ? 'the mount' : 'a server'}`;
  return 'waiting: disk, or for each other';
}
