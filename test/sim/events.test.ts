/** What happened, as it is told while nodes are killed, stopped and cut off: all of it, each thing once. */
import { describe, expect, it } from 'vitest';
import type { EventRecord } from '../../src/upkeep/events/event.ts';
import { followEvents, pastEvents } from '../../src/upkeep/events/feed.ts';
import { hostOf } from '../../src/testing.ts';
import { SimCluster } from './cluster.ts';

/** Collects in the background until the cluster is closed. */
function collect(events: AsyncGenerator<EventRecord, void>) {
  const told: EventRecord[] = [];
  const ended = (async () => {
    for await (const event of events) told.push(event);
  })();
  return { told, ended };
}

describe('events', () => {
  it.each([1, 2, 3, 4])('a follower hears all, once, whichever nodes fail (seed %i)', async (seed) => {
    const sim = await SimCluster.start({ seed, nodes: 5 });
    const client = await sim.client();
    const before = new Set((await sim.settle(pastEvents(client, 0))).events.map(({ id }) => id));
    const end = new AbortController();
    const { told, ended } = collect(followEvents(client, { signal: end.signal }));
    const has = (kind: string, node?: string) =>
      told.some((event) => event.kind === kind && (node === undefined || event['node'] === node));
    const until = (what: string, holds: () => boolean) => sim.world.runUntil(holds, { what, limitMs: 60_000 });
    const sleep = (ms: number) => sim.settle(sim.world.envOf(hostOf('n1')).clock.sleep(ms));
    await sleep(2_000);

    // One after the other, the primary each time: first its process, then its power, then it is stopped for a while.
    const first = sim.group().primary;
    sim.crash(first, { kind: 'process' });
    await until('the first is down', () => has('node-down', first) && has('promotion') && has('appointment'));
    await sim.restart(first);
    await until('the first is up', () => has('node-up', first));
    const second = sim.group().primary;
    sim.crash(second);
    await until('the second is down', () => has('node-down', second));
    await sim.restart(second);
    await until('the second is up', () => has('node-up', second));
    const third = sim.group().primary;
    sim.world.pauseHost(hostOf(third));
    await until('the third is down', () => has('node-down', third));
    sim.world.resumeHost(hostOf(third));
    await until('the third is up', () => has('node-up', third));
    await sleep(5_000);

    const ids = told.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const { events: past, missing } = await sim.settle(pastEvents(client, 0));
    expect(missing.size).toBe(0);
    expect(past.filter(({ kind }) => kind === 'promotion').length).toBeGreaterThanOrEqual(3);
    // All that is remembered was told, but for what happened before.
    expect(past.filter(({ id }) => !ids.includes(id) && !before.has(id))).toEqual([]);
    // And in the order of the catalog's epochs.
    const epochs = past.filter(({ by }) => by === undefined).map(({ epoch }) => epoch);
    expect(epochs).toEqual([...epochs].sort((a, b) => a - b));
    end.abort();
    await sim.settle(ended);
    await sim.close();
  });

  it('a blackout of all keeps what was told', async () => {
    const sim = await SimCluster.start({ seed: 9, nodes: 3 });
    const client = await sim.client();
    const { primary } = sim.group();
    sim.crash(primary, { kind: 'process' });
    const isTold = async () => {
      const { events } = await pastEvents(client, 0);
      return events.some(({ kind, ...event }) => kind === 'node-down' && event['node'] === primary);
    };
    while (!(await sim.settle(isTold()))) await sim.settle(sim.world.envOf(hostOf('n1')).clock.sleep(500));
    const before = (await sim.settle(pastEvents(client, 0))).events.map(({ id }) => id);
    sim.crashAll();
    await sim.restartAll();
    const again = await sim.client();
    await sim.quiet();
    const after = (await sim.settle(pastEvents(again, 0))).events.map(({ id }) => id);
    expect(after).toEqual(expect.arrayContaining(before));
    await sim.close();
  });
});
