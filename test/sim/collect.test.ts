/** Garbage is collected again and again while programs overwrite, rename and delete, and nodes crash. */
import { describe, expect, it } from 'vitest';
import { COLLECT_EVERY_MIN_MS } from '../../src/catalog/collection.ts';
import type { ClusterClient } from '../../src/client.ts';
import type { QueryOf } from '../../src/meta/types.ts';
import { hostOf } from '../../src/testing.ts';
import { collectGarbage, type GcResult } from '../../src/upkeep/gc.ts';
import type { PoolId } from '../../src/ids.ts';
import { SimCluster } from './cluster.ts';
import { SimRandom } from './random.ts';
import { Workload } from './workload.ts';

const FILES = 1;
const LIBRARY = 2 as PoolId;

async function collecting(seed: number, { nodes = 4, clones = false, patches = false } = {}) {
  const sim = await SimCluster.start({ seed, nodes, copies: 2, collectEveryMs: COLLECT_EVERY_MIN_MS });
  const fs = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  const random = sim.world.random.fork('workload');
  const more = {
    ...(clones ? { clones: new SimRandom(seed) } : {}),
    ...(patches ? { patches: new SimRandom(seed).fork('patches') } : {}),
  };
  const work = new Workload(fs, clock, random, { prefix: 'f', pauseMs: 400, ...more });
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

/** One collection whose mark reads one extent at a time; `before` is awaited before each, with how many were read. */
function collect(client: ClusterClient, before: (read: number) => Promise<void>): Promise<GcResult> {
  let read = 0;
  const query = async (asked: QueryOf<'allExtents'>) => {
    await before(read++);
    return client.meta.query<'allExtents'>({ ...asked, limit: 1 });
  };
  const gcBarrier = (generation: number) => client.meta.gcBarrier(generation);
  const meta = { query, gcBarrier } as unknown as typeof client.meta;
  return collectGarbage({ network: client.network, catalog: client.catalog, meta, dryRun: false });
}

const EARLY = Buffer.alloc(100_000, 1);
const LATE = Buffer.from(new SimRandom(1).bytes(300_000));

/** Two files, and the connection of who clones one over the other. */
async function twoFiles(seed: number) {
  const sim = await SimCluster.start({ seed, nodes: 3, copies: 2 });
  const client = await sim.client();
  const fs = client.openFileSystem({ uid: 0, gid: 0 });
  await sim.settle(fs.writeFile('/early', EARLY));
  await sim.settle(fs.writeFile('/late', LATE));
  const other = await sim.client();
  const readEarly = async (): Promise<Buffer> =>
    sim.settle((await sim.connect()).readFile('/early'), { limitMs: 90_000 });
  return { sim, client, fs, other, readEarly };
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

  it.each([111, 112])('leaves alone what clones share and compactions name; seed %i', async (seed) => {
    const { sim, work } = await collecting(seed, { clones: true, patches: true });
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
    expect(work.savedCount).toBeGreaterThan(10);
    await swept(sim, work);
    await sim.close();
  });

  it.each([true, false])(
    'keeps what a clone brings to where the mark has been, from where it will not come; with renewal: %s',
    async (renews) => {
      const { sim, client, fs, other, readEarly } = await twoFiles(121);
      // The control: with receipts that no node gave the blocks are lost, so the mark alone does not keep them.
      if (!renews) client.blocks.renew = async (_pool, ids) => ids.map((id) => ({ id, generation: 1_000 }));
      const gc = collect(other, async (read) => {
        if (read !== 2) return;
        await fs.copyFile('/late', '/early');
        // At once: what is removed stays until the other client has told that it has it not open.
        await fs.truncate('/late');
      });
      const { reclaimedCount } = await sim.settle(gc, { what: 'garbage collection', limitMs: 60_000 });
      if (renews) {
        expect(reclaimedCount).toBe(0);
        expect((await readEarly()).equals(LATE)).toBe(true);
        // The next one takes what was replaced, and nothing else.
        await sim.settle(
          collect(other, async () => {}),
          { limitMs: 60_000 },
        );
        expect(await held(sim)).toBe(await sim.check(2));
        expect((await readEarly()).equals(LATE)).toBe(true);
      } else {
        expect(reclaimedCount).toBeGreaterThan(0);
        await expect(readEarly()).rejects.toMatchObject({ code: 'EIO' });
      }
      await sim.close();
    },
  );

  it('refuses a clone whose blocks were renewed before a collection began, and it is done anew', async () => {
    const { sim, client, fs, other, readEarly } = await twoFiles(122);
    const theirs = other.openFileSystem({ uid: 0, gid: 0 });
    const newer = Buffer.from(LATE).reverse();
    const mutate = client.meta.mutate.bind(client.meta);
    const clones: (number | undefined)[] = [];
    let reclaimedCount = 0;
    client.meta.mutate = async (mutation, options) => {
      if (mutation.op === 'clone' && clones.push(mutation.generation) === 1) {
        await theirs.writeFile('/late', newer);
        ({ reclaimedCount } = await collect(other, async () => {}));
      }
      return await mutate(mutation, options);
    };
    await sim.settle(fs.copyFile('/late', '/early'), { what: 'the clone', limitMs: 60_000 });
    expect(reclaimedCount).toBeGreaterThan(0);
    expect(clones).toEqual([0, 1]);
    expect((await readEarly()).equals(newer)).toBe(true);
    await sim.check(2);
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
