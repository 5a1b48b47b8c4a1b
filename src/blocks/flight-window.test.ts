import { expect, it } from 'vitest';
import { FlightWindow } from './flight-window.ts';

const BLOCK = 4 << 20;

/** Blocks through a pipe of so many bytes per ms behind so much delay, as many at once as the window says. */
function run(window: FlightWindow, bytesPerMs: number, delayMs: number, blocks: number): number {
  let nowMs = 0;
  let pipeFreeMs = 0;
  const underWay: { startedMs: number; endsMs: number }[] = [];
  for (let asked = 0; asked < blocks || underWay.length > 0;) {
    while (asked < blocks && underWay.length < window.size) {
      pipeFreeMs = Math.max(pipeFreeMs, nowMs) + BLOCK / bytesPerMs;
      underWay.push({ startedMs: nowMs, endsMs: pipeFreeMs + delayMs });
      asked++;
    }
    const first = underWay.shift();
    if (first === undefined) break;
    nowMs = first.endsMs;
    window.ended(first.startedMs, nowMs);
  }
  return nowMs;
}

it('stays small where the delay is short', () => {
  const window = new FlightWindow({ slowLeast: 2, least: 8, most: 24 });
  run(window, 1e6, 0.2, 2_000);
  expect(window.size).toBe(8);
});

it('grows until a long way is full', () => {
  const window = new FlightWindow({ slowLeast: 2, least: 8, most: 24 });
  const tookMs = run(window, 1e6, 60, 2_000);
  expect(window.size).toBeGreaterThan(15);
  // The pipe's own speed, not the 40% of it that eight blocks reach.
  expect(tookMs).toBeLessThan(((2_000 * BLOCK) / 1e6) * 1.15);
});

it('goes back when the way has become short', () => {
  const window = new FlightWindow({ slowLeast: 2, least: 8, most: 24 });
  run(window, 1e6, 60, 500);
  for (let i = 0, nowMs = 1e5; i < 20_000; i++, nowMs += 4) window.ended(nowMs - 5, nowMs);
  expect(window.size).toBe(8);
});

it('falls to two or three on a slow way', () => {
  const window = new FlightWindow({ slowLeast: 2, least: 8, most: 24 });
  run(window, 12_500, 1, 100);
  expect(window.size).toBeLessThanOrEqual(3);
});
