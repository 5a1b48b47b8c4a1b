/**
 * A secondary's and a learner's work: pushes are taken one after the other, compared with the log, appended and answered;
 * a full copy is taken where the log does not reach. The driver of follower.ts.
 */
import type { CancelSignal } from '../../cancel.ts';
import type { Group } from '../../catalog/types.ts';
import { AuthError, StaleEpochError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import type { Logger } from '../../log.ts';
import type { HandlerReply, IncomingRequest, Network } from '../../net/types.ts';
import type { MetaStore } from '../meta-store.ts';
import type { Applier } from './applier.ts';
import type { EpochGate } from './epoch-gate.ts';
import { stepFollower } from './follower.ts';
import { takeFullCopy } from './full-copy.ts';
import type { GroupLog } from './log-files.ts';
import type { LogEntry } from './log-record.ts';
import { packEntries, parseTailRequest } from './messages.ts';
import type { Head, SyncPush, SyncPushReply } from './messages.ts';
import { encodeSyncPushReply } from './push-codec.ts';
import type { GroupRules } from './rules.ts';
import type { Succession } from './succession.ts';

export interface FollowingOptions {
  readonly self: NodeId;
  readonly network: Network;
  readonly logger: Logger;
  readonly store: MetaStore;
  readonly log: GroupLog;
  readonly gate: EpochGate;
  readonly applier: Applier;
  readonly succession: Succession;
  readonly rules: GroupRules;
  /** The log was damaged and is empty: until a full copy has been taken, what is here does not count. */
  readonly damaged: boolean;
  readonly signal: CancelSignal;
  /** Entries of a tail that are read at once. */
  readonly tailMaxBytes: number;
  readonly group: () => Group;
  readonly head: () => Head;
  /** Throws unless this member takes part. */
  readonly requireWhole: () => void;
  readonly isPrimary: () => boolean;
  /** Resolves when the table is not being written. */
  readonly tableIdle: () => Promise<unknown>;
  /** R9: what is here is of another history: to be set aside before a full copy is taken. */
  readonly setAside: () => void;
  readonly failed: (error: unknown) => void;
}

export class Following {
  readonly #o: FollowingOptions;
  readonly #log: GroupLog;
  /** Pushes are taken one after the other. */
  #tail: Promise<unknown> = Promise.resolve();
  /** Of those, how many have not ended. */
  #count = 0;
  #copying: Promise<void> | undefined;
  #damaged: boolean;
  #primarySyncedSeq = 0;
  #isForeign = false;
  #heardCommittedSeq = 0;

  constructor(options: FollowingOptions) {
    this.#o = options;
    this.#log = options.log;
    this.#damaged = options.damaged;
  }

  /** R8: what is here is not a whole copy. */
  get mustCopy(): boolean {
    return this.#copying !== undefined || this.#o.store.incomplete || this.#damaged || this.#isForeign;
  }

  /** R9: the group goes on with another history; until this is set aside and a full copy taken, it does not count. */
  becomeForeign(): void {
    this.#isForeign = true;
  }

  get isForeign(): boolean {
    return this.#isForeign;
  }

  /** The last entry that a primary told to be committed, whether it is here or not. */
  get heardCommittedSeq(): number {
    return this.#heardCommittedSeq;
  }

  /** On disk at the primary, as it last said. */
  get primarySyncedSeq(): number {
    return this.#primarySyncedSeq;
  }

  /** Resolves when every push that has come is answered. */
  idle(): Promise<unknown> {
    return this.#tail;
  }

  /** Resolves when no full copy is being taken. */
  async copied(): Promise<void> {
    await this.#copying;
  }

  /** RPC group.syncPush. */
  handlePush(push: SyncPush, request: IncomingRequest): Promise<HandlerReply> | HandlerReply {
    this.#heardFrom(push, request);
    if (this.#count === 0) {
      const reply = this.#followNow(push, request);
      if (reply !== undefined) return { header: encodeSyncPushReply(reply) };
    }
    this.#count++;
    const run = this.#tail.then(async () => {
      try {
        await this.#checkSender(push, request);
        this.#heardFrom(push, request);
        return await this.#follow(push);
      } finally {
        this.#count--;
      }
    });
    this.#tail = run.catch(() => undefined);
    return run.then(async (reply) => ({
      header: encodeSyncPushReply(push.sync && reply.status === 'logged' ? await this.#synced(push, reply) : reply),
    }));
  }

  /** RPC group.tail. */
  async handleTail(request: IncomingRequest): Promise<HandlerReply> {
    const head = parseTailRequest(request.header);
    await this.#checkSender(head, request);
    this.#o.requireWhole();
    const { fromSeq } = head;
    if (this.mustCopy || fromSeq === 0 || fromSeq < this.#log.firstSeq) {
      // An incomplete copy has nothing that counts: its log ends before the first entry.
      const ends = this.mustCopy ? [[0, 0] as const] : this.#log.epochEnds();
      return { header: { ends, prevEpoch: 0, entries: [] } };
    }
    const entries = await this.#log.read(fromSeq, this.#o.tailMaxBytes);
    const prevEpoch = this.#log.epochAt(fromSeq - 1) ?? 0;
    return { header: { ends: this.#log.epochEnds(), prevEpoch, entries: packEntries(entries) } };
  }

  #heardFrom(head: Head | SyncPush, request: IncomingRequest): void {
    const { primary, epoch } = this.#o.group();
    if (request.remote.nodeId !== primary || head.epoch !== epoch) return;
    this.#o.succession.heardPrimary();
    if ('committedSeq' in head) this.#heardCommittedSeq = Math.max(this.#heardCommittedSeq, head.committedSeq);
  }

  async #checkSender(head: Head, request: IncomingRequest): Promise<void> {
    await this.#o.gate.pass(head);
    this.#requirePrimarySender(head, request);
  }

  #requirePrimarySender(head: Head, request: IncomingRequest): void {
    if (request.remote.nodeId !== this.#o.group().primary && this.#o.rules.followerEpoch) {
      throw new AuthError(
        `${request.remote.nodeId ?? 'a client'} is not the primary of ${head.group} in epoch ${head.epoch}`,
      );
    }
  }

  /** R5, R6: whether anything of this message may still be done and acknowledged. */
  #checkFollowing(push: SyncPush): void {
    this.#o.gate.check(push);
    if (this.#o.succession.refuses(push.epoch) || this.#o.isPrimary()) {
      throw new StaleEpochError(`${this.#o.self} no longer follows epoch ${push.epoch} of group ${push.group}`, {
        info: { epoch: push.epoch },
      });
    }
  }

  /** The common case, in which nothing is to be waited for: entries that continue the log. Otherwise undefined, and nothing was done. */
  #followNow(push: SyncPush, request: IncomingRequest): SyncPushReply | undefined {
    if (push.sync || !this.#o.gate.isOpenTo(push)) return undefined;
    this.#requirePrimarySender(push, request);
    this.#o.requireWhole();
    this.#checkFollowing(push);
    if (this.mustCopy || this.#o.succession.mustNote(push.epoch)) return undefined;
    this.#o.succession.shown(push.prevSeq + push.entries.length);
    const step = stepFollower(push, this.#log, this.#o.store.appliedSeq);
    if (step.kind !== 'append' || step.truncateAfter !== undefined) return undefined;
    try {
      if (step.entries.length > 0 && !this.#log.appendNow(step.entries)) return undefined;
    } catch (error) {
      this.#o.failed(error);
      throw error;
    }
    return this.#followed(push, step.committedSeq);
  }

  async #follow(push: SyncPush): Promise<SyncPushReply> {
    const { succession, store, logger } = this.#o;
    this.#o.requireWhole();
    this.#checkFollowing(push);
    if (succession.mustNote(push.epoch)) {
      await succession.note(push.epoch);
      this.#checkFollowing(push);
    }
    if (this.#copying !== undefined) return { status: 'copying' };
    if (this.mustCopy) return this.#beginCopy();
    succession.shown(push.prevSeq + push.entries.length);
    const step = stepFollower(push, this.#log, store.appliedSeq);
    switch (step.kind) {
      case 'copy':
        return this.#beginCopy();
      case 'mismatch':
        return { status: 'mismatch', ends: this.#log.epochEnds() };
      case 'append': {
        if (step.truncateAfter !== undefined) {
          const { lastSeq } = this.#log;
          logger.warn({ after: step.truncateAfter, lastSeq }, 'dropping entries that the primary does not have');
          await this.#log.truncateAfter(step.truncateAfter);
          this.#checkFollowing(push);
        }
        if (step.entries.length > 0) await this.#appended(step.entries);
        // What was given up meanwhile is not acknowledged any more.
        this.#checkFollowing(push);
        return this.#followed(push, step.committedSeq);
      }
    }
  }

  async #appended(entries: readonly LogEntry[]): Promise<void> {
    try {
      await this.#log.append(entries);
    } catch (error) {
      // The log in memory has what the file has not: nothing more is said of it.
      this.#o.failed(error);
      throw error;
    }
  }

  /** The log has what the push brought. */
  #followed(push: SyncPush, committedSeq: number): SyncPushReply {
    this.#primarySyncedSeq = push.syncedSeq;
    this.#o.applier.commitSoon(Math.min(committedSeq, this.#log.writtenSeq));
    // What is beyond the message may not be the primary's: only what was compared counts, and only what is written.
    const lastSeq = Math.min(this.#log.writtenSeq, push.prevSeq + push.entries.length);
    this.#o.succession.acknowledges(lastSeq, push.committedSeq, this.#o.failed);
    return { status: 'logged', lastSeq, syncedSeq: Math.min(this.#log.syncedSeq, lastSeq) };
  }

  /** A disk may be slow: pushes that come meanwhile, beacons above all, are not held up by it. */
  async #synced(push: SyncPush, reply: SyncPushReply & { readonly status: 'logged' }): Promise<SyncPushReply> {
    await this.#log.sync();
    this.#checkFollowing(push);
    return { ...reply, syncedSeq: Math.min(this.#log.syncedSeq, reply.lastSeq) };
  }

  #beginCopy(): SyncPushReply {
    if (this.#isForeign) {
      this.#o.setAside();
      return { status: 'copying' };
    }
    const { network, logger, store, head, signal, applier } = this.#o;
    const { primary, id: group } = this.#o.group();
    logger.warn({ group, from: primary }, 'taking a full copy of the metadata');
    // Not awaited: pushes meanwhile are answered with 'copying'. Applying stops of itself.
    this.#copying = Promise.all([applier.running, this.#o.tableIdle()])
      .then(() => takeFullCopy({ network, primary, head, store, log: this.#log, signal }))
      .then(() => {
        this.#damaged = false;
        applier.restart();
        logger.info({ group, seq: store.appliedSeq }, 'the full copy is complete');
      })
      .catch((error: unknown) => {
        logger.warn({ group, error: String(error) }, 'the full copy failed; it starts over');
        // The log takes nothing more: no other copy could be completed.
        if (this.#log.hasFailed) this.#o.failed(error);
      })
      .finally(() => {
        this.#copying = undefined;
      });
    return { status: 'copying' };
  }
}
