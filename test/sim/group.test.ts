import { afterEach, describe, expect, it } from 'vitest';
import type { Epoch, Ino, NodeId, Seq } from '../../src/ids.ts';
import { ROOT_INO } from '../../src/ids.ts';
import { SESSION_LEASE_MS } from '../../src/limits.ts';
import type { SyncPush } from '../../src/meta/group/messages.ts';
import { encodeSyncPush } from '../../src/meta/group/push-codec.ts';
import { decodeOutcome } from '../../src/meta/outcome.ts';
import { encodeMutateRequest } from '../../src/meta/requests.ts';
import type { Network } from '../../src/net/types.ts';
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
    // Nor does the catalog change: n1 is one voter of three.
    expect(w.group()).toMatchObject({ secondary: 'n2' });
    await w.startNode('n3');
    await w.world.settle(create);
    expect(w.group()).toMatchObject({ secondary: 'n3' });
  });
});

describe('another primary in the catalog', () => {
  it('is told to those who wait, reconciles, takes an epoch of its own and serves (R7)', async () => {
    w = await GroupWorld.start({ seed: 8 });
    const client = await w.client();
    await w.createAll(client, names('a', 30));
    // Each writer waits for its answer before the next: writes are under way whenever the catalog changes.
    let running = true;
    let count = 0;
    const load = Promise.all(
      names('', 8).map(async (lane) => {
        while (running) await w.create(client, `l${lane}-${count++}`);
      }),
    );
    const { catalog } = w.node('n1');
    const old = catalog.current().groups[0]!;
    const group = { ...old, epoch: (old.epoch + 1) as Epoch, primary: 'n2' as NodeId, secondary: 'n1' as NodeId };
    const change = { kind: 'putGroup', group, expectedGroupEpoch: old.epoch } as const;
    await w.world.settle(catalog.propose(catalog.current().epoch, change, 1_000));
    await w.untilServing();
    await w.world.run(100);
    running = false;
    await w.world.settle(load);
    expect(w.serving()).toBe('n2');
    expect(w.group()).toMatchObject({ primary: 'n2', secondary: 'n1', epoch: old.epoch + 2 });
    expect(w.group().lastActivated).toEqual({ epoch: old.epoch + 2, members: ['n2', 'n1'] });
    await w.digest();
    expect(await w.list(client)).toHaveLength(30 + count);
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
          await w.world.envOf('c1').clock.sleep(20);
        }
      }),
    );
    await w.world.runUntil(() => w.group().secondary === 'n2', { what: 'n2 to be the secondary again' });
    await w.world.run(500);
    running = false;
    await w.world.settle(load);
    await w.digest();
    const { inodeCount } = await w.world.settle(client.meta.query<'statfs'>({ op: 'statfs' }));
    expect(inodeCount).toBe(41 + count);
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

describe('a member that is behind', () => {
  // One segment is some ten entries: the log is cut soon.
  const bounds = { flushIntervalMs: 200, logKeepBytes: 4_096, segmentBytes: 2_048 };

  /** n3 is gone, and the log no longer reaches back to where it stood. */
  async function behind(seed: number) {
    w = await GroupWorld.start({ seed, bounds });
    const client = await w.client();
    await w.createAll(client, names('a', 30));
    await w.quiet();
    w.crash('n3', 'process');
    await w.createAll(client, names('b', 300));
    await w.world.run(2_000);
    await w.createAll(client, names('c', 30));
    await w.world.run(2_000);
    return client;
  }

  it('takes a full copy while writes go on, once', async () => {
    const client = await behind(20);
    await w.startNode('n3');
    const more = w.createAll(client, names('d', 100));
    await more;
    await w.digest();
    expect(w.lines.filter((line) => line.includes('taking a full copy'))).toHaveLength(1);
    expect(await w.list(client)).toHaveLength(460);
  });

  it('starts a full copy over that was interrupted, and is never appointed meanwhile', async () => {
    const client = await behind(21);
    await w.startNode('n3');
    await w.world.runUntil(() => w.lines.some((line) => line.startsWith('n3 warn taking a full copy')));
    await w.world.run(5);
    w.crash('n3', 'power');
    await w.world.run(500);
    await w.startNode('n3');
    await w.createAll(client, names('e', 20));
    await w.digest();
    expect(await w.list(client)).toHaveLength(380);
  });

  it('can be stopped in order in the middle of a full copy', async () => {
    const client = await behind(25);
    await w.startNode('n3');
    await w.world.runUntil(() => w.lines.some((line) => line.startsWith('n3 warn taking a full copy')));
    const startedMs = w.world.time.nowMs;
    await w.stopNode('n3');
    expect(w.world.time.nowMs - startedMs).toBeLessThan(2_000);
    await w.startNode('n3');
    await w.digest();
    expect(await w.list(client)).toHaveLength(360);
  });

  it('stops when its log fails at the end of a full copy, and does not take one after the other', async () => {
    await behind(26);
    w.world.diskOf('n3').failNext({ op: 'unlink', path: '/log/', code: 'EIO' });
    await w.startNode('n3');
    await w.world.run(5_000);
    expect(w.lines.filter((line) => line.includes('taking a full copy'))).toHaveLength(1);
    expect(w.failures.splice(0).join()).toMatch(/^n3: .*EIO/);
  });

  it('that was the secondary takes the place again after a full copy', async () => {
    w = await GroupWorld.start({ nodes: 2, seed: 22, bounds });
    const client = await w.client();
    await w.createAll(client, names('a', 30));
    w.crash('n2', 'process');
    await w.createAll(client, names('b', 300));
    await w.world.run(2_000);
    await w.createAll(client, names('c', 30));
    await w.startNode('n2');
    await w.world.runUntil(() => w.group().secondary === 'n2', { what: 'n2 to be the secondary again' });
    await w.digest();
    expect(w.lines.some((line) => line.includes('the full copy is complete'))).toBe(true);
    expect(await w.list(client)).toHaveLength(360);
  });

  it('with a damaged log takes a full copy; its table stays until the primary answers', async () => {
    w = await GroupWorld.start({ seed: 23 });
    const client = await w.client();
    await w.createAll(client, names('a', 30));
    await w.world.settle(client.meta.sync());
    await w.createAll(client, names('b', 30));
    await w.quiet();
    await w.stopNode('n3');
    const [file] = await w.world.settle(w.world.envOf('n3').disk.readdir('/node/meta/g0/log'));
    w.world.diskOf('n3').corrupt(`/node/meta/g0/log/${file}`, 60);
    const applied = w.node('n1').member.status().appliedSeq;
    for (const name of ['n1', 'n2']) w.world.network.partition('n3', name);
    await w.startNode('n3');
    await w.world.run(3_000);
    expect(w.node('n3').member.status()).toMatchObject({ appliedSeq: applied, detail: 'it takes a full copy' });
    w.world.network.heal();
    await w.world.runUntil(() => w.lines.some((line) => line.includes('the full copy is complete')));
    await w.digest();
    expect(w.lines.filter((line) => line.includes('taking a full copy'))).toHaveLength(1);
  });

  it('is told apart from one whose entries nobody acknowledged: those are cut off', async () => {
    w = await GroupWorld.start({ seed: 24 });
    const client = await w.client();
    await w.createAll(client, names('a', 20));
    await w.quiet();
    // n2 is alone with what n1 cannot have acknowledged; n1 is told nothing any more.
    w.world.network.partition('n2', 'n1', { oneWay: true });
    w.world.network.partition('n1', 'n3');
    const lost = w.create(client, 'lost', { timeoutMs: 60_000 });
    await w.world.run(100);
    expect(w.node('n2').member.status().loggedSeq).toBeGreaterThan(w.node('n1').member.status().committedSeq);
    w.crash('n2', 'process');
    w.crash('n1', 'process');
    w.world.network.heal();
    await w.startNode('n1');
    await w.startNode('n2');
    await w.world.settle(lost);
    await w.digest();
    expect(await w.list(client)).toHaveLength(21);
  });
});

describe('requests that are tried again', () => {
  it('are applied once, across a primary that starts again', async () => {
    w = await GroupWorld.start({ seed: 30 });
    const client = await w.client();
    const { meta } = client;
    const session = meta.sessionId;
    const mutation = {
      op: 'make',
      parent: ROOT_INO,
      name: Buffer.from('once'),
      type: 'file',
      mode: 0o644,
      owner: { uid: 0, gid: 0 },
      rdev: 0,
      exclusive: true,
    } as const;
    const head = { session, requestId: 1_000, ackedBelow: 0 };
    const ask = async () => {
      for (;;) {
        const call = client.network.call('n1' as NodeId, 'meta.mutate', encodeMutateRequest('g0', head, mutation), {
          timeoutMs: 5_000,
        });
        const reply = await w.world.settle(call.catch(() => undefined));
        if (reply !== undefined) return decodeOutcome(reply.header as Uint8Array);
        await w.world.run(100);
      }
    };
    const first = await ask();
    expect(first.ok).toBe(true);
    expect(await ask()).toEqual(first);
    w.crash('n1', 'process');
    await w.startNode('n1');
    await w.untilServing();
    expect(await ask()).toEqual(first);
    expect(await w.list(client)).toEqual(['once']);
  });
});

describe('messages', () => {
  it('of another epoch, history or sender are refused (R6)', async () => {
    w = await GroupWorld.start({ seed: 40 });
    await w.createAll(await w.client(), ['a']);
    await w.quiet();
    const { network, catalog } = w.node('n1');
    const { epoch, historyId } = catalog.current().groups[0]!;
    const before = w.node('n3').member.status();
    const entries = [{ seq: 1 as Seq, epoch, prevEpoch: 0 as Epoch, command: new Uint8Array(4) }];
    const at = { prevSeq: 0, prevEpoch: 0, committedSeq: 9, syncedSeq: 0, sync: false, copy: false };
    const push = { group: 'g0', historyId, entries, ...at };
    const sendBytes = (from: Network, header: unknown) =>
      w.world.settle(from.call('n3' as NodeId, 'group.syncPush', header, { timeoutMs: 5_000 }));
    const send = (from: Network, sent: SyncPush) => sendBytes(from, encodeSyncPush(sent));
    await expect(send(network, { ...push, epoch: epoch - 1 })).rejects.toMatchObject({ code: 'ERR_STALE_EPOCH' });
    await expect(send(network, { ...push, epoch: epoch + 1 })).rejects.toMatchObject({ code: 'ERR_STALE_EPOCH' });
    await expect(send(network, { ...push, epoch, historyId: '2'.repeat(16) })).rejects.toMatchObject({
      code: 'ERR_STALE_EPOCH',
    });
    await expect(send(w.node('n2').network, { ...push, epoch })).rejects.toMatchObject({ code: 'ERR_AUTH' });
    const cut = encodeSyncPush({ ...push, epoch }).subarray(0, -1);
    await expect(sendBytes(network, cut)).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    await expect(sendBytes(network, { ...push, epoch })).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    expect(w.node('n3').member.status()).toEqual(before);
  });

  it('too large for the log are refused before they get there', async () => {
    w = await GroupWorld.start({ seed: 41 });
    const client = await w.client();
    const value = new Uint8Array(1024 * 1024);
    const extents = [0, 1, 2].map((at) => ({
      kind: 'inline' as const,
      offset: at * value.length,
      lengthBytes: value.length,
      data: value,
    }));
    const ino = (await w.world.settle(w.create(client, 'x'))) as Ino;
    const commit = { op: 'commit', ino, extents, growToBytes: 0, mtimeNs: 'now' } as const;
    await expect(w.world.settle(client.meta.mutate(commit))).rejects.toMatchObject({
      code: expect.stringMatching(/^E/),
    });
    await w.createAll(client, ['y']);
  });
});

describe('sessions', () => {
  it('that are heard of live on; a client whose session has ended begins another and goes on', async () => {
    w = await GroupWorld.start({ seed: 50 });
    const client = await w.client('c1', { leaseMs: 3_000 });
    await w.world.run(10_000);
    const [ino] = (await w.createAll(client, ['a'])) as [Ino];
    const { meta } = client;
    const first = meta.sessionId;
    let lost = 0;
    meta.onSessionLost(() => lost++);
    for (const name of w.names) w.world.network.partition('c1', name);
    await w.world.run(10_000);
    w.world.network.heal();
    // What was written under the session that has ended is refused: others may have written since.
    const data = Buffer.from('late');
    const extents = [{ kind: 'inline', offset: 0, lengthBytes: 4, data }] as const;
    const commit = { op: 'commit', ino, extents, growToBytes: 4, mtimeNs: 'now' } as const;
    await expect(w.world.settle(meta.mutate(commit))).rejects.toMatchObject({ code: 'ERR_SESSION_EXPIRED' });
    expect(meta.sessionId).not.toBe(first);
    await w.createAll(client, ['b']);
    await w.world.settle(meta.mutate(commit));
    expect(lost).toBe(1);
    await w.world.run(10_000);
    await w.createAll(client, ['c']);
    expect(lost).toBe(1);
    expect(await w.list(client)).toEqual(['a', 'b', 'c']);
  });

  it('that ended are begun anew by the next change, which is done once', async () => {
    w = await GroupWorld.start({ seed: 51 });
    const client = await w.client('c1', { leaseMs: 3_000 });
    const first = client.meta.sessionId;
    for (const name of w.names) w.world.network.partition('c1', name);
    await w.world.run(10_000);
    w.world.network.heal();
    await w.createAll(client, ['x', 'y', 'z']);
    expect(client.meta.sessionId).not.toBe(first);
    expect(await w.list(client)).toEqual(['x', 'y', 'z']);
  });
});

it('a primary whose log is damaged serves nothing and changes nothing; another takes over, and it comes back by a full copy', async () => {
  w = await GroupWorld.start({ seed: 60 });
  const client = await w.client();
  await w.createAll(client, names('a', 30));
  await w.world.settle(client.meta.sync());
  await w.createAll(client, names('b', 30));
  w.crash('n1', 'process');
  const path = '/node/meta/g0/log/00000000000001.log';
  w.world.diskOf('n1').corrupt(path, 60);
  const damaged = await w.world.settle(w.world.diskOf('n1').readFile(path));
  for (let round = 0; round < 2; round++) {
    await w.startNode('n1');
    await w.world.run(300);
    expect(w.node('n1').member.status()).toMatchObject({ serving: false, detail: expect.stringContaining('damaged') });
    await w.stopNode('n1');
  }
  expect(await w.world.settle(w.world.diskOf('n1').readFile(path))).toEqual(damaged);
  await w.createAll(client, names('c', 30));
  expect(w.group().primary).toBe('n2');
  await w.startNode('n1');
  await w.digest();
  expect(await w.list(client)).toHaveLength(90);
  expect(w.lines.some((line) => line.startsWith('n1') && line.includes('taking a full copy'))).toBe(true);
});

describe('a primary whose process stood still', () => {
  it.each([45_000, 85_000])('for %i ms ends no session of those whom it could not hear', async (ms) => {
    w = await GroupWorld.start({ seed: 31, nodes: 1 });
    const client = await w.client();
    const session = client.meta.sessionId;
    // Shortly after the client has told that it is alive.
    await w.world.run(SESSION_LEASE_MS / 3 + 100);
    w.world.pauseHost('n1');
    await w.world.run(ms);
    w.world.resumeHost('n1');
    await w.world.run(SESSION_LEASE_MS);
    expect(client.meta.sessionId).toBe(session);
  });
});

describe('a client that was cut off for less than its lease', () => {
  it('tells soon that it is alive, and not only when its lease is nearly over', async () => {
    w = await GroupWorld.start({ seed: 32 });
    const client = await w.client();
    const session = client.meta.sessionId;
    const third = SESSION_LEASE_MS / 3;
    await w.world.run(third - 100);
    for (const name of w.names) w.world.network.partition('c1', name);
    await w.world.run(third + 1_000);
    w.world.network.heal();
    await w.world.run(third - 2_000);
    // Just then it stands still for a moment.
    w.world.pauseHost('c1');
    await w.world.run(3_000);
    w.world.resumeHost('c1');
    await w.world.run(third);
    expect(client.meta.sessionId).toBe(session);
  });
});
