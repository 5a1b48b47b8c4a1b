/** R9: the whole in-sync set of a group is lost, and an operator goes on with the copy of another node. */
import { afterEach, describe, expect, it } from 'vitest';
import { GRACE_MS } from '../../src/meta/group/lease.ts';
import { GroupWorld } from '../support/group-world.ts';
import type { GroupClient } from '../support/group-world.ts';

let w: GroupWorld;
afterEach(async () => {
  await w.close();
  expect(w.failures).toEqual([]);
});

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);

/** Five nodes, five voters' worth of quorum in three; n1 and n2 are lost with what the others have not heard of. */
async function lost(seed: number, kind: 'process' | 'power' = 'power'): Promise<GroupClient> {
  w = await GroupWorld.start({ seed, nodes: 5 });
  const client = await w.client();
  await w.createAll(client, names('old', 20));
  await w.quiet();
  // The learners hear nothing of what comes now.
  for (const one of ['n1', 'n2']) for (const other of ['n3', 'n4', 'n5']) w.world.network.partition(one, other);
  await w.world.run(500);
  await w.createAll(client, names('lost', 5));
  w.crash('n1', kind);
  w.crash('n2', kind);
  w.world.network.heal();
  await w.world.run(6_000);
  expect(w.serving()).toBeUndefined();
  return client;
}

const force = (id: string) => w.world.settle(w.node(id).member.force(w.node(id).catalog.current().groups[0]!.epoch));
const listed = async (client: GroupClient) => (await w.list(client)).sort();

describe('forcing a group', () => {
  it('goes on with the chosen copy; the old ones are set aside when they come back, and never merged', async () => {
    const client = await lost(91);
    const before = w.group();
    expect(await w.world.settle(w.node('n3').member.copyState())).toMatchObject({ whole: true, reason: '' });
    const startMs = w.world.time.nowMs;
    await force('n3');
    await w.untilServing();
    expect(w.world.time.nowMs - startMs).toBeGreaterThanOrEqual(GRACE_MS);
    expect(w.serving()).toBe('n3');
    expect(w.group().historyId).not.toBe(before.historyId);
    expect(w.group().forced).toMatchObject({ from: 'n3', historyId: before.historyId });
    await w.createAll(client, names('new', 10));
    await w.startNode('n1');
    await w.startNode('n2');
    await w.createAll(client, names('more', 10));
    await w.digest();
    expect(await listed(client)).toEqual([...names('old', 20), ...names('new', 10), ...names('more', 10)].sort());
    for (const id of ['n1', 'n2', 'n4', 'n5']) {
      const kept = await w.world.settle(w.world.envOf(id).disk.readdir('/node/meta'));
      expect(kept.sort()).toEqual(['g0', `g0.aside-${before.historyId}`]);
    }
    // Each has the new history now, for its next start as well.
    await w.stopNode('n4');
    await w.startNode('n4');
    await w.digest();
  });

  it('an old primary that comes back first, alone with the old secondary, serves nothing', async () => {
    const client = await lost(92, 'process');
    await force('n4');
    await w.untilServing();
    // They reach each other, and a client, but not those who know better.
    for (const one of ['n1', 'n2', 'c1']) for (const other of ['n3', 'n4', 'n5']) w.world.network.partition(one, other);
    await w.startNode('n1');
    await w.startNode('n2');
    await w.world.run(20_000);
    for (const id of ['n1', 'n2']) expect(w.node(id).member.status().serving).toBe(false);
    w.world.network.heal();
    await w.createAll(client, ['new']);
    await w.digest();
    expect(await listed(client)).toEqual([...names('old', 20), 'new'].sort());
  });

  it.each([0, 5, 40, 1_000, 3_000])(
    'the chosen node loses its power %i ms after it: it goes on where it was',
    async (ms) => {
      const client = await lost(93 + ms);
      void w
        .node('n3')
        .member.force(w.node('n3').catalog.current().groups[0]!.epoch)
        .catch(() => undefined);
      await w.world.run(ms);
      w.crash('n3', 'power');
      await w.world.run(500);
      await w.startNode('n3');
      await w.world.run(3_000);
      // It may have died before the catalog was asked: then it is asked again.
      if (w.group().forced === undefined) await force('n3');
      await w.untilServing(60_000);
      await w.createAll(client, ['new']);
      await w.startNode('n1');
      await w.startNode('n2');
      await w.digest();
      expect(await listed(client)).toEqual([...names('old', 20), 'new'].sort());
    },
  );

  it('is refused while one of the in-sync set is up, for an empty copy, and for another epoch', async () => {
    await lost(97);
    await expect(w.world.settle(w.node('n3').member.force(99))).rejects.toThrow(/has changed meanwhile/);
    await w.startNode('n2');
    await w.world.run(2_000);
    await expect(force('n3')).rejects.toThrow(/n2 of group g0 is up/);
    await w.startNode('n1');
    await w.untilServing();
    await expect(force('n1')).rejects.toThrow(/is up and has all/);
    expect(w.group().forced).toBeUndefined();
  });
});
