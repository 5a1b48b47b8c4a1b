/** A node is lost and nobody does anything: the copies come back by themselves, and when it returns it is taken in again. */
import { describe, expect, it } from 'vitest';
import { activeNodes } from '../../src/catalog/membership.ts';
import { hostOf } from '../../src/testing.ts';
import { setRepairAfter } from '../../src/upkeep/membership.ts';
import { RESCUE_AFTER_MS } from '../../src/upkeep/repair.ts';
import type { ClusterClient } from '../../src/client.ts';
import { SimCluster } from './cluster.ts';
import type { SimClusterOptions } from './cluster.ts';
import { copiedCount, untilSettled } from './settled.ts';
import { Workload } from './workload.ts';

const AFTER_MS = 40_000;

async function working(options: SimClusterOptions) {
  const sim = await SimCluster.start(options);
  const client = await sim.client();
  const fs = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  const work = new Workload(fs, clock, sim.world.random.fork('workload'), { prefix: 'f' });
  await sim.world.run(3_000);
  return { sim, client, work };
}

async function stop(sim: SimCluster, work: Workload): Promise<void> {
  work.stop();
  await sim.settle(work.done, { what: 'the writing program', limitMs: 90_000 });
}

/** Copies more than are wanted. */
async function surplus(sim: SimCluster, copies: number): Promise<number> {
  const counts = await sim.settle(sim.copiesByBlock());
  return [...counts.values()].reduce((sum, count) => sum + Math.max(0, count - copies), 0);
}

async function levelled(sim: SimCluster, copies: number): Promise<void> {
  for (let round = 0; (await surplus(sim, copies)) > 0; round++) {
    expect(round).toBeLessThan(60);
    await sim.world.run(1_000);
  }
}

const active = (client: ClusterClient): string[] => activeNodes(client.catalog.current()).map((node) => node.id);

describe('a node that is down', () => {
  it('for longer than is set: its blocks get their copies elsewhere; when it is back it holds its share again', async () => {
    const { sim, client, work } = await working({ seed: 91, nodes: 5, copies: 3 });
    await sim.settle(setRepairAfter(client, AFTER_MS));
    sim.crash('n5', { kind: 'power' });
    await sim.world.run(5_000);
    await stop(sim, work);
    await sim.world.run(AFTER_MS - 15_000);
    expect(active(client)).toHaveLength(5);
    await sim.world.runUntil(() => !active(client).includes('n5'), { what: 'n5 is left out', limitMs: 30_000 });
    await untilSettled(sim, client);
    expect(await sim.check(3)).toBeGreaterThan(20);
    // Another one, for good: of what was repaired nothing is lost.
    sim.crash('n4', { kind: 'power' });
    await sim.world.runUntil(() => active(client).length === 3, { what: 'n4 is left out', limitMs: 90_000 });
    await untilSettled(sim, client);
    expect(await sim.check(3)).toBeGreaterThan(20);
    work.journal.check(await sim.readAll(await sim.connect()), 'acknowledged');
    await sim.restart('n5');
    await sim.world.runUntil(() => active(client).includes('n5'), { what: 'n5 is taken in', limitMs: 30_000 });
    await untilSettled(sim, client);
    await sim.check(3);
    // What the others held in its place they give up.
    await levelled(sim, 3);
    expect(sim.nodes().some((node) => (node.repair.report().givenUpCount ?? 0) > 0)).toBe(true);
    await sim.check(3);
    work.journal.check(await sim.readAll(await sim.connect()), 'acknowledged');
    await sim.close();
  });

  it('and has left one copy alone: that is copied after seconds, the rest waits', async () => {
    const { sim, client, work } = await working({ seed: 92, nodes: 5, copies: 2 });
    await stop(sim, work);
    await sim.check(2);
    sim.crash('n5', { kind: 'process' });
    const before = copiedCount(sim);
    await sim.world.run(RESCUE_AFTER_MS - 5_000);
    expect(copiedCount(sim)).toBe(before);
    await sim.world.run(20_000);
    expect(active(client)).toHaveLength(5);
    expect(copiedCount(sim)).toBeGreaterThan(before);
    expect(await sim.check(2)).toBeGreaterThan(20);
    await sim.restart('n5');
    await levelled(sim, 2);
    await sim.check(2);
    await sim.close();
  });

  it('of three with three copies: nothing is copied anywhere, and nothing is left out', async () => {
    const { sim, client, work } = await working({ seed: 93, nodes: 3, copies: 3 });
    await stop(sim, work);
    await sim.settle(setRepairAfter(client, 5_000));
    await untilSettled(sim, client);
    await sim.check(3);
    sim.crash('n3', { kind: 'process' });
    const before = copiedCount(sim);
    await sim.world.run(60_000);
    expect(active(client)).toHaveLength(3);
    expect(copiedCount(sim)).toBe(before);
    await sim.restart('n3');
    await sim.check(3);
    await sim.close();
  });
});
