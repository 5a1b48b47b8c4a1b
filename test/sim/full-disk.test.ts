/** A node whose disk something else has filled: the others go on, and it takes part again once there is room. */
import { afterEach, expect, it } from 'vitest';
import { GroupWorld } from '../support/group-world.ts';

let w: GroupWorld;
afterEach(async () => {
  await w.close();
  expect(w.failures).toEqual([]);
});

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);

it.each(['n1', 'n2'])('of the primary or the secondary: nothing acknowledged is lost (%s)', async (full) => {
  w = await GroupWorld.start({ seed: 31 });
  const client = await w.client();
  await w.createAll(client, names('a', 50));
  const disk = w.world.diskOf(full);
  const hasRoom = disk.failNext({ path: '/meta/', op: 'write', code: 'ENOSPC', times: Infinity });
  await w.createAll(client, names('b', 50));
  await w.world.runUntil(() => w.node(full).member.status().detail.includes('ENOSPC'), { what: 'it stops' });
  expect(w.group().primary).not.toBe(full);
  // As often as it looks: there is room, but what it begins with does not succeed.
  await w.world.run(10_000);
  await w.createAll(client, names('c', 50));
  expect(
    w
      .node(full)
      .meta.status()
      .some(({ serving }) => serving),
  ).toBe(false);
  hasRoom();
  await w.world.runUntil(() => w.group().learners.includes(full as never) || w.group().secondary === full, {
    what: 'it takes part again',
    limitMs: 60_000,
  });
  await w.createAll(client, names('d', 10));
  await w.digest();
  expect(new Set(await w.list(client)).size).toBe(160);
});
