import { describe, expect, it } from 'vitest';
import { FakeCluster, pattern, POOL } from '../../test/support/fake-block-cluster.ts';
import type { BlockId, NodeId } from '../ids.ts';
import { hashBlock } from './identity.ts';
import { placementOf } from '../catalog/placement.ts';

const data = pattern(300_000);
const { id, pageHashes } = hashBlock(data);

function order(cluster: FakeCluster, of: BlockId = id): NodeId[] {
  const pool = cluster.catalog.pools[0];
  if (pool === undefined) throw new Error('no pool');
  return [...placementOf(cluster.catalog, pool, of)];
}

async function give(cluster: FakeCluster, nodes: readonly NodeId[]): Promise<void> {
  for (const node of nodes) await cluster.node(node).engine.put(POOL, id, pageHashes, data, 0);
}

/** Puts other bytes under the block's name, as a disk or a bug might. */
async function damage(cluster: FakeCluster, nodes: readonly NodeId[]): Promise<void> {
  const wrong = data.slice();
  wrong[123_456] = (wrong[123_456] ?? 0) ^ 1;
  for (const node of nodes) {
    await cluster.node(node).engine.delete(POOL, id);
    await cluster.node(node).engine.put(POOL, id, pageHashes, wrong, 0);
  }
}

const asked = (cluster: FakeCluster): string[] =>
  cluster.hub.calls.filter((call) => call.method === 'block.get' && call.from === 'client').map((call) => call.to);

const read = (cluster: FakeCluster): Promise<Uint8Array> =>
  cluster.settle(cluster.client.readBlock(POOL, id, data.length));

/** toEqual on large arrays takes seconds. */
function same(actual: Uint8Array, expected: Uint8Array): void {
  expect(Buffer.compare(actual, expected)).toBe(0);
}

describe('reading', () => {
  it('takes one message for a whole block', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    await give(cluster, order(cluster).slice(0, 2));
    same(await read(cluster), data);
    expect(asked(cluster)).toHaveLength(1);
    await cluster.close();
  });

  it('spreads blocks over all copies', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 3 } });
    const blocks = Array.from({ length: 60 }, (_, i) => pattern(100, i + 1));
    for (const block of blocks) await cluster.settle(cluster.client.put(POOL, block));
    await cluster.until(() => cluster.nodes.every((node) => node.service.pendingCopies() === 0));
    for (const block of blocks) await cluster.settle(cluster.client.readBlock(POOL, hashBlock(block).id, block.length));
    const counts = new Map<string, number>();
    for (const node of asked(cluster)) counts.set(node, (counts.get(node) ?? 0) + 1);
    for (const node of cluster.nodes) expect(counts.get(node.id) ?? 0).toBeGreaterThan(9);
    expect(asked(cluster)).toHaveLength(60);
    await cluster.close();
  });

  it('finds a block past the end of the list', async () => {
    const cluster = await FakeCluster.start({ nodes: 5, pool: { copies: 2 } });
    await give(cluster, order(cluster).slice(4));
    same(await read(cluster), data);
    await cluster.close();
  });

  it('goes on to the next copy when a node is dead, known or not', async () => {
    for (const noticed of [true, false]) {
      const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
      const [first, second] = order(cluster) as [NodeId, NodeId];
      await give(cluster, [first, second]);
      cluster.hub.kill(first, noticed);
      same(await read(cluster), data);
      await cluster.close();
    }
  });

  it('asks a second holder when the first is slow, and is not kept waiting', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    const [first, second] = order(cluster) as [NodeId, NodeId];
    await give(cluster, [first, second]);
    const slow = new Set<string>();
    cluster.hub.onCall = async (call) => {
      if (call.method !== 'block.get') return;
      if (slow.size === 0) slow.add(call.to);
      if (slow.has(call.to)) await cluster.clock.sleep(60_000);
    };
    const startMs = cluster.clock.nowMs;
    same(await read(cluster), data);
    expect(cluster.clock.nowMs - startMs).toBeLessThan(300);
    // And it is asked last from now on.
    const before = asked(cluster).length;
    same(await read(cluster), data);
    expect(asked(cluster).slice(before)).toHaveLength(1);
    await cluster.close();
  });

  it('reads right past a damaged copy, and the node heals it', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    const [first, second] = order(cluster) as [NodeId, NodeId];
    await give(cluster, [first, second]);
    await damage(cluster, [first]);
    // Whichever copy it takes, it must be right; take until the damaged one was met.
    cluster.hub.onCall = (call) => {
      if (
        call.method === 'block.get' &&
        call.to === second &&
        call.from === 'client' &&
        !asked(cluster).includes(first)
      )
        throw new Error('busy');
    };
    same(await read(cluster), data);
    const { service, engine } = cluster.node(first);
    await cluster.until(() => service.damageLog()[0]?.healed === true);
    expect(service.damageLog()).toMatchObject([{ node: first, pool: POOL, id, healed: true }]);
    const run = await engine.read(POOL, id, 0, 64, false);
    same(run?.data ?? new Uint8Array(0), data);
    await cluster.close();
  });

  it('heals all copies of a node that lost many at once, after others had to wait', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
    const n1 = cluster.node('n1' as NodeId);
    const count = 1_100;
    for (let i = 0; i < count; i++) {
      const bytes = Buffer.from(`block ${i}`);
      const one = hashBlock(bytes);
      for (const { engine } of cluster.nodes) await engine.put(POOL, one.id, one.pageHashes, bytes, 0);
      await n1.engine.markDamaged(POOL, one.id);
    }
    await cluster.settle(n1.service.close());
    await cluster.startService(n1);
    await cluster.until(() => n1.engine.usage().blockCount === count);
    await cluster.close();
  });

  it('does not touch a copy that is wrongly reported', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
    await give(cluster, order(cluster));
    await cluster.settle(
      cluster.clientNetwork.call('n1' as NodeId, 'block.reportDamage', { pool: POOL, id }, { timeoutMs: 1000 }),
    );
    await cluster.settle(cluster.node('n1' as NodeId).service.healingIdle());
    expect(cluster.node('n1' as NodeId).service.damageLog()).toEqual([]);
    expect(cluster.node('n1' as NodeId).engine.has(POOL, id)).toBe(data.length);
    await cluster.close();
  });

  it('never gives wrong bytes: an error when all copies are damaged, also later', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    const holders = order(cluster).slice(0, 2);
    await damage(cluster, holders);
    await expect(read(cluster)).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    await cluster.until(() => holders.every((node) => cluster.node(node).service.damageLog().length === 1));
    await expect(read(cluster)).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    const target = new Uint8Array(10);
    await expect(cluster.settle(cluster.client.read(POOL, id, data.length, 5, target))).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
    });
    expect(target).toEqual(new Uint8Array(10));
    await cluster.close();
  });

  it('says whether a block is nowhere or only out of reach', async () => {
    const cluster = await FakeCluster.start({ nodes: 3, pool: { copies: 2 } });
    await expect(read(cluster)).rejects.toMatchObject({ code: 'ERR_BLOCK_NOT_FOUND' });
    cluster.hub.kill('n2' as NodeId);
    await expect(read(cluster)).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' });
    await cluster.close();
  });

  it('waits for a node to come back', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 1 } });
    const [first] = order(cluster) as [NodeId];
    await give(cluster, [first]);
    cluster.hub.kill(first);
    cluster.clock.setTimer(5_000, () => cluster.hub.revive(first));
    same(await read(cluster), data);
    await cluster.close();
  });

  it('reads ranges by page and fetches the page list once', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 1 } });
    await give(cluster, order(cluster).slice(0, 1));
    const replies: number[] = [];
    cluster.hub.onReply = (call, reply) => {
      if (call.method === 'block.get') replies.push(reply.payload.length);
    };
    for (const [offset, length] of [
      [0, 1],
      [65_535, 2],
      [131_072, 65_536],
      [299_999, 1],
      [1000, 250_000],
    ] as const) {
      const target = new Uint8Array(length);
      await cluster.settle(cluster.client.read(POOL, id, data.length, offset, target));
      same(target, data.slice(offset, offset + length));
    }
    const list = 5 * 32;
    expect(replies).toEqual([65_536 + list, 2 * 65_536, 65_536, 300_000 - 4 * 65_536, 4 * 65_536]);
    await expect(cluster.client.read(POOL, id, data.length, 299_999, new Uint8Array(2))).rejects.toMatchObject({
      code: 'ERR_STATE',
    });
    await cluster.close();
  });

  it('verifies ranges: a changed page, list, length or place is not taken', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
    await give(cluster, order(cluster));
    const lies: ((
      payload: Uint8Array,
      header: { blockBytes: number; firstPage: number; hashBytes: number },
    ) => Uint8Array)[] = [
      (p) => p.fill(1, p.length - 1),
      (p) => p.fill(1, 3, 4),
      (p, h) => ((h.blockBytes -= 1), p),
      (p, h) => ((h.firstPage += 1), p),
      (p, h) => ((h.hashBytes -= 32), p),
      (p) => p.slice(0, p.length - 1),
      (p, h) => ((h.blockBytes = 0), p.slice(0, 0)),
    ];
    for (const lie of lies) {
      const offset = 65_536 * (1 + (lies.indexOf(lie) % 3));
      let liar: string | undefined;
      cluster.hub.onReply = (call, reply) => {
        if (call.method !== 'block.get') return undefined;
        liar ??= call.to;
        return call.to === liar
          ? { header: reply.header, payload: lie(reply.payload, reply.header as never) }
          : undefined;
      };
      const fresh = await FakeCluster.start({ nodes: 2, pool: { copies: 2 } });
      await give(fresh, order(fresh));
      fresh.hub.onReply = cluster.hub.onReply;
      const target = new Uint8Array(10);
      await fresh.settle(fresh.client.read(POOL, id, data.length, offset, target));
      expect(target).toEqual(data.slice(offset, offset + 10));
      expect(asked(fresh)).toHaveLength(2);
      await fresh.close();
    }
    await cluster.close();
  });

  it('tells where a block is', async () => {
    const cluster = await FakeCluster.start({ nodes: 4, pool: { copies: 2 } });
    const [first, second, third] = order(cluster) as [NodeId, NodeId, NodeId];
    await give(cluster, [first, third]);
    cluster.hub.kill(second);
    expect(await cluster.settle(cluster.client.locate(POOL, id))).toEqual([
      { node: first, state: 'held' },
      { node: second, state: 'unreachable' },
      { node: third, state: 'held' },
    ]);
    await cluster.close();
  });

  it('cancels with its signal, and at close', async () => {
    const cluster = await FakeCluster.start({ nodes: 2, pool: { copies: 1 } });
    await give(cluster, order(cluster));
    cluster.hub.onCall = async (call) => {
      if (call.method === 'block.get') await cluster.clock.sleep(60_000);
    };
    const controller = new AbortController();
    const cancelled = cluster.client.readBlock(POOL, id, data.length, { signal: controller.signal });
    const closed = cluster.client.readBlock(POOL, id, data.length);
    closed.catch(() => undefined);
    await cluster.quiet();
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    await cluster.settle(cluster.client.close());
    await expect(closed).rejects.toMatchObject({ code: 'ERR_STATE' });
    await cluster.close();
  });
});
