import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CorruptionError } from '../errors.ts';
import {
  decodeEntry,
  encodeEntry,
  mergeBlock,
  mergeRenewal,
  mergeTombstone,
  tombstoneNeeded,
  withoutPack,
  type PackEntry,
  type PlacedRecord,
} from './pack-entry.ts';

type Typed = PlacedRecord & { readonly type: 'block' | 'tombstone' | 'renewal' };

const MERGES = { block: mergeBlock, tombstone: mergeTombstone, renewal: mergeRenewal };
const mergeAll = (records: readonly Typed[]): PackEntry | undefined =>
  records.reduce<PackEntry | undefined>((entry, record) => MERGES[record.type](entry, record), undefined);

/** One block's life: what a store writes, in the order of seq, each record in some pack; some copied to later packs. */
const history = fc
  .array(
    fc.record({
      op: fc.constantFrom('put', 'delete', 'renew'),
      packStep: fc.nat(1),
      rise: fc.nat(2),
      copy: fc.boolean(),
    }),
    {
      minLength: 1,
      maxLength: 12,
    },
  )
  .map((steps) => {
    const records: Typed[] = [];
    let live: Typed | undefined;
    let pack = 1;
    let generation = 1;
    let stamp = 0;
    let offset = 96;
    steps.forEach(({ op, packStep, rise, copy }, index) => {
      pack += packStep;
      generation += rise;
      offset += 100;
      const seq = index + 1;
      const place = { seq, pack, offset };
      if (op === 'put') {
        stamp = Math.max(live === undefined ? 0 : stamp, generation);
        live = { type: 'block', ...place, lengthBytes: 20, generation: stamp };
        records.push(live);
      } else if (op === 'delete' && live !== undefined) {
        live = undefined;
        records.push({ type: 'tombstone', ...place, lengthBytes: 0, generation: 0 });
      } else if (op === 'renew' && live !== undefined && generation > stamp) {
        stamp = generation;
        records.push({ type: 'renewal', ...place, lengthBytes: 0, generation });
      }
      if (copy && live !== undefined) records.push({ ...live, pack: ++pack, offset, generation: stamp });
    });
    return { records, live, stamp };
  });

describe('the merge of records', () => {
  it('gives the same block whatever the order and repetition', () => {
    fc.assert(
      fc.property(
        history.chain((made) => {
          const again = fc.subarray(made.records);
          const all = again.chain((more) =>
            fc.shuffledSubarray([...made.records, ...more], { minLength: made.records.length + more.length }),
          );
          return fc.record({ made: fc.constant(made), order: all });
        }),
        ({ made, order }) => {
          const entry = mergeAll(order);
          expect(entry?.state === 'live').toBe(made.live !== undefined);
          if (entry === undefined) return;
          // Invariant of `shadows`: no pack with a block record is forgotten.
          const packs = new Set(made.records.filter(({ type }) => type === 'block').map(({ pack }) => pack));
          if (entry.state === 'live') {
            expect(entry.seq).toBe(made.live?.seq);
            expect(entry.generation).toBe(made.stamp);
            expect(packs.has(entry.pack)).toBe(true);
            packs.delete(entry.pack);
          }
          for (const pack of packs) expect(entry.shadows).toContain(pack);
          expect(new Set(entry.shadows).size).toBe(entry.shadows.length);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('needs a tombstone only for block records in other packs', () => {
    const put: Typed = { type: 'block', seq: 1, pack: 1, offset: 96, lengthBytes: 5, generation: 0 };
    const same = mergeAll([put, { ...put, type: 'tombstone', seq: 2, offset: 300 }])!;
    expect(same.state).toBe('dead');
    expect(tombstoneNeeded(same)).toBe(false);
    const other = mergeAll([put, { ...put, type: 'tombstone', seq: 2, pack: 2 }])!;
    expect(tombstoneNeeded(other)).toBe(true);
    expect(tombstoneNeeded(withoutPack(other, 1))).toBe(false);
  });

  it('takes a new record as healing, an old one not', () => {
    const put: Typed = { type: 'block', seq: 5, pack: 3, offset: 96, lengthBytes: 5, generation: 0 };
    const damaged = { ...mergeAll([put])!, damaged: true };
    expect(mergeBlock(damaged, put).damaged).toBe(true);
    expect(mergeBlock(damaged, { ...put, seq: 4, pack: 9 }).damaged).toBe(true);
    expect(mergeBlock(damaged, { ...put, seq: 6 }).damaged).toBe(false);
    expect(mergeBlock({ ...damaged, pack: 0, offset: 0 }, { ...put, pack: 4 })).toMatchObject({
      damaged: false,
      pack: 4,
    });
  });
});

describe('index rows', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(history, ({ records }) => {
        const entry = mergeAll(records);
        if (entry !== undefined)
          expect(decodeEntry(encodeEntry({ ...entry, damaged: true }))).toEqual({ ...entry, damaged: true });
      }),
    );
  });

  it('are refused when damaged', () => {
    expect(() => decodeEntry(new Uint8Array(0))).toThrow(CorruptionError);
    expect(() => decodeEntry(new Uint8Array(48))).toThrow(CorruptionError);
    const row = encodeEntry(mergeAll([{ type: 'block', seq: 1, pack: 1, offset: 96, lengthBytes: 5, generation: 0 }])!);
    expect(() => decodeEntry(row.subarray(1))).toThrow(CorruptionError);
    expect(() => decodeEntry(Buffer.concat([row, row]))).toThrow(CorruptionError);
  });
});
