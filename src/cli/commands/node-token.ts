import { connectCatalog } from '../../client.ts';
import { formatJoinToken } from '../../join-token.ts';
import { isLoopback } from '../../net/address.ts';
import { collectStatus } from '../../upkeep/status.ts';
import type { ClusterStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster } from '../cluster-files.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { note, print } from '../output.ts';
import { realEnv } from '../real-env.ts';

/** A token is used soon after it was made; of five nodes one is up then. */
const ADDRESS_COUNT = 5;

/** Prints the token alone on standard output. */
export async function nodeToken(options: WhereOptions): Promise<void> {
  const where = await findCluster(options);
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami node token') });
  try {
    const addresses = bestAddresses(await collectStatus(client));
    print(formatJoinToken({ key: where.key, addresses }));
    note('whoever has this token is in the cluster: treat it like the key file');
    if (addresses.every(isLoopback)) {
      note('all nodes listen on addresses of this machine alone: no other machine can join them');
    }
  } finally {
    await client.close();
  }
}

/** Those that are up first, of these the voters: they stay longest. */
function bestAddresses({ nodes, voters }: ClusterStatus): string[] {
  const rank = ({ id, state }: ClusterStatus['nodes'][number]): number =>
    (state === 'up' ? 0 : 2) + (voters.some((voter) => voter.id === id) ? 0 : 1);
  return [...nodes]
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, ADDRESS_COUNT)
    .map((node) => node.address);
}
