import { describe, expect, it } from 'vitest';
import type { Epoch, Seq } from '../../ids.ts';
import { stepFollower } from './follower.ts';
import type { LogView } from './follower.ts';
import type { SyncPush } from './messages.ts';

/** A log that begins with entry `firstSeq`, of these epochs; `base` is that of the entry before. */
function logOf(epochs: readonly number[], firstSeq = 1, base = 0): LogView {
  const lastSeq = firstSeq + epochs.length - 1;
  const epochAt = (seq: number) => (seq === firstSeq - 1 ? base : epochs[seq - firstSeq]);
  return { firstSeq, lastSeq, epochAt };
}

function push(prevSeq: number, prevEpoch: number, epochs: readonly number[], more: Partial<SyncPush> = {}): SyncPush {
  const entries = epochs.map((epoch, index) => ({
    seq: (prevSeq + index + 1) as Seq,
    epoch: epoch as Epoch,
    prevEpoch: (index === 0 ? prevEpoch : epochs[index - 1]!) as Epoch,
    command: new Uint8Array(),
  }));
  const head = { group: 'g0', epoch: 9, historyId: 'h' };
  return { ...head, prevSeq, prevEpoch, entries, committedSeq: 0, syncedSeq: 0, sync: false, copy: false, ...more };
}

const seqs = (step: ReturnType<typeof stepFollower>) =>
  step.kind === 'append' ? step.entries.map((entry) => entry.seq) : step.kind;

describe('stepFollower', () => {
  it('appends what follows, and skips what it has', () => {
    expect(seqs(stepFollower(push(2, 1, [1, 1]), logOf([1, 1]), 0))).toEqual([3, 4]);
    expect(seqs(stepFollower(push(0, 0, [1, 1, 1]), logOf([1, 1]), 2))).toEqual([3]);
    expect(stepFollower(push(1, 1, [1]), logOf([1, 1]), 0)).toMatchObject({ entries: [] });
  });

  it("keeps what is beyond the message: it may be the primary's", () => {
    const step = stepFollower(push(1, 1, [1]), logOf([1, 1, 1, 1]), 0);
    expect(step).toEqual({ kind: 'append', entries: [], committedSeq: 0 });
  });

  it('cuts from the first mismatch on', () => {
    const step = stepFollower(push(1, 1, [1, 3]), logOf([1, 1, 2, 2]), 2);
    expect(step).toMatchObject({ kind: 'append', truncateAfter: 2 });
    expect(seqs(step)).toEqual([3]);
  });

  it('asks for a full copy rather than take back what was applied (R8)', () => {
    expect(stepFollower(push(1, 1, [1, 3]), logOf([1, 1, 2, 2]), 3)).toEqual({ kind: 'copy' });
    expect(stepFollower(push(3, 3, []), logOf([1, 1, 2, 2]), 3)).toEqual({ kind: 'copy' });
    expect(stepFollower(push(9, 9, [], { copy: true }), logOf([1]), 0)).toEqual({ kind: 'copy' });
  });

  it('says where it ends when the message begins beyond, or at another entry', () => {
    expect(stepFollower(push(5, 1, [1]), logOf([1, 1]), 0)).toEqual({ kind: 'mismatch' });
    expect(stepFollower(push(3, 3, []), logOf([1, 1, 2]), 2)).toEqual({ kind: 'mismatch' });
  });

  it('compares from its first entry on when the message begins before', () => {
    const log = logOf([2, 2], 11, 2);
    expect(seqs(stepFollower(push(7, 2, [2, 2, 2, 2, 2, 2]), log, 10))).toEqual([13]);
    expect(seqs(stepFollower(push(2, 2, [2, 2]), log, 10))).toEqual([]);
    // Entry 10 was applied here under epoch 2: another one's place.
    expect(stepFollower(push(7, 2, [2, 2, 3, 3]), log, 10)).toEqual({ kind: 'copy' });
  });

  it('commits only what the message has compared', () => {
    const committed = (message: SyncPush, log: LogView) => {
      const step = stepFollower(message, log, 0);
      return step.kind === 'append' ? step.committedSeq : undefined;
    };
    expect(committed(push(2, 1, [1], { committedSeq: 3 }), logOf([1, 1]))).toBe(3);
    // Entries 3 and 4 here were not compared.
    expect(committed(push(1, 1, [1], { committedSeq: 4 }), logOf([1, 1, 1, 1]))).toBe(2);
    expect(committed(push(2, 2, [], { committedSeq: 50 }), logOf([2], 11, 2))).toBe(10);
    expect(committed(push(4, 1, [], { committedSeq: 3 }), logOf([1, 1, 1, 1]))).toBe(3);
  });
});
