/**
 * What `tatami status` shows: every node is asked for its own state, and the answers are put beside the catalog.
 */
import type { ScrubReport } from '../blocks/scrubber.ts';
import { REPAIR_AFTER_MS } from '../catalog/absence.ts';
import type { Catalog, CatalogNode, CatalogService, Group, Pool } from '../catalog/types.ts';
import type { Clock } from '../env.ts';
import { TatamiError } from '../errors.ts';
import type { GroupStatus } from '../meta/types.ts';
import type { Network } from '../net/types.ts';
import { askNodes } from './ask-nodes.ts';
import type { Answer } from './ask-nodes.ts';
import { assessHealth } from './health.ts';
import { rawSpace } from './raw-space.ts';
import type { RepairReport } from './repair.ts';
import type { CollectorReport } from './collector.ts';
import type { Finding } from './health.ts';
import { outlookOf } from './outlook.ts';
import type { Outlook } from './outlook.ts';

/** A copy that was found not to match its hash, and what became of it. */
export interface DamageRecord {
  readonly pool: number;
  /** Hexadecimal block id. */
  readonly id: string;
  /** Milliseconds since the Unix epoch. */
  readonly foundAtMs: number;
  /** A program that read the block, or the scrub. Absent in reports of earlier versions. */
  readonly foundBy?: 'read' | 'scrub';
  readonly healed: boolean;
  readonly healedAtMs?: number;
}

/** Reply of the RPC `node.status`. */
export interface NodeReport {
  readonly id: string;
  readonly storeId: string;
  readonly pid: number;
  readonly version: string;
  readonly uptimeMs: number;
  readonly catalogEpoch: number;
  /** Whether it votes on the catalog when asked to, else why not (R11). */
  readonly vote: { readonly fit: boolean; readonly reason: string };
  readonly usedBytes: number;
  readonly fileBytes: number;
  readonly freeBytes: number;
  readonly capacityBytes: number;
  /** Equal on nodes that share a disk. */
  readonly diskId: string;
  readonly blockCount: number;
  readonly damage: readonly DamageRecord[];
  /** Absent in reports of witnesses and of earlier versions. */
  readonly scrub?: ScrubReport;
  /** The last garbage collection that this node did. Absent: none, or in reports of earlier versions. */
  readonly collection?: CollectorReport;
  /** Asynchronous copies still owed to other nodes. */
  readonly handoffCount: number;
  /** Of file data, since the node's start. */
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly residentBytes: number;
  /** How long its event loop stood still at most in the last ten minutes. */
  readonly longestPauseMs?: number;
  readonly groups: readonly GroupStatus[];
  readonly mounts: readonly MountReport[];
  /** Absent on witnesses. */
  readonly repair?: RepairReport;
}

export interface MountReport {
  readonly instanceId: string;
  readonly address: string;
  readonly label: string;
}

export type NodeState = 'up' | 'down';

export interface NodeStatus extends CatalogNode {
  readonly state: NodeState;
  /** Why it is down, in words. */
  readonly reason?: string;
  readonly report?: NodeReport;
}

/** `lost`: up, but without its votes (R11). */
export type VoterState = 'up' | 'down' | 'lost';

export interface VoterStatus {
  readonly id: string;
  readonly state: VoterState;
  /** Why it does not vote, in words. */
  readonly reason?: string;
}

export interface GroupSummary extends Group {
  /** The primary's latest log position; undefined if it cannot be asked. */
  readonly seq: number | undefined;
  readonly serving: boolean;
  readonly detail: string;
}

export interface ClusterStatus {
  readonly clusterId: string;
  readonly epoch: number;
  /** Of the catalog. */
  readonly voters: readonly VoterStatus[];
  readonly nodes: readonly NodeStatus[];
  readonly groups: readonly GroupSummary[];
  readonly pools: readonly Pool[];
  readonly mounts: readonly MountReport[];
  readonly usedBytes: number;
  /** How long a node may be down until its blocks get their copies elsewhere; null: for ever. */
  readonly repairAfterMs: number | null;
  /** Copies are made only where there are too few. */
  readonly balancePaused: boolean;
  /** All disks' room and what is used of it, each disk once. */
  readonly capacityBytes: number;
  /** Worst first; empty when all is well. */
  readonly findings: readonly Finding[];
  readonly health: 'healthy' | 'degraded' | 'unavailable';
  /** What the failure of each node that is up would cost, worst first. */
  readonly ifFails: readonly Outlook[];
}

/** Time for one node to say how it is; a node that needs longer is shown as down, with the reason. */
const REPORT_TIMEOUT_MS = 2_000;

/** Those that the others hold to be down are not waited for: see {@link askNodes}. */
export async function collectStatus(client: StatusContext): Promise<ClusterStatus> {
  const { network } = client;
  const catalog = client.catalog.current();
  const ids = catalog.nodes.map(({ id }) => id);
  const answers = await askNodes(client, ids, async (node) => {
    const reply = await network.call(node, 'node.status', {}, { timeoutMs: REPORT_TIMEOUT_MS });
    return reply.header as NodeReport;
  });
  const nodes = catalog.nodes.map((node) => nodeStatus(node, answers.get(node.id)));
  return assembleStatus(catalog, nodes);
}

export interface StatusContext {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly clock: Clock;
}

function nodeStatus(node: CatalogNode, answer: Answer<NodeReport> | undefined): NodeStatus {
  switch (answer?.kind) {
    case 'answer':
      return { ...node, state: 'up', report: answer.value };
    case 'failed': {
      const { error } = answer;
      return { ...node, state: 'down', reason: error instanceof TatamiError ? error.message : String(error) };
    }
    default:
      return { ...node, state: 'down', reason: 'it does not answer' };
  }
}

/** Pure: the whole picture from the catalog and the nodes' answers. */
export function assembleStatus(catalog: Catalog, nodes: readonly NodeStatus[]): ClusterStatus {
  const groups = catalog.groups.map((group) => summarise(group, nodes));
  const mounts = new Map<string, MountReport>();
  for (const node of nodes) for (const mount of node.report?.mounts ?? []) mounts.set(mount.instanceId, mount);
  const sum = (pick: (report: NodeReport) => number) =>
    nodes.reduce((total, node) => total + (node.report === undefined ? 0 : pick(node.report)), 0);
  const partial = {
    clusterId: catalog.clusterId,
    epoch: catalog.epoch,
    voters: catalog.voters.map((id) => voterStatus(id, nodes)),
    nodes,
    groups,
    pools: catalog.pools,
    repairAfterMs: catalog.repairAfterMs === undefined ? REPAIR_AFTER_MS : catalog.repairAfterMs,
    balancePaused: catalog.balancePaused === true,
    mounts: [...mounts.values()],
    usedBytes: sum((report) => report.usedBytes),
    capacityBytes: rawSpace(nodes.map(({ report }) => report).filter((report) => report !== undefined)).totalBytes,
  };
  const findings = assessHealth(partial);
  const severities = new Set(findings.map((finding) => finding.severity));
  const health = severities.has('unavailable') ? 'unavailable' : severities.has('degraded') ? 'degraded' : 'healthy';
  return { ...partial, findings, health, ifFails: outlookOf(partial) };
}

function voterStatus(id: string, nodes: readonly NodeStatus[]): VoterStatus {
  const node = nodes.find((each) => each.id === id);
  if (node?.report === undefined) return { id, state: 'down', reason: node?.reason ?? 'no answer' };
  // A node of an earlier version reports nothing about its vote.
  const { vote } = node.report as { vote?: NodeReport['vote'] };
  return vote?.fit === false ? { id, state: 'lost', reason: vote.reason } : { id, state: 'up' };
}

function summarise(group: Group, nodes: readonly NodeStatus[]): GroupSummary {
  const report = nodes.find((node) => node.id === group.primary)?.report?.groups.find((own) => own.id === group.id);
  if (report === undefined) {
    return { ...group, seq: undefined, serving: false, detail: `its primary ${group.primary} cannot be reached` };
  }
  return { ...group, seq: report.committedSeq, serving: report.serving, detail: report.detail };
}

/** What there is to look through: copies on the nodes that answer, and about how many blocks these are copies of. */
export function storedBlocks(status: ClusterStatus): { copyCount: number; blockCount: number } {
  const copyCount = status.nodes.reduce((sum, node) => sum + (node.report?.blockCount ?? 0), 0);
  const up = status.nodes.filter((node) => node.state === 'up').length;
  const copies = Math.min(up, ...status.pools.filter((pool) => pool.kind === 'filesystem').map((pool) => pool.copies));
  return { copyCount, blockCount: Math.ceil(copyCount / Math.max(1, copies)) };
}
