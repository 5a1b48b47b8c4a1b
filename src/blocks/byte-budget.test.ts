import { describe, expect, it } from 'vitest';
import { ByteBudget } from './byte-budget.ts';

const soon = async (promise: Promise<unknown>): Promise<boolean> => {
  let done = false;
  void promise.then(() => (done = true));
  for (let i = 0; i < 5; i++) await Promise.resolve();
  return done;
};

describe('ByteBudget', () => {
  it('lets in what fits, in order, and the rest as bytes come back', async () => {
    const budget = new ByteBudget(100);
    const first = await budget.take(60);
    const second = budget.take(50);
    const third = budget.take(10);
    expect(await soon(second)).toBe(false);
    expect(await soon(third)).toBe(false);
    first();
    first();
    expect(await soon(third)).toBe(true);
    expect(budget.usedBytes).toBe(60);
    (await second)();
    (await third)();
    expect(budget.usedBytes).toBe(0);
  });

  it('lets in one that is larger than everything, alone', async () => {
    const budget = new ByteBudget(10);
    const give = await budget.take(1000);
    const next = budget.take(1);
    expect(await soon(next)).toBe(false);
    give();
    expect(await soon(next)).toBe(true);
  });

  it('forgets those that gave up, and lets those behind them in', async () => {
    const budget = new ByteBudget(10);
    const give = await budget.take(5);
    const controller = new AbortController();
    const large = budget.take(10, controller.signal);
    const small = budget.take(5);
    controller.abort(new Error('enough'));
    await expect(large).rejects.toThrow('enough');
    expect(await soon(small)).toBe(true);
    give();
    (await small)();
    expect(budget.usedBytes).toBe(0);
  });
});

it('may grow and shrink while things are under way', async () => {
  const budget = new ByteBudget(10);
  const order: string[] = [];
  const take = async (name: string, bytes: number): Promise<() => void> => {
    const giveBack = await budget.take(bytes);
    order.push(name);
    return giveBack;
  };
  const first = await take('first', 10);
  const waiting = [take('second', 10), take('third', 10)];
  budget.capacityBytes = 20;
  const second = await waiting[0];
  expect(order).toEqual(['first', 'second']);
  // What waits wants more than there is now, and gets it alone.
  budget.capacityBytes = 5;
  second?.();
  await Promise.resolve();
  expect(order).toEqual(['first', 'second']);
  first();
  (await waiting[1])?.();
  expect(order).toEqual(['first', 'second', 'third']);
  expect(budget.usedBytes).toBe(0);
});
