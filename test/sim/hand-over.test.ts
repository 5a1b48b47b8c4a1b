/** An orderly end of being primary or secondary: nobody waits for a lease, and nothing is lost. */
import { afterEach, describe, expect, it } from 'vitest';
import type { NodeId } from '../../src/ids.ts';
import { LEASE_MS } from '../../src/meta/group/lease.ts';
import { LEAVE_TIMEOUT_MS } from '../../src/meta/group/leave.ts';
import { GroupWorld } from '../support/group-world.ts';
import type { GroupClient } from '../support/group-world.ts';

let w: GroupWorld;
afterEach(async () => {
  await w.close();
  expect(w.failures).toEqual([]);
});

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);
const drain = (id: string, draining = true) => w.change({ kind: 'setDraining', id: id as NodeId, draining });

const PAUSE_MS = 10;

/** A program that makes one file after the other, and how long it stood still at most. */
class Writer {
  readonly made: string[] = [];
  longestMs = 0;
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(client: GroupClient, prefix: string) {
    const { clock } = w.world.envOf('c1');
    const run = async (): Promise<void> => {
      while (!this.#stopped) {
        const name = `${prefix}${this.made.length}`;
        const startMs = w.world.time.nowMs;
        await w.create(client, name);
        this.made.push(name);
        this.longestMs = Math.max(this.longestMs, w.world.time.nowMs - startMs);
        await clock.sleep(PAUSE_MS);
      }
    };
    this.#done = run();
    // Looked at when it is waited for.
    this.#done.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await w.world.settle(this.#done);
  }
}

async function begin(seed: number, nodes: number): Promise<{ client: GroupClient; writer: Writer }> {
  w = await GroupWorld.start({ seed, nodes });
  const client = await w.client();
  const writer = new Writer(client, 'f');
  await w.world.run(500);
  return { client, writer };
}

async function finish(client: GroupClient, writer: Writer): Promise<void> {
  await w.world.run(1_000);
  await writer.stop();
  await w.digest();
  expect((await w.list(client)).sort()).toEqual([...writer.made].sort());
}

describe('a primary that is asked to stop', () => {
  it.each([31, 32])('hands over: writes stand still for less than a lease (seed %i)', async (seed) => {
    const { client, writer } = await begin(seed, 3);
    await w.stopNode('n1', { leave: true });
    expect(w.group()).toMatchObject({ primary: 'n2', secondary: 'n3', learners: ['n1'], handedOver: true });
    await w.world.run(3_000);
    expect(writer.longestMs).toBeLessThan(LEASE_MS / 2);
    await w.startNode('n1');
    await finish(client, writer);
  });

  it('alone with its secondary: that one serves alone', async () => {
    const { client, writer } = await begin(34, 3);
    await drain('n3');
    await w.stopNode('n1', { leave: true });
    expect(w.group()).toMatchObject({ primary: 'n2', secondary: null });
    await w.world.run(1_000);
    expect(writer.longestMs).toBeLessThan(LEASE_MS / 2);
    await w.startNode('n1');
    await finish(client, writer);
  });

  it('one after the other, all around', async () => {
    const { client, writer } = await begin(35, 4);
    for (let round = 0; round < 4; round++) {
      const { primary } = w.group();
      await w.stopNode(primary, { leave: true });
      expect(w.group().primary).not.toBe(primary);
      await w.startNode(primary);
      await w.world.run(500);
    }
    expect(writer.longestMs).toBeLessThan(LEASE_MS / 2);
    await finish(client, writer);
  });

  it('without a secondary, or with one that does not answer, ends soon all the same', async () => {
    const { client, writer } = await begin(36, 3);
    w.world.network.partition('n1', 'n2');
    const startMs = w.world.time.nowMs;
    await w.stopNode('n1', { leave: true });
    expect(w.world.time.nowMs - startMs).toBeLessThan(2 * LEAVE_TIMEOUT_MS);
    w.world.network.heal();
    await w.untilServing();
    await w.startNode('n1');
    await finish(client, writer);
  });

  it('whose secondary dies in the middle of it loses nothing', async () => {
    for (const afterMs of [2, 6, 15]) {
      const { client, writer } = await begin(40 + afterMs, 4);
      const leaving = w.node('n1').meta.leave();
      await w.world.run(afterMs);
      w.crash('n2', 'power');
      await w.world.settle(leaving);
      await w.untilServing();
      await w.startNode('n2');
      await finish(client, writer);
      await w.close();
    }
    w = await GroupWorld.start({ seed: 1 });
  });

  it('that is killed in the middle of it loses nothing', async () => {
    for (const afterMs of [2, 8]) {
      const { client, writer } = await begin(70 + afterMs, 3);
      void w.node('n1').meta.leave();
      await w.world.run(afterMs);
      w.crash('n1', 'power');
      await w.untilServing();
      await w.startNode('n1');
      await finish(client, writer);
      await w.close();
    }
    w = await GroupWorld.start({ seed: 1 });
  });
});

describe('a node that is being drained', () => {
  it('is primary no more once another can be, and stays a learner', async () => {
    const { client, writer } = await begin(51, 4);
    await drain('n1');
    await w.world.runUntil(() => w.serving() === 'n2' && w.group().learners.includes('n1' as NodeId));
    expect(w.group().minReplicas).toBe(2);
    await w.world.run(1_000);
    expect(writer.longestMs).toBeLessThan(LEASE_MS / 2);
    await finish(client, writer);
  });

  it('is secondary no more once another is in sync: no write waits for long', async () => {
    const { client, writer } = await begin(52, 4);
    await drain('n2');
    await w.world.runUntil(() => w.group().secondary !== 'n2');
    expect(w.group()).toMatchObject({ primary: 'n1', lastActivated: { members: ['n1', w.group().secondary] } });
    expect(w.group().secondary).not.toBeNull();
    await w.world.run(1_000);
    expect(writer.longestMs).toBeLessThan(LEASE_MS / 2);
    await finish(client, writer);
  });

  it('both at once: first the secondary is replaced, then the primary', async () => {
    const { client, writer } = await begin(53, 5);
    await drain('n2');
    await drain('n1');
    await w.world.runUntil(() => ![w.group().primary, w.group().secondary].some((id) => id === 'n1' || id === 'n2'));
    await w.untilServing();
    await finish(client, writer);
  });

  it('of two, the other goes on alone', async () => {
    const { client, writer } = await begin(54, 2);
    await drain('n2');
    await w.world.runUntil(() => w.group().secondary === null && w.serving() === 'n1');
    await w.world.run(2_000);
    expect(w.group().secondary).toBeNull();
    await drain('n2', false);
    await w.world.runUntil(() => w.group().secondary === 'n2');
    await drain('n1');
    await w.world.runUntil(() => w.serving() === 'n2');
    await finish(client, writer);
  });

  it('keeps its part while nobody can take it, and gives it up when somebody can', async () => {
    const { client, writer } = await begin(55, 4);
    w.crash('n3', 'process');
    w.crash('n4', 'process');
    await drain('n1');
    await w.world.run(3_000);
    expect(w.serving()).toBe('n2');
    expect(w.group().secondary).toBe('n1');
    await w.startNode('n3');
    await w.world.runUntil(() => w.group().secondary === 'n3');
    await w.startNode('n4');
    await finish(client, writer);
  });
});

it('a proposed hand-over that nobody decides ends in a take-over', async () => {
  const { client, writer } = await begin(61, 3);
  // n1 reaches n2, its secondary, but no other voter, and n2 the others.
  w.world.network.partition('n1', 'n3');
  void w.node('n1').meta.leave();
  await w.world.run(20);
  w.world.network.partition('n1', 'n2');
  await w.world.runUntil(() => w.serving() === 'n2', { limitMs: 20_000, what: 'n2 takes over' });
  w.world.network.heal();
  await finish(client, writer);
  await w.createAll(client, names('last', 3));
});
