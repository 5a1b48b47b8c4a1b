import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asBlockId, type PoolId } from '../ids.ts';
import { extentEnd, overwrite, touches } from '../meta/extents.ts';
import { contentOf, inline } from '../meta/testing.ts';
import type { Extent } from '../meta/types.ts';
import { blocksOf, isOfPool, planClone, shorten } from './clone-plan.ts';

const SIZE = 400;

function block(offset: number, lengthBytes: number, id: number, pool = 1): Extent {
  const named = { pool: pool as PoolId, id: asBlockId(new Uint8Array(32).fill(id)) };
  return { kind: 'block', offset, lengthBytes, ...named, blockOffset: 3, blockBytes: lengthBytes + 5 };
}

const extent = fc.record({
  at: fc.nat(SIZE - 60),
  length: fc.integer({ min: 1, max: 60 }),
  id: fc.nat(3),
  block: fc.boolean(),
});
const file = fc
  .array(extent, { maxLength: 12 })
  .map((list) =>
    list.reduce<Extent[]>(
      (all, { at, length, id, block: isBlock }) =>
        overwrite(all, [isBlock ? block(at, length, id) : inline(at, new Uint8Array(length).fill(id + 1))]),
      [],
    ),
  );

describe('a clone in steps', () => {
  it('takes over the bytes of the range, holes too, whatever the bounds', () => {
    fc.assert(
      fc.property(
        fc.tuple(file, fc.nat(SIZE), fc.integer({ min: 1, max: SIZE }), fc.nat(1_000)),
        fc.tuple(
          fc.integer({ min: 1, max: 5 }),
          fc.integer({ min: 1, max: 5 }),
          fc.nat(100),
          fc.option(fc.integer({ min: 1, max: 50 })),
        ),
        ([source, from, length, target], [limit, extentsMax, inlineBytesMax, cut]) => {
          const end = from + length;
          let copy: Extent[] = [];
          for (let at = from, steps = 0; at < end; steps++) {
            expect(steps).toBeLessThan(SIZE);
            const all = source.filter((one) => touches(one, at, end));
            const known = all.slice(0, limit);
            const start = target + at - from;
            let plan = planClone(known, all.length > limit, at, end, start, { extentsMax, inlineBytesMax });
            if (cut !== null) plan = shorten(plan, start, cut);
            expect(plan.lengthBytes).toBeGreaterThan(0);
            expect(plan.extents.length).toBeLessThanOrEqual(extentsMax);
            const inlined = plan.extents.filter(({ kind }) => kind === 'inline');
            const bytes = inlined.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
            if (plan.extents.length > 1) expect(bytes).toBeLessThanOrEqual(Math.max(inlineBytesMax, 60));
            for (const one of plan.extents) {
              expect(one.offset).toBeGreaterThanOrEqual(start);
              expect(extentEnd(one)).toBeLessThanOrEqual(start + plan.lengthBytes);
            }
            copy = [...copy, ...plan.extents];
            at += plan.lengthBytes;
          }
          const wanted = contentOf(end, source).subarray(from);
          expect(Buffer.compare(contentOf(target + length, copy).subarray(target), wanted)).toBe(0);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('names each block once', () => {
    expect(blocksOf([block(0, 10, 1), inline(10, Buffer.from('x')), block(11, 10, 2), block(30, 7, 1)])).toHaveLength(
      2,
    );
  });

  it('sees blocks of other pools', () => {
    expect(isOfPool([block(0, 10, 1), inline(10, Buffer.from('x'))], 1 as PoolId)).toBe(true);
    expect(isOfPool([block(0, 10, 1), block(10, 10, 1, 2)], 1 as PoolId)).toBe(false);
  });
});
