/** Fail-over of a metadata group in the simulated world: nothing acknowledged is lost, nobody answers twice. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Ino } from '../../src/ids.ts';
import { INLINE_MAX_BYTES } from '../../src/limits.ts';
import { GRACE_MS, LEASE_MS } from '../../src/meta/group/lease.ts';
import { DEFAULT_BOUNDS } from '../../src/meta/group/member-options.ts';
import { GroupWorld } from '../support/group-world.ts';

let w: GroupWorld;
afterEach(async () => {
  await w.close();
  expect(w.failures).toEqual([]);
});

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);

describe('when the primary is gone', () => {
  it.each(['process', 'power'] as const)(
    'its secondary takes over (%s), and nothing acknowledged is lost',
    async (how) => {
      w = await GroupWorld.start({ seed: 21 });
      const client = await w.client();
      await w.createAll(client, names('a', 100));
      const acked: string[] = [];
      const running: Promise<number>[] = [];
      const write = (prefix: string) =>
        running.push(...names(prefix, 50).map((name) => w.create(client, name).then(() => acked.push(name))));
      write('b');
      await w.world.runUntil(() => acked.length > 20);
      write('c');
      await w.world.run(w.world.random.between(0, 3));
      w.crash('n1', how);
      write('d');
      const crashedMs = w.world.time.nowMs;
      await w.world.settle(Promise.all(running), { limitMs: 60_000 });
      expect(w.world.time.nowMs - crashedMs).toBeLessThan(GRACE_MS + 1_500);
      expect(w.group()).toMatchObject({ primary: 'n2', secondary: 'n3', learners: ['n1'] });
      expect(w.group().lastActivated).toEqual({ epoch: w.group().epoch, members: ['n2', 'n3'] });
      await w.startNode('n1');
      await w.createAll(client, names('e', 20));
      await w.digest();
      expect(w.node('n1').member.status().role).toBe('learner');
      expect(new Set(await w.list(client)).size).toBe(270);
    },
  );

  it('cascades: each after the last has been replaced', async () => {
    w = await GroupWorld.start({ seed: 22, nodes: 5 });
    const client = await w.client();
    let count = 0;
    const victims = new Set<string>();
    while (victims.size < 2) {
      const { primary, secondary } = w.group();
      await w.createAll(client, names(`${primary}-`, 30));
      victims.add(primary);
      w.crash(primary, 'power');
      await w.createAll(client, names(`after-${primary}-`, 10));
      count += 40;
      expect(w.group().primary).toBe(secondary);
    }
    expect((await w.list(client)).length).toBe(count);
    for (const name of victims) await w.startNode(name);
    await w.digest();
  });
});

describe('a primary that is cut off from the others but not from a client', () => {
  it('answers nothing once another may have taken over: no stale read, no lost write', async () => {
    w = await GroupWorld.start({ seed: 23 });
    const near = await w.client('c1');
    const far = await w.client('c2');
    await w.createAll(near, names('a', 10));
    for (const other of ['n2', 'n3', 'c2']) w.world.network.partition('n1', other);
    // c1 reaches n1 alone.
    for (const other of ['n2', 'n3']) w.world.network.partition('c1', other);
    const cutMs = w.world.time.nowMs;
    await w.world.run(LEASE_MS + 1);
    expect(w.node('n1').member.status().serving).toBe(false);
    await w.world.settle(w.create(far, 'new'), { limitMs: 30_000 });
    expect(w.node('n2').member.status().serving).toBe(true);
    expect(w.world.time.nowMs - cutMs).toBeGreaterThan(GRACE_MS);
    let seen: string[] | undefined;
    void w
      .list(near)
      .then((list) => (seen = list))
      .catch(() => undefined);
    await w.world.run(5_000);
    expect(seen).toBeUndefined();
    w.world.network.heal();
    await w.world.runUntil(() => seen !== undefined);
    expect(seen).toContain('new');
    await w.digest();
    expect(w.node('n1').member.status().role).toBe('learner');
  });
});

describe('a primary whose machine slept', () => {
  it.each([0, -1_000, -3_000, -60_000])(
    'has no lease when it wakes, with its clock set by %i ms just before',
    async (stepMs) => {
      w = await GroupWorld.start({ seed: 27 });
      const client = await w.client();
      await w.createAll(client, names('a', 5));
      await w.quiet();
      const { world } = w;
      world.stepClock('n1', stepMs);
      world.pauseHost('n1', { suspend: true });
      await world.runUntil(() => w.node('n2').member.status().serving, { what: 'the next primary' });
      const together: number[] = [];
      world.afterEvent = () => {
        const serving = [...w.nodes.values()].filter((node) => node.member.status().serving);
        if (serving.length > 1) together.push(world.time.nowMs);
      };
      world.resumeHost('n1');
      await world.run(LEASE_MS);
      world.afterEvent = undefined;
      expect(together).toEqual([]);
      await w.digest();
    },
  );
});

describe('a secondary that gave its epoch up', () => {
  it('and lost its power before the outcome was known still asks to be the primary: it cannot follow any more', async () => {
    w = await GroupWorld.start({ seed: 24 });
    const client = await w.client();
    await w.createAll(client, names('a', 20));
    w.crash('n1', 'power');
    // The two voters that are left do not reach each other: nothing can be chosen.
    w.world.network.partition('n2', 'n3');
    await w.world.run(2 * GRACE_MS);
    w.crash('n2', 'power');
    w.world.network.heal();
    await w.startNode('n1');
    await w.startNode('n2');
    await w.createAll(client, names('b', 20));
    expect(w.group()).toMatchObject({ primary: 'n2' });
    expect((await w.list(client)).length).toBe(40);
    await w.digest();
  });
});

describe('a secondary that lost its whole log with its power', () => {
  it('does not take itself for a new one, and does not take over', async () => {
    w = await GroupWorld.start({ seed: 26 });
    const client = await w.client();
    await w.createAll(client, names('a', 5));
    for (const gone of ['n2', 'n3']) w.crash(gone, 'power');
    w.crash('n1', 'process');
    await w.startNode('n2');
    await w.startNode('n3');
    expect(w.node('n2').member.status().loggedSeq).toBe(0);
    await w.world.run(3 * GRACE_MS);
    expect(w.group()).toMatchObject({ primary: 'n1', secondary: 'n2' });
    await w.startNode('n1');
    expect(await w.list(client)).toHaveLength(5);
    await w.digest();
  });
});

describe('a secondary whose disk takes nothing more', () => {
  it('acknowledges nothing that it could not write, whatever comes afterwards', async () => {
    w = await GroupWorld.start({ seed: 25 });
    const client = await w.client();
    await w.createAll(client, names('a', 5));
    w.world.diskOf('n2').failNext({ op: 'write', path: '/log/', code: 'ENOSPC', times: 1_000 });
    const logged = w.node('n2').member.status().loggedSeq;
    let acknowledged = false;
    const running = w.create(client, 'b').then(() => (acknowledged = true));
    // Beacons come, which bring no entries.
    await w.world.run(LEASE_MS);
    expect([acknowledged, w.node('n1').member.status().committedSeq]).toEqual([false, logged]);
    expect(w.node('n2').meta.status()).toMatchObject([{ serving: false, detail: expect.stringContaining('ENOSPC') }]);
    // It is dropped, and another takes its place.
    w.crash('n2', 'process');
    await w.world.settle(running);
    expect(w.group()).toMatchObject({ primary: 'n1', secondary: 'n3' });
  });

  it.each(['power', 'process'] as const)(
    'is not certain of its log afterwards, however orderly its process ended (R11, %s)',
    async (lost) => {
      w = await GroupWorld.start({ seed: 26 });
      const client = await w.client();
      await w.createAll(client, ['synced']);
      await w.world.settle(client.meta.sync());
      const repaired = w.world.diskOf('n2').failNext({ op: 'datasync', path: '/log/', times: 1_000 });
      await w.createAll(client, ['acknowledged']);
      void client.meta.sync().catch(() => undefined);
      await w.world.run(50);
      w.crash('n1', 'process');
      await w.world.settle(w.node('n2').meta.close());
      // Without a loss of power, too: the system takes for written what it could not write, and drops it.
      w.crash('n2', lost);
      repaired();
      await w.startNode('n2');
      await w.world.run(3 * GRACE_MS);
      // It may have lost what it acknowledged: only with n1 can the group go on.
      expect(w.group().primary).toBe('n1');
      await w.startNode('n1');
      await w.untilServing();
      expect((await w.list(client)).sort()).toEqual(['acknowledged', 'synced']);
    },
  );
});

describe('a secondary that lost its power, and whose primary was started anew as well', () => {
  it('does not take over before it has again all that was acknowledged (R11)', async () => {
    w = await GroupWorld.start({ seed: 27, bounds: { ...DEFAULT_BOUNDS, flushIntervalMs: 600_000 } });
    const client = await w.client();
    const [ino] = (await w.createAll(client, ['file'])) as [Ino];
    const lengthBytes = INLINE_MAX_BYTES;
    const written = Array.from({ length: 200 }, (_, index) => {
      const extent = {
        kind: 'inline',
        offset: index * lengthBytes,
        lengthBytes,
        data: new Uint8Array(lengthBytes),
      } as const;
      return client.meta.mutate({ op: 'commit', ino, growToBytes: 0, mtimeNs: 'now', extents: [extent] });
    });
    await w.world.settle(Promise.all(written));
    const { loggedSeq } = w.node('n1').member.status();
    w.crash('n2', 'power');
    w.crash('n1', 'process');
    await w.startNode('n2');
    const found = w.node('n2').member.status().loggedSeq;
    await w.startNode('n1');
    // It has got a part of what it lacks.
    await w.world.runUntil(() => w.node('n2').member.status().loggedSeq > found);
    w.crash('n1', 'process');
    expect(w.node('n2').member.status().loggedSeq).toBeLessThan(loggedSeq);
    await w.world.run(3 * GRACE_MS);
    expect(w.group().primary).toBe('n1');
    await w.startNode('n1');
    await w.untilServing();
    const { attr } = await w.world.settle(client.meta.query<'getattr'>({ op: 'getattr', ino }));
    expect(attr.sizeBytes).toBe(200 * lengthBytes);
  });
});
