/** Plots of figures over sizes of very different magnitude: curves on logarithmic axes, as SVG, by Vega. */
import type { GroupMark } from 'vega';

export interface Curve {
  readonly name: string;
  /** Both above 0, by rising x. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface CurvePlot {
  readonly title: string;
  readonly panels: readonly { readonly x: string; readonly y: string; readonly curves: readonly Curve[] }[];
}

const WIDTH = 360;
const HEIGHT = 260;
/** Told apart by people who see few colours, too: the second is dashed as well. */
const COLOURS = ['#17456b', '#e08214', '#8fbf9f'];
const DASHES = [
  [1, 0],
  [6, 4],
  [2, 2],
];

type Panel = CurvePlot['panels'][number];

/** One panel beside the other, each with its own axes. Undefined where Vega is not installed. */
export async function curvesSvg({ title, panels }: CurvePlot): Promise<string | undefined> {
  const vega = await import('vega').catch(() => undefined);
  if (vega === undefined) return undefined;
  const runtime = vega.parse({
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    background: 'white',
    padding: 12,
    title: { text: title, anchor: 'start', offset: 16 },
    layout: { columns: panels.length, padding: 40 },
    marks: panels.map(panelMark),
  });
  const view = new vega.View(runtime, { renderer: 'none' });
  try {
    return `${await view.toSVG()}\n`;
  } finally {
    view.finalize();
  }
}

function panelMark({ x, y, curves }: Panel, index: number): GroupMark {
  const data = `points${index}`;
  const names = curves.map(({ name }) => name);
  const values = curves.flatMap(({ name, points }) => points.map(([px, py]) => ({ name, x: px, y: py })));
  const place = { x: { scale: 'x', field: 'x' }, y: { scale: 'y', field: 'y' } } as const;
  const colour = { scale: 'colour', field: 'name' } as const;
  return {
    type: 'group',
    encode: { update: { width: { value: WIDTH }, height: { value: HEIGHT } } },
    data: [{ name: data, values }],
    scales: [
      { name: 'x', type: 'log', domain: { data, field: 'x' }, range: [0, WIDTH] },
      { name: 'y', type: 'log', domain: { data, field: 'y' }, range: [HEIGHT, 0], nice: true },
      { name: 'colour', type: 'ordinal', domain: names, range: COLOURS },
      { name: 'dash', type: 'ordinal', domain: names, range: DASHES },
    ],
    axes: [
      { scale: 'x', orient: 'bottom', title: x, format: ',', values: curves[0]?.points.map(([px]) => px) ?? [] },
      { scale: 'y', orient: 'left', title: y, format: '~s', grid: true, tickCount: 6 },
    ],
    legends: [{ stroke: 'colour', strokeDash: 'dash', symbolType: 'stroke', labelLimit: 0, orient: 'top-left' }],
    marks: [
      {
        type: 'group',
        from: { facet: { name: `${data}-curve`, data, groupby: 'name' } },
        marks: [
          {
            type: 'line',
            from: { data: `${data}-curve` },
            encode: {
              update: {
                ...place,
                stroke: colour,
                strokeDash: { scale: 'dash', field: 'name' },
                strokeWidth: { value: 2 },
              },
            },
          },
          {
            type: 'symbol',
            from: { data: `${data}-curve` },
            encode: { update: { ...place, fill: colour, size: { value: 40 } } },
          },
        ],
      },
    ],
  };
}
