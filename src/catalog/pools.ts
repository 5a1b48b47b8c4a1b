/**
 * What it does to the catalog when a pool is made or changed while it is in use, and what may not be. Pure.
 *
 * More placement groups: the blocks of group g are from then on those of g, g + old, g + 2 old, ... (pgOf takes the hash modulo
 * their number, both powers of two), and each of these begins with the list of g. So a split alone moves nothing; the levelling
 * in the same change then moves as few copies as give each node its share to within one of the smaller groups.
 */
import { UsageError } from '../errors.ts';
import type { Epoch, PoolId } from '../ids.ts';
import { LEVEL_PG_MAX_COUNT, LEVEL_WORK_MAX_COUNT, LISTED_COPIES_MAX_COUNT } from '../limits.ts';
import { stayingNodes } from './membership.ts';
import { levelUpmap } from './placement-level.ts';
import { domainKey } from './placement.ts';
import type { Catalog, NewPool, Pool, PoolSettings } from './types.ts';

export function createPool(catalog: Catalog, wanted: NewPool, epoch: Epoch): Partial<Catalog> {
  if (catalog.pools.some((pool) => pool.name === wanted.name)) throw poolExists(wanted.name);
  const { name, kind, copies, blockSizeBytes, pgCount, domain } = wanted;
  const id = nextPoolId(catalog);
  const pool: Pool = { id, name, kind, copies, blockSizeBytes, pgCount, domain, upmap: {}, placementEpoch: epoch };
  checkCopies(catalog, pool);
  if (!isSpread(catalog, pool)) throw tooFewDomains(catalog, pool);
  checkSize(catalog, pool, 0);
  return { pools: [...catalog.pools, { ...pool, upmap: levelUpmap(withAllBack(catalog), pool) }] };
}

/** What is not named stays as it is. Blocks that exist keep their length; new lists are levelled from the old ones. */
export function setPool(catalog: Catalog, id: PoolId, set: Partial<PoolSettings>, epoch: Epoch): Partial<Catalog> {
  const old = catalog.pools.find((pool) => pool.id === id);
  if (old === undefined) throw noPool(catalog, String(id));
  if (old.kind === 'library' && set.blockSizeBytes !== undefined && set.blockSizeBytes !== old.blockSizeBytes) {
    throw new UsageError(`pool ${old.name} is a library's: its programs choose how long their blocks are`, {
      remedy: 'Leave the block size out.',
    });
  }
  const pool: Pool = { ...old, ...set };
  if (pool.pgCount < old.pgCount) {
    throw new UsageError(`pool ${old.name} has ${old.pgCount} placement groups: there can be more of them, not fewer`, {
      remedy: `Give ${old.pgCount * 2} or another higher power of two.`,
    });
  }
  if (pool.copies > old.copies) checkCopies(catalog, pool);
  // A pool whose nodes were never in so many domains may go on so; nobody is led to believe that it was otherwise.
  if (!isSpread(catalog, pool) && (set.domain !== undefined || isSpread(catalog, old))) {
    throw tooFewDomains(catalog, pool);
  }
  const moves = pool.copies !== old.copies || pool.pgCount !== old.pgCount || pool.domain !== old.domain;
  if (moves) checkSize(catalog, pool, old.pgCount);
  const all = withAllBack(catalog);
  const next: Pool = moves ? { ...pool, upmap: levelUpmap(all, pool, all), placementEpoch: epoch } : pool;
  return { pools: catalog.pools.map((other) => (other === old ? next : other)) };
}

/**
 * Nodes that are out are only down: lists are levelled with them, so that they have their share when they are back. Until then
 * placement passes them over in every list.
 */
function withAllBack(catalog: Catalog): Catalog {
  if (catalog.nodes.every((node) => node.out !== true)) return catalog;
  return { ...catalog, nodes: catalog.nodes.map(({ out: _, ...node }) => node) };
}

/** Numbers are in extents and on disks, and there is no end of pools: none is used twice. */
function nextPoolId(catalog: Pick<Catalog, 'pools'>): PoolId {
  return (Math.max(0, ...catalog.pools.map((pool) => pool.id)) + 1) as PoolId;
}

/** Whether the nodes are in enough failure domains for each copy to have one of its own. */
export function isSpread(
  catalog: Pick<Catalog, 'nodes'>,
  { copies, domain }: Pick<Pool, 'copies' | 'domain'>,
): boolean {
  return domainsOf(catalog, domain) >= copies;
}

function domainsOf(catalog: Pick<Catalog, 'nodes'>, domain: Pool['domain']): number {
  return new Set(stayingNodes(catalog).map((node) => domainKey(node, domain))).size;
}

function checkCopies(catalog: Catalog, { name, copies }: Pool): void {
  const count = stayingNodes(catalog).length;
  if (copies <= count) return;
  throw new UsageError(`pool ${name}: ${copies} copies need as many nodes; the cluster has ${count} for data`, {
    remedy: 'Give fewer copies, or add nodes first (`tatami node join`).',
  });
}

function tooFewDomains(catalog: Catalog, { name, copies, domain }: Pool): UsageError {
  const count = domainsOf(catalog, domain);
  const places = count === 1 ? `one ${domain}` : `${count} different ${domain}s`;
  return new UsageError(`pool ${name}: ${copies} copies on different ${domain}s, but the nodes are in ${places}`, {
    remedy: `Give fewer copies or another --domain, or add nodes elsewhere (\`tatami node join --${domain} NAME\`).`,
  });
}

/** What has no end makes every process slow: all of them hold the lists, and a voter levels them within one change. */
function checkSize(catalog: Catalog, { id, name, pgCount, copies }: Pool, pgCountBefore: number): void {
  const others = catalog.pools.filter((other) => other.id !== id);
  const listedElsewhere = others.reduce((sum, other) => sum + other.pgCount * other.copies, 0);
  const room = Math.floor((LISTED_COPIES_MAX_COUNT - listedElsewhere) / copies);
  const perNode = Math.floor(LEVEL_WORK_MAX_COUNT / Math.max(1, stayingNodes(catalog).length));
  const mayLevel = Math.min(LEVEL_PG_MAX_COUNT, perNode);
  const most = pgCount > pgCountBefore ? Math.min(room, mayLevel) : room;
  if (pgCount <= most) return;
  const fitting = most >= 1 ? 2 ** (31 - Math.clz32(most)) : 0;
  throw new UsageError(
    `pool ${name}: ${pgCount} placement groups with ${copies} copies are too many for this cluster`,
    {
      remedy:
        fitting > pgCountBefore
          ? `Give --pgs ${fitting} or less: a hundred copies of groups for each node level the nodes to 1%.`
          : `The groups of all pools together name ${LISTED_COPIES_MAX_COUNT} copies at most.`,
    },
  );
}

/** There is none of that name (or number). */
export function noPool(catalog: Pick<Catalog, 'pools'>, name: string): UsageError {
  return new UsageError(`there is no pool ${name}`, {
    remedy: `The pools are: ${catalog.pools.map((pool) => pool.name).join(', ')}. \`tatami pool create\` makes one.`,
  });
}

export function poolExists(name: string): UsageError {
  return new UsageError(`there is a pool ${name} already`, {
    remedy: `\`tatami pool ls\` shows it; \`tatami pool set ${name}\` changes it.`,
  });
}
