/**
 * A program's (or a mount's) connection to a cluster: catalog, metadata and blocks, and filesystems opened over them.
 * The composition root of the client side; src/node.ts is that of a node.
 */
import { createBlockClient } from './blocks/block-client.ts';
import type { BlockClient } from './blocks/types.ts';
import { connectCatalog } from './catalog/connect.ts';
import type { CatalogClient, ConnectClusterOptions as ConnectCatalogOptions } from './catalog/connect.ts';
import { UsageError } from './errors.ts';
import { OP_TIMEOUT_MAX_MS, OP_TIMEOUT_MIN_MS, OP_TIMEOUT_MS, SESSION_LEASE_MS, STEP_FRACTION } from './limits.ts';
import { SILENT_LOGGER } from './log.ts';
import { connectMeta } from './meta/meta-client.ts';
import type { RemoteMetaClient } from './meta/meta-client.ts';
import { rawSpace } from './upkeep/raw-space.ts';
import { collectStatus } from './upkeep/status.ts';
import { FileSystem } from './vfs/api.ts';
import type { VfsLimits } from './vfs/options.ts';
import { Vfs } from './vfs/vfs.ts';

export { connectCatalog } from './catalog/connect.ts';
export type { CatalogClient } from './catalog/connect.ts';

export interface ConnectClusterOptions extends ConnectCatalogOptions {
  /** False: blocks of nodes on this machine are read through them, as those of others are. Default true. */
  readonly localReads?: boolean;
  /** Deadline of one operation; default OP_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

export interface ClusterClient extends CatalogClient {
  readonly meta: RemoteMetaClient;
  readonly blocks: BlockClient;
  /** A POSIX view for a kernel binding. Closed by whoever opened it, before the client. */
  openVfs(limits?: Partial<VfsLimits>): Vfs;
  /** A view with the manners of node:fs/promises, as the given user. */
  openFileSystem(user: { readonly uid: number; readonly gid: number }, afterClose?: () => Promise<void>): FileSystem;
}

/** Connects to a cluster; rejects if no seed answers (UnavailableError) or the key is wrong (AuthError). */
export async function connectCluster(options: ConnectClusterOptions): Promise<ClusterClient> {
  const base = await connectCatalog(options);
  const { env, label, log = SILENT_LOGGER, localReads = true } = options;
  const { network, catalog } = base;
  try {
    const opTimeoutMs = checkTimeoutMs(options.timeoutMs ?? OP_TIMEOUT_MS);
    const timeoutMs = opTimeoutMs * STEP_FRACTION;
    const leaseMs = Math.max(SESSION_LEASE_MS, 2 * opTimeoutMs);
    const blocks = createBlockClient({ env, network, catalog, timeoutMs, localReads });
    const meta = await connectMeta({ env, network, catalog, log, label, timeoutMs, leaseMs });
    const openVfs = (wanted: Partial<VfsLimits> = {}) => {
      const limits = { timeoutMs: opTimeoutMs, ...wanted };
      return new Vfs({ meta, blocks, catalog, env, log, limits, space: () => clusterSpace(base) });
    };
    return {
      network,
      catalog,
      clock: base.clock,
      meta,
      blocks,
      openVfs,
      openFileSystem: (user, afterClose) => new FileSystem(openVfs(), user, afterClose),
      async close() {
        try {
          await meta.close();
          await blocks.close();
        } finally {
          await base.close();
        }
      },
    };
  } catch (error) {
    await base.close();
    throw error;
  }
}

function checkTimeoutMs(timeoutMs: number): number {
  if (timeoutMs >= OP_TIMEOUT_MIN_MS && timeoutMs <= OP_TIMEOUT_MAX_MS) return timeoutMs;
  throw new UsageError(`timeoutMs is from ${OP_TIMEOUT_MIN_MS} to ${OP_TIMEOUT_MAX_MS}, not ${timeoutMs}`);
}

/** Raw bytes over all nodes that answer. */
async function clusterSpace(client: CatalogClient) {
  const { nodes } = await collectStatus(client);
  return rawSpace(nodes.map(({ report }) => report).filter((report) => report !== undefined));
}
