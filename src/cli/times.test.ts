import { expect, it } from 'vitest';
import { ago, duration, until } from './times.ts';

it('tells spans of time in one unit', () => {
  expect([0, 1_400, 119_000, 120_000, 90 * 60_000, 2 * 3_600_000, 14 * 86_400_000].map(duration)).toEqual([
    '0 s',
    '1 s',
    '119 s',
    '2 min',
    '90 min',
    '2 h',
    '14 d',
  ]);
  expect([ago(5_000, 5_500), ago(5_000, 65_000), ago(9_000, 5_000)]).toEqual(['just now', '60 s ago', 'just now']);
  expect([until(5_000, 5_500), until(3_600_000 * 3, 0)]).toEqual(['soon', 'in 3 h']);
});
