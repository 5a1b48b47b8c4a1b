/**
 * The catalog as a pure document: how the first one looks, what each change does to it, how it is written down.
 */
import { levelUpmap } from './placement-level.ts';
import { ConflictError, FormatError, StateError, UsageError } from '../errors.ts';
import type { Epoch, GroupId, HistoryId, Ino, NodeId, PoolId } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { BLOCK_MAX_BYTES, DEFAULT_PG_COUNT } from '../limits.ts';
import { factsOf, withSince } from './history.ts';
import { dataNodes, defaultMinReplicas, putNode, removeNode, replaceNode, setDraining, setOut } from './membership.ts';
import { createPool, setPool } from './pools.ts';
import { parseCatalog } from './schema.ts';
import { CATALOG_FORMAT_VERSION } from './types.ts';
export { activeNodes, dataNodes, defaultMinReplicas } from './membership.ts';
import type { Catalog, CatalogChange, CatalogNode, Group, Pool, RootOwner } from './types.ts';
import { firstVoters } from './voters.ts';

/** The pool and group that every cluster begins with. */
export const DEFAULT_POOL_ID = 1 as PoolId;
export const LIBRARY_POOL_ID = 2 as PoolId;
export const FIRST_GROUP_ID = 'g0' as GroupId;

/**
 * Epochs whose makers a catalog names. A proposer asks within its deadline (30 s) whether it won; that many changes in
 * that time are more than joins and fail-overs of a large cluster make.
 */
const RECENT_MAX_COUNT = 64;

/** Copies kept by default where there are nodes enough. */
export const DEFAULT_COPIES = 3;

export interface FirstCatalog {
  readonly clusterId: string;
  readonly historyId: HistoryId;
  /** One or more with data; the first is primary of the first group, the second its secondary. */
  readonly nodes: readonly CatalogNode[];
  /** Copies of file data; on fewer nodes as many as nodes. Default {@link DEFAULT_COPIES}. */
  readonly copies?: number;
  readonly blockSizeBytes?: number;
  /** Who owns the root directory. Default: root. */
  readonly rootOwner?: RootOwner;
  readonly repairAfterMs?: number | null;
  readonly collectEveryMs?: number | null;
  /** When it is made, by the wall clock. */
  readonly atMs?: number;
}

/** Epoch 1 of a new cluster: one filesystem pool, one library pool, one group that serves one tablet. */
export function firstCatalog(first: FirstCatalog): Catalog {
  const [primary, secondary, ...others] = dataNodes(first);
  if (primary === undefined) throw new StateError('a cluster begins with at least one node');
  const members = secondary === undefined ? [primary.id] : [primary.id, secondary.id];
  const pool = (id: PoolId, name: string, kind: Pool['kind']): Pool => ({
    id,
    name,
    kind,
    copies: first.copies ?? DEFAULT_COPIES,
    blockSizeBytes: first.blockSizeBytes ?? BLOCK_MAX_BYTES,
    pgCount: DEFAULT_PG_COUNT,
    domain: 'host',
    upmap: {},
    placementEpoch: 1 as Epoch,
  });
  const catalog: Catalog = {
    formatVersion: CATALOG_FORMAT_VERSION,
    clusterId: first.clusterId,
    epoch: 1 as Epoch,
    ...(first.rootOwner === undefined ? {} : { rootOwner: first.rootOwner }),
    ...(first.repairAfterMs === undefined ? {} : { repairAfterMs: first.repairAfterMs }),
    ...(first.collectEveryMs === undefined ? {} : { collectEveryMs: first.collectEveryMs }),
    nodes: first.nodes,
    voters: firstVoters(first.nodes),
    pools: [pool(DEFAULT_POOL_ID, 'files', 'filesystem'), pool(LIBRARY_POOL_ID, 'library', 'library')],
    groups: [
      {
        id: FIRST_GROUP_ID,
        epoch: 1 as Epoch,
        historyId: first.historyId,
        primary: primary.id,
        secondary: secondary?.id ?? null,
        learners: others.map((node) => node.id),
        lastActivated: { epoch: 1 as Epoch, members },
        minReplicas: defaultMinReplicas(dataNodes(first).length),
        ...(first.atMs === undefined ? {} : { since: { primaryMs: first.atMs, secondaryMs: first.atMs } }),
      },
    ],
    tablets: [{ firstIno: 1 as Ino, group: FIRST_GROUP_ID }],
  };
  return parseCatalog(catalog);
}

/**
 * The catalog after `change`, with the next epoch. Pure. `atMs`: when it is decided, for people.
 *
 * @throws ConflictError if the change was made for another state (compare-and-set lost).
 * @throws UsageError, FormatError if the result would not be a usable catalog.
 */
export function applyChange(catalog: Catalog, change: CatalogChange, proposal?: string, atMs?: number): Catalog {
  const epoch = (catalog.epoch + 1) as Epoch;
  const { recent = [] } = catalog;
  const changed: Catalog = {
    ...catalog,
    ...changedParts(catalog, change, epoch),
    formatVersion: CATALOG_FORMAT_VERSION,
    epoch,
  };
  const dated = atMs === undefined ? {} : { atMs, facts: factsOf(catalog, changed) };
  const next: Catalog = {
    ...changed,
    ...(atMs === undefined ? {} : { groups: withSince(catalog.groups, changed.groups, atMs) }),
    recent: proposal === undefined ? recent : [...recent.slice(1 - RECENT_MAX_COUNT), { epoch, proposal, ...dated }],
  };
  // Not only how its parts relate: one that somebody cannot read would be chosen for ever.
  parseCatalog(next);
  return next;
}

/** What a catalog tells about a proposal that was made for the epoch after `expected`. */
export function outcomeOf(catalog: Catalog, expected: Epoch, proposal: string): 'won' | 'lost' | 'open' {
  if (catalog.recent?.some((chosen) => chosen.proposal === proposal)) return 'won';
  return catalog.epoch > expected ? 'lost' : 'open';
}

function changedParts(catalog: Catalog, change: CatalogChange, epoch: Epoch): Partial<Catalog> {
  switch (change.kind) {
    case 'putNode':
      return levelled(catalog, putNode(catalog, change.node, epoch));
    case 'setDraining':
      return levelled(catalog, setDraining(catalog, change.id, change.draining, epoch));
    case 'setOut':
      return setOut(catalog, change.id, change.out, epoch);
    case 'setRepairAfter':
      return { repairAfterMs: change.afterMs };
    case 'setBalancePaused':
      return { balancePaused: change.paused };
    case 'setCollectEvery':
      return { collectEveryMs: change.everyMs };
    case 'removeNode':
      return levelled(catalog, removeNode(catalog, change.id, epoch));
    case 'replaceNode':
      return replaceNode(catalog, change.id, change.node, epoch);
    case 'putVoters':
      return { voters: changedVoters(catalog, change.voters) };
    case 'createPool':
      return createPool(catalog, change.pool, epoch);
    case 'setPool':
      return setPool(catalog, change.id, change.set, epoch);
    case 'putGroup': {
      const old = comparedGroup(catalog, change.group.id, change.expectedGroupEpoch);
      if (change.group.epoch !== old.epoch + 1) {
        throw new UsageError(`group ${old.id} goes from epoch ${old.epoch} to ${old.epoch + 1}`);
      }
      checkPromotion(old, change.group);
      return { groups: catalog.groups.map((group) => (group === old ? change.group : group)) };
    }
    case 'forceGroup': {
      const old = comparedGroup(catalog, change.group, change.expectedGroupEpoch);
      const forced = forceGroup(old, change.from, change.historyId, catalog);
      return { groups: catalog.groups.map((group) => (group === old ? forced : group)) };
    }
  }
}

/** Where placement moves for good, every node gets its share, and no more moves than that takes. */
function levelled(before: Catalog, parts: Partial<Catalog>): Partial<Catalog> {
  const { pools } = parts;
  if (pools === undefined) return parts;
  const after: Catalog = { ...before, ...parts };
  return { ...parts, pools: pools.map((pool) => ({ ...pool, upmap: levelUpmap(after, pool, before) })) };
}

/** R1: compare-and-set on the group's epoch. */
function comparedGroup(catalog: Catalog, id: string, expectedGroupEpoch: number): Group {
  const old = catalog.groups.find((group) => group.id === id);
  if (old === undefined) {
    throw new UsageError(`there is no group ${id}`, {
      remedy: `The groups are: ${catalog.groups.map((group) => group.id).join(', ')}.`,
    });
  }
  if (old.epoch !== expectedGroupEpoch) {
    throw new ConflictError(`group ${old.id} is at epoch ${old.epoch}, not ${expectedGroupEpoch}`, {
      info: { epoch: old.epoch },
    });
  }
  return old;
}

/** One at a time: then a majority of the old voters and one of the new always share a node. */
function changedVoters(catalog: Catalog, voters: readonly NodeId[]): readonly NodeId[] {
  const added = voters.filter((voter) => !catalog.voters.includes(voter));
  const removed = catalog.voters.filter((voter) => !voters.includes(voter));
  if (added.length + removed.length !== 1 || new Set(voters).size !== voters.length) {
    throw new UsageError('the voters change by one at a time');
  }
  return voters;
}

/** R2: only a member of lastActivated may become primary. */
function checkPromotion(old: Group, next: Group): void {
  if (next.primary !== old.primary && !old.lastActivated.members.includes(next.primary)) {
    throw new UsageError(`R2: ${next.primary} was not in sync at the last activation of group ${old.id}`);
  }
}

/**
 * R9: a new history from one node's copy. All others begin anew with a full copy of it. It is not activated: the new primary
 * does that itself (R7).
 */
function forceGroup(old: Group, from: NodeId, historyId: HistoryId, catalog: Catalog): Group {
  if (historyId === old.historyId) throw new UsageError('a forced group begins a new history');
  const withData = dataNodes(catalog).map((node) => node.id);
  if (!withData.includes(from)) throw new UsageError(`there is no node ${from} that could hold group ${old.id}`);
  const epoch = (old.epoch + 1) as Epoch;
  const { handedOver: _, ...rest } = old;
  return {
    ...rest,
    epoch,
    historyId,
    primary: from,
    secondary: null,
    learners: withData.filter((id) => id !== from),
    lastActivated: { epoch: old.epoch, members: [from] },
    forced: { from, historyId: old.historyId, epoch },
  };
}

/** JSON, indented: an operator can read it. */
export function encodeCatalog(catalog: Catalog): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(catalog, undefined, 1)}\n`);
}

/** Inverse of {@link encodeCatalog}; FormatError if damaged or newer. */
export function decodeCatalog(bytes: Uint8Array): Catalog {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new FormatError('the catalog file is not JSON', { cause: error });
  }
  return parseCatalog(value);
}

/** The group that serves an inode. */
export function groupOfIno(catalog: Catalog, ino: number): Group {
  let serving = catalog.tablets[0]?.group;
  for (const tablet of catalog.tablets) {
    if (tablet.firstIno > ino) break;
    serving = tablet.group;
  }
  const group = catalog.groups.find((candidate) => candidate.id === serving);
  if (group === undefined) throw new StateError(`no group serves inode ${ino}`);
  return group;
}

/** An inode number by which the group is found. */
export function anInoOf({ tablets }: Catalog, group: GroupId): Ino {
  const tablet = tablets.find((candidate) => candidate.group === group);
  return Math.max(ROOT_INO, tablet?.firstIno ?? ROOT_INO) as Ino;
}

/** One of each group that serves any. */
export function groupInos(catalog: Catalog): Ino[] {
  return [...new Set(catalog.tablets.map(({ group }) => group))].map((group) => anInoOf(catalog, group));
}

/** Pool by number; undefined if there is none. */
export function poolById(catalog: Catalog, id: PoolId): Pool | undefined {
  return catalog.pools.find((pool) => pool.id === id);
}

/** For the log. */
export function describeChange(change: CatalogChange): string {
  switch (change.kind) {
    case 'putNode':
      return `node ${change.node.id} at ${change.node.address}`;
    case 'setDraining':
      return `node ${change.id} ${change.draining ? 'is being drained' : 'takes data again'}`;
    case 'setOut':
      return `node ${change.id} ${change.out ? 'is down for too long: left out of placement' : 'is back in placement'}`;
    case 'setRepairAfter':
      return change.afterMs === null ? 'no repair by itself' : `repair after ${change.afterMs / 1000} s`;
    case 'setBalancePaused':
      return change.paused ? 'balancing is paused' : 'balancing goes on';
    case 'setCollectEvery':
      return change.everyMs === null ? 'no collection by itself' : `collection every ${change.everyMs / 1000} s`;
    case 'removeNode':
      return `node ${change.id} removed`;
    case 'replaceNode':
      return `node ${change.node.id} at ${change.node.address} in the place of ${change.id}`;
    case 'forceGroup':
      return `group ${change.group} forced: a new history from the copy of ${change.from}`;
    case 'putVoters':
      return `voters ${change.voters.join(' ')}`;
    case 'createPool':
      return `pool ${change.pool.name}`;
    case 'setPool':
      return `pool number ${change.id}: ${JSON.stringify(change.set)}`;
    case 'putGroup': {
      const { group } = change;
      return `group ${group.id} epoch ${group.epoch}: primary ${group.primary}, secondary ${group.secondary ?? 'none'}`;
    }
  }
}
