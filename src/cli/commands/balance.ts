/** `tatami balance`: how level the copies are spread over the nodes, how far the moving is, and its pause. */
import { levelOf } from '../../catalog/placement-level.ts';
import type { Catalog } from '../../catalog/types.ts';
import { setBalancePaused } from '../../upkeep/membership.ts';
import { repairProgress } from '../../upkeep/repair-progress.ts';
import { collectStatus, type ClusterStatus, type NodeStatus } from '../../upkeep/status.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { bytes, print, printJson, table } from '../output.ts';
import { repairInWords } from '../render-status.ts';
import { untilRepaired } from '../repair-watch.ts';
import { withCatalog } from '../with-cluster.ts';

export interface BalanceCommandOptions extends WhereOptions {
  readonly watch?: boolean;
  readonly pause?: boolean;
  readonly resume?: boolean;
  readonly json?: boolean;
}

export async function balance(options: BalanceCommandOptions): Promise<void> {
  await withCatalog(options, 'tatami balance', async (client) => {
    if (options.pause === true) await setBalancePaused(client, true);
    if (options.resume === true) await setBalancePaused(client, false);
    const read = (): Promise<ClusterStatus> => collectStatus(client);
    const status =
      options.watch === true
        ? await untilRepaired(read, { title: 'balance', shown: options.json !== true })
        : await read();
    const levels = levelsOf(client.catalog.current(), status.nodes);
    if (options.json === true) printJson({ ...repairProgress(status), paused: status.balancePaused, nodes: levels });
    else show(status, levels);
  });
}

interface Level {
  readonly name: string;
  /** Placement groups of all pools of which it is to hold a copy. */
  readonly groups: number;
  /** Of these, its share by the size of its disk. */
  readonly share: number;
  /** In the pool where it is farthest from its share; in placement groups. */
  readonly offBy: number;
  readonly usedBytes: number | null;
  /** Parts of a thousand of its disk. */
  readonly fullPermille: number | null;
}

function levelsOf(catalog: Catalog, nodes: readonly NodeStatus[]): Level[] {
  const perPool = catalog.pools.map((pool) => new Map(levelOf(catalog, pool).map((level) => [level.node, level])));
  return nodes
    .filter((node) => node.kind !== 'witness')
    .map(({ id, report }) => {
      const own = perPool.flatMap((levels) => levels.get(id) ?? []);
      const offs = own.map(({ groups, share }) => groups - share);
      return {
        name: id,
        groups: own.reduce((sum, { groups }) => sum + groups, 0),
        share: own.reduce((sum, { share }) => sum + share, 0),
        offBy: offs.reduce((most, off) => (Math.abs(off) > Math.abs(most) ? off : most), 0),
        usedBytes: report?.usedBytes ?? null,
        fullPermille: report === undefined ? null : Math.round((1_000 * report.usedBytes) / report.capacityBytes),
      };
    });
}

function show(status: ClusterStatus, levels: readonly Level[]): void {
  print(
    table(
      ['node', 'placement groups', 'share', 'off by at most', 'blocks', 'of its disk'],
      levels.map(({ name, groups, share, offBy, usedBytes, fullPermille }) => [
        name,
        groups,
        share.toFixed(1),
        `${offBy > 0 ? '+' : ''}${offBy.toFixed(1)}`,
        usedBytes === null ? '-' : bytes(usedBytes),
        fullPermille === null ? '-' : `${(fullPermille / 10).toFixed(1)}%`,
      ]),
    ),
  );
  const now = repairProgress(status);
  const paused = status.balancePaused
    ? 'balancing is paused: copies are made only of blocks that have too few (`tatami balance --resume`)'
    : 'balance: nothing is to be moved';
  print(`\n${now.done ? paused : repairInWords(now)}`);
}
