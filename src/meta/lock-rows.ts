/** Locks in the table: one row for each file that has any. Whose they are and what excludes what: locks.ts. */
import type { Ino, SessionId } from '../ids.ts';
import { inoFromKey, lockKey, prefixEnd } from './keys.ts';
import {
  conflictOf,
  decodeLocks,
  encodeLocks,
  LOCKS_PER_FILE_MAX_COUNT,
  withoutSession,
  withRequest,
  type HeldLock,
  type LockRequest,
} from './locks.ts';
import { refuse } from './outcome.ts';
import type { TableProgram, Transaction } from './transaction.ts';
import type { MutationResult } from './types.ts';

/** Rows read at a time when a session ends: each may have thousands of locks. */
const LOCK_PAGE_COUNT = 64;

/** A file that is gone has no locks to grant, but one may still give up what it had. */
export function lock(tx: Transaction, ino: Ino, request: LockRequest): MutationResult {
  const inode = request.type === 'unlock' ? tx.inode(ino) : tx.existing(ino);
  const row = tx.get(lockKey(ino));
  const held = row === undefined ? [] : decodeLocks(row);
  if (conflictOf(held, request) !== undefined) refuse('EAGAIN');
  const after = withRequest(held, request);
  if (after.length > LOCKS_PER_FILE_MAX_COUNT && after.length > held.length) refuse('ENOLCK');
  write(tx, ino, held, after);
  return inode === undefined ? {} : { attr: tx.attr(inode) };
}

/** Releases every lock of a session that ended. */
export function* releaseAllLocks(tx: Transaction, session: SessionId): TableProgram<void> {
  let from = lockKey(0);
  for (;;) {
    const [rows] = yield [{ gte: from, lt: prefixEnd('k'), limit: LOCK_PAGE_COUNT, reverse: false }];
    for (const [key, value] of rows!) {
      const held = decodeLocks(value);
      const after = withoutSession(held, session);
      if (after.length < held.length) write(tx, inoFromKey(key), held, after);
    }
    if (rows!.length < LOCK_PAGE_COUNT) return;
    from = rows!.at(-1)![0] + '\0';
  }
}

function write(tx: Transaction, ino: Ino, held: readonly HeldLock[], after: readonly HeldLock[]): void {
  if (held.length === 0 && after.length === 0) return;
  if (after.length === 0) tx.delete(lockKey(ino));
  else tx.put(lockKey(ino), encodeLocks(after));
  tx.relocked.push(ino);
}
