/** Garbage is collected again and again while programs overwrite, rename and delete, and nodes crash. */
import { describe, expect, it } from 'vitest';
import { COLLECT_EVERY_MIN_MS } from '../../src/catalog/collection.ts';
import { hostOf } from '../../src/testing.ts';
import type { PoolId } from '../../src/ids.ts';
import { SimCluster } from './cluster.ts';
import { SimRandom } from './random.ts';
import { Workload } from './workload.ts';

const FILES = 1;
const LIBRARY = 2 as PoolId;

async function collecting(seed: number, { nodes = 4, clones = false } = {}) {
  const sim = await SimCluster.start({ seed, nodes, copies: 2, collectEveryMs: COLLECT_EVERY_MIN_MS });
  const fs = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  const random = sim.world.random.fork('workload');
  const cloned = clones ? { clones: new SimRandom(seed) } : {};
  const work = new Workload(fs, clock, random, { prefix: 'f', pauseMs: 400, ...cloned });
  return { sim, fs, work };
}

async function stop(sim: SimCluster, work: Workload): Promise<void> {
  work.stop();
  await sim.settle(work.done, { what: 'the writing program', limitMs: 90_000 });
}

/** Distinct blocks of the filesystem's pool that nodes hold. */
async function held(sim: SimCluster): Promise<number> {
  const blocks = await sim.settle(sim.copiesByBlock());
  return [...blocks.keys()].filter((name) => name.startsWith(`${FILES}:`)).length;
}

const collections = (sim: SimCluster) => sim.nodes().flatMap((node) => node.collector.report() ?? []);

/** Nothing but what files use is left; more than nothing was freed on the way. */
async function swept(sim: SimCluster, work: Workload): Promise<void> {
  await sim.world.run(3 * COLLECT_EVERY_MIN_MS);
  const live = await sim.check(2);
  expect(await held(sim)).toBe(live);
  work.journal.check(await sim.readAll(await sim.connect()), 'acknowledged');
}

describe('garbage collection', () => {
  it.each([101, 102, 103])(
    'takes what no file uses, and only that; nodes are killed meanwhile; seed %i',
    async (seed) => {
      const { sim, work } = await collecting(seed);
      const { random } = sim.world;
      for (let round = 0; round < 6; round++) {
        await sim.world.run(random.between(3_000, 9_000));
        const id = `n${1 + random.below(4)}`;
        sim.crash(id, { kind: random.chance(0.5) ? 'process' : 'power' });
        await sim.world.run(random.between(500, 12_000));
        await sim.restart(id);
      }
      await stop(sim, work);
      await swept(sim, work);
      expect(collections(sim).length).toBeGreaterThan(0);
      await sim.close();
    },
  );

  it.each([111, 112])('leaves alone what clones share, whatever becomes of the originals; seed %i', async (seed) => {
    const { sim, work } = await collecting(seed, { clones: true });
    const { random } = sim.world;
    for (let round = 0; round < 6; round++) {
      await sim.world.run(random.between(5_000, 15_000));
      const id = `n${1 + random.below(4)}`;
      sim.crash(id, { kind: random.chance(0.5) ? 'process' : 'power' });
      await sim.world.run(random.between(500, 12_000));
      await sim.restart(id);
    }
    await stop(sim, work);
    expect(work.cloneCount).toBeGreaterThan(10);
    await swept(sim, work);
    await sim.close();
  });

  it('does not free what a client that slept through several collections then commits', async () => {
    const { sim, fs, work } = await collecting(104);
    const file = await sim.settle(fs.open('/slow', 'w'));
    await sim.settle(file.write(Buffer.alloc(300_000, 7), 0));
    await sim.world.run(2_000);
    const host = hostOf(sim.latestClient);
    sim.world.pauseHost(host);
    await sim.world.run(4 * COLLECT_EVERY_MIN_MS);
    sim.world.resumeHost(host);
    await sim.settle(file.sync(), { what: 'fsync after the sleep', limitMs: 60_000 });
    await sim.settle(file.close());
    await stop(sim, work);
    await sim.world.run(3 * COLLECT_EVERY_MIN_MS);
    await sim.check(2);
    const read = await sim.settle((await sim.connect()).readFile('/slow'));
    expect(Buffer.compare(read, Buffer.alloc(300_000, 7))).toBe(0);
    await sim.close();
  });

  it('frees on a node that was away what was deleted meanwhile, and leaves the pool of a library alone', async () => {
    const { sim, fs, work } = await collecting(105);
    const client = await sim.client();
    const { id } = await sim.settle(client.blocks.put(LIBRARY, Buffer.alloc(5_000, 1)));
    await sim.settle(fs.writeFile('/gone', Buffer.alloc(500_000, 3)));
    await sim.world.run(5_000);
    await stop(sim, work);
    sim.crash('n4', { kind: 'power' });
    await sim.settle(fs.unlink('/gone'));
    await sim.world.run(3 * COLLECT_EVERY_MIN_MS);
    expect(collections(sim).some(({ skippedNodes }) => skippedNodes.includes('n4'))).toBe(true);
    await sim.restart('n4');
    await swept(sim, work);
    expect(await sim.settle(client.blocks.readBlock(LIBRARY, id, 5_000))).toEqual(new Uint8Array(5_000).fill(1));
    await sim.close();
  });
});
