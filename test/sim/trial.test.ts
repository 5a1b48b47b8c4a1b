/** A few seeds of `npm run sim`, and that a seed replays. More: `npm run sim -- --seeds 1-1000`. */
import { describe, expect, it } from 'vitest';
import { runTrial } from './trial.ts';

describe('a cluster under a nemesis', () => {
  it.each([4, 5, 6, 8])('keeps all rules, seed %i', async (seed) => {
    const { violations, operationCount, virtualMs } = await runTrial({ seed, nodes: 5, seconds: 60 });
    expect(violations).toEqual([]);
    expect(virtualMs).toBeGreaterThan(60_000);
    expect(operationCount).toBeGreaterThan(150);
  });

  it('is the same for the same seed, event for event', async () => {
    const runs = [
      await runTrial({ seed: 8, nodes: 3, seconds: 10 }),
      await runTrial({ seed: 8, nodes: 3, seconds: 10 }),
    ];
    expect(runs[1]!.digest).toBe(runs[0]!.digest);
  });
});
