import { createInterface } from 'node:readline/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Group } from '../../catalog/types.ts';
import { connectCatalog } from '../../client.ts';
import type { CatalogClient } from '../../client.ts';
import { CancelledError, UnavailableError, UsageError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import { META_TIMEOUT_MS } from '../../limits.ts';
import { inSyncNodes } from '../../meta/group/force.ts';
import type { CopyState } from '../../meta/group/lineage.ts';
import { groupMethods } from '../../meta/group/messages.ts';
import { collectStatus } from '../../upkeep/status.ts';
import type { ClusterStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster } from '../cluster-files.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { checkNodeId } from '../node-arguments.ts';
import { note, print, printJson, table } from '../output.ts';
import { realEnv } from '../real-env.ts';

export interface ForceOptions extends WhereOptions {
  readonly from: string;
  readonly yes?: boolean;
  readonly json?: boolean;
}

const STATE_TIMEOUT_MS = 5_000;
/** Grace, a full copy of small metadata, and a catalog change. */
const SERVING_TIMEOUT_MS = 30_000;
const LOOK_INTERVAL_MS = 250;

/** R9: shows what there is and what would be lost, asks, and has the group go on with the copy of one node. */
export async function groupForce(name: string, options: ForceOptions): Promise<void> {
  const from = checkNodeId(options.from, '--from');
  const where = await findCluster(options);
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami group force') });
  try {
    const status = await collectStatus(client);
    const group = client.catalog.current().groups.find((each) => each.id === name);
    if (group === undefined) {
      const names = status.groups.map((each) => each.id).join(', ');
      throw new UsageError(`there is no group ${name}`, { remedy: `The groups are: ${names}.` });
    }
    checkLost(status, group);
    const copies = await copyStates(client, status, group);
    const chosen = checkChoice(copies, status, group, from);
    const inSync = inSyncNodes(group);
    for (const line of whatItMeans(group, inSync, copies, chosen)) note(line);
    await confirm(options, group, from);
    const header = { group: name, expectedEpoch: group.epoch };
    await client.network.call(from, groupMethods.force, header, { timeoutMs: META_TIMEOUT_MS });
    const serving = await untilServing(client, name);
    if (options.json === true) return printJson({ group: name, from, serving });
    print(
      `group ${name} goes on with the copy of ${from}${serving ? ' and serves' : '; it does not serve yet: `tatami status` says why'}`,
    );
    print('files whose blocks were given up meanwhile are named by:  tatami fsck');
  } finally {
    await client.close();
  }
}

function checkLost(status: ClusterStatus, group: Group): void {
  const up = inSyncNodes(group).filter((id) => status.nodes.some((node) => node.id === id && node.state === 'up'));
  if (up.length === 0) return;
  const detail = status.groups.find((each) => each.id === group.id)?.detail ?? '';
  throw new UsageError(`group ${group.id} is not lost: ${up.join(' and ')} is up and has all that was acknowledged`, {
    remedy: `Nothing is to be forced. ${detail === 'in order' ? 'The group serves.' : `It comes back by itself; now: ${detail}.`}`,
  });
}

type Copies = ReadonlyMap<NodeId, CopyState>;

async function copyStates(client: CatalogClient, status: ClusterStatus, group: Group): Promise<Copies> {
  const found = new Map<NodeId, CopyState>();
  const up = status.nodes.filter((node) => node.state === 'up' && node.kind !== 'witness');
  await Promise.all(
    up.map(async ({ id }) => {
      const options = { timeoutMs: STATE_TIMEOUT_MS };
      const reply = await client.network
        .call(id, groupMethods.copyState, { group: group.id }, options)
        .catch(() => undefined);
      if (reply !== undefined) found.set(id, reply.header as CopyState);
    }),
  );
  return found;
}

function checkChoice(copies: Copies, status: ClusterStatus, group: Group, from: NodeId): CopyState {
  const usable = [...copies].filter(([, copy]) => copy.whole && copy.lastSeq > 0);
  const best = usable.sort(([, a], [, b]) => compareCopies(b, a))[0];
  const remedy =
    best === undefined
      ? `No node that is up has a copy that can be used. Bring back ${inSyncNodes(group).join(' or ')}.`
      : `The best copy that is up is that of ${best[0]}: --from ${best[0]}.`;
  const chosen = copies.get(from);
  if (chosen === undefined) {
    const isKnown = status.nodes.some((node) => node.id === from);
    throw isKnown
      ? new UnavailableError(`node ${from} does not answer, or holds no data`, { remedy })
      : new UsageError(`there is no node ${from}`, { remedy });
  }
  if (!chosen.whole || chosen.lastSeq === 0) {
    const why = chosen.reason === '' ? 'it is empty' : chosen.reason;
    throw new UsageError(`the copy of ${from} cannot be used: ${why}`, { remedy });
  }
  if (best !== undefined && compareCopies(chosen, best[1]) < 0) {
    throw new UsageError(`${best[0]} has more than ${from}: ${where(best[1])} against ${where(chosen)}`, { remedy });
  }
  return chosen;
}

/** Later epochs first: what is beyond in an earlier one may never have been acknowledged. */
function compareCopies(a: CopyState, b: CopyState): number {
  return a.lastEpoch - b.lastEpoch || a.lastSeq - b.lastSeq;
}

function where(copy: CopyState): string {
  return `entry ${copy.lastSeq} of epoch ${copy.lastEpoch}`;
}

function timeOf(ms: number): string {
  return ms === 0 ? 'not known' : new Date(ms).toISOString().replace('T', ' ').replace('Z', ' UTC');
}

function whatItMeans(group: Group, inSync: readonly NodeId[], copies: Copies, chosen: CopyState): string[] {
  const rows = [...copies].map(([id, copy]) => [
    id,
    copy.lastSeq,
    copy.lastEpoch,
    timeOf(copy.lastChangeMs),
    copy.whole ? 'yes' : `no: ${copy.reason}`,
  ]);
  const known = Math.max(0, ...[...copies.values()].map((copy) => copy.heardCommittedSeq));
  const surely = known > chosen.lastSeq ? `at least ${known - chosen.lastSeq} changes are; ` : '';
  return [
    `group ${group.id}: all that was acknowledged is on ${inSync.join(' and ')}, which cannot be reached.`,
    `If any of them can be started again with its data, do that instead: then nothing is lost.`,
    '',
    table(['node', 'last entry', 'epoch', 'last change', 'can be used'], rows),
    '',
    `Every change after ${where(chosen)} (made ${timeOf(chosen.lastChangeMs)}) will be lost: ${surely}how many more cannot be told.`,
    `Copies on other nodes are set aside, not deleted, and made anew. Be sure that ${inSync.join(' and ')} do not run cut off`,
    'from the others: programs that reach them there go on working, and what they write is lost.',
  ];
}

async function confirm(options: ForceOptions, group: Group, from: string): Promise<void> {
  if (options.yes === true) return;
  if (!process.stdin.isTTY || options.json === true) {
    throw new UsageError('this loses data, and there is nobody to ask', { remedy: 'Say --yes if that is wanted.' });
  }
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await asking.question(
      `Go on with the copy of ${from}? Type the group's name (${group.id}) to do so: `,
    );
    if (answer.trim() !== group.id) throw new CancelledError('nothing was changed');
  } finally {
    asking.close();
  }
}

async function untilServing(client: CatalogClient, name: string): Promise<boolean> {
  for (const untilMs = performance.now() + SERVING_TIMEOUT_MS; performance.now() < untilMs;) {
    const { groups } = await collectStatus(client);
    if (groups.find((group) => group.id === name)?.serving === true) return true;
    await sleep(LOOK_INTERVAL_MS);
  }
  return false;
}
