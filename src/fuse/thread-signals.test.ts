import { expect, it } from 'vitest';
import { hasFatalSignal, isThreadEnding } from './thread-signals.ts';

const status = (own: string, shared: string) =>
  `Name:\tgit\nState:\tD (disk sleep)\nPid:\t42\nSigQ:\t1/96199\nSigPnd:\t${own}\nShdPnd:\t${shared}\nSigBlk:\t0000000000000100\n`;

it("a thread dies of a pending SIGKILL, its own or the process's, and of nothing else", () => {
  expect(hasFatalSignal(status('0000000000000000', '0000000000000000'))).toBe(false);
  expect(hasFatalSignal(status('0000000000000100', '0000000000000002'))).toBe(true);
  expect(hasFatalSignal(status('0000000000000000', '0000000000000100'))).toBe(true);
  // SIGALRM with a handler.
  expect(hasFatalSignal(status('0000000000000000', '0000000000002000'))).toBe(false);
});

it('this thread goes on; one that cannot be seen is taken to be ending', () => {
  expect(isThreadEnding(process.pid)).toBe(false);
  expect(isThreadEnding(0)).toBe(true);
  expect(isThreadEnding(2 ** 30)).toBe(true);
});
