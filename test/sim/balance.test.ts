/** Nodes join: what moves, when, and what an operator who pauses it can rely on. */
import { describe, expect, it } from 'vitest';
import { levelOf } from '../../src/catalog/placement-level.ts';
import { findPool, placementOf } from '../../src/catalog/placement.ts';
import type { Catalog } from '../../src/catalog/types.ts';
import type { BlockId, NodeId } from '../../src/ids.ts';
import { hostOf } from '../../src/testing.ts';
import { drainProgress, isSettled } from '../../src/upkeep/drain.ts';
import { setBalancePaused, setDraining } from '../../src/upkeep/membership.ts';
import { BALANCE_AFTER_MS } from '../../src/upkeep/repair.ts';
import { repairProgress } from '../../src/upkeep/repair-progress.ts';
import { collectStatus } from '../../src/upkeep/status.ts';
import { SimCluster } from './cluster.ts';
import { copiedCount, untilSettled } from './settled.ts';
import { Workload } from './workload.ts';

async function withFiles(seed: number, nodes: number, copies: number) {
  const sim = await SimCluster.start({ seed, nodes, copies });
  const client = await sim.client();
  const fs = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  const work = new Workload(fs, clock, sim.world.random.fork('workload'), { prefix: 'f' });
  await sim.world.run(8_000);
  work.stop();
  await sim.settle(work.done, { what: 'the writing program', limitMs: 90_000 });
  await untilSettled(sim, client);
  return { sim, client, work };
}

async function join(sim: SimCluster): Promise<void> {
  await sim.settle(sim.cluster.startNode(sim.cluster.addNode()));
}

async function held(sim: SimCluster, id: string): Promise<number> {
  const node = sim.nodes().find((one) => one.id === id);
  let count = 0;
  for (const pool of node?.catalog.current().pools ?? []) {
    for await (const _ of node!.engine.list(pool.id)) count++;
  }
  return count;
}

/** Wanted holders of a block (`pool:id`) that were not so before. */
function movesOf(before: Catalog, after: Catalog, name: string): number {
  const [number, hex] = name.split(':') as [string, string];
  const holders = (catalog: Catalog): readonly NodeId[] => {
    const pool = findPool(catalog, Number(number))!;
    return placementOf(catalog, pool, Buffer.from(hex, 'hex') as Uint8Array as BlockId).slice(0, pool.copies);
  };
  const old = holders(before);
  return holders(after).filter((node) => !old.includes(node)).length;
}

describe('balancing', () => {
  it('fills two nodes that join one after the other with what they get in the end, and no copy more', async () => {
    const { sim, client } = await withFiles(94, 5, 2);
    const before = copiedCount(sim);
    const then = client.catalog.current();
    await join(sim);
    await sim.world.run(5_000);
    await join(sim);
    await sim.world.run(BALANCE_AFTER_MS - 5_000);
    expect(copiedCount(sim)).toBe(before);
    await untilSettled(sim, client);
    const gained = (await sim.settle(held(sim, 'n6'))) + (await sim.settle(held(sim, 'n7')));
    expect(gained).toBeGreaterThan(20);
    // What has another holder now than it had before both came.
    const names = [...(await sim.settle(sim.copiesByBlock())).keys()];
    const moved = names.reduce((sum, name) => sum + movesOf(then, client.catalog.current(), name), 0);
    expect(copiedCount(sim) - before).toBe(moved);
    for (const pool of client.catalog.current().pools) {
      for (const { groups, share } of levelOf(client.catalog.current(), pool)) {
        expect(Math.abs(groups - share)).toBeLessThanOrEqual(1);
      }
    }
    await sim.check(2);
    await sim.close();
  });

  it('that is paused moves nothing, and makes copies all the same of what has too few', async () => {
    const { sim, client, work } = await withFiles(95, 5, 2);
    await sim.settle(setBalancePaused(client, true));
    await join(sim);
    await sim.world.run(2 * BALANCE_AFTER_MS);
    expect(await sim.settle(held(sim, 'n6'))).toBe(0);
    const paused = await sim.settle(collectStatus(client));
    expect(repairProgress(paused)).toMatchObject({ done: false, waitsForBalance: true, leftBytes: 0 });
    // A drain waits as well.
    await sim.settle(setDraining(client, 'n5' as never, true));
    await sim.world.run(2 * BALANCE_AFTER_MS);
    const draining = await sim.settle(collectStatus(client));
    expect(
      isSettled(
        draining,
        draining.nodes.find(({ id }) => id === 'n5'),
      ),
    ).toBe(false);
    expect(drainProgress(draining, 'n5').waitingFor.join()).toContain('balance --resume');
    await sim.settle(setDraining(client, 'n5' as never, false));
    // What one that is down leaves alone is copied.
    const before = copiedCount(sim);
    sim.crash('n1', { kind: 'power' });
    await sim.world.run(40_000);
    expect(copiedCount(sim)).toBeGreaterThan(before);
    await sim.restart('n1');
    await sim.settle(setBalancePaused(client, false));
    await untilSettled(sim, client);
    expect(await sim.settle(held(sim, 'n6'))).toBeGreaterThan(20);
    await sim.check(2);
    work.journal.check(await sim.readAll(await sim.connect()), 'acknowledged');
    await sim.close();
  });

  it('ends a walk that is under way when it is paused', async () => {
    const { sim, client } = await withFiles(96, 4, 2);
    await join(sim);
    const before = copiedCount(sim);
    await sim.world.runUntil(() => copiedCount(sim) > before, {
      what: 'blocks are moved',
      limitMs: 2 * BALANCE_AFTER_MS,
    });
    await sim.settle(setBalancePaused(client, true));
    await sim.world.run(200);
    const then = copiedCount(sim);
    await sim.world.run(60_000);
    expect(copiedCount(sim)).toBe(then);
    await sim.settle(setBalancePaused(client, false));
    await untilSettled(sim, client);
    expect(copiedCount(sim)).toBeGreaterThan(then);
    await sim.check(2);
    await sim.close();
  });
});
