import { describe, expect, it } from 'vitest';
import type { NodeId } from '../ids.ts';
import { HolderStats } from './holder-choice.ts';

const N = 'n1' as NodeId;

describe('holders that were slow', () => {
  it('are asked after the others for a while, twice as long each time in a row', () => {
    const stats = new HolderStats();
    stats.wasSlow(N, 0, false);
    expect(stats.isAvoided(N, 99, undefined)).toBe(true);
    expect(stats.isAvoided(N, 100, undefined)).toBe(false);
    stats.wasSlow(N, 100, false);
    expect(stats.isAvoided(N, 299, undefined)).toBe(true);
    expect(stats.isAvoided(N, 300, undefined)).toBe(false);
    stats.answered(N, 300);
    stats.wasSlow(N, 400, false);
    expect(stats.isAvoided(N, 500, undefined)).toBe(false);
  });

  it('take one strike for requests that were slow together', () => {
    const stats = new HolderStats();
    for (let i = 0; i < 8; i++) stats.wasSlow(N, i, false);
    expect(stats.isAvoided(N, 100, undefined)).toBe(false);
  });

  it('that are silent are avoided until they are heard again, and not for ever', () => {
    const stats = new HolderStats();
    stats.wasSlow(N, 1_000, true);
    expect(stats.isAvoided(N, 2_000, 990)).toBe(true);
    expect(stats.isAvoided(N, 2_000, 1_500)).toBe(false);
    expect(stats.isAvoided(N, 6_000, 990)).toBe(false);
  });
});
