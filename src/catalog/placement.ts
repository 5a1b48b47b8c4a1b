/**
 * Where a block belongs: a pure function of the catalog, so every node and client finds every block without asking.
 *
 * A block's id is hashed to a placement group; a placement group has an order over ALL nodes, of which the first
 * `copies` should hold its blocks and the rest are where a writer goes past full or dead nodes, and a reader past a
 * miss.
 *
 * The order is Ceph's straw2: every node draws ln(u)/weight with u in (0, 1] hashed from (node, pool, placement group),
 * the largest draw is first, the next largest second and so on. Each draw depends on one node alone, so a node that is
 * added, removed or re-weighted moves only the placement groups that it wins or loses. As -ln(u)/weight is
 * exponentially distributed with rate `weight`, the least of the nodes of one rack is distributed as one draw of the
 * rack's summed weight: taking the best node of each failure domain first therefore equals a straw2 over domains and
 * then over the nodes within, with no second draw.
 *
 * Only integers are compared: ECMAScript does not promise the same Math.log everywhere, and two machines that order
 * two nodes differently would lose blocks. Logarithms come from a table made by exact integer steps; draws are
 * compared by cross-multiplication, never divided.
 */
import { xxh64, xxh64Low32 } from '../xxhash.ts';
import { StateError } from '../errors.ts';
import { activeNodes, dataNodes, drawnAs } from '../catalog/membership.ts';
import type { Catalog, CatalogNode, FailureDomain, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';

/** Fraction bits of the logarithm. */
const LOG_FRACTION_BITS = 20;
/** Draws use 16 hash bits, as Ceph's do: a tie among equal weights is one in 65536, and then the node's name decides. */
const DRAW_BITS = 16;
/** Largest weight (GiB); with 2^24 as the largest logarithm every product stays below 2^53 and is exact. */
const WEIGHT_MAX = 2 ** 28;

/** By u - 1; 0: not asked for yet (or u is 2^16, whose logarithm it is). Whole it would take some 50 ms at each program's start. */
const knownLogs = new Int32Array(2 ** DRAW_BITS);
const MANTISSA_BITS = 26;
const MANTISSA_ONE = 2 ** (MANTISSA_BITS - 1);

/**
 * -log2(u / 2^16) in units of 2^-20, for u in 1..65536, by the shift-and-square method: the integer part is the
 * position of the top bit; squaring the mantissa doubles the logarithm, so each squaring that reaches 2 yields one more
 * bit of the fraction. Mantissas have 26 bits: their squares are below 2^53, exact in a double.
 */
function negativeLog2(u: number): number {
  const known = knownLogs[u - 1] ?? 0;
  if (known !== 0) return known;
  const top = 31 - Math.clz32(u);
  let mantissa = u << (MANTISSA_BITS - 1 - top);
  let log = top;
  for (let bit = 0; bit < LOG_FRACTION_BITS; bit++) {
    mantissa = Math.floor((mantissa * mantissa) / MANTISSA_ONE);
    log *= 2;
    if (mantissa >= 2 * MANTISSA_ONE) {
      mantissa = Math.floor(mantissa / 2);
      log += 1;
    }
  }
  return (knownLogs[u - 1] = DRAW_BITS * 2 ** LOG_FRACTION_BITS - log);
}

/** One node's draw: smaller cost/weight is better (the sign of ln(u) is dropped). */
interface Draw {
  readonly node: CatalogNode;
  readonly cost: number;
  readonly weight: number;
}

function compareDraws(a: Draw, b: Draw): number {
  const difference = a.cost * b.weight - b.cost * a.weight;
  if (difference !== 0) return difference;
  const [nameA, nameB] = [drawnAs(a.node), drawnAs(b.node)];
  return nameA < nameB ? -1 : nameA > nameB ? 1 : 0;
}

const encoder = new TextEncoder();
/** Seeds by node name; names are few and short. */
const seeds = new WeakMap<CatalogNode, bigint>();

function seedOf(node: CatalogNode): bigint {
  let seed = seeds.get(node);
  if (seed === undefined) {
    seed = xxh64(encoder.encode(drawnAs(node)));
    seeds.set(node, seed);
  }
  return seed;
}

function integerWeight(node: CatalogNode): number {
  return Math.min(WEIGHT_MAX, Math.max(1, Math.floor(node.weight)));
}

/** What must differ for two nodes to be in different failure domains of that kind. */
export function domainKey(node: CatalogNode, domain: FailureDomain): string {
  switch (domain) {
    case 'node':
      return node.id;
    case 'host':
      return node.host;
    case 'rack':
      return `${node.zone}\0${node.rack}`;
    case 'zone':
      return node.zone;
  }
}

/** From the pool's domain down to single nodes. */
export const domainsBelow: Readonly<Record<FailureDomain, readonly FailureDomain[]>> = {
  zone: ['zone', 'rack', 'host', 'node'],
  rack: ['rack', 'host', 'node'],
  host: ['host', 'node'],
  node: ['node'],
};

/** The placement group of a block, 0 <= pg < pool.pgCount. */
export function pgOf(pool: Pool, id: BlockId): number {
  return xxh64Low32(id) % pool.pgCount;
}

function drawsOf(nodes: readonly CatalogNode[], pool: Pool, pg: number): Draw[] {
  const key = new Uint8Array(8);
  const view = new DataView(key.buffer);
  view.setUint32(0, pool.id, true);
  view.setUint32(4, pg, true);
  return nodes.map((node) => ({
    node,
    cost: negativeLog2((xxh64Low32(key, seedOf(node)) & (2 ** DRAW_BITS - 1)) + 1),
    weight: integerWeight(node),
  }));
}

/** The first `count` of {@link straw2Order}, without putting the others in order. */
export function straw2Head(nodes: readonly CatalogNode[], pool: Pool, pg: number, count: number): readonly NodeId[] {
  /** The best of each of the best domains, best first; at most `count`. */
  const best: { readonly draw: Draw; readonly domain: string }[] = [];
  for (const draw of drawsOf(nodes, pool, pg)) {
    const last = best[count - 1];
    if (last !== undefined && compareDraws(last.draw, draw) < 0) continue;
    const domain = domainKey(draw.node, pool.domain);
    const same = best.findIndex((one) => one.domain === domain);
    if (same >= 0) {
      if (compareDraws((best[same] as (typeof best)[number]).draw, draw) < 0) continue;
      best.splice(same, 1);
    }
    const at = best.findIndex((one) => compareDraws(draw, one.draw) < 0);
    best.splice(at < 0 ? best.length : at, 0, { draw, domain });
    best.length = Math.min(best.length, count);
  }
  // Not so many domains: then several nodes of one.
  if (best.length < Math.min(count, nodes.length)) return straw2Order(nodes, pool, pg).slice(0, count);
  return best.map(({ draw }) => draw.node.id);
}

/**
 * All nodes of the catalog in the order straw2 gives them, upmap not yet applied. Nodes of distinct failure domains
 * come first; when those run out, nodes of distinct domains one step finer, and so on.
 */
export function straw2Order(nodes: readonly CatalogNode[], pool: Pool, pg: number): readonly NodeId[] {
  const draws = drawsOf(nodes, pool, pg).sort(compareDraws);
  const order: NodeId[] = [];
  const taken = new Set<string>();
  let left: Draw[] = draws;
  for (const domain of domainsBelow[pool.domain]) {
    taken.clear();
    const placed = new Set(order);
    for (const { node } of draws) if (placed.has(node.id)) taken.add(domainKey(node, domain));
    const rest: Draw[] = [];
    for (const draw of left) {
      const domainOfNode = domainKey(draw.node, domain);
      if (taken.has(domainOfNode)) {
        rest.push(draw);
      } else {
        taken.add(domainOfNode);
        order.push(draw.node.id);
      }
    }
    left = rest;
    if (left.length === 0) break;
  }
  return order;
}

/** Catalogs never change once made, so an order is computed once a catalog. */
type PoolOrders = Map<number, (readonly NodeId[] | undefined)[]>;
const memo = new WeakMap<Catalog, PoolOrders>();

/**
 * Every node of the catalog that holds data, the best first, for one placement group: straw2 with the pool's upmap exception, if any,
 * in front, those that are being drained behind. The first {@link wantedCopies} should hold the blocks.
 */
export function placementOrder(catalog: Catalog, pool: Pool, pg: number): readonly NodeId[] {
  if (!Number.isInteger(pg) || pg < 0 || pg >= pool.pgCount) {
    throw new StateError(`placement group ${pg} of pool ${pool.id} is outside 0..${pool.pgCount - 1}`);
  }
  let pools = memo.get(catalog);
  if (pools === undefined) memo.set(catalog, (pools = new Map() as PoolOrders));
  let orders = pools.get(pool.id);
  if (orders === undefined) pools.set(pool.id, (orders = []));
  let order = orders[pg];
  if (order === undefined) {
    order = orderOf(catalog, pool, pg);
    orders[pg] = order;
  }
  return order;
}

/** The first `count` of {@link placementOrder}, or more, without putting the others in order. */
export function placementHead(catalog: Catalog, pool: Pool, pg: number, count: number): readonly NodeId[] {
  const active = activeNodes(catalog);
  if (active.length < count) return placementOrder(catalog, pool, pg);
  const exception = pool.upmap[pg] ?? [];
  const named = exception.length > 0 ? new Set(exception) : undefined;
  const known = named && new Set(active.flatMap(({ id }) => (named.has(id) ? [id] : [])));
  if (known === undefined || named === undefined) return straw2Head(active, pool, pg, count);
  const head = [...named].filter((id) => known.has(id));
  if (head.length >= count) return head;
  return [...head, ...straw2Head(active, pool, pg, count + head.length).filter((id) => !known.has(id))];
}

/** Nodes that are being drained come last: nothing should be there, but much still is. */
function orderOf(catalog: Catalog, pool: Pool, pg: number): readonly NodeId[] {
  const active = activeNodes(catalog);
  const order = applyUpmap(straw2Order(active, pool, pg), pool.upmap[pg]);
  const draining = dataNodes(catalog).filter((node) => !active.includes(node));
  return draining.length === 0 ? order : [...order, ...straw2Order(draining, pool, pg)];
}

/** Copies that each block of the pool should have: fewer than it asks for where there are not so many nodes. */
export function wantedCopies(catalog: Pick<Catalog, 'nodes'>, pool: Pool): number {
  return Math.min(pool.copies, activeNodes(catalog).length);
}

function applyUpmap(order: readonly NodeId[], exception: readonly NodeId[] | undefined): readonly NodeId[] {
  if (exception === undefined) return order;
  const known = new Set(order);
  const head = [...new Set(exception)].filter((node) => known.has(node));
  return [...head, ...order.filter((node) => !head.includes(node))];
}

/** The order for one block: {@link placementOrder} of its placement group. */
export function placementOf(catalog: Catalog, pool: Pool, id: BlockId): readonly NodeId[] {
  return placementOrder(catalog, pool, pgOf(pool, id));
}

/** The pool of that number, or undefined. */
export function findPool(catalog: Catalog, id: number): Pool | undefined {
  return catalog.pools.find((pool) => pool.id === id);
}

/**
 * The nodes to write to: the first `copies` of the order that are not to be skipped (down or too full). Fewer when
 * there are no more.
 */
export function writeTargets(
  order: readonly NodeId[],
  copies: number,
  isSkipped: (node: NodeId) => boolean,
): readonly NodeId[] {
  const targets: NodeId[] = [];
  for (const node of order) {
    if (targets.length >= copies) break;
    if (!isSkipped(node)) targets.push(node);
  }
  return targets;
}
