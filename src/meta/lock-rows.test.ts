import { expect, it } from 'vitest';
import type { Ino, SessionId } from '../ids.ts';
import { lockKey } from './keys.ts';
import { lock } from './lock-rows.ts';
import { decodeLocks, encodeLocks, LOCK_END_MAX, LOCKS_PER_FILE_MAX_COUNT, type LockRequest } from './locks.ts';
import type { Transaction } from './transaction.ts';

const FILE = 5 as Ino;
const SESSION = 'ab'.repeat(16) as SessionId;

function request(type: LockRequest['type'], start: number, end = start, owner = 1n): LockRequest {
  return { session: SESSION, owner, kind: 'posix', type, pid: 7, start, end };
}

/** The locks of a file that has as many as it may, every other byte, after one more request. */
function afterOneMore(one: LockRequest): number {
  const full = Array.from({ length: LOCKS_PER_FILE_MAX_COUNT }, (_, index) => request('write', 2 * index));
  let row: Uint8Array | undefined = encodeLocks(full.map((held) => ({ ...held, type: 'write' })));
  const table = {
    inode: () => undefined,
    existing: () => undefined,
    get: () => row,
    put: (key: string, value: Uint8Array) => {
      expect(key).toBe(lockKey(FILE));
      row = value;
    },
    delete: () => (row = undefined),
    relocked: [],
  };
  lock(table as unknown as Transaction, FILE, one);
  return row === undefined ? 0 : decodeLocks(row).length;
}

it('a file has room for so many ranges: ENOLCK, whoever asks', () => {
  const beyond = 2 * LOCKS_PER_FILE_MAX_COUNT;
  expect(() => afterOneMore(request('write', beyond))).toThrow('ENOLCK');
  expect(() => afterOneMore(request('read', beyond, beyond, 2n))).toThrow('ENOLCK');
});

it('what makes no more of them needs no room', () => {
  expect(afterOneMore(request('read', 2))).toBe(LOCKS_PER_FILE_MAX_COUNT);
  expect(afterOneMore(request('write', 1))).toBe(LOCKS_PER_FILE_MAX_COUNT - 1);
  expect(afterOneMore(request('unlock', 4))).toBe(LOCKS_PER_FILE_MAX_COUNT - 1);
  expect(afterOneMore(request('unlock', 0, LOCK_END_MAX))).toBe(0);
});
