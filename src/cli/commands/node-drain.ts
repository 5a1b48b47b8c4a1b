import { connectCatalog } from '../../client.ts';
import { UsageError } from '../../errors.ts';
import { consequences, drainProgress } from '../../upkeep/drain.ts';
import type { DrainProgress } from '../../upkeep/drain.ts';
import { setDraining } from '../../upkeep/membership.ts';
import { collectStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster } from '../cluster-files.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { watchDrain } from '../drain-watch.ts';
import { EXIT } from '../exit-codes.ts';
import { listenForInterruption } from '../interruption.ts';
import { checkNodeId } from '../node-arguments.ts';
import { note, print, printJson } from '../output.ts';
import { realEnv } from '../real-env.ts';

export interface DrainOptions extends WhereOptions {
  readonly detach?: boolean;
  readonly undo?: boolean;
  readonly json?: boolean;
}

/** Begins, shows or undoes the draining of a node. */
export async function nodeDrain(name: string, options: DrainOptions): Promise<void> {
  const id = checkNodeId(name, 'node');
  if (options.undo === true && options.detach === true) {
    throw new UsageError('--undo takes no time: there is nothing to --detach from', { remedy: 'Leave one out.' });
  }
  const where = await findCluster(options);
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami node drain') });
  try {
    const read = () => collectStatus(client);
    const before = await read();
    if (options.undo === true) {
      await setDraining(client, id, false);
      if (options.json === true) printJson({ node: id, draining: false });
      else print(`node ${id} takes data again; what it lacks is copied to it`);
      return;
    }
    const isNew = before.nodes.every((node) => node.id !== id || node.draining !== true);
    await setDraining(client, id, true);
    if (isNew) for (const line of consequences(before, id)) note(`note: ${line}`);
    if (options.detach === true) return show(drainProgress(await read(), id), options);
    const interruption = listenForInterruption();
    try {
      const { signal } = interruption;
      const end = await watchDrain({ id, label: `draining ${id}`, read, signal, shown: options.json !== true });
      show(end, options);
      if (!end.drained) process.exitCode = EXIT.interrupted;
    } finally {
      interruption.end();
    }
  } finally {
    await client.close();
  }
}

function show(state: DrainProgress, { json }: DrainOptions): void {
  if (json === true) return printJson({ ...state, draining: true });
  if (state.drained) {
    print(`node ${state.node} is drained: nothing depends on it any more`);
    print(`take it out of the cluster:  tatami node remove ${state.node}`);
  } else {
    print(`node ${state.node} is being drained; it waits for ${state.waitingFor.join(', ')}`);
    print(
      `see how far it is:  tatami node drain ${state.node}    take it back:  tatami node drain ${state.node} --undo`,
    );
  }
}
