/** Pools are made and changed while programs write: nothing is lost, and what is stored goes where the pool wants it. */
import { describe, expect, it } from 'vitest';
import { hostOf } from '../../src/testing.ts';
import { fsck } from '../../src/upkeep/fsck.ts';
import type { Trouble } from '../../src/upkeep/fsck.ts';
import { collectGarbage } from '../../src/upkeep/gc.ts';
import { assignPool, createPool, poolOf, setPool } from '../../src/upkeep/pools.ts';
import { collectStatus } from '../../src/upkeep/status.ts';
import { SIM_BLOCK_BYTES, SimCluster } from './cluster.ts';
import { untilSettled } from './settled.ts';
import { Workload } from './workload.ts';

/** Until each block of the pool has exactly so many copies. */
async function levelled(sim: SimCluster, pool: number, copies: number): Promise<void> {
  const counts = async (): Promise<number[]> =>
    [...(await sim.settle(sim.copiesByBlock()))].filter(([name]) => name.startsWith(`${pool}:`)).map(([, n]) => n);
  for (let round = 0; (await counts()).some((count) => count !== copies); round++) {
    expect(round).toBeLessThan(90);
    await sim.world.run(1_000);
  }
  expect((await counts()).length).toBeGreaterThan(5);
}

describe('pools', () => {
  it('of a directory: made, assigned, given more groups and other numbers of copies while files are written', async () => {
    const sim = await SimCluster.start({ seed: 301, nodes: 5, copies: 3 });
    const client = await sim.client();
    const fs = await sim.connect();
    const { clock } = sim.world.envOf(hostOf(sim.latestClient));
    const wanted = { name: 'scratch', kind: 'filesystem', copies: 2, domain: 'node', pgCount: 8 } as const;
    await sim.settle(createPool(client, { ...wanted, blockSizeBytes: 2 * SIM_BLOCK_BYTES }));
    const scratch = poolOf(client.catalog.current(), 'scratch');
    await sim.settle(fs.mkdir('/s/below', { recursive: true }));
    const { attr: directory } = await sim.settle(
      client.meta.query<'lookup'>({ op: 'lookup', parent: 1 as never, name: Buffer.from('s') }),
    );
    const done = assignPool({ meta: client.meta, directory, pool: scratch.id, all: false });
    expect(await sim.settle(done)).toEqual({ count: 2, keptCount: 0 });

    const random = sim.world.random;
    const works = [
      new Workload(fs, clock, random.fork('files'), { prefix: 'f' }),
      new Workload(fs, clock, random.fork('scratch'), { prefix: 's/below/f' }),
    ];
    await sim.world.run(3_000);
    // Somebody who still has the old catalog reads and writes on.
    await sim.settle(setPool(client, 'scratch', { pgCount: 64 }));
    await sim.settle(setPool(client, 'files', { pgCount: 512 }));
    await sim.world.run(2_000);
    const gc = collectGarbage({ network: client.network, catalog: client.catalog, meta: client.meta, dryRun: false });
    await sim.settle(gc, { what: 'garbage collection', limitMs: 60_000 });
    await sim.settle(setPool(client, 'scratch', { copies: 4 }));
    await sim.settle(setPool(client, 'files', { copies: 2 }));
    await sim.world.run(2_000);
    await sim.settle(setPool(client, 'scratch', { pgCount: 128 }));
    await sim.world.run(1_000);
    for (const work of works) {
      work.stop();
      await sim.settle(work.done, { what: 'the writing program', limitMs: 90_000 });
    }
    await untilSettled(sim, client);
    expect(await sim.check(2)).toBeGreaterThan(20);
    await levelled(sim, scratch.id, 4);
    await levelled(sim, 1, 2);
    const contents = await sim.readAll(await sim.connect());
    for (const [index, work] of works.entries()) {
      const own = [...contents].filter(([path]) => path.startsWith('/s/') === (index === 1));
      work.journal.check(new Map(own), 'acknowledged');
    }
    const troubles: Trouble[] = [];
    const checked = fsck({
      ...{ meta: client.meta, network: client.network, catalog: client.catalog },
      status: await sim.settle(collectStatus(client)),
      onTrouble: (trouble) => troubles.push(trouble),
    });
    await sim.settle(checked);
    expect(troubles.filter(({ kind }) => kind !== 'orphaned')).toEqual([]);
    await sim.close();
  });

  it('with one copy get their second, and it is enough when a node is lost', async () => {
    const sim = await SimCluster.start({ seed: 302, nodes: 4, copies: 2 });
    const client = await sim.client();
    const fs = await sim.connect();
    const settings = { copies: 1, domain: 'node', pgCount: 16, blockSizeBytes: SIM_BLOCK_BYTES } as const;
    await sim.settle(createPool(client, { name: 'one', kind: 'filesystem', ...settings }));
    const pool = poolOf(client.catalog.current(), 'one');
    await sim.settle(fs.mkdir('/one'));
    await sim.settle(fs.setxattr('/one', 'tatami.pool', 'one'));
    // An assignment is metadata as any other: it outlives the primary that made it.
    const { primary } = sim.group();
    sim.crash(primary, { kind: 'power' });
    const data = Buffer.alloc(20 * SIM_BLOCK_BYTES, 'tatami ');
    for (let block = 0; block < 20; block++) data.writeUInt32LE(block, block * SIM_BLOCK_BYTES);
    await sim.settle(fs.writeFile('/one/file', data), { what: 'writing through a fail-over', limitMs: 30_000 });
    expect(sim.group().primary).not.toBe(primary);
    expect((await sim.settle(fs.getxattr('/one/file', 'tatami.pool'))).toString()).toBe('one');
    await sim.restart(primary);
    await levelled(sim, pool.id, 1);
    await sim.settle(setPool(client, 'one', { copies: 2 }));
    await untilSettled(sim, client);
    await levelled(sim, pool.id, 2);
    sim.crash(sim.bystander(), { kind: 'power' });
    const again = await sim.connect();
    expect((await sim.settle(again.readFile('/one/file'))).equals(data)).toBe(true);
    await sim.close();
  });
});
