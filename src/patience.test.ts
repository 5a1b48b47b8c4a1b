import { beforeEach, describe, expect, it } from 'vitest';
import { HandClock } from './vfs/testing.ts';
import { Patience } from './patience.ts';

describe('waiting with one timer for all', () => {
  let clock: HandClock;
  let patience: Patience;
  let startMs: number;
  let gaveUp: string[];
  const wait = (name: string) => patience.wait(() => gaveUp.push(`${name} after ${clock.monotonicMs() - startMs}`));
  beforeEach(() => {
    clock = new HandClock();
    startMs = clock.monotonicMs();
    patience = new Patience(clock, 100);
    gaveUp = [];
  });

  it('ends for each when its own time is up', async () => {
    const a = wait('a');
    await clock.advance(30);
    const b = wait('b');
    await clock.advance(30);
    const c = wait('c');
    expect(patience.waitingCount).toBe(3);
    expect(clock.timerCount).toBe(1);
    expect(b()).toBe(true);
    await clock.advance(1_000);
    expect(gaveUp).toEqual(['a after 100', 'c after 160']);
    expect([a(), b(), c()]).toEqual([false, false, false]);
    expect([patience.waitingCount, clock.timerCount]).toEqual([0, 0]);
  });

  it('goes on when nobody waited for a while', async () => {
    wait('a');
    await clock.advance(500);
    wait('b');
    await clock.advance(500);
    expect(gaveUp).toEqual(['a after 100', 'b after 600']);
  });

  it('ends for all when it is closed', async () => {
    wait('a');
    wait('b');
    patience.close();
    expect([gaveUp.length, clock.timerCount]).toEqual([2, 0]);
  });
});
