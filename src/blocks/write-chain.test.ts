import { describe, expect, it } from 'vitest';
import { FakeCluster, pattern, POOL } from '../../test/support/fake-block-cluster.ts';
import { PeerUnreachableError } from '../errors.ts';
import type { Epoch, NodeId } from '../ids.ts';
import { BLOCK_MAX_BYTES, DATA_TIMEOUT_MS } from '../limits.ts';
import { placementOf } from '../catalog/placement.ts';
import { hashBlock } from './identity.ts';
import { MemoryEngine } from './memory-engine.ts';
import type { BlockId } from '../ids.ts';

const data = pattern(200_000);
const { id } = hashBlock(data);

function order(cluster: FakeCluster, of: BlockId = id): [NodeId, NodeId, NodeId, ...NodeId[]] {
  const pool = cluster.catalog.pools[0];
  if (pool === undefined) throw new Error('no pool');
  return placementOf(cluster.catalog, pool, of) as [NodeId, NodeId, NodeId, ...NodeId[]];
}

function holders(cluster: FakeCluster, of: BlockId = id): NodeId[] {
  return cluster.nodes.filter((node) => node.engine.has(POOL, of) !== undefined).map((node) => node.id);
}

const putCalls = (cluster: FakeCluster): string[] =>
  cluster.hub.calls.filter((call) => call.method === 'block.put').map((call) => `${call.from}>${call.to}`);

/** An engine whose disk answers when told to. */
class SlowEngine extends MemoryEngine {
  readonly waiting: (() => void)[] = [];
  override async put(...args: Parameters<MemoryEngine['put']>): Promise<{ existed: boolean }> {
    await new Promise<void>((resolve) => this.waiting.push(resolve));
    return await super.put(...args);
  }
}

describe('write chain', () => {
  it('sends once; first forwards to second; third comes later', async () => {
    const cluster = await FakeCluster.start({ nodes: 4 });
    const receipt = await cluster.settle(cluster.client.put(POOL, data));
    expect(receipt.id).toEqual(id);
    const [first, second, third, fourth] = order(cluster);
    expect(holders(cluster)).toEqual(expect.arrayContaining([first, second]));
    await cluster.until(() => holders(cluster).includes(third));
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    expect(holders(cluster)).not.toContain(fourth);
    expect(putCalls(cluster)).toEqual([`client>${first}`, `${first}>${second}`, `${first}>${third}`]);
    await cluster.close();
  });

  it('forwards while it is still receiving', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
    const [first, second] = order(cluster);
    let sentByClient = 0;
    let sentByClientWhenForwarding = -1;
    cluster.hub.onChunk = (call, sentBytes) => {
      if (call.from === 'client') sentByClient = sentBytes;
      if (call.from === first && call.to === second && sentByClientWhenForwarding < 0)
        sentByClientWhenForwarding = sentByClient;
    };
    await cluster.settle(cluster.client.put(POOL, data));
    expect(sentByClientWhenForwarding).toBeGreaterThanOrEqual(0);
    expect(sentByClientWhenForwarding).toBeLessThan(data.length / 2);
    await cluster.close();
  });

  it('answers only when both disks have it', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 }, engine: () => new SlowEngine() });
    let done = false;
    const put = cluster.client.put(POOL, data).finally(() => (done = true));
    const engines = cluster.nodes.map((node) => node.engine as SlowEngine);
    await cluster.quiet();
    expect(engines.map((engine) => engine.waiting.length)).toEqual([1, 1]);
    engines[0]?.waiting[0]?.();
    await cluster.quiet();
    expect(done).toBe(false);
    engines[1]?.waiting[0]?.();
    await cluster.settle(put);
    await cluster.close();
  });

  it('has few large blocks on their way at once, and more small ones', async () => {
    for (const [bytes, count, atOnce] of [
      [BLOCK_MAX_BYTES, 5, 3],
      [1000, 12, 8],
    ] as const) {
      const cluster = await FakeCluster.start({ nodes: 1, pool: { copies: 1 }, engine: () => new SlowEngine() });
      const blocks = Array.from({ length: count }, (_, at) => new Uint8Array(bytes).fill(at));
      const puts = blocks.map((block) => cluster.client.put(POOL, block));
      const { waiting } = cluster.nodes[0]?.engine as SlowEngine;
      for (let done = 0; done < blocks.length; done++) {
        // No time passes, so that nothing is given up; a large block takes many turns to arrive.
        await cluster.quiet();
        await cluster.quiet();
        expect(waiting).toHaveLength(Math.min(done + atOnce, blocks.length));
        waiting[done]?.();
      }
      await cluster.settle(Promise.all(puts));
      await cluster.close();
    }
  });

  it('fails all that wait after one deadline, not one after the other', async () => {
    const cluster = await FakeCluster.start({ nodes: 1, pool: { copies: 1 }, engine: () => new SlowEngine() });
    const startedMs = cluster.clock.monotonicMs();
    const puts = Array.from({ length: 5 }, (_, at) =>
      cluster.client.put(POOL, new Uint8Array(BLOCK_MAX_BYTES).fill(at)),
    );
    const ended = await cluster.settle(Promise.allSettled(puts));
    expect(ended.every(({ status }) => status === 'rejected')).toBe(true);
    expect(cluster.clock.monotonicMs() - startedMs).toBeLessThan(1.5 * DATA_TIMEOUT_MS);
    for (const go of (cluster.nodes[0]?.engine as SlowEngine).waiting) go();
    await cluster.close();
  });

  it('goes to the next nodes when the first is dead, known or not', async () => {
    for (const noticed of [true, false]) {
      const cluster = await FakeCluster.start({ nodes: 4, pool: { copies: 2 } });
      const [first, second, third] = order(cluster);
      cluster.hub.kill(first, noticed);
      await cluster.settle(cluster.client.put(POOL, data));
      expect(new Set(holders(cluster))).toEqual(new Set([second, third]));
      await cluster.close();
    }
  });

  it('survives the first dying before, during and after forwarding', async () => {
    for (const point of ['receiving', 'forwarding', 'stored'] as const) {
      const cluster = await FakeCluster.start({ nodes: 4, pool: { copies: 2 } });
      const [first, second] = order(cluster);
      cluster.hub.onChunk = (call, sentBytes) => {
        if (point === 'receiving' && call.to === first && sentBytes > 0) cluster.hub.kill(first);
        if (point === 'forwarding' && call.from === first && sentBytes > 100_000) cluster.hub.kill(first);
      };
      cluster.hub.onReply = (call) => {
        if (point === 'stored' && call.to === second && call.from === first) cluster.hub.kill(first);
      };
      const receipt = await cluster.settle(cluster.client.put(POOL, data));
      expect(receipt.id).toEqual(id);
      const alive = holders(cluster).filter((node) => !cluster.hub.down.has(node));
      expect(alive.length, point).toBeGreaterThanOrEqual(2);
      await cluster.close();
    }
  });

  it('asks the first to push its copy elsewhere when the second is dead or full', async () => {
    for (const fault of ['dead', 'full'] as const) {
      const probe = await FakeCluster.start({ nodes: 4, pool: { copies: 2 } });
      const [first, second, third] = order(probe);
      await probe.close();
      const cluster = await FakeCluster.start({
        nodes: 4,
        pool: { copies: 2 },
        capacity: (index) => (fault === 'full' && `n${index + 1}` === second ? { capacityBytes: 1000 } : {}),
      });
      if (fault === 'dead') cluster.hub.kill(second, false);
      await cluster.settle(cluster.client.put(POOL, data));
      expect(new Set(holders(cluster))).toEqual(new Set([first, third]));
      // The bytes left the client once.
      expect(putCalls(cluster)).toEqual([`client>${first}`, `${first}>${second}`, `${first}>${third}`]);
      await cluster.close();
    }
  });

  it('sends the block itself when the first is cut off from the other nodes, but not from here', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    const [first, second, third] = order(cluster);
    cluster.hub.onCall = ({ from, to }) => {
      if (from === first && to !== first) throw new PeerUnreachableError(`${to} cannot be reached from ${from}`);
    };
    await cluster.settle(cluster.client.put(POOL, data));
    expect(new Set(holders(cluster))).toEqual(new Set([first, second]));
    expect(putCalls(cluster)).toEqual([
      `client>${first}`,
      ...[second, third].map((node) => `${first}>${node}`),
      `client>${second}`,
    ]);
    await cluster.close();
  });

  it('counts the second when only the first is full', async () => {
    const probe = await FakeCluster.start({ nodes: 3, pool: { copies: 3 } });
    const [first, second, third] = order(probe);
    await probe.close();
    const cluster = await FakeCluster.start({
      nodes: 3,
      capacity: (index) => (`n${index + 1}` === first ? { capacityBytes: 1000 } : {}),
    });
    await cluster.settle(cluster.client.put(POOL, data));
    expect(new Set(holders(cluster))).toEqual(new Set([second, third]));
    await cluster.close();
  });

  it('skips nodes that say they are nearly full, unless the others do not suffice', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    const [first, second, third] = order(cluster);
    cluster.hub.news.set(first, { catalogEpoch: 1, fullPermille: 960, gcGeneration: 0 });
    await cluster.settle(cluster.client.put(POOL, data));
    expect(new Set(holders(cluster))).toEqual(new Set([second, third]));
    cluster.hub.kill(second);
    const other = pattern(70_000, 2);
    await cluster.settle(cluster.client.put(POOL, other));
    expect(new Set(holders(cluster, hashBlock(other).id))).toEqual(new Set([first, third]));
    await cluster.close();
  });

  it('writes to a node that others suspect only when the others do not suffice', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    const [first, second, third] = order(cluster);
    const { members } = cluster.clientNetwork;
    members.setMembers(new Set(order(cluster)), 0);
    members.hear([{ node: first, incarnation: 1, state: 'suspect' }], 0);
    await cluster.settle(cluster.client.put(POOL, data));
    expect(new Set(holders(cluster))).toEqual(new Set([second, third]));
    cluster.hub.kill(second);
    const other = pattern(70_000, 2);
    await cluster.settle(cluster.client.put(POOL, other));
    expect(new Set(holders(cluster, hashBlock(other).id))).toEqual(new Set([first, third]));
    await cluster.close();
  });

  it('is out of space only when fewer than two nodes have room', async () => {
    const cluster = await FakeCluster.start({
      nodes: 3,
      capacity: (index) => (index === 0 ? {} : { capacityBytes: 1000 }),
    });
    await expect(cluster.settle(cluster.client.put(POOL, data))).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
    await cluster.close();
  });

  it('waits for a second node, and gives up at its deadline', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
    const [first, second] = order(cluster);
    cluster.hub.kill(second);
    const put = cluster.client.put(POOL, data);
    cluster.clock.setTimer(5_000, () => cluster.hub.revive(second));
    await cluster.settle(put);
    expect(new Set(holders(cluster))).toEqual(new Set([first, second]));
    cluster.hub.kill(second);
    const startMs = cluster.clock.nowMs;
    await expect(cluster.settle(cluster.client.put(POOL, pattern(10, 3)))).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
    });
    expect(cluster.clock.nowMs - startMs).toBeLessThanOrEqual(30_000);
    await cluster.close();
  });

  it('needs one node only where the pool keeps one copy', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 1 } });
    await cluster.settle(cluster.client.put(POOL, data));
    expect(holders(cluster)).toEqual([order(cluster)[0]]);
    await cluster.close();
  });

  it('hands the third copy over when its node is back, even after a restart of the first', async () => {
    const cluster = await FakeCluster.start({ nodes: 3 });
    const [first, , third] = order(cluster);
    cluster.hub.kill(third);
    await cluster.settle(cluster.client.put(POOL, data));
    const node = cluster.node(first);
    await cluster.quiet();
    expect(node.service.pendingCopies()).toBe(1);
    await cluster.settle(node.service.close());
    await cluster.startService(node);
    expect(node.service.pendingCopies()).toBe(1);
    cluster.hub.revive(third);
    await cluster.until(() => node.service.pendingCopies() === 0);
    expect(holders(cluster)).toContain(third);
    await cluster.close();
  });

  it('owes the third copy to a node that is full, and hands it over when that has room again', async () => {
    const cluster = await FakeCluster.start({ nodes: 3 });
    const [first, , third] = order(cluster);
    const news = (fullPermille: number) =>
      cluster.hub.news.set(third, { catalogEpoch: 1, fullPermille, gcGeneration: 0 });
    news(990);
    await cluster.settle(cluster.client.put(POOL, data));
    await cluster.quiet();
    expect(cluster.node(first).service.pendingCopies()).toBe(1);
    expect(cluster.hub.calls.some((call) => call.method === 'block.put' && call.to === third)).toBe(false);
    news(500);
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    expect(holders(cluster)).toContain(third);
    await cluster.close();
  });

  it('sends nothing to a node that has the block already when it tries again', async () => {
    const cluster = await FakeCluster.start({ nodes: 3 });
    const [first, , third] = order(cluster);
    cluster.hub.kill(third);
    await cluster.settle(cluster.client.put(POOL, data));
    const { pageHashes } = hashBlock(data);
    await cluster.node(third).engine.put(POOL, id, pageHashes, data, 0);
    await cluster.quiet();
    cluster.hub.revive(third);
    await cluster.until(() => cluster.node(first).service.pendingCopies() === 0);
    expect(cluster.hub.calls.some((call) => call.method === 'block.renew' && call.to === third)).toBe(true);
    await cluster.close();
  });

  it('is on two nodes even while all but one are being drained; those are taken only then', async () => {
    const cluster = await FakeCluster.start({ nodes: 4, pool: { copies: 2 } });
    const drain = (ids: readonly NodeId[]): void => {
      const nodes = cluster.catalog.nodes.map((node) =>
        ids.includes(node.id) ? { ...node, draining: true as const } : node,
      );
      cluster.catalog = { ...cluster.catalog, nodes };
      for (const node of cluster.nodes) node.catalog = cluster.catalog;
    };
    const [first, second, ...rest] = order(cluster);
    drain(rest);
    await cluster.settle(cluster.client.put(POOL, data));
    expect(new Set(holders(cluster))).toEqual(new Set([first, second]));
    const other = pattern(150_000);
    const otherId = hashBlock(other).id;
    drain([second]);
    await cluster.settle(cluster.client.put(POOL, other));
    expect(holders(cluster, otherId)).toHaveLength(2);
    expect(holders(cluster, otherId)).toContain(first);
    // Drained and switched off: who has stayed is enough.
    for (const [index, node] of [second, ...rest].entries()) cluster.hub.kill(node, index > 0);
    const last = pattern(100_000);
    await cluster.settle(cluster.client.put(POOL, last));
    expect(holders(cluster, hashBlock(last).id)).toEqual([first]);
    await cluster.close();
  });

  it('takes the new catalog when a node refuses the old one', async () => {
    const cluster = await FakeCluster.start({ nodes: 3 });
    const old = cluster.catalog;
    const pools = old.pools.map((pool) => ({ ...pool, placementEpoch: 2 as Epoch }));
    const next = { ...old, epoch: 2 as Epoch, pools };
    for (const node of cluster.nodes) node.catalog = next;
    const put = cluster.client.put(POOL, data);
    cluster.clock.setTimer(50, () => (cluster.catalog = next));
    await cluster.settle(put);
    expect(holders(cluster).length).toBeGreaterThanOrEqual(2);
    await cluster.close();
  });

  it('refuses bytes that are not the block they are said to be', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
    const header = { pool: POOL, id, lengthBytes: 3, placementEpoch: 1, minGeneration: 0, chain: [], later: [] };
    const call = (change: object, payload = [Uint8Array.of(1, 2, 3)]): Promise<unknown> =>
      cluster.settle(
        cluster.clientNetwork.call('n1' as NodeId, 'block.put', { ...header, ...change }, { timeoutMs: 1000, payload }),
      );
    await expect(call({})).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    await expect(call({ lengthBytes: 4 })).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    await expect(call({ pool: 9 })).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    await expect(call({ placementEpoch: 0 })).rejects.toMatchObject({ code: 'ERR_STALE_EPOCH' });
    await expect(call({ id: Uint8Array.of(1) })).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    await expect(call({ chain: 'n2' })).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    await expect(call({ lengthBytes: 5 << 20 })).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    expect(holders(cluster)).toEqual([]);
    await cluster.close();
  });

  it('stamps with the collection generation, and gives the least in the receipt', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
    const [first, second] = order(cluster);
    const begin = (node: NodeId, generation: number): Promise<unknown> =>
      cluster.settle(cluster.clientNetwork.call(node, 'block.gcBegin', { generation }, { timeoutMs: 1000 }));
    await begin(first, 7);
    await begin(second, 5);
    expect((await cluster.settle(cluster.client.put(POOL, data))).generation).toBe(5);
    expect((await cluster.settle(cluster.client.put(POOL, data, { minGeneration: 6 }))).generation).toBe(6);
    await cluster.settle(cluster.node(first).service.close());
    await cluster.startService(cluster.node(first));
    expect(cluster.node(first).service.gcGeneration()).toBe(7);
    await cluster.close();
  });

  it('is cancelled by its signal', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 }, engine: () => new SlowEngine() });
    const controller = new AbortController();
    const put = cluster.client.put(POOL, data, { signal: controller.signal });
    await cluster.quiet();
    controller.abort();
    await expect(put).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    for (const node of cluster.nodes) for (const resolve of (node.engine as SlowEngine).waiting) resolve();
    await cluster.close();
  });
});
