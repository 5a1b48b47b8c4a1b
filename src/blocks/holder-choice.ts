/**
 * Which holder of a block to ask first. All copies are equal, so the question is only who answers soonest: fewest of
 * our requests open, weighted by distance. Placement plays no part beyond saying who should have it; ties go by the
 * block's hash, so that many readers spread over the copies.
 */
import { placementOrder, pgOf } from '../catalog/placement.ts';
import type { Catalog, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';
import { isDoubtful } from '../net/membership/board.ts';
import type { Network } from '../net/types.ts';

/** Round trips below this are one machine room: differences are noise. */
const NEAR_RTT_MS = 5;
/** A holder counts as far when its round trips take this many times the nearest one's: less is load, not distance. */
const FAR_RATIO = 4;
/** What distance costs a node in the choice: as many requests open. It still gets its part, so that it can show better. */
const FAR_FACTOR = 2;
/** What it costs to go to another machine where a copy is on this one's disk: as many requests open. */
const ELSEWHERE_FACTOR = 3;
/** How long a node that was slow is asked after the others. */
const SLOW_FOR_MS = 2_000;
/** What slowness costs a node in the choice. */
const SLOW_FACTOR = 2;
/** Weight of the newest sample in the smoothed latency. */
const LATENCY_GAIN = 0.2;

/** What we saw ourselves of each node's answers to data requests. */
export class HolderStats {
  readonly #latencyMs = new Map<NodeId, number>();
  readonly #slowUntilMs = new Map<NodeId, number>();

  /** Smoothed time of a data reply, or undefined before the first. */
  latencyMs(node: NodeId): number | undefined {
    return this.#latencyMs.get(node);
  }

  answered(node: NodeId, tookMs: number): void {
    const before = this.#latencyMs.get(node);
    this.#latencyMs.set(node, before === undefined ? tookMs : before + (tookMs - before) * LATENCY_GAIN);
  }

  /** It took so long that another was asked. */
  wasSlow(node: NodeId, nowMs: number): void {
    this.#slowUntilMs.set(node, nowMs + SLOW_FOR_MS);
  }

  isSlow(node: NodeId, nowMs: number): boolean {
    return (this.#slowUntilMs.get(node) ?? 0) > nowMs;
  }
}

/** Nodes whose disks this process reads itself. */
export interface NearNodes {
  isNear(node: NodeId): boolean;
  inFlightCount(node: NodeId): number;
}

/**
 * All nodes in the order to ask: those that should have the block, best first; then every other one that is not known
 * to be down, in placement order; then the ones believed down, by us or by other nodes (belief may be wrong).
 */
export function readOrder(
  catalog: Catalog,
  pool: Pool,
  id: BlockId,
  network: Pick<Network, 'peer'>,
  stats: HolderStats,
  nowMs: number,
  near?: NearNodes,
): NodeId[] {
  const order = placementOrder(catalog, pool, pgOf(pool, id));
  const copies = Math.min(pool.copies, order.length);
  const rotation = ((id[0] ?? 0) << 8) | (id[1] ?? 0);
  const expected: { node: NodeId; cost: number; tie: number }[] = [];
  const others: NodeId[] = [];
  const down: NodeId[] = [];
  const nearestMs = Math.min(...order.slice(0, copies).map((node) => network.peer(node).rttMs ?? Infinity));
  const someNear = near !== undefined && order.slice(0, copies).some((node) => near.isNear(node));
  order.forEach((node, index) => {
    const peer = network.peer(node);
    if (peer.state === 'down' || isDoubtful(peer.member)) {
      down.push(node);
    } else if (index < copies) {
      const isFar = (peer.rttMs ?? 0) > Math.max(NEAR_RTT_MS, FAR_RATIO * nearestMs);
      const isElsewhere = someNear && !near.isNear(node);
      const distance =
        (isFar ? FAR_FACTOR : 1) * (isElsewhere ? ELSEWHERE_FACTOR : 1) * (stats.isSlow(node, nowMs) ? SLOW_FACTOR : 1);
      const inFlightCount = peer.inFlightCount + (near?.inFlightCount(node) ?? 0);
      expected.push({ node, cost: (inFlightCount + 1) * distance, tie: (index + rotation) % copies });
    } else {
      others.push(node);
    }
  });
  expected.sort((a, b) => a.cost - b.cost || a.tie - b.tie);
  return [...expected.map(({ node }) => node), ...others, ...down];
}
