import fc from 'fast-check';
import { expect, it } from 'vitest';
import { commonPrefix, compareLogs } from './common-prefix.ts';
import type { EpochEnds } from './log-files.ts';

/** Where a log ends, from the epochs of its entries 1.. */
function endsOf(epochs: readonly number[]): EpochEnds {
  const ends: [number, number][] = [[0, 0]];
  for (const [index, epoch] of epochs.entries()) {
    if (ends.at(-1)![0] === epoch) ends.at(-1)![1] = index + 1;
    else ends.push([epoch, index + 1]);
  }
  return ends;
}

it('finds where two logs of one history part', () => {
  expect(commonPrefix(endsOf([1, 1, 2]), endsOf([1, 1, 2, 2]))).toBe(3);
  expect(commonPrefix(endsOf([1, 1, 3]), endsOf([1, 1, 1, 2]))).toBe(2);
  expect(commonPrefix(endsOf([]), endsOf([1]))).toBe(0);
  // Each begins after the other ends.
  expect(commonPrefix([[5, 100]], endsOf([1, 1]))).toBeUndefined();
});

it('is right for any two logs that grew by one primary an epoch', () => {
  // A history is a tree: each epoch continues some earlier log.
  const branch = fc.array(fc.record({ cut: fc.nat(30), count: fc.integer({ min: 1, max: 6 }) }), { maxLength: 8 });
  fc.assert(
    fc.property(branch, fc.nat(), fc.nat(), (epochs, a, b) => {
      const logs: string[][] = [[]];
      for (const [index, { cut, count }] of epochs.entries()) {
        const parent = logs[cut % logs.length]!;
        const kept = parent.slice(0, parent.length - (cut % (parent.length + 1)));
        logs.push([...kept, ...Array.from({ length: count }, () => `${index + 1}`)]);
      }
      const [one, other] = [logs[a % logs.length]!, logs[b % logs.length]!];
      // Entries are equal if (seq, epoch) is and all before is, which is so as each epoch has one writer.
      let same = 0;
      while (same < one.length && same < other.length && one[same] === other[same]) same++;
      const [onesEnds, othersEnds] = [endsOf(one.map(Number)), endsOf(other.map(Number))];
      expect(commonPrefix(onesEnds, othersEnds)).toBe(same);
      expect(commonPrefix(othersEnds, onesEnds)).toBe(same);
      expect(Math.sign(compareLogs(onesEnds, othersEnds))).toBe(-Math.sign(compareLogs(othersEnds, onesEnds)) + 0);
    }),
  );
});
