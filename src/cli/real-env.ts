/** The real world, with TLS where a cluster reaches beyond this machine. */
import type { ClusterKey } from '../cluster-key.ts';
import { createNodeEnv } from '../env-node.ts';
import type { Env } from '../env.ts';
import { createNodeTransport } from '../net/transport-node.ts';

export function realEnv(key: ClusterKey): Env {
  return createNodeEnv({ transport: createNodeTransport({ tlsKey: key.secret }) });
}
