/**
 * A connection for blocks alone: network, catalog and block client, without metadata and so without a session. What
 * src/client.ts is for a filesystem.
 */
import { connectCatalog } from '../catalog/connect.ts';
import type { CatalogClient, ConnectClusterOptions } from '../catalog/connect.ts';
import { createBlockClient, type ClusterBlockClient } from './block-client.ts';

export interface BlockConnectionOptions extends ConnectClusterOptions {
  /** Deadline of one operation; default DATA_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

export interface BlockConnection extends Pick<CatalogClient, 'network' | 'catalog'> {
  readonly client: ClusterBlockClient;
  /** Ends what is under way. */
  close(): Promise<void>;
}

/** Rejects with UnavailableError if no seed answers, AuthError if the key is wrong. */
export async function connectBlocks(options: BlockConnectionOptions): Promise<BlockConnection> {
  const base = await connectCatalog(options);
  const { network, catalog } = base;
  const { env, timeoutMs } = options;
  const client = createBlockClient({ env, network, catalog, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  return {
    client,
    network,
    catalog,
    async close() {
      try {
        await client.close();
      } finally {
        await base.close();
      }
    },
  };
}
