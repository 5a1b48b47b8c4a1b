/**
 * What it does to the catalog when nodes come, are drained, go, or take another's place. Pure.
 *
 * A node's name and its store belong together for ever: promises, acknowledgements and ballots bear the name, so another
 * store never acts under it (R11), also not after the node was removed.
 */
import { ConflictError, RemovedError, UsageError } from '../errors.ts';
import type { Epoch, NodeId } from '../ids.ts';
import type { Catalog, CatalogNode, Group, Pool } from './types.ts';

/** Removed nodes that the catalog remembers, the latest: each is some 60 bytes of every catalog. */
export const REMOVED_MAX_COUNT = 1_000;

/** R4: with three nodes or more a write waits for a second replica; with fewer it would wait for ever. */
export function defaultMinReplicas(nodeCount: number): number {
  return nodeCount >= 3 ? 2 : 1;
}

/** Nodes that hold data: those that placement and groups know. */
export function dataNodes(catalog: Pick<Catalog, 'nodes'>): readonly CatalogNode[] {
  return catalog.nodes.some((node) => node.kind === 'witness')
    ? catalog.nodes.filter((node) => node.kind !== 'witness')
    : catalog.nodes;
}

/** Of these, the ones that placement gives blocks to: neither being drained nor out. */
export function activeNodes(catalog: Pick<Catalog, 'nodes'>): readonly CatalogNode[] {
  const withData = dataNodes(catalog);
  const isLeftOut = (node: CatalogNode): boolean => isDraining(node) || node.out === true;
  return withData.some(isLeftOut) ? withData.filter((node) => !isLeftOut(node)) : withData;
}

/** Of these, the ones that stay: also those that are out, which are only down. */
export function stayingNodes(catalog: Pick<Catalog, 'nodes'>): readonly CatalogNode[] {
  return dataNodes(catalog).filter((node) => !isDraining(node));
}

function isDraining(node: CatalogNode): boolean {
  return node.draining === true;
}

export function isDrained(catalog: Pick<Catalog, 'nodes'>, id: NodeId | null): boolean {
  return catalog.nodes.some((node) => node.id === id && node.draining === true);
}

export function putNode(catalog: Catalog, node: CatalogNode, epoch: Epoch): Partial<Catalog> {
  const old = catalog.nodes.find((other) => other.id === node.id);
  if (old !== undefined) {
    if (old.storeId !== node.storeId) {
      throw new ConflictError(`node ${node.id} exists with another data directory (store ${old.storeId})`, {
        remedy: `Choose another node id with --id, or start the node on its own data directory.`,
      });
    }
    if (old.kind !== node.kind) {
      throw new UsageError(`node ${node.id} is ${old.kind ?? 'a node with data'} and stays so`, {
        remedy: 'Choose another name with --id.',
      });
    }
    if (old.draining !== node.draining) throw new UsageError('draining is begun and undone by a change of its own');
    if (old.out !== node.out) throw new UsageError('a node is left out and taken in by a change of its own');
    const nodes = catalog.nodes.map((other) => (other === old ? node : other));
    if (node.kind === 'witness') return { nodes };
    return placementOf(old) === placementOf(node) ? { nodes } : { nodes, pools: moved(catalog.pools, epoch) };
  }
  checkNotRemoved(catalog, node);
  const nodes = [...catalog.nodes, node];
  if (node.kind === 'witness') return { nodes };
  return { nodes, groups: withLearner(catalog.groups, node.id, nodes), pools: moved(catalog.pools, epoch) };
}

/** Begins or ends a node's draining: placement leaves it out, and what is to be replicated counts without it. */
export function setDraining(catalog: Catalog, id: NodeId, draining: boolean, epoch: Epoch): Partial<Catalog> {
  const old = nodeById(catalog, id);
  if (isDraining(old) === draining) {
    throw new UsageError(`node ${id} ${draining ? 'is being drained already' : 'is not being drained'}`);
  }
  const { draining: _, ...rest } = old;
  const changed: CatalogNode = draining ? { ...rest, draining: true } : rest;
  const nodes = catalog.nodes.map((node) => (node === old ? changed : node));
  if (old.kind === 'witness') return { nodes };
  if (activeNodes({ nodes }).length === 0) {
    throw new UsageError(`node ${id} is the last one that takes data`, {
      remedy: 'Add another node first (`tatami node join`), or undo the draining of another one.',
    });
  }
  const wanted = defaultMinReplicas(stayingNodes({ nodes }).length);
  const groups = catalog.groups.map((group): Group => {
    const minReplicas = draining ? Math.min(group.minReplicas, wanted) : Math.max(group.minReplicas, wanted);
    return minReplicas === group.minReplicas ? group : nextEpoch(group, { minReplicas });
  });
  return { nodes, groups, pools: moved(catalog.pools, epoch) };
}

/** Leaves a node that is down out of placement, or takes it in again. Groups, votes and bounds stay as they are. */
export function setOut(catalog: Catalog, id: NodeId, out: boolean, epoch: Epoch): Partial<Catalog> {
  const old = nodeById(catalog, id);
  if (old.kind === 'witness') throw new UsageError(`witness ${id} holds no data: it is never left out of placement`);
  if ((old.out === true) === out) throw new UsageError(`node ${id} is ${out ? 'out' : 'in'} already`);
  const { out: _, ...rest } = old;
  const changed: CatalogNode = out ? { ...rest, out: true } : rest;
  const nodes = catalog.nodes.map((node) => (node === old ? changed : node));
  if (activeNodes({ nodes }).length === 0) throw new UsageError(`node ${id} is the last one that takes data`);
  return { nodes, pools: moved(catalog.pools, epoch) };
}

/** Takes a node that serves nothing out. Its vote goes with it: that is one voter less, as any change of them may be. */
export function removeNode(catalog: Catalog, id: NodeId, epoch: Epoch): Partial<Catalog> {
  const old = nodeById(catalog, id);
  const gone = withoutNode(catalog, old, epoch);
  if (old.kind === 'witness') return gone;
  if (activeNodes(gone).length === 0) throw new UsageError(`node ${id} is the last one that takes data`);
  const minReplicas = defaultMinReplicas(stayingNodes(gone).length);
  const groups = gone.groups.map((group) =>
    group.minReplicas > minReplicas ? nextEpoch(group, { minReplicas }, catalog) : group,
  );
  return { ...gone, groups, pools: moved(catalog.pools, epoch) };
}

/**
 * A new node in the place of one that is gone for good. It stands in placement under the old one's name, so that it gets
 * what the old one had and nothing else moves; in all else it has its own.
 */
export function replaceNode(catalog: Catalog, id: NodeId, node: CatalogNode, epoch: Epoch): Partial<Catalog> {
  const old = nodeById(catalog, id);
  if (catalog.nodes.some((other) => other.id === node.id)) {
    throw new ConflictError(`the cluster has a node ${node.id} already`, { remedy: 'Choose another name with --id.' });
  }
  if (old.kind !== node.kind)
    throw new UsageError(`node ${id} is ${old.kind ?? 'a node with data'}, ${node.id} is not`);
  checkNotRemoved(catalog, node);
  const gone = withoutNode(catalog, old, epoch);
  const nodes = catalog.nodes.map((other) => (other === old ? { ...node, placedAs: drawnAs(old) } : other));
  if (node.kind === 'witness') return { ...gone, nodes };
  const groups = withLearner(gone.groups, node.id, nodes, catalog);
  const pools = moved(catalog.pools, epoch).map((pool): Pool => {
    const renamed = Object.entries(pool.upmap).map(([pg, list]) => [pg, list.map((n) => (n === id ? node.id : n))]);
    return { ...pool, upmap: Object.fromEntries(renamed) as Pool['upmap'] };
  });
  return { ...gone, nodes, groups, pools };
}

/** The name under which a node stands in placement. */
export function drawnAs(node: CatalogNode): NodeId {
  return node.placedAs ?? node.id;
}

function nodeById(catalog: Catalog, id: NodeId): CatalogNode {
  const found = catalog.nodes.find((node) => node.id === id);
  if (found !== undefined) return found;
  const removed = catalog.removed?.find((node) => node.id === id);
  if (removed !== undefined) {
    throw new UsageError(`node ${id} was removed in catalog ${removed.epoch}`, {
      remedy: 'There is nothing left to do for it.',
    });
  }
  throw new UsageError(`there is no node ${id}`, {
    remedy: `The nodes are: ${catalog.nodes.map((node) => node.id).join(', ')}.`,
  });
}

/** R11: neither its store nor its name comes back. */
function checkNotRemoved(catalog: Catalog, node: CatalogNode): void {
  const removed = catalog.removed?.find(({ id, storeId }) => id === node.id || storeId === node.storeId);
  if (removed !== undefined) throw removedError(removed.id, removed.epoch, removed.storeId === node.storeId);
}

/** `ownStore`: the data directory is that of the node that was removed. */
export function removedError(id: NodeId, epoch: number, ownStore: boolean): RemovedError {
  return new RemovedError(`node ${id} was removed from the cluster (catalog ${epoch})`, {
    remedy: ownStore
      ? 'Its data directory is of no use to the cluster any more. To bring the machine back, join with a new directory and another name: tatami node join.'
      : 'A name is not used twice: choose another one with --id.',
    info: { node: id, epoch },
  });
}

/** How the catalog says that a store was removed. */
export function removalOf(catalog: Catalog, storeId: string): RemovedError | undefined {
  const removed = catalog.removed?.find((node) => node.storeId === storeId);
  return removed && removedError(removed.id, removed.epoch, true);
}

/** Without the node in nodes, voters and groups, and remembered as removed. Placement is the caller's. */
function withoutNode(catalog: Catalog, { id, storeId }: CatalogNode, epoch: Epoch) {
  const serving = catalog.groups.filter((group) => group.primary === id || group.secondary === id);
  if (serving.length > 0) {
    throw new UsageError(`node ${id} still serves ${serving.map((group) => group.id).join(', ')}`, {
      remedy: 'Drain it first (`tatami node drain`); if it is down, wait until another node has taken over.',
    });
  }
  const voters = catalog.voters.filter((voter) => voter !== id);
  if (voters.length === 0) {
    throw new UsageError(`node ${id} is the only voter on the catalog`, {
      remedy: 'Another node must have its vote first: drain it (`tatami node drain`).',
    });
  }
  const groups = catalog.groups.map((group): Group => {
    if (!group.learners.includes(id)) return group;
    return nextEpoch(group, { learners: group.learners.filter((learner) => learner !== id) });
  });
  const nodes = catalog.nodes.filter((node) => node.id !== id);
  const removed = [...(catalog.removed ?? []), { id, storeId, epoch }].slice(-REMOVED_MAX_COUNT);
  return { nodes, voters, groups, removed };
}

/** `before`: a catalog in which some of the groups may already have got the new epoch. */
function withLearner(
  groups: readonly Group[],
  id: NodeId,
  nodes: readonly CatalogNode[],
  before?: Catalog,
): readonly Group[] {
  const wanted = defaultMinReplicas(stayingNodes({ nodes }).length);
  return groups.map((group) => {
    const minReplicas = Math.max(group.minReplicas, wanted);
    return nextEpoch(group, { learners: [...group.learners, id], minReplicas }, before);
  });
}

/**
 * A change of learners or bounds keeps the activated set (R2): the same members are in sync in the next epoch. A change of
 * the catalog takes a group one epoch on at most: with `before`, not again what was taken on from there already.
 */
function nextEpoch(group: Group, changes: Partial<Group>, before?: Catalog): Group {
  const old = before?.groups.find((other) => other.id === group.id);
  if (old !== undefined && old.epoch < group.epoch) return { ...group, ...changes };
  const epoch = (group.epoch + 1) as Epoch;
  const { lastActivated } = group;
  const carried = lastActivated.epoch === group.epoch ? { epoch, members: lastActivated.members } : lastActivated;
  return { ...group, ...changes, epoch, lastActivated: carried };
}

function placementOf(node: CatalogNode): string {
  return JSON.stringify([node.weight, node.host, node.rack, node.zone, drawnAs(node)]);
}

function moved(pools: readonly Pool[], epoch: Epoch): Pool[] {
  return pools.map((pool) => ({ ...pool, placementEpoch: epoch }));
}
