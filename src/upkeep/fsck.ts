/**
 * Checks that what the metadata names is there: walks all extents of a file or tree, asks the nodes for every block,
 * and names what is unreadable or has too few copies by path.
 */
import { wantedCopies } from '../blocks/placement.ts';
import type { BlockClient } from '../blocks/types.ts';
import { poolById } from '../catalog/document.ts';
import type { CatalogService } from '../catalog/types.ts';
import { blockIdToHex } from '../ids.ts';
import type { BlockId, Ino, PoolId } from '../ids.ts';
import type { MetaClient } from '../meta/types.ts';
import type { ClusterStatus } from './status.ts';

export interface FsckOptions {
  readonly meta: MetaClient;
  readonly blocks: BlockClient;
  readonly catalog: CatalogService;
  /** For the damage that nodes have found. */
  readonly status: ClusterStatus;
  /** Undefined: everything. */
  readonly only?: (ino: Ino) => boolean;
  readonly onProgress?: (checkedBlockCount: number) => void;
}

export interface Trouble {
  readonly kind: 'unreadable' | 'under-replicated' | 'damaged-copy' | 'mended-copy';
  /** None if the file is deleted but still open. */
  readonly paths: readonly Uint8Array[];
  readonly ino: Ino;
  readonly offset: number;
  readonly block: string;
  /** Nodes concerned. */
  readonly nodes: readonly string[];
  readonly text: string;
}

export interface FsckResult {
  readonly blockCount: number;
  readonly fileCount: number;
  readonly troubles: readonly Trouble[];
}

const BATCH = 500;
const LOCATE_AT_ONCE = 32;

interface Use {
  readonly ino: Ino;
  readonly offset: number;
}

export async function fsck(options: FsckOptions): Promise<FsckResult> {
  const damage = damageByBlock(options.status);
  const checked = new Map<string, Omit<Trouble, 'paths' | 'ino' | 'offset'>[]>();
  const files = new Set<number>();
  const troubles: Trouble[] = [];
  for (let afterIno = 0, afterOffset = 0; ;) {
    const found = await options.meta.query<'allExtents'>({ op: 'allExtents', afterIno, afterOffset, limit: BATCH });
    const wanted = found.items.filter((item) => options.only?.(item.ino) ?? true);
    const fresh = new Map(
      wanted
        .map(({ extent }) => [`${extent.pool}:${blockIdToHex(extent.id)}`, extent] as const)
        .filter(([key]) => !checked.has(key)),
    );
    await inParallel([...fresh], LOCATE_AT_ONCE, async ([key, extent]) => {
      checked.set(key, await checkBlock(options, extent.pool, extent.id, damage));
      options.onProgress?.(checked.size);
    });
    for (const { ino, extent } of wanted) {
      files.add(ino);
      for (const trouble of checked.get(`${extent.pool}:${blockIdToHex(extent.id)}`) ?? []) {
        troubles.push({ ...trouble, ...(await nameUse(options.meta, { ino, offset: extent.offset })) });
      }
    }
    const last = found.items.at(-1);
    if (!found.more || last === undefined) break;
    afterIno = last.ino;
    afterOffset = last.extent.offset;
  }
  return { blockCount: checked.size, fileCount: files.size, troubles };
}

async function nameUse(meta: MetaClient, use: Use): Promise<Pick<Trouble, 'ino' | 'offset' | 'paths'>> {
  const { paths } = await meta.query<'paths'>({ op: 'paths', ino: use.ino });
  return { ...use, paths };
}

type Damage = Map<string, { readonly node: string; readonly healed: boolean }[]>;

function damageByBlock(status: ClusterStatus): Damage {
  const damage: Damage = new Map();
  for (const node of status.nodes) {
    for (const record of node.report?.damage ?? []) {
      const key = `${record.pool}:${record.id}`;
      damage.set(key, [...(damage.get(key) ?? []), { node: node.id, healed: record.healed }]);
    }
  }
  return damage;
}

async function checkBlock(options: FsckOptions, pool: PoolId, id: BlockId, damage: Damage) {
  const block = blockIdToHex(id);
  const catalog = options.catalog.current();
  const known = poolById(catalog, pool);
  const wanted = known === undefined ? 1 : wantedCopies(catalog, known);
  const holders = await options.blocks.locate(pool, id);
  const held = holders.filter((holder) => holder.state === 'held').map((holder) => holder.node);
  const silent = holders.filter((holder) => holder.state === 'unreachable').map((holder) => holder.node);
  const found: Omit<Trouble, 'paths' | 'ino' | 'offset'>[] = [];
  if (held.length === 0) {
    const where = silent.length > 0 ? `; nodes ${silent.join(', ')} are down and may have it` : '';
    found.push({ kind: 'unreadable', block, nodes: silent, text: `no copy can be reached${where}` });
  } else if (held.length < wanted) {
    const text = `${held.length} of ${wanted} copies (on ${held.join(', ')})`;
    found.push({ kind: 'under-replicated', block, nodes: held, text });
  }
  for (const record of damage.get(`${pool}:${block}`) ?? []) {
    const kind = record.healed ? 'mended-copy' : 'damaged-copy';
    const text = record.healed
      ? `the copy on ${record.node} was damaged and has been mended from another node`
      : `the copy on ${record.node} is damaged`;
    found.push({ kind, block, nodes: [record.node], text });
  }
  return found;
}

async function inParallel<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const workers = Array.from({ length: Math.min(atOnce, items.length) }, async () => {
    for (const item of queue) await work(item);
  });
  await Promise.all(workers);
}
