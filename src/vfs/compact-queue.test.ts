import { expect, it } from 'vitest';
import type { Ino } from '../ids.ts';
import { CompactQueue } from './compact-queue.ts';

const TIMES = { piecesMin: 3, quietMs: 10, latestMs: 100, slotsMax: 4, attemptsMax: 3, againMs: 5_000, vainMax: 3 };

function slot(offset: number, ino = 5) {
  return { ino: ino as Ino, offset, lengthBytes: 64 };
}

it('a slot is due when it has many pieces and was quiet', () => {
  const queue = new CompactQueue(TIMES);
  queue.wrote(slot(0), 1, 0);
  queue.wrote(slot(0), 1, 1);
  queue.wrote(slot(64), 1, 1);
  expect(queue.take(1_000)).toBeUndefined();
  queue.wrote(slot(0), 1, 2);
  expect(queue.candidateCount).toBe(1);
  expect(queue.take(11)).toBeUndefined();
  expect(queue.take(12)).toMatchObject(slot(0));
  expect(queue.take(12)).toBeUndefined();
  expect(queue.candidateCount).toBe(0);
});

it('a slot that is never quiet is due at last', () => {
  const queue = new CompactQueue(TIMES);
  for (let nowMs = 0; nowMs < 102; nowMs += 1) {
    queue.wrote(slot(0), 1, nowMs);
    expect(queue.take(nowMs)).toBeUndefined();
  }
  queue.wrote(slot(0), 1, 102);
  expect(queue.take(102)).toMatchObject(slot(0));
});

it('what was replaced by one piece is none of its business', () => {
  const queue = new CompactQueue(TIMES);
  queue.wrote(slot(0), 5, 0);
  queue.forget(slot(0));
  expect(queue.candidateCount).toBe(0);
  expect(queue.take(1_000)).toBeUndefined();
});

it('a slot that changes each time is tried again, each time after it was quiet, and then left alone', () => {
  const queue = new CompactQueue(TIMES);
  queue.wrote(slot(0), 5, 0);
  let taken = queue.take(10)!;
  for (const nowMs of [10, 20]) {
    queue.later(taken, nowMs);
    expect(queue.take(nowMs + 9)).toBeUndefined();
    taken = queue.take(nowMs + 10)!;
  }
  queue.later(taken, 30);
  expect(queue.take(1_000)).toBeUndefined();
});

it('a slot that is soon in pieces again is left alone for longer each time, until it was quiet for long', () => {
  const queue = new CompactQueue(TIMES);
  const waitedMs = (fromMs: number, everyMs: number) => {
    queue.wrote(slot(0), 3, fromMs);
    for (let nowMs = fromMs + 1; nowMs < fromMs + 10_000; nowMs += 1) {
      if (everyMs > 0 && (nowMs - fromMs) % everyMs === 0) queue.wrote(slot(0), 1, nowMs);
      if (queue.take(nowMs) !== undefined) return nowMs - fromMs;
    }
    return undefined;
  };
  // Never quiet: each time twice as long, and then no longer.
  const rounds = [0, 1_000, 2_000, 3_000, 4_000].map((fromMs) => waitedMs(fromMs, 9));
  expect(rounds).toEqual([100, 200, 400, 800, 800]);
  // As long it has to be quiet.
  expect(waitedMs(6_000, 0)).toBe(80);
  // One that stays whole for long begins anew.
  expect(waitedMs(20_000, 0)).toBe(10);
  // Others were never in vain.
  queue.wrote(slot(64), 3, 20_100);
  expect(queue.take(20_110)).toMatchObject(slot(64));
});

it('what a reader has seen is due after as long, and is not counted twice', () => {
  const queue = new CompactQueue(TIMES);
  queue.sawPieces(slot(0), 5, 0);
  queue.sawPieces(slot(0), 5, 8);
  expect(queue.take(9)).toBeUndefined();
  expect(queue.take(10)).toMatchObject({ ...slot(0), pieces: 5 });
  queue.sawPieces(slot(64), 2, 0);
  expect(queue.candidateCount).toBe(0);
});

it('remembers no more than it may, the latest', () => {
  const queue = new CompactQueue(TIMES);
  for (let index = 0; index < 10; index += 1) queue.wrote(slot(index * 64), 5, index);
  expect(queue.slotCount).toBe(4);
  expect(queue.candidateCount).toBe(4);
  expect(queue.take(1_000)).toMatchObject(slot(6 * 64));
});
