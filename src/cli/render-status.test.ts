import { describe, expect, it } from 'vitest';
import type { RepairProgress } from '../upkeep/repair-progress.ts';
import { repairInWords } from './render-status.ts';

const now: RepairProgress = {
  ...{ done: false, working: ['n1', 'n2'], leftBytes: 0, scarceCount: 0, scarceBytes: 0, postponedBytes: 0 },
  ...{ waitsForBalance: false, bytesPerSecond: 0, secondsLeft: undefined, copiedCount: 0, copiedBytes: 0 },
};

describe('repair in words', () => {
  it.each([
    [{ done: true }, ''],
    [{}, 'repair: n1, n2 look whether their blocks have all their copies'],
    [{ leftBytes: 4_096 }, 'repair: n1, n2 make copies: 4 KiB found and still to be copied'],
    [
      { leftBytes: 4_096, scarceCount: 1, scarceBytes: 1_024 },
      'repair: n1, n2 make copies: 4 KiB found and still to be copied, 1 KiB of that for blocks with too few copies',
    ],
    [
      { leftBytes: 4_096, scarceCount: 1, scarceBytes: 4_096, bytesPerSecond: 2_048, secondsLeft: 2 },
      'repair: n1, n2 make copies: 4 KiB found and still to be copied, all of it for blocks with too few copies, 2 KiB/s, about 2 s left',
    ],
  ])('%o', (changes, words) => {
    expect(repairInWords({ ...now, ...changes })).toBe(words);
  });
});
