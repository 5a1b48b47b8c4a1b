import { expect, it } from 'vitest';
import { SessionDoubt } from './session-doubt.ts';

/** Time that stands still until it is moved; timers fire in `advance`, unless the process stands still as well. */
class Clock {
  nowMs = 5_000;
  readonly timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();
  monotonicMs = () => this.nowMs;
  wallNs = () => 0n;
  sleep = () => Promise.reject(new Error('not used'));
  setTimer = (delayMs: number, callback: () => void) => {
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.timers.add(timer);
    return { cancel: () => void this.timers.delete(timer) };
  };
  advance(ms: number): void {
    this.nowMs += ms;
    for (const timer of [...this.timers]) {
      if (timer.atMs > this.nowMs || !this.timers.delete(timer)) continue;
      timer.callback();
    }
  }
}

function started() {
  const clock = new Clock();
  const doubt = new SessionDoubt(clock, 1_000);
  let begun = 0;
  doubt.onDoubt(() => begun++);
  return { clock, doubt, begun: () => begun };
}

it('begins a lease after what was acknowledged last was sent, and is told once', () => {
  const { clock, doubt, begun } = started();
  expect(doubt.isDoubtful).toBe(false);
  const sentMs = clock.nowMs;
  clock.advance(300);
  doubt.heard(sentMs);
  clock.advance(699);
  expect([doubt.isDoubtful, begun()]).toEqual([false, 0]);
  clock.advance(1);
  expect([doubt.isDoubtful, begun()]).toEqual([true, 1]);
  clock.advance(5_000);
  expect(begun()).toBe(1);
});

it('ends with the next answer, and begins anew', () => {
  const { clock, doubt, begun } = started();
  doubt.heard(clock.nowMs);
  clock.advance(1_500);
  doubt.heard(clock.nowMs);
  expect(doubt.isDoubtful).toBe(false);
  clock.advance(1_000);
  expect([doubt.isDoubtful, begun()]).toEqual([true, 2]);
});

it('is there before its timer has come, when the process stood still', () => {
  const { clock, doubt, begun } = started();
  doubt.heard(clock.nowMs);
  clock.nowMs += 2_000;
  expect([doubt.isDoubtful, begun()]).toEqual([true, 0]);
});

it('leaves no timer behind', () => {
  const { clock, doubt } = started();
  doubt.heard(clock.nowMs);
  doubt.heard(clock.nowMs);
  expect(clock.timers.size).toBe(1);
  doubt.close();
  expect(clock.timers.size).toBe(0);
});
