/** What would be lost with a node that is down: every block that a file names is looked for on the others. */
import { IDS_PER_MESSAGE_MAX, blockMethods, parseHasReply } from '../blocks/block-messages.ts';
import { dataNodes } from '../catalog/membership.ts';
import type { CatalogService } from '../catalog/types.ts';
import { blockIdToHex } from '../ids.ts';
import type { BlockId, Ino, NodeId, PoolId } from '../ids.ts';
import { META_TIMEOUT_MS } from '../limits.ts';
import type { MetaClient } from '../meta/types.ts';
import type { Network } from '../net/types.ts';

export interface LossOptions {
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly meta: MetaClient;
  readonly without: NodeId;
  readonly onProgress?: (checkedBlockCount: number) => void;
}

export interface Loss {
  readonly blockCount: number;
  /** Blocks that no other node which answers has. */
  readonly lostCount: number;
  readonly lostBytes: number;
  readonly lostFileCount: number;
  /** Paths of some of these files. */
  readonly paths: readonly Uint8Array[];
  /** Nodes that could not be asked: what they have counts as lost here. */
  readonly silent: readonly NodeId[];
}

const BATCH = 1_000;
const NAMED_FILES = 5;
const NODE_TIMEOUT_MS = 10_000;

interface Use {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly bytes: number;
}

export async function lossWithout(options: LossOptions): Promise<Loss> {
  const others = dataNodes(options.catalog.current())
    .map((node) => node.id)
    .filter((id) => id !== options.without);
  const silent = new Set<NodeId>();
  /** By block: whether another node has it. */
  const found = new Map<string, boolean>();
  const lostFiles = new Set<Ino>();
  let lostCount = 0;
  let lostBytes = 0;
  for (let afterIno = 0, afterOffset = 0; ;) {
    const query = { op: 'allExtents', afterIno, afterOffset, limit: BATCH } as const;
    const page = await options.meta.query<'allExtents'>(query, { timeoutMs: META_TIMEOUT_MS });
    const fresh = new Map<string, Use>();
    for (const { extent } of page.items) {
      const key = keyOf(extent.pool, extent.id);
      if (!found.has(key)) fresh.set(key, { pool: extent.pool, id: extent.id, bytes: extent.blockBytes });
    }
    const held = await heldElsewhere(options, others, silent, [...fresh.values()]);
    for (const [key, use] of fresh) {
      found.set(key, held.has(key));
      if (held.has(key)) continue;
      lostCount++;
      lostBytes += use.bytes;
    }
    for (const { ino, extent } of page.items)
      if (found.get(keyOf(extent.pool, extent.id)) === false) lostFiles.add(ino);
    options.onProgress?.(found.size);
    const last = page.items.at(-1);
    if (!page.more || last === undefined) break;
    afterIno = last.ino;
    afterOffset = last.extent.offset;
  }
  const named = [...lostFiles].slice(0, NAMED_FILES);
  // One that was removed meanwhile has none.
  const pathsOf = (ino: Ino) => options.meta.query<'paths'>({ op: 'paths', ino }).catch(() => ({ paths: [] }));
  const paths = await Promise.all(named.map(pathsOf));
  return {
    blockCount: found.size,
    lostCount,
    lostBytes,
    lostFileCount: lostFiles.size,
    paths: paths.flatMap((each) => each.paths.slice(0, 1)),
    silent: [...silent],
  };
}

async function heldElsewhere(
  { network }: LossOptions,
  others: readonly NodeId[],
  silent: Set<NodeId>,
  uses: readonly Use[],
): Promise<ReadonlySet<string>> {
  const held = new Set<string>();
  const pools = new Set(uses.map((use) => use.pool));
  const questions = [...pools].flatMap((pool) => others.map((node) => ({ node, pool })));
  await Promise.all(
    questions.map(async ({ node, pool }) => {
      const ids = uses.filter((use) => use.pool === pool).map((use) => use.id);
      if (silent.has(node)) return;
      try {
        for (let at = 0; at < ids.length; at += IDS_PER_MESSAGE_MAX) {
          const part = ids.slice(at, at + IDS_PER_MESSAGE_MAX);
          const reply = await network.call(node, blockMethods.has, { pool, ids: part }, { timeoutMs: NODE_TIMEOUT_MS });
          parseHasReply(reply.header, part.length).forEach((length, index) => {
            const id = part[index];
            if (length !== null && id !== undefined) held.add(keyOf(pool, id));
          });
        }
      } catch {
        silent.add(node);
      }
    }),
  );
  return held;
}

function keyOf(pool: PoolId, id: BlockId): string {
  return `${pool}:${blockIdToHex(id)}`;
}
