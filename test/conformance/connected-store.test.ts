/** ReplicatedStore over a connection of its own, to whole nodes in memory: what ReplicatedStore.connect makes. */
import { describe, expect, it } from 'vitest';
import { connectBlocks } from '../../src/blocks/block-connection.ts';
import { ReplicatedStore } from '../../src/blocks/replicated-store.ts';
import { firstCatalog } from '../../src/catalog/document.ts';
import type { CatalogNode } from '../../src/catalog/types.ts';
import { newClusterKey } from '../../src/cluster-key.ts';
import { createMemoryWorld } from '../../src/env-memory.ts';
import type { Env } from '../../src/env.ts';
import { UnavailableError, UsageError } from '../../src/errors.ts';
import type { HistoryId, NodeId } from '../../src/ids.ts';
import { SILENT_LOGGER } from '../../src/log.ts';
import { NodeDirectory } from '../../src/node-directory.ts';
import { startNode, type RunningNode } from '../../src/node.ts';
import { blockStoreConformance } from './block-store.ts';

interface Cluster {
  connect(pool?: string | number, env?: Env): Promise<ReplicatedStore>;
  clientEnv(hold: () => () => void): Env;
  readonly nodes: readonly RunningNode[];
  close(): Promise<void>;
}

async function startCluster(count: number): Promise<Cluster> {
  const world = createMemoryWorld();
  const key = newClusterKey(world.envOf('n1').random);
  const ids = Array.from({ length: count }, (_, index) => `n${index + 1}` as NodeId);
  const described = ids.map((id, index): CatalogNode => ({
    id,
    storeId: `${index}`.padStart(16, '0'),
    address: `${id}:7400`,
    weight: 100,
    host: id,
    rack: 'rack',
    zone: 'zone',
  }));
  const historyId = '0'.repeat(16) as HistoryId;
  const catalog = firstCatalog({ clusterId: key.clusterId, historyId, nodes: described });
  const nodes = await Promise.all(
    described.map(async ({ id, storeId }) => {
      const env = world.envOf(id);
      const directory = new NodeDirectory(env.disk, '/node');
      await directory.create({ clusterId: key.clusterId, nodeId: id, storeId }, catalog);
      const process = { log: SILENT_LOGGER, version: 'test', pid: 0, residentBytes: () => 0 };
      return startNode({ env, key, directory, ...process });
    }),
  );
  const seeds = described.map(({ address }) => address);
  return {
    nodes,
    clientEnv: (hold) => ({ ...world.envOf('client'), hold }),
    connect: async (pool = 'library', env = world.envOf('client')) =>
      ReplicatedStore.over(await connectBlocks({ env, seeds, key, label: 'library user' }), pool),
    close: async () => void (await Promise.all(nodes.map((node) => node.close()))),
  };
}

blockStoreConformance('ReplicatedStore over a connection of its own', async () => {
  const cluster = await startCluster(3);
  const store = await cluster.connect();
  return { store, close: () => store.close().finally(() => cluster.close()) };
});

describe('a connection for blocks alone', () => {
  it('finds the pool by name and by number, and refuses others', async () => {
    const cluster = await startCluster(1);
    const byName = await cluster.connect('library');
    const byNumber = await cluster.connect(2);
    const id = await byName.put(Buffer.from('here'));
    expect(Buffer.from(await byNumber.get(id)).toString()).toBe('here');
    await expect(cluster.connect('files')).rejects.toThrow(/belongs to a filesystem/);
    await expect(cluster.connect(1)).rejects.toThrow(UsageError);
    await expect(cluster.connect('nowhere')).rejects.toThrow(/no pool nowhere/);
    await byName.close();
    await byNumber.close();
    await cluster.close();
  });

  it('is shown with its label, and is gone after close', async () => {
    const cluster = await startCluster(1);
    const [node] = cluster.nodes;
    const labels = () => node?.network.incoming().map(({ remote }) => remote.label);
    const store = await cluster.connect();
    const id = await store.put(Buffer.from('x'));
    expect(labels()).toContain('library user');
    await store.close();
    await store.close();
    await expect.poll(labels).not.toContain('library user');
    await expect(store.has(id)).rejects.toThrow(/closed/);
    await cluster.close();
  });

  it('holds the process until it is closed, and no longer after a failure', async () => {
    const cluster = await startCluster(1);
    let held = 0;
    const env = cluster.clientEnv(() => {
      held += 1;
      return () => (held -= 1);
    });
    await expect(cluster.connect('files', env)).rejects.toThrow(UsageError);
    expect(held).toBe(0);
    const store = await cluster.connect('library', env);
    expect(held).toBe(1);
    await store.close();
    expect(held).toBe(0);
    await cluster.close();
    await expect(cluster.connect('library', env)).rejects.toThrow(UnavailableError);
    expect(held).toBe(0);
  });
});
