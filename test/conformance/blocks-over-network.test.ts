import { describe, expect, it } from 'vitest';
import { hashBlock } from '../../src/blocks/identity.ts';
import { ReplicatedStore } from '../../src/blocks/replicated-store.ts';
import { createMemoryWorld } from '../../src/env-memory.ts';
import type { PoolId } from '../../src/ids.ts';
import { pattern } from '../support/fake-block-cluster.ts';
import { startRealCluster, type RealCluster } from '../support/real-block-cluster.ts';
import { blockStoreConformance } from './block-store.ts';

const POOL = 1 as PoolId;

function start(kind: 'filesystem' | 'library'): Promise<RealCluster> {
  const world = createMemoryWorld();
  return startRealCluster(world.envOf, (host) => `${host}:7000`, 3, { kind });
}

blockStoreConformance('ReplicatedStore over the real network code', async () => {
  const cluster = await start('library');
  const store = new ReplicatedStore({
    client: cluster.client,
    network: cluster.network,
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

describe('blocks over the real network code', () => {
  it('writes and reads many blocks, also while a node goes away', async () => {
    const cluster = await start('filesystem');
    const blocks = Array.from({ length: 24 }, (_, i) => pattern(1_000_000 + i, i + 1));
    const [victim] = cluster.nodes;
    await Promise.all(blocks.slice(0, 12).map((block) => cluster.client.put(POOL, block)));
    const reading = Promise.all(
      blocks.slice(0, 12).map((block) => cluster.client.readBlock(POOL, hashBlock(block).id, block.length)),
    );
    await victim?.close();
    const read = await reading;
    read.forEach((data, index) => expect(Buffer.compare(data, blocks[index] as Uint8Array)).toBe(0));
    await Promise.all(blocks.slice(12).map((block) => cluster.client.put(POOL, block)));
    for (const block of blocks) {
      const data = await cluster.client.readBlock(POOL, hashBlock(block).id, block.length);
      expect(Buffer.compare(data, block)).toBe(0);
    }
    await cluster.client.close();
    await cluster.network.close();
    await Promise.all(cluster.nodes.slice(1).map((node) => node.close()));
  });
});
