/** What fsck has nodes do: send a copy where one is missing, mend a damaged one. */
import { blockMethods, parsePutReply, type PushRequest } from '../blocks/block-messages.ts';
import type { Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import type { Census } from './block-census.ts';

/** A whole block over a slow link, to a disk that is busy. */
const TIMEOUT_MS = 30_000;
const REPORT_TIMEOUT_MS = 5_000;

export interface Copied {
  readonly copied: readonly NodeId[];
  /** In words. */
  readonly failures: readonly string[];
}

/** Asks the holders in turn, until one has sent an intact copy to each of the targets. Never rejects. */
export async function copyTo(
  network: Network,
  pool: Pool,
  { id, held }: Pick<Census, 'id' | 'held'>,
  targets: readonly NodeId[],
): Promise<Copied> {
  const copied: NodeId[] = [];
  const failures = new Map<NodeId, string>();
  for (const holder of held) {
    const to = targets.filter((node) => !copied.includes(node));
    if (to.length === 0) break;
    // The receiver stamps it with its own generation, so no collection under way takes it.
    const header: PushRequest = {
      ...{ pool: pool.id, id, placementEpoch: pool.placementEpoch, minGeneration: 0, to, mode: 'now' },
    };
    try {
      const answer = await network.call(holder, blockMethods.push, header, { timeoutMs: TIMEOUT_MS });
      const reply = parsePutReply(answer.header);
      for (const { node } of reply.holders) copied.push(node);
      for (const { node, code, message } of reply.failures) {
        failures.set(node, `${node}: ${message}`);
        // The receiver has found that these are not the block's bytes: the holder shall look at its own copy.
        if (code === 'ERR_CORRUPT') await report(network, holder, pool, id);
      }
    } catch (error) {
      for (const node of to) failures.set(node, `${holder} did not send it: ${String((error as Error).message)}`);
    }
  }
  for (const node of copied) failures.delete(node);
  return { copied, failures: [...failures.values()] };
}

async function report(network: Network, node: NodeId, pool: Pool, id: BlockId): Promise<void> {
  await network
    .call(node, blockMethods.reportDamage, { pool: pool.id, id }, { timeoutMs: REPORT_TIMEOUT_MS })
    .catch(() => undefined);
}

/** Whether the node's copy is intact now. Never rejects. */
export async function healAt(network: Network, node: NodeId, pool: Pool, id: BlockId): Promise<boolean> {
  try {
    const reply = await network.call(node, blockMethods.heal, { pool: pool.id, id }, { timeoutMs: TIMEOUT_MS });
    const outcome = (reply.header as { readonly outcome?: unknown } | null)?.outcome;
    return outcome === 'healed' || outcome === 'intact';
  } catch {
    return false;
  }
}
