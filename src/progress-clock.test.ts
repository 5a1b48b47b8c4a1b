import { expect, it } from 'vitest';
import { ProgressClock } from './progress-clock.ts';

it('counts from the question, or from the latest success of any', () => {
  const clock = new ProgressClock(100);
  expect(clock.deadlineOf(50)).toBe(150);
  clock.progress(90);
  expect(clock.deadlineOf(50)).toBe(190);
  expect(clock.deadlineOf(95)).toBe(195);
  clock.progress(60);
  expect(clock.deadlineOf(50)).toBe(190);
});
