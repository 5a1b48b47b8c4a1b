/** `tatami repair`: how far the nodes are with making copies that are missing, and how long they wait before they begin. */
import { REPAIR_AFTER_MAX_MS } from '../../catalog/absence.ts';
import { UsageError } from '../../errors.ts';
import { setRepairAfter } from '../../upkeep/membership.ts';
import { repairProgress, type RepairProgress } from '../../upkeep/repair-progress.ts';
import { collectStatus, type ClusterStatus, type NodeStatus } from '../../upkeep/status.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { EXIT } from '../exit-codes.ts';
import { bytes, print, printJson, rate, table } from '../output.ts';
import { repairInWords } from '../render-status.ts';
import { untilRepaired } from '../repair-watch.ts';
import { duration } from '../times.ts';
import { withCatalog } from '../with-cluster.ts';

export interface RepairCommandOptions extends WhereOptions {
  readonly after?: number | null;
  readonly wait?: boolean;
  readonly json?: boolean;
}

export async function repair(options: RepairCommandOptions): Promise<void> {
  const { after } = options;
  if (typeof after === 'number' && after > REPAIR_AFTER_MAX_MS) {
    throw new UsageError(`--after is at most ${duration(REPAIR_AFTER_MAX_MS)}`, {
      remedy: 'Use `never` if nodes are not to be replaced by themselves.',
    });
  }
  await withCatalog(options, 'tatami repair', async (client) => {
    if (after !== undefined) await setRepairAfter(client, after);
    const read = (): Promise<ClusterStatus> => collectStatus(client);
    const status =
      options.wait === true
        ? await untilRepaired(read, { title: 'repair', shown: options.json !== true })
        : await read();
    if (options.json === true) printJson(asJson(status));
    else show(status);
    const down = status.nodes.some((node) => node.state === 'down');
    if (down && process.exitCode === undefined) process.exitCode = EXIT.unhealthy;
  });
}

function show(status: ClusterStatus): void {
  const withData = status.nodes.filter((node) => node.kind !== 'witness');
  print(
    table(
      ['node', 'state', 'looked at', 'still to copy', 'rate', 'copied'],
      withData.map((node) => [node.id, stateOf(node), ...cellsOf(node)]),
    ),
  );
  const now = repairProgress(status);
  print(`\n${now.done ? summary(now, status) : repairInWords(now)}`);
  print(delayInWords(status.repairAfterMs));
}

function summary({ copiedCount, copiedBytes }: RepairProgress, status: ClusterStatus): string {
  const made = copiedCount === 0 ? '' : ` (since they were started: ${copiedCount} copies, ${bytes(copiedBytes)})`;
  const down = status.nodes.filter((node) => node.state === 'down' && node.out !== true && node.kind !== 'witness');
  const waits = down.length === 0 ? '' : `; ${down.map(({ id }) => id).join(', ')} may still come back`;
  return `repair: nothing to do for the nodes that are up${made}${waits}`;
}

function delayInWords(afterMs: number | null): string {
  if (afterMs === null)
    return 'Nodes that are down are never left out; only blocks of which one copy is left are copied at once.';
  return (
    `A node that is down for longer than ${duration(afterMs)} is left out, and its blocks get their copies elsewhere; ` +
    'blocks of which one copy is left are copied at once.'
  );
}

function stateOf({ state, draining, out }: NodeStatus): string {
  if (state === 'down') return out === true ? 'down, out' : 'down';
  return draining === true ? 'draining' : 'up';
}

function cellsOf({ report }: NodeStatus): (string | number)[] {
  const repair = report?.repair;
  if (repair === undefined) return ['-', '-', '-', '-'];
  const { scannedCount, leftBytes, missingBytes, bytesPerSecond, copiedBytes } = repair;
  return [
    scannedCount ?? '-',
    bytes(leftBytes ?? missingBytes),
    bytesPerSecond === undefined ? '-' : rate(bytesPerSecond, 1_000),
    bytes(copiedBytes),
  ];
}

function asJson(status: ClusterStatus) {
  return {
    ...repairProgress(status),
    afterMs: status.repairAfterMs,
    nodes: status.nodes
      .filter((node) => node.kind !== 'witness')
      .map((node) => ({ name: node.id, state: stateOf(node), repair: node.report?.repair ?? null })),
  };
}
