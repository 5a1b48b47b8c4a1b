// @ts-check
/**
 * `npm run sim`: compiles the simulator, without checking types, and runs it; its options are in test/sim/main.ts.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
const main = join(root, 'node_modules', '.cache', 'tatami-sim', 'test', 'sim', 'main.js');

/** @param {string[]} args */
function run(args) {
  const { status, error } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

run([tsc, '-p', 'tsconfig.sim.json']);
// Small garbage often, and no threads beside the one that works: many runs share a machine with other things.
run(['--max-semi-space-size=32', '--single-threaded-gc', main, ...process.argv.slice(2)]);
