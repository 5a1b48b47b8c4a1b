/** Status says that all is well only while every block has its copies, whatever has been given up or asked for. */
import { describe, expect, it } from 'vitest';
import { activeNodes } from '../../src/catalog/membership.ts';
import type { ClusterClient } from '../../src/client.ts';
import type { NodeId } from '../../src/ids.ts';
import { hostOf } from '../../src/testing.ts';
import { removeNode } from '../../src/upkeep/membership.ts';
import { setPool } from '../../src/upkeep/pools.ts';
import { repairProgress } from '../../src/upkeep/repair-progress.ts';
import { collectStatus } from '../../src/upkeep/status.ts';
import type { ClusterStatus } from '../../src/upkeep/status.ts';
import { SimCluster } from './cluster.ts';
import { untilSettled } from './settled.ts';
import { Workload } from './workload.ts';

async function withFiles(seed: number, copies: number) {
  const sim = await SimCluster.start({ seed, nodes: 5, copies });
  const client = await sim.client();
  const fs = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  const work = new Workload(fs, clock, sim.world.random.fork('workload'), { prefix: 'f' });
  await sim.world.run(5_000);
  work.stop();
  await sim.settle(work.done, { what: 'the writing program', limitMs: 90_000 });
  await untilSettled(sim, client);
  await sim.check(copies);
  return { sim, client };
}

/** Statuses, until one says that all is well; that one tells the truth. */
async function untilHealthy(sim: SimCluster, client: ClusterClient, copies: number): Promise<ClusterStatus[]> {
  const seen: ClusterStatus[] = [];
  for (;;) {
    const status = await sim.settle(collectStatus(client));
    seen.push(status);
    if (status.health === 'healthy') break;
    expect(seen.length).toBeLessThan(5_000);
    await sim.world.run(20);
  }
  const counts = await sim.settle(sim.copiesByBlock());
  expect([...counts.values()].filter((count) => count < copies)).toEqual([]);
  return seen;
}

const scarceCount = (status: ClusterStatus): number => repairProgress(status).scarceCount;

describe('a cluster whose blocks have too few copies', () => {
  it('because a dead node was removed is degraded until they are made', async () => {
    const { sim, client } = await withFiles(96, 3);
    const gone = sim.bystander() as NodeId;
    sim.crash(gone, { kind: 'power' });
    await sim.world.run(3_000);
    await sim.settle(removeNode(client, gone));
    const seen = await untilHealthy(sim, client, 3);
    expect(seen.length).toBeGreaterThan(10);
    // That it was not known yet, and then how many there were, was said.
    const texts = seen.flatMap(({ findings }) => findings.map(({ text }) => text)).join('\n');
    expect(texts).toMatch(/Pool files may have blocks with fewer than 3 copies: .* are still looking through theirs/);
    expect(Math.max(...seen.map(scarceCount))).toBeGreaterThan(5);
    await sim.check(3);
    await sim.close();
  });

  it('because more are wanted is degraded until they are made', async () => {
    const { sim, client } = await withFiles(97, 2);
    await sim.settle(setPool(client, 'files', { copies: 3 }));
    const seen = await untilHealthy(sim, client, 3);
    expect(Math.max(...seen.map(scarceCount))).toBeGreaterThan(5);
    await sim.check(3);
    await sim.close();
  });

  it('is not one whose blocks are only to be moved', async () => {
    const { sim, client } = await withFiles(98, 3);
    await sim.settle(sim.cluster.startNode(sim.cluster.addNode()));
    await sim.world.runUntil(() => sim.nodes().every((node) => activeNodes(node.catalog.current()).length === 6), {
      what: 'everybody has heard of it',
    });
    let movedBytes = 0;
    for (let round = 0; round < 100; round++) {
      const status = await sim.settle(collectStatus(client));
      expect([status.health, scarceCount(status)]).toEqual(['healthy', 0]);
      movedBytes = Math.max(movedBytes, repairProgress(status).leftBytes + repairProgress(status).postponedBytes);
      await sim.world.run(250);
    }
    expect(movedBytes).toBeGreaterThan(0);
    await untilSettled(sim, client);
    await sim.check(3);
    await sim.close();
  });
});
