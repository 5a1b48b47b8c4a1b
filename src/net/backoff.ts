/** When to try an unreachable peer again. Pure. */

/** A node that returns must be used again quickly, so waits stay short: trying costs one SYN. */
export const RETRY_MAX_MS = 1_000;
const RETRY_FIRST_MS = 50;

/**
 * Wait after the `failureCount`-th failure in a row (from 1): doubling from 50 ms to 1 s, of which a random quarter is
 * taken off so that many clients do not come back in step. `chance` is uniform in [0, 1).
 */
export function retryDelayMs(failureCount: number, chance: number): number {
  const fullMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failureCount - 1, 10));
  return fullMs * (1 - chance / 4);
}
