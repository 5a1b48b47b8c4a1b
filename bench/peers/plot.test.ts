import { expect, it } from 'vitest';
import { summarize } from './lines.ts';
import { plot } from './plot.ts';
import { SYSTEMS, SIZE_BYTES, fakeRound } from './testing.ts';

const { lines } = summarize(SYSTEMS, [fakeRound(1), fakeRound(3)], SIZE_BYTES);
const svg = plot(lines, 'Title <1> & "2"', 'under it');

it('draws a bar for each figure, as long as its share of the longest', () => {
  const bars = [...svg.matchAll(/<rect x="210" y="\d+" width="([\d.]+)" height="14"/g)].map(([, width]) =>
    Number(width),
  );
  expect(bars).toHaveLength(lines.flatMap(({ figures }) => Object.keys(figures)).length);
  const read = bars.slice(3, 6);
  expect(read.map((width) => width / (read[0] ?? 1))).toEqual([1, expect.closeTo(2 / 3, 2), expect.closeTo(1 / 3, 2)]);
  expect(Math.max(...bars)).toBeLessThanOrEqual(430);
});

it('is well-formed, and says what it is', () => {
  expect(svg.startsWith('<svg xmlns="http://www.w3.org/2000/svg"')).toBe(true);
  expect(svg).toContain('Title &lt;1&gt; &amp; &quot;2&quot;');
  expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  for (const tag of ['text', 'title', 'svg']) {
    expect(svg.split(`<${tag}`).length).toBe(svg.split(`</${tag}>`).length);
  }
});

it('marks the goal', () => {
  // Ours is exactly at its goal of 1.5 times Alpha: the mark is at the end of its bar.
  const own = plot(
    lines.filter(({ step }) => step === 'read'),
    '',
    '',
  );
  const end = /width="([\d.]+)" height="14"/.exec(own)?.[1];
  expect(own).toContain(`<line x1="${(210 + Number(end)).toFixed(1)}"`);
});
