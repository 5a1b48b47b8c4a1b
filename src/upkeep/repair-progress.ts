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
  /** Of all that is being copied now, together. */
  readonly bytesPerSecond: number;
  /** Undefined while nothing is copied. */
  readonly secondsLeft: number | undefined;
  /** Copies made since the nodes were started. */
  readonly copiedCount: number;
  readonly copiedBytes: number;
}

export function repairProgress(status: Pick<ClusterStatus, 'nodes' | 'pools'>): RepairProgress {
  const reports = status.nodes.flatMap(({ report }) => report?.repair ?? []);
  const sum = (pick: (report: (typeof reports)[number]) => number | undefined): number =>
    reports.reduce((total, report) => total + (pick(report) ?? 0), 0);
  const working = status.nodes.filter((node) => isAtWork(status, node)).map(({ id }) => id);
  const leftBytes = sum((report) => report.leftBytes ?? report.missingBytes);
  const bytesPerSecond = sum((report) => report.bytesPerSecond);
  return {
    done: working.length === 0,
    working,
    leftBytes,
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
