/**
 * Random operations of two mounts on one tree against the model: results, errors, attributes and the trees at the end are
 * equal. A failure shrinks to few steps and tells how to replay it: with VFS_TREE_SEED, VFS_TREE_PATH and VFS_TREE_REPLAY set to
 * the seed, path and replayPath that it names. VFS_TREE_OPS=100000 is a long run.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { STEPS } from './testing-steps.ts';
import { World } from './testing-world.ts';

const COUNT = Number(process.env['VFS_TREE_OPS'] ?? 3_000);
const SEED = process.env['VFS_TREE_SEED'];
const PATH = process.env['VFS_TREE_PATH'];
const REPLAY = process.env['VFS_TREE_REPLAY'];
/** Steps of one history: longer ones take longer to shrink. */
const STEPS_MAX = 120;
const RUNS_OF_A_ROUND = 20;

it(`two mounts do as the model does, ${COUNT} operations`, { timeout: 30_000 + COUNT * 20 }, async () => {
  let done = 0;
  const property = fc.asyncProperty(
    fc.commands(STEPS, { maxCommands: STEPS_MAX, size: 'max', ...(REPLAY !== undefined && { replayPath: REPLAY }) }),
    fc.boolean(),
    async (steps, keepsNames) => {
      const world = await World.start(keepsNames);
      await fc.asyncModelRun(() => ({ model: world, real: world }), steps);
      await world.finish();
      done += world.stepCount;
    },
  );
  const replayed = { ...(SEED !== undefined && { seed: Number(SEED) }), ...(PATH !== undefined && { path: PATH }) };
  while (done < COUNT) {
    await fc.assert(property, { numRuns: RUNS_OF_A_ROUND, ...replayed });
    if (PATH !== undefined) break;
  }
  expect(done).toBeGreaterThan(0);
});
