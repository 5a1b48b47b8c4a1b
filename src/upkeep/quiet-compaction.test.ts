import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createSimWorld, type SimWorld } from '../../test/sim/world.ts';
import { hashBlock } from '../blocks/identity.ts';
import { PackEngine } from '../blocks/pack-engine.ts';
import type { BlockId, PoolId } from '../ids.ts';
import { MiB } from '../limits.ts';
import { SILENT_LOGGER } from '../log.ts';
import { QUIET_AFTER_MS, QuietCompaction } from './quiet-compaction.ts';

const POOL = 1 as PoolId;
const BLOCK_BYTES = 200_000;

describe('QuietCompaction', () => {
  let world: SimWorld;
  let engine: PackEngine;
  let busy: () => boolean;
  let tidying: QuietCompaction;
  let compactions: number;

  beforeEach(async () => {
    world = createSimWorld({ seed: 1 });
    const { clock, disk } = world.envOf('h');
    // Small packs, so that there are several.
    engine = await world.settle(
      PackEngine.open({ disk, clock, path: '/blocks', storeId: 's', reserveBytes: 12 * MiB, log: SILENT_LOGGER }),
    );
    busy = () => false;
    compactions = 0;
    const counted = {
      usage: () => engine.usage(),
      compact: (...args: Parameters<PackEngine['compact']>) => {
        compactions++;
        return engine.compact(...args);
      },
    };
    tidying = new QuietCompaction({ engine: counted, isBusy: () => busy(), clock, log: SILENT_LOGGER });
    tidying.start();
  });
  afterEach(async () => {
    await world.settle(tidying.close());
    await world.settle(engine.close());
  });

  /** Puts blocks, and deletes each that `goes` says. */
  async function fill(count: number, goes: (index: number) => boolean, from = 0): Promise<BlockId[]> {
    const left: BlockId[] = [];
    for (let index = from; index < from + count; index++) {
      const data = new Uint8Array(BLOCK_BYTES).fill(index & 0xff, 0, 1_000 + index);
      const { id, pageHashes } = hashBlock(data);
      await world.settle(engine.put(POOL, id, pageHashes, data, 0));
      if (goes(index - from)) await world.settle(engine.delete(POOL, id));
      else left.push(id);
    }
    return left;
  }

  const deadShare = () => 1 - engine.usage().liveBytes / engine.usage().fileBytes;

  it('leaves little that is dead once nothing has changed for a while, and every live block', async () => {
    const left = await fill(150, (index) => index % 3 === 0);
    await world.settle(engine.compact());
    expect(deadShare()).toBeGreaterThan(0.25);
    await world.run(QUIET_AFTER_MS / 2);
    expect(compactions).toBe(0);
    await world.run(2 * QUIET_AFTER_MS);
    expect(engine.usage().fileBytes).toBeLessThanOrEqual(1.1 * engine.usage().liveBytes);
    for (const id of left) expect(engine.has(POOL, id)).toBe(BLOCK_BYTES);
    expect(engine.usage().blockCount).toBe(left.length);
    const after = compactions;
    await world.run(20 * QUIET_AFTER_MS);
    expect(compactions).toBe(after);
    // Something changes: it looks again.
    await fill(60, () => true, 1_000);
    await world.run(3 * QUIET_AFTER_MS);
    expect(compactions).toBeGreaterThan(after);
    expect(engine.usage().fileBytes).toBeLessThanOrEqual(1.1 * engine.usage().liveBytes);
  });

  it('waits while somebody waits for the disk, gives way, and goes on later', async () => {
    await fill(150, (index) => index % 3 === 0);
    busy = () => true;
    await world.run(10 * QUIET_AFTER_MS);
    expect(compactions).toBe(0);
    const before = engine.usage().fileBytes;
    let looks = 0;
    // Somebody comes as the first pack is being rewritten.
    busy = () => compactions > 0 && ++looks > 20;
    await world.run(3 * QUIET_AFTER_MS);
    expect(compactions).toBe(1);
    expect(engine.usage().fileBytes).toBeGreaterThan(before * 0.9);
    busy = () => false;
    await world.run(3 * QUIET_AFTER_MS);
    expect(engine.usage().fileBytes).toBeLessThanOrEqual(1.1 * engine.usage().liveBytes);
  });

  it('does not rewrite what is tidy', async () => {
    await fill(60, (index) => index % 20 === 0);
    const before = engine.usage().fileBytes;
    await world.run(5 * QUIET_AFTER_MS);
    expect(engine.usage().fileBytes).toBe(before);
  });
});
