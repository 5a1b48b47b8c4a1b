/**
 * Which holder of a block to ask first. All copies are equal, so the question is only who answers soonest: fewest of
 * our requests open, weighted by distance. Placement plays no part beyond saying who should have it; ties go by the
 * block's hash, so that many readers spread over the copies.
 */
import { placementOrder, pgOf } from './placement.ts';
import type { Catalog, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';

/** Round trips below this are one machine room: differences are noise. */
const NEAR_RTT_MS = 5;
/** How long a node that was slow is asked after the others. */
const SLOW_FOR_MS = 5_000;
/** What slowness costs a node in the choice: as many requests open. */
const SLOW_FACTOR = 4;
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

/**
 * All nodes in the order to ask: those that should have the block, best first; then every other one that is not known
 * to be down, in placement order; then the ones believed down (belief may be wrong).
 */
export function readOrder(
  catalog: Catalog,
  pool: Pool,
  id: BlockId,
  network: Pick<Network, 'peer'>,
  stats: HolderStats,
  nowMs: number,
): NodeId[] {
  const order = placementOrder(catalog, pool, pgOf(pool, id));
  const copies = Math.min(pool.copies, order.length);
  const rotation = ((id[0] ?? 0) << 8) | (id[1] ?? 0);
  const expected: { node: NodeId; cost: number; tie: number }[] = [];
  const others: NodeId[] = [];
  const down: NodeId[] = [];
  order.forEach((node, index) => {
    const peer = network.peer(node);
    if (peer.state === 'down') {
      down.push(node);
    } else if (index < copies) {
      const distance = Math.max(1, (peer.rttMs ?? 0) / NEAR_RTT_MS) * (stats.isSlow(node, nowMs) ? SLOW_FACTOR : 1);
      expected.push({ node, cost: (peer.inFlightCount + 1) * distance, tie: (index + rotation) % copies });
    } else {
      others.push(node);
    }
  });
  expected.sort((a, b) => a.cost - b.cost || a.tie - b.tie);
  return [...expected.map(({ node }) => node), ...others, ...down];
}
