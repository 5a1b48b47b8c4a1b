/** Several programs with blockstores over one pool of a cluster: what each finds of the others' blocks. */
import { CID } from 'multiformats/cid';
import { sha256 } from 'multiformats/hashes/sha2';
import { expect, it } from 'vitest';
import { TatamiBlockstore } from '../../src/blocks/blockstore.ts';
import { ReplicatedStore } from '../../src/blocks/replicated-store.ts';
import { FakeCluster, POOL } from '../support/fake-block-cluster.ts';
import { all, sampleBytes } from './block-store.ts';

async function cidOf(data: Uint8Array): Promise<CID> {
  return CID.createV1(0x55, await sha256.digest(data));
}

it('finds what others put after refresh or opening, and misses at once what they delete', async () => {
  const cluster = await FakeCluster.start({ nodes: 3, pool: { kind: 'library', copies: 2 } });
  const open = async (): Promise<TatamiBlockstore> => {
    const { client, clientNetwork: network } = cluster;
    const catalog = { current: () => cluster.catalog };
    return await TatamiBlockstore.open({ store: new ReplicatedStore({ client, network, catalog, pool: POOL }) });
  };
  const [one, two] = [await open(), await open()];
  const blocks = Array.from({ length: 40 }, (_, index) => sampleBytes(1000 * index, index + 1));
  const cids = await Promise.all(blocks.map(cidOf));
  const pairs = cids.map((cid, index) => ({ cid, bytes: blocks[index] as Uint8Array }));
  await all(one.putMany(pairs));
  const [first] = cids as [CID];
  expect(await two.has(first)).toBe(false);
  await two.refresh();
  const three = await open();
  for (const other of [two, three]) {
    expect(await all(other.list())).toHaveLength(40);
    for (const { cid, bytes } of pairs) {
      const got = Buffer.concat(await all(other.get(cid)));
      expect(Buffer.compare(got, bytes)).toBe(0);
    }
  }
  await two.delete(first);
  for (const other of [one, three]) {
    expect(await other.has(first)).toBe(false);
    await expect(all(other.get(first))).rejects.toMatchObject({ name: 'NotFoundError' });
  }
  // Equal bytes under one name are one block, whoever puts them.
  await three.put(first, blocks[0] as Uint8Array);
  await one.put(first, blocks[0] as Uint8Array);
  await two.refresh();
  expect(await all(two.list())).toHaveLength(40);
  for (const each of [one, two, three]) await each.close();
  await cluster.close();
});
