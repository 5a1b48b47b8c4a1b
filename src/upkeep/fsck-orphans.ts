/**
 * Blocks that no file uses. What the files use is walked first, then what the nodes hold is compared with it; what seems
 * unused is compared with a second walk, as files are written meanwhile. Where all block names would take too much
 * memory they are done in parts, by their first byte, with a walk for each.
 */
import type { CatalogService } from '../catalog/types.ts';
import { blockIdToHex, type BlockId, type NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import { dataNodes } from '../catalog/document.ts';
import { blockName, type ExtentPage } from './block-uses.ts';
import { FingerprintSet } from './fingerprints.ts';
import { inventory } from './inventory.ts';

/** Names held at once: at most some 110 MiB of fingerprints. */
const NAMES_AT_ONCE = 8_000_000;
/** And orphans to be confirmed; further ones of the part are found by the next run. */
const CANDIDATES_MAX = 200_000;
const PARTS_MAX = 256;

/** Number of parts for so many copies in the cluster. */
export function partsOf(copyCount: number): number {
  return Math.min(PARTS_MAX, Math.max(1, Math.ceil(copyCount / NAMES_AT_ONCE)));
}

export interface OrphanSearch {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly silent: Set<NodeId>;
  /** Of `parts`: 0 to parts - 1. */
  readonly part: number;
  readonly parts: number;
  readonly firstWalk: AsyncIterable<ExtentPage['items']>;
  readonly nextWalk: () => AsyncIterable<ExtentPage['items']>;
}

export type OrphanFound =
  | { readonly kind: 'looked'; readonly count: number }
  | {
      readonly kind: 'orphan';
      readonly pool: string;
      readonly id: BlockId;
      readonly lengthBytes: number;
      readonly nodes: readonly NodeId[];
    };

export async function* findOrphans(search: OrphanSearch): AsyncGenerator<OrphanFound> {
  const { network, catalog, silent, part, parts } = search;
  const isOurs = (id: BlockId): boolean => (id[0] ?? 0) % parts === part;
  const used = new FingerprintSet();
  for await (const items of search.firstWalk) {
    for (const { extent } of items) if (isOurs(extent.id)) used.add(extent.pool, extent.id);
  }
  const candidates = new Map<string, Extract<OrphanFound, { kind: 'orphan' }>>();
  let count = 0;
  for (const { id: node } of dataNodes(catalog.current())) {
    for (const pool of catalog.current().pools.filter(({ kind }) => kind === 'filesystem')) {
      for await (const page of inventory(network, node, pool, silent)) {
        for (const [id, lengthBytes] of page) {
          if (!isOurs(id) || used.has(pool.id, id)) continue;
          const name = blockName(pool.id, id);
          const known = candidates.get(name);
          if (known === undefined && candidates.size >= CANDIDATES_MAX) continue;
          const nodes = [...(known?.nodes ?? []), node];
          candidates.set(name, { kind: 'orphan', pool: pool.name, id, lengthBytes, nodes });
        }
        count += page.length;
        yield { kind: 'looked', count };
      }
    }
  }
  if (candidates.size === 0) return;
  for await (const items of search.nextWalk()) {
    for (const { extent } of items) candidates.delete(`${extent.pool}:${blockIdToHex(extent.id)}`);
  }
  yield* candidates.values();
}
