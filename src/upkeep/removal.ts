/**
 * What would be lost with a node: every block that a file names is looked for on the others. So are the blocks of programs
 * (a library's pools), of which there is no list but the nodes' own: if the node answers it is asked for its, else only what
 * others know to be damaged can be counted.
 *
 * Memory does not grow with the number of blocks: they are looked at page by page, and of lost ones 64 bits are kept.
 */
import { dataNodes } from '../catalog/membership.ts';
import { findPool } from '../catalog/placement.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import { blockIdFromHex, blockIdToHex } from '../ids.ts';
import type { BlockId, Ino, NodeId, PoolId } from '../ids.ts';
import type { MetaClient } from '../meta/types.ts';
import type { Network } from '../net/types.ts';
import { takeCensus } from './block-census.ts';
import type { CensusOptions } from './block-census.ts';
import { allExtents, blockName } from './block-uses.ts';
import type { ExtentPage } from './block-uses.ts';
import { FingerprintSet } from './fingerprints.ts';
import { inventory } from './inventory.ts';
import type { DamageRecord } from './status.ts';

export interface LossOptions {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly meta: MetaClient;
  readonly without: NodeId;
  /** What the other nodes have on record. */
  readonly damage?: readonly Pick<DamageRecord, 'pool' | 'id' | 'healed'>[];
  readonly onProgress?: (checkedBlockCount: number) => void;
}

export interface Loss {
  /** Blocks looked for; one that files far apart share counts more than once. */
  readonly blockCount: number;
  /** Blocks that no other node which answers has. */
  readonly lostCount: number;
  /** Without those that are only known as damaged: their lengths are not. */
  readonly lostBytes: number;
  readonly lostFileCount: number;
  /** Paths of some of these files. */
  readonly paths: readonly Uint8Array[];
  /** Pools of programs of which something is lost, or may be. */
  readonly ofPrograms: readonly ProgramsLoss[];
  /** Nodes that could not be asked: what they have counts as lost here. */
  readonly silent: readonly NodeId[];
}

export interface ProgramsLoss {
  readonly pool: string;
  /** Of `Loss.lostCount` and `Loss.lostBytes`. */
  readonly lostCount: number;
  readonly lostBytes: number;
  /** False: the node could not be asked, and what it alone has may be more. */
  readonly isCounted: boolean;
  /** What is on the node is nowhere else, as the pool keeps one copy. */
  readonly keepsOne: boolean;
}

const BATCH = 1_000;
const NAMED_FILES = 5;
/** Lost blocks that are known again when another file names them: some 16 MiB. Further ones count each time. */
const KNOWN_AGAIN_MAX = 1_000_000;

interface Block {
  readonly id: BlockId;
  readonly bytes: number;
}

export async function lossWithout(options: LossOptions): Promise<Loss> {
  const { meta, without } = options;
  const search = new LossSearch(options);
  const files = await searchFiles(search, meta);
  const ofPrograms: ProgramsLoss[] = [];
  const gone = new Set<NodeId>();
  for (const pool of options.catalog.current().pools) {
    const found = pool.kind === 'library' ? await searchPrograms(search, pool, options, gone) : undefined;
    if (found !== undefined) ofPrograms.push(found);
  }
  // One that was removed meanwhile has none.
  const pathsOf = (ino: Ino) => meta.query<'paths'>({ op: 'paths', ino }).catch(() => ({ paths: [] }));
  const paths = await Promise.all(files.named.map(pathsOf));
  return {
    ...search.counts,
    lostFileCount: files.count,
    paths: paths.flatMap((each) => each.paths.slice(0, 1)),
    ofPrograms,
    silent: search.silent(without),
  };
}

/** Looks for blocks on the other nodes, and counts. */
class LossSearch {
  readonly counts = { blockCount: 0, lostCount: 0, lostBytes: 0 };
  readonly #census: CensusOptions;
  readonly #lost = new FingerprintSet();
  readonly #onProgress: LossOptions['onProgress'];

  constructor({ network, catalog, without, onProgress }: LossOptions) {
    this.#census = { network, catalog, silent: new Set([without]) };
    this.#onProgress = onProgress;
  }

  /** Those that no other node has. */
  async lostOf(pool: PoolId, blocks: readonly Block[]): Promise<readonly Block[]> {
    const known = findPool(this.#census.catalog.current(), pool);
    const ids = blocks.map(({ id }) => id);
    const census = known === undefined ? [] : await takeCensus(this.#census, known, ids);
    const lost = blocks.filter((_, index) => (census[index]?.held.length ?? 0) === 0);
    this.counts.blockCount += blocks.length;
    for (const { id, bytes } of lost) {
      if (this.#lost.has(pool, id)) continue;
      if (this.#lost.count < KNOWN_AGAIN_MAX) this.#lost.add(pool, id);
      this.counts.lostCount++;
      this.counts.lostBytes += bytes;
    }
    this.#onProgress?.(this.counts.blockCount);
    return lost;
  }

  async isElsewhere(pool: Pool): Promise<boolean> {
    const { network, catalog, silent } = this.#census;
    for (const { id } of dataNodes(catalog.current())) {
      for await (const page of inventory(network, id, pool, silent)) if (page.length > 0) return true;
    }
    return false;
  }

  silent(except: NodeId): NodeId[] {
    return [...this.#census.silent].filter((node) => node !== except);
  }
}

async function searchFiles(
  search: LossSearch,
  meta: MetaClient,
): Promise<{ readonly count: number; readonly named: readonly Ino[] }> {
  const named: Ino[] = [];
  let count = 0;
  /** Extents come by file. */
  let latest = 0;
  for await (const items of allExtents(meta, BATCH)) {
    const lost = await lostNames(search, items);
    for (const { ino, extent } of items) {
      if (ino === latest || !lost.has(blockName(extent.pool, extent.id))) continue;
      latest = ino;
      count++;
      if (named.length < NAMED_FILES) named.push(ino);
    }
  }
  return { count, named };
}

/** By {@link blockName}. */
async function lostNames(search: LossSearch, items: ExtentPage['items']): Promise<ReadonlySet<string>> {
  const byPool = new Map<PoolId, Map<string, Block>>();
  for (const { extent } of items) {
    const blocks = byPool.get(extent.pool) ?? new Map<string, Block>();
    if (blocks.size === 0) byPool.set(extent.pool, blocks);
    blocks.set(blockIdToHex(extent.id), { id: extent.id, bytes: extent.blockBytes });
  }
  const names = new Set<string>();
  for (const [pool, blocks] of byPool) {
    for (const { id } of await search.lostOf(pool, [...blocks.values()])) names.add(blockName(pool, id));
  }
  return names;
}

/** Undefined: nothing is lost. The node is put among the `gone` if it does not answer. */
async function searchPrograms(
  search: LossSearch,
  pool: Pool,
  { network, without, damage = [] }: LossOptions,
  gone: Set<NodeId>,
): Promise<ProgramsLoss | undefined> {
  const before = { ...search.counts };
  for await (const page of inventory(network, without, pool, gone)) {
    await search.lostOf(
      pool.id,
      page.map(([id, bytes]) => ({ id, bytes })),
    );
  }
  const isCounted = !gone.has(without);
  if (!isCounted) {
    const open = damage.filter((record) => record.pool === pool.id && !record.healed);
    const ids = [...new Set(open.map(({ id }) => id))].map(blockIdFromHex);
    await search.lostOf(
      pool.id,
      ids.map((id) => ({ id, bytes: 0 })),
    );
  }
  const lostCount = search.counts.lostCount - before.lostCount;
  const lostBytes = search.counts.lostBytes - before.lostBytes;
  const keepsOne = pool.copies === 1;
  const mayBeLost = lostCount > 0 || (!isCounted && (keepsOne || (await search.isElsewhere(pool))));
  return mayBeLost ? { pool: pool.name, lostCount, lostBytes, isCounted, keepsOne } : undefined;
}
