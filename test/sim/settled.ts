/** What tests of repair wait for and count. */
import { expect } from 'vitest';
import type { ClusterClient } from '../../src/client.ts';
import { isSettled } from '../../src/upkeep/drain.ts';
import { collectStatus } from '../../src/upkeep/status.ts';
import type { SimCluster } from './cluster.ts';

/** Until everybody who is up has finished with the present placement. */
export async function untilSettled(sim: SimCluster, client: ClusterClient): Promise<void> {
  const isDone = async (): Promise<boolean> => {
    const status = await collectStatus(client);
    return status.nodes.every((node) => node.state !== 'up' || isSettled(status, node));
  };
  for (let round = 0; !(await sim.settle(isDone())); round++) {
    expect(round).toBeLessThan(120);
    await sim.world.run(500);
  }
}

/** Copies made by repair on nodes that run. */
export function copiedCount(sim: SimCluster): number {
  return sim.nodes().reduce((sum, node) => sum + node.repair.report().copiedCount, 0);
}
