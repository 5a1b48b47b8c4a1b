import { describe, expect, it } from 'vitest';
import type { Timer } from '../env.ts';
import { Turns } from './turns.ts';

/** Timers fire when told to, as those of a process that stood still do. */
class HandClock {
  nowMs = 0;
  readonly #due = new Map<object, () => void>();

  monotonicMs(): number {
    return this.nowMs;
  }

  setTimer(_delayMs: number, callback: () => void): Timer {
    const key = {};
    this.#due.set(key, callback);
    return { cancel: () => void this.#due.delete(key) };
  }

  fireAll(): void {
    for (const callback of [...this.#due.values()]) callback();
    this.#due.clear();
  }
}

/** Has the turn, until told otherwise. */
async function begin(turns: Turns): Promise<{ readonly ended: Promise<string>; readonly end: () => void }> {
  let end = (): void => undefined;
  const held = new Promise<void>((resolve) => (end = resolve));
  let ended = Promise.resolve('');
  await new Promise<void>((begun) => {
    ended = turns.take(10_000, () => {
      begun();
      return held.then(() => 'first');
    });
  });
  return { ended, end };
}

describe('turns', () => {
  it('come one after the other, whatever the one before came to', async () => {
    const turns = new Turns(new HandClock());
    const order: number[] = [];
    const first = turns.take(100, () => Promise.reject(new Error('broken')));
    const second = turns.take(100, () => Promise.resolve(order.push(2)));
    await expect(first).rejects.toThrow('broken');
    await second;
    expect(order).toEqual([2]);
  });

  it('end at the deadline while another has the turn, and are not taken afterwards', async () => {
    const clock = new HandClock();
    const turns = new Turns(clock);
    const { ended, end } = await begin(turns);
    let begun = false;
    const waiting = turns.take(50, () => Promise.resolve((begun = true)));
    clock.nowMs = 50;
    clock.fireAll();
    await expect(waiting).rejects.toThrow('busy with other changes');
    end();
    await ended;
    await turns.take(100, () => Promise.resolve());
    expect(begun).toBe(false);
  });

  it('end, too, when the process stood still past the deadline and the turn comes before the timer', async () => {
    const clock = new HandClock();
    const turns = new Turns(clock);
    const { ended, end } = await begin(turns);
    const waiting = turns.take(50, () => Promise.resolve('too late'));
    clock.nowMs = 60;
    end();
    await ended;
    await expect(waiting).rejects.toThrow('busy with other changes');
  });
});
