/** How a process that has only addresses and the key comes by its first catalog. */
import type { ClusterKey } from '../cluster-key.ts';
import type { Env, Timer } from '../env.ts';
import { TatamiError, UnavailableError } from '../errors.ts';
import { ATTEMPT_TIMEOUT_MS, CONNECT_TIMEOUT_MS } from '../limits.ts';
import type { Logger } from '../log.ts';
import { createNetwork } from '../net/network.ts';
import type { Network } from '../net/types.ts';
import { parseCatalog } from './schema.ts';
import type { Catalog } from './types.ts';

/** Nothing was said at all. */
const SILENT: ReadonlySet<string> = new Set(['ERR_PEER_UNREACHABLE', 'ERR_TIMEOUT']);
/** Once one seed has answered the others get this long: many times what a healthy one takes. */
const OTHERS_WAIT_MS = 250;

/**
 * The newest catalog of those that the seeds which answer soon have; a newer one is heard of with the first message that comes
 * from whoever has it. Throws the first failure if none answers.
 */
export async function fetchCatalog(
  env: Env,
  key: ClusterKey,
  seeds: readonly string[],
  label: string,
  log: Logger,
): Promise<Catalog> {
  const network = createNetwork({
    env,
    identity: { kind: 'client', clusterId: key.clusterId, label },
    key: key.secret,
    log: (level, message, facts) => log[level](facts ?? {}, message),
  });
  try {
    const { found, failures } = await askAll(env, network, seeds);
    const newest = found.sort((a, b) => b.epoch - a.epoch)[0];
    if (newest !== undefined) return newest;
    // What a node said (wrong key, other cluster) tells more than that another one is down.
    const telling = failures.find(
      (error): error is TatamiError => error instanceof TatamiError && !SILENT.has(error.code),
    );
    if (telling !== undefined) throw telling;
    throw new UnavailableError(`no node answers at ${seeds.join(', ')}`, {
      cause: failures[0],
      remedy: 'Start the cluster (`tatami up`), or give the address of a node that runs.',
    });
  } finally {
    await network.close();
  }
}

/** Ends when all have answered or failed, and a little after the first answer at the latest. */
function askAll(
  { clock }: Pick<Env, 'clock'>,
  network: Network,
  seeds: readonly string[],
): Promise<{ readonly found: Catalog[]; readonly failures: unknown[] }> {
  return new Promise((resolve) => {
    const found: Catalog[] = [];
    const failures: unknown[] = [];
    let timer: Timer | undefined;
    const finish = (): void => {
      timer?.cancel();
      resolve({ found: [...found], failures });
    };
    const settled = (): void => {
      if (found.length + failures.length === seeds.length) finish();
      else if (found.length > 0) timer ??= clock.setTimer(OTHERS_WAIT_MS, finish);
    };
    for (const seed of seeds) {
      askCatalog(network, seed).then(
        (catalog) => {
          found.push(catalog);
          settled();
        },
        (error: unknown) => {
          failures.push(error);
          settled();
        },
      );
    }
    if (seeds.length === 0) finish();
  });
}

async function askCatalog(network: Network, seed: string): Promise<Catalog> {
  const channel = await network.dial(seed, CONNECT_TIMEOUT_MS);
  try {
    const reply = await channel.call('catalog.get', { known: 0 }, { timeoutMs: ATTEMPT_TIMEOUT_MS });
    return parseCatalog((reply.header as { catalog?: unknown }).catalog);
  } finally {
    channel.close();
  }
}
