/** What one node says it holds of a pool, page by page. */
import { blockMethods, parseListReply, type ListReply } from '../blocks/block-messages.ts';
import type { Pool } from '../catalog/types.ts';
import type { NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';

const TIMEOUT_MS = 30_000;
const PAGE_COUNT = 4_096;

/** Ends early, and the node is put among the silent, when it does not answer. */
export async function* inventory(
  network: Network,
  node: NodeId,
  pool: Pool,
  silent: Set<NodeId>,
): AsyncGenerator<ListReply['items']> {
  if (silent.has(node)) return;
  for (let cursor: string | null = null; ;) {
    const header = { pool: pool.id, cursor, limit: PAGE_COUNT };
    const reply = await network.call(node, blockMethods.list, header, { timeoutMs: TIMEOUT_MS }).catch(() => undefined);
    if (reply === undefined) {
      silent.add(node);
      return;
    }
    const page = parseListReply(reply.header);
    if (page.items.length > 0) yield page.items;
    if (page.cursor === null) return;
    ({ cursor } = page);
  }
}
