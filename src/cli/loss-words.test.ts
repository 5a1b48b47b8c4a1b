import { describe, expect, it } from 'vitest';
import type { Loss, ProgramsLoss } from '../upkeep/removal.ts';
import { lossInWords, notCountedInWords } from './loss-words.ts';

const nothing: Loss = {
  ...{ blockCount: 100, lostCount: 0, lostBytes: 0, lostFileCount: 0 },
  ...{ paths: [], ofPrograms: [], silent: [] },
};
const library: ProgramsLoss = { pool: 'library', lostCount: 0, lostBytes: 0, isCounted: true, keepsOne: false };

describe('what is lost with a node, in words', () => {
  it('is nothing where nothing is', () => {
    expect([lossInWords('n1', nothing), notCountedInWords('n1', nothing)]).toEqual(['', '']);
  });

  it('names files, and nodes that could not be asked', () => {
    const loss = { ...nothing, lostCount: 3, lostBytes: 3_000, lostFileCount: 2, paths: [Buffer.from('/a')] };
    expect(lossInWords('n1', loss)).toBe(
      '3 of 100 blocks (2.93 KiB) in 2 files are on no other node that is up. Files: /a, ...',
    );
    expect(lossInWords('n1', { ...loss, silent: ['n3' as never] })).toMatch(/n3 could not be asked/);
  });

  it("tells programs' blocks from those of files", () => {
    const ofPrograms = [{ ...library, lostCount: 2, lostBytes: 2_000 }];
    const both = {
      ...nothing,
      lostCount: 3,
      lostBytes: 3_000,
      lostFileCount: 1,
      paths: [Buffer.from('/a')],
      ofPrograms,
    };
    expect(lossInWords('n1', both)).toBe(
      '1 of 100 blocks (1000 B) in 1 files are on no other node that is up; 2 blocks of programs, in pool library, are on no ' +
        'other node that is up. Files: /a',
    );
    expect(lossInWords('n1', { ...nothing, lostCount: 2, lostBytes: 2_000, ofPrograms })).toBe(
      '2 blocks of programs, in pool library, are on no other node that is up',
    );
  });

  it('of one-copy pools counts as loss though nobody can count it; of others it is only told', () => {
    const one = { ...nothing, ofPrograms: [{ ...library, isCounted: false, keepsOne: true }] };
    expect(lossInWords('n1', one)).toMatch(/pool library keeps one copy of each block: .* on n1 is nowhere else/);
    expect(notCountedInWords('n1', one)).toBe('');
    const two = { ...nothing, ofPrograms: [{ ...library, isCounted: false }] };
    expect(lossInWords('n1', two)).toBe('');
    expect(notCountedInWords('n1', two)).toMatch(/put into library stand on no list.* n1 had the only copy/);
  });
});
