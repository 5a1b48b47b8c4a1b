/** A primary's pushes: what primary.ts finds due is read from the log, sent, and its answers are brought back. */
import { FormatError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import type { Logger } from '../../log.ts';
import type { Network } from '../../net/types.ts';
import type { GroupLog } from './log-files.ts';
import type { LogEntry } from './log-record.ts';
import { groupMethods } from './messages.ts';
import type { Head } from './messages.ts';
import type { Primary, PushPlan } from './primary.ts';
import { encodeSyncPush, parseSyncPushReply } from './push-codec.ts';

/** Entries in one SyncPush: far below the bound of a frame's header. */
export const PUSH_MAX_BYTES = 1 * MiB;
/** One SyncPush without a sync: a write to the page cache. Less than the grace: one lost push makes nobody silent. */
export const PUSH_TIMEOUT_MS = 1_000;
/** One with a sync, on a disk that others use too; or what the other side reads from its disk. */
export const SYNC_TIMEOUT_MS = 5_000;

export interface PushingOptions {
  readonly network: Network;
  readonly logger: Logger;
  readonly log: GroupLog;
  /** Undefined while this node is not the primary, and once it is stopping. */
  readonly primary: () => Primary | undefined;
  readonly head: () => Head;
  readonly committedSeq: () => number;
  readonly nowMs: () => number;
  /** Runs work whose failure is a bug or a broken rule. */
  readonly guard: (work: () => void) => void;
  /** Before the first push after a start. */
  readonly takeTail: (primary: Primary) => void;
  /** An answer has been taken in: the commit point may have moved. */
  readonly answered: () => void;
}

export class Pushing {
  readonly #o: PushingOptions;
  /** Members whose next entries are being read from disk. */
  readonly #reading = new Set<NodeId>();
  #isQueued = false;

  constructor(options: PushingOptions) {
    this.#o = options;
  }

  /** Sends what is due, once for all that happens in this turn of the event loop. */
  soon(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    queueMicrotask(() => {
      this.#isQueued = false;
      this.#o.guard(() => this.#sendDue());
    });
  }

  #sendDue(): void {
    const primary = this.#o.primary();
    if (primary === undefined) return;
    if (primary.needsTail) return this.#o.takeTail(primary);
    for (const node of primary.members()) {
      for (;;) {
        if (this.#reading.has(node)) break;
        const plan = primary.nextPush(node, this.#o.nowMs());
        if (plan === undefined) break;
        const entries = plan.withEntries ? this.#o.log.readNow(plan.fromSeq, PUSH_MAX_BYTES) : [];
        if (entries === undefined) void this.#sendFromDisk(primary, node, plan);
        else this.#send(primary, node, plan, entries);
      }
    }
  }

  async #sendFromDisk(primary: Primary, node: NodeId, plan: PushPlan): Promise<void> {
    this.#reading.add(node);
    try {
      const entries = await this.#o.log.read(plan.fromSeq, PUSH_MAX_BYTES);
      this.#reading.delete(node);
      if (this.#o.primary() === primary) this.#send(primary, node, plan, entries);
    } catch (error) {
      this.#reading.delete(node);
      this.#o.logger.warn({ node, error: String(error) }, 'cannot read the log for a member');
      primary.pushFailed(node, plan, this.#o.nowMs());
    }
  }

  #send(primary: Primary, node: NodeId, plan: PushPlan, entries: readonly LogEntry[]): void {
    const { log, network } = this.#o;
    const prevSeq = plan.fromSeq - 1;
    const prevEpoch = log.epochAt(prevSeq);
    const { group, epoch, historyId } = this.#o.head();
    // Field by field: with every change comes a push, and spreading costs ten times as much as all of its encoding.
    const header = encodeSyncPush({
      group,
      epoch,
      historyId,
      prevSeq,
      prevEpoch: prevEpoch ?? 0,
      entries,
      committedSeq: this.#o.committedSeq(),
      syncedSeq: log.syncedSeq,
      sync: plan.sync,
      copy: plan.copy || prevEpoch === undefined,
    });
    const last = entries.at(-1);
    if (last !== undefined) primary.sent(node, plan, last.seq);
    // Not tied to the member's end: its time is bounded, and nobody looks at its answer any more.
    network
      .call(node, groupMethods.syncPush, header, { timeoutMs: plan.sync ? SYNC_TIMEOUT_MS : PUSH_TIMEOUT_MS })
      .then(
        (reply) => this.#o.guard(() => this.#answered(primary, node, plan, reply.header)),
        () =>
          this.#o.guard(() => {
            if (this.#o.primary() === primary) primary.pushFailed(node, plan, this.#o.nowMs());
          }),
      );
  }

  #answered(primary: Primary, node: NodeId, plan: PushPlan, reply: unknown): void {
    if (this.#o.primary() !== primary) return;
    try {
      primary.pushAnswered(node, plan, parseSyncPushReply(reply), this.#o.nowMs());
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.#o.logger.error({ node, error: error.message }, 'a member does not follow the protocol');
      primary.pushFailed(node, plan, this.#o.nowMs());
    }
    this.#o.answered();
  }
}
