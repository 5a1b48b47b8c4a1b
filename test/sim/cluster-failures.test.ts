/** A cluster in the simulated world through crashes and bad weather; each case with a few fixed seeds. */
import { describe, expect, it } from 'vitest';
import { hostOf } from '../../src/testing.ts';
import { SimCluster } from './cluster.ts';
import type { CrashHostOptions } from './world.ts';
import { Workload } from './workload.ts';

/** A cluster with a program that writes to it. */
async function working(seed: number): Promise<{ sim: SimCluster; work: Workload }> {
  const sim = await SimCluster.start({ seed });
  const work = await workload(sim, 'f');
  await sim.world.run(200 + sim.world.random.below(400));
  return { sim, work };
}

async function workload(sim: SimCluster, prefix: string): Promise<Workload> {
  const fs = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  return new Workload(fs, clock, sim.world.random.fork('workload'), { prefix });
}

/** The program ends without an error, everything it was promised is there, and the cluster is in order. */
async function finish(sim: SimCluster, work: Workload): Promise<void> {
  work.stop();
  await sim.settle(work.done, { what: 'the writing program', limitMs: 90_000 });
  expect(work.actionCount).toBeGreaterThan(5);
  await sim.check();
  work.journal.check(await sim.readAll(await sim.connect()), 'acknowledged');
  await sim.close();
}

const power: CrashHostOptions = { kind: 'power' };
const death: CrashHostOptions = { kind: 'process' };

/** SIM_SEEDS=100-199 looks further. */
function seeds(): number[] {
  const [first = 11, last = 12] = (process.env['SIM_SEEDS'] ?? '').split('-').filter(Boolean).map(Number);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

describe.each(seeds())('while files are written, seed %i', (seed) => {
  it('a node that is neither primary nor secondary loses power and returns', async () => {
    const { sim, work } = await working(seed);
    const id = sim.bystander();
    sim.crash(id, power);
    await sim.world.run(500 + sim.world.random.below(2_500));
    await sim.restart(id);
    await sim.world.run(1_000);
    await finish(sim, work);
  });

  it('the secondary loses power: another takes its place, and the old one comes back as a learner', async () => {
    const { sim, work } = await working(seed);
    const { secondary, epoch } = sim.group();
    const next = sim.bystander();
    sim.crash(secondary ?? '', power);
    await sim.world.runUntil(() => sim.group().secondary === next, { what: 'the next secondary' });
    expect(sim.group().epoch).toBeGreaterThan(epoch);
    const before = work.actionCount;
    await sim.world.run(1_000);
    expect(work.actionCount).toBeGreaterThan(before);
    await sim.restart(secondary ?? '');
    await sim.world.run(1_000);
    expect(sim.group().learners).toContain(secondary);
    await finish(sim, work);
  });

  it.each([power, death])('the secondary is back before it was missed ($kind)', async (kind) => {
    const { sim, work } = await working(seed);
    const { secondary, epoch } = sim.group();
    sim.crash(secondary ?? '', kind);
    await sim.world.run(sim.world.random.below(700));
    await sim.restart(secondary ?? '');
    await sim.world.run(2_000);
    // After a power failure its peers may learn only from silence that their connections are gone.
    if (kind.kind === 'process') expect(sim.group()).toMatchObject({ secondary, epoch });
    await finish(sim, work);
  });

  it.each([power, death])('the primary stops and returns ($kind)', async (kind) => {
    const { sim, work } = await working(seed);
    const { primary } = sim.group();
    sim.crash(primary, kind);
    await sim.world.run(500 + sim.world.random.below(6_000));
    await sim.restart(primary);
    await sim.world.run(2_000);
    await finish(sim, work);
  });

  it('every process is killed at once, and the program goes on when they are back', async () => {
    const { sim, work } = await working(seed);
    sim.crashAll(death);
    await sim.world.run(1_000);
    await sim.restartAll();
    await sim.world.run(2_000);
    await finish(sim, work);
  });

  it('all machines lose their power: what was synced is back, the rest is whole or absent', async () => {
    const { sim, work } = await working(seed);
    for (let round = 0; round < 3; round++) {
      const writer = round === 0 ? work : await workload(sim, `r${round}-`);
      await sim.world.run(300 + sim.world.random.below(700));
      sim.crash(sim.latestClient, power);
      sim.crashAll({ ...power, anyKvOrder: round === 2 });
      await sim.world.run(500);
      await sim.restartAll();
      await sim.check();
      const files = await sim.readAll(await sim.connect());
      const own = [...files].filter(([path]) => path.startsWith(round === 0 ? '/f' : `/r${round}-`));
      writer.journal.check(new Map(own), 'durable');
      expect(writer.actionCount).toBeGreaterThan(3);
    }
    await sim.close();
  });

  it('the network is slow and breaks connections', async () => {
    const { sim, work } = await working(seed);
    const { world } = sim;
    world.network.weather = {
      latencyMs: [0.5, 60],
      bytesPerMs: 20_000,
      datagramLoss: 0.2,
      datagramDuplication: 0.2,
      cut: 0.5,
    };
    const hosts = ['n1', 'n2', 'n3', 'c1'].map(hostOf);
    for (let count = 0; count < 30; count++) {
      await world.run(world.random.between(20, 400));
      const a = hosts[world.random.below(4)] ?? '';
      const b = hosts[world.random.below(4)] ?? '';
      if (a === b) continue;
      if (world.random.chance(0.7)) world.network.breakConnections(a, b);
      else {
        world.network.partition(a, b, { oneWay: world.random.chance(0.5) });
        await world.run(world.random.between(10, 1_500));
        world.network.heal(a, b);
      }
    }
    await finish(sim, work);
  });
});
