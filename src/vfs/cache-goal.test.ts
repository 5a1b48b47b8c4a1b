import { expect, it } from 'vitest';
import { CacheGoal } from './cache-goal.ts';

it('grows by what was asked for again after it was dropped, up to the bound', () => {
  const goal = new CacheGoal(30, 100);
  goal.missed('a');
  expect(goal.bytes).toBe(30);
  goal.dropped('a', 20);
  goal.missed('a');
  expect(goal.bytes).toBe(50);
  // Once for each time that it was dropped.
  goal.missed('a');
  expect(goal.bytes).toBe(50);
  for (const key of ['b', 'c', 'd']) {
    goal.dropped(key, 25);
    goal.missed(key);
  }
  expect(goal.bytes).toBe(100);
});

it('takes nothing for evidence that the whole bound would not have kept either', () => {
  const goal = new CacheGoal(30, 100);
  for (const key of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) goal.dropped(key, 10);
  goal.missed('a');
  expect(goal.bytes).toBe(30);
  goal.missed('b');
  expect(goal.bytes).toBe(40);
  // What is used now is no longer there for what was dropped.
  goal.dropped('i', 10);
  goal.missed('c');
  expect(goal.bytes).toBe(40);
});

it('does not grow where each key is asked for once', () => {
  const goal = new CacheGoal(30, 100);
  for (let key = 0; key < 1_000; key += 1) {
    goal.missed(String(key));
    goal.dropped(String(key), 10);
  }
  expect(goal.bytes).toBe(30);
});

it('is never more than the bound', () => {
  expect(new CacheGoal(200, 100).bytes).toBe(100);
});
