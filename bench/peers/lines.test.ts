import { expect, it } from 'vitest';
import { summarize } from './lines.ts';
import { SYSTEMS, SIZE_BYTES, fakeRound } from './testing.ts';

const { lines, syncedShare } = summarize(SYSTEMS, [fakeRound(1), fakeRound(2), fakeRound(4)], SIZE_BYTES);
const lineOf = (step: string) => lines.find((line) => line.step === step);

it('takes medians, and the range of the rounds', () => {
  expect(lineOf('read')?.figures).toEqual({
    tatamifs: { value: 600, spread: [300, 1_200] },
    Alpha: { value: 400, spread: [200, 800] },
    Beta: { value: 200, spread: [100, 400] },
  });
});

it('holds ours against the better peer, and reads against the machine', () => {
  expect(lineOf('read')?.peer).toEqual({ name: 'Alpha', ratio: 1.5, goal: 1.5 });
  expect(lineOf('read')?.machine).toMatchObject({ ratio: 300 / 320, goal: 0.9 });
  expect(lineOf('unlink')?.machine).toBeUndefined();
});

it('does not count as a yardstick of writing who has not synced', () => {
  expect(syncedShare).toEqual({ tatamifs: 2, Alpha: 2, Beta: 0.1 });
  expect(lineOf('write')?.peer).toEqual({ name: 'Alpha', ratio: 1.5, goal: 1 });
  expect(Object.keys(lineOf('write')?.figures ?? {})).toEqual(['tatamifs', 'Alpha', 'Beta']);
});

it('divides the processor time by what was done', () => {
  const cost = lineOf('read')?.costs['Alpha'];
  expect(cost?.mount).toEqual({ totalMs: 8, systemMs: 4 });
  expect(cost?.servers).toEqual({ totalMs: 4, systemMs: 0 });
  expect(cost?.worker).toEqual({ totalMs: 0.3, systemMs: 0.2 });
  expect(cost?.restMs).toBeCloseTo(0.2);
  expect(cost?.rest).toBeCloseTo(0.01);
  expect(cost?.busy).toBeCloseTo(0.625);
  expect(cost?.busiest).toEqual({ part: 'mount', share: 0.8 });
});
