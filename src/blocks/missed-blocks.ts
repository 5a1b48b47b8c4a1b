/** What a node should hold by placement, others hold, and it does not: asked for when records were lost without a trace. */
import { dataNodes } from '../catalog/document.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import { blockMethods, parseListReply } from './block-messages.ts';
import { placementOf } from '../catalog/placement.ts';

const PAGE_COUNT = 1024;
const TIMEOUT_MS = 30_000;

export interface MissedBlocksOptions {
  readonly self: NodeId;
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  /** Here, or deleted here. */
  readonly isKnown: (pool: PoolId, id: BlockId) => boolean;
}

/** A page for each of another node's lists, often empty. Nodes that do not answer are left out. */
export async function* missedBlocks(
  options: MissedBlocksOptions,
): AsyncGenerator<readonly { readonly pool: PoolId; readonly id: BlockId }[]> {
  const { self, catalog } = options;
  for (const { id: node } of dataNodes(catalog.current())) {
    if (node === self) continue;
    for (const pool of catalog.current().pools) yield* missedAt(options, node, pool);
  }
}

async function* missedAt(
  { self, network, catalog, isKnown }: MissedBlocksOptions,
  node: NodeId,
  pool: Pool,
): AsyncGenerator<readonly { readonly pool: PoolId; readonly id: BlockId }[]> {
  for (let cursor: string | null = null; ;) {
    const header = { pool: pool.id, cursor, limit: PAGE_COUNT };
    const reply = await network.call(node, blockMethods.list, header, { timeoutMs: TIMEOUT_MS }).catch(() => undefined);
    if (reply === undefined) return;
    const page = parseListReply(reply.header);
    const now = catalog.current();
    yield page.items
      .filter(([id]) => placementOf(now, pool, id).slice(0, pool.copies).includes(self) && !isKnown(pool.id, id))
      .map(([id]) => ({ pool: pool.id, id }));
    if (page.cursor === null) return;
    ({ cursor } = page);
  }
}
