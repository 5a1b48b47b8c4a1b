import { describe, expect, it } from 'vitest';
import { FakeCluster, pattern, POOL } from '../../test/support/fake-block-cluster.ts';
import { placementOf } from '../catalog/placement.ts';
import { blockIdToHex, type NodeId } from '../ids.ts';
import { parseListReply } from './block-messages.ts';
import { hashBlock } from './identity.ts';
import { MemoryEngine } from './memory-engine.ts';

const node = 'n1' as NodeId;

function call(cluster: FakeCluster, method: string, header: object): Promise<unknown> {
  return cluster.settle(
    cluster.clientNetwork.call(node, method, header, { timeoutMs: 1000 }).then((reply) => reply.header),
  );
}

async function oldIds(cluster: FakeCluster, generation: number, limit = 3): Promise<string[]> {
  const found: string[] = [];
  let cursor: string | null = null;
  do {
    const page = parseListReply(await call(cluster, 'block.listOld', { pool: POOL, generation, cursor, limit }));
    expect(page.items.length).toBeLessThanOrEqual(limit);
    found.push(...page.items.map(([id]) => blockIdToHex(id)));
    cursor = page.cursor;
  } while (cursor !== null);
  return found.sort();
}

describe('collection at a node', () => {
  it('lists and sweeps what was not put or renewed since it began', async () => {
    const cluster = await FakeCluster.start({ nodes: 1, pool: { copies: 1 } });
    const blocks = Array.from({ length: 10 }, (_, i) => pattern(100 + i, i + 1));
    const ids = blocks.map((block) => hashBlock(block).id);
    for (const block of blocks) await cluster.settle(cluster.client.put(POOL, block));
    expect(await call(cluster, 'block.gcBegin', { generation: 4 })).toEqual({ generation: 4 });
    expect(await oldIds(cluster, 4)).toHaveLength(10);
    await cluster.settle(cluster.client.put(POOL, blocks[0] as Uint8Array));
    expect(await call(cluster, 'block.renew', { pool: POOL, ids: [ids[1], new Uint8Array(32)] })).toEqual({
      present: [true, false],
      generation: 4,
      settledEpoch: 0,
    });
    expect(await oldIds(cluster, 4)).toEqual(ids.slice(2).map(blockIdToHex).sort());
    expect(await call(cluster, 'block.sweepOld', { pool: POOL, generation: 4, ids })).toEqual({ deletedCount: 8 });
    expect(await call(cluster, 'block.has', { pool: POOL, ids })).toMatchObject({
      lengths: [100, 101, ...new Array<null>(8).fill(null)],
      settledEpoch: 0,
    });
    await cluster.close();
  });

  it('refuses to sweep what it must not', async () => {
    const cluster = await FakeCluster.start({ nodes: 1, pool: { copies: 1 } });
    await expect(call(cluster, 'block.sweepOld', { pool: POOL, generation: 4, ids: [] })).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
    });
    await expect(call(cluster, 'block.delete', { pool: POOL, ids: [] })).rejects.toMatchObject({ code: 'EPERM' });
    await expect(
      call(cluster, 'block.listOld', { pool: POOL, generation: 4, cursor: 'x', limit: 1 }),
    ).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    await cluster.close();
    const library = await FakeCluster.start({ nodes: 1, pool: { copies: 1, kind: 'library' } });
    await call(library, 'block.gcBegin', { generation: 4 });
    await expect(call(library, 'block.sweepOld', { pool: POOL, generation: 4, ids: [] })).rejects.toMatchObject({
      code: 'EPERM',
    });
    await library.close();
  });

  it('does not make a put that waits for it forget the later copy', async () => {
    /** Some of a batch are gone while others are still being deleted. */
    class LateDelete extends MemoryEngine {
      override async delete(...args: Parameters<MemoryEngine['delete']>): Promise<boolean> {
        const existed = await super.delete(...args);
        await cluster.clock.sleep(5);
        return existed;
      }
    }
    const cluster: FakeCluster = await FakeCluster.start({ nodes: 3, engine: () => new LateDelete() });
    const [pool] = cluster.catalog.pools;
    if (pool === undefined) throw new Error('no pool');
    const orderOf = (data: Uint8Array): string => placementOf(cluster.catalog, pool, hashBlock(data).id).join();
    const data = pattern(500);
    const other = Array.from({ length: 500 }, (_, i) => pattern(600 + i)).find((one) => orderOf(one) === orderOf(data));
    const { id } = hashBlock(data);
    const [first, , third] = placementOf(cluster.catalog, pool, id) as [NodeId, NodeId, NodeId];
    await cluster.settle(cluster.client.put(POOL, data));
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    await cluster.settle(cluster.node(third).engine.delete(POOL, id));
    const ask = (method: string, header: object) =>
      cluster.clientNetwork.call(first, method, header, { timeoutMs: 1000 });
    await cluster.settle(ask('block.gcBegin', { generation: 1 }));
    const sweep = ask('block.sweepOld', { pool: POOL, generation: 1, ids: [id] });
    await cluster.quiet();
    const put = cluster.client.put(POOL, data);
    await cluster.quiet();
    // Another block for the same node has it look at all that it owes.
    const otherPut = cluster.client.put(POOL, other as Uint8Array);
    await cluster.quiet();
    await cluster.settle(Promise.all([sweep, put, otherPut]));
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    expect(cluster.node(third).engine.has(POOL, id)).toBe(500);
    await cluster.close();
  });

  it('gives the later copy the stamp of the node that owes it, though its target has not heard of the collection yet', async () => {
    const cluster = await FakeCluster.start({ nodes: 3 });
    const data = pattern(500);
    const { id } = hashBlock(data);
    const [pool] = cluster.catalog.pools;
    if (pool === undefined) throw new Error('no pool');
    const [first, second, third] = placementOf(cluster.catalog, pool, id) as [NodeId, NodeId, NodeId];
    const ask = (to: NodeId, method: string, header: object) =>
      cluster.settle(cluster.clientNetwork.call(to, method, header, { timeoutMs: 1000 }));
    for (const told of [first, second]) await ask(told, 'block.gcBegin', { generation: 4 });
    const receipt = await cluster.settle(cluster.client.put(POOL, data));
    expect(receipt.generation).toBe(4);
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    await ask(third, 'block.gcBegin', { generation: 4 });
    await ask(third, 'block.sweepOld', { pool: POOL, generation: 4, ids: [id] });
    expect(cluster.node(third).engine.has(POOL, id)).toBe(500);
    await cluster.close();
  });

  it.each([
    ['sent', false],
    ['found to be there already', true],
  ])('leaves a later copy that is owed with the stamp of this collection, %s', async (_, isThere) => {
    const cluster = await FakeCluster.start({ nodes: 3 });
    const data = pattern(500);
    const { id } = hashBlock(data);
    const [pool] = cluster.catalog.pools;
    if (pool === undefined) throw new Error('no pool');
    const [first, , third] = placementOf(cluster.catalog, pool, id) as [NodeId, NodeId, NodeId];
    if (isThere) await cluster.settle(cluster.client.put(POOL, data));
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    cluster.hub.kill(third);
    // A writer that was refused because of collection 4, and then another that knows nothing of it.
    await cluster.settle(cluster.client.put(POOL, data, { minGeneration: 4 }));
    await cluster.settle(cluster.client.put(POOL, data));
    expect(cluster.node(first).service.pendingCopies()).toBe(1);
    await cluster.settle(cluster.node(first).service.close());
    await cluster.startService(cluster.node(first));
    cluster.hub.revive(third);
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    const ask = (method: string, header: object) =>
      cluster.settle(cluster.clientNetwork.call(third, method, header, { timeoutMs: 1000 }));
    await ask('block.gcBegin', { generation: 4 });
    await ask('block.sweepOld', { pool: POOL, generation: 4, ids: [id] });
    expect(cluster.node(third).engine.has(POOL, id)).toBe(500);
    await cluster.close();
  });

  it('never takes a block whose receipt is of this collection, however the two meet', async () => {
    class SlowDelete extends MemoryEngine {
      override async delete(...args: Parameters<MemoryEngine['delete']>): Promise<boolean> {
        await cluster.clock.sleep(5);
        return await super.delete(...args);
      }
      override async put(...args: Parameters<MemoryEngine['put']>): Promise<{ existed: boolean }> {
        await cluster.clock.sleep(5);
        return await super.put(...args);
      }
    }
    const cluster: FakeCluster = await FakeCluster.start({
      nodes: 1,
      pool: { copies: 1 },
      engine: () => new SlowDelete(),
    });
    const data = pattern(500);
    const { id } = hashBlock(data);
    for (let delayMs = 0; delayMs <= 12; delayMs++) {
      const generation = delayMs + 1;
      await cluster.settle(cluster.client.put(POOL, data));
      await call(cluster, 'block.gcBegin', { generation });
      const sweep = cluster.clientNetwork.call(
        node,
        'block.sweepOld',
        { pool: POOL, generation, ids: [id] },
        { timeoutMs: 1000 },
      );
      const put = cluster.clock.sleep(delayMs).then(() => cluster.client.put(POOL, data));
      const [, receipt] = await cluster.settle(Promise.all([sweep, put]));
      expect(receipt.generation).toBe(generation);
      expect(cluster.nodes[0]?.engine.has(POOL, id), `put ${delayMs} ms after the sweep`).toBe(500);
    }
    await cluster.close();
  });
});
