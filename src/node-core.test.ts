import { expect, it } from 'vitest';
import { applyChange, firstCatalog } from './catalog/document.ts';
import { testNode } from './catalog/testing.ts';
import { newClusterKey } from './cluster-key.ts';
import { MemoryDisk, MemoryNetwork, createMemoryEnv } from './env-memory.ts';
import { createNodeEnv } from './env-node.ts';
import type { HistoryId, NodeId } from './ids.ts';
import { SILENT_LOGGER } from './log.ts';
import { NodeDirectory } from './node-directory.ts';
import { startWitness } from './witness.ts';

it('begins with the catalog that the process before it has saved last', async () => {
  const { clock, random } = createNodeEnv();
  const disk = new MemoryDisk();
  const env = createMemoryEnv({ clock, random, disk, transport: new MemoryNetwork({ clock }).transport('10.0.0.9') });
  const key = newClusterKey(random);
  const witness = { ...testNode(9), kind: 'witness', address: '10.0.0.9:7400' } as const;
  const catalog = firstCatalog({
    clusterId: key.clusterId,
    historyId: '1'.repeat(16) as HistoryId,
    nodes: [testNode(1), witness],
  });
  const directory = new NodeDirectory(disk, '/node');
  await directory.create({ clusterId: key.clusterId, nodeId: 'n9' as NodeId, storeId: witness.storeId }, catalog);
  const lock = disk.lock.bind(disk);
  disk.lock = async (path) => {
    await directory.saveCatalog(applyChange(catalog, { kind: 'setBalancePaused', paused: true }));
    return lock(path);
  };
  const options = { env, key, directory, log: SILENT_LOGGER, version: '', pid: 1, residentBytes: () => 0 };
  const running = await startWitness(options);
  try {
    expect(running.catalog.current().epoch).toBe(2);
  } finally {
    await running.close();
  }
});
