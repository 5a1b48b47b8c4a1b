import { afterEach, expect, it, vi } from 'vitest';
import { progress } from './output.ts';

afterEach(() => void vi.restoreAllMocks());

it('progress is a line for each tenth where there is no terminal', () => {
  const lines: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => lines.push(String(text)) > 0);
  const bar = progress('work', 200, (count) => `${count} things`);
  for (let done = 0; done <= 250; done += 10) bar.update(done);
  bar.end();
  bar.end();
  expect(lines[0]).toBe('work: 10% (20 things of 200 things)\n');
  // The total was an estimate, and is said once.
  expect(lines).toHaveLength(10);
  expect(lines.at(-1)).toMatch(/^work: 100% /);
});
