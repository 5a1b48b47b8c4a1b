/** A cluster's status as text for people. */
import pc from 'picocolors';
import type { ClusterStatus, NodeStatus } from '../upkeep/status.ts';
import { sparesOf, votersInWords } from '../upkeep/voter-health.ts';
import { bytes, table } from './output.ts';

export function renderStatus(status: ClusterStatus): string {
  const colour = { healthy: pc.green, degraded: pc.yellow, unavailable: pc.red }[status.health];
  const lines = [
    `cluster ${status.clusterId.slice(0, 8)}, catalog ${status.epoch}: ${colour(status.health)}`,
    `voters ${sparesOf(status.voters) < 0 ? pc.red(votersInWords(status.voters)) : votersInWords(status.voters)}`,
    '',
    table(
      ['node', 'address', 'pid', 'state', 'used', 'capacity', 'blocks'],
      status.nodes.map((node) => [
        node.kind === 'witness' ? `${node.id} (witness)` : node.id,
        node.address,
        node.report?.pid ?? '-',
        node.state === 'up' ? pc.green('up') : pc.red('down'),
        ...dataCells(node),
      ]),
    ),
    '',
    table(
      ['group', 'epoch', 'primary', 'secondary', 'learners', 'seq', 'serving'],
      status.groups.map((group) => [
        group.id,
        group.epoch,
        group.primary,
        group.secondary ?? 'none',
        group.learners.join(' ') || '-',
        group.seq ?? '-',
        group.serving ? 'yes' : pc.red('no'),
      ]),
    ),
    '',
    table(
      ['pool', 'kind', 'copies', 'block size', 'placement groups'],
      status.pools.map((pool) => [pool.name, pool.kind, pool.copies, bytes(pool.blockSizeBytes), pool.pgCount]),
    ),
  ];
  if (status.mounts.length > 0) {
    lines.push(
      '',
      table(
        ['client', 'from'],
        status.mounts.map((mount) => [mount.label, mount.address]),
      ),
    );
  }
  if (status.findings.length > 0) lines.push('');
  for (const finding of status.findings) {
    const mark = finding.severity === 'note' ? pc.dim('note:') : pc.yellow(`${finding.severity}:`);
    lines.push(`${mark} ${finding.text}`, pc.dim(`  ${finding.remedy}`));
  }
  return lines.join('\n');
}

/** A witness has none of it. */
function dataCells({ kind, report }: NodeStatus): (string | number)[] {
  if (report === undefined || kind === 'witness') return ['-', '-', '-'];
  return [bytes(report.usedBytes), bytes(report.capacityBytes), report.blockCount];
}
