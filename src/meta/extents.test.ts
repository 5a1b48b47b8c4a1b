import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asBlockId, type PoolId } from '../ids.ts';
import { clip, contiguousRuns, cutExtent, extentEnd, overwrite, punch, storedBytes, truncate } from './extents.ts';
import { contentOf, inline } from './testing.ts';
import type { Extent } from './types.ts';

const FILE_BYTES = 120;

const extent: fc.Arbitrary<Extent> = fc
  .record({
    offset: fc.nat(FILE_BYTES - 40),
    length: fc.integer({ min: 1, max: 40 }),
    id: fc.nat(255),
    skip: fc.nat(9),
    block: fc.boolean(),
  })
  .map(({ offset, length, id, skip, block }) =>
    block
      ? {
          kind: 'block',
          offset,
          lengthBytes: length,
          pool: 1 as PoolId,
          id: asBlockId(new Uint8Array(32).fill(id)),
          blockOffset: skip,
          blockBytes: 60,
        }
      : inline(
          offset,
          Uint8Array.from({ length }, (_, i) => id + i),
        ),
  );

type Edit =
  | { readonly kind: 'overwrite'; readonly extent: Extent }
  | { readonly kind: 'punch' | 'truncate'; readonly from: number; readonly to: number };
const edit: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 4, arbitrary: extent.map((one): Edit => ({ kind: 'overwrite', extent: one })) },
  fc.record({
    kind: fc.constantFrom('punch', 'truncate'),
    from: fc.nat(FILE_BYTES),
    to: fc.nat(FILE_BYTES),
  }) as fc.Arbitrary<Edit>,
);

describe('extents', () => {
  it('edit a file as an array of bytes would be edited', () => {
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 25 }), fc.nat(FILE_BYTES), fc.nat(FILE_BYTES), (edits, from, to) => {
        let extents: Extent[] = [];
        const bytes = new Uint8Array(FILE_BYTES);
        const stored = new Uint8Array(FILE_BYTES);
        for (const one of edits) {
          if (one.kind === 'overwrite') {
            extents = overwrite(extents, [one.extent]);
            bytes.set(
              contentOf(FILE_BYTES, [one.extent]).subarray(one.extent.offset, extentEnd(one.extent)),
              one.extent.offset,
            );
            stored.fill(1, one.extent.offset, extentEnd(one.extent));
          } else if (one.kind === 'punch') {
            extents = punch(extents, one.from, one.to);
            bytes.fill(0, one.from, Math.max(one.from, one.to));
            stored.fill(0, one.from, Math.max(one.from, one.to));
          } else {
            extents = truncate(extents, one.from);
            bytes.fill(0, one.from);
            stored.fill(0, one.from);
          }
          for (let i = 1; i < extents.length; i++)
            expect(extents[i]!.offset).toBeGreaterThanOrEqual(extentEnd(extents[i - 1]!));
        }
        expect(contentOf(FILE_BYTES, extents)).toEqual(bytes);
        expect(storedBytes(extents)).toBe(stored.reduce((sum, one) => sum + one, 0));
        for (const one of extents)
          if (one.kind === 'block') expect(one.blockOffset + one.lengthBytes).toBeLessThanOrEqual(one.blockBytes);
        const window = new Uint8Array(FILE_BYTES);
        if (from < to) window.set(bytes.subarray(from, to), from);
        expect(contentOf(FILE_BYTES, clip(extents, from, to))).toEqual(window);
      }),
      { numRuns: 300 },
    );
  });

  it('a cut across both edges leaves two pieces of the same block', () => {
    const block: Extent = {
      kind: 'block',
      offset: 100,
      lengthBytes: 50,
      pool: 1 as PoolId,
      id: asBlockId(new Uint8Array(32)),
      blockOffset: 5,
      blockBytes: 60,
    };
    expect(cutExtent(block, 110, 120)).toEqual([
      { ...block, lengthBytes: 10 },
      { ...block, offset: 120, lengthBytes: 30, blockOffset: 25 },
    ]);
  });

  it('runs are split at gaps and refused when extents overlap', () => {
    const at = (offset: number): Extent => inline(offset, new Uint8Array(10));
    expect(contiguousRuns([at(20), at(0), at(10), at(50)])?.map((run) => run.map(({ offset }) => offset))).toEqual([
      [0, 10, 20],
      [50],
    ]);
    expect(contiguousRuns([at(0), at(9)])).toBeUndefined();
  });
});
