import { describe, expect, it } from 'vitest';
import type { Ino } from '../ids.ts';
import { DenseReads } from './dense-reads.ts';

const KEPT_MS = 1_000;
const BLOCK = 1_000;

function make(options: Partial<ConstructorParameters<typeof DenseReads>[0]> = {}) {
  const reads = new DenseReads({ keptMs: KEPT_MS, maxBytes: 100 * BLOCK, blocksMax: 100, ...options });
  return (page: number, { block = 0, nowMs = 0, ino = 5 } = {}): boolean =>
    reads.note({ ino: ino as Ino, offset: block * BLOCK, page, bytes: BLOCK, wanted: 3 }, nowMs);
}

describe('a block is to be brought', () => {
  it('once it was read at so many places, and not again', () => {
    const read = make();
    expect([1, 5, 9, 2, 7, 3, 8].map((page) => read(page))).toEqual([false, false, true, false, false, false, false]);
  });

  it('not for reads at one place', () => {
    const read = make();
    expect([4, 4, 4, 4, 5, 5, 5].map((page) => read(page))).not.toContain(true);
  });

  it('for its own reads alone', () => {
    const read = make();
    expect([read(1), read(2), read(3, { block: 1 }), read(3, { ino: 6 }), read(3)]).toEqual([
      ...[false, false, false, false, true],
    ]);
  });

  it('for reads that are not long ago', () => {
    const read = make();
    read(1, { nowMs: 0 });
    read(2, { nowMs: 0 });
    expect(read(3, { nowMs: 2 * KEPT_MS })).toBe(false);
    expect(read(4, { nowMs: 2 * KEPT_MS + KEPT_MS / 2 })).toBe(false);
    expect(read(5, { nowMs: 3 * KEPT_MS + KEPT_MS / 2 })).toBe(true);
  });

  it('again after a while, however it was read meanwhile', () => {
    const read = make();
    const broughtMs: number[] = [];
    for (let nowMs = 0; nowMs < 4 * KEPT_MS; nowMs += 50) if (read(nowMs / 50, { nowMs })) broughtMs.push(nowMs);
    expect(broughtMs).toEqual([100, 1_100, 2_100, 3_100]);
  });

  it('while no more than the bound was brought within the time', () => {
    const read = make({ maxBytes: 4 * BLOCK });
    const brought = (nowMs: number): number => {
      let count = 0;
      for (let block = 0; block < 10; block += 1) {
        for (let page = 0; page < 3; page += 1) if (read(page, { block, nowMs })) count += 1;
      }
      return count;
    };
    expect([brought(0), brought(KEPT_MS / 2), brought(5 * KEPT_MS)]).toEqual([4, 0, 4]);
  });
});

it('remembers no more blocks than it may, the last ones', () => {
  const read = make({ blocksMax: 10 });
  for (let block = 0; block < 1_000; block += 1) for (const page of [1, 2]) read(page, { block });
  expect([980, 990, 999].map((block) => read(3, { block }))).toEqual([false, true, true]);
});
