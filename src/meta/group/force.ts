/** R9: what a node does that an operator has chosen to go on with its copy, when the whole in-sync set is lost. */
import { Buffer } from 'node:buffer';
import type { CatalogService, Group } from '../../catalog/types.ts';
import type { Env } from '../../env.ts';
import { UnavailableError, UsageError } from '../../errors.ts';
import type { HistoryId, NodeId } from '../../ids.ts';
import { META_TIMEOUT_MS } from '../../limits.ts';
import type { Network } from '../../net/types.ts';
import { decodeCommand } from '../commands.ts';
import type { CopyState } from './lineage.ts';
import type { GroupLog } from './log-files.ts';
import { groupMethods } from './messages.ts';

/** Bytes of the log's end that are read to find when the last change was made. */
const END_BYTES = 64 * 1024;
/** A member of the in-sync set that is up answers in this time, however busy it is. */
const ANSWER_TIMEOUT_MS = 3_000;

export interface ForceOptions {
  readonly self: NodeId;
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly env: Pick<Env, 'random'>;
  readonly group: Group;
  readonly log: GroupLog;
  /** What the operator was shown was of this epoch. */
  readonly expectedGroupEpoch: number;
  /** Why the copy here cannot be chosen; empty if it can. */
  readonly whyNot: string;
}

/** Nodes that have, or may have, all that was acknowledged. */
export function inSyncNodes({ primary, secondary, epoch, lastActivated }: Group): readonly NodeId[] {
  const now = [primary, ...(secondary === null ? [] : [secondary])];
  // Not activated: nobody was acknowledged anything but by those before.
  return [...new Set(lastActivated.epoch === epoch ? now : [...now, ...lastActivated.members])];
}

/** Resolves with the group's epoch once the catalog has the new history. */
export async function forceGroup(o: ForceOptions): Promise<number> {
  const { group, self } = o;
  const inSync = inSyncNodes(group);
  const asked = await Promise.all(
    inSync.map(async (node) => ({ node, up: node === self || (await answers(o, node)) })),
  );
  const alive = asked.filter(({ up }) => up).map(({ node }) => node);
  if (alive.length > 0) {
    throw new UsageError(`${alive.join(', ')} of group ${group.id} is up and has all that was acknowledged`, {
      remedy: 'Nothing needs to be forced: `tatami status` says what the group waits for.',
    });
  }
  if (o.whyNot !== '' || o.log.lastSeq === 0) {
    throw new UsageError(`the copy of group ${group.id} on ${self} cannot be used: ${o.whyNot || 'it is empty'}`, {
      remedy: 'Choose another node with --from.',
    });
  }
  const historyId = Buffer.from(o.env.random.bytes(8)).toString('hex') as HistoryId;
  const current = o.catalog.current();
  const found = current.groups.find(({ id }) => id === group.id);
  if (found?.epoch !== o.expectedGroupEpoch) {
    throw new UnavailableError(`group ${group.id} has changed meanwhile`, {
      remedy: 'Look at it again: `tatami status`.',
    });
  }
  const change = {
    kind: 'forceGroup',
    group: group.id,
    from: self,
    historyId,
    expectedGroupEpoch: found.epoch,
  } as const;
  const chosen = await o.catalog.propose(current.epoch, change, META_TIMEOUT_MS);
  return chosen.groups.find(({ id }) => id === group.id)?.epoch ?? 0;
}

/** Asked, not believed: nobody may have had a reason to connect to it. */
function answers({ network }: ForceOptions, node: NodeId): Promise<boolean> {
  return network.call(node, groupMethods.status, null, { timeoutMs: ANSWER_TIMEOUT_MS }).then(
    () => true,
    () => false,
  );
}

export async function describeCopy(
  group: Group,
  log: GroupLog,
  heardCommittedSeq: number,
  whyNot: string,
): Promise<CopyState> {
  return {
    group: group.id,
    historyId: group.historyId,
    groupEpoch: group.epoch,
    whole: whyNot === '',
    reason: whyNot,
    lastSeq: log.lastSeq,
    lastEpoch: log.lastEpoch,
    lastChangeMs: await lastChangeMs(log),
    heardCommittedSeq,
  };
}

async function lastChangeMs(log: GroupLog): Promise<number> {
  for (let seq = log.lastSeq; seq >= log.firstSeq && seq > log.lastSeq - 10; seq--) {
    const [entry] = await log.read(seq, END_BYTES).catch(() => []);
    if (entry === undefined) return 0;
    const command = entry.decoded ?? decodeCommand(entry.command);
    if ('nowNs' in command) return Number(command.nowNs / 1_000_000n);
  }
  return 0;
}
