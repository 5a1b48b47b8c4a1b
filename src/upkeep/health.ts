/**
 * The cluster's health in words, each finding with what to do about it. Pure.
 */
import { NODE_FULL_FRACTION } from '../limits.ts';
import { scarcePools } from './repair-progress.ts';
import type { ScarcePool } from './repair-progress.ts';
import type { ClusterStatus, NodeStatus } from './status.ts';
import { sparesOf, voterTrouble } from './voter-health.ts';

export type Severity = 'unavailable' | 'degraded' | 'note';

export interface Finding {
  readonly severity: Severity;
  readonly text: string;
  readonly remedy: string;
}

type Facts = Omit<ClusterStatus, 'findings' | 'health' | 'ifFails'>;

const ORDER: readonly Severity[] = ['unavailable', 'degraded', 'note'];

/** Findings, worst first; none when all is well. */
export function assessHealth(facts: Facts): Finding[] {
  const findings = [
    ...deadNodes(facts),
    ...drainingNodes(facts),
    ...groupTrouble(facts),
    ...scarceBlocks(facts),
    ...dataTrouble(facts),
    ...spaceTrouble(facts),
    ...voterTrouble(facts.voters, dataNodesOf(facts).length),
  ];
  return findings.sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
}

function drainingNodes(facts: Facts): Finding[] {
  return facts.nodes
    .filter((node) => node.draining === true)
    .map(({ id, state, report }) => {
      const { missingCount = 0 } = report?.repair ?? {};
      const left = missingCount === 0 ? '' : `: ${missingCount} of its blocks lack a copy elsewhere`;
      const after = `When it is drained: \`tatami node remove ${id}\`; to take it back: \`tatami node drain ${id} --undo\`.`;
      return {
        severity: 'note',
        text: `Node ${id} is being drained${left}.`,
        remedy: state === 'up' ? `\`tatami node drain ${id}\` shows how far it is. ${after}` : after,
      };
    });
}

function deadNodes(facts: Facts): Finding[] {
  const down = facts.nodes.filter((node) => node.state === 'down');
  return down.map((node) => ({
    severity: 'degraded',
    text:
      node.kind === 'witness'
        ? `Witness ${node.id} (${node.address}) is down: ${node.reason ?? 'no answer'}.`
        : `Node ${node.id} (${node.address}) is down: ${node.reason ?? 'no answer'}. ${blocksOf(facts, node)}`,
    remedy:
      node.kind === 'witness'
        ? 'Start it again on its machine (`tatami witness` with its data directory).'
        : `Start it again on its machine (\`tatami up\` here, or \`tatami node\` with its data directory). If it is lost for ` +
          `good: \`tatami node replace ${node.id}\` on a machine, or \`tatami node remove ${node.id}\`.`,
  }));
}

function blocksOf({ repairAfterMs, pools, nodes }: Facts, { out, draining }: NodeStatus): string {
  if (out === true) return 'It was for so long that its blocks get their copies on other nodes.';
  const staying = nodes.filter((node) => node.kind !== 'witness' && node.draining !== true).length;
  const few = 'Blocks it holds have one copy less';
  if (draining === true || pools.every((pool) => pool.copies >= staying)) return `${few}.`;
  if (repairAfterMs === null)
    return `${few}, and get no other by themselves: \`tatami repair --after\` was set to never.`;
  return `${few}; if it stays down, they get it elsewhere after ${spanInWords(repairAfterMs)}.`;
}

function spanInWords(ms: number): string {
  return ms < 120_000 ? `${Math.round(ms / 1_000)} s` : `${Math.round(ms / 60_000)} min`;
}

function groupTrouble(facts: Facts): Finding[] {
  const findings: Finding[] = [];
  for (const group of facts.groups) {
    if (!group.serving) {
      findings.push({
        severity: 'unavailable',
        text: `Metadata group ${group.id} does not serve: ${group.detail}.`,
        remedy: `Files cannot be opened or changed until it does. ${wayOut(facts, group)}`,
      });
    } else if (group.secondary === null && dataNodesOf(facts).length > 1) {
      findings.push({
        severity: 'degraded',
        text: `Metadata group ${group.id} has no secondary: its metadata is on ${group.primary} alone.`,
        remedy: 'Start another node; it becomes the secondary by itself once it has caught up.',
      });
    }
  }
  return findings;
}

/** What brings a group back that does not serve. */
function wayOut(facts: Facts, { primary, secondary, lastActivated }: Facts['groups'][number]): string {
  const isUp = (id: string): boolean => facts.nodes.some((node) => node.id === id && node.state === 'up');
  if (sparesOf(facts.voters) < 0) return 'Bring back enough voters first: without them nobody can take over.';
  if (secondary !== null && isUp(secondary) && !isUp(primary)) return `Wait: ${secondary} takes over within seconds.`;
  if (isUp(primary)) return 'Wait a few seconds; if it stays so, bring back the nodes that are down.';
  return `Bring back ${lastActivated.members.join(' or ')}: no other node has all of the metadata.`;
}

/** A node that is down takes copies with it, and has a finding of its own; this is what is left to do when it is given up. */
function scarceBlocks(facts: Facts): Finding[] {
  return scarcePools(facts).map((pool) => ({
    severity: 'degraded',
    text: scarceInWords(pool),
    remedy:
      'Nothing: they are made by themselves, and `tatami repair` shows how far that is. Until then stop no other node.',
  }));
}

function scarceInWords({ name, wanted, count, unsure }: ScarcePool): string {
  const blocks = `blocks with fewer than ${wanted} copies`;
  const looking =
    unsure.length === 1
      ? `${unsure[0] ?? ''} is still looking through its own`
      : `${unsure.join(', ')} are still looking through theirs`;
  if (count === 0) return `Pool ${name} may have ${blocks}: ${looking}.`;
  const copies = count === 1 ? '1 copy is' : `${count} copies are`;
  return `Pool ${name} has ${blocks}: ${copies} still to be made${unsure.length === 0 ? '' : `, and ${looking}`}.`;
}

function dataTrouble(facts: Facts): Finding[] {
  const findings: Finding[] = [];
  const withData = dataNodesOf(facts).filter((node) => node.draining !== true);
  const alive = withData.filter((node) => node.state === 'up').length;
  for (const pool of facts.pools) {
    const wanted = Math.min(pool.copies, withData.length);
    if (alive < wanted && wanted > 1) {
      findings.push({
        severity: 'degraded',
        text: `Pool ${pool.name} keeps ${wanted} copies of each block, but only ${alive} nodes are up.`,
        remedy: 'New blocks get the missing copies when the nodes are back.',
      });
    }
    if (pool.copies === 1 && withData.length > 1) {
      findings.push({
        severity: 'note',
        text: `Pool ${pool.name} keeps one copy: the loss of any node loses data.`,
        remedy: 'Use two copies or more for data that matters.',
      });
    }
  }
  for (const node of facts.nodes) {
    const open = (node.report?.damage ?? []).filter((record) => !record.healed);
    const healed = (node.report?.damage ?? []).length - open.length;
    if (open.length > 0) {
      findings.push({
        severity: 'degraded',
        text: `Node ${node.id} holds ${open.length} damaged block copies (first: ${open[0]?.id.slice(0, 16)}…).`,
        remedy: '`tatami fsck` names the files; check the disk of that node.',
      });
    }
    if (healed > 0) {
      findings.push({
        severity: 'note',
        text: `Node ${node.id} found ${healed} damaged block copies and mended them from other nodes.`,
        remedy: '`tatami fsck` names the files. More of these mean a failing disk.',
      });
    }
    const { rebuiltCount = 0, isRebuilding = false, reason = null } = node.report?.scrub?.index ?? {};
    if (isRebuilding) {
      findings.push({
        severity: 'degraded',
        text: `The block index of node ${node.id} is damaged; it is being rebuilt from the packs.`,
        remedy: 'Nothing: until it is done, other nodes serve what this one cannot find.',
      });
    } else if (rebuiltCount > 0) {
      findings.push({
        severity: 'note',
        text: `The block index of node ${node.id} was damaged and has been rebuilt (${reason ?? 'reason not known'}).`,
        remedy: 'Nothing now. If it happens again, look at the disk of that node.',
      });
    }
    const owed = node.report?.handoffCount ?? 0;
    if (owed > 0) {
      findings.push({
        severity: 'note',
        text: `Node ${node.id} still has ${owed} further copies to hand on.`,
        remedy: 'Nothing: it does so by itself as soon as their nodes are up.',
      });
    }
  }
  return findings;
}

function spaceTrouble(facts: Facts): Finding[] {
  const findings: Finding[] = [];
  for (const node of dataNodesOf(facts)) {
    const { report } = node;
    if (report === undefined) continue;
    // None at all: its disk has no more than what it keeps back.
    if (report.capacityBytes > 0 && 1 - report.freeBytes / report.capacityBytes < NODE_FULL_FRACTION) continue;
    findings.push({
      severity: 'degraded',
      text: `Node ${node.id} is full: it takes no new blocks.`,
      remedy: 'Delete files and run `tatami gc`, or add a node or a larger disk.',
    });
  }
  return findings;
}

/** Those that hold data: a witness is none of those that pools and groups count on. */
function dataNodesOf(facts: Facts): NodeStatus[] {
  return facts.nodes.filter((node) => node.kind !== 'witness');
}
