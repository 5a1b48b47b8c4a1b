import { afterEach, describe, expect, it } from 'vitest';
import { ROOT_INO } from '../../src/ids.ts';
import { GroupWorld } from '../support/group-world.ts';

let w: GroupWorld;
afterEach(async () => {
  await w.close();
  expect(w.failures).toEqual([]);
});

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);

describe('a group of three', () => {
  it('replicates writes to all members, equal to the byte', async () => {
    w = await GroupWorld.start();
    const client = await w.client();
    await w.createAll(client, names('f', 200));
    await w.digest();
    expect(await w.list(client)).toHaveLength(200);
    expect(w.group()).toMatchObject({ primary: 'n1', secondary: 'n2', learners: ['n3'] });
  });

  it.each(['stop', 'process', 'power'] as const)(
    'replaces a secondary that is gone (%s) by a learner, and loses nothing acknowledged',
    async (how) => {
      w = await GroupWorld.start({ seed: 2 });
      const client = await w.client();
      await w.createAll(client, names('a', 50));
      if (how === 'stop') await w.stopNode('n2');
      else w.crash('n2', how);
      const after = w.createAll(client, names('b', 50));
      await after;
      expect(w.group()).toMatchObject({ primary: 'n1', secondary: 'n3', learners: ['n2'] });
      expect(w.group().lastActivated).toEqual({ epoch: w.group().epoch, members: ['n1', 'n3'] });
      await w.startNode('n2');
      await w.createAll(client, names('c', 50));
      await w.digest();
      expect(await w.list(client)).toHaveLength(150);
      expect(w.node('n2').member.status().role).toBe('learner');
      expect(w.lines.filter((line) => line.includes('taking a full copy'))).toEqual([]);
    },
  );

  it.each(['process', 'power'] as const)('loses nothing when its primary dies (%s) and comes back', async (kind) => {
    w = await GroupWorld.start({ seed: 3 });
    const client = await w.client();
    await w.createAll(client, names('a', 100));
    const epoch = w.group().epoch;
    const acked: string[] = [];
    const running = names('b', 200).map((name) => w.create(client, name).then(() => acked.push(name)));
    await w.world.runUntil(() => acked.length > 20);
    w.crash('n1', kind);
    const before = [...acked];
    await w.world.run(2_000);
    await w.startNode('n1');
    await w.world.settle(Promise.all(running));
    await w.digest();
    const found = new Set(await w.list(client));
    expect(before.filter((name) => !found.has(name))).toEqual([]);
    // Each once: exclusive creation would have failed the second time.
    expect(found.size).toBe(300);
    expect(w.group().epoch).toBeGreaterThan(epoch);
  });

  it('keeps what was synced when the power of all fails', async () => {
    for (let seed = 10; seed < 16; seed++) {
      w = await GroupWorld.start({ seed });
      const client = await w.client();
      await w.createAll(client, names('a', 60));
      await w.world.settle(client.meta.sync());
      const more = names('b', 100).map((name) => w.create(client, name).catch(() => undefined));
      await w.world.run(seed);
      for (const name of w.names) w.crash(name, 'power');
      for (const name of w.names) await w.startNode(name);
      await w.untilServing();
      await w.world.settle(Promise.all(more), { limitMs: 120_000 });
      await w.digest();
      const found = new Set(await w.list(client));
      expect(names('a', 60).filter((name) => !found.has(name))).toEqual([]);
      if (seed < 15) await w.close();
    }
  });

  it('does not answer after its deadline, and never hangs', async () => {
    w = await GroupWorld.start({ seed: 4 });
    const client = await w.client();
    for (const name of w.names) w.world.network.partition('c1', name);
    const startedMs = w.world.time.nowMs;
    await expect(w.world.settle(w.create(client, 'x', { timeoutMs: 3_000 }))).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
    });
    expect(w.world.time.nowMs - startedMs).toBeLessThan(3_100);
  });

  it('acknowledges nothing while its secondary is cut off and no other is in', async () => {
    w = await GroupWorld.start({ seed: 5 });
    const client = await w.client();
    w.crash('n3', 'process');
    w.world.network.partition('n1', 'n2');
    const create = w.create(client, 'x', { timeoutMs: 60_000 });
    let done = false;
    void create.then(() => (done = true));
    await w.world.run(10_000);
    expect(done).toBe(false);
    expect(w.group()).toMatchObject({ secondary: null });
    await w.startNode('n3');
    await w.world.settle(create);
    expect(w.group()).toMatchObject({ secondary: 'n3' });
  });
});

describe('smaller groups', () => {
  it('one node serves alone and keeps its data', async () => {
    w = await GroupWorld.start({ nodes: 1 });
    const client = await w.client();
    await w.createAll(client, names('a', 20));
    w.crash('n1', 'process');
    await w.startNode('n1');
    await w.createAll(client, names('b', 20));
    expect(await w.list(client)).toHaveLength(40);
  });

  it('two nodes: one goes on alone, the other comes back while writes go on', async () => {
    w = await GroupWorld.start({ nodes: 2, seed: 6 });
    const client = await w.client();
    await w.createAll(client, names('a', 20));
    w.crash('n2', 'process');
    await w.createAll(client, names('b', 20));
    expect(w.group()).toMatchObject({ secondary: null, minReplicas: 1 });
    await w.startNode('n2');
    let running = true;
    let count = 0;
    // A constant load: the returning member must not have to win a race.
    const load = Promise.all(
      names('', 8).map(async (lane) => {
        while (running) {
          await w.create(client, `l${lane}-${count++}`);
          await w.world.envOf('c1').clock.sleep(2);
        }
      }),
    );
    await w.world.runUntil(() => w.group().secondary === 'n2', { what: 'n2 to be the secondary again' });
    await w.world.run(500);
    running = false;
    await w.world.settle(load);
    await w.digest();
    expect(await w.list(client)).toHaveLength(40 + count);
  });
});

it('a query sees what was acknowledged before', async () => {
  w = await GroupWorld.start({ seed: 7 });
  const client = await w.client();
  const ino = await w.world.settle(w.create(client, 'x'));
  const query = { op: 'lookup', parent: ROOT_INO, name: Buffer.from('x') } as const;
  const { attr } = await w.world.settle(client.meta.query<'lookup'>(query));
  expect(attr.ino).toBe(ino);
});
