import { majorityOf } from '../../catalog/paxos.ts';
import { connectCatalog, connectCluster } from '../../client.ts';
import { TatamiError, UnavailableError, UsageError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import { damageOf } from '../../upkeep/damage.ts';
import { drainProgress } from '../../upkeep/drain.ts';
import { removeNode } from '../../upkeep/membership.ts';
import { lossWithout } from '../../upkeep/removal.ts';
import { collectStatus, storedBlocks } from '../../upkeep/status.ts';
import type { ClusterStatus, NodeStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster } from '../cluster-files.ts';
import type { Where, WhereOptions } from '../cluster-files.ts';
import { lossInWords, notCountedInWords } from '../loss-words.ts';
import { checkNodeId } from '../node-arguments.ts';
import { bytes, note, print, printJson, progress } from '../output.ts';
import { realEnv } from '../real-env.ts';

export interface RemoveOptions extends WhereOptions {
  readonly force?: boolean;
  readonly json?: boolean;
}

/** Takes a drained or dead node out of the catalog, unless that would lose something. */
export async function nodeRemove(name: string, options: RemoveOptions): Promise<void> {
  const id = checkNodeId(name, 'node');
  const where = await findCluster(options);
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami node remove') });
  try {
    const status = await collectStatus(client);
    const node = status.nodes.find((each) => each.id === id);
    // Whatever else is wrong with the name, the catalog says it best.
    if (node !== undefined) await checkRemoval(where, status, node, options);
    await removeNode(client, id);
    if (options.json === true) return printJson({ node: id, removed: true });
    print(`node ${id} is out of the cluster; its name and its data directory will not be taken in again`);
    if (node !== undefined && node.kind !== 'witness' && node.draining !== true) {
      print('copies that it held are made again from the others; `tatami status` shows how far they are');
    }
  } finally {
    await client.close();
  }
}

/** Throws unless the node can go without loss, or only by force and that is wanted. */
export async function checkRemoval(
  where: Where,
  status: ClusterStatus,
  node: NodeStatus,
  options: RemoveOptions,
): Promise<void> {
  if (node.state === 'up') return checkDrained(status, node);
  checkQuorum(status, node.id);
  checkGroups(status, node.id);
  if (node.kind === 'witness') return;
  const loss = await countLoss(where, status, node.id, options);
  if (loss === undefined) return;
  if (options.force !== true) throw loss;
  note(`--force: ${loss.message}`);
}

/** One that runs gives everything up by itself first: there is nothing to force. */
function checkDrained(status: ClusterStatus, node: NodeStatus): void {
  const { drained, waitingFor, blocksLeft, bytesLeft } = drainProgress(status, node.id);
  if (node.draining === true && drained) return;
  const left = blocksLeft === undefined || blocksLeft === 0 ? '' : ` (${blocksLeft} blocks, ${bytes(bytesLeft ?? 0)})`;
  const why =
    node.draining === true ? `its draining still waits for ${waitingFor.join(', ')}${left}` : 'it is not drained';
  throw new UsageError(`node ${node.id} runs, and ${why}`, {
    remedy: `Drain it first: tatami node drain ${node.id}. If its machine is to be given up as it is, stop it, then remove it.`,
  });
}

function checkQuorum({ voters }: ClusterStatus, id: string): void {
  const needed = majorityOf(voters.length);
  const up = voters.filter((voter) => voter.state === 'up');
  const rest = voters.filter((voter) => voter.id !== id);
  const neededOfRest = majorityOf(Math.max(1, rest.length));
  if (up.length >= needed && up.length >= neededOfRest) return;
  throw new UnavailableError(
    `the catalog cannot change: ${needed} of its ${voters.length} voters must agree, ${up.length} are up (${up.map((voter) => voter.id).join(', ') || 'none'})`,
    { remedy: 'Bring back voters that are down; `tatami status` names them.' },
  );
}

function checkGroups({ groups }: ClusterStatus, id: string): void {
  for (const group of groups) {
    if (group.primary === id) {
      throw new UsageError(`node ${id} is the primary of group ${group.id}, and nobody has taken over from it`, {
        remedy:
          `Its metadata is complete there alone. Start the node again; a secondary that is up takes over within seconds. If both ` +
          `are lost for good, see what other copies there are: tatami group force ${group.id} --from NODE.`,
      });
    }
    if (group.secondary === id) {
      throw new UnavailableError(`node ${id} is still the secondary of group ${group.id}`, {
        remedy: 'Its primary replaces it within seconds. Try again; if it stays so, look at `tatami status`.',
      });
    }
  }
}

/** The error that says what would be lost; undefined if nothing would. */
async function countLoss(
  where: Where,
  status: ClusterStatus,
  id: NodeId,
  options: RemoveOptions,
): Promise<TatamiError | undefined> {
  const force = `Start the node once more and drain it (tatami node drain ${id}); or give up what it alone has: --force.`;
  const bar = progress('blocks looked for elsewhere', storedBlocks(status).blockCount, (count) => `${count} blocks`);
  try {
    const cluster = await connectCluster({
      env: realEnv(where.key),
      ...where,
      label: clientLabel('tatami node remove'),
    });
    try {
      const { network, catalog, meta } = cluster;
      const onProgress = options.json === true ? () => undefined : bar.update;
      const damage = damageOf(status);
      const loss = await lossWithout({ network, catalog, meta, without: id, damage, onProgress });
      const notCounted = notCountedInWords(id, loss);
      bar.end();
      if (notCounted !== '') note(notCounted);
      const lost = lossInWords(id, loss);
      if (lost === '') return undefined;
      const remedy = loss.silent.length > 0 ? `Start ${loss.silent.join(', ')} first. ${force}` : force;
      return new UsageError(lost, { remedy });
    } finally {
      await cluster.close();
    }
  } catch (error) {
    if (!(error instanceof TatamiError)) throw error;
    return new UnavailableError(`whether node ${id} alone has something cannot be told: ${error.message}`, {
      remedy: `Wait until the metadata is served again (tatami status). ${force}`,
      cause: error,
    });
  } finally {
    bar.end();
  }
}
