/**
 * A thread that looks at the memory of processes while its maker waits for something else: keeps the largest number of KiB
 * that each had for itself, without the files that it maps (those are the system's page cache), in shared memory.
 */
import { readFileSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

const SAMPLE_MS = 200;

export interface SamplerTask {
  readonly pids: readonly number[];
  /** KiB by index of `pids`. */
  readonly peaksKiB: Int32Array;
}

const { pids, peaksKiB } = workerData as SamplerTask;

function sample(): void {
  pids.forEach((pid, index) => {
    let status;
    try {
      status = readFileSync(`/proc/${pid}/status`, 'utf8');
    } catch {
      return;
    }
    const own = Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    if (own > Atomics.load(peaksKiB, index)) Atomics.store(peaksKiB, index, own);
  });
}

setInterval(sample, SAMPLE_MS);
