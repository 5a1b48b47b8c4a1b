/** How far repair is in the whole cluster: from its status. Pure. */
import { wantedCopies } from '../catalog/placement.ts';
import type { Pool } from '../catalog/types.ts';
import { isSettled } from './drain.ts';
import type { ClusterStatus, NodeStatus } from './status.ts';

export interface RepairProgress {
  /** Every node that is up has made all the copies that it sees to. */
  readonly done: boolean;
  /** Nodes that are up and have not. */
  readonly working: readonly string[];
  /** Found and still to be copied. While nodes look through their blocks, more may be found. */
  readonly leftBytes: number;
  /** Of these, copies of blocks that have fewer than their pool wants; the others are only not where they belong. */
  readonly scarceCount: number;
  readonly scarceBytes: number;
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
  const scarce = scarcePools(status);
  return {
    done: working.length === 0,
    working,
    leftBytes,
    scarceCount: scarce.reduce((total, { count }) => total + count, 0),
    scarceBytes: scarce.reduce((total, { bytes }) => total + bytes, 0),
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

/** A pool with blocks that have fewer copies than it wants, or may have. */
export interface ScarcePool {
  readonly name: string;
  /** Copies that each of its blocks should have. */
  readonly wanted: number;
  /** Copies that are known to lack, and what they add up to. */
  readonly count: number;
  readonly bytes: number;
  /** Nodes that have to look through their blocks first: there may be more. */
  readonly unsure: readonly string[];
}

/** Of what the nodes that are up see to. Those of earlier versions do not tell. */
export function scarcePools(status: Pick<ClusterStatus, 'nodes' | 'pools'>): ScarcePool[] {
  return status.pools.flatMap((pool) => {
    const wanted = wantedCopies(status, pool);
    const told = status.nodes.flatMap((node) => scarceAt(node, pool));
    const unsure = wanted <= 1 ? [] : told.filter((one) => one.unsure).map(({ id }) => id);
    const count = told.reduce((sum, one) => sum + one.count, 0);
    const bytes = told.reduce((sum, one) => sum + one.bytes, 0);
    return count > 0 || unsure.length > 0 ? [{ name: pool.name, wanted, count, bytes, unsure }] : [];
  });
}

function scarceAt({ id, kind, report }: NodeStatus, pool: Pool) {
  const scarce = report?.repair?.scarce;
  if (kind === 'witness' || report === undefined || scarce === undefined) return [];
  const { count = 0, bytes = 0, unsure = false } = scarce.find((each) => each.pool === pool.id) ?? {};
  // One that has not heard of the placement yet cannot have looked.
  return [{ id, count, bytes, unsure: unsure || report.catalogEpoch < pool.placementEpoch }];
}
