/**
 * A program's (or a mount's) connection to a cluster: catalog, metadata and blocks, and filesystems opened over them.
 * The composition root of the client side; src/node.ts is that of a node.
 */
import { createBlockClient } from './blocks/block-client.ts';
import { DiskCache } from './blocks/disk-cache.ts';
import { BlockSharing } from './blocks/sharing.ts';
import type { BlockClient } from './blocks/types.ts';
import { connectCatalog } from './catalog/connect.ts';
import type { CatalogClient, ConnectClusterOptions as ConnectCatalogOptions } from './catalog/connect.ts';
import type { Address } from './env.ts';
import { UsageError } from './errors.ts';
import {
  BLOCK_MAX_BYTES,
  GiB,
  OP_TIMEOUT_MAX_MS,
  OP_TIMEOUT_MIN_MS,
  OP_TIMEOUT_MS,
  READ_CACHE_BYTES,
  SESSION_LEASE_MS,
  STEP_FRACTION,
} from './limits.ts';
import { SILENT_LOGGER } from './log.ts';
import type { Logger } from './log.ts';
import { connectMeta } from './meta/meta-client.ts';
import type { RemoteMetaClient } from './meta/meta-client.ts';
import { parseAddress } from './net/address.ts';
import { rawSpace } from './upkeep/raw-space.ts';
import { collectStatus } from './upkeep/status.ts';
import { FileSystem } from './vfs/api.ts';
import type { VfsLimits, VfsOptions } from './vfs/options.ts';
import { Vfs } from './vfs/vfs.ts';

export { connectCatalog } from './catalog/connect.ts';
export type { CatalogClient } from './catalog/connect.ts';

export interface ConnectClusterOptions extends ConnectCatalogOptions {
  /** False: blocks of nodes on this machine are read through them, as those of others are. Default true. */
  readonly localReads?: boolean;
  /** Deadline of one operation; default OP_TIMEOUT_MS. */
  readonly timeoutMs?: number;
  /**
   * What was read is given to other readers, and theirs is taken (docs/protocol.md, "Readers serve readers"). Absent: not.
   * Without `listen` all interfaces, any port; and not at all where every node is on this machine, as nobody would gain.
   */
  readonly share?: { readonly listen?: Address | undefined } | undefined;
  /** Bytes of blocks that each filesystem keeps for reading, at most; default READ_CACHE_BYTES. */
  readonly readCacheBytes?: number | undefined;
  /**
   * Whole blocks that were read through the network are kept on this disk as well, from one run to the next. One client has
   * the directory at a time. Blocks of nodes on this machine are on its disks already, and not kept twice.
   */
  readonly diskCache?: { readonly directory: string; readonly maxBytes: number } | undefined;
}

export interface ClusterClient extends CatalogClient {
  readonly meta: RemoteMetaClient;
  readonly blocks: BlockClient;
  /** What this client and other readers gave each other; undefined: it does not share. */
  readonly sharing: BlockSharing | undefined;
  /** Undefined: it keeps nothing on disk. */
  readonly diskCache: DiskCache | undefined;
  /** A POSIX view for a kernel binding. Closed by whoever opened it, before the client. */
  openVfs(limits?: Partial<VfsLimits>, accessTimes?: VfsOptions['accessTimes']): Vfs;
  /** A view with the manners of node:fs/promises, as the given user. */
  openFileSystem(user: { readonly uid: number; readonly gid: number }, afterClose?: () => Promise<void>): FileSystem;
}

/** Connects to a cluster; rejects if no seed answers (UnavailableError) or the key is wrong (AuthError). */
export async function connectCluster(options: ConnectClusterOptions): Promise<ClusterClient> {
  const base = await connectCatalog(options);
  const { env, label, log = SILENT_LOGGER, localReads = true } = options;
  const { network, catalog } = base;
  let diskCache: DiskCache | undefined;
  try {
    const opTimeoutMs = checkTimeoutMs(options.timeoutMs ?? OP_TIMEOUT_MS);
    const timeoutMs = opTimeoutMs * STEP_FRACTION;
    const leaseMs = Math.max(SESSION_LEASE_MS, 2 * opTimeoutMs);
    const readCacheBytes = checkReadCacheBytes(options.readCacheBytes ?? READ_CACHE_BYTES);
    // Before the first connection to a node: it tells where this client can be asked.
    const sharing = await startSharing(options, base, log);
    if (options.diskCache !== undefined) {
      const copiesElsewhere = sharing?.copiesElsewhere.bind(sharing);
      const { disk, clock } = env;
      diskCache = await DiskCache.open({
        disk,
        clock,
        log,
        ...options.diskCache,
        ...(copiesElsewhere && { copiesElsewhere }),
      });
      sharing?.addSource(diskCache);
    }
    const kept = diskCache;
    // What files are read in is seen by nobody outside: programs get copies.
    const directReads = true;
    const blocks = createBlockClient({ env, network, catalog, timeoutMs, localReads, directReads, sharing, kept });
    const meta = await connectMeta({ env, network, catalog, log, label, timeoutMs, leaseMs });
    const openVfs = (wanted: Partial<VfsLimits> = {}, accessTimes: VfsOptions['accessTimes'] = 'unchanged') => {
      // What others may ask for is worth more than what memory costs.
      const whole = sharing === undefined ? {} : { readCacheFirstBytes: readCacheBytes };
      const limits = { timeoutMs: opTimeoutMs, readCacheBytes, ...whole, ...wanted };
      return new Vfs({ accessTimes, meta, blocks, catalog, env, log, limits, space: () => clusterSpace(base) });
    };
    return {
      network,
      catalog,
      clock: base.clock,
      meta,
      blocks,
      sharing,
      diskCache,
      openVfs,
      openFileSystem: (user, afterClose) => new FileSystem(openVfs(), user, afterClose),
      async close() {
        try {
          sharing?.close();
          await meta.close();
          await blocks.close();
        } finally {
          await diskCache?.close();
          await base.close();
        }
      },
    };
  } catch (error) {
    await diskCache?.close();
    await base.close();
    throw error;
  }
}

function checkTimeoutMs(timeoutMs: number): number {
  if (timeoutMs >= OP_TIMEOUT_MIN_MS && timeoutMs <= OP_TIMEOUT_MAX_MS) return timeoutMs;
  throw new UsageError(`timeoutMs is from ${OP_TIMEOUT_MIN_MS} to ${OP_TIMEOUT_MAX_MS}, not ${timeoutMs}`);
}

/** A larger one is a mistake in units, or would take the memory of the program itself. */
const READ_CACHE_MOST_BYTES = 1024 * GiB;

function checkReadCacheBytes(bytes: number): number {
  if (bytes >= 4 * BLOCK_MAX_BYTES && bytes <= READ_CACHE_MOST_BYTES) return bytes;
  throw new UsageError(`readCacheBytes is from ${4 * BLOCK_MAX_BYTES} to ${READ_CACHE_MOST_BYTES}, not ${bytes}`);
}

/** Undefined where it would be for nothing, or nobody can reach us. */
async function startSharing(
  options: ConnectClusterOptions,
  { network, catalog, clock }: CatalogClient,
  log: Logger,
): Promise<BlockSharing | undefined> {
  const { share, env, seeds } = options;
  if (share === undefined) return undefined;
  const isOwn = (address: Address) => env.isOwnHost?.(parseAddress(address).host) === true;
  if (share.listen === undefined && catalog.current().nodes.every(({ address }) => isOwn(address))) return undefined;
  const wildcard = seeds[0]?.startsWith('[') === true ? '[::]:0' : '0.0.0.0:0';
  const sharing = new BlockSharing(network, clock);
  try {
    const address = await network.listen(share.listen ?? wildcard);
    log.info({ address }, 'gives other readers what it has read');
    return sharing;
  } catch (error) {
    // Asked for by name it is meant; else everything works without.
    if (share.listen !== undefined) throw error;
    log.warn(
      { error: String(error) },
      'cannot listen: other readers get nothing from here, and this one nothing from them',
    );
    return undefined;
  }
}

/** Raw bytes over all nodes that answer. */
async function clusterSpace(client: CatalogClient) {
  const { nodes } = await collectStatus(client);
  return rawSpace(nodes.map(({ report }) => report).filter((report) => report !== undefined));
}
