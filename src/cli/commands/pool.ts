import { DEFAULT_POOL_ID } from '../../catalog/document.ts';
import { isSpread } from '../../catalog/pools.ts';
import type { Catalog, FailureDomain, Pool, PoolSettings } from '../../catalog/types.ts';
import { connectCatalog, type CatalogClient } from '../../client.ts';
import type { Env } from '../../env.ts';
import { FsError, UsageError } from '../../errors.ts';
import { ROOT_INO, type Ino, type PoolId } from '../../ids.ts';
import { BLOCK_MAX_BYTES, DEFAULT_PG_COUNT } from '../../limits.ts';
import { SILENT_LOGGER } from '../../log.ts';
import { RemoteMetaClient } from '../../meta/meta-client.ts';
import { assignPool, createPool, poolOf, setPool } from '../../upkeep/pools.ts';
import { collectStatus, type ClusterStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster, type WhereOptions } from '../cluster-files.ts';
import { shownName } from '../file-names.ts';
import { bytes, note, print, printJson, table } from '../output.ts';
import { atPath } from '../path-errors.ts';
import { realEnv } from '../real-env.ts';
import { withFileSystem } from '../with-cluster.ts';

interface SettingsOptions extends WhereOptions {
  readonly copies?: number;
  readonly blockSize?: number;
  readonly pgs?: number;
  readonly domain?: FailureDomain;
  readonly library?: boolean;
  readonly json?: boolean;
}

/** Directories assigned between two lines of progress. */
const TELL_EVERY_COUNT = 1_000;
const ROOT_TIMEOUT_MS = 2_000;

export async function poolCreate(name: string, options: SettingsOptions): Promise<void> {
  checkName(name);
  const isLibrary = options.library === true;
  if (isLibrary && options.blockSize !== undefined) {
    throw new UsageError('--block-size is for pools of files: programs choose how long their blocks are', {
      remedy: 'Leave --block-size or --library out.',
    });
  }
  await withCatalog(options, 'tatami pool create', async (client) => {
    const pool = {
      name,
      kind: isLibrary ? 'library' : 'filesystem',
      ...defaults(client.catalog.current(), options),
    } as const;
    await createPool(client, pool);
    const made = poolOf(client.catalog.current(), name);
    if (options.json === true) return printJson(poolJson(made));
    print(`pool ${name} made: ${inWords(made)}`);
    print(
      isLibrary
        ? `use it from a program:  ReplicatedStore.connect(cluster, '${name}')`
        : `let a directory use it:  tatami pool assign DIRECTORY ${name}`,
    );
  });
}

export async function poolSet(name: string, options: SettingsOptions): Promise<void> {
  if (options.library !== undefined) {
    throw new UsageError('whether a pool is for files or for programs is chosen when it is made', {
      remedy: 'Make another pool: `tatami pool create NAME --library`.',
    });
  }
  const set = settingsOf(options);
  if (Object.keys(set).length === 0) {
    throw new UsageError('nothing to change', {
      remedy: 'Give --copies, --block-size, --pgs or --domain; `tatami pool ls` shows what is.',
    });
  }
  await withCatalog(options, 'tatami pool set', async (client) => {
    const before = poolOf(client.catalog.current(), name);
    await setPool(client, name, set);
    const after = poolOf(client.catalog.current(), name);
    if (options.json === true) return printJson(poolJson(after));
    print(`pool ${name}: ${inWords(after)}`);
    for (const line of consequences(before, after)) note(line);
  });
}

export async function poolList(options: WhereOptions & { readonly json?: boolean }): Promise<void> {
  await withCatalog(options, 'tatami pool ls', async (client, env) => {
    const [status, root] = await Promise.all([collectStatus(client), rootPool(client, env)]);
    if (options.json === true) {
      const isDefault = (pool: Pool): boolean | null => (root === undefined ? null : pool.id === root);
      return printJson(
        status.pools.map((pool) => ({
          ...poolJson(pool),
          isDefault: isDefault(pool),
          settled: notSettled(status, pool).length === 0,
        })),
      );
    }
    print(
      table(
        ['pool', 'for', 'copies', 'block size', 'placement groups', 'domain', 'placement'],
        status.pools.map((pool) => [
          pool.id === root ? `${pool.name} (default)` : pool.name,
          pool.kind === 'library' ? 'programs' : 'files',
          pool.copies,
          pool.kind === 'library' ? '-' : bytes(pool.blockSizeBytes),
          pool.pgCount,
          pool.domain,
          placementInWords(status, pool),
        ]),
      ),
    );
  });
}

export async function poolAssign(
  path: string,
  name: string,
  options: WhereOptions & { readonly all?: boolean; readonly json?: boolean },
): Promise<void> {
  await withFileSystem(options, `tatami pool assign ${path}`, async (fs, client) => {
    const pool = poolOf(client.catalog.current(), name);
    if (pool.kind === 'library') {
      throw new UsageError(`pool ${name} is for programs: no directory can be assigned to it`, {
        remedy: 'Make one for files: `tatami pool create NAME`.',
      });
    }
    const stats = await atPath(path, () => fs.stat(path));
    if (!stats.isDirectory()) {
      throw new FsError('ENOTDIR', `${shownName(path)} is not a directory`, {
        remedy: 'Assign the directory that it is in; what is made there from then on goes to the pool.',
      });
    }
    const { attr: directory } = await client.meta.query<'getattr'>({ op: 'getattr', ino: stats.ino as Ino });
    const done = await assignPool({
      meta: client.meta,
      directory,
      pool: pool.id,
      all: options.all === true,
      onProgress: (count) => {
        if (count % TELL_EVERY_COUNT === 0) note(`${count} directories`);
      },
    });
    const was = nameOf(client.catalog.current(), directory.pool);
    if (options.json === true) {
      return printJson({ path, pool: name, was, directoryCount: done.count, keptCount: done.keptCount });
    }
    const others = done.count > 1 ? ` and ${counted(done.count - 1, 'directory', 'directories')} below it` : '';
    print(`${shownName(path)}${others}: what is made there from now on goes to pool ${name} (${inWords(pool)})`);
    note('Files that exist keep their pool and their blocks; copy them to bring them over.');
    if (done.keptCount > 0) {
      const kept = counted(done.keptCount, 'directory', 'directories');
      note(`${kept} below, with what is in them, keep the other pools that they have (--all: these too).`);
    }
  });
}

async function withCatalog(
  options: WhereOptions,
  label: string,
  work: (client: CatalogClient, env: Env) => Promise<void>,
): Promise<void> {
  const where = await findCluster(options);
  const env = realEnv(where.key);
  const client = await connectCatalog({ env, ...where, label: clientLabel(label) });
  try {
    await work(client, env);
  } finally {
    await client.close();
  }
}

function checkName(name: string): void {
  if (/^[a-z0-9][a-z0-9-]{0,63}$/.test(name)) return;
  throw new UsageError(`${shownName(name)} is no name for a pool`, { remedy: 'Use 1 to 64 of a-z, 0-9 and -.' });
}

function settingsOf({ copies, blockSize, pgs, domain }: SettingsOptions): Partial<PoolSettings> {
  return {
    ...(copies === undefined ? {} : { copies }),
    ...(blockSize === undefined ? {} : { blockSizeBytes: blockSize }),
    ...(pgs === undefined ? {} : { pgCount: pgs }),
    ...(domain === undefined ? {} : { domain }),
  };
}

/** As the pool that the cluster began with; copies and domain as far as the nodes go. */
function defaults(catalog: Catalog, options: SettingsOptions): PoolSettings {
  const first = catalog.pools.find(({ id }) => id === DEFAULT_POOL_ID);
  const nodeCount = catalog.nodes.filter((node) => node.kind !== 'witness' && node.draining !== true).length;
  const copies = options.copies ?? Math.max(1, Math.min(first?.copies ?? 1, nodeCount));
  const wish = first?.domain ?? 'host';
  const domain = options.domain ?? (isSpread(catalog, { copies, domain: wish }) ? wish : 'node');
  return {
    copies,
    domain,
    blockSizeBytes: options.blockSize ?? first?.blockSizeBytes ?? BLOCK_MAX_BYTES,
    pgCount: options.pgs ?? DEFAULT_PG_COUNT,
  };
}

function inWords({ kind, copies, blockSizeBytes, pgCount, domain }: Pool): string {
  const size = kind === 'library' ? '' : `, blocks of ${bytes(blockSizeBytes)}`;
  const where = copies === 1 ? '' : ` on different ${domain}s`;
  return `${counted(copies, 'copy', 'copies')}${where}${size}, ${pgCount} placement groups`;
}

function consequences(before: Pool, after: Pool): string[] {
  const lines: string[] = [];
  if (after.placementEpoch !== before.placementEpoch) {
    lines.push('The nodes copy what is missing and give up what is too much by themselves: `tatami repair --wait`.');
  }
  if (after.blockSizeBytes !== before.blockSizeBytes) {
    lines.push('Blocks that exist stay as they are; the size is for what is written from now on.');
  }
  return lines;
}

function poolJson({ name, id, kind, copies, blockSizeBytes, pgCount, domain }: Pool) {
  return { name, id, kind, copies, blockSizeBytes, pgCount, domain };
}

/** Nodes that are up and have not finished with the pool's present placement. */
function notSettled(status: ClusterStatus, pool: Pool): string[] {
  const isSettled = ({ report }: ClusterStatus['nodes'][number]): boolean =>
    report?.repair?.settled.some((each) => each.pool === pool.id && each.epoch >= pool.placementEpoch) ?? true;
  return status.nodes.filter((node) => node.state === 'up' && !isSettled(node)).map((node) => node.id);
}

function placementInWords(status: ClusterStatus, pool: Pool): string {
  const nodes = notSettled(status, pool);
  return nodes.length === 0 ? 'as wanted' : `${nodes.join(' ')} still copy`;
}

/** That of the root directory; undefined while the metadata is not served. */
async function rootPool({ network, catalog }: CatalogClient, env: Env): Promise<PoolId | undefined> {
  // A question needs no session.
  const meta = new RemoteMetaClient({ env, network, catalog, log: SILENT_LOGGER, label: '' });
  const query = { op: 'getattr', ino: ROOT_INO } as const;
  const reply = await meta.query<'getattr'>(query, { timeoutMs: ROOT_TIMEOUT_MS }).catch(() => undefined);
  return reply?.attr.pool;
}

function nameOf(catalog: Catalog, id: PoolId): string {
  return catalog.pools.find((pool) => pool.id === id)?.name ?? String(id);
}

function counted(count: number, one: string, more: string): string {
  return `${count} ${count === 1 ? one : more}`;
}
