/**
 * Which nodes have which blocks, asked in batches: one question for each node and some thousand blocks. And what is to be
 * thought of a block by what came out (pure).
 */
import { blockMethods, IDS_PER_MESSAGE_MAX, parseHasReply } from '../blocks/block-messages.ts';
import { placementOf, writeTargets, wantedCopies } from '../catalog/placement.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';

const TIMEOUT_MS = 30_000;

export interface Census {
  readonly id: BlockId;
  /** All nodes, the best first. */
  readonly order: readonly NodeId[];
  readonly held: readonly NodeId[];
  /** Did not answer, and may have it. */
  readonly silent: readonly NodeId[];
}

export interface CensusOptions {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
  /** Not asked: known to be down. Those that do not answer are put in here. */
  readonly silent: Set<NodeId>;
}

/** In the order of the ids. Nodes beyond the first `copies` are asked only about blocks that are not on all of those. */
export async function takeCensus(
  options: CensusOptions,
  pool: Pool,
  ids: readonly BlockId[],
): Promise<readonly Census[]> {
  const catalog = options.catalog.current();
  const blocks = ids.map((id) => {
    const order = placementOf(catalog, pool, id);
    return { id, order, held: new Set<NodeId>(), asked: new Set<NodeId>() };
  });
  const ask = async (whom: (block: (typeof blocks)[number]) => readonly NodeId[]): Promise<void> => {
    const byNode = new Map<NodeId, (typeof blocks)[number][]>();
    for (const block of blocks) {
      for (const node of whom(block)) {
        if (block.asked.has(node) || options.silent.has(node)) continue;
        block.asked.add(node);
        const list = byNode.get(node);
        if (list === undefined) byNode.set(node, [block]);
        else list.push(block);
      }
    }
    await Promise.all(
      [...byNode].map(async ([node, asked]) => {
        const present = await presentAt(
          options,
          node,
          pool,
          asked.map(({ id }) => id),
        );
        asked.forEach((block, index) => present?.[index] === true && block.held.add(node));
      }),
    );
  };
  const wanted = wantedCopies(catalog, pool);
  await ask(({ order }) => order.slice(0, pool.copies));
  await ask(({ order, held }) => (held.size < wanted ? order : []));
  return blocks.map(({ id, order, held }) => ({
    id,
    order,
    held: order.filter((node) => held.has(node)),
    silent: order.filter((node) => options.silent.has(node)),
  }));
}

/** Undefined, and the node is silent from now on, if it does not answer. */
async function presentAt(
  { network, silent }: CensusOptions,
  node: NodeId,
  pool: Pool,
  ids: readonly BlockId[],
): Promise<readonly boolean[] | undefined> {
  const present: boolean[] = [];
  for (let from = 0; from < ids.length; from += IDS_PER_MESSAGE_MAX) {
    const part = ids.slice(from, from + IDS_PER_MESSAGE_MAX);
    try {
      const header = { pool: pool.id, ids: part };
      const reply = await network.call(node, blockMethods.has, header, { timeoutMs: TIMEOUT_MS });
      present.push(...parseHasReply(reply.header, part.length).map((length) => length !== null));
    } catch {
      silent.add(node);
      return undefined;
    }
  }
  return present;
}

export type Judgement =
  | { readonly kind: 'good' }
  /** `missingAt`: nodes that are up, should have a copy and have none. */
  | {
      readonly kind: 'unreadable' | 'under-replicated' | 'misplaced';
      readonly text: string;
      readonly missingAt: readonly NodeId[];
    };

/** Pure. `isFull`: takes no more blocks, so that others stand in for it. */
export function judge(
  { order, held, silent }: Pick<Census, 'order' | 'held' | 'silent'>,
  wanted: number,
  isFull: (node: NodeId) => boolean,
): Judgement {
  const targets = writeTargets(order, wanted, (node) => silent.includes(node) || isFull(node));
  const missingAt = targets.filter((node) => !held.includes(node));
  if (held.length === 0) {
    const where = silent.length > 0 ? `; nodes ${silent.join(', ')} are down and may have it` : '';
    return { kind: 'unreadable', text: `no copy can be reached${where}`, missingAt };
  }
  if (held.length < wanted) {
    return { kind: 'under-replicated', text: `${held.length} of ${wanted} copies (on ${held.join(', ')})`, missingAt };
  }
  if (missingAt.length === 0) return { kind: 'good' };
  const text = `on ${held.join(', ')}, but it belongs on ${missingAt.join(', ')}`;
  return { kind: 'misplaced', text, missingAt };
}
