/** Makes sections of text fit a terminal: what is redrawn in place must neither wrap nor scroll. Pure. */
import { stripVTControlCharacters } from 'node:util';
import sliceAnsi from 'slice-ansi';
import wrapAnsi from 'wrap-ansi';

export interface Section {
  /** Sections of the lowest rank are shown first; those of a higher one if there is room left. */
  readonly rank: number;
  readonly lines: readonly string[];
  /** Text is broken between words; else lines are cut. */
  readonly wrap?: boolean;
}

/** Up to this rank a section is cut rather than left out. */
const CUT_RANK_MOST = 1;

/** In the order given, with an empty line between; at most `rows` lines of at most `columns` cells. */
export function fitScreen(sections: readonly Section[], columns: number, rows: number): string {
  const fitted = sections.map((section) => ({ section, lines: fitColumns(section, columns) }));
  const byRank = [...fitted].sort((a, b) => a.section.rank - b.section.rank);
  const shown = new Map<Section, readonly string[]>();
  let left = rows;
  for (const { section, lines } of byRank) {
    if (lines.length === 0) continue;
    const gap = shown.size === 0 ? 0 : 1;
    if (lines.length + gap <= left) shown.set(section, lines);
    else if (section.rank <= CUT_RANK_MOST && left > gap + 1) shown.set(section, cutRows(lines, left - gap));
    else continue;
    left -= gap + (shown.get(section)?.length ?? 0);
  }
  return sections.flatMap((section) => shown.get(section)?.join('\n') ?? []).join('\n\n');
}

function fitColumns({ lines, wrap = false }: Section, columns: number): string[] {
  const whole = lines.flatMap((line) => line.split('\n'));
  if (!wrap) return whole.map((line) => cutColumns(line, columns));
  return whole.flatMap((line) => wrapLine(line, columns));
}

/** What follows the first line is set in as far as that one. */
function wrapLine(line: string, columns: number): string[] {
  const indent = /^ */.exec(stripVTControlCharacters(line))?.[0] ?? '';
  if (indent.length + 10 > columns) return [cutColumns(line, columns)];
  const broken = wrapAnsi(line, columns - indent.length, { hard: true, trim: false }).split('\n');
  return broken.map((part, index) => (index === 0 ? part.trimEnd() : `${indent}${part.trim()}`));
}

function cutColumns(line: string, columns: number): string {
  if (!wrapAnsi(line, columns, { hard: true, wordWrap: false, trim: false }).includes('\n')) return line;
  // A wide character at the end of the slice takes one cell more.
  return `${sliceAnsi(line, 0, columns - 2)}…`;
}

function cutRows(lines: readonly string[], rows: number): string[] {
  if (lines.length <= rows) return [...lines];
  return [...lines.slice(0, rows - 1), `… ${lines.length - rows + 1} more lines`];
}
