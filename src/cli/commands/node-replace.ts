import { setTimeout as sleep } from 'node:timers/promises';
import { fetchCatalog } from '../../catalog/fetch.ts';
import type { Catalog } from '../../catalog/types.ts';
import { connectCatalog } from '../../client.ts';
import { UsageError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import { NodeDirectory } from '../../node-directory.ts';
import { isSettled } from '../../upkeep/drain.ts';
import { collectStatus } from '../../upkeep/status.ts';
import type { ClusterStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import type { Where } from '../cluster-files.ts';
import { findSecret } from '../join-secret.ts';
import { processLogger } from '../logger.ts';
import { checkAddresses, checkNodeId } from '../node-arguments.ts';
import { bytes, note, print, rate } from '../output.ts';
import { realEnv } from '../real-env.ts';
import { runNode } from './node.ts';
import type { Beside, NodeOptions } from './node.ts';
import { checkRemoval } from './node-remove.ts';

const LOOK_INTERVAL_MS = 1_000;

export interface ReplaceOptions extends NodeOptions {
  readonly force?: boolean;
}

/**
 * A new node, with a name and a store of its own (R11: nobody acts under the name of one that has forgotten its promises), in
 * the place of a lost one: it gets the blocks that the old one had.
 */
export async function nodeReplace(
  oldName: string,
  addresses: string | undefined,
  options: ReplaceOptions,
  version: string,
): Promise<void> {
  const old = checkNodeId(oldName, 'node');
  const secret = await findSecret(options, true);
  const env = realEnv(secret.key);
  const beside: Beside = ({ id, address }, signal) =>
    showFilling({ seeds: checkAddresses(address, 'listen'), key: secret.key }, id, signal);
  if (await new NodeDirectory(env.disk, options.data).isInitialised()) {
    // Begun before: it is in the catalog, or enters it now.
    return runNode({ ...options, replaces: old }, secret, version, beside);
  }
  const through = addresses ?? secret.addresses?.join(',');
  if (through === undefined) {
    throw new UsageError('which cluster? An address is missing', {
      remedy: `Give one of a node that runs: tatami node replace ${old} HOST:PORT ...; or a join token, which has them.`,
    });
  }
  if (options.listen === undefined) {
    throw new UsageError('a new node needs an address: --listen is missing', {
      remedy: 'Give the one by which the other machines reach it: --listen HOST:PORT.',
    });
  }
  const seeds = checkAddresses(through, 'addresses');
  const where: Where = { seeds, key: secret.key };
  const catalog = await fetchCatalog(env, secret.key, seeds, 'tatami node replace', processLogger('tatami-node'));
  await checkLost(where, old, options);
  const id = options.id ?? nextName(catalog, old);
  const lost = catalog.nodes.find((node) => node.id === old);
  await runNode(
    {
      ...options,
      id,
      join: through,
      replaces: old,
      // Where the old one stood, unless said otherwise; for the defaults of --rack and --zone nobody can tell.
      ...(options.rack === 'rack' && lost !== undefined ? { rack: lost.rack } : {}),
      ...(options.zone === 'zone' && lost !== undefined ? { zone: lost.zone } : {}),
    },
    secret,
    version,
    beside,
  );
}

async function checkLost(where: Where, old: NodeId, options: ReplaceOptions): Promise<void> {
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami node replace') });
  try {
    const status = await collectStatus(client);
    const node = status.nodes.find((each) => each.id === old);
    if (node === undefined) {
      throw new UsageError(`there is no node ${old} to replace`, {
        remedy: `The nodes are: ${status.nodes.map((each) => each.id).join(', ')}. To add one: tatami node join.`,
      });
    }
    if (node.kind === 'witness') {
      throw new UsageError(`node ${old} is a witness`, {
        remedy: `Start another one (tatami witness --join), then: tatami node remove ${old}.`,
      });
    }
    if (node.state === 'up') {
      throw new UsageError(`node ${old} runs`, {
        remedy: `To take it out in order: tatami node drain ${old}. If its machine is to be given up as it is, stop it first.`,
      });
    }
    await checkRemoval(where, status, node, options);
  } finally {
    await client.close();
  }
}

/** n3 -> n3-2 -> n3-3: the first that was never used. */
export function nextName({ nodes, removed = [] }: Pick<Catalog, 'nodes' | 'removed'>, old: string): string {
  const stem = old.replace(/-\d+$/, '').slice(0, 60);
  const used = new Set<string>([...nodes, ...removed].map((node) => node.id));
  for (let number = 2; ; number++) if (!used.has(`${stem}-${number}`)) return `${stem}-${number}`;
}

/** A line now and then until all blocks are back where they belong. */
async function showFilling(where: Where, id: string, signal: AbortSignal): Promise<void> {
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami node replace') });
  try {
    const startMs = performance.now();
    let said = '';
    while (!signal.aborted) {
      const status = await collectStatus(client);
      const node = status.nodes.find((each) => each.id === id);
      const used = node?.report?.usedBytes ?? 0;
      if (isFilled(status) && node?.report !== undefined) {
        print(`every block is where it belongs again: ${id} holds ${node.report.blockCount} blocks, ${bytes(used)}`);
        return;
      }
      const line = `copying blocks to ${id}: ${bytes(used)} so far, ${rate(used, performance.now() - startMs)}`;
      if (line !== said) note((said = line));
      await sleep(LOOK_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  } catch (error) {
    if (!signal.aborted) note(`how far it is cannot be shown: ${String(error)}; \`tatami status\` tells`);
  } finally {
    await client.close();
  }
}

function isFilled(status: ClusterStatus): boolean {
  return status.nodes.every((node) => node.kind === 'witness' || node.state === 'down' || isSettled(status, node));
}
