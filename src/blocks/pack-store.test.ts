import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { blockStoreConformance, sampleBytes } from '../../test/conformance/block-store.ts';
import { createNodeEnv } from '../env-node.ts';
import { createMemoryEnv } from '../env-memory.ts';
import { PackStore } from './pack-store.ts';

function memoryEnv() {
  const { clock, random } = createNodeEnv();
  return createMemoryEnv({ clock, random });
}

blockStoreConformance('PackStore on a memory disk', async () => {
  const store = await PackStore.open({ path: '/store', env: memoryEnv() });
  return { store, close: () => store.close() };
});

blockStoreConformance('PackStore on the real disk', async () => {
  const path = await mkdtemp(join(tmpdir(), 'tatami-pack-store-'));
  const store = await PackStore.open({ path, reserveBytes: 0 });
  return {
    store,
    close: async () => {
      await store.close();
      await rm(path, { recursive: true });
    },
  };
});

describe('PackStore', () => {
  it('finds everything again, and lets only one in at a time', async () => {
    const env = memoryEnv();
    const store = await PackStore.open({ path: '/store', env });
    await expect(PackStore.open({ path: '/store', env })).rejects.toMatchObject({ code: 'EBUSY' });
    const ids = await store.putMany([sampleBytes(10), sampleBytes(100_000), sampleBytes(5)]);
    expect(await store.delete(ids[0]!)).toBe(true);
    await store.close();
    const again = await PackStore.open({ path: '/store', env });
    expect(await again.has(ids[0]!)).toBe(false);
    expect(Buffer.compare(await again.get(ids[1]!), sampleBytes(100_000))).toBe(0);
    expect(again.usage()).toMatchObject({ blockCount: 2, liveBytes: 100_005, damaged: [] });
    await again.close();
  });

  it('gives back what is dead as thoroughly as it is asked to', async () => {
    const store = await PackStore.open({ path: '/store', env: memoryEnv() });
    const ids = await store.putMany(Array.from({ length: 50 }, (_, index) => sampleBytes(100_000 + index)));
    for (const id of ids.slice(0, 15)) await store.delete(id);
    expect(await store.compact()).toBe(0);
    expect(await store.compact({ deadShare: 0.1, mayGoOn: () => false })).toBe(0);
    expect(await store.compact({ deadShare: 0.1 })).toBeGreaterThan(1_400_000);
    const { fileBytes, liveBytes } = store.usage();
    expect(fileBytes).toBeLessThan(1.1 * liveBytes);
    for (const [index, id] of ids.entries()) expect(await store.has(id)).toBe(index >= 15);
    for (const deadShare of [0, -1, 1, Number.NaN]) {
      await expect(store.compact({ deadShare })).rejects.toThrow(/deadShare is from 0\.01/);
    }
    await store.close();
  });
});
