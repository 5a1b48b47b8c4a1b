/** Telling a node that its copy of a block is, or may be, damaged: it looks at it, and heals it. */
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import { blockMethods } from './block-messages.ts';

/** A node may read a whole block and heal it before it answers; nobody waits for it. */
const REPORT_TIMEOUT_MS = 10_000;

export function reportDamage(network: Network, node: NodeId, pool: PoolId, id: BlockId): void {
  const options = { timeoutMs: REPORT_TIMEOUT_MS };
  network.call(node, blockMethods.reportDamage, { pool, id }, options).catch(() => undefined);
}
