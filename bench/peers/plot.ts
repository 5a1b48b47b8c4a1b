/**
 * The plot: for each measure a bar for each system, as long as its figure is of the measure's largest, with the range of the
 * rounds; and a mark at what ours has to reach. SVG by hand: some rectangles and texts need no library.
 */
import { OURS } from './lines.ts';
import type { Line } from './lines.ts';
import { figureText } from './table.ts';

const WIDTH = 860;
const LABEL_WIDTH = 210;
const BAR_WIDTH = 430;
const BAR_HEIGHT = 14;
const BAR_GAP = 3;
const GROUP_GAP = 16;
const TOP = 66;
const FONT = 'font-family="sans-serif"';
/** Told apart by people who see few colours, too: dark, middle, light. */
const OUR_COLOUR = '#17456b';
const COLOURS = ['#e08214', '#8fbf9f', '#c9d9c0'];

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x}" y="${y}" ${FONT} font-size="12" ${more}>${escape(content)}</text>`;
}

/** `title` and `subtitle` stand above; every line has its own scale, which starts at 0. */
export function plot(lines: readonly Line[], title: string, subtitle: string): string {
  const systems = [...new Set(lines.flatMap(({ figures }) => Object.keys(figures)))];
  const colourOf = (system: string): string =>
    system === OURS ? OUR_COLOUR : (COLOURS[systems.filter((name) => name !== OURS).indexOf(system)] ?? '#999999');
  const parts: string[] = [];
  let y = TOP;
  for (const line of lines) {
    parts.push(...group(line, y, colourOf));
    y += Object.keys(line.figures).length * (BAR_HEIGHT + BAR_GAP) + GROUP_GAP;
  }
  const legend = systems.map((system, index) => {
    const x = 12 + index * 190;
    return `<rect x="${x}" y="${y}" width="12" height="12" fill="${colourOf(system)}"/>${text(x + 18, y + 11, system)}`;
  });
  const goal = `${text(12, y + 34, 'Red: what tatamifs is to reach. Thin line: lowest to highest round. Longer is better; each measure has its own scale.')}`;
  const height = y + 48;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">`,
    `<title>${escape(title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(12, 24, title, 'font-weight="bold"'),
    text(12, 44, subtitle, 'fill="#555555"'),
    ...parts,
    ...legend,
    goal,
    '</svg>',
    '',
  ].join('\n');
}

function group(line: Line, top: number, colourOf: (system: string) => string): string[] {
  const entries = Object.entries(line.figures);
  const goal = goalOf(line);
  const largest = Math.max(...entries.map(([, { spread }]) => spread[1]), goal ?? 0);
  const scale = (value: number): number => LABEL_WIDTH + (BAR_WIDTH * value) / largest;
  const parts = [text(12, top + 11, line.name.trim())];
  entries.forEach(([system, { value, spread }], index) => {
    const y = top + index * (BAR_HEIGHT + BAR_GAP);
    const middle = y + BAR_HEIGHT / 2;
    const width = (scale(value) - LABEL_WIDTH).toFixed(1);
    parts.push(
      `<rect x="${LABEL_WIDTH}" y="${y}" width="${width}" height="${BAR_HEIGHT}" fill="${colourOf(system)}"/>`,
      `<line x1="${scale(spread[0]).toFixed(1)}" x2="${scale(spread[1]).toFixed(1)}" y1="${middle}" y2="${middle}" stroke="#000000"/>`,
      text(
        LABEL_WIDTH + BAR_WIDTH + 10,
        y + 11,
        `${figureText(value)} ${line.unit}${index === 0 ? ratioText(line) : ''}`,
      ),
    );
  });
  if (goal !== undefined) {
    const x = scale(goal).toFixed(1);
    parts.push(
      `<line x1="${x}" x2="${x}" y1="${top - 2}" y2="${top + BAR_HEIGHT + 2}" stroke="#cc0000" stroke-width="2"/>`,
    );
  }
  return parts;
}

function ratioText({ peer }: Line): string {
  return peer === undefined ? '' : `, ${peer.ratio.toFixed(2)} x the better peer`;
}

/** In the line's unit: what the ratio and the goal say of our own figure. */
function goalOf({ peer, figures }: Line): number | undefined {
  const ours = figures[OURS]?.value;
  if (ours === undefined || peer?.goal === undefined || !(peer.ratio > 0)) return undefined;
  return (ours * peer.goal) / peer.ratio;
}
