/**
 * Before the first push after a start, a primary takes over what its secondary's log has beyond its own, so that nothing
 * that was acknowledged is cut (docs/decisions/0004-the-tail-of-the-secondary.md).
 */
import type { CancelSignal } from '../../cancel.ts';
import { UnavailableError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import type { Logger } from '../../log.ts';
import type { Network } from '../../net/types.ts';
import { commonPrefix, compareLogs } from './common-prefix.ts';
import type { GroupLog } from './log-files.ts';
import { groupMethods, parseTailReply } from './messages.ts';
import type { Head } from './messages.ts';

export interface TakeTailOptions {
  readonly network: Network;
  readonly secondary: NodeId;
  readonly head: () => Head;
  readonly log: GroupLog;
  readonly logger: Logger;
  readonly timeoutMs: number;
  readonly signal: CancelSignal;
  /** False once this node is not, or not as this, the primary. */
  readonly wanted: () => boolean;
}

/** The secondary's log does not reach back to where ours ends: neither alone holds everything. */
export class TailGapError extends UnavailableError {}

/** Resolves with true when our log has, on disk, all that the secondary has; false if it is no longer wanted. */
export async function takeTail(o: TakeTailOptions): Promise<boolean> {
  const { log, secondary } = o;
  for (let fromSeq = 0; ;) {
    const options = { timeoutMs: o.timeoutMs, signal: o.signal };
    const reply = await o.network.call(secondary, groupMethods.tail, { ...o.head(), fromSeq }, options);
    if (!o.wanted()) return false;
    const { ends, entries } = parseTailReply(reply.header, fromSeq);
    if (fromSeq > 0 && entries.length === 0) {
      throw new TailGapError(`its log ends at ${fromSeq - 1}, before ${secondary}'s begins`);
    }
    if (fromSeq === log.lastSeq + 1 && entries.length > 0) {
      await log.append(entries);
      o.logger.info({ count: entries.length, from: secondary }, 'took over entries that only the secondary had');
    }
    const isPrefix = commonPrefix(log.epochEnds(), ends) === log.lastSeq;
    if (!isPrefix || compareLogs(ends, log.epochEnds()) <= 0) break;
    fromSeq = log.lastSeq + 1;
  }
  // What we acknowledge from now on builds on all of this: it must not be lost by the next power failure.
  await log.sync();
  return true;
}
