/**
 * Hears of the servers what other clients change, so that what they told may be kept for longer than the attribute timeout (as AFS
 * does by its callbacks; here the mount asks, several times within that timeout). Only while something is kept: a mount that nobody
 * uses asks nothing.
 *
 * Invariant: what was answered to a question asked at a stamp >= that of the last `begun` is followed: whatever changes after the
 * answer is told by `changed` or `missed`.
 */
import type { Clock, Timer } from '../env.ts';
import type { Ino, SessionId } from '../ids.ts';
import type { QueryOf, QueryResults } from '../meta/types.ts';

/** Longest time between two questions. */
const ASK_EVERY_MS = 250;
/** Of a timeout that others' changes may take until they show. */
const ASKED_WITHIN_TIMEOUT = 4;
/** Nothing is kept for longer than usual once nothing was heard for so long. */
const SILENT_AFTER_MS = 2_000;
/** Deadline of a question: soon after servers can be reached again they are asked again. */
export const ASK_TIMEOUT_MS = 1_500;
/** Asked for at once. */
const CHANGES_LIMIT = 4_096;
/** No client has this one. */
const NOBODY = '0'.repeat(32) as SessionId;

export interface ChangeWatchPorts {
  readonly clock: Clock;
  /** Within {@link ASK_TIMEOUT_MS}. */
  readonly ask: (query: QueryOf<'changes'>) => Promise<QueryResults['changes']>;
  /** An inode number of each group. */
  readonly groups: () => readonly Ino[];
  /** Whose changes are known here. */
  readonly session: () => SessionId;
  /** From now on changes are told. */
  readonly begun: () => void;
  readonly changed: (changes: Pick<QueryResults['changes'], 'inos' | 'names'>) => void;
  /** Something may have changed of which nothing will be told. */
  readonly missed: () => void;
  /** Nothing was heard for a while. What changes meanwhile is told later, if at all. */
  readonly silent: () => void;
}

export interface ChangeWatchOptions {
  /** How long what was told is kept; nothing is watched if that is no longer than the timeout. */
  readonly keptMs: number;
  readonly attrTimeoutMs: number;
}

export class ChangeWatch {
  readonly #ports: ChangeWatchPorts;
  readonly #isWanted: boolean;
  readonly #keptMs: number;
  readonly #askEveryMs: number;
  /** What was heard last, by the group's number. */
  readonly #upTo = new Map<Ino, number>();
  #wantedUntilMs = 0;
  /** When that was asked for which the last answers of all groups told. */
  #heardMs = -Infinity;
  #isRunning = false;
  /** Runs out when nothing is heard. */
  #silence: Timer | undefined;
  #isClosed = false;
  #timer: Timer | undefined;
  /** Copies of #upTo, the older one of at least `keptMs` ago once it is so old. */
  #marks: { readonly atMs: number; readonly upTo: ReadonlyMap<Ino, number> }[] = [];
  #ownToldUntilMs = -Infinity;
  #mustLookBack = false;

  constructor(ports: ChangeWatchPorts, { keptMs, attrTimeoutMs }: ChangeWatchOptions) {
    this.#ports = ports;
    this.#isWanted = attrTimeoutMs > 0 && keptMs > attrTimeoutMs;
    this.#keptMs = keptMs;
    this.#askEveryMs = Math.min(ASK_EVERY_MS, attrTimeoutMs / ASKED_WITHIN_TIMEOUT);
  }

  /** Whether others' changes are told in time. */
  isHeardAt(nowMs: number): boolean {
    return this.#isRunning && nowMs - this.#heardMs <= SILENT_AFTER_MS;
  }

  /** Something was told that is worth keeping. */
  want(nowMs: number): void {
    if (!this.#isWanted || this.#isClosed) return;
    this.#wantedUntilMs = nowMs + this.#keptMs;
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#listen();
  }

  /**
   * It is not known here whether an own change was made, or somebody was told that it was not: own changes of a while ago and of
   * the next time are told as others' are.
   */
  tellOwn(): void {
    const nowMs = this.#ports.clock.monotonicMs();
    this.#mustLookBack ||= nowMs >= this.#ownToldUntilMs;
    this.#ownToldUntilMs = nowMs + 2 * this.#keptMs;
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#silence?.cancel();
  }

  async #listen(): Promise<void> {
    const { clock, groups } = this.#ports;
    const askedMs = clock.monotonicMs();
    const looksBack = this.#mustLookBack;
    this.#mustLookBack = false;
    if (looksBack) for (const [group, seq] of this.#marks[0]?.upTo ?? []) this.#upTo.set(group, seq);
    try {
      await Promise.all(groups().map((group) => this.#hear(group)));
      this.#heard(askedMs);
    } catch {
      // Whoever asks for something else is told what is wrong.
    }
    const nowMs = clock.monotonicMs();
    if (this.#isClosed) return;
    if (nowMs < this.#wantedUntilMs) {
      this.#timer = clock.setTimer(this.#askEveryMs, () => void this.#listen());
      return;
    }
    // Nothing is kept any more.
    this.#isRunning = false;
    this.#silence?.cancel();
    this.#heardMs = -Infinity;
    this.#upTo.clear();
    this.#marks = [];
  }

  /** What was asked for then has been told. A question may hang for long, so that it is the clock that says when none was answered. */
  #heard(askedMs: number): void {
    const { clock, silent } = this.#ports;
    if (this.#isClosed) return;
    this.#heardMs = askedMs;
    this.#silence?.cancel();
    this.#silence = clock.setTimer(Math.max(0, askedMs + SILENT_AFTER_MS - clock.monotonicMs()), silent);
    const last = this.#marks.at(-1);
    if (last !== undefined && askedMs - last.atMs < this.#keptMs) return;
    this.#marks = [...this.#marks.slice(-1), { atMs: askedMs, upTo: new Map(this.#upTo) }];
  }

  async #hear(group: Ino): Promise<void> {
    const { ask, begun, changed, missed } = this.#ports;
    for (let isMore = true; isMore && !this.#isClosed;) {
      const after = this.#upTo.get(group);
      const asked = { op: 'changes', ino: group, session: this.#silentAbout(), limit: CHANGES_LIMIT } as const;
      const { inos, names, upToSeq, missed: hasMissed } = await ask(after === undefined ? asked : { ...asked, after });
      this.#upTo.set(group, upToSeq);
      if (hasMissed) missed();
      if (inos.length + names.length > 0) changed({ inos, names });
      if (after === undefined || hasMissed) begun();
      isMore = inos.length + names.length >= CHANGES_LIMIT;
    }
  }

  #silentAbout(): SessionId {
    const { clock, session } = this.#ports;
    return clock.monotonicMs() < this.#ownToldUntilMs ? NOBODY : session();
  }
}
