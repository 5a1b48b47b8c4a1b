import { setTimeout as sleep } from 'node:timers/promises';
import { connectCatalog } from '../../client.ts';
import { repairProgress } from '../../upkeep/repair-progress.ts';
import { collectStatus } from '../../upkeep/status.ts';
import type { ClusterStatus } from '../../upkeep/status.ts';
import { clientLabel, isThisProcess, parseClientLabel } from '../client-label.ts';
import { findCluster } from '../cluster-files.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { EXIT } from '../exit-codes.ts';
import { listenForInterruption } from '../interruption.ts';
import { statusSections, watchStatus } from '../live-screen.ts';
import { print, printJson } from '../output.ts';
import { realEnv } from '../real-env.ts';
import { renderStatus } from '../render-status.ts';

export async function status(options: WhereOptions & { json?: boolean; watch?: boolean }): Promise<void> {
  const where = await findCluster(options);
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami status') });
  try {
    let latest: ClusterStatus | undefined;
    const read = async () => (latest = await collectStatus(client));
    if (options.watch !== true) show(await read(), options.json === true);
    else await watch(read, options.json === true);
    process.exitCode = latest?.health === 'healthy' ? EXIT.ok : EXIT.unhealthy;
  } finally {
    await client.close();
  }
}

function show(status: ClusterStatus, asJson: boolean): void {
  if (asJson) printJson(statusJson(status));
  else print(renderStatus(status));
}

/** Until Ctrl-C. */
async function watch(read: () => Promise<ClusterStatus>, asJson: boolean): Promise<void> {
  const { signal } = listenForInterruption();
  if (!asJson && process.stdout.isTTY) {
    await watchStatus({ read, signal }, ({ status }) => statusSections(status));
    return;
  }
  while (!signal.aborted) {
    const status = await read();
    print(asJson ? JSON.stringify(statusJson(status)) : `${renderStatus(status)}\n`);
    await sleep(1_000, undefined, { signal }).catch(() => undefined);
  }
}

/** The documented shape of `tatami status --json`. */
export function statusJson(status: ClusterStatus) {
  return {
    clusterId: status.clusterId,
    epoch: status.epoch,
    health: status.health,
    findings: status.findings,
    ifFails: status.ifFails.map(({ nodes, impact, effects, remedy }) => ({
      nodes,
      impact,
      effects,
      remedy: remedy ?? null,
    })),
    repair: { ...repairProgress(status), afterMs: status.repairAfterMs },
    nodes: status.nodes.map((node) => ({
      id: node.id,
      kind: node.kind ?? 'data',
      address: node.address,
      pid: node.report?.pid ?? null,
      state: node.state,
      usedBytes: node.report?.usedBytes ?? null,
      capacityBytes: node.report?.capacityBytes ?? null,
      freeBytes: node.report?.freeBytes ?? null,
      blockCount: node.report?.blockCount ?? null,
      residentBytes: node.report?.residentBytes ?? null,
      longestPauseMs: node.report?.longestPauseMs ?? null,
      readBytes: node.report?.readBytes ?? null,
      writtenBytes: node.report?.writtenBytes ?? null,
      handoffCount: node.report?.handoffCount ?? null,
      damage: node.report?.damage ?? [],
      scrub: node.report?.scrub ?? null,
      reason: node.reason ?? null,
      draining: node.draining === true,
      out: node.out === true,
      repair: node.report?.repair ?? null,
    })),
    groups: status.groups.map((group) => ({
      name: group.id,
      epoch: group.epoch,
      primary: group.primary,
      secondary: group.secondary,
      learners: group.learners,
      seq: group.seq ?? null,
      serving: group.serving,
      detail: group.detail,
      minReplicas: group.minReplicas,
      primarySince: isoTime(group.since?.primaryMs),
      secondarySince: isoTime(group.since?.secondaryMs),
    })),
    pools: status.pools.map((pool) => ({
      name: pool.name,
      id: pool.id,
      kind: pool.kind,
      copies: pool.copies,
      blockSizeBytes: pool.blockSizeBytes,
      pgCount: pool.pgCount,
      domain: pool.domain,
    })),
    mounts: status.mounts
      .map(({ label, address }) => ({ ...parseClientLabel(label), address }))
      .filter((client) => !isThisProcess(client)),
    voters: status.voters.map(({ id, state }) => ({ id, state })),
    usedBytes: status.usedBytes,
    capacityBytes: status.capacityBytes,
  };
}

function isoTime(atMs: number | undefined): string | null {
  return atMs === undefined ? null : new Date(atMs).toISOString();
}
