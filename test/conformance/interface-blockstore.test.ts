/** The published compliance suite of the IPFS world, over each of our stores. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { interfaceBlockstoreTests } from 'interface-blockstore-tests';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { TatamiBlockstore } from '../../src/blocks/blockstore.ts';
import { MemoryStore } from '../../src/blocks/memory-store.ts';
import { PackStore } from '../../src/blocks/pack-store.ts';
import { ReplicatedStore } from '../../src/blocks/replicated-store.ts';
import { FakeCluster, POOL } from '../support/fake-block-cluster.ts';

// It is written for mocha, which has these as globals.
Object.assign(globalThis, { afterEach, beforeEach, describe, it });

/** What is to be done after a store was closed. */
const cleanUps = new Map<TatamiBlockstore, () => Promise<void>>();

async function teardown(blockstore: TatamiBlockstore): Promise<void> {
  await blockstore.close();
  await cleanUps.get(blockstore)?.();
  cleanUps.delete(blockstore);
}

describe('TatamiBlockstore over a MemoryStore', () => {
  interfaceBlockstoreTests({
    setup: () => TatamiBlockstore.open({ store: new MemoryStore() }),
    teardown,
  });
});

describe('TatamiBlockstore over a PackStore', () => {
  interfaceBlockstoreTests({
    setup: async () => {
      const path = await mkdtemp(join(tmpdir(), 'tatami-blockstore-'));
      const blockstore = await TatamiBlockstore.open({ store: await PackStore.open({ path, reserveBytes: 0 }) });
      cleanUps.set(blockstore, () => rm(path, { recursive: true }));
      return blockstore;
    },
    teardown,
  });
});

for (const indexed of [false, true]) {
  describe(`TatamiBlockstore over a ReplicatedStore, index ${indexed ? 'on disk' : 'in memory'}`, () => {
    interfaceBlockstoreTests({
      setup: async () => {
        const path = await mkdtemp(join(tmpdir(), 'tatami-blockstore-'));
        const cluster = await FakeCluster.start({ nodes: 3, pool: { kind: 'library', copies: 2 } });
        const store = new ReplicatedStore({
          client: cluster.client,
          network: cluster.clientNetwork,
          catalog: { current: () => cluster.catalog },
          pool: POOL,
        });
        const blockstore = await TatamiBlockstore.open({ store, ...(indexed ? { indexPath: path } : {}) });
        cleanUps.set(blockstore, async () => {
          await cluster.close();
          await rm(path, { recursive: true });
        });
        return blockstore;
      },
      teardown,
    });
  });
}
