/** How far repair is in the whole cluster: from its status. Pure. */
import { isSettled } from './drain.ts';
import type { ClusterStatus, NodeStatus } from './status.ts';

export interface RepairProgress {
  /** Every node that is up has made all the copies that it sees to. */
  readonly done: boolean;
  /** Nodes that are up and have not. */
  readonly working: readonly string[];
  /** Found and still to be copied. While nodes look through their blocks, more may be found. */
  readonly leftBytes: number;
  /** Found, and put off: the blocks have copies enough, and only not where they belong. */
  readonly postponedBytes: number;
  /** Nothing is left to do until an operator lets balancing go on (`tatami balance --resume`). */
  readonly waitsForBalance: boolean;
  /** Of all that is being copied now, together. */
  readonly bytesPerSecond: number;
  /** Undefined while nothing is copied. */
  readonly secondsLeft: number | undefined;
  /** Copies made since the nodes were started. */
  readonly copiedCount: number;
  readonly copiedBytes: number;
}

export function repairProgress(
  status: Pick<ClusterStatus, 'nodes' | 'pools'> & { readonly balancePaused?: boolean },
): RepairProgress {
  const reports = status.nodes.flatMap(({ report }) => report?.repair ?? []);
  const sum = (pick: (report: (typeof reports)[number]) => number | undefined): number =>
    reports.reduce((total, report) => total + (pick(report) ?? 0), 0);
  const working = status.nodes.filter((node) => isAtWork(status, node)).map(({ id }) => id);
  const leftBytes = sum((report) => report.leftBytes ?? report.missingBytes);
  const bytesPerSecond = sum((report) => report.bytesPerSecond);
  const isBusy = reports.some((report) => report.scannedCount !== undefined || report.missingCount > 0);
  const postponedBytes = sum((report) => report.postponedBytes);
  return {
    done: working.length === 0,
    working,
    leftBytes,
    postponedBytes,
    waitsForBalance: status.balancePaused === true && postponedBytes > 0 && !isBusy,
    bytesPerSecond,
    secondsLeft: bytesPerSecond > 0 ? Math.ceil(leftBytes / bytesPerSecond) : undefined,
    copiedCount: sum((report) => report.copiedCount),
    copiedBytes: sum((report) => report.copiedBytes),
  };
}

function isAtWork(status: Pick<ClusterStatus, 'pools'>, node: NodeStatus): boolean {
  const repair = node.report?.repair;
  if (repair === undefined) return false;
  return repair.scannedCount !== undefined || repair.missingCount > 0 || !isSettled(status, node);
}
