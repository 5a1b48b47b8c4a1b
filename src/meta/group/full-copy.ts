/**
 * SyncPull by full copy: the primary's side gives out a snapshot of its table in pieces, the member's side takes it in.
 *
 * The log is pinned from the snapshot on (`pinnedSeq`), so that after the copy the member goes on by log. A copy that
 * nobody continues is dropped after a while, and its pin with it: the member starts over.
 */
import type { CancelSignal } from '../../cancel.ts';
import type { Clock, Random, Timer } from '../../env.ts';
import { CancelledError, UnavailableError } from '../../errors.ts';
import type { NodeId, Seq } from '../../ids.ts';
import type { Network } from '../../net/types.ts';
import type { MetaStore, TableItem } from '../meta-store.ts';
import type { GroupLog } from './log-files.ts';
import { groupMethods, parseSyncPullReply } from './messages.ts';
import type { Head } from './messages.ts';

/** A member asks for the next piece as soon as it has stored one. */
const IDLE_MS = 60_000;
/** One piece: a scan of a megabyte here, a synced batch there. */
const PIECE_TIMEOUT_MS = 15_000;

interface Copy {
  readonly to: NodeId;
  readonly appliedSeq: number;
  readonly appliedEpoch: number;
  readonly chunks: AsyncIterator<readonly TableItem[]>;
  timer: Timer;
}

/** The primary's side. */
export class CopyServer {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #copies = new Map<string, Copy>();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Entries from here on are still needed by a copy under way. */
  get pinnedSeq(): number {
    let pinned = Infinity;
    for (const copy of this.#copies.values()) pinned = Math.min(pinned, copy.appliedSeq + 1);
    return pinned;
  }

  /** The header of the reply: the next piece. The last one has no cursor; its copy stays pinned until it is idle. */
  async next(
    cursor: string | null,
    to: NodeId,
    store: MetaStore,
    log: GroupLog,
  ): Promise<Readonly<Record<string, unknown>>> {
    const id = cursor ?? (await this.#begin(to, store, log));
    const copy = this.#copies.get(id);
    if (copy?.to !== to) throw new UnavailableError('this full copy is no longer open; start it over');
    copy.timer.cancel();
    copy.timer = this.#clock.setTimer(IDLE_MS, () => void this.#end(id));
    const piece = await copy.chunks.next();
    const items = piece.done === true ? [] : piece.value.map(({ key, value }) => [key, value]);
    return {
      cursor: piece.done === true ? null : id,
      appliedSeq: copy.appliedSeq,
      appliedEpoch: copy.appliedEpoch,
      items,
    };
  }

  async #begin(to: NodeId, store: MetaStore, log: GroupLog): Promise<string> {
    // Whoever begins anew has given up what it had begun.
    for (const [id, copy] of this.#copies) if (copy.to === to) void this.#end(id);
    const { appliedSeq, chunks } = await store.export();
    const appliedEpoch = log.epochAt(appliedSeq);
    if (appliedEpoch === undefined) throw new UnavailableError('the log was cut meanwhile; start the copy over');
    const id = Buffer.from(this.#random.bytes(8)).toString('hex');
    const timer = this.#clock.setTimer(IDLE_MS, () => void this.#end(id));
    this.#copies.set(id, { to, appliedSeq, appliedEpoch, chunks: chunks[Symbol.asyncIterator](), timer });
    return id;
  }

  async #end(id: string): Promise<void> {
    const copy = this.#copies.get(id);
    this.#copies.delete(id);
    copy?.timer.cancel();
    await copy?.chunks.return?.();
  }

  async close(): Promise<void> {
    for (const id of [...this.#copies.keys()]) await this.#end(id);
  }
}

export interface TakeFullCopyOptions {
  readonly network: Network;
  readonly primary: NodeId;
  /** Anew for each piece: the group's epoch may change while the copy goes on. */
  readonly head: () => Head;
  readonly store: MetaStore;
  readonly log: GroupLog;
  readonly signal: CancelSignal;
}

/**
 * The member's side: replaces table and log by the primary's. Nothing is touched before the primary has answered. R8:
 * `incomplete` is durable before anything is deleted, and stays until the copy is whole; the log is in its place before
 * that.
 */
export async function takeFullCopy(options: TakeFullCopyOptions): Promise<void> {
  const { network, primary, head, store, log, signal } = options;
  for (let cursor: string | null = null, begun = false; ;) {
    const header = { ...head(), cursor };
    const reply = await network.call(primary, groupMethods.syncPull, header, { timeoutMs: PIECE_TIMEOUT_MS, signal });
    const piece = parseSyncPullReply(reply.header);
    if (!begun) await store.beginImport();
    begun = true;
    if (signal.aborted) throw new CancelledError('the node is stopping');
    if (piece.items.length > 0) await store.importChunk(piece.items);
    if (piece.cursor === null) {
      await log.reset(piece.appliedSeq, piece.appliedEpoch);
      await store.finishImport(piece.appliedSeq as Seq);
      return;
    }
    ({ cursor } = piece);
  }
}
