import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COLLECT_EVERY_MS } from '../catalog/collection.ts';
import { applyChange, firstCatalog } from '../catalog/document.ts';
import { testNode } from '../catalog/testing.ts';
import type { Catalog } from '../catalog/types.ts';
import { MemoryKv } from '../env-memory.ts';
import type { HistoryId } from '../ids.ts';
import { SILENT_LOGGER } from '../log.ts';
import { createSimWorld, type SimWorld } from '../../test/sim/world.ts';
import { Collector, OWN_ENTRIES } from './collector.ts';
import type { GcResult } from './gc.ts';

const NOTHING: GcResult = {
  ...{ scannedCount: 9, liveCount: 3, pendingCount: 0, pendingBytes: 0, reclaimedCount: 0, reclaimedBytes: 0 },
  skippedNodes: [],
};

describe('Collector', () => {
  let world: SimWorld;
  let catalog: Catalog;
  let kv: MemoryKv;
  let seq: number | undefined;
  let permille: number;
  let outcome: () => Promise<GcResult>;
  let runs: number;
  let collector: Collector;

  const begin = () => {
    collector = new Collector({
      catalog: { current: () => catalog },
      clock: world.envOf('h').clock,
      kv,
      log: SILENT_LOGGER,
      servedSeq: () => seq,
      fullestPermille: () => permille,
      collect: () => {
        runs++;
        return outcome();
      },
    });
    collector.start();
  };

  beforeEach(() => {
    world = createSimWorld({ seed: 1 });
    catalog = firstCatalog({
      clusterId: 'ab'.repeat(16),
      historyId: '1'.repeat(16) as HistoryId,
      nodes: [testNode(1), testNode(2)],
    });
    kv = new MemoryKv();
    seq = 10;
    permille = 100;
    runs = 0;
    outcome = () => Promise.resolve(NOTHING);
    begin();
  });
  afterEach(() => world.settle(collector.close()));

  it('begins soon on a primary that has never done it, and again after an hour if something was changed', async () => {
    await world.run(25_000);
    expect(runs).toBe(0);
    await world.run(15_000);
    expect(runs).toBe(1);
    expect(collector.report()).toMatchObject({ liveCount: 3, skippedNodes: [] });
    await world.run(2 * COLLECT_EVERY_MS);
    expect(runs).toBe(1);
    seq = 11;
    await world.run(10_000);
    expect(runs).toBe(2);
    seq = 12;
    await world.run(COLLECT_EVERY_MS - 20_000);
    expect(runs).toBe(2);
    await world.run(40_000);
    expect(runs).toBe(3);
  });

  it('collects once more when something was changed while it did, and not for what it writes itself', async () => {
    let others = 1;
    outcome = () => {
      seq = (seq ?? 0) + OWN_ENTRIES + others;
      return Promise.resolve(NOTHING);
    };
    await world.run(40_000);
    expect(runs).toBe(1);
    others = 0;
    await world.run(COLLECT_EVERY_MS);
    expect(runs).toBe(2);
    await world.run(3 * COLLECT_EVERY_MS);
    expect(runs).toBe(2);
  });

  it('does nothing on a node that is not primary, nor where it is switched off', async () => {
    seq = undefined;
    await world.run(COLLECT_EVERY_MS);
    expect(runs).toBe(0);
    seq = 4;
    catalog = applyChange(catalog, { kind: 'setCollectEvery', everyMs: null });
    permille = 990;
    await world.run(COLLECT_EVERY_MS);
    expect(runs).toBe(0);
    catalog = applyChange(catalog, { kind: 'setCollectEvery', everyMs: 60_000 });
    await world.run(40_000);
    expect(runs).toBe(1);
  });

  it('comes soon, but not all the time, when a disk is getting full', async () => {
    await world.run(40_000);
    permille = 900;
    await world.run(COLLECT_EVERY_MS / 2);
    expect(runs).toBe(1);
    for (let minute = 0; minute < 30; minute++) {
      seq!++;
      await world.run(60_000);
    }
    expect(runs).toBeGreaterThan(4);
    expect(runs).toBeLessThan(8);
  });

  it('tries again after one that failed, and after one that left a node out', async () => {
    outcome = () => Promise.reject(new Error('a group does not answer'));
    await world.run(40_000);
    expect(runs).toBe(1);
    expect(collector.report()).toBeUndefined();
    outcome = () => Promise.resolve({ ...NOTHING, skippedNodes: ['n2'] });
    await world.run(70_000);
    expect(runs).toBe(2);
    await world.run(COLLECT_EVERY_MS + 10_000);
    expect(runs).toBe(3);
  });

  it('comes again for what was too young the last time, even if nothing is changed any more', async () => {
    outcome = () => Promise.resolve({ ...NOTHING, pendingCount: 2, pendingBytes: 200 });
    await world.run(40_000);
    expect(runs).toBe(1);
    outcome = () => Promise.resolve({ ...NOTHING, reclaimedCount: 2, reclaimedBytes: 200 });
    await world.run(COLLECT_EVERY_MS + 10_000);
    expect(runs).toBe(2);
    await world.run(2 * COLLECT_EVERY_MS);
    expect(runs).toBe(2);
  });

  it('remembers through a restart when it was done', async () => {
    await world.run(40_000);
    const before = collector.report();
    await world.settle(collector.close());
    begin();
    expect(collector.report()).toEqual(before);
    await world.run(COLLECT_EVERY_MS - 60_000);
    expect(runs).toBe(1);
    await world.run(120_000);
    expect(runs).toBe(2);
  });
});
