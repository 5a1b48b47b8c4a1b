import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asBlockId, type PoolId } from '../ids.ts';
import { clip, extentEnd, overwrite, storedBytes, touches } from '../meta/extents.ts';
import { contentOf, inline } from '../meta/testing.ts';
import type { Extent } from '../meta/types.ts';
import { extentsNeeded, planMerges, slotAt, surveyPage } from './compact-plan.ts';

const BLOCK = 64;
const SIZE = 6 * BLOCK;

const piece = fc.record({ at: fc.nat(SIZE - 1), length: fc.integer({ min: 1, max: BLOCK }), id: fc.nat(200) });
const file = fc
  .array(piece, { maxLength: 60, size: 'max' })
  .map((list) =>
    list.reduce<Extent[]>(
      (all, { at, length, id }) => overwrite(all, [inline(at, new Uint8Array(length).fill(id))]),
      [],
    ),
  );

/** Each byte one extent. */
function pieces(from: number, to: number): Extent[] {
  return Array.from({ length: to - from }, (_, index) => inline(from + index, new Uint8Array(1)));
}

describe('what a slot is put together to', () => {
  it('is the same bytes and holes, in as few extents as there are runs', () => {
    fc.assert(
      fc.property(file, fc.nat(SIZE - 1), (extents, at) => {
        const slot = slotAt(at, BLOCK);
        const end = slot.offset + slot.lengthBytes;
        expect(slot.offset).toBeLessThanOrEqual(at);
        expect(end).toBeGreaterThan(at);
        const touching = extents.filter((extent) => touches(extent, slot.offset, end));
        const merges = planMerges(touching, slot, 1);
        const whole = Buffer.from(contentOf(SIZE + BLOCK, extents));
        let after = extents;
        for (const { offset, lengthBytes, parts } of merges) {
          expect(offset).toBeGreaterThanOrEqual(slot.offset);
          expect(offset + lengthBytes).toBeLessThanOrEqual(end);
          expect(parts.length).toBeGreaterThan(1);
          expect(parts).toEqual(clip(extents, offset, offset + lengthBytes));
          after = overwrite(after, [inline(offset, whole.subarray(offset, offset + lengthBytes))]);
        }
        expect(Buffer.compare(contentOf(SIZE + BLOCK, after), whole)).toBe(0);
        expect(storedBytes(after)).toBe(storedBytes(extents));
        const inSlot = clip(extents, slot.offset, end);
        expect(extentsNeeded(inSlot, BLOCK)).toBe(
          inSlot.length - merges.reduce((sum, one) => sum + one.parts.length - 1, 0),
        );
        const left = clip(after, slot.offset, end);
        for (const [index, extent] of left.entries()) {
          if (index > 0) expect(extent.offset).toBeGreaterThan(extentEnd(left[index - 1]!));
        }
      }),
    );
  });

  it('is nothing where too little would be saved', () => {
    const slot = slotAt(0, BLOCK);
    expect(planMerges(pieces(0, 8), slot, 8)).toEqual([]);
    expect(planMerges(pieces(0, 9), slot, 8)).toHaveLength(1);
    // What the next slot has does not count.
    expect(planMerges(pieces(BLOCK - 8, BLOCK + 8), slot, 8)).toEqual([]);
    // Nor do pieces with holes between them.
    expect(planMerges([...pieces(0, 5), ...pieces(6, 10)], slot, 8)).toEqual([]);
    expect(planMerges([...pieces(0, 5), ...pieces(6, 11)], slot, 8)).toHaveLength(2);
  });
});

describe('a survey of a file', () => {
  it('names each slot that is in many pieces, once, however few extents come at a time', () => {
    fc.assert(
      fc.property(file, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 8 }), (extents, limit, savedMin) => {
        const named: number[] = [];
        let steps = 0;
        for (let from: number | undefined = 0; from !== undefined; steps += 1) {
          expect(steps).toBeLessThan(100);
          const start: number = from;
          const all = extents.filter((extent) => extentEnd(extent) > start);
          const survey = surveyPage(all.slice(0, limit), all.length > limit, start, BLOCK, savedMin);
          named.push(...survey.slots.map(({ offset }) => offset));
          from = survey.next;
        }
        const many: number[] = [];
        for (let offset = 0; offset < SIZE + BLOCK; offset += BLOCK) {
          const slot = slotAt(offset, BLOCK);
          const touching = extents.filter((extent) => touches(extent, offset, offset + BLOCK));
          if (planMerges(touching, slot, savedMin).length > 0) many.push(offset);
        }
        expect(new Set(named).size).toBe(named.length);
        expect([...named].sort((a, b) => a - b)).toEqual(named);
        // With pages that are shorter than a slot's extents it names some in vain, and never one too few.
        expect(named).toEqual(expect.arrayContaining(many));
        if (limit > BLOCK) expect(named).toEqual(many);
      }),
    );
  });

  it('passes over what is in order, a page at a time', () => {
    const whole = (index: number): Extent => ({
      ...{ kind: 'block', offset: index * BLOCK, lengthBytes: BLOCK, pool: 1 as PoolId, blockOffset: 0 },
      ...{ id: asBlockId(new Uint8Array(32)), blockBytes: BLOCK },
    });
    const page = [whole(0), whole(1), whole(2)];
    expect(surveyPage(page, true, 0, BLOCK, 8)).toEqual({ slots: [], next: 3 * BLOCK });
    expect(surveyPage(page, false, 0, BLOCK, 8)).toEqual({ slots: [], next: undefined });
    const broken = [whole(0), ...pieces(BLOCK, 2 * BLOCK), whole(2)];
    expect(surveyPage(broken, false, 0, BLOCK, 8)).toEqual({ slots: [slotAt(BLOCK, BLOCK)], next: undefined });
    expect(surveyPage([], false, BLOCK, BLOCK, 8)).toEqual({ slots: [], next: undefined });
  });
});
