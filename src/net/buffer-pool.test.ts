import { describe, expect, it } from 'vitest';
import { KiB, MiB, PAGE_BYTES } from '../limits.ts';
import { BufferPool, POOL_KEPT_MAX_BYTES } from './buffer-pool.ts';

describe('buffers for payloads', () => {
  it('are used again for what fits the same capacity', () => {
    const pool = new BufferPool();
    const first = pool.take(4 * MiB);
    pool.giveBack(first);
    const second = pool.take(4 * MiB - 5);
    expect(second.length).toBe(4 * MiB - 5);
    expect(second.buffer).toBe(first.buffer);
    expect(pool.take(4 * MiB).buffer).not.toBe(first.buffer);
  });

  it('are exactly as long as asked for, and a page is all that its memory holds', () => {
    const pool = new BufferPool();
    for (const length of [0, 1, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, MiB + 7]) {
      expect(pool.take(length).length).toBe(length);
    }
    expect(pool.isWhole(pool.take(PAGE_BYTES))).toBe(true);
    expect(pool.isWhole(pool.take(300))).toBe(true);
    expect(pool.isWhole(pool.take(4 * MiB))).toBe(true);
    expect(pool.isWhole(pool.take(PAGE_BYTES + 2 * KiB).subarray(0, PAGE_BYTES))).toBe(false);
    expect(pool.isWhole(pool.take(PAGE_BYTES + 2 * KiB).subarray(2 * KiB))).toBe(false);
    expect(pool.isWhole(pool.take(MiB).subarray(5))).toBe(false);
  });

  it('take a quarter more memory than what they are for, at most, and come in few sizes', () => {
    const pool = new BufferPool();
    const capacities = new Set<number>();
    for (let length = 1; length <= 8 * MiB; length += length < PAGE_BYTES ? 1_021 : 4_093) {
      const bytes = pool.take(length);
      const { byteLength } = bytes.buffer;
      pool.giveBack(bytes);
      expect(byteLength).toBeGreaterThanOrEqual(length);
      expect(byteLength).toBeLessThanOrEqual(1.25 * length + 1);
      if (length > PAGE_BYTES) capacities.add(byteLength);
    }
    expect(capacities.size).toBeLessThanOrEqual(46);
  });

  it('are kept up to a bound', () => {
    const pool = new BufferPool();
    const taken = Array.from({ length: (2 * POOL_KEPT_MAX_BYTES) / MiB }, () => pool.take(MiB));
    for (const buffer of taken) pool.giveBack(buffer);
    const again = new Set(taken.map(() => pool.take(MiB).buffer));
    expect(taken.filter(({ buffer }) => again.has(buffer))).toHaveLength(POOL_KEPT_MAX_BYTES / MiB);
  });

  it('make room for the size that was asked for last', () => {
    const pool = new BufferPool();
    const pages = Array.from({ length: POOL_KEPT_MAX_BYTES / PAGE_BYTES }, () => pool.take(PAGE_BYTES));
    const block = pool.take(4 * MiB);
    for (const page of pages) pool.giveBack(page);
    pool.giveBack(block);
    // Blocks are read now: theirs stays, the pages' are let go.
    expect(pool.take(4 * MiB).buffer).toBe(block.buffer);
    const kept = new Set(pages.map(() => pool.take(PAGE_BYTES).buffer));
    expect(pages.filter(({ buffer }) => kept.has(buffer))).toHaveLength((POOL_KEPT_MAX_BYTES - 4 * MiB) / PAGE_BYTES);
  });

  it('of a size that is no longer asked for take no room from those that are', () => {
    const pool = new BufferPool();
    const pages = Array.from({ length: POOL_KEPT_MAX_BYTES / PAGE_BYTES }, () => pool.take(PAGE_BYTES));
    const blocks = Array.from({ length: POOL_KEPT_MAX_BYTES / MiB }, () => pool.take(MiB));
    for (const block of blocks) pool.giveBack(block);
    for (const page of pages) pool.giveBack(page);
    const kept = new Set(blocks.map(() => pool.take(MiB).buffer));
    expect(blocks.every(({ buffer }) => kept.has(buffer))).toBe(true);
  });

  it('that begin at a page of the system are kept apart from others', () => {
    const pool = new BufferPool();
    const [aligned, plain] = [pool.takeAligned(4 * MiB + 4 * KiB), pool.take(4 * MiB + 4 * KiB)];
    expect([aligned.length, aligned.byteOffset]).toEqual([4 * MiB + 4 * KiB, 0]);
    expect(pool.takeAligned(100)).toHaveLength(100);
    // A view of the middle is as good as the whole.
    pool.giveBack(aligned.subarray(100, 5_000));
    pool.giveBack(plain);
    expect(pool.take(4 * MiB + 1).buffer).toBe(plain.buffer);
    expect(pool.take(4 * MiB + 1).buffer).not.toBe(aligned.buffer);
    expect(pool.takeAligned(4 * MiB + 1).buffer).toBe(aligned.buffer);
  });

  it('that begin at a page of the system count towards the bound', () => {
    const pool = new BufferPool();
    const taken = Array.from({ length: (2 * POOL_KEPT_MAX_BYTES) / MiB }, () => pool.takeAligned(MiB));
    for (const buffer of taken) pool.giveBack(buffer);
    const again = new Set(taken.map(() => pool.takeAligned(MiB).buffer));
    expect(taken.filter(({ buffer }) => again.has(buffer))).toHaveLength(POOL_KEPT_MAX_BYTES / MiB);
  });

  it('that came from elsewhere are not taken in', () => {
    const pool = new BufferPool();
    const other = new Uint8Array(MiB);
    pool.giveBack(other);
    expect(pool.take(MiB).buffer).not.toBe(other.buffer);
  });
});
