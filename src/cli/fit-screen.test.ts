import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { fitScreen } from './fit-screen.ts';

const lines = (count: number, letter = 'x') => Array.from({ length: count }, (_, index) => `${letter}${index}`);

describe('the screen', () => {
  it('shows everything where there is room', () => {
    const sections = [
      { rank: 0, lines: ['a'] },
      { rank: 2, lines: [] },
      { rank: 1, lines: ['b', 'c'] },
    ];
    expect(fitScreen(sections, 80, 24)).toBe('a\n\nb\nc');
  });

  it('leaves out what matters least, keeping the order', () => {
    const sections = [
      { rank: 3, lines: lines(3, 'late') },
      { rank: 0, lines: lines(2, 'first') },
      { rank: 2, lines: lines(8, 'large') },
      { rank: 4, lines: ['small'] },
    ];
    // 2, then not 8, then 3, then 1: with their gaps eight lines.
    expect(fitScreen(sections, 80, 8)).toBe('late0\nlate1\nlate2\n\nfirst0\nfirst1\n\nsmall');
  });

  it('cuts what matters most rather than to leave it out', () => {
    expect(fitScreen([{ rank: 0, lines: lines(9) }], 80, 4)).toBe('x0\nx1\nx2\n… 6 more lines');
  });

  it('cuts tables and breaks text, whatever colours and wide characters are in them', () => {
    const red = '\x1b[31m';
    const off = '\x1b[39m';
    const table = fitScreen([{ rank: 0, lines: [`${red}0123456789${off}abc`, '畳畳畳畳畳畳', 'short'] }], 10, 9);
    expect(stripVTControlCharacters(table)).toBe('01234567…\n畳畳畳畳…\nshort');
    const text = fitScreen([{ rank: 0, wrap: true, lines: ['  one two three four five'] }], 16, 9);
    expect(text).toBe('  one two\n  three four\n  five');
    const word = fitScreen([{ rank: 0, wrap: true, lines: ['/a/path/without/blanks/that/is/long'] }], 12, 9);
    expect(word.split('\n').every((line) => line.length <= 12)).toBe(true);
    expect(word.replaceAll('\n', '')).toBe('/a/path/without/blanks/that/is/long');
  });
});
