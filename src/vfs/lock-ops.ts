/**
 * Locks of one mount: asked for at the group, which grants them to this mount's session, and remembered here only as far
 * as it is needed to give them up. What the kernel calls the owner is a process (fcntl) or an open file (flock).
 *
 * Locks are how programs on several machines take turns with a file, so with each of them:
 * - before a lock is changed or given up, what was written under it is committed, so that the next holder sees it;
 * - once it is granted, attributes, extents and the kernel's pages of the file are as of now;
 * - when the session is lost (the servers did not hear of this mount for too long), so are its locks, and others may have
 *   written since. What was not committed is lost, and the handles through which locks were taken fail until they are
 *   closed: a program that believes it holds a lock must not go on.
 */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { REQUESTS_PER_CONNECTION_MAX } from '../limits.ts';
import { conflictOf, LOCK_END_MAX, type LockKind } from '../meta/locks.ts';
import type { Attr, OwnLockRequest } from '../meta/types.ts';
import { mayPass, pauseMs, toFsError } from './fs-errors.ts';
import type { FileHandle } from './handles.ts';
import type { MountState } from './mount-state.ts';
import type { Caller, FileLock, Handle, LockOwner, Maybe } from './ops.ts';
import { stepTimeoutMs } from './options.ts';

/**
 * Questions that wait at the primary at once: they share a connection with all others, which may have some more on their
 * way (REQUESTS_PER_CONNECTION_MAX). Whoever comes beyond asks for its lock again after a pause.
 */
const WAITING_MAX_COUNT = REQUESTS_PER_CONNECTION_MAX / 4;
const ASK_AGAIN_MS = 500;
const WHOLE_FILE = { start: 0, end: LOCK_END_MAX };

/** What one owner may hold of one file. */
interface Holding {
  readonly ino: Ino;
  readonly kind: LockKind;
  readonly owner: bigint;
  readonly pid: number;
  /** Questions on their way. */
  asking: number;
  /** Something may be held: it was granted, or whether it was is not known. */
  mayHold: boolean;
  /** Through which it was asked for. */
  readonly handles: Set<FileHandle>;
  /** It is being given up: what comes after has to wait. */
  releasing: Promise<void> | undefined;
}

export class LockOps {
  readonly #state: MountState;
  readonly #holdings = new Map<string, Holding>();
  /** Grows with each session that was lost. */
  #era = 0;
  /** Callers that wait for others to give up their locks. */
  #waiting = 0;

  constructor(state: MountState) {
    this.#state = state;
    state.meta.onSessionLost?.(() => this.#sessionLost());
  }

  /** Nobody has asked for a lock that was not given up. */
  get isIdle(): boolean {
    return this.#holdings.size === 0;
  }

  /** F_GETLK: the first lock that is in the way, or type unlock. */
  async getlk(caller: Caller, handle: Handle, { kind, owner }: LockOwner, lock: FileLock): Promise<FileLock> {
    const { ino } = this.#state.handles.file(handle).inode;
    const { files } = await this.#state.query<'locks'>({ op: 'locks', ino, lastIno: ino, limit: 1 }, caller.signal);
    const wanted = { ...lock, kind, owner, session: this.#state.meta.sessionId };
    const found = conflictOf(files[0]?.locks ?? [], wanted);
    if (found === undefined) return { ...lock, type: 'unlock' };
    const { type, start, end, pid } = found;
    return { type, start, end, pid };
  }

  /**
   * F_SETLK, F_SETLKW and flock(2). Of a waiting one only the wait is interrupted: what was granted is told.
   * EAGAIN, EDEADLK, EINTR, ENOLCK; EIO when the servers cannot be reached.
   */
  async setlk(
    caller: Caller,
    handle: Handle,
    { kind, owner }: LockOwner,
    lock: FileLock,
    wait: boolean,
  ): Promise<void> {
    const opened = this.#state.handles.file(handle);
    await this.#state.writeBack.flush(opened.file);
    const request: OwnLockRequest = { kind, owner, ...lock };
    if (lock.type === 'unlock') return await this.#unlock(opened.inode.ino, request);
    for (;;) {
      opened.checkLocks();
      const answer = await this.#tryLock(opened, request);
      if (answer === 'granted') return;
      if (answer === 'again') continue;
      if (!wait) throw new FsError('EAGAIN', 'another holds the lock');
      const { ino } = opened.inode;
      // As the kernel does with local files: two readers that both want to write would else wait for each other for ever.
      if (kind === 'flock') await this.#unlock(ino, { ...request, ...WHOLE_FILE });
      await this.#waitFor(caller, ino, request);
    }
  }

  /** Each close(2) of a process: all that it has of the file is given up. */
  closed(handle: Handle, owner: bigint): Maybe<void> {
    const ino = this.#state.handles.inoOf(handle);
    const holding = ino === undefined ? undefined : this.#holdings.get(keyOf(ino, 'posix', owner));
    return holding === undefined ? undefined : this.#release(holding);
  }

  /**
   * The last close: locks of the open file (flock, and those of fcntl that the kernel calls open file description locks).
   * Processes have given theirs up before.
   */
  released(opened: FileHandle): void {
    if (!opened.hasLocked) return;
    for (const holding of this.#holdings.values()) {
      if (!holding.handles.delete(opened) || holding.handles.size > 0) continue;
      this.#state.background(this.#release(holding));
    }
  }

  /** Fails if it is not known whether it was granted, and is then given up with the rest. */
  async #tryLock(opened: FileHandle, lock: OwnLockRequest): Promise<'granted' | 'refused' | 'again'> {
    const holding = this.#holdingOf(opened, lock);
    const { ino } = holding;
    holding.asking += 1;
    const era = this.#era;
    try {
      await holding.releasing;
      const askedAt = this.#state.inodes.stamp();
      const { attr } = await this.#state.mutate({ op: 'lock', ino, lock });
      // Of a session that is lost: so is the lock.
      if (era !== this.#era) return 'again';
      holding.mayHold = true;
      if (attr !== undefined) await this.#refresh(opened, attr, askedAt);
      return 'granted';
    } catch (error) {
      if (error instanceof FsError && error.code === 'EAGAIN') return 'refused';
      const isAnswer = error instanceof FsError && error.cause === undefined;
      if (!isAnswer && era === this.#era) holding.mayHold = true;
      throw error;
    } finally {
      holding.asking -= 1;
      this.#dropIfIdle(holding);
    }
  }

  /** What is known of the file is as of now. */
  async #refresh(opened: FileHandle, attr: Attr, askedAt: number): Promise<void> {
    const inode = this.#state.learn(attr, askedAt);
    const { notifier } = this.#state;
    const isNew = inode.pageVersion !== inode.attr.version;
    inode.pageVersion = inode.attr.version;
    if (isNew) await notifier?.invalidateInode(opened.inode.ino);
    else await notifier?.invalidateAttributes(opened.inode.ino);
  }

  async #waitFor(caller: Caller, ino: Ino, lock: OwnLockRequest): Promise<void> {
    const { signal } = caller;
    const timeoutMs = stepTimeoutMs(this.#state.limits);
    let answer;
    this.#waiting += 1;
    try {
      if (this.#waiting > WAITING_MAX_COUNT) return await this.#state.clock.sleep(ASK_AGAIN_MS, signal);
      answer = await this.#state.meta.waitForLock(ino, lock, {
        timeoutMs,
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      throw toFsError(error, 'waiting for a lock');
    } finally {
      this.#waiting -= 1;
    }
    // Otherwise it is asked for again, also if nothing was heard for a while: that it may be had can have been missed.
    if (answer === 'deadlock') throw new FsError('EDEADLK', 'who holds the lock waits for this process');
  }

  async #unlock(ino: Ino, request: OwnLockRequest): Promise<void> {
    const holding = this.#holdings.get(keyOf(ino, request.kind, request.owner));
    // Nothing was asked for, so nothing is held.
    if (holding === undefined) return;
    await holding.releasing;
    const era = this.#era;
    await this.#state.mutate({ op: 'lock', ino, lock: { ...request, type: 'unlock' } });
    if (era !== this.#era || request.start > 0 || request.end < LOCK_END_MAX) return;
    holding.mayHold = false;
    this.#dropIfIdle(holding);
  }

  /** Gives up all of it. If that cannot be done now it is tried until it can, or the session is over: others wait for it. */
  #release(holding: Holding): Promise<void> {
    holding.releasing ??= this.#releaseNow(holding).finally(() => {
      holding.releasing = undefined;
      this.#dropIfIdle(holding);
    });
    return holding.releasing;
  }

  async #releaseNow(holding: Holding): Promise<void> {
    const { kind, owner, pid, ino } = holding;
    const era = this.#era;
    const lock = { kind, owner, pid, type: 'unlock', ...WHOLE_FILE } as const;
    for (let attempt = 0; era === this.#era && (holding.mayHold || holding.asking > 0); attempt++) {
      try {
        await this.#state.meta.mutate({ op: 'lock', ino, lock }, { timeoutMs: stepTimeoutMs(this.#state.limits) });
        holding.mayHold = false;
        break;
      } catch (error) {
        if (era !== this.#era || !mayPass(error)) break;
        this.#state.log.warn({ ino, error: String(error) }, 'a lock could not be given up yet');
        await this.#state.clock.sleep(pauseMs(attempt));
      }
    }
  }

  #holdingOf(opened: FileHandle, { kind, owner, pid }: OwnLockRequest): Holding {
    const { ino } = opened.inode;
    const key = keyOf(ino, kind, owner);
    let holding = this.#holdings.get(key);
    if (holding === undefined) {
      holding = { ino, kind, owner, pid, asking: 0, mayHold: false, handles: new Set(), releasing: undefined };
      this.#holdings.set(key, holding);
    }
    holding.handles.add(opened);
    opened.hasLocked = true;
    return holding;
  }

  #dropIfIdle(holding: Holding): void {
    const { ino, kind, owner, asking, mayHold, releasing } = holding;
    if (asking > 0 || mayHold || releasing !== undefined) return;
    const key = keyOf(ino, kind, owner);
    if (this.#holdings.get(key) === holding) this.#holdings.delete(key);
  }

  #sessionLost(): void {
    this.#era += 1;
    for (const { ino, mayHold, handles } of this.#holdings.values()) {
      if (!mayHold) continue;
      for (const opened of handles) opened.locksLost = true;
      const path = this.#state.knownPath(ino) ?? `inode ${ino}`;
      this.#state.log.error({ path }, 'locks were lost with the session: what holds them fails until it is closed');
    }
    this.#holdings.clear();
  }
}

function keyOf(ino: Ino, kind: LockKind, owner: bigint): string {
  return `${ino} ${kind} ${owner}`;
}
