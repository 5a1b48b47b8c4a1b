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
import type { CancelSignal } from '../cancel.ts';
import { dataNodes } from '../catalog/document.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import { UnavailableError } from '../errors.ts';
import type { BlockId, NodeId } from '../ids.ts';
import { META_TIMEOUT_MS } from '../limits.ts';
import type { MetaClient } from '../meta/types.ts';
import type { Header, Network } from '../net/types.ts';
import { LiveSet } from './live-set.ts';

export interface GcOptions {
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly meta: MetaClient & { gcBarrier(generation: number): Promise<void> };
  /** Counts only; deletes nothing, and does not raise the generation. */
  readonly dryRun: boolean;
  readonly onProgress?: (progress: GcProgress) => void;
  readonly signal?: CancelSignal;
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
  /** Copies that no file uses and that were put since the collection began: the next one sees what has become of them. */
  readonly pendingCount: number;
  readonly pendingBytes: number;
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
  const nodes = dataNodes(options.catalog.current()).map((node) => node.id);
  const known = await generations(options, nodes);
  const generation = Math.max(0, ...known.values()) + 1;
  const taking: NodeId[] = [];
  if (options.dryRun) {
    taking.push(...known.keys());
  } else {
    for (const id of known.keys()) {
      const begun = await call(options, id, blockMethods.gcBegin, { generation }).then(
        () => true,
        () => false,
      );
      if (begun) taking.push(id);
    }
    await options.meta.gcBarrier(generation);
  }
  const live = await mark(options);
  const { missed, ...swept } = await sweep(options, taking, generation, live);
  const skippedNodes = nodes.filter((id) => !taking.includes(id) || missed.includes(id));
  return { ...swept, liveCount: live.size, skippedNodes };
}

/** The nodes that answer, with their generations. */
async function generations(options: GcOptions, nodes: readonly NodeId[]): Promise<Map<NodeId, number>> {
  const found = new Map<NodeId, number>();
  await Promise.all(
    nodes.map(async (id) => {
      const reply = await call(options, id, blockMethods.usage, {}).catch(() => undefined);
      const { gcGeneration } = (reply?.header ?? {}) as { gcGeneration?: unknown };
      if (typeof gcGeneration === 'number') found.set(id, gcGeneration);
    }),
  );
  options.signal?.throwIfAborted();
  if (found.size === 0) throw new UnavailableError('no node answers', { remedy: 'Start the nodes first.' });
  return found;
}

function call(options: GcOptions, node: NodeId, method: string, header: Header, timeoutMs = NODE_TIMEOUT_MS) {
  const { network, signal } = options;
  return network.call(node, method, header, { timeoutMs, ...(signal === undefined ? {} : { signal }) });
}

async function mark(options: GcOptions): Promise<LiveSet> {
  const { meta, signal } = options;
  const live = new LiveSet();
  for (let afterIno = 0, afterOffset = 0; ;) {
    const found = await meta.query<'allExtents'>(
      { op: 'allExtents', afterIno, afterOffset, limit: MARK_BATCH },
      { timeoutMs: META_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) },
    );
    for (const { extent } of found.items) live.add(extent.pool, extent.id);
    options.onProgress?.({ phase: 'mark', markedCount: live.size, scannedCount: 0 });
    const last = found.items.at(-1);
    if (!found.more || last === undefined) return live;
    afterIno = last.ino;
    afterOffset = last.extent.offset;
  }
}

type Swept = Omit<GcResult, 'liveCount' | 'skippedNodes'>;

/** `missed`: nodes that failed on the way. */
async function sweep(
  options: GcOptions,
  nodes: readonly NodeId[],
  generation: number,
  live: LiveSet,
): Promise<Swept & { readonly missed: readonly NodeId[] }> {
  const total = { scannedCount: 0, pendingCount: 0, pendingBytes: 0, reclaimedCount: 0, reclaimedBytes: 0 };
  const missed: NodeId[] = [];
  for (const node of nodes) {
    try {
      await sweepNode(options, node, generation, live, (batch, dead, pending) => {
        total.scannedCount += batch.length;
        total.reclaimedCount += dead.length;
        total.reclaimedBytes += bytesOf(dead);
        total.pendingCount += pending.length;
        total.pendingBytes += bytesOf(pending);
        options.onProgress?.({ phase: 'sweep', markedCount: live.size, scannedCount: total.scannedCount });
      });
    } catch {
      options.signal?.throwIfAborted();
      missed.push(node);
    }
  }
  return { ...total, missed };
}

async function sweepNode(
  options: GcOptions,
  node: NodeId,
  generation: number,
  live: LiveSet,
  onSwept: (batch: readonly Held[], dead: readonly Held[], pending: readonly Held[]) => void,
): Promise<void> {
  const pools = options.catalog.current().pools.filter((pool) => pool.kind === 'filesystem');
  for (const pool of pools) {
    for await (const batch of heldBlocks(options, node, pool)) {
      const unused = batch.filter((block) => !live.has(pool.id, block.id));
      const dead = unused.filter((block) => block.generation < generation);
      if (dead.length > 0 && !options.dryRun) {
        const header = { pool: pool.id, generation, ids: dead.map((block) => block.id) };
        await call(options, node, blockMethods.sweepOld, header);
      }
      onSwept(
        batch,
        dead,
        unused.filter((block) => block.generation >= generation),
      );
    }
  }
  // Packs that are mostly dead now give their space back.
  if (!options.dryRun) await call(options, node, blockMethods.compact, {}, COMPACT_TIMEOUT_MS);
}

/** Rewriting a node's packs is bounded by its disk's speed. */
const COMPACT_TIMEOUT_MS = 600_000;

interface Held {
  readonly id: BlockId;
  readonly lengthBytes: number;
  readonly generation: number;
}

function bytesOf(blocks: readonly Held[]): number {
  return blocks.reduce((sum, block) => sum + block.lengthBytes, 0);
}

async function* heldBlocks(options: GcOptions, node: NodeId, pool: Pool): AsyncGenerator<Held[]> {
  for (let cursor: string | null = null; ;) {
    const header = { pool: pool.id, generation: Number.MAX_SAFE_INTEGER, cursor, limit: SWEEP_BATCH };
    const page = parseListReply((await call(options, node, blockMethods.listOld, header)).header);
    if (page.items.length > 0) {
      yield page.items.map(([id, lengthBytes, generation]) => ({ id, lengthBytes, generation }));
    }
    if (page.cursor === null) return;
    ({ cursor } = page);
  }
}
