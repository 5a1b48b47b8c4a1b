import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

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
          // Whole clusters of real processes: one file at a time, and a failure is a failure the first time.
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          retry: 0,
        },
      },
    ],
  },
});
