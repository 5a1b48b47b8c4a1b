/**
 * Pools by command: what a client asks a node for to make or change one (only nodes propose changes of the catalog), and the
 * assignment of directories, which is metadata.
 */
import { noPool, poolExists } from '../catalog/pools.ts';
import { proposeUntilChosen } from '../catalog/replica.ts';
import type { CatalogReplica } from '../catalog/replica.ts';
import { parseChange } from '../catalog/schema.ts';
import type { Catalog, CatalogChange, NewPool, Pool, PoolSettings } from '../catalog/types.ts';
import { FormatError, FsError } from '../errors.ts';
import type { Ino, PoolId } from '../ids.ts';
import { META_TIMEOUT_MS } from '../limits.ts';
import type { Attr, MetaClient } from '../meta/types.ts';
import type { IncomingRequest, Network } from '../net/types.ts';
import { ask, type Asking } from './membership.ts';

export const poolMethods = { create: 'pool.create', set: 'pool.set' } as const;

/** Both are done once, however often they are asked for. */
export function handlePools(network: Network, catalog: CatalogReplica): void {
  const decided = async (decide: (current: Catalog) => CatalogChange | undefined) => {
    const { epoch } = await proposeUntilChosen(catalog, decide, META_TIMEOUT_MS);
    return { header: { epoch } };
  };
  network.handle(poolMethods.create, (request) => {
    const { pool, afterEpoch } = fieldsOf(request);
    const change = parseChange({ kind: 'createPool', pool });
    if (change.kind !== 'createPool' || typeof afterEpoch !== 'number') throw malformed(request);
    return decided(({ pools }) => {
      const found = pools.find(({ name }) => name === change.pool.name);
      if (found === undefined) return change;
      // Made since the caller looked, and as the caller wants it: by the caller, whose first try had no answer.
      if (found.placementEpoch > afterEpoch && isAsWanted(found, change.pool)) return undefined;
      throw poolExists(found.name);
    });
  });
  network.handle(poolMethods.set, (request) => {
    const { name, set } = fieldsOf(request);
    if (typeof name !== 'string') throw malformed(request);
    return decided((current) => {
      const found = poolOf(current, name);
      const change = parseChange({ kind: 'setPool', id: found.id, set });
      return change.kind === 'setPool' && isAsWanted(found, change.set) ? undefined : change;
    });
  });
}

function isAsWanted(pool: Pool, wanted: Partial<NewPool>): boolean {
  return Object.entries(wanted).every(([field, value]) => pool[field as keyof NewPool] === value);
}

function fieldsOf(request: IncomingRequest): Readonly<Record<string, unknown>> {
  const { header } = request;
  if (typeof header === 'object' && header !== null) return header as Record<string, unknown>;
  throw malformed(request);
}

function malformed({ method }: IncomingRequest): FormatError {
  return new FormatError(`${method}: not a message of this protocol`);
}

/** Resolves once the pool is in the catalog, and known here. */
export async function createPool(asking: Asking, pool: NewPool): Promise<void> {
  const { pools, epoch } = asking.catalog.current();
  if (pools.some(({ name }) => name === pool.name)) throw poolExists(pool.name);
  await ask(asking, poolMethods.create, { pool, afterEpoch: epoch });
}

/** What is not named stays as it is. */
export function setPool(asking: Asking, name: string, set: Partial<PoolSettings>): Promise<void> {
  return ask(asking, poolMethods.set, { name, set });
}

/** The pool of that name. UsageError if there is none. */
export function poolOf(catalog: Catalog, name: string): Pool {
  const found = catalog.pools.find((pool) => pool.name === name);
  if (found === undefined) throw noPool(catalog, name);
  return found;
}

export interface AssignOptions {
  readonly meta: MetaClient;
  readonly directory: Attr;
  readonly pool: PoolId;
  /** Also the directories below that have another pool than this one has now. */
  readonly all: boolean;
  /** Directories assigned so far. */
  readonly onProgress?: (count: number) => void;
}

export interface Assigned {
  /** Directories that have got the pool, the named one among them. */
  readonly count: number;
  /** Directories below that had been assigned to other pools: they, and what is below them, keep these. */
  readonly keptCount: number;
}

/** Directories listed at once. */
const NAMES_AT_ONCE = 1_000;

/**
 * Assigns a directory, and those below it that follow it, to a pool: what is made in them from then on goes there.
 *
 * A directory has its pool itself, from the one that it was made in. So those below are assigned before it: what was
 * interrupted can be repeated, as the named directory still has its old pool, by which its followers are told. What was made
 * in it meanwhile is found afterwards, by a second look.
 */
export async function assignPool(options: AssignOptions): Promise<Assigned> {
  const { meta, directory, pool, all } = options;
  const done = { count: 0, keptCount: 0 };
  const follows = (attr: Attr): boolean => attr.pool !== pool && (all || attr.pool === directory.pool);
  const visit = async (attr: Attr): Promise<void> => {
    await below(attr, 'first');
    const set = await meta.mutate({ op: 'setattr', ino: attr.ino, set: { pool } }).catch(ignoreGone);
    if (set?.attr === undefined) return;
    done.count++;
    options.onProgress?.(done.count);
    await below(set.attr, 'second');
  };
  const below = async ({ ino, nlink }: Attr, look: 'first' | 'second'): Promise<void> => {
    // A directory's links are two more than its directories.
    if (nlink === 2) return;
    for await (const attr of directoriesIn(meta, ino)) {
      if (follows(attr)) await visit(attr);
      else if (look === 'second') continue;
      else if (attr.pool !== pool) done.keptCount++;
      else if (all) await below(attr, 'first');
    }
  };
  await visit(directory);
  if (done.count === 0) throw new FsError('ENOENT', 'the directory was removed meanwhile');
  return done;
}

async function* directoriesIn(meta: MetaClient, ino: Ino): AsyncGenerator<Attr> {
  for (let after = new Uint8Array(0), more = true; more;) {
    const query = { op: 'readdir', ino, after, limit: NAMES_AT_ONCE, withAttrs: true } as const;
    const page = await meta.query<'readdir'>(query).catch(ignoreGone);
    if (page === undefined) return;
    for (const { name, attr } of page.entries) {
      after = new Uint8Array(name);
      if (attr?.type === 'directory') yield attr;
    }
    ({ more } = page);
  }
}

/** Removed since it was listed: then it needs nothing. */
function ignoreGone(error: unknown): undefined {
  if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
}
