import { expect, it } from 'vitest';
import { blockStoreConformance, sampleBytes } from '../../test/conformance/block-store.ts';
import { MemoryStore } from './memory-store.ts';

blockStoreConformance('MemoryStore', () => {
  const store = new MemoryStore();
  return Promise.resolve({ store, close: () => store.close() });
});

it('refuses what exceeds its capacity', async () => {
  const store = new MemoryStore({ capacityBytes: 100 });
  await store.put(sampleBytes(60));
  await expect(store.put(sampleBytes(61, 2))).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  await store.close();
});
