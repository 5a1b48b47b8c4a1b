/** The catalog's Paxos under bad weather: agreement always, progress when a majority is up. */
import { afterEach, describe, expect, it } from 'vitest';
import { CATALOG_FORMAT_VERSION } from '../../src/catalog/types.ts';
import type { CatalogNode } from '../../src/catalog/types.ts';
import { CatalogWorld } from '../support/catalog-world.ts';

let w: CatalogWorld;
/** `SIM_SEEDS=1-500` tries more. */
const [firstSeed = 1, lastSeed = 4] = (process.env['SIM_SEEDS'] ?? '').split('-').filter(Boolean).map(Number);
afterEach(() => w.close());

const poolNames = () => w.newest().pools.map((pool) => pool.name);

/** Nodes propose all the time while links and machines fail. Returns what was acknowledged. */
async function storm(seed: number, nodes: number, forMs: number): Promise<string[]> {
  w = await CatalogWorld.start({ seed, nodes });
  const { world } = w;
  world.network.weather = { ...world.network.weather, latencyMs: [0.1, 40], cut: 0.3 };
  const names = world.hostNames.slice(0, nodes);
  const acked: string[] = [];
  let calm = false;
  const lane = async (name: string): Promise<void> => {
    while (!calm && w.nodes.has(name)) {
      const made = await w.change(name, 2_000).catch((error: { code?: string }) => {
        expect(error.code).toMatch(/ERR_(UNAVAILABLE|CONFLICT|PEER_UNREACHABLE|TIMEOUT)/);
        return undefined;
      });
      if (made !== undefined) acked.push(made);
    }
  };
  for (const name of names) void lane(name);
  const pick = () => names[world.random.below(names.length)]!;
  const endMs = world.time.nowMs + forMs;
  while (world.time.nowMs < endMs) {
    await world.run(world.random.below(400));
    const [a, b] = [pick(), pick()];
    switch (world.random.below(7)) {
      case 0:
        if (a !== b) world.network.partition(a, b, { oneWay: world.random.chance(0.5) });
        break;
      case 1:
      case 2:
        world.network.heal();
        break;
      case 3:
        if (a !== b) world.network.breakConnections(a, b);
        break;
      case 4:
        if (w.nodes.has(a) && w.nodes.size > 1) w.crash(a, world.random.chance(0.6) ? 'power' : 'process');
        break;
      default: {
        const down = names.find((name) => !w.nodes.has(name));
        if (down === undefined) break;
        await w.startNode(down);
        void lane(down);
      }
    }
  }
  calm = true;
  world.network.heal();
  world.network.weather = { ...world.network.weather, latencyMs: [0.1, 1] };
  for (const name of names) if (!w.nodes.has(name)) await w.startNode(name);
  return acked;
}

describe('voters in a storm', () => {
  for (const nodes of [3, 5]) {
    it.each(Array.from({ length: lastSeed - firstSeed + 1 }, (_, index) => firstSeed + index))(
      `${nodes} voters, seed %i: agree on each epoch, lose nothing acknowledged, go on when it is over`,
      async (seed) => {
        const acked = await storm(100 * nodes + seed, nodes, 20_000);
        // Progress: whoever asks gets its change.
        for (const name of w.nodes.keys()) acked.push(await w.world.settle(w.change(name, 20_000)));
        await w.world.settle(Promise.all([...w.nodes.values()].map((node) => node.catalog.confirm(10_000))));
        const final = await w.agree();
        const names = final.pools.map((pool) => pool.name);
        expect(acked.filter((name) => !names.includes(name))).toEqual([]);
        expect(new Set(names).size).toBe(names.length);
        // No epoch was made by more or less than one proposal (that none was made twice is checked all along).
        expect(w.makers.size).toBe(final.epoch - 1);
        expect(acked.length).toBeGreaterThan(nodes);
      },
    );
  }
});

describe('three voters', () => {
  it('decide without one of them, and not without two; nothing hangs', async () => {
    w = await CatalogWorld.start({ seed: 1 });
    await w.world.settle(w.change('n1'));
    w.crash('n1');
    await w.world.settle(w.change('n3'));
    w.crash('n2');
    const startedMs = w.world.time.nowMs;
    const failed = w.world.settle(w.change('n3', 3_000));
    await expect(failed).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE', message: expect.stringMatching(/n1.*n2/) });
    await expect(failed).rejects.toMatchObject({ remedy: expect.stringMatching(/Start the voters/) });
    expect(w.world.time.nowMs - startedMs).toBeLessThan(3_200);
    await expect(w.world.settle(w.node('n3').catalog.confirm(2_000))).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
    });
    await w.startNode('n1');
    await w.world.settle(w.change('n1'));
    expect(poolNames()).toEqual(expect.arrayContaining(['by-n1-10', 'by-n3-11', 'by-n1-13']));
  });

  it('choose nothing on the side of the minority', async () => {
    w = await CatalogWorld.start({ seed: 2, nodes: 5 });
    w.world.network.partitionSides(['n1', 'n2'], ['n3', 'n4', 'n5']);
    const epoch = w.newest().epoch;
    const minority = ['n1', 'n2'].map((name) => w.change(name, 4_000).catch((error: { code: string }) => error.code));
    const majority = ['n3', 'n4', 'n5'].map((name) => w.change(name, 10_000));
    await w.world.settle(Promise.all(majority));
    expect(await w.world.settle(Promise.all(minority))).toEqual(['ERR_UNAVAILABLE', 'ERR_UNAVAILABLE']);
    expect(w.node('n1').catalog.current().epoch).toBe(epoch);
    expect(w.node('n2').catalog.current().epoch).toBe(epoch);
    expect(w.newest().epoch).toBe(epoch + 3);
    w.world.network.heal();
    await w.world.settle(w.change('n1', 20_000));
    await w.agree();
  });

  it('are asked by a node that does not vote, one after the other', async () => {
    w = await CatalogWorld.start({ seed: 3, nodes: 4 });
    expect(w.newest().voters).toEqual(['n1', 'n2', 'n3']);
    await w.world.settle(w.change('n4'));
    w.crash('n1');
    await w.world.settle(w.change('n4'));
    expect(poolNames()).toEqual(expect.arrayContaining(['by-n4-10', 'by-n4-11']));
  });

  it('of which one proposes over and over need one round trip for each change', async () => {
    const asked: string[] = [];
    const onCall = (from: string, _to: string, method: string) => asked.push(`${from} ${method}`);
    w = await CatalogWorld.start({ seed: 4, onCall });
    for (let count = 0; count < 5; count++) await w.world.settle(w.change('n2'));
    await w.world.run(1_000);
    expect(asked.filter((line) => line.endsWith('catalog.prepare'))).toHaveLength(2);
    expect(asked.filter((line) => line.endsWith('catalog.accept'))).toHaveLength(10);
  });

  it('confirm what was chosen elsewhere, and finish what was only accepted', async () => {
    w = await CatalogWorld.start({ seed: 5 });
    await w.world.settle(w.change('n1'));
    await w.agree();
    w.world.network.partitionSides(['n3'], ['n1', 'n2']);
    await w.world.settle(w.change('n1'));
    expect(w.node('n3').catalog.current().epoch).toBe(2);
    w.world.network.heal();
    expect((await w.world.settle(w.node('n3').catalog.confirm(5_000))).epoch).toBe(3);
    // n1 dies when n2 has accepted but n1 knows nothing of it.
    await w.agree();
    w.crash('n3');
    const lost = w.change('n1', 60_000).catch(() => undefined);
    await w.world.runUntil(() => w.node('n2').catalog.voter!.inquiry().acceptedEpoch === 4);
    w.crash('n1');
    await w.startNode('n3');
    const confirmed = await w.world.settle(w.node('n3').catalog.confirm(5_000));
    expect(confirmed.epoch).toBe(4);
    expect(confirmed.pools.at(-1)?.name).toBe('by-n1-12');
    void lost;
  });
});

describe('a node that stops', () => {
  it('writes nothing more, whatever it was doing, so that the next start finds its latest votes', async () => {
    for (let seed = 20; seed < 26; seed++) {
      w = await CatalogWorld.start({ seed });
      await w.world.settle(w.change('n1'));
      const { catalog } = w.node('n2');
      const change = w.change('n2', 20_000).catch((error: { code: string }) => error.code);
      void w.change('n1', 20_000);
      await w.world.run(seed - 20);
      await w.world.settle(catalog.close());
      const files = ['votes.json', 'catalog.json'].map((name) => `/node/${name}`);
      const read = () =>
        w.world.settle(Promise.all(files.map((path) => w.world.envOf('n2').disk.readFile(path)))).then(String);
      const before = await read();
      await w.world.run(10_000);
      expect(await read()).toBe(before);
      expect(await w.world.settle(change)).toMatch(/^(by-n2-.*|ERR_UNAVAILABLE)$/);
      await w.close();
    }
    w = await CatalogWorld.start();
  });
});

describe('R11: a voter that lost its votes', () => {
  it.each(['missing', 'damaged', 'of another store'])('(%s) never votes again, and says so', async (how) => {
    w = await CatalogWorld.start({ seed: 6 });
    await w.world.settle(w.change('n1'));
    await w.agree();
    w.crash('n2', 'process');
    const disk = w.world.restartHost('n2').disk;
    if (how === 'missing') await w.world.settle(disk.remove('/node/votes.json'));
    if (how === 'damaged') w.world.diskOf('n2').corrupt('/node/votes.json', 90, 1);
    if (how === 'of another store') {
      const bytes = await w.world.settle(w.world.envOf('n1').disk.readFile('/node/votes.json'));
      await w.world.settle(disk.writeFileAtomic('/node/votes.json', bytes));
    }
    await w.startNode('n2');
    expect(w.node('n2').catalog.voter?.inquiry()).toMatchObject({ fit: false, reason: expect.stringMatching(how) });
    expect(w.lines.some((line) => line.startsWith('n2 R11'))).toBe(true);
    // It still proposes, through the others.
    await w.world.settle(w.change('n2'));
    w.crash('n3');
    const refused = w.world.settle(w.change('n1', 3_000));
    await expect(refused).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
      message: expect.stringMatching(/n2: .*vote/),
    });
    await expect(w.world.settle(w.node('n2').catalog.confirm(2_000))).rejects.toThrow(how);
  });

  it('is replaced by another node', async () => {
    w = await CatalogWorld.start({ seed: 7, nodes: 4, upkeep: true });
    await w.world.run(3_000);
    expect(w.newest().voters).toEqual(['n1', 'n2', 'n3']);
    w.crash('n1', 'process');
    await w.world.settle(w.world.restartHost('n1').disk.remove('/node/votes.json'));
    await w.startNode('n1');
    await w.world.runUntil(() => w.newest().voters.length === 3 && !w.newest().voters.includes('n1' as never));
    expect(w.newest().voters).toEqual(['n2', 'n3', 'n4']);
    // It does not come back into the set, whoever else goes.
    w.crash('n4');
    await w.world.run(400_000);
    expect(w.newest().voters).toEqual(['n2', 'n3', 'n4']);
    await w.world.settle(w.change('n1'));
  });
});

describe('the set of voters', () => {
  it('grows from one to three to five as nodes join, and survives the first', async () => {
    w = await CatalogWorld.start({ seed: 8, nodes: 1, upkeep: true });
    await w.join('n2');
    await w.world.run(5_000);
    expect(w.newest().voters).toEqual(['n1']);
    await w.join('n3');
    await w.world.runUntil(() => w.newest().voters.length === 3);
    await w.agree();
    w.crash('n1');
    await w.join('n4');
    await w.startNode('n1');
    await w.join('n5');
    await w.world.runUntil(() => w.newest().voters.length === 5);
    await w.agree();
    w.crash('n2');
    w.crash('n1');
    await w.world.settle(w.change('n5'));
    await w.agree();
  });

  it('grows in a cluster of an earlier version, which had one voter and no votes on disk', async () => {
    w = await CatalogWorld.start({ seed: 12, upkeep: true });
    const names = [...w.nodes.keys()];
    const epoch = w.newest().epoch;
    for (const name of names) w.crash(name, 'process');
    for (const name of names) {
      const { disk } = w.world.restartHost(name);
      const rewrite = async (file: string, change: (old: Record<string, unknown>) => Record<string, unknown>) => {
        const old = JSON.parse(Buffer.from(await disk.readFile(file)).toString()) as Record<string, unknown>;
        await disk.writeFileAtomic(file, Buffer.from(JSON.stringify(change(old))));
      };
      await w.world.settle(rewrite('/node/node.json', (old) => ({ ...old, formatVersion: 1 })));
      await w.world.settle(rewrite('/node/catalog.json', (old) => ({ ...old, formatVersion: 1, voters: ['n1'] })));
      await w.world.settle(disk.remove('/node/votes.json'));
    }
    for (const name of names) await w.startNode(name);
    expect(w.newest()).toMatchObject({ epoch, formatVersion: 1, voters: ['n1'] });
    await w.world.runUntil(() => w.newest().voters.length === 3);
    expect((await w.agree()).formatVersion).toBe(CATALOG_FORMAT_VERSION);
    w.crash('n1');
    await w.world.settle(w.change('n2'));
  });

  it('brings to its end what a voter that died left accepted', async () => {
    w = await CatalogWorld.start({ seed: 13, upkeep: true });
    await w.world.run(3_000);
    w.world.network.partition('n1', 'n3');
    const lost = w.change('n1', 60_000).catch(() => undefined);
    await w.world.runUntil(() => w.node('n2').catalog.voter!.inquiry().acceptedEpoch === 2);
    w.crash('n1');
    await w.world.runUntil(() => w.node('n3').catalog.current().epoch === 2, { limitMs: 20_000 });
    expect(poolNames()).toContain('by-n1-10');
    void lost;
  });

  it('gets a voter that is gone for long replaced', async () => {
    w = await CatalogWorld.start({ seed: 9, nodes: 4, upkeep: true });
    await w.world.run(2_000);
    w.crash('n1');
    await w.world.run(200_000);
    expect(w.newest().voters).toEqual(['n1', 'n2', 'n3']);
    await w.world.run(120_000);
    expect(w.newest().voters).toEqual(['n2', 'n3', 'n4']);
    await w.startNode('n1');
    await w.agree();
  });

  it('two nodes and a witness: any one may fail', async () => {
    w = await CatalogWorld.start({ seed: 10, nodes: 2, upkeep: true });
    await w.world.run(3_000);
    expect(w.newest().voters).toEqual(['n1']);
    await w.join('n3', { kind: 'witness' });
    await w.world.runUntil(() => w.newest().voters.length === 3);
    expect(w.newest().groups[0]).toMatchObject({ primary: 'n1', secondary: 'n2', learners: [] });
    for (const name of ['n1', 'n2', 'n3']) {
      await w.agree();
      w.crash(name);
      await w.world.settle(w.change(name === 'n1' ? 'n2' : 'n1'));
      await w.startNode(name);
    }
  });

  it('is spread over racks when a better place joins', async () => {
    const rack = (id: string): Partial<CatalogNode> => ({ rack: id === 'n4' ? 'b' : 'a' });
    w = await CatalogWorld.start({ seed: 11, nodes: 3, upkeep: true, describe: rack });
    await w.join('n4');
    await w.world.runUntil(() => w.newest().voters.includes('n4' as never) && w.newest().voters.length === 3);
    await w.world.run(5_000);
    expect(w.newest().voters).toEqual(['n1', 'n2', 'n4']);
  });
});

describe('a change that would make a catalog which nobody can read', () => {
  it.each([1, 3])('is refused also by a voter that proposes it itself (%i nodes)', async (nodes) => {
    w = await CatalogWorld.start({ seed: 12, nodes });
    const { catalog } = w.node('n1');
    const before = w.newest();
    const change = { kind: 'setRepairAfter', afterMs: 1.5 } as const;
    await expect(w.world.settle(catalog.propose(before.epoch, change, 2_000))).rejects.toMatchObject({
      code: 'ERR_USAGE',
    });
    await w.world.settle(w.change('n1'));
    expect(w.newest().epoch).toBe(before.epoch + 1);
    w.crash('n1');
    await w.startNode('n1');
  });
});
