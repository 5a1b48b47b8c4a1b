/** The tables: as rows of cells, for a terminal and for Markdown alike. */
import { limitOf } from './costs.ts';
import type { Cost, PartCost } from './costs.ts';
import { OURS } from './lines.ts';
import type { Against, Figure, Line } from './lines.ts';

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** The figures, side by side. */
export function ratioTable(lines: readonly Line[]): Table {
  const systems = Object.keys(lines[0]?.figures ?? {});
  return {
    head: [
      'measure',
      'unit',
      ...systems,
      'raw disk',
      'empty mount',
      'x better peer',
      'goal',
      'x min(raw, 0.5 x empty)',
      'goal',
      'verdict',
    ],
    rows: lines.map((line) => [
      line.name,
      line.unit,
      ...systems.map((system) => cellOf(line.figures[system])),
      cellOf(line.raw),
      cellOf(line.empty),
      ...against(line.peer),
      ...against(line.machine),
      verdict(line),
    ]),
  };
}

function against(yardstick: Against | undefined): [string, string] {
  if (yardstick === undefined) return ['', ''];
  const { ratio, goal } = yardstick;
  return [ratio.toFixed(2), goal === undefined ? '' : `>= ${goal}`];
}

/** Both goals of a line. */
export function verdict({ peer, machine }: Pick<Line, 'peer' | 'machine'>): string {
  const goals = [peer, machine].filter((one) => one?.goal !== undefined);
  if (goals.length === 0) return '';
  return goals.every((one) => one !== undefined && one.ratio >= (one.goal ?? 0)) ? 'reached' : 'not reached';
}

/** Processor time for each MiB (ms) or operation (us), and what was full. */
export function costTable(lines: readonly Line[]): Table {
  return {
    head: [
      ...[
        'measure',
        'system',
        'cost per',
        'mount',
        'in kernel',
        'servers',
        'in kernel',
        'program',
        'in kernel',
        'rest',
      ],
      ...['rest of all', 'busy', 'limited by'],
    ],
    rows: lines.flatMap((line) =>
      Object.entries(line.costs).map(([system, cost]) => [line.name, system, ...costCells(line, cost)]),
    ),
  };
}

function costCells({ unit }: Line, cost: Cost): string[] {
  const factor = unit === 'MB/s' ? 1 : 1000;
  const number = (ms: number): string => figureText(ms * factor);
  const part = ({ totalMs, systemMs }: PartCost): [string, string] => [number(totalMs), number(systemMs)];
  return [
    unit === 'MB/s' ? 'MiB, ms' : 'operation, us',
    ...part(cost.mount),
    ...part(cost.servers),
    ...part(cost.worker),
    number(cost.restMs),
    `${(cost.rest * 100).toFixed(0)}%`,
    `${(cost.busy * 100).toFixed(0)}%`,
    limitOf(cost),
  ];
}

function cellOf(figure: Figure | undefined): string {
  if (figure === undefined) return '';
  const [low, high] = figure.spread;
  return low === high
    ? figureText(figure.value)
    : `${figureText(figure.value)} (${figureText(low)}-${figureText(high)})`;
}

export function figureText(value: number): string {
  if (value === 0) return '0';
  return value >= 100 ? value.toFixed(0) : value.toPrecision(value >= 10 ? 3 : 2);
}

/** What limits ours, a sentence for each line that misses its goal. */
export function misses(lines: readonly Line[]): string[] {
  return lines.flatMap((line) => {
    const cost = line.costs[OURS];
    if (verdict(line) !== 'not reached' || cost === undefined) return [];
    return [`${line.name.trim()}: ${limitOf(cost)}`];
  });
}

export function markdown({ head, rows }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.trim().replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
