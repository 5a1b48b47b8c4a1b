/**
 * A connection for blocks alone: network, catalog and block client, without metadata and so without a session. What
 * src/client.ts is for a filesystem.
 */
import { fetchCatalog } from '../catalog/fetch.ts';
import { CatalogReplica } from '../catalog/replica.ts';
import type { CatalogService } from '../catalog/types.ts';
import type { ClusterKey } from '../cluster-key.ts';
import type { Env } from '../env.ts';
import { SILENT_LOGGER, sentences } from '../log.ts';
import type { Logger } from '../log.ts';
import { createNetwork } from '../net/network.ts';
import type { Network } from '../net/types.ts';
import { createBlockClient, type ClusterBlockClient } from './block-client.ts';

export interface BlockConnectionOptions {
  readonly env: Env;
  /** Addresses of some nodes; one that answers is enough. */
  readonly seeds: readonly string[];
  readonly key: ClusterKey;
  /** What `tatami status` shows for this client. */
  readonly label: string;
  readonly log?: Logger;
  /** Deadline of one operation; default DATA_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

export interface BlockConnection {
  readonly client: ClusterBlockClient;
  readonly network: Network;
  readonly catalog: CatalogService;
  /** Ends what is under way. */
  close(): Promise<void>;
}

/** Rejects with UnavailableError if no seed answers, AuthError if the key is wrong. */
export async function connectBlocks(options: BlockConnectionOptions): Promise<BlockConnection> {
  // While every node is down a call waits on timers only: the program must not end before its answer.
  const release = options.env.hold?.() ?? (() => undefined);
  try {
    return await wire(options, release);
  } catch (error) {
    release();
    throw error;
  }
}

async function wire(options: BlockConnectionOptions, release: () => void): Promise<BlockConnection> {
  const { env, key, label, log = SILENT_LOGGER } = options;
  const initial = await fetchCatalog(env, key, options.seeds, label, log);
  const network = createNetwork({
    env,
    identity: { kind: 'client', clusterId: key.clusterId, label },
    key: key.secret,
    log: (level, message, facts) => log[level](facts ?? {}, message),
  });
  const catalog = new CatalogReplica({ env, network, initial, log: sentences(log, 'debug') });
  network.setNews(
    () => ({ catalogEpoch: catalog.current().epoch, fullPermille: 0, gcGeneration: 0 }),
    (news, _from, channel) => catalog.heard(news, channel),
  );
  const { timeoutMs } = options;
  const client = createBlockClient({ env, network, catalog, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  return {
    client,
    network,
    catalog,
    async close() {
      try {
        await client.close();
        await network.close();
      } finally {
        release();
      }
    },
  };
}
