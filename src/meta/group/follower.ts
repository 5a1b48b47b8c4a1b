/**
 * What a secondary or learner does with a SyncPush. Pure: it looks at the log and says what to do.
 */
import { invariant } from '../../errors.ts';
import type { LogEntry } from './log-record.ts';
import type { SyncPush } from './messages.ts';

/** The part of a log that decisions need. */
export interface LogView {
  readonly firstSeq: number;
  readonly lastSeq: number;
  epochAt(seq: number): number | undefined;
}

export type FollowerStep =
  /** Cut the log after `truncateAfter` (if given), append, then reply 'logged'. */
  | {
      readonly kind: 'append';
      readonly truncateAfter?: number;
      readonly entries: readonly LogEntry[];
      readonly committedSeq: number;
    }
  | { readonly kind: 'mismatch' }
  /** R8: entries that were applied here are not the primary's, or the primary's log begins after ours ends. */
  | { readonly kind: 'copy' };

/**
 * @param appliedSeq entries up to here are applied: they cannot be taken back.
 */
export function stepFollower(push: SyncPush, log: LogView, appliedSeq: number): FollowerStep {
  if (push.copy) return { kind: 'copy' };
  const here = log.epochAt(push.prevSeq);
  if (here === undefined) {
    // Before our first entry everything is applied and so, by R3, equal to the primary's; from there on it is compared.
    if (push.prevSeq < log.firstSeq - 1) return skipKnown(push, log, appliedSeq);
    return { kind: 'mismatch' };
  }
  if (here !== push.prevEpoch) return push.prevSeq <= appliedSeq ? { kind: 'copy' } : { kind: 'mismatch' };
  return skipKnown(push, log, appliedSeq);
}

/** The first (epoch, seq) mismatch is the divergence; from there on ours is dropped (R8). */
function skipKnown(push: SyncPush, log: LogView, appliedSeq: number): FollowerStep {
  const fresh = push.entries.findIndex(({ seq, epoch }) => seq >= log.firstSeq - 1 && log.epochAt(seq) !== epoch);
  const entries = fresh < 0 ? [] : push.entries.slice(fresh);
  const [first] = entries;
  const known = push.prevSeq + push.entries.length;
  // What the primary has committed is in its log; of that, we hold what this message covers.
  const committedSeq = Math.min(push.committedSeq, Math.max(known, Math.min(log.firstSeq - 1, push.committedSeq)));
  if (first === undefined) return { kind: 'append', entries, committedSeq };
  if (first.seq <= appliedSeq) return { kind: 'copy' };
  if (first.seq > log.lastSeq + 1) return { kind: 'mismatch' };
  invariant(first.seq - 1 >= appliedSeq, 'R8', 'an applied entry would be dropped');
  return first.seq <= log.lastSeq
    ? { kind: 'append', truncateAfter: first.seq - 1, entries, committedSeq }
    : { kind: 'append', entries, committedSeq };
}
