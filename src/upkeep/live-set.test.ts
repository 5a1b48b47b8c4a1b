import { describe, expect, it } from 'vitest';
import type { BlockId, PoolId } from '../ids.ts';
import { SimRandom } from '../../test/sim/random.ts';
import { LiveSet } from './live-set.ts';

const pool = (number: number) => number as PoolId;

describe('LiveSet', () => {
  it('knows what was put in, through many growths, and tells pools apart', () => {
    const random = new SimRandom(3);
    const ids = Array.from({ length: 40_000 }, () => random.bytes(32) as BlockId);
    const live = new LiveSet();
    for (const id of ids.slice(0, 20_000)) {
      live.add(pool(1), id);
      live.add(pool(1), id);
    }
    expect(live.size).toBe(20_000);
    expect(ids.slice(0, 20_000).every((id) => live.has(pool(1), id))).toBe(true);
    expect(ids.slice(20_000).some((id) => live.has(pool(1), id))).toBe(false);
    expect(ids.slice(0, 20_000).some((id) => live.has(pool(2), id))).toBe(false);
  });

  it('takes the id whose bits mark an empty slot', () => {
    const live = new LiveSet();
    const zero = new Uint8Array(32) as BlockId;
    new DataView(zero.buffer).setBigUint64(0, 0x9e37_79b9_7f4a_7c15n);
    expect(live.has(pool(1), zero)).toBe(false);
    live.add(pool(1), zero);
    expect(live.has(pool(1), zero)).toBe(true);
    expect(live.size).toBe(1);
  });

  it('finds ids that lie over each other in the table', () => {
    const live = new LiveSet();
    const ids = Array.from({ length: 500 }, (_, index) => {
      const id = new Uint8Array(32) as BlockId;
      new DataView(id.buffer).setUint32(0, index);
      return id;
    });
    for (const id of ids) live.add(pool(1), id);
    expect(ids.every((id) => live.has(pool(1), id))).toBe(true);
    expect(live.size).toBe(500);
  });
});
