/**
 * Placement by calculation alone: nodes of unequal size in three racks; how level the copies are, and how much moves when one
 * joins. Against plain straw2, which hashing alone gives.
 */
import { levelUpmap } from '../src/catalog/placement-level.ts';
import { placementOrder } from '../src/catalog/placement.ts';
import { applyChange, firstCatalog } from '../src/catalog/document.ts';
import type { Catalog, CatalogNode, Pool } from '../src/catalog/types.ts';
import type { HistoryId, NodeId } from '../src/ids.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

const COPIES = 3;
const RACKS = 3;
/** Nodes, and placement groups: 12 to 150 copies of these a node. */
const SIZES = [
  [10, 512],
  [100, 4096],
  [1000, 4096],
] as const;

function nodeOf(index: number): CatalogNode {
  return {
    id: `n${index}` as NodeId,
    storeId: `${index}`.padStart(16, '0'),
    address: `n${index}:7400`,
    weight: 1_000 * (1 + (index % 4)),
    host: `h${index}`,
    rack: `r${Math.floor(index / 4) % RACKS}`,
    zone: 'zone',
  };
}

function catalogOf(count: number, pgCount: number): Catalog {
  const nodes = Array.from({ length: count }, (_, index) => nodeOf(index));
  const first = firstCatalog({
    clusterId: '0'.repeat(32),
    historyId: '0'.repeat(16) as HistoryId,
    nodes,
    copies: COPIES,
  });
  return { ...first, pools: first.pools.slice(0, 1).map((pool): Pool => ({ ...pool, pgCount, domain: 'rack' })) };
}

function headsOf(catalog: Catalog): (readonly NodeId[])[] {
  const [pool] = catalog.pools;
  if (pool === undefined) return [];
  return Array.from({ length: pool.pgCount }, (_, pg) => placementOrder(catalog, pool, pg).slice(0, COPIES));
}

/** Of the fullest node: what it holds over what its size asks of it. Racks of unequal size count: see `shares` of the leveller. */
function fullest(catalog: Catalog, heads: readonly (readonly NodeId[])[]): number {
  const held = new Map<string, number>();
  for (const head of heads) for (const id of head) held.set(id, (held.get(id) ?? 0) + 1);
  const rackWeight = new Map<string, number>();
  for (const { rack, weight } of catalog.nodes) rackWeight.set(rack, (rackWeight.get(rack) ?? 0) + weight);
  // Three copies in three racks: each rack holds one of each placement group.
  const ratios = catalog.nodes.map(({ id, rack, weight }) => {
    const share = (heads.length * weight) / (rackWeight.get(rack) ?? weight);
    return (held.get(id) ?? 0) / share;
  });
  return Math.max(...ratios);
}

/** Copies that moved, over those that the new node got. */
function movedOverGained(before: readonly (readonly NodeId[])[], after: readonly (readonly NodeId[])[], added: NodeId) {
  let moved = 0;
  let gained = 0;
  after.forEach((head, pg) => {
    moved += head.filter((id) => before[pg]?.includes(id) !== true).length;
    if (head.includes(added)) gained++;
  });
  return moved / Math.max(1, gained);
}

function rowsOf(count: number, pgCount: number): Row[] {
  const plain = catalogOf(count, pgCount);
  const level: Catalog = { ...plain, pools: plain.pools.map((pool) => ({ ...pool, upmap: levelUpmap(plain, pool) })) };
  const added = nodeOf(count);
  const joined = applyChange(level, { kind: 'putNode', node: added });
  const plainJoined: Catalog = { ...plain, nodes: [...plain.nodes, added] };
  const heads = {
    plain: headsOf(plain),
    level: headsOf(level),
    joined: headsOf(joined),
    plainJoined: headsOf(plainJoined),
  };
  const row = (name: string, value: number, hashed: number, atMost: number): Row => ({
    name: `${count} nodes: ${name}`,
    value,
    unit: 'x',
    yardstick: { name: 'plain straw2', value: hashed },
    goal: { atMost },
    spread: [value, value],
  });
  const oneMore = 1 + count / (pgCount * COPIES * 0.4);
  return [
    row('fullest / its share', fullest(joined, heads.joined), fullest(plainJoined, heads.plainJoined), oneMore),
    row(
      'moved / gained by a join',
      movedOverGained(heads.level, heads.joined, added.id),
      movedOverGained(heads.plain, heads.plainJoined, added.id),
      1.05,
    ),
  ];
}

export const placement: Benchmark = {
  name: 'placement',
  about: 'by calculation: how level copies are on 10, 100, 1000 unequal nodes in three racks, and what a join moves',
  async run(context: BenchContext): Promise<readonly Row[]> {
    const rows: Row[] = [];
    for (const [count, pgCount] of SIZES) {
      const startMs = performance.now();
      rows.push(...rowsOf(count, pgCount));
      await context.note(`${count} nodes, ${pgCount} placement groups: ${Math.round(performance.now() - startMs)} ms`);
    }
    return rows;
  },
};
