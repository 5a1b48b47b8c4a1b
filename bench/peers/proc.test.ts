import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parseMachineStat, parseProcessStat, parseWrittenBytes, snapshot } from './proc.ts';

it('reads times behind a name with spaces and parentheses', () => {
  const line = '77 (a (b) c) S 12 77 77 0 -1 4194304 1 2 3 4 150 25 0 0 20 0 11 0 999 1 2';
  expect(parseProcessStat(line)).toEqual({ state: 'S', parent: 12, userMs: 1500, systemMs: 250 });
});

it('adds up what the machine did, and counts guests once', () => {
  const text = 'cpu  100 10 50 1000 20 3 7 5 60 4\ncpu0 1 1 1 1 1 1 1 1 1 1\n';
  expect(parseMachineStat(text)).toEqual({ busyMs: 1700, idleMs: 10_200, stolenMs: 50 });
});

it('finds the device by its numbers', () => {
  const text = [
    '   7    0 loop0 1 2 3 4 5 6 7 8',
    ' 254    0 vda 1 2 3 4 5 6 2000 8',
    ' 254    1 vda1 1 2 3 4 5 6 9 8',
  ].join('\n');
  expect(parseWrittenBytes(text, (254 << 8) | 0)).toBe(1_024_000);
  expect(parseWrittenBytes(text, (254 << 8) | 1)).toBe(4_608);
  // 259:300, whose minor number does not fit in the lowest byte.
  expect(parseWrittenBytes(' 259 300 nvme 1 2 3 4 5 6 1 8', (1 << 20) | (259 << 8) | 44)).toBe(512);
  expect(parseWrittenBytes(text, (99 << 8) | 0)).toBeUndefined();
});

it('sees the other processes of this machine, with threads that add up', () => {
  const { processes, machine } = snapshot(0);
  const parent = processes.find(({ pid }) => pid === process.ppid);
  expect(parent?.commandLine).toBe(readFileSync(`/proc/${process.ppid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim());
  expect(Object.keys(parent?.threadMs ?? {})).toContain(String(process.ppid));
  expect(processes.map(({ pid }) => pid)).not.toContain(process.pid);
  expect(machine.busyMs).toBeGreaterThan(0);
});
