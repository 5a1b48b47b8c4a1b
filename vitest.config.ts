import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** End-to-end tests that look at stalls, or fill the machine: nothing runs beside them. */
const ALONE = ['cascade', 'failover', 'full-disk', 'no-hang', 'programs'].map((name) => `test/e2e/${name}.test.ts`);

export default defineConfig({
  test: {
    // Two cores are shared with whatever the tests themselves start.
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'scripts/**/*.test.ts', 'bench/**/*.test.ts'],
          // Each worker loads the program once: half the time. Tests here leave nothing behind in modules.
          isolate: false,
          testTimeout: 10_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'sim',
          include: ['test/{sim,golden,conformance,fuzz}/**/*.test.ts'],
          // The suite that a Blockstore of the IPFS world passes imports its assertions from a tool chain.
          alias: { 'aegir/chai': fileURLToPath(new URL('./test/support/aegir-chai.js', import.meta.url)) },
          server: { deps: { inline: ['interface-blockstore-tests'] } },
          testTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          // Whole clusters of real processes, two files at a time: most of their time they wait. A failure is a failure
          // the first time.
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: ALONE,
          sequence: { groupOrder: 1 },
          testTimeout: 300_000,
          hookTimeout: 300_000,
          retry: 0,
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e-alone',
          include: ALONE,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          testTimeout: 300_000,
          hookTimeout: 300_000,
          retry: 0,
        },
      },
    ],
  },
});
