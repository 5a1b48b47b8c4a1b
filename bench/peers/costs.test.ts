import { cpus } from 'node:os';
import { expect, it } from 'vitest';
import { costOf, limitOf } from './costs.ts';
import { fakeResult, fakeSnapshot } from './testing.ts';

const isMount = (commandLine: string): boolean => commandLine === 'mount';

it('counts a process that was not there before from nothing', () => {
  const result = fakeResult('read', 1);
  const cost = costOf({ ...result, before: { ...result.before, processes: [] } }, isMount);
  expect(cost.mount.totalMs).toBe(8);
  expect(cost.restMs).toBeCloseTo(0.2);
});

it('says what was full: the machine, one thread, or nothing', () => {
  const cost = (mountMs: number, serverMs: number) => {
    const result = { ...fakeResult('read', 1), after: fakeSnapshot(1_000, mountMs, serverMs, 0) };
    return limitOf(costOf(result, isMount));
  };
  expect(cost(900, 900)).toBe(cpus().length === 1 ? 'the processor' : `all ${cpus().length} processors`);
  const shared = { ...costOf(fakeResult('read', 1), isMount), busy: 0.8, stolen: 0.1, rest: 0.3 };
  expect(limitOf(shared)).toMatch(/, 40% of them at other work$/);
  expect(cost(900, 100)).toBe('one thread of the mount');
  expect(cost(400, 400)).toMatch(/^waiting/);
});
