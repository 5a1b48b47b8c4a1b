/** A cluster's status as text for people. */
import pc from 'picocolors';
import type { ScrubReport } from '../blocks/scrubber.ts';
import type { Finding } from '../upkeep/health.ts';
import { outlookInWords } from '../upkeep/outlook.ts';
import { repairProgress } from '../upkeep/repair-progress.ts';
import type { RepairProgress } from '../upkeep/repair-progress.ts';
import type { Outlook } from '../upkeep/outlook.ts';
import type { ClusterStatus, GroupSummary, NodeStatus } from '../upkeep/status.ts';
import { sparesOf, votersInWords } from '../upkeep/voter-health.ts';
import { isThisProcess, parseClientLabel } from './client-label.ts';
import { shownName } from './file-names.ts';
import { bytes, localTime, rate, table } from './output.ts';
import { ago, duration } from './times.ts';

/** The parts of the picture. */
export interface StatusParts {
  readonly health: string;
  readonly nodes: string;
  readonly groups: string;
  readonly pools: string;
  /** Empty while there is nothing to repair. */
  readonly repair: string;
  /** Empty before the first. */
  readonly collection: string;
  /** Empty if nobody is connected. */
  readonly clients: string;
  /** Empty when all is well. */
  readonly findings: string;
  /** What a further failure would cost. */
  readonly outlook: string;
}

export function renderStatus(status: ClusterStatus): string {
  const { health, nodes, groups, pools, repair, collection, clients, findings, outlook } = statusParts(status);
  return [health, nodes, groups, pools, repair, collection, clients, findings, outlook]
    .filter((part) => part !== '')
    .join('\n\n');
}

export function statusParts(status: ClusterStatus): StatusParts {
  const colour = { healthy: pc.green, degraded: pc.yellow, unavailable: pc.red }[status.health];
  const voters = votersInWords(status.voters);
  return {
    health: [
      `cluster ${status.clusterId.slice(0, 8)}, catalog ${status.epoch}: ${colour(status.health)}`,
      `voters ${sparesOf(status.voters) < 0 ? pc.red(voters) : voters}`,
    ].join('\n'),
    nodes: table(
      ['node', 'address', 'pid', 'state', 'used', 'capacity', 'blocks', 'scrubbed'],
      status.nodes.map((node) => [
        node.kind === 'witness' ? `${node.id} (witness)` : node.id,
        node.address,
        node.report?.pid ?? '-',
        nodeState(node),
        ...dataCells(node),
      ]),
    ),
    groups: `${table(
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
    )}\n${status.groups.map((group) => groupInWords(group, new Date())).join('\n')}`,
    pools: table(
      ['pool', 'kind', 'copies', 'block size', 'placement groups'],
      status.pools.map((pool) => [pool.name, pool.kind, pool.copies, bytes(pool.blockSizeBytes), pool.pgCount]),
    ),
    repair: repairInWords(repairProgress(status)) || pauseInWords(status),
    collection: collectionInWords(status, new Date()),
    clients: clientTable(status.mounts),
    findings: status.findings.map(renderFinding).join('\n'),
    outlook: status.ifFails.map(renderOutlook).join('\n'),
  };
}

function nodeState({ state, draining, out }: NodeStatus): string {
  if (state === 'down') return pc.red(out === true ? 'down, out' : 'down');
  if (draining === true) return pc.yellow('draining');
  return out === true ? pc.yellow('coming back') : pc.green('up');
}

/** So that nobody forgets it, also while there is nothing to move. Empty if it is not. */
function pauseInWords({ balancePaused }: ClusterStatus): string {
  return balancePaused ? 'balancing is paused (`tatami balance --resume`)' : '';
}

/** Empty when there is nothing to do. */
export function repairInWords(now: RepairProgress): string {
  const { done, working, leftBytes, bytesPerSecond, secondsLeft, postponedBytes, waitsForBalance } = now;
  if (done) return '';
  if (waitsForBalance) {
    return `balancing is paused: ${bytes(postponedBytes)} wait to be moved to where they belong (\`tatami balance --resume\`)`;
  }
  if (leftBytes === 0 && postponedBytes > 0)
    return `repair: ${bytes(postponedBytes)} are to be moved to where they belong; that begins in some seconds`;
  if (leftBytes === 0) return `repair: ${working.join(', ')} look whether their blocks have all their copies`;
  const pace =
    secondsLeft === undefined ? '' : `, ${rate(bytesPerSecond, 1_000)}, about ${duration(secondsLeft * 1_000)} left`;
  const found = `${bytes(leftBytes)} found and still to be copied${scarceInWords(now)}`;
  return `repair: ${working.join(', ')} make copies: ${found}${pace}`;
}

/** Empty if all that is to be copied has copies enough, or nobody tells. */
function scarceInWords({ leftBytes, scarceBytes }: RepairProgress): string {
  if (scarceBytes === 0) return '';
  const part = scarceBytes >= leftBytes ? 'all of it' : `${bytes(scarceBytes)} of that`;
  return `, ${part} for blocks with too few copies`;
}

/** The last collection, whoever did it. */
export function collectionInWords({ nodes }: Pick<ClusterStatus, 'nodes'>, now: Date): string {
  const done = nodes.flatMap(({ report }) => report?.collection ?? []).sort((a, b) => b.atMs - a.atMs);
  const [last] = done;
  if (last === undefined) return '';
  const { reclaimedCount, reclaimedBytes, skippedNodes } = last;
  const freed =
    reclaimedCount === 0 ? 'nothing was unused' : `${reclaimedCount} unused copies freed, ${bytes(reclaimedBytes)}`;
  const skipped = skippedNodes.length === 0 ? '' : `; not swept: ${skippedNodes.join(', ')}`;
  return `garbage collection: ${whenInWords(last.atMs, now)}: ${freed}${skipped}`;
}

/** Who serves it, and since when. */
export function groupInWords({ id, primary, secondary, serving, since }: GroupSummary, now: Date): string {
  const from = (atMs: number | undefined): string => (atMs === undefined ? '' : ` since ${whenInWords(atMs, now)}`);
  const first = `group ${id}: ${primary} is primary${from(since?.primaryMs)}${serving ? '' : ', and does not serve'}`;
  if (secondary === null) return `${first}; no secondary${from(since?.secondaryMs)}`;
  return `${first}, ${secondary} secondary${from(since?.secondaryMs)}`;
}

function whenInWords(atMs: number, now: Date): string {
  return `${localTime(new Date(atMs))} (${ago(atMs, now.getTime())})`;
}

function renderOutlook(outlook: Outlook): string {
  const text = outlookInWords(outlook);
  const line = outlook.impact === 'outage' ? pc.yellow(text) : text;
  return outlook.remedy === undefined ? line : `${line}\n${pc.dim(`  ${outlook.remedy}`)}`;
}

function clientTable(mounts: ClusterStatus['mounts']): string {
  const clients = mounts
    .map(({ label, address }) => ({ ...parseClientLabel(label), address }))
    .filter((client) => !isThisProcess(client));
  if (clients.length === 0) return '';
  return table(
    ['client', 'host', 'pid', 'from'],
    clients.map(({ label, host, pid, address }) => [shownName(label), host ?? '-', pid ?? '-', address]),
  );
}

function renderFinding({ severity, text, remedy }: Finding): string {
  const mark = severity === 'note' ? pc.dim('note:') : pc.yellow(`${severity}:`);
  return `${mark} ${text}\n${pc.dim(`  ${remedy}`)}`;
}

/** A witness has none of it. */
function dataCells({ kind, report }: NodeStatus): (string | number)[] {
  if (report === undefined || kind === 'witness') return ['-', '-', '-', '-'];
  return [bytes(report.usedBytes), bytes(report.capacityBytes), report.blockCount, scrubCell(report.scrub)];
}

/** When everything was last checked, and how far a scrub is that runs. */
function scrubCell(scrub: ScrubReport | undefined): string {
  if (scrub === undefined) return '-';
  const { running, lastFull, settings } = scrub;
  const part = running === null ? 0 : Math.floor((running.doneBytes * 100) / Math.max(1, running.totalBytes));
  const now = running === null ? '' : `, at ${Math.min(100, part)}%`;
  if (lastFull === null) return running === null && settings.periodMs === 0 ? 'never, off' : `never${now}`;
  return `${ago(lastFull.finishedAtMs)}${now}`;
}
