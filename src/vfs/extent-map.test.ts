import { describe, expect, it } from 'vitest';
import { asBlockId, type PoolId } from '../ids.ts';
import type { Extent } from '../meta/types.ts';
import { ExtentMap, ExtentMemory } from './extent-map.ts';

/** An answer of the servers: all of it in one buffer. */
function answer(count: number, inlineBytes: number): Extent[] {
  const message = new Uint8Array(1 << 20);
  return Array.from({ length: count }, (_, index): Extent => {
    const offset = index * 1000;
    if (index % 2 === 0) {
      const data = message.subarray(index * 100, index * 100 + inlineBytes);
      return { kind: 'inline', offset, lengthBytes: inlineBytes, data };
    }
    const id = asBlockId(message.subarray(index * 100, index * 100 + 32));
    return { kind: 'block', offset, lengthBytes: 500, pool: 1 as PoolId, id, blockOffset: 0, blockBytes: 500 };
  });
}

const knows = (map: ExtentMap) => map.knows(map.version, 0, 500);

describe('what is known of extents', () => {
  it('keeps no answer of the servers because of a few bytes in it', () => {
    const map = new ExtentMap(new ExtentMemory(1e6));
    map.load(1, 0, answer(10, 50), false);
    map.apply(2, answer(20, 60).slice(10));
    for (let index = 0; index < 20; index++) {
      const { extent } = map.at(index)!;
      const { buffer } = extent.kind === 'inline' ? extent.data : extent.id;
      expect(buffer.byteLength).toBeLessThanOrEqual(100);
    }
  });

  it('is within one bound for all files: those that grew longest ago are forgotten', () => {
    const memory = new ExtentMemory(20_000);
    const maps = [0, 1, 2].map(() => new ExtentMap(memory));
    for (const map of maps) map.load(1, 0, answer(10, 500), false);
    expect(maps.map(knows)).toEqual([true, true, true]);
    expect(memory.usedBytes).toBe(3 * (10 * 400 + 5 * 500));
    maps[0]!.load(2, 0, answer(12, 500), false);
    expect(maps.map(knows)).toEqual([true, false, true]);
    maps[0]!.forget();
    maps[2]!.forget();
    expect(memory.usedBytes).toBe(0);
  });

  it('is forgotten where own changes make too much of it, but not what was just asked for', () => {
    const memory = new ExtentMemory(20_000);
    const map = new ExtentMap(memory);
    map.load(1, 0, answer(100, 90), false);
    expect(knows(map)).toBe(true);
    expect(memory.usedBytes).toBeGreaterThan(20_000);
    map.load(2, 0, answer(20, 90), false);
    const used = memory.usedBytes;
    map.apply(3, answer(20, 90).slice(10));
    expect(memory.usedBytes).toBe(used);
    map.apply(
      4,
      answer(60, 90).map((extent) => ({ ...extent, offset: extent.offset + 7 })),
    );
    expect([map.version, memory.usedBytes]).toEqual([-1, 0]);
  });

  it('goes on with the last answer where a file is known in too many pieces', () => {
    const memory = new ExtentMemory(20_000);
    const map = new ExtentMap(memory);
    const all = answer(100, 50);
    for (let at = 0; at < 100; at += 20) {
      map.load(1, at * 1000, all.slice(at, at + 20), at < 80);
      expect(map.knows(1, at * 1000, at * 1000 + 19_000)).toBe(true);
      expect(memory.usedBytes).toBeLessThanOrEqual(20_000);
    }
    expect(knows(map)).toBe(false);
  });
});
