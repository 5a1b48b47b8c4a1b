/**
 * Checks catalogs and catalog changes that come from the wire or the disk, and the relations inside a catalog.
 */
import { z } from 'zod';
import { FormatError, UsageError } from '../errors.ts';
import { BLOCK_MAX_BYTES, COPIES_MAX_COUNT, PAGE_BYTES, PG_MAX_COUNT } from '../limits.ts';
import { FACTS_MAX_COUNT } from './history.ts';
import { REPAIR_AFTER_MAX_MS } from './absence.ts';
import { COLLECT_EVERY_MAX_MS, COLLECT_EVERY_MIN_MS } from './collection.ts';
import { REMOVED_MAX_COUNT } from './membership.ts';
import { CATALOG_FORMAT_VERSION } from './types.ts';
import type { Catalog, CatalogChange } from './types.ts';

const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const nodeId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/, 'a node id is 1 to 64 of a-z, 0-9 and -');
const label = z.string().min(1).max(255);
/** (uid_t) -1 means "leave as it is" to chown(2). */
const userId = count.max(2 ** 32 - 2);
const groupId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/);
const powerOfTwo = count.refine((n) => n > 0 && Number.isInteger(Math.log2(n)), 'must be a power of two');

/** Five, and one more in passing: a new voter comes before an old one goes. */
export const VOTERS_MAX_COUNT = 6;
const voters = z.array(nodeId).min(1).max(VOTERS_MAX_COUNT);

const repairAfterMs = count.max(REPAIR_AFTER_MAX_MS).nullable();
const collectEveryMs = count.min(COLLECT_EVERY_MIN_MS).max(COLLECT_EVERY_MAX_MS).nullable();

const nodeSchema = z.strictObject({
  id: nodeId,
  kind: z.literal('witness').optional(),
  storeId: z.string().regex(/^[0-9a-f]{16,64}$/),
  address: z.string().min(3).max(255),
  weight: count.min(1).max(2 ** 24),
  host: label,
  rack: label,
  zone: label,
  draining: z.literal(true).optional(),
  out: z.literal(true).optional(),
  placedAs: nodeId.optional(),
});

const poolId = count.min(1).max(2 ** 32 - 1);
const poolSettings = {
  copies: count.min(1).max(COPIES_MAX_COUNT),
  blockSizeBytes: powerOfTwo.refine(
    (n) => n >= PAGE_BYTES && n <= BLOCK_MAX_BYTES,
    `must be from ${PAGE_BYTES} to ${BLOCK_MAX_BYTES}`,
  ),
  pgCount: powerOfTwo.refine((n) => n <= PG_MAX_COUNT, `must be at most ${PG_MAX_COUNT}`),
  domain: z.enum(['node', 'host', 'rack', 'zone']),
};
const newPool = {
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/, 'a pool name is 1 to 64 of a-z, 0-9 and -'),
  kind: z.enum(['filesystem', 'library']),
  ...poolSettings,
};
const poolSchema = z.strictObject({
  id: poolId,
  ...newPool,
  upmap: z.record(z.coerce.number().int().nonnegative(), z.array(nodeId)),
  placementEpoch: count,
});

const historyId = z.string().regex(/^[0-9a-f]{16}$/);
const storeId = z.string().regex(/^[0-9a-f]{16,64}$/);

const groupSchema = z.strictObject({
  id: groupId,
  epoch: count.min(1),
  historyId,
  primary: nodeId,
  secondary: nodeId.nullable(),
  learners: z.array(nodeId),
  lastActivated: z.strictObject({ epoch: count, members: z.array(nodeId).min(1) }),
  minReplicas: z.union([z.literal(1), z.literal(2)]),
  handedOver: z.literal(true).optional(),
  forced: z.strictObject({ from: nodeId, historyId, epoch: count.min(1) }).optional(),
  since: z.strictObject({ primaryMs: count.optional(), secondaryMs: count.optional() }).optional(),
});

/** For people: a version that knows more kinds is not refused for it. */
const factSchema = z.record(
  z.string().max(32),
  z.union([z.string().max(255), z.number(), z.boolean(), z.array(z.string().max(255)).max(16)]),
);
const recentSchema = z.strictObject({
  epoch: count,
  proposal: z.string().regex(/^[0-9a-f]{16}$/),
  atMs: count.optional(),
  facts: z.array(factSchema).max(FACTS_MAX_COUNT).optional(),
});

const catalogSchema = z.strictObject({
  formatVersion: z.number().int().min(1).max(CATALOG_FORMAT_VERSION),
  clusterId: z.string().regex(/^[0-9a-f]{32}$/),
  epoch: count.min(1),
  rootOwner: z.strictObject({ uid: userId, gid: userId }).optional(),
  repairAfterMs: repairAfterMs.optional(),
  balancePaused: z.boolean().optional(),
  collectEveryMs: collectEveryMs.optional(),
  nodes: z.array(nodeSchema).max(10_000),
  voters,
  pools: z.array(poolSchema).max(10_000),
  groups: z.array(groupSchema).max(100_000),
  tablets: z.array(z.strictObject({ firstIno: count.min(1), group: groupId })).min(1),
  recent: z.array(recentSchema).optional(),
  removed: z
    .array(z.strictObject({ id: nodeId, storeId, epoch: count.min(1) }))
    .max(REMOVED_MAX_COUNT)
    .optional(),
});

const changeSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('putNode'), node: nodeSchema }),
  z.strictObject({ kind: z.literal('setDraining'), id: nodeId, draining: z.boolean() }),
  z.strictObject({ kind: z.literal('setOut'), id: nodeId, out: z.boolean() }),
  z.strictObject({ kind: z.literal('setRepairAfter'), afterMs: repairAfterMs }),
  z.strictObject({ kind: z.literal('setBalancePaused'), paused: z.boolean() }),
  z.strictObject({ kind: z.literal('setCollectEvery'), everyMs: collectEveryMs }),
  z.strictObject({ kind: z.literal('removeNode'), id: nodeId }),
  z.strictObject({ kind: z.literal('replaceNode'), id: nodeId, node: nodeSchema }),
  z.strictObject({ kind: z.literal('putVoters'), voters }),
  z.strictObject({ kind: z.literal('createPool'), pool: z.strictObject(newPool) }),
  z.strictObject({ kind: z.literal('setPool'), id: poolId, set: z.strictObject(poolSettings).partial() }),
  z.strictObject({ kind: z.literal('putGroup'), group: groupSchema, expectedGroupEpoch: count }),
  z.strictObject({
    kind: z.literal('forceGroup'),
    group: groupId,
    from: nodeId,
    historyId,
    expectedGroupEpoch: count,
  }),
]);

function describe(error: z.ZodError): string {
  return error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.join('.') || 'document'}: ${issue.message}`)
    .join('; ');
}

/**
 * Validates a catalog read from disk or wire.
 *
 * @throws FormatError naming the first faults; a newer formatVersion says to upgrade.
 */
export function parseCatalog(value: unknown): Catalog {
  const version = (value as { formatVersion?: unknown } | null)?.formatVersion;
  if (typeof version === 'number' && version > CATALOG_FORMAT_VERSION) {
    throw new FormatError(`the catalog has format ${version}; this program knows ${CATALOG_FORMAT_VERSION}`, {
      remedy: 'Run a newer tatamifs on this machine.',
    });
  }
  const parsed = catalogSchema.safeParse(value);
  if (!parsed.success) throw new FormatError(`not a usable catalog: ${describe(parsed.error)}`);
  const catalog = parsed.data as unknown as Catalog;
  checkRelations(catalog);
  return catalog;
}

/** Validates a change that a peer proposes. Throws UsageError. */
export function parseChange(value: unknown): CatalogChange {
  const parsed = changeSchema.safeParse(value);
  if (!parsed.success) throw new UsageError(`not a usable catalog change: ${describe(parsed.error)}`);
  return parsed.data as unknown as CatalogChange;
}

/** What must hold between the parts of any catalog. Throws FormatError. */
function checkRelations(catalog: Catalog): void {
  const fail = (text: string): never => {
    throw new FormatError(`inconsistent catalog at epoch ${catalog.epoch}: ${text}`);
  };
  const nodes = new Set(catalog.nodes.map((node) => node.id));
  if (nodes.size !== catalog.nodes.length) fail('two nodes have one id');
  if (new Set(catalog.nodes.map((node) => node.address)).size !== catalog.nodes.length) {
    fail('two nodes have one address');
  }
  for (const voter of catalog.voters) if (!nodes.has(voter)) fail(`voter ${voter} is not a node`);
  const drawn = new Set(catalog.nodes.map((node) => node.placedAs ?? node.id));
  if (drawn.size !== catalog.nodes.length) fail('two nodes stand in placement under one name');
  if (new Set(catalog.voters).size !== catalog.voters.length) fail('a node is a voter twice');
  const witnesses = new Set(catalog.nodes.filter((node) => node.kind === 'witness').map((node) => node.id));
  if (new Set(catalog.pools.map((pool) => pool.id)).size !== catalog.pools.length) fail('two pools have one number');
  if (new Set(catalog.pools.map((pool) => pool.name)).size !== catalog.pools.length) fail('two pools have one name');
  const groups = new Set(catalog.groups.map((group) => group.id));
  for (const group of catalog.groups) {
    const members = [group.primary, ...(group.secondary === null ? [] : [group.secondary]), ...group.learners];
    if (new Set(members).size !== members.length) fail(`group ${group.id} names a node twice`);
    for (const member of members) {
      if (!nodes.has(member)) fail(`group ${group.id} names unknown node ${member}`);
      if (witnesses.has(member)) fail(`group ${group.id} names witness ${member}`);
    }
  }
  let previous = 0;
  for (const tablet of catalog.tablets) {
    if (!groups.has(tablet.group)) fail(`a tablet names unknown group ${tablet.group}`);
    if (tablet.firstIno <= previous) fail('tablets are not in order');
    previous = tablet.firstIno;
  }
  if (catalog.tablets[0]?.firstIno !== 1) fail('tablets do not begin at inode 1');
}
