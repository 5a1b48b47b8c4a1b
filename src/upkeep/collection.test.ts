/** Garbage collection and fsck on a whole cluster in memory. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClusterClient } from '../client.ts';
import { MiB } from '../limits.ts';
import { startCluster } from '../testing.ts';
import type { TestCluster } from '../testing.ts';
import type { FileSystem } from '../vfs/api.ts';
import { fsck } from './fsck.ts';
import { collectGarbage } from './gc.ts';
import { collectStatus } from './status.ts';

describe('upkeep', () => {
  let cluster: TestCluster;
  let client: ClusterClient;
  let fs: FileSystem;
  beforeEach(async () => {
    cluster = await startCluster({ nodes: 3, copies: 2 });
    client = await cluster.client();
    fs = await cluster.connect();
  });
  afterEach(() => cluster.close());

  const collect = (dryRun = false) =>
    collectGarbage({ network: client.network, catalog: client.catalog, meta: client.meta, dryRun });
  const check = async () =>
    fsck({
      meta: client.meta,
      blocks: client.blocks,
      catalog: client.catalog,
      status: await collectStatus(client.network, client.catalog),
    });
  const filled = (byte: number) => Buffer.alloc(MiB, byte);

  it('gives back what no file uses, and nothing else', async () => {
    await fs.writeFile('/kept', filled(1));
    await fs.writeFile('/gone', filled(2));
    await fs.writeFile('/also-gone', filled(1));
    await fs.unlink('/gone');
    await fs.unlink('/also-gone');
    const dry = await collect(true);
    expect(dry).toMatchObject({ liveCount: 1, reclaimedCount: 2, reclaimedBytes: 2 * MiB });
    expect(await collect()).toMatchObject({
      liveCount: 1,
      reclaimedCount: 2,
      reclaimedBytes: 2 * MiB,
      skippedNodes: [],
    });
    expect(await collect()).toMatchObject({ liveCount: 1, reclaimedCount: 0 });
    expect(Buffer.compare(await fs.readFile('/kept'), filled(1))).toBe(0);
    expect((await check()).troubles).toEqual([]);
  });

  it('takes nothing from files that are written meanwhile', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `/file-${index}`);
    const writing = Promise.all(names.map((name, index) => fs.writeFile(name, filled(index))));
    const collected = [await collect(), await collect()];
    await writing;
    collected.push(await collect());
    expect(collected.map((result) => result.skippedNodes)).toEqual([[], [], []]);
    for (const [index, name] of names.entries()) {
      expect(Buffer.compare(await fs.readFile(name), filled(index))).toBe(0);
    }
    expect((await check()).troubles).toEqual([]);
  });

  it('leaves out a node that is down, and says so', async () => {
    await fs.writeFile('/gone', filled(3));
    await fs.unlink('/gone');
    await cluster.stopNode('n3');
    expect((await collect()).skippedNodes).toEqual(['n3']);
  });

  it('names the files whose copies are missing', async () => {
    await fs.mkdir('/some');
    for (let index = 0; index < 8; index++) await fs.writeFile(`/some/file-${index}`, filled(10 + index));
    await cluster.stopNode('n3');
    const { troubles, blockCount, fileCount } = await check();
    expect([blockCount, fileCount]).toEqual([8, 8]);
    expect(troubles.length).toBeGreaterThan(0);
    for (const trouble of troubles) {
      expect(trouble.kind).toBe('under-replicated');
      expect(Buffer.from(trouble.paths[0] ?? []).toString()).toMatch(/^\/some\/file-\d$/);
    }
  });
});
