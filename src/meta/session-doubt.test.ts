import { expect, it } from 'vitest';
import { HandClock } from '../vfs/testing.ts';
import { SessionDoubt } from './session-doubt.ts';

function started() {
  const clock = new HandClock();
  const doubt = new SessionDoubt(clock, 1_000);
  let begun = 0;
  doubt.onDoubt(() => begun++);
  return { clock, doubt, begun: () => begun };
}

it('begins a lease after what was acknowledged last was sent, and is told once', async () => {
  const { clock, doubt, begun } = started();
  expect(doubt.isDoubtful).toBe(false);
  const sentMs = clock.monotonicMs();
  await clock.advance(300);
  doubt.heard(sentMs);
  await clock.advance(699);
  expect([doubt.isDoubtful, begun()]).toEqual([false, 0]);
  await clock.advance(1);
  expect([doubt.isDoubtful, begun()]).toEqual([true, 1]);
  await clock.advance(5_000);
  expect(begun()).toBe(1);
});

it('ends with the next answer, and begins anew', async () => {
  const { clock, doubt, begun } = started();
  doubt.heard(clock.monotonicMs());
  await clock.advance(1_500);
  doubt.heard(clock.monotonicMs());
  expect(doubt.isDoubtful).toBe(false);
  await clock.advance(1_000);
  expect([doubt.isDoubtful, begun()]).toEqual([true, 2]);
});

it('is there before its timer has come, as when the process stood still', async () => {
  const { clock, doubt, begun } = started();
  let seen: unknown;
  // Due at the same time, and called first.
  clock.setTimer(1_000, () => (seen = [doubt.isDoubtful, begun()]));
  doubt.heard(clock.monotonicMs());
  await clock.advance(1_000);
  expect(seen).toEqual([true, 0]);
});

it('leaves no timer behind', () => {
  const { clock, doubt } = started();
  doubt.heard(clock.monotonicMs());
  doubt.heard(clock.monotonicMs());
  expect(clock.timerCount).toBe(1);
  doubt.close();
  expect(clock.timerCount).toBe(0);
});
