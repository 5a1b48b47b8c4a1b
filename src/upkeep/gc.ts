/**
 * Garbage collection: mark and sweep by generations, without clocks (docs/decisions/0003-gc-generations.md).
 *
 * 1. Every reachable node is told the new generation G: what is put or renewed from then on is stamped >= G there.
 * 2. A barrier with G goes through every group's log: from there on commits that name blocks put before G are refused.
 * 3. All extents of every group are read, after its barrier: the mark. A group that cannot be read ends the run.
 * 4. Nodes of step 1 delete what is stamped below G and not marked.
 *
 * Invariant: nothing is deleted unless every group was read whole after its barrier.
 */
import { blockMethods, parseListReply } from '../blocks/block-messages.ts';
import { dataNodes } from '../catalog/document.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import { UnavailableError } from '../errors.ts';
import { blockIdToHex } from '../ids.ts';
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import { META_TIMEOUT_MS } from '../limits.ts';
import type { MetaClient } from '../meta/types.ts';
import type { Network } from '../net/types.ts';

export interface GcOptions {
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly meta: MetaClient & { gcBarrier(generation: number): Promise<void> };
  /** Counts only; deletes nothing, and does not raise the generation. */
  readonly dryRun: boolean;
  readonly onProgress?: (progress: GcProgress) => void;
}

export interface GcProgress {
  readonly phase: 'mark' | 'sweep';
  readonly markedCount: number;
  readonly scannedCount: number;
}

export interface GcResult {
  /** Block copies looked at on the nodes. */
  readonly scannedCount: number;
  /** Distinct blocks that some file uses. */
  readonly liveCount: number;
  /** Copies deleted (dry run: that would be). */
  readonly reclaimedCount: number;
  readonly reclaimedBytes: number;
  /** Nodes that could not be swept now; the next run does it. */
  readonly skippedNodes: readonly string[];
}

const NODE_TIMEOUT_MS = 30_000;
const SWEEP_BATCH = 1_000;
const MARK_BATCH = 2_000;

export async function collectGarbage(options: GcOptions): Promise<GcResult> {
  const { network, catalog } = options;
  const nodes = dataNodes(catalog.current()).map((node) => node.id);
  const known = await generations(network, nodes);
  const generation = Math.max(0, ...known.values()) + 1;
  const taking: NodeId[] = [];
  if (options.dryRun) {
    taking.push(...known.keys());
  } else {
    for (const id of known.keys()) {
      const begun = await network.call(id, blockMethods.gcBegin, { generation }, { timeoutMs: NODE_TIMEOUT_MS }).then(
        () => true,
        () => false,
      );
      if (begun) taking.push(id);
    }
    await options.meta.gcBarrier(generation);
  }
  const live = await mark(options);
  const swept = await sweep(options, taking, generation, live);
  return { ...swept, liveCount: live.size, skippedNodes: nodes.filter((id) => !taking.includes(id)) };
}

/** The nodes that answer, with their generations. */
async function generations(network: Network, nodes: readonly NodeId[]): Promise<Map<NodeId, number>> {
  const found = new Map<NodeId, number>();
  await Promise.all(
    nodes.map(async (id) => {
      const reply = await network
        .call(id, blockMethods.usage, {}, { timeoutMs: NODE_TIMEOUT_MS })
        .catch(() => undefined);
      const { gcGeneration } = (reply?.header ?? {}) as { gcGeneration?: unknown };
      if (typeof gcGeneration === 'number') found.set(id, gcGeneration);
    }),
  );
  if (found.size === 0) throw new UnavailableError('no node answers', { remedy: 'Start the nodes first.' });
  return found;
}

function liveKey(pool: PoolId, id: BlockId): string {
  return `${pool}:${blockIdToHex(id)}`;
}

async function mark(options: GcOptions): Promise<Set<string>> {
  const live = new Set<string>();
  for (let afterIno = 0, afterOffset = 0; ;) {
    const found = await options.meta.query<'allExtents'>(
      { op: 'allExtents', afterIno, afterOffset, limit: MARK_BATCH },
      { timeoutMs: META_TIMEOUT_MS },
    );
    for (const { extent } of found.items) live.add(liveKey(extent.pool, extent.id));
    options.onProgress?.({ phase: 'mark', markedCount: live.size, scannedCount: 0 });
    const last = found.items.at(-1);
    if (!found.more || last === undefined) return live;
    afterIno = last.ino;
    afterOffset = last.extent.offset;
  }
}

interface Old {
  readonly id: BlockId;
  readonly lengthBytes: number;
}

async function sweep(options: GcOptions, nodes: readonly NodeId[], generation: number, live: ReadonlySet<string>) {
  const pools = options.catalog.current().pools.filter((pool) => pool.kind === 'filesystem');
  const total = { scannedCount: 0, reclaimedCount: 0, reclaimedBytes: 0 };
  for (const node of nodes) {
    for (const pool of pools) {
      for await (const batch of oldBlocks(options.network, node, pool, generation)) {
        total.scannedCount += batch.length;
        const dead = batch.filter((block) => !live.has(liveKey(pool.id, block.id)));
        if (dead.length > 0 && !options.dryRun) {
          const header = { pool: pool.id, generation, ids: dead.map((block) => block.id) };
          await options.network.call(node, blockMethods.sweepOld, header, { timeoutMs: NODE_TIMEOUT_MS });
        }
        total.reclaimedCount += dead.length;
        total.reclaimedBytes += dead.reduce((sum, block) => sum + block.lengthBytes, 0);
        options.onProgress?.({ phase: 'sweep', markedCount: live.size, scannedCount: total.scannedCount });
      }
    }
    // Packs that are mostly dead now give their space back.
    if (!options.dryRun) await options.network.call(node, blockMethods.compact, {}, { timeoutMs: COMPACT_TIMEOUT_MS });
  }
  return total;
}

/** Rewriting a node's packs is bounded by its disk's speed. */
const COMPACT_TIMEOUT_MS = 600_000;

async function* oldBlocks(network: Network, node: NodeId, pool: Pool, generation: number): AsyncGenerator<Old[]> {
  for (let cursor: string | null = null; ;) {
    const header = { pool: pool.id, generation, cursor, limit: SWEEP_BATCH };
    const reply = await network.call(node, blockMethods.listOld, header, { timeoutMs: NODE_TIMEOUT_MS });
    const page = parseListReply(reply.header);
    if (page.items.length > 0) yield page.items.map(([id, lengthBytes]) => ({ id, lengthBytes }));
    if (page.cursor === null) return;
    ({ cursor } = page);
  }
}
