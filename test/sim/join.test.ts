/** Nodes that join a running cluster, and what may happen to them meanwhile. */
import { describe, expect, it } from 'vitest';
import { FIRST_GROUP_ID } from '../../src/catalog/document.ts';
import { hostOf } from '../../src/testing.ts';
import { SimCluster } from './cluster.ts';

describe('a node that joins', () => {
  it('is a learner that has everything, and becomes the secondary when that one is gone', async () => {
    const sim = await SimCluster.start({ seed: 41, nodes: 2 });
    const fs = await sim.connect();
    await sim.settle(fs.writeFile('/before', 'a'));
    const id = sim.cluster.addNode();
    await sim.settle(sim.cluster.startNode(id));
    expect(id).toBe('n3');
    await sim.settle(fs.writeFile('/after', 'b'));
    await sim.check();
    expect(sim.group().learners).toContain(id);
    sim.crash('n2', { kind: 'process' });
    await sim.world.runUntil(() => sim.group().secondary === id, { what: 'the new node in sync' });
    await sim.settle(fs.writeFile('/later', 'c'));
    await sim.restart('n2');
    await sim.check();
    await sim.close();
  });

  it.each([51, 52, 53, 54, 55, 56])(
    'loses its power anywhere on the way, and joins when it is back; seed %i',
    async (seed) => {
      const sim = await SimCluster.start({ seed });
      const id = sim.cluster.addNode();
      for (let attempt = 0; attempt < 5; attempt++) {
        let serves = false;
        // One that dies never answers.
        void sim.cluster.startNode(id).then(() => (serves = true));
        await sim.world.run(sim.world.random.between(0, 40));
        if (serves) sim.cluster.kill(id);
        sim.world.crashHost(hostOf(id), { kind: 'power' });
        await sim.world.run(sim.world.random.between(0, 100));
        sim.world.restartHost(hostOf(id));
      }
      await sim.settle(sim.cluster.startNode(id));
      await sim.check();
      const { nodes } = sim.cluster.node(id)!.catalog.current();
      expect(nodes.map((node) => node.id)).toEqual(['n1', 'n2', 'n3', id]);
      expect(sim.cluster.node(id)!.meta.member(FIRST_GROUP_ID)!.status().role).toBe('learner');
      await sim.close();
    },
  );

  it('says so when it reaches nobody', async () => {
    const sim = await SimCluster.start({ seed: 42 });
    const id = sim.cluster.addNode();
    for (const other of ['n1', 'n2', 'n3']) sim.world.network.partition(hostOf(id), hostOf(other));
    await expect(sim.settle(sim.cluster.startNode(id))).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    sim.world.network.heal();
    await sim.settle(sim.cluster.startNode(id));
    await sim.check();
    await sim.close();
  });
});
