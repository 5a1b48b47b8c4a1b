import { ReplicatedStore } from '../../src/blocks/replicated-store.ts';
import { FakeCluster, POOL } from '../support/fake-block-cluster.ts';
import { blockStoreConformance } from './block-store.ts';

for (const nodes of [1, 3, 5]) {
  blockStoreConformance(`ReplicatedStore on ${nodes} nodes`, async () => {
    const cluster = await FakeCluster.start({ nodes, pool: { kind: 'library', copies: Math.min(3, nodes) } });
    const store = new ReplicatedStore({
      client: cluster.client,
      network: cluster.clientNetwork,
      catalog: { current: () => cluster.catalog },
      pool: POOL,
    });
    return {
      store,
      close: async () => {
        await store.close();
        await cluster.close();
      },
    };
  });
}
