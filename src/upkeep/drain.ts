/** How far the draining of a node is: from the status of the cluster. Pure. */
import type { ClusterStatus, NodeStatus } from './status.ts';

export interface DrainProgress {
  readonly node: string;
  /** Nothing depends on the node any more: no vote, no part in a group, and each of its blocks is where it belongs without it. */
  readonly drained: boolean;
  /** What it still waits for, in words; empty when drained. */
  readonly waitingFor: readonly string[];
  /** Blocks on the node that lack a copy elsewhere, as last looked at; undefined while that is not known. */
  readonly blocksLeft: number | undefined;
  readonly bytesLeft: number | undefined;
}

export function drainProgress(status: ClusterStatus, id: string): DrainProgress {
  const node = status.nodes.find((each) => each.id === id);
  const waitingFor = [...roles(status, id), ...(node === undefined ? [] : data(status, node))];
  const repair = node?.report?.repair;
  const known = repair !== undefined && (repair.missingCount > 0 || isSettled(status, node));
  return {
    node: id,
    drained: waitingFor.length === 0,
    waitingFor,
    blocksLeft: known ? repair.missingCount : undefined,
    bytesLeft: known ? repair.missingBytes : undefined,
  };
}

function roles(status: ClusterStatus, id: string): string[] {
  const words: string[] = [];
  for (const group of status.groups) {
    if (group.primary === id) words.push(`another primary of group ${group.id}`);
    if (group.secondary === id) words.push(`another secondary of group ${group.id}`);
  }
  if (status.voters.some((voter) => voter.id === id)) words.push('another voter in its place');
  return words;
}

/** A node that is down cannot say what it holds: then the others must have made all copies that they can. */
function data(status: ClusterStatus, node: NodeStatus): string[] {
  if (node.kind === 'witness') return [];
  const isMoved = node.report !== undefined && isSettled(status, node);
  if (status.balancePaused && !isMoved) return ['balancing, which is paused, to go on (`tatami balance --resume`)'];
  if (node.report !== undefined) {
    if (isMoved) return [];
    const { missingCount = 0 } = node.report.repair ?? {};
    return [missingCount === 0 ? 'its blocks to be looked through' : `copies of ${missingCount} of its blocks`];
  }
  const open = status.nodes.filter(
    (other) => other.id !== node.id && other.kind !== 'witness' && !isSettled(status, other),
  );
  return open.length === 0 ? [] : [`${open.map((other) => other.id).join(', ')} to make the copies that are missing`];
}

/** It has finished with the placement that the catalog has now. */
export function isSettled(status: Pick<ClusterStatus, 'pools'>, node: NodeStatus | undefined): boolean {
  const settled = node?.report?.repair?.settled ?? [];
  return status.pools.every((pool) =>
    settled.some((each) => each.pool === pool.id && each.epoch >= pool.placementEpoch),
  );
}

/** What the loss of the node means for how much is replicated, in words; empty if nothing. */
export function consequences(status: ClusterStatus, id: string): string[] {
  const left = status.nodes.filter(
    (node) => node.kind !== 'witness' && node.draining !== true && node.id !== id,
  ).length;
  const words = status.pools
    .filter((pool) => pool.copies > left)
    .map((pool) => `pool ${pool.name} wants ${pool.copies} copies of each block; ${left} nodes are left to hold them`);
  if (left === 2) words.push('with two nodes left one of them votes alone (add a witness), and either may serve alone');
  if (left === 1) words.push('with one node left nothing is replicated');
  return words;
}
