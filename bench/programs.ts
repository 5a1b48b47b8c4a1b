/** The processes of a cluster on this machine: processor time and memory, from /proc. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { SamplerTask } from './memory-sampler.ts';

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

/** The most memory that programs had for themselves: without the files that they map, which the system takes back as it likes. */
export class MemoryPeaks {
  readonly #pids: readonly number[];
  readonly #peaksKiB: Int32Array;
  readonly #worker: Worker;

  constructor(running: readonly Program[]) {
    this.#pids = running.map(({ pid }) => pid);
    this.#peaksKiB = new Int32Array(new SharedArrayBuffer(4 * this.#pids.length));
    const task: SamplerTask = { pids: this.#pids, peaksKiB: this.#peaksKiB };
    this.#worker = new Worker(new URL('./memory-sampler.js', import.meta.url), { workerData: task });
  }

  reset(): void {
    this.#peaksKiB.fill(0);
  }

  /** Since the last reset. */
  mostMiB(pid: number): number {
    return Atomics.load(this.#peaksKiB, this.#pids.indexOf(pid)) / 1024;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
