import { describe, expect, it } from 'vitest';
import { FakeCluster, pattern, POOL } from '../../test/support/fake-block-cluster.ts';
import { placementOf } from '../catalog/placement.ts';
import type { BlockId, NodeId } from '../ids.ts';
import { hashBlock } from './identity.ts';

const data = Array.from({ length: 20 }, (_, at) => pattern(1_000 + at, at + 1));
const ids = data.map((block) => hashBlock(block).id);

async function start(nodes = 4, copies = 2): Promise<FakeCluster> {
  const cluster = await FakeCluster.start({ nodes, pool: { copies } });
  for (const block of data) await cluster.settle(cluster.client.put(POOL, block));
  await cluster.quiet();
  cluster.hub.calls.length = 0;
  return cluster;
}

function order(cluster: FakeCluster, id: BlockId): readonly NodeId[] {
  return placementOf(cluster.catalog, cluster.catalog.pools[0]!, id);
}

async function begin(cluster: FakeCluster, node: string, generation: number): Promise<void> {
  const to = node as NodeId;
  await cluster.settle(cluster.clientNetwork.call(to, 'block.gcBegin', { generation }, { timeoutMs: 1_000 }));
}

async function sweepAll(cluster: FakeCluster, generation: number): Promise<void> {
  for (const { id: node } of cluster.nodes) {
    const header = { pool: POOL, generation, ids };
    await cluster.settle(cluster.clientNetwork.call(node, 'block.sweepOld', header, { timeoutMs: 1_000 }));
  }
}

const holders = (cluster: FakeCluster, id: BlockId): number =>
  cluster.nodes.filter(({ engine }) => engine.has(POOL, id) !== undefined).length;

describe('renewing blocks', () => {
  it('asks each node once, and keeps them from the sweep of the collection that their receipts are of', async () => {
    const cluster = await start();
    for (const { id } of cluster.nodes) await begin(cluster, id, 5);
    cluster.hub.calls.length = 0;
    const receipts = await cluster.settle(cluster.client.renew(POOL, ids.slice(0, 10)));
    expect(receipts).toEqual(ids.slice(0, 10).map((id) => ({ id, generation: 5 })));
    expect(cluster.hub.calls.length).toBeLessThanOrEqual(4);
    await sweepAll(cluster, 5);
    expect(ids.map((id) => holders(cluster, id))).toEqual([...new Array(10).fill(2), ...new Array(10).fill(0)]);
    await cluster.close();
  });

  it('gives no receipt for what one node has alone, or none', async () => {
    const cluster = await start();
    const [one, gone] = ids as [BlockId, BlockId];
    await cluster.node(order(cluster, one)[0]!).engine.delete(POOL, one);
    for (const { engine } of cluster.nodes) await engine.delete(POOL, gone);
    const receipts = await cluster.settle(cluster.client.renew(POOL, ids));
    expect(receipts.map((receipt) => receipt === undefined)).toEqual(ids.map((_, at) => at < 2));
    await cluster.close();
  });

  it('finds the copies of substitutes, further on in the order', async () => {
    const cluster = await start();
    const [id] = ids as [BlockId];
    const nodes = order(cluster, id);
    const { pageHashes } = hashBlock(data[0]!);
    await cluster.node(nodes[3]!).engine.put(POOL, id, pageHashes, data[0]!, 0);
    await cluster.node(nodes[1]!).engine.delete(POOL, id);
    expect(await cluster.settle(cluster.client.renew(POOL, [id]))).toEqual([{ id, generation: 0 }]);
    cluster.hub.kill(nodes[0]!);
    expect(await cluster.settle(cluster.client.renew(POOL, [id]))).toEqual([undefined]);
    await cluster.close();
  });

  it('counts the stamps of as many nodes as a put needs, best first; a least generation is given to all', async () => {
    const cluster = await start(4, 3);
    const [id] = ids as [BlockId];
    const nodes = order(cluster, id);
    await cluster.until(() => holders(cluster, id) === 3);
    await begin(cluster, nodes[0]!, 8);
    await begin(cluster, nodes[2]!, 6);
    expect(await cluster.settle(cluster.client.renew(POOL, [id]))).toEqual([{ id, generation: 6 }]);
    expect(await cluster.settle(cluster.client.renew(POOL, [id], { minGeneration: 7 }))).toEqual([
      { id, generation: 7 },
    ]);
    await cluster.close();
  });

  it('needs one node in a cluster of one, and an unknown pool is an error', async () => {
    const cluster = await start(1);
    expect(await cluster.settle(cluster.client.renew(POOL, ids))).toEqual(ids.map((id) => ({ id, generation: 0 })));
    expect(await cluster.settle(cluster.client.renew(POOL, []))).toEqual([]);
    await expect(cluster.settle(cluster.client.renew(9 as typeof POOL, ids))).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
    });
    await cluster.close();
  });
});
