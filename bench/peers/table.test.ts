import { expect, it } from 'vitest';
import { summarize } from './lines.ts';
import { notesOf, report } from './report.ts';
import { costTable, figureText, markdown, misses, ratioTable, verdict } from './table.ts';
import { SYSTEMS, SIZE_BYTES, fakeRound } from './testing.ts';

const summary = summarize(SYSTEMS, [fakeRound(1)], SIZE_BYTES);

it('has a column for each system, and both ratios', () => {
  const { head, rows } = ratioTable(summary.lines);
  expect(head.slice(0, 7)).toEqual(['measure', 'unit', 'tatamifs', 'Alpha', 'Beta', 'raw disk', 'empty mount']);
  const read = rows.find(([name]) => name === 'cold sequential read');
  expect(read).toEqual([
    ...['cold sequential read', 'MB/s', '300', '200', '100', '1000', '640'],
    ...['1.50', '>= 1.5', '0.94', '>= 0.9', 'reached'],
  ]);
  expect(rows.every((row) => row.length === head.length)).toBe(true);
});

it('is reached only if both goals are', () => {
  const peer = { name: 'Alpha', ratio: 2, goal: 1.5 };
  const machine = { name: 'raw', ratio: 0.5, goal: 0.9 };
  expect(verdict({ peer, machine: undefined })).toBe('reached');
  expect(verdict({ peer, machine })).toBe('not reached');
  expect(verdict({ peer: { ...peer, goal: undefined }, machine: undefined })).toBe('');
  expect(verdict({ peer: { ...peer, ratio: NaN }, machine: undefined })).toBe('not reached');
});

it('gives costs in ms for MiB and in us for operations', () => {
  const { rows } = costTable(summary.lines);
  expect(rows.find((row) => row[0] === 'cold sequential read' && row[1] === 'Beta')?.slice(2, 11)).toEqual([
    ...['MiB, ms', '8.0', '4.0', '4.0', '0', '0.30', '0.20', '0.20', '1%'],
  ]);
  expect(rows.find((row) => row[0] === 'unlink')?.slice(2, 5)).toEqual(['operation, us', '8000', '4000']);
});

it('writes figures with as many digits as they are worth', () => {
  expect([0, 0.0512, 1.234, 56.78, 1234.5].map(figureText)).toEqual(['0', '0.051', '1.2', '56.8', '1235']);
});

it('writes Markdown, with what does not sync named', () => {
  expect(markdown({ head: ['a', 'b'], rows: [['  x', 'y|z']] })).toBe('| a | b |\n| --- | --- |\n| x | y\\|z |');
  const notes = notesOf(summary).join('\n');
  expect(notes).toContain('Beta 0.10 (does not sync)');
  const about = { date: '2026-01-01', machine: 'M', commit: 'c', rounds: 1, sizeMib: 100, smallFileCount: 10 };
  const text = report(SYSTEMS, summary, { ...about, versions: ['v1', 'v2', 'v3'] }, 'p.svg');
  for (const part of ['commit c', '**Alpha** (v2): how Alpha is laid out.', '![p.svg](p.svg)', '| unlink |']) {
    expect(text).toContain(part);
  }
});

it('names what limits the lines that miss their goal, and no others', () => {
  const slower = fakeRound(1);
  const tatamifs = { ...slower.systems['tatamifs'], unlink: slower.systems['Beta']?.unlink };
  const systems = { ...slower.systems, tatamifs } as typeof slower.systems;
  const { lines } = summarize(SYSTEMS, [{ ...slower, systems }], SIZE_BYTES);
  expect(misses(lines)).toEqual([expect.stringMatching(/^unlink: /)]);
});
