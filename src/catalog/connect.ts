/** A process's connection to a cluster: network and catalog, and nothing that needs more to be up. */
import type { ClusterKey } from '../cluster-key.ts';
import type { Clock, Env } from '../env.ts';
import { SILENT_LOGGER, sentences } from '../log.ts';
import type { Logger } from '../log.ts';
import { createNetwork } from '../net/network.ts';
import type { Network } from '../net/types.ts';
import { fetchCatalog } from './fetch.ts';
import { CatalogReplica } from './replica.ts';

export interface ConnectClusterOptions {
  readonly env: Env;
  /** Addresses of some nodes; one that answers is enough. */
  readonly seeds: readonly string[];
  readonly key: ClusterKey;
  /** What `tatami status` shows for this client. */
  readonly label: string;
  readonly log?: Logger;
}

/** Enough to ask how the nodes are, also while no metadata is served. */
export interface CatalogClient {
  readonly network: Network;
  readonly catalog: CatalogReplica;
  readonly clock: Clock;
  close(): Promise<void>;
}

/** Rejects if no seed answers (UnavailableError) or the key is wrong (AuthError). */
export async function connectCatalog(options: ConnectClusterOptions): Promise<CatalogClient> {
  // While every node is down a call waits on timers only: the program must not end before its answer.
  const release = options.env.hold?.() ?? (() => undefined);
  const { env, key, label, log = SILENT_LOGGER } = options;
  try {
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
    return { network, catalog, clock: env.clock, close: () => network.close().finally(release) };
  } catch (error) {
    release();
    throw error;
  }
}
