/**
 * Gives up copies that this node holds without being one of their wanted holders: what was there before a node came or came
 * back, and what stood in for one that was down.
 *
 * A copy goes only when every wanted holder of the block, asked now, has it under a stamp as high (so garbage collection takes
 * it no sooner there than here), and has *settled* the very placement by which this node is not wanted. That is what keeps
 * two nodes from each giving up what it believes the other to hold, when they know different catalogs: whoever answers
 * "settled with placement E" gives nothing up by a placement before E any more (repair settles in the same line of work in
 * which it gives up), and by one after E only once its wanted holders have answered it in the same way. By E itself it does
 * not either: E wants it to hold the block.
 *
 * A wanted holder that has settled and lacks the block after all (it gave it up by an older placement a moment after it was
 * asked whether it has it) is given it.
 */
import { IDS_PER_MESSAGE_MAX, blockMethods } from '../blocks/block-messages.ts';
import type { BlockService } from '../blocks/block-service.ts';
import { placementOf, wantedCopies } from '../catalog/placement.ts';
import type { BlockEngine } from '../blocks/types.ts';
import type { CancelSignal } from '../cancel.ts';
import { activeNodes } from '../catalog/membership.ts';
import type { Catalog, CatalogService, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../limits.ts';
import type { Network } from '../net/types.ts';
import type { HeldBlock } from './repair-plan.ts';

const BATCH_COUNT = 1_000;

export interface SurplusOptions {
  readonly self: NodeId;
  readonly engine: Pick<BlockEngine, 'list'>;
  readonly blocks: Pick<BlockService, 'copyTo' | 'giveUp'>;
  readonly network: Pick<Network, 'call' | 'peer'>;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly signal: CancelSignal;
}

export interface SurplusResult {
  readonly givenUp: { readonly count: number; readonly bytes: number };
  /** Copies that nobody wants here and that were kept: somebody lacks the block, has not settled yet, or does not answer. */
  readonly keptCount: number;
}

/** The nodes that are to hold the block; undefined if this node is one of them, or holds data for other reasons. */
export function holdersInstead(self: NodeId, catalog: Catalog, pool: Pool, id: BlockId): readonly NodeId[] | undefined {
  const wanted = placementOf(catalog, pool, id).slice(0, wantedCopies(catalog, pool));
  return wanted.length === 0 || wanted.includes(self) ? undefined : wanted;
}

/** To be called when this node has settled the pool's present placement. */
export async function giveUpSurplus(options: SurplusOptions, pool: Pool): Promise<SurplusResult> {
  const { self, engine, signal } = options;
  const catalog = options.catalog.current();
  const givenUp = { count: 0, bytes: 0 };
  let keptCount = 0;
  // What is on a node that is being drained, or is not in placement yet again, is nobody's surplus.
  if (!activeNodes(catalog).some((node) => node.id === self)) return { givenUp, keptCount };
  const work = async (batch: readonly HeldBlock[]): Promise<void> => {
    const sure = await heldInstead(options, catalog, pool, batch);
    signal.throwIfAborted();
    const { placementEpoch } = options.catalog.current().pools.find((one) => one.id === pool.id) ?? {};
    const count = placementEpoch === pool.placementEpoch ? await options.blocks.giveUp(pool.id, sure) : 0;
    givenUp.count += count;
    givenUp.bytes += count === sure.length ? sure.reduce((sum, block) => sum + block.lengthBytes, 0) : 0;
    keptCount += batch.length - count;
  };
  let batch: HeldBlock[] = [];
  for await (const { id, lengthBytes, generation } of engine.list(pool.id)) {
    if (holdersInstead(self, catalog, pool, id) === undefined) continue;
    batch.push({ id, lengthBytes, generation });
    if (batch.length < BATCH_COUNT) continue;
    await work(batch);
    batch = [];
  }
  if (batch.length > 0) await work(batch);
  return { givenUp, keptCount };
}

/** Those that every one of their wanted holders has, by its own answer. */
async function heldInstead(
  options: SurplusOptions,
  catalog: Catalog,
  pool: Pool,
  batch: readonly HeldBlock[],
): Promise<HeldBlock[]> {
  const questions = new Map<NodeId, HeldBlock[]>();
  for (const block of batch) {
    for (const node of holdersInstead(options.self, catalog, pool, block.id) ?? []) {
      const asked = questions.get(node) ?? [];
      if (asked.length === 0) questions.set(node, asked);
      asked.push(block);
    }
  }
  const lacking = new Set<HeldBlock>();
  await Promise.all(
    [...questions].map(async ([node, blocks]) => {
      for (let at = 0; at < blocks.length; at += IDS_PER_MESSAGE_MAX) {
        const part = blocks.slice(at, at + IDS_PER_MESSAGE_MAX);
        const { present, generation } = await renewAt(options, node, pool, part);
        for (const [index, block] of part.entries()) {
          if (present[index] === true && generation >= block.generation) continue;
          lacking.add(block);
          if (present[index] === false) await options.blocks.copyTo(node, pool, block.id, block.generation);
        }
      }
    }),
  );
  return batch.filter((block) => !lacking.has(block));
}

interface Renewed {
  readonly present: readonly unknown[];
  /** The stamp of each is at least this. */
  readonly generation: number;
}

const NOTHING: Renewed = { present: [], generation: 0 };

async function renewAt(
  { network, signal }: SurplusOptions,
  node: NodeId,
  pool: Pool,
  blocks: readonly HeldBlock[],
): Promise<Renewed> {
  if (network.peer(node).state === 'down') return NOTHING;
  const header = { pool: pool.id, ids: blocks.map(({ id }) => id) };
  try {
    const reply = await network.call(node, blockMethods.renew, header, { timeoutMs: ATTEMPT_TIMEOUT_MS, signal });
    const { present, generation, settledEpoch } = (reply.header ?? {}) as Readonly<Record<string, unknown>>;
    const isSettled = settledEpoch === pool.placementEpoch;
    return isSettled && Array.isArray(present) && typeof generation === 'number' ? { present, generation } : NOTHING;
  } catch {
    return NOTHING;
  }
}
