/** Garbage collection and fsck on a whole cluster in memory. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClusterClient } from '../client.ts';
import { hashBlock } from '../blocks/identity.ts';
import type { BlockInfo } from '../blocks/types.ts';
import type { Ino, PoolId } from '../ids.ts';
import { MiB } from '../limits.ts';
import { startCluster } from '../testing.ts';
import type { TestCluster } from '../testing.ts';
import type { FileSystem } from '../vfs/api.ts';
import { fsck, type Trouble } from './fsck.ts';
import { collectGarbage } from './gc.ts';
import { collectStatus } from './status.ts';

describe('upkeep', () => {
  let cluster: TestCluster;
  let client: ClusterClient;
  let fs: FileSystem;
  beforeEach(async () => {
    cluster = await startCluster({ nodes: 3, copies: 2 });
    client = await cluster.client();
    // Of the same session: another would first be asked whether it has open what is removed.
    fs = client.openFileSystem({ uid: 0, gid: 0 });
  });
  afterEach(() => cluster.close());

  const collect = (dryRun = false) =>
    collectGarbage({ network: client.network, catalog: client.catalog, meta: client.meta, dryRun });
  const check = async (repair = false) => {
    const troubles: Trouble[] = [];
    const { meta, network, catalog } = client;
    const status = await collectStatus(client);
    const onTrouble = (trouble: Trouble): void => void troubles.push(trouble);
    return { ...(await fsck({ meta, network, catalog, status, repair, onTrouble })), troubles };
  };
  const FILES = 1 as PoolId;
  const blocksOf = async (node: string): Promise<BlockInfo[]> => {
    const found: BlockInfo[] = [];
    for await (const block of cluster.node(node)?.engine.list(FILES) ?? []) found.push(block);
    return found;
  };
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

  it('tells of what no file uses, and of that alone', async () => {
    await fs.writeFile('/kept', filled(1));
    await fs.writeFile('/gone', filled(2));
    await fs.unlink('/gone');
    const before = await check();
    expect(before.troubles).toMatchObject([{ kind: 'orphaned', use: undefined, pool: 'files' }]);
    expect(before).toMatchObject({ orphans: { count: 1, bytes: 2 * MiB }, unrepairedCount: 0 });
    await collect();
    expect((await check()).troubles).toEqual([]);
  });

  it('has copies made where they belong, and finds nothing afterwards', async () => {
    await cluster.stopNode('n2');
    for (let index = 0; index < 12; index++) await fs.writeFile(`/file-${index}`, filled(30 + index));
    await cluster.startNode('n2');
    // What is owed to it comes by itself; what it had to hold itself was lost, as by a new disk.
    for (const { id } of [...(await blocksOf('n3'))].slice(0, 3)) await cluster.node('n3')?.engine.delete(FILES, id);
    const found = await check();
    expect(found.troubles.length).toBeGreaterThan(0);
    // Nobody may have noticed yet that n2 is back: a check that could not ask it finds no fault with what it lacks.
    const repair = async () => {
      const { unrepairedCount, silentNodes } = await check(true);
      return { unrepairedCount, silentNodes };
    };
    await expect.poll(repair, { timeout: 8_000 }).toEqual({ unrepairedCount: 0, silentNodes: [] });
    expect((await check()).troubles).toEqual([]);
  });

  it('looks after the blocks of programs, too', async () => {
    const library = client.catalog.current().pools.find((pool) => pool.kind === 'library')?.id as PoolId;
    const data = filled(50);
    const { id, pageHashes } = hashBlock(data);
    await cluster.node('n1')?.engine.put(library, id, pageHashes, data, 0);
    const found = await check();
    expect(found.troubles).toMatchObject([{ kind: 'under-replicated', pool: 'library', use: undefined }]);
    expect((await check(true)).unrepairedCount).toBe(0);
    expect((await check()).troubles).toEqual([]);
  });

  it('checks one tree, each file in it once', async () => {
    await fs.mkdir('/a/b', { recursive: true });
    for (const name of ['/a/b/one', '/a/two', '/three']) await fs.writeFile(name, filled(name.length));
    await fs.link('/a/b/one', '/a/again');
    const { meta, network, catalog } = client;
    const status = await collectStatus(client);
    const { ino } = await fs.lstat('/a');
    const { attr: below } = await meta.query<'getattr'>({ op: 'getattr', ino: Number(ino) as Ino });
    const result = await fsck({ meta, network, catalog, status, below, onTrouble: () => undefined });
    expect(result).toMatchObject({ fileCount: 2, blockCount: 2, orphans: undefined });
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
      expect(Buffer.from(trouble.use?.paths[0] ?? []).toString()).toMatch(/^\/some\/file-\d$/);
    }
  });
});
