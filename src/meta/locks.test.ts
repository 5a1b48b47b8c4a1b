import { describe, expect, it } from 'vitest';
import { FormatError } from '../errors.ts';
import type { SessionId } from '../ids.ts';
import {
  conflictOf,
  decodeLocks,
  encodeLocks,
  LOCK_END_MAX,
  withRequest,
  type HeldLock,
  type LockRequest,
} from './locks.ts';

const session = 'ab'.repeat(16) as SessionId;

function request(owner: bigint, type: LockRequest['type'], start: number, end: number): LockRequest {
  return { session, owner, kind: 'posix', type, pid: Number(owner), start, end };
}

/** As `read 0-9 of 1`. */
function told(held: readonly HeldLock[]): string[] {
  return held.map(({ type, start, end, owner }) => `${type} ${start}-${end} of ${owner}`);
}

function after(...requests: LockRequest[]): HeldLock[] {
  return requests.reduce<HeldLock[]>((held, one) => withRequest(held, one), []);
}

// What fcntl(2) does with ranges; that it is done byte by byte is checked against a model in namespace.test.ts.
describe('ranges of one owner', () => {
  it('join with their neighbours of the same type, and are cut and split by another', () => {
    expect(told(after(request(1n, 'read', 0, 4), request(1n, 'read', 5, 9)))).toEqual(['read 0-9 of 1']);
    expect(told(after(request(1n, 'read', 0, 9), request(1n, 'write', 3, 5)))).toEqual([
      'read 0-2 of 1',
      'write 3-5 of 1',
      'read 6-9 of 1',
    ]);
    const split = after(request(1n, 'write', 0, LOCK_END_MAX), request(1n, 'unlock', 10, 19));
    expect(told(split)).toEqual(['write 0-9 of 1', `write 20-${LOCK_END_MAX} of 1`]);
    expect(after(request(1n, 'write', 0, LOCK_END_MAX), request(1n, 'unlock', 0, LOCK_END_MAX))).toEqual([]);
  });

  it('leave those of others alone', () => {
    const held = after(request(1n, 'read', 0, 9), request(2n, 'read', 5, 14), request(1n, 'unlock', 0, LOCK_END_MAX));
    expect(told(held)).toEqual(['read 5-14 of 2']);
  });
});

it('readers exclude writers, writers everybody, nobody oneself, and the two kinds do not meet', () => {
  const held = after(request(1n, 'read', 0, 9));
  expect(conflictOf(held, request(2n, 'read', 0, 9))).toBeUndefined();
  expect(conflictOf(held, request(2n, 'write', 9, 9))).toMatchObject({ owner: 1n });
  expect(conflictOf(held, request(2n, 'write', 10, 10))).toBeUndefined();
  expect(conflictOf(held, request(1n, 'write', 0, 9))).toBeUndefined();
  expect(conflictOf(held, { ...request(2n, 'write', 0, 9), kind: 'flock' })).toBeUndefined();
  expect(conflictOf(held, request(2n, 'unlock', 0, 9))).toBeUndefined();
  const elsewhere = { ...request(1n, 'write', 0, 9), session: 'cd'.repeat(16) as SessionId };
  expect(conflictOf(held, elsewhere)).toMatchObject({ owner: 1n });
});

it('a row that is cut or of a newer version is refused', () => {
  const bytes = encodeLocks(after(request(1n, 'read', 0, 4), request(2n, 'write', 5, 9)));
  expect(told(decodeLocks(bytes))).toEqual(['read 0-4 of 1', 'write 5-9 of 2']);
  for (let cut = 0; cut < bytes.length; cut++) expect(() => decodeLocks(bytes.subarray(0, cut))).toThrow(FormatError);
  const newer = Uint8Array.from(bytes);
  newer[0] = 9;
  expect(() => decodeLocks(newer)).toThrow(/newer tatamifs|format version 9/);
});
