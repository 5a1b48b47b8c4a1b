/**
 * The balancer behind a pool's upmap: hashing alone spreads placement groups unevenly (with 128 of them, easily 10%
 * off); exceptions for a few of them level the copies to within one placement group of each node's share.
 */
import { domainKey, placementOrder, straw2Order } from './placement.ts';
import { activeNodes } from '../catalog/membership.ts';
import type { Catalog, CatalogNode, Pool } from '../catalog/types.ts';
import type { NodeId } from '../ids.ts';

/**
 * An upmap under which each node holds its share (by weight) of the pool's copies, to about +-1 placement group, and is
 * also the first of its share of lists. Moves as few copies as it can and only onto nodes of a failure domain that the
 * list has not yet. Pure; give the result as the `upmap` of the pool's next version (with a new placementEpoch).
 */
export function levelUpmap(catalog: Catalog, pool: Pool): Record<number, readonly NodeId[]> {
  const copies = Math.min(pool.copies, activeNodes(catalog).length);
  const nodes = new Map(activeNodes(catalog).map((node) => [node.id, node]));
  const heads: NodeId[][] = [];
  for (let pg = 0; pg < pool.pgCount; pg++)
    heads.push([...straw2Order(activeNodes(catalog), pool, pg).slice(0, copies)]);
  levelCopies(heads, nodes, pool, copies);
  levelFirsts(heads, nodes);
  const upmap: Record<number, readonly NodeId[]> = {};
  heads.forEach((head, pg) => {
    const plain = straw2Order(activeNodes(catalog), pool, pg);
    if (head.some((node, index) => node !== plain[index])) upmap[pg] = head;
  });
  return upmap;
}

/** Copies (placement groups in the first `copies` of the list) per node, in the catalog's order of nodes. */
export function copiesPerNode(catalog: Catalog, pool: Pool): ReadonlyMap<NodeId, number> {
  const counts = new Map<NodeId, number>(activeNodes(catalog).map((node) => [node.id, 0]));
  for (let pg = 0; pg < pool.pgCount; pg++) {
    for (const node of placementOrder(catalog, pool, pg).slice(0, pool.copies))
      counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}

/** Each node's share of `total`, by weight, but no node more than `most` (a list names a node once). */
function shares(nodes: ReadonlyMap<NodeId, CatalogNode>, total: number, most: number): Map<NodeId, number> {
  const result = new Map<NodeId, number>();
  let open = [...nodes.values()];
  let left = total;
  for (;;) {
    const weight = open.reduce((sum, node) => sum + node.weight, 0);
    const capped = open.filter((node) => (left * node.weight) / weight > most);
    if (capped.length === 0) {
      for (const node of open) result.set(node.id, (left * node.weight) / weight);
      return result;
    }
    for (const node of capped) result.set(node.id, most);
    left -= capped.length * most;
    open = open.filter((node) => !capped.includes(node));
  }
}

function levelCopies(heads: NodeId[][], nodes: ReadonlyMap<NodeId, CatalogNode>, pool: Pool, copies: number): void {
  const share = shares(nodes, heads.length * copies, heads.length);
  const excess = new Map<NodeId, number>();
  for (const id of nodes.keys()) excess.set(id, -(share.get(id) ?? 0));
  for (const head of heads) for (const node of head) excess.set(node, (excess.get(node) ?? 0) + 1);
  const domain = (id: NodeId): string => {
    const node = nodes.get(id);
    return node === undefined ? '' : domainKey(node, pool.domain);
  };
  // Each move lowers the sum of squared excess, so this ends; the bound is a belt to the braces.
  for (let moves = 0; moves < heads.length * copies; moves++) {
    const byExcess = [...excess].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    if (!moveOne(heads, byExcess, excess, domain)) return;
  }
}

/** Moves one copy from the fullest node that can give to the emptiest that can take. False when no move helps. */
function moveOne(
  heads: NodeId[][],
  byExcess: readonly (readonly [NodeId, number])[],
  excess: Map<NodeId, number>,
  domain: (id: NodeId) => string,
): boolean {
  for (const [from, over] of byExcess) {
    for (let i = byExcess.length - 1; i >= 0; i--) {
      const entry = byExcess[i];
      if (entry === undefined) continue;
      const [to, under] = entry;
      if (over - under <= 1) break;
      const head = heads.find(
        (h) => h.includes(from) && !h.includes(to) && !h.some((node) => node !== from && domain(node) === domain(to)),
      );
      if (head === undefined) continue;
      head[head.indexOf(from)] = to;
      excess.set(from, over - 1);
      excess.set(to, under + 1);
      return true;
    }
  }
  return false;
}

/** Swaps first and later nodes within lists, so that the first (which forwards what is written) is shared out as well. */
function levelFirsts(heads: NodeId[][], nodes: ReadonlyMap<NodeId, CatalogNode>): void {
  const share = shares(nodes, heads.length, heads.length);
  const excess = new Map<NodeId, number>();
  for (const id of nodes.keys()) excess.set(id, -(share.get(id) ?? 0));
  for (const head of heads) if (head[0] !== undefined) excess.set(head[0], (excess.get(head[0]) ?? 0) + 1);
  for (let moves = 0; moves < heads.length; moves++) {
    let best: { head: NodeId[]; index: number; gain: number } | undefined;
    for (const head of heads) {
      const first = head[0];
      if (first === undefined) continue;
      for (let index = 1; index < head.length; index++) {
        const gain = (excess.get(first) ?? 0) - (excess.get(head[index] as NodeId) ?? 0);
        if (gain > 1 && (best === undefined || gain > best.gain)) best = { head, index, gain };
      }
    }
    if (best === undefined) return;
    const first = best.head[0] as NodeId;
    const other = best.head[best.index] as NodeId;
    best.head[0] = other;
    best.head[best.index] = first;
    excess.set(first, (excess.get(first) ?? 0) - 1);
    excess.set(other, (excess.get(other) ?? 0) + 1);
  }
}
