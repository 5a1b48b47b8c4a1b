import { describe, expect, it } from 'vitest';
import {
  addressOf,
  FakeCluster,
  FakeNetwork,
  pattern,
  POOL,
  VirtualClock,
} from '../../test/support/fake-block-cluster.ts';
import { BlockNotFoundError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import type { Channel } from '../net/types.ts';
import { createBlockClient, type ClusterBlockClient } from './block-client.ts';
import { hashBlock } from './identity.ts';
import { BlockSharing, type ShareSource } from './sharing.ts';

const data = pattern(300_000);
const { id, pageHashes } = hashBlock(data);

interface Reader {
  readonly name: NodeId;
  readonly network: FakeNetwork;
  readonly sharing: BlockSharing;
  readonly client: ClusterBlockClient;
  /** Reads and keeps, as a filesystem's cache does. */
  read(block?: BlockId): Promise<Uint8Array>;
  forget(): void;
}

function reader(cluster: FakeCluster, name: string): Reader {
  const network = new FakeNetwork(cluster.hub, name);
  cluster.hub.networks.set(name as NodeId, network);
  const sharing = new BlockSharing(network, cluster.clock);
  const client = createBlockClient({
    network,
    catalog: { current: () => cluster.catalog },
    env: { clock: cluster.clock },
    sharing,
  });
  const kept = new Map<string, { loading: Promise<void> | undefined; data: Uint8Array | undefined }>();
  const source: ShareSource = {
    maxBytes: 64 << 20,
    share(_pool: PoolId, wanted: BlockId) {
      const entry = kept.get(blockIdToHex(wanted));
      if (entry === undefined) return undefined;
      return { loading: entry.loading, data: () => entry.data, release: () => undefined };
    },
  };
  client.offer(source);
  return {
    name: name as NodeId,
    network,
    sharing,
    client,
    read(block = id) {
      const entry: { loading: Promise<void> | undefined; data: Uint8Array | undefined } = {
        loading: undefined,
        data: undefined,
      };
      const reading = client.readUnknown(POOL, block);
      entry.loading = reading.then((bytes) => {
        entry.data = bytes;
        entry.loading = undefined;
      });
      entry.loading.catch(() => kept.delete(blockIdToHex(block)));
      kept.set(blockIdToHex(block), entry);
      return reading;
    },
    forget: () => kept.clear(),
  };
}

/** One holder, whose replies wait while `held`, so that it is busy; other calls pass. */
async function busyCluster(): Promise<{ cluster: FakeCluster; letGo: () => void }> {
  const cluster = await FakeCluster.start({ nodes: 1, pool: { copies: 1 } });
  const [node] = cluster.nodes;
  await node?.engine.put(POOL, id, pageHashes, data, 0);
  // Range reads by somebody who does not share keep it busy: the engine does not answer them.
  let letGo: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (letGo = resolve));
  const engine = node?.engine;
  if (engine === undefined) throw new Error('no engine');
  const read = engine.read.bind(engine);
  engine.read = async (pool, block, first, count, hashes, own) => {
    if (hashes) await held;
    return await read(pool, block, first, count, hashes, own);
  };
  for (let i = 0; i < 2; i++) {
    cluster.client.read(POOL, id, data.length, 65_536 * i, new Uint8Array(10)).catch(() => undefined);
  }
  await cluster.quiet();
  return { cluster, letGo };
}

/** A read whose block comes when `pass` is called. */
async function beginReading(
  cluster: FakeCluster,
  reader: Reader,
): Promise<{ first: Promise<Uint8Array>; pass: () => void }> {
  let pass: () => void = () => undefined;
  const passed = new Promise<void>((resolve) => (pass = resolve));
  cluster.hub.onReply = async (call) => {
    if (call.from === reader.name && call.method === 'block.get') await passed;
  };
  const first = reader.read();
  await cluster.quiet();
  return { first, pass };
}

const gets = (cluster: FakeCluster, from: string, method = 'block.get') =>
  cluster.hub.calls.filter((call) => call.method === method && call.from === from);

function same(actual: Uint8Array, expected: Uint8Array = data): void {
  expect(Buffer.compare(actual, expected)).toBe(0);
}

describe('readers serve readers', () => {
  it('a busy holder sends the second reader to the first', async () => {
    const { cluster, letGo } = await busyCluster();
    const [one, two] = [reader(cluster, 'r1'), reader(cluster, 'r2')];
    same(await cluster.settle(one.read()));
    same(await cluster.settle(two.read()));
    expect(gets(cluster, 'r2')).toHaveLength(1);
    expect(gets(cluster, 'r2', 'block.share').map(({ to }) => to)).toEqual(['r1']);
    expect(one.sharing.usage()).toMatchObject({ gaveCount: 1, gaveBytes: data.length });
    expect(two.sharing.usage()).toMatchObject({ gotCount: 1, missedCount: 0 });
    // Both know of the other's copy now.
    expect(one.sharing.copiesElsewhere(POOL, id)).toBe(1);
    expect(two.sharing.copiesElsewhere(POOL, id)).toBe(1);
    letGo();
    await cluster.close();
  });

  it('a holder that is not busy gives the block itself', async () => {
    const { cluster, letGo } = await busyCluster();
    letGo();
    await cluster.quiet();
    const [one, two] = [reader(cluster, 'r1'), reader(cluster, 'r2')];
    same(await cluster.settle(one.read()));
    same(await cluster.settle(two.read()));
    expect(gets(cluster, 'r2', 'block.share')).toHaveLength(0);
    expect(two.sharing.copiesElsewhere(POOL, id)).toBe(1);
    await cluster.close();
  });

  it('a reader that is still getting the block passes it on when it has it', async () => {
    const { cluster, letGo } = await busyCluster();
    const [one, two] = [reader(cluster, 'r1'), reader(cluster, 'r2')];
    const { first, pass } = await beginReading(cluster, one);
    const second = two.read();
    await cluster.quiet();
    expect(gets(cluster, 'r2', 'block.share')).toHaveLength(1);
    pass();
    same(await cluster.settle(first));
    same(await cluster.settle(second));
    expect(gets(cluster, 'r2')).toHaveLength(1);
    letGo();
    await cluster.close();
  });

  it('whoever has dropped the block, has gone or lies costs time only, and is not named again', async () => {
    for (const trouble of ['dropped', 'gone', 'lies'] as const) {
      const { cluster, letGo } = await busyCluster();
      const [one, two, three] = [reader(cluster, 'r1'), reader(cluster, 'r2'), reader(cluster, 'r3')];
      same(await cluster.settle(one.read()));
      if (trouble === 'dropped') one.forget();
      if (trouble === 'gone') cluster.hub.kill(one.name);
      if (trouble === 'lies') {
        cluster.hub.onReply = (call, reply) => {
          if (call.to === 'r1') reply.payload.fill(7);
        };
      }
      same(await cluster.settle(two.read()));
      expect(gets(cluster, 'r2').map(({ header }) => (header as { share: unknown }).share)).toMatchObject([
        { direct: false },
        { direct: false, gone: [addressOf('r1')], slow: [] },
      ]);
      same(await cluster.settle(three.read()));
      expect(gets(cluster, 'r3', 'block.share').map(({ to }) => to)).toEqual(['r2']);
      letGo();
      await cluster.close();
    }
  });

  it('waits for a peer no longer than for a while, and then has the block from the holder', async () => {
    const { cluster, letGo } = await busyCluster();
    const [one, two] = [reader(cluster, 'r1'), reader(cluster, 'r2')];
    same(await cluster.settle(one.read()));
    cluster.hub.onCall = async (call) => {
      if (call.method === 'block.share') await cluster.clock.sleep(60_000);
    };
    const startMs = cluster.clock.nowMs;
    same(await cluster.settle(two.read()));
    expect(cluster.clock.nowMs - startMs).toBeLessThan(5_500);
    letGo();
    await cluster.close();
  });

  it('comes back to the holder after a peer that takes too long, and has the block from it after the second', async () => {
    const { cluster, letGo } = await busyCluster();
    const [one, two, three] = [reader(cluster, 'r1'), reader(cluster, 'r2'), reader(cluster, 'r3')];
    same(await cluster.settle(one.read()));
    same(await cluster.settle(two.read()));
    cluster.hub.onCall = async (call) => {
      if (call.method === 'block.share') await cluster.clock.sleep(60_000);
    };
    const startMs = cluster.clock.nowMs;
    same(await cluster.settle(three.read()));
    expect(cluster.clock.nowMs - startMs).toBeLessThan(6_500);
    expect(
      gets(cluster, 'r3', 'block.share')
        .map(({ to }) => to)
        .sort(),
    ).toEqual(['r1', 'r2']);
    const asked = gets(cluster, 'r3').map(
      ({ header }) => (header as { share: { direct: boolean; slow: string[] } }).share,
    );
    expect(asked.map(({ direct }) => direct)).toEqual([false, false, true]);
    expect(asked.map(({ slow }) => slow.length)).toEqual([0, 1, 1]);
    letGo();
    await cluster.close();
  });

  it('reads less at once while others wait for what it has', async () => {
    const { cluster, letGo } = await busyCluster();
    const [one, two] = [reader(cluster, 'r1'), reader(cluster, 'r2')];
    const { first, pass } = await beginReading(cluster, one);
    const limits = { signal: new AbortController().signal, timeoutMs: 1_000 };
    const waiting = Array.from({ length: 4 }, () => two.sharing.get([addressOf('r1')], POOL, id, undefined, limits));
    await cluster.quiet();
    expect(one.sharing.isAhead()).toBe(true);
    expect(one.sharing.isTogether()).toBe(true);
    pass();
    same(await cluster.settle(first));
    for (const { data: got } of await cluster.settle(Promise.all(waiting))) same(got ?? new Uint8Array());
    expect(one.sharing.isAhead()).toBe(false);
    letGo();
    await cluster.close();
  });

  it('readers that do not share are served as ever', async () => {
    const { cluster, letGo } = await busyCluster();
    same(await cluster.settle(reader(cluster, 'r1').read()));
    same(await cluster.settle(cluster.client.readBlock(POOL, id, data.length)));
    expect(cluster.hub.calls.filter((call) => call.method === 'block.share')).toHaveLength(0);
    letGo();
    await cluster.close();
  });

  it('lose no connection to a peer that is dialled again while an older one is given up', async () => {
    const channels: { readonly to: string; closed: boolean }[] = [];
    let answer = (): void => undefined;
    const late = new Promise<void>((resolve) => (answer = resolve));
    const dial = async (to: string): Promise<Channel> => {
      if (to === 'slow:1' && !dialled.has(to)) {
        dialled.add(to);
        await late;
      }
      let onClose = (): void => undefined;
      const channel = {
        ...{ to, closed: false, remote: { kind: 'client', instanceId: to, address: to, label: to } as const },
        call: () => Promise.reject(new BlockNotFoundError('not here')),
        onClose: (callback: () => void) => void (onClose = callback),
        close: () => {
          channel.closed = true;
          onClose();
        },
      };
      channels.push(channel);
      return channel;
    };
    const dialled = new Set<string>();
    const sharing = new BlockSharing({ dial, handle: () => undefined }, new VirtualClock());
    const get = (peer: string) =>
      sharing.get([peer], POOL, id, undefined, { signal: new AbortController().signal, timeoutMs: 1_000 });
    const first = get('slow:1');
    for (let i = 0; i < 32; i++) await get(`p${i}:1`);
    // It was the one used longest ago, and is dialled anew.
    await get('slow:1');
    answer();
    await first;
    await new Promise((resolve) => setImmediate(resolve));
    sharing.close();
    await new Promise((resolve) => setImmediate(resolve));
    expect(channels.filter(({ closed }) => !closed)).toEqual([]);
    expect(channels).toHaveLength(34);
  });
});
