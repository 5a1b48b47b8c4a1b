/**
 * What a change of the catalog means for people: the facts that `recent` keeps beside each of the latest epochs, and since
 * when a group has its primary and its secondary. Pure.
 */
import type { GroupId, NodeId } from '../ids.ts';
import type { Catalog, CatalogNode, Group, Pool } from './types.ts';

export type CatalogFact =
  | { readonly kind: 'node-joined'; readonly node: NodeId; readonly address: string; readonly witness?: true }
  | { readonly kind: 'node-removed'; readonly node: NodeId }
  | { readonly kind: 'node-changed'; readonly node: NodeId; readonly address: string }
  /** Its draining was begun, or undone. */
  | { readonly kind: 'node-draining'; readonly node: NodeId; readonly draining: boolean }
  /** Down for too long, and placement leaves it out; or back. */
  | { readonly kind: 'node-out'; readonly node: NodeId; readonly out: boolean }
  /** Another node is primary. */
  | ({ readonly kind: 'promotion'; readonly group: GroupId; readonly groupEpoch: number } & Successor)
  /** A node has become secondary. */
  | ({ readonly kind: 'appointment'; readonly group: GroupId; readonly groupEpoch: number } & Successor)
  /** The group goes on without a secondary for now. */
  | { readonly kind: 'secondary-dropped'; readonly group: GroupId; readonly groupEpoch: number; readonly node: NodeId }
  /** The same members in a new epoch: the primary was started anew. */
  | { readonly kind: 'group-epoch'; readonly group: GroupId; readonly groupEpoch: number; readonly node: NodeId }
  /** An operator made another copy the group's. */
  | { readonly kind: 'group-forced'; readonly group: GroupId; readonly groupEpoch: number; readonly node: NodeId }
  | { readonly kind: 'voters-changed'; readonly voters: readonly NodeId[] }
  | { readonly kind: 'pool-created'; readonly pool: string; readonly settings: readonly string[] }
  /** `changes`: in words. Absent in facts of earlier versions. */
  | { readonly kind: 'pool-changed'; readonly pool: string; readonly changes: readonly string[] }
  /** Copies are made only where there are too few; or no longer so. */
  | { readonly kind: 'balance-paused'; readonly paused: boolean };

type Successor = { readonly node: NodeId; readonly from?: NodeId };

/** Facts of one epoch, at most; what goes beyond (a cluster of thousands of groups whose members move) is left out. */
export const FACTS_MAX_COUNT = 16;

export function factsOf(before: Catalog, after: Catalog): CatalogFact[] {
  const facts = [...nodeFacts(before, after), ...groupFacts(before, after), ...voterFacts(before, after)];
  facts.push(...poolFacts(before.pools, after.pools));
  const paused = after.balancePaused === true;
  if ((before.balancePaused === true) !== paused) facts.push({ kind: 'balance-paused', paused });
  return facts.slice(0, FACTS_MAX_COUNT);
}

/** A change of nodes stamps and levels every pool's placement: that is no change of the pool. */
function poolFacts(before: readonly Pool[], after: readonly Pool[]): CatalogFact[] {
  const old = new Map(before.map((pool) => [pool.id, pool]));
  return after.flatMap((pool): CatalogFact[] => {
    const was = old.get(pool.id);
    const now = settingsOf(pool);
    if (was === undefined) {
      const kind = pool.kind === 'library' ? ['for programs'] : [];
      return [
        {
          kind: 'pool-created',
          pool: pool.name,
          settings: [...kind, ...now.map(([what, value]) => `${what} ${value}`)],
        },
      ];
    }
    const then = new Map(settingsOf(was));
    const changes = now.filter(([what, value]) => then.get(what) !== value);
    if (changes.length === 0) return [];
    const words = changes.map(([what, value]) => `${what} ${value} instead of ${then.get(what)}`);
    return [{ kind: 'pool-changed', pool: pool.name, changes: words }];
  });
}

function settingsOf({ copies, blockSizeBytes, pgCount, domain }: Pool): (readonly [string, string | number])[] {
  return [
    ['copies', copies],
    ['block size', blockSizeBytes],
    ['placement groups', pgCount],
    ['domain', domain],
  ];
}

function nodeFacts(before: Catalog, after: Catalog): CatalogFact[] {
  const facts: CatalogFact[] = [];
  const old = new Map(before.nodes.map((node) => [node.id, node]));
  for (const node of after.nodes) {
    const was = old.get(node.id);
    old.delete(node.id);
    const { id, address, kind } = node;
    if (was === undefined)
      facts.push({ kind: 'node-joined', node: id, address, ...(kind === 'witness' ? { witness: true } : {}) });
    else if (was.draining !== node.draining)
      facts.push({ kind: 'node-draining', node: id, draining: node.draining === true });
    else if (was.out !== node.out) facts.push({ kind: 'node-out', node: id, out: node.out === true });
    else if (described(was) !== described(node)) facts.push({ kind: 'node-changed', node: id, address });
  }
  for (const id of old.keys()) facts.push({ kind: 'node-removed', node: id });
  return facts;
}

function described(node: CatalogNode): string {
  return JSON.stringify(Object.entries(node).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function groupFacts(before: Catalog, after: Catalog): CatalogFact[] {
  const old = new Map(before.groups.map((group) => [group.id, group]));
  return after.groups.flatMap((group) => {
    const was = old.get(group.id);
    return was === undefined || was.epoch === group.epoch ? [] : changesOf(was, group);
  });
}

function changesOf(was: Group, now: Group): CatalogFact[] {
  const facts: CatalogFact[] = [];
  const at = { group: now.id, groupEpoch: now.epoch };
  const { primary, secondary } = now;
  if (was.historyId !== now.historyId) facts.push({ kind: 'group-forced', ...at, node: primary });
  else if (was.primary !== primary) facts.push({ kind: 'promotion', ...at, node: primary, from: was.primary });
  if (secondary !== null && was.secondary !== secondary) {
    facts.push({
      kind: 'appointment',
      ...at,
      node: secondary,
      ...(was.secondary === null ? {} : { from: was.secondary }),
    });
  } else if (secondary === null && was.secondary !== null && was.secondary !== primary) {
    facts.push({ kind: 'secondary-dropped', ...at, node: was.secondary });
  }
  const isActivation = now.lastActivated.epoch === now.epoch && was.learners.length === now.learners.length;
  if (facts.length === 0 && isActivation) facts.push({ kind: 'group-epoch', ...at, node: primary });
  return facts;
}

function voterFacts(before: Catalog, after: Catalog): CatalogFact[] {
  if (before.voters.join() === after.voters.join()) return [];
  return [{ kind: 'voters-changed', voters: after.voters }];
}

/** The groups with the time since when their primary and secondary are what they are. */
export function withSince(before: readonly Group[], after: readonly Group[], atMs: number): readonly Group[] {
  const old = new Map(before.map((group) => [group.id, group]));
  return after.map((group) => {
    const was = old.get(group.id);
    if (was === group) return group;
    const primaryMs = was?.primary === group.primary ? was.since?.primaryMs : atMs;
    const secondaryMs = was?.secondary === group.secondary ? was?.since?.secondaryMs : atMs;
    return {
      ...group,
      since: {
        ...(primaryMs === undefined ? {} : { primaryMs }),
        ...(secondaryMs === undefined ? {} : { secondaryMs }),
      },
    };
  });
}
