/**
 * Checks that what the metadata names is there, on the nodes where it belongs, and that nothing else is: walks the
 * extents of a file, a tree or everything, asks the nodes in batches, and tells what is wrong by path. With `repair` it
 * has missing copies made and damaged ones mended; it never deletes anything.
 *
 * Memory does not grow with the number of blocks: troubles are told one by one, and of what is in use 64 bits a block are
 * kept, of so many at a time (fsck-orphans.ts).
 */
import { findPool, wantedCopies } from '../catalog/placement.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import { blockIdToHex, type BlockId, type NodeId } from '../ids.ts';
import { NODE_FULL_FRACTION } from '../limits.ts';
import type { Attr, MetaClient } from '../meta/types.ts';
import type { Network } from '../net/types.ts';
import { judge, takeCensus, type Census, type CensusOptions } from './block-census.ts';
import { allExtents, blockName, type BlockUse, type ExtentPage } from './block-uses.ts';
import { extentsBelow } from './file-extents.ts';
import { findOrphans, partsOf } from './fsck-orphans.ts';
import { copyTo, healAt } from './fsck-repair.ts';
import { inventory } from './inventory.ts';
import type { ClusterStatus } from './status.ts';

export interface FsckOptions {
  readonly meta: MetaClient;
  readonly network: Network;
  readonly catalog: CatalogService;
  /** For the damage that nodes have found, and who is up. */
  readonly status: ClusterStatus;
  /** A file or directory; undefined: everything, orphans and the blocks of libraries, too. */
  readonly below?: Attr;
  /** Has missing copies made and damaged ones mended. */
  readonly repair?: boolean;
  readonly onTrouble: (trouble: Trouble) => void;
  /** `orphans`: copies looked at on the nodes. */
  readonly onProgress?: (phase: 'blocks' | 'orphans', count: number) => void;
}

/**
 * - `unreadable`: no node that answers has it
 * - `under-replicated`: fewer copies than the pool wants
 * - `misplaced`: enough copies, but not where placement wants them
 * - `damaged-copy`, `mended-copy`: a node has found its copy to be rotten, and has (not) mended it
 * - `orphaned`: no file uses it; garbage collection takes it
 */
export type TroubleKind = 'unreadable' | 'under-replicated' | 'misplaced' | 'damaged-copy' | 'mended-copy' | 'orphaned';

export interface Trouble {
  readonly kind: TroubleKind;
  /** Undefined for blocks that are no file's. */
  readonly use: BlockUse | undefined;
  readonly pool: string;
  readonly block: string;
  /** Nodes concerned. */
  readonly nodes: readonly string[];
  readonly text: string;
  /** All that is wrong with it has been put right. */
  readonly isRepaired: boolean;
}

export interface FsckResult {
  /** Blocks asked for; one that files far apart share counts more than once. */
  readonly blockCount: number;
  readonly fileCount: number;
  readonly troubleCounts: Readonly<Record<TroubleKind, number>>;
  /** Of all troubles that need mending, those that are left. */
  readonly unrepairedCount: number;
  /** Undefined: not looked for. */
  readonly orphans: { readonly count: number; readonly bytes: number } | undefined;
  /** Nodes that could not be asked. */
  readonly silentNodes: readonly string[];
}

/** Repairs under way at once: each a copy from one node to another. */
const REPAIRS_AT_ONCE = 4;
/** Kinds that are no fault that is left. */
const HARMLESS: ReadonlySet<TroubleKind> = new Set(['mended-copy', 'orphaned']);

export async function fsck(options: FsckOptions): Promise<FsckResult> {
  const run = new FsckRun(options);
  const { below, meta } = options;
  if (below !== undefined) {
    for await (const items of extentsBelow(meta, below)) await run.checkUses(items);
    return run.result(undefined);
  }
  return run.result(await run.checkAll());
}

type FoundTrouble = Omit<Trouble, 'use' | 'pool' | 'block'>;

class FsckRun {
  readonly #options: FsckOptions;
  readonly #damage: ReadonlyMap<string, readonly { readonly node: NodeId; readonly healed: boolean }[]>;
  readonly #census: CensusOptions;
  readonly #full: ReadonlySet<NodeId>;
  readonly #counts: Record<TroubleKind, number> = {
    unreadable: 0,
    'under-replicated': 0,
    misplaced: 0,
    'damaged-copy': 0,
    'mended-copy': 0,
    orphaned: 0,
  };
  #unrepairedCount = 0;
  #blockCount = 0;
  #fileCount = 0;
  /** Extents come by file. */
  #latestIno = 0;

  constructor(options: FsckOptions) {
    const { status, network, catalog } = options;
    this.#options = options;
    this.#damage = damageByBlock(status);
    const silent = new Set(status.nodes.filter((node) => node.state === 'down').map((node) => node.id));
    this.#census = { network, catalog, silent };
    this.#full = new Set(status.nodes.filter(isFull).map((node) => node.id));
  }

  async checkAll(): Promise<FsckResult['orphans']> {
    const { meta, network, catalog, status, onProgress } = this.#options;
    const copies = status.nodes.reduce((sum, { report }) => sum + (report?.blockCount ?? 0), 0);
    const { silent } = this.#census;
    const orphans = { count: 0, bytes: 0 };
    const parts = partsOf(copies);
    for (let part = 0; part < parts; part++) {
      const check = part === 0 ? (items: ExtentPage['items']) => this.checkUses(items) : undefined;
      const walk = async function* () {
        for await (const items of allExtents(meta)) {
          await check?.(items);
          yield items;
        }
      };
      const found = findOrphans({
        network,
        catalog,
        silent,
        part,
        parts,
        firstWalk: walk(),
        nextWalk: () => allExtents(meta),
      });
      for await (const orphan of found) {
        if (orphan.kind === 'looked') {
          onProgress?.('orphans', orphan.count);
          continue;
        }
        orphans.count++;
        orphans.bytes += orphan.lengthBytes * orphan.nodes.length;
        this.#tell(orphan.pool, orphan.id, undefined, {
          ...{ kind: 'orphaned', nodes: orphan.nodes, isRepaired: false },
          text: `no file uses it (on ${orphan.nodes.join(', ')})`,
        });
      }
    }
    for (const pool of catalog.current().pools.filter(({ kind }) => kind === 'library')) await this.#checkLibrary(pool);
    return orphans;
  }

  /** What files use. */
  async checkUses(items: ExtentPage['items']): Promise<void> {
    const byPool = new Map<Pool, Map<string, BlockId>>();
    for (const { ino, extent } of items) {
      if (ino !== this.#latestIno) this.#fileCount++;
      this.#latestIno = ino;
      const pool = findPool(this.#options.catalog.current(), extent.pool);
      if (pool === undefined) continue;
      const ids = byPool.get(pool);
      if (ids === undefined) byPool.set(pool, new Map([[blockIdToHex(extent.id), extent.id]]));
      else ids.set(blockIdToHex(extent.id), extent.id);
    }
    const found = new Map<string, FoundTrouble[]>();
    for (const [pool, ids] of byPool) await this.#checkBlocks(pool, [...ids.values()], found);
    if (found.size === 0) return;
    for (const { ino, extent } of items) {
      const troubles = found.get(blockName(extent.pool, extent.id)) ?? [];
      if (troubles.length === 0) continue;
      const { paths } = await this.#options.meta.query<'paths'>({ op: 'paths', ino }).catch(() => ({ paths: [] }));
      const pool = findPool(this.#options.catalog.current(), extent.pool);
      const use = { ino, offset: extent.offset, paths };
      for (const trouble of troubles) this.#tell(pool?.name ?? '', extent.id, use, trouble);
    }
  }

  /**
   * Programs' blocks have no file. Each is looked at where the first holder in its order has it, so that it is looked at
   * once without a list of those that were.
   */
  async #checkLibrary(pool: Pool): Promise<void> {
    const { catalog, network } = this.#options;
    const { silent } = this.#census;
    for (const { id: node } of catalog.current().nodes.filter(({ kind }) => kind !== 'witness')) {
      for await (const page of inventory(network, node, pool, silent)) {
        const found = new Map<string, FoundTrouble[]>();
        const ids = page.map(([id]) => id);
        await this.#checkBlocks(pool, ids, found, (census) => census.held[0] === node);
        for (const id of ids) {
          for (const trouble of found.get(blockName(pool.id, id)) ?? []) this.#tell(pool.name, id, undefined, trouble);
        }
      }
    }
  }

  async #checkBlocks(
    pool: Pool,
    ids: readonly BlockId[],
    found: Map<string, FoundTrouble[]>,
    isOurs: (census: Census) => boolean = () => true,
  ): Promise<void> {
    const census = (await takeCensus(this.#census, pool, ids)).filter(isOurs);
    const queue = census.values();
    const work = async (): Promise<void> => {
      for (const block of queue) {
        const troubles = await this.#checkBlock(pool, block);
        if (troubles.length > 0) found.set(blockName(pool.id, block.id), troubles);
      }
    };
    await Promise.all(Array.from({ length: this.#options.repair === true ? REPAIRS_AT_ONCE : 1 }, work));
    this.#blockCount += census.length;
    this.#options.onProgress?.('blocks', this.#blockCount);
  }

  async #checkBlock(pool: Pool, census: Census): Promise<FoundTrouble[]> {
    const { network, repair, catalog } = this.#options;
    const wanted = wantedCopies(catalog.current(), pool);
    const isFullNode = (node: NodeId): boolean => this.#full.has(node);
    const troubles: FoundTrouble[] = [];
    const judged = judge(census, wanted, isFullNode);
    const records = this.#damage.get(blockName(pool.id, census.id)) ?? [];
    let mended: ReadonlySet<NodeId> = new Set();
    if (judged.kind !== 'good') {
      const { kind, text, missingAt } = judged;
      const made = repair === true ? await copyTo(network, pool, census, missingAt) : { copied: [], failures: [] };
      mended = new Set(made.copied);
      const after = judge({ ...census, held: [...census.held, ...made.copied] }, wanted, isFullNode);
      const done = made.copied.length > 0 ? `; copied to ${made.copied.join(', ')}` : '';
      const failed = made.failures.length > 0 ? `; ${made.failures.join('; ')}` : '';
      const nodes = kind === 'unreadable' ? census.silent : census.held;
      troubles.push({ kind, nodes, text: `${text}${done}${failed}`, isRepaired: after.kind === 'good' });
    }
    for (const { node, healed } of records) {
      const isMended =
        healed || mended.has(node) || (repair === true && (await healAt(network, node, pool, census.id)));
      troubles.push({
        kind: healed ? 'mended-copy' : 'damaged-copy',
        nodes: [node],
        text: healed
          ? `the copy on ${node} was damaged and has been mended`
          : `the copy on ${node} is damaged${isMended ? '; mended now' : ''}`,
        isRepaired: isMended,
      });
    }
    return troubles;
  }

  #tell(pool: string, id: BlockId, use: BlockUse | undefined, trouble: FoundTrouble): void {
    this.#counts[trouble.kind]++;
    if (!HARMLESS.has(trouble.kind) && !trouble.isRepaired) this.#unrepairedCount++;
    this.#options.onTrouble({ ...trouble, pool, block: blockIdToHex(id), use });
  }

  result(orphans: FsckResult['orphans']): FsckResult {
    return {
      blockCount: this.#blockCount,
      fileCount: this.#fileCount,
      troubleCounts: { ...this.#counts },
      unrepairedCount: this.#unrepairedCount,
      orphans,
      silentNodes: [...this.#census.silent],
    };
  }
}

function damageByBlock(status: ClusterStatus) {
  const damage = new Map<string, { readonly node: NodeId; readonly healed: boolean }[]>();
  for (const node of status.nodes) {
    for (const { pool, id, healed } of node.report?.damage ?? []) {
      const name = blockName(pool, id);
      damage.set(name, [...(damage.get(name) ?? []), { node: node.id, healed }]);
    }
  }
  return damage;
}

function isFull({ report }: ClusterStatus['nodes'][number]): boolean {
  return report !== undefined && report.freeBytes < (1 - NODE_FULL_FRACTION) * report.capacityBytes;
}
