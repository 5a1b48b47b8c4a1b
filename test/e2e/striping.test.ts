/** Blocks lie on all nodes, evenly; a read asks all of them; a node that dies on the way disturbs nobody. */
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster, mustTatami, sha256, shell, waitUntil } from './support.ts';

const GIB = 1 << 30;
const BLOCK_BYTES = 4 << 20;

interface StatJson {
  readonly extents: readonly {
    readonly lengthBytes: number;
    readonly nodes?: readonly { node: string; state: string }[];
  }[];
  readonly blocksPerNode: Readonly<Record<string, number>>;
}

describe('a striped file of 1 GiB with two copies', () => {
  let cluster: TestCluster;
  let local: string;
  let digest: string;
  beforeAll(async () => {
    cluster = await TestCluster.start({ nodes: 3, copies: 2 });
    local = join(cluster.directory, 'large');
    await shell(`head -c ${GIB} /dev/urandom > ${local}`);
    digest = await sha256(local);
    await shell(`cp ${local} ${cluster.mount}/large`, { timeoutMs: 200_000 });
  });
  afterAll(() => cluster.destroy());

  it('lies on all nodes, none with more than 1.2 times its share', async () => {
    const stat = JSON.parse(await mustTatami(['stat', '/large', '--json', '--data', cluster.data])) as StatJson;
    // Whole blocks; a block that was flushed while it was being filled may be in two pieces.
    expect(stat.extents.reduce((sum, extent) => sum + extent.lengthBytes, 0)).toBe(GIB);
    expect(stat.extents.length).toBeLessThan((GIB / BLOCK_BYTES) * 1.05);
    for (const extent of stat.extents) {
      expect(extent.nodes?.filter((holder) => holder.state === 'held')).toHaveLength(2);
    }
    const share = (2 * GIB) / BLOCK_BYTES / 3;
    const counts = Object.values(stat.blocksPerNode);
    expect(counts).toHaveLength(3);
    for (const count of counts) expect(count).toBeLessThanOrEqual(1.2 * share);
  });

  it('is read from all nodes at once', async () => {
    await cluster.restartCold();
    const before = await cluster.status();
    expect(await sha256(`${cluster.mount}/large`)).toBe(digest);
    const after = await cluster.status();
    expect(before.nodes).toHaveLength(3);
    for (const node of after.nodes) {
      const earlier = before.nodes.find((other) => other.id === node.id);
      // A third each would be even; no node is left out.
      expect((node.readBytes ?? 0) - (earlier?.readBytes ?? 0)).toBeGreaterThan(GIB / 6);
    }
  });

  it('is read whole while a node that serves no metadata is killed, and writes go on', async () => {
    await cluster.restartCold();
    const reading = sha256(`${cluster.mount}/large`);
    await new Promise((resolve) => setTimeout(resolve, 150));
    await cluster.kill('n3');
    writeFileSync(join(cluster.mount, 'meanwhile'), Buffer.alloc(20_000_000, 'w'));
    expect(await reading).toBe(digest);
    const status = await cluster.waitFor('degraded', (now) => now.health === 'degraded');
    expect(status.findings.some((finding) => finding.text.includes('n3'))).toBe(true);
    await shell(`cp ${local} ${cluster.mount}/second`, { timeoutMs: 200_000 });
    await cluster.up();
    await cluster.waitFor('healthy again', (now) => now.health === 'healthy');
    // It is used again: new blocks arrive there.
    const count = (await cluster.status()).nodes.find((node) => node.id === 'n3')?.blockCount ?? 0;
    await shell(`head -c 100000000 /dev/urandom > ${cluster.mount}/third`);
    await waitUntil('n3 takes blocks', async () => {
      const now = (await cluster.status()).nodes.find((node) => node.id === 'n3');
      return (now?.blockCount ?? 0) > count;
    });
    expect(statSync(join(cluster.mount, 'meanwhile')).size).toBe(20_000_000);
    await cluster.restartCold();
    expect(await sha256(`${cluster.mount}/second`)).toBe(digest);
  });
});
