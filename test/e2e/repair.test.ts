/** A node is lost for good: its blocks get their copies elsewhere by themselves, and when it comes back they level out again. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestCluster, mustTatami, tatami, waitUntil } from './support.ts';

interface RepairJson {
  readonly done: boolean;
  readonly copiedCount: number;
  readonly afterMs: number | null;
  readonly nodes: readonly { readonly name: string; readonly state: string }[];
}

const COPIES = 2;

describe('repair by itself', () => {
  let cluster: TestCluster;
  const files = new Map<string, Buffer>();

  beforeEach(async () => {
    cluster = await TestCluster.start({ nodes: 4, copies: COPIES });
    files.clear();
    for (let n = 0; n < 40; n++) {
      const name = join(cluster.mount, `file-${n}`);
      const data = randomBytes(n < 4 ? 9_000_000 : 20_000 + n * 1_000);
      writeFileSync(name, data, { flush: true });
      files.set(name, data);
    }
    await cluster.waitFor('all copies are made', (now) => now.nodes.every((node) => node.handoffCount === 0));
  });
  afterEach(() => cluster.destroy());

  async function repair(...args: string[]): Promise<RepairJson> {
    const ran = await tatami(['repair', '--json', '--data', cluster.data, ...args]);
    // 4: a node is down.
    expect([0, 4]).toContain(ran.code);
    return JSON.parse(ran.stdout) as RepairJson;
  }
  const readAll = (): void => {
    for (const [name, data] of files) if (!readFileSync(name).equals(data)) throw new Error(`${name} is another file`);
  };
  const blockCount = async (): Promise<number> =>
    (await cluster.status()).nodes.reduce((sum, node) => sum + (node.blockCount ?? 0), 0);

  it('makes the copies of a node that is gone, takes it in when it is back, and gives up what is too much', async () => {
    const before = await blockCount();
    expect(await repair('--after', '3s')).toMatchObject({ done: true, afterMs: 3_000 });
    const { nodes } = await cluster.status();
    process.kill(nodes.find((node) => node.id === 'n4')!.pid!, 'SIGKILL');
    await waitUntil('n4 is left out', async () => (await repair()).nodes.some(({ state }) => state === 'down, out'));
    const repaired = await repair('--wait');
    expect(repaired.copiedCount).toBeGreaterThan(0);
    readAll();
    // With the node gone all copies are there: the loss of any other one loses nothing.
    expect(await mustTatami(['fsck', '--data', cluster.data])).not.toMatch(/under-replicated|unreadable/);
    expect(await blockCount()).toBe(before);
    const second = (await cluster.status()).nodes.find((node) => node.id === 'n3')!.pid!;
    process.kill(second, 'SIGKILL');
    readAll();

    await cluster.up();
    await cluster.waitFor('all are back', (now) => now.nodes.every((node) => node.state === 'up' && !node.out));
    await repair('--wait');
    await waitUntil('copies level out', async () => (await blockCount()) === before, 60_000);
    expect(await mustTatami(['fsck', '--data', cluster.data])).not.toMatch(/misplaced|under-replicated|unreadable/);
    readAll();
    const events = await mustTatami(['events', '--data', cluster.data]);
    expect(events).toMatch(/node n4 is down for too long: its blocks get their copies elsewhere/);
    expect(events).toMatch(/node n4 is back: it takes data again/);
  });
});

describe('tatami repair --after', () => {
  it('refuses what is no time', async () => {
    for (const [after, said] of [
      ['10', /It is a time like 90s, 10m, 2h or 1d, or never/],
      ['30d', /--after is at most 7 d/],
    ] as const) {
      const { code, stderr } = await tatami(['repair', '--after', after]);
      expect([code, stderr]).toEqual([2, expect.stringMatching(said)]);
    }
  });
});
