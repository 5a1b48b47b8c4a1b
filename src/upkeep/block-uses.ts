/** Which files use which blocks: there is no index for it, so all extents are walked once for all blocks asked about. */
import { blockIdToHex, type BlockId, type Ino, type PoolId } from '../ids.ts';
import { META_TIMEOUT_MS } from '../limits.ts';
import type { Extent, MetaClient } from '../meta/types.ts';

const BATCH = 2_000;
/** Files named for one block: a block of many clones need not fill the screen. */
const USES_MAX = 16;

export interface BlockUse {
  readonly ino: Ino;
  readonly offset: number;
  /** None if the file is deleted but still open. */
  readonly paths: readonly Uint8Array[];
}

/** Names a block within a cluster. */
export function blockName(pool: number, id: BlockId | string): string {
  return `${pool}:${typeof id === 'string' ? id : blockIdToHex(id)}`;
}

export interface ExtentPage {
  readonly items: readonly { readonly ino: Ino; readonly extent: Extent & { kind: 'block' } }[];
}

/** All extents that are blocks, in pages. */
export async function* allExtents(meta: MetaClient, limit = BATCH): AsyncGenerator<ExtentPage['items']> {
  for (let afterIno = 0, afterOffset = 0; ;) {
    const query = { op: 'allExtents', afterIno, afterOffset, limit } as const;
    const found = await meta.query<'allExtents'>(query, { timeoutMs: META_TIMEOUT_MS });
    if (found.items.length > 0) yield found.items;
    const last = found.items.at(-1);
    if (!found.more || last === undefined) return;
    afterIno = last.ino;
    afterOffset = last.extent.offset;
  }
}

/** Uses of the blocks, by {@link blockName}; none for those that no file uses. */
export async function usesOfBlocks(
  meta: MetaClient,
  blocks: Iterable<{ readonly pool: PoolId | number; readonly id: BlockId | string }>,
): Promise<Map<string, BlockUse[]>> {
  const uses = new Map<string, BlockUse[]>([...blocks].map(({ pool, id }) => [blockName(pool, id), []]));
  if (uses.size === 0) return uses;
  for await (const items of allExtents(meta)) {
    for (const { ino, extent } of items) {
      const found = uses.get(blockName(extent.pool, extent.id));
      if (found === undefined || found.length >= USES_MAX) continue;
      const { paths } = await meta.query<'paths'>({ op: 'paths', ino }).catch(() => ({ paths: [] }));
      found.push({ ino, offset: extent.offset, paths });
    }
  }
  return uses;
}
