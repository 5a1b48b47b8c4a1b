/**
 * Which holder of a block to ask first. All copies are equal, so the question is only who answers soonest: fewest
 * requests open there (ours, and as far as it has told those of others), weighted by distance. Placement plays no part
 * beyond saying who should have it; ties go by the block's hash, so that many readers spread over the copies.
 */
import { placementOrder, pgOf } from '../catalog/placement.ts';
import type { Catalog, CatalogNode, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';
import { isDoubtful } from '../net/membership/board.ts';
import type { Network } from '../net/types.ts';

/** Round trips below this are one machine room: differences are noise. */
const NEAR_RTT_MS = 5;
/** A holder counts as far when its round trips take this many times the nearest one's: less is load, not distance. */
const FAR_RATIO = 4;
/** What distance costs a node in the choice: as many requests open. It still gets its part, so that it can show better. */
const FAR_FACTOR = 2;
/** The same for another zone and another rack than ours, where we know ours. */
const OTHER_ZONE_FACTOR = 2;
const OTHER_RACK_FACTOR = 1.5;
/** What it costs to go to another machine where a copy is on this one's disk: as many requests open. */
const ELSEWHERE_FACTOR = 3;
/** How long a node is asked after the others when another has overtaken it; doubles with each time in a row. */
const AVOIDED_LEAST_MS = 100;
const AVOIDED_MOST_MS = 2_000;
/** A node that was silent is asked after the others until it is heard again (it answers pings), and no longer than this. */
const SILENT_MOST_MS = 5_000;
/** What a node said about its work is old after this. */
const LOAD_KEPT_MS = 500;

interface Avoided {
  readonly strikes: number;
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly silent: boolean;
}

/** What we saw ourselves of each node's answers to data requests. */
export class HolderStats {
  readonly #avoided = new Map<NodeId, Avoided>();
  readonly #loads = new Map<NodeId, { readonly count: number; readonly untilMs: number }>();

  /** It has answered in time, or late but well; `load`: requests for blocks that it had then, if it said so. */
  answered(node: NodeId, nowMs: number, load?: number): void {
    this.#avoided.delete(node);
    if (load !== undefined) this.#loads.set(node, { count: load, untilMs: nowMs + LOAD_KEPT_MS });
  }

  /** Another, asked later, has answered first; or (`silent`) nothing at all was heard of it since it was asked. */
  wasSlow(node: NodeId, nowMs: number, silent: boolean): void {
    const before = this.#avoided.get(node);
    // Several requests that were under way at once are slow together: one strike.
    if (before !== undefined && nowMs < before.untilMs && (before.silent || !silent)) return;
    const strikes = (before?.strikes ?? 0) + 1;
    const forMs = Math.min(AVOIDED_MOST_MS, AVOIDED_LEAST_MS * 2 ** (strikes - 1));
    this.#avoided.set(node, { strikes, sinceMs: nowMs, untilMs: nowMs + forMs, silent });
  }

  /** Whether to ask it after the others. `heardMs`: when a message of it was last received. */
  isAvoided(node: NodeId, nowMs: number, heardMs: number | undefined): boolean {
    const avoided = this.#avoided.get(node);
    if (avoided === undefined) return false;
    if (nowMs < avoided.untilMs) return true;
    return (
      avoided.silent && heardMs !== undefined && heardMs <= avoided.sinceMs && nowMs < avoided.sinceMs + SILENT_MOST_MS
    );
  }

  /** Requests for blocks that it has, ours included, as it last said. */
  load(node: NodeId, nowMs: number): number {
    const load = this.#loads.get(node);
    return load !== undefined && load.untilMs > nowMs ? load.count : 0;
  }
}

/** Nodes whose disks this process reads itself. */
export interface NearNodes {
  isNear(node: NodeId): boolean;
  inFlightCount(node: NodeId): number;
}

export interface ReadOrderOptions {
  readonly network: Pick<Network, 'peer'>;
  readonly stats: HolderStats;
  readonly nowMs: number;
  readonly near?: NearNodes | undefined;
  /** Many read the same: all begin with the same holder of a block, who then knows all of its readers. */
  readonly together?: boolean;
}

/**
 * All nodes in the order to ask: those that should have the block, best first; then every other one that is not known
 * to be down, in placement order; then the ones believed down, by us or by other nodes (belief may be wrong).
 */
export function readOrder(catalog: Catalog, pool: Pool, id: BlockId, options: ReadOrderOptions): NodeId[] {
  const { network, stats, nowMs, near, together = false } = options;
  const order = placementOrder(catalog, pool, pgOf(pool, id));
  const copies = Math.min(pool.copies, order.length);
  const rotation = ((id[0] ?? 0) << 8) | (id[1] ?? 0);
  const expected: { node: NodeId; avoided: boolean; cost: number; tie: number }[] = [];
  const others: NodeId[] = [];
  const down: NodeId[] = [];
  const nearestMs = Math.min(...order.slice(0, copies).map((node) => network.peer(node).rttMs ?? Infinity));
  const someNear = near !== undefined && order.slice(0, copies).some((node) => near.isNear(node));
  const place = near === undefined ? undefined : ownPlace(catalog, near);
  order.forEach((node, index) => {
    const peer = network.peer(node);
    if (peer.state === 'down' || isDoubtful(peer.member)) {
      down.push(node);
    } else if (index < copies) {
      const isFar = (peer.rttMs ?? 0) > Math.max(NEAR_RTT_MS, FAR_RATIO * nearestMs);
      const isElsewhere = someNear && !near.isNear(node);
      const distance = Math.max(isFar ? FAR_FACTOR : 1, placeFactor(catalog, place, node));
      const inFlightCount = peer.inFlightCount + (near?.inFlightCount(node) ?? 0);
      const load = together ? 0 : Math.max(inFlightCount, stats.load(node, nowMs));
      const cost = (load + 1) * distance * (isElsewhere ? ELSEWHERE_FACTOR : 1);
      const avoided = stats.isAvoided(node, nowMs, peer.heardMs);
      expected.push({ node, avoided, cost, tie: (index + rotation) % copies });
    } else {
      others.push(node);
    }
  });
  expected.sort((a, b) => Number(a.avoided) - Number(b.avoided) || a.cost - b.cost || a.tie - b.tie);
  return [...expected.map(({ node }) => node), ...others, ...down];
}

const places = new WeakMap<NearNodes, { readonly catalog: Catalog; readonly node: CatalogNode | undefined }>();

/** A node of this machine, which says in which rack and zone we are. */
function ownPlace(catalog: Catalog, near: NearNodes): CatalogNode | undefined {
  const known = places.get(near);
  if (known?.catalog === catalog) return known.node;
  const node = catalog.nodes.find(({ id }) => near.isNear(id));
  places.set(near, { catalog, node });
  return node;
}

function placeFactor(catalog: Catalog, place: CatalogNode | undefined, node: NodeId): number {
  if (place === undefined) return 1;
  const other = catalog.nodes.find(({ id }) => id === node);
  if (other === undefined || other.host === place.host) return 1;
  if (other.zone !== place.zone) return OTHER_ZONE_FACTOR;
  return other.rack === place.rack ? 1 : OTHER_RACK_FACTOR;
}
