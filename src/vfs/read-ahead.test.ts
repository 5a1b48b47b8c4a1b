import { describe, expect, it } from 'vitest';
import { ReadAhead } from './read-ahead.ts';

const BLOCK = 4 * 1024 * 1024;
const KiB = 1024;

/** Notes the reads, given as [offset, length]; how often the sequence was broken. */
function note(ahead: ReadAhead, reads: readonly (readonly [number, number])[]): number {
  return reads.filter(([offset, length]) => ahead.note(offset, offset + length, BLOCK, 16, 0)).length;
}

describe('a reader in order', () => {
  it('is seen by its second read, and its window doubles with each block', () => {
    const ahead = new ReadAhead();
    const windows: number[] = [];
    for (let offset = 0; offset < 5 * BLOCK; offset += BLOCK / 2) {
      note(ahead, [[offset, BLOCK / 2]]);
      windows.push(ahead.windowBlocks);
    }
    expect(ahead.isSequential).toBe(true);
    expect(windows).toEqual([0, 1, 2, 2, 4, 4, 8, 8, 16, 16]);
  });

  it('is one though the kernel passes over single pages that it has', () => {
    const ahead = new ReadAhead();
    const reads: [number, number][] = [];
    for (let offset = 0; offset < 8 * BLOCK; offset += 260 * KiB) reads.push([offset, 256 * KiB]);
    expect(note(ahead, reads)).toBe(0);
    expect(ahead.windowBlocks).toBeGreaterThanOrEqual(8);
    expect(ahead.frontier).toBeGreaterThan(7 * BLOCK);
  });

  it('may have its requests overtake each other', () => {
    const ahead = new ReadAhead();
    expect(
      note(ahead, [
        [0, 1024 * KiB],
        [1024 * KiB, 1024 * KiB],
        [3072 * KiB, 1024 * KiB],
        [2048 * KiB, 1024 * KiB],
        [4096 * KiB, 1024 * KiB],
      ]),
    ).toBe(0);
  });
});

describe('who reads here and there', () => {
  it('is given nothing ahead', () => {
    const ahead = new ReadAhead();
    note(ahead, [
      [80 * BLOCK, 4 * KiB],
      [3 * BLOCK, 4 * KiB],
      [40 * BLOCK, 4 * KiB],
      [40 * BLOCK - 8 * KiB, 4 * KiB],
      [40 * BLOCK + 200 * KiB, 4 * KiB],
    ]);
    expect(ahead.isSequential).toBe(false);
    expect(ahead.windowBlocks).toBe(0);
  });

  it('ends a sequence', () => {
    const ahead = new ReadAhead();
    note(ahead, [
      [0, BLOCK],
      [BLOCK, BLOCK],
      [2 * BLOCK, BLOCK],
    ]);
    expect(ahead.windowBlocks).toBeGreaterThan(0);
    expect(note(ahead, [[40 * BLOCK, 4 * KiB]])).toBe(1);
    expect(ahead.windowBlocks).toBe(0);
  });
});
