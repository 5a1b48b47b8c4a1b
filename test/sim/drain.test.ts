/** A node is drained while files are written and nodes fail: in the end nothing depends on it, and nothing is lost. */
import { describe, expect, it } from 'vitest';
import type { NodeId } from '../../src/ids.ts';
import { hostOf } from '../../src/testing.ts';
import { drainProgress } from '../../src/upkeep/drain.ts';
import { removeNode, setDraining } from '../../src/upkeep/membership.ts';
import { lossWithout } from '../../src/upkeep/removal.ts';
import { collectStatus } from '../../src/upkeep/status.ts';
import type { ClusterClient } from '../../src/client.ts';
import { SimCluster } from './cluster.ts';
import { Workload } from './workload.ts';

async function working(seed: number, nodes: number) {
  const sim = await SimCluster.start({ seed, nodes });
  const client = await sim.client();
  const fs = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  const work = new Workload(fs, clock, sim.world.random.fork('workload'), { prefix: 'f' });
  await sim.world.run(1_500);
  return { sim, client, work };
}

async function drained(sim: SimCluster, client: ClusterClient, id: string): Promise<void> {
  const isDrained = async () => drainProgress(await collectStatus(client), id).drained;
  for (let round = 0; !(await sim.settle(isDrained())); round++) {
    expect(round).toBeLessThan(120);
    await sim.world.run(500);
  }
}

async function finish(sim: SimCluster, work: Workload): Promise<void> {
  work.stop();
  await sim.settle(work.done, { what: 'the writing program', limitMs: 90_000 });
  await sim.check();
  work.journal.check(await sim.readAll(await sim.connect()), 'acknowledged');
  await sim.close();
}

describe('draining a node under writes', () => {
  it.each([
    ['in peace', 81, undefined, undefined],
    ['and it is killed in the middle', 82, 'n1', 'process'],
    ['and it loses its power in the middle', 83, 'n1', 'power'],
    ['and another one loses its power in the middle', 84, 'n2', 'power'],
  ] as const)('%s', async (_, seed, victim, kind) => {
    const { sim, client, work } = await working(seed, 5);
    await sim.settle(setDraining(client, 'n1' as NodeId, true));
    if (victim !== undefined) {
      await sim.world.run(200 + sim.world.random.below(900));
      sim.crash(victim, { kind });
      await sim.world.run(sim.world.random.below(4_000));
      await sim.restart(victim);
    }
    await drained(sim, client, 'n1');
    const loss = await sim.settle(
      lossWithout({ network: client.network, catalog: client.catalog, meta: client.meta, without: 'n1' as NodeId }),
    );
    expect(loss).toMatchObject({ lostCount: 0, silent: [] });
    // It goes, and its disk with it.
    const gone = sim.cluster.node('n1')?.failed;
    await sim.settle(removeNode(client, 'n1' as NodeId));
    expect((await sim.settle(gone!)).message).toMatch(/n1 was removed/);
    await sim.settle(sim.cluster.stopNode('n1'));
    await finish(sim, work);
  });

  it('of a node that is down: the others make the copies again, and what it alone has is counted', async () => {
    const { sim, client, work } = await working(85, 4);
    sim.crash('n4', { kind: 'process' });
    await sim.settle(setDraining(client, 'n4' as NodeId, true));
    await drained(sim, client, 'n4');
    await sim.settle(removeNode(client, 'n4' as NodeId));
    sim.world.restartHost(hostOf('n4'));
    const back = sim.cluster.startNode('n4').then(() => sim.cluster.node('n4')!.failed);
    const outcome = await sim.settle(back.catch((error: unknown) => error as Error));
    expect(outcome.message).toMatch(/n4 was removed/);
    await sim.settle(sim.cluster.stopNode('n4'));
    await finish(sim, work);
  });
});
