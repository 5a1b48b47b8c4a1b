/** Block services over the real network code, in one process: for what a fake network cannot show. */
import { createBlockClient, type ClusterBlockClient } from '../../src/blocks/block-client.ts';
import { BlockService } from '../../src/blocks/block-service.ts';
import { MemoryEngine } from '../../src/blocks/memory-engine.ts';
import type { BlockEngine } from '../../src/blocks/types.ts';
import type { Catalog, Pool } from '../../src/catalog/types.ts';
import type { Env } from '../../src/env.ts';
import type { Epoch, NodeId, PoolId } from '../../src/ids.ts';
import { createNetwork } from '../../src/net/network.ts';
import type { Network } from '../../src/net/types.ts';

export interface RealNode {
  readonly id: NodeId;
  readonly network: Network;
  readonly engine: BlockEngine;
  readonly service: BlockService;
  close(): Promise<void>;
}

export interface RealCluster {
  readonly nodes: readonly RealNode[];
  readonly client: ClusterBlockClient;
  readonly network: Network;
  readonly catalog: Catalog;
  close(): Promise<void>;
}

export async function startRealCluster(
  envOf: (host: string) => Env,
  addressOf: (host: string) => string,
  count: number,
  pool: Partial<Pool> = {},
  engineOf: (host: string) => Promise<BlockEngine> = () => Promise.resolve(new MemoryEngine()),
  kvFolder = '/kv',
): Promise<RealCluster> {
  const key = new Uint8Array(32).fill(7);
  const clusterId = '0'.repeat(32);
  const log = (): void => undefined;
  const ids = Array.from({ length: count }, (_, i) => `n${i + 1}` as NodeId);
  let catalog: Catalog = {
    formatVersion: 1,
    clusterId,
    epoch: 1 as Epoch,
    nodes: ids.map((id) => ({ id, storeId: id, address: '', weight: 100, host: id, rack: 'r', zone: 'z' })),
    voters: [],
    pools: [
      {
        id: 1 as PoolId,
        name: 'data',
        kind: 'filesystem',
        copies: 2,
        blockSizeBytes: 4 << 20,
        pgCount: 64,
        domain: 'node',
        upmap: {},
        placementEpoch: 1 as Epoch,
        ...pool,
      },
    ],
    groups: [],
    tablets: [],
  };
  const current = (): Catalog => catalog;
  const nodes: RealNode[] = [];
  const addresses = new Map<NodeId, string>();
  for (const id of ids) {
    const env = envOf(id);
    const network = createNetwork({ env, key, log, identity: { kind: 'node', nodeId: id, clusterId, label: id } });
    const engine = await engineOf(id);
    const kv = await env.disk.openKv(`${kvFolder}/${id}`);
    const service = await BlockService.open({
      self: id,
      engine,
      network,
      catalog: { current },
      env,
      kv,
      log: { info: log, warn: log },
    });
    addresses.set(id, await network.listen(addressOf(id)));
    const close = async (): Promise<void> => {
      await network.close();
      await service.close();
      await kv.close();
      await engine.close();
    };
    nodes.push({ id, network, engine, service, close });
  }
  catalog = { ...catalog, nodes: catalog.nodes.map((node) => ({ ...node, address: addresses.get(node.id) ?? '' })) };
  const env = envOf('client');
  const network = createNetwork({ env, key, log, identity: { kind: 'client', clusterId, label: 'test' } });
  for (const each of [network, ...nodes.map((node) => node.network)]) each.setAddresses(addresses);
  const client = createBlockClient({ network, catalog: { current }, env, directReads: true });
  return {
    nodes,
    client,
    network,
    catalog,
    close: async () => {
      await client.close();
      await network.close();
      await Promise.all(nodes.map((node) => node.close()));
    },
  };
}
