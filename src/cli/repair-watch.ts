/** Waits, with a bar, until the nodes have made the copies that are to be made. */
import { setTimeout as sleep } from 'node:timers/promises';
import { repairProgress } from '../upkeep/repair-progress.ts';
import type { ClusterStatus } from '../upkeep/status.ts';
import { EXIT } from './exit-codes.ts';
import { listenForInterruption } from './interruption.ts';
import { bytes, note, progress, type Progress } from './output.ts';

const LOOK_INTERVAL_MS = 500;
/** Nodes that have just heard of a change have not begun yet: done is what is so twice, that far apart. */
const DONE_FOR_MS = 2_000;

export interface RepairWatch {
  /** Of the bar. */
  readonly title: string;
  /** Whether there is a bar. */
  readonly shown: boolean;
}

/**
 * Resolves with the last state seen: done, unless interrupted, or nothing is left but what is not done before balancing goes
 * on.
 */
export async function untilRepaired(
  read: () => Promise<ClusterStatus>,
  { title, shown }: RepairWatch,
): Promise<ClusterStatus> {
  const interruption = listenForInterruption();
  const { signal } = interruption;
  let bar: Progress | undefined;
  let totalBytes = 0;
  let doneSinceMs: number | undefined;
  try {
    for (;;) {
      const status = await read();
      const now = repairProgress(status);
      if (now.done || now.waitsForBalance) doneSinceMs ??= performance.now();
      else doneSinceMs = undefined;
      if (doneSinceMs !== undefined && performance.now() - doneSinceMs >= DONE_FOR_MS) return status;
      if (signal.aborted) {
        note('The nodes go on by themselves; `tatami repair` and `tatami balance` show how far they are.');
        process.exitCode = EXIT.interrupted;
        return status;
      }
      const leftBytes = now.leftBytes + (now.waitsForBalance ? 0 : now.postponedBytes);
      if (shown && leftBytes > 0) {
        // More is found while the nodes look through their blocks: the bar then begins anew with what is known.
        if (bar === undefined || leftBytes > totalBytes) {
          bar?.end();
          bar = progress(title, (totalBytes = leftBytes), bytes);
        }
        bar.update(totalBytes - leftBytes);
      }
      await sleep(LOOK_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    bar?.end();
    interruption.end();
  }
}
