import { describe, expect, it } from 'vitest';
import { formatClusterKey } from './cluster-key.ts';
import { locateCluster } from './cluster-location.ts';
import { MemoryDisk } from './env-memory.ts';
import { FormatError, UsageError } from './errors.ts';

const KEY = { clusterId: 'ab'.repeat(16), secret: new Uint8Array(32).fill(7) };
const NODES = [{ id: 'n1', address: '127.0.0.1:7401' }];

async function diskWith(files: Readonly<Record<string, string>>): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await disk.mkdir('/data');
  for (const [path, text] of Object.entries(files)) await disk.writeFileAtomic(path, new TextEncoder().encode(text));
  return disk;
}

describe('finding a cluster', () => {
  it('by its data directory', async () => {
    const file = JSON.stringify({ formatVersion: 1, clusterId: KEY.clusterId, nodes: NODES });
    const disk = await diskWith({ '/data/cluster.json': file, '/data/cluster.key': formatClusterKey(KEY) });
    expect(await locateCluster(disk, { data: '/data' })).toEqual({ seeds: ['127.0.0.1:7401'], key: KEY });
  });

  it.each([[['a:1', 'b:2']], ['a:1, b:2,']])('by addresses %j', async (connect) => {
    const disk = await diskWith({ '/data/key': formatClusterKey(KEY) });
    expect(await locateCluster(disk, { connect, keyFile: '/data/key' })).toEqual({ seeds: ['a:1', 'b:2'], key: KEY });
  });

  it('says what is missing, and refuses what is newer', async () => {
    const newer = JSON.stringify({ formatVersion: 2, clusterId: KEY.clusterId, nodes: NODES });
    const disk = await diskWith({ '/data/key': formatClusterKey(KEY), '/data/cluster.json': newer });
    await expect(locateCluster(disk, { data: '/elsewhere' })).rejects.toThrow(UsageError);
    await expect(locateCluster(disk, { connect: ' ', keyFile: '/data/key' })).rejects.toThrow(/at least one address/);
    await expect(locateCluster(disk, { connect: 'a:1', keyFile: '/no/key' })).rejects.toThrow(/cannot read the key/);
    await expect(locateCluster(disk, { data: '/data' })).rejects.toThrow(FormatError);
  });
});
