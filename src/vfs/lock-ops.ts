/**
 * Locks of one mount: asked for at the group, which grants them to this mount's session, and remembered here only as far
 * as it is needed to give them up. What the kernel calls the owner is a process (fcntl) or an open file (flock).
 *
 * Locks are how programs on several machines take turns with a file, so with each of them:
 * - before a lock is changed or given up, what was written under it is committed, so that the next holder sees it;
 * - once it is granted, attributes, extents and the kernel's pages of the file are as of now;
 * - when the session is lost (the servers did not hear of this mount for too long), so are its locks, and others may have
 *   written since. What was not committed is lost, and the handles through which locks were taken fail until they are
 *   closed: a program that believes it holds a lock must not go on;
 * - while that is not known (no server was heard of for a lease), nothing that is kept here is read under a lock.
 */
import type { CancelSignal } from '../cancel.ts';
import { CancelledError, FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, REQUESTS_PER_CONNECTION_MAX } from '../limits.ts';
import { conflictOf, LOCK_END_MAX, withRequest, type HeldLock, type LockKind } from '../meta/locks.ts';
import type { Attr, OwnLockRequest } from '../meta/types.ts';
import { interruptible, withDeadline } from './async.ts';
import type { FileData } from './file-data.ts';
import { pauseMs, toFsError } from './fs-errors.ts';
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

/** What one owner holds of one file through this mount, as far as is known. */
interface Holding {
  readonly file: FileData;
  readonly kind: LockKind;
  readonly owner: bigint;
  readonly pid: number;
  held: readonly HeldLock[];
  /** More may be held: an answer was lost. */
  uncertain: boolean;
  /** Questions on their way. */
  asking: number;
  /** Told when none is. */
  readonly idle: (() => void)[];
  /** Open files through which it was asked for. */
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
    state.meta.onSessionDoubtful?.(() => this.#sessionDoubtful());
  }

  /** Nobody has asked for a lock that was not given up. */
  get isIdle(): boolean {
    return this.#holdings.size === 0;
  }

  /** EIO if a lock that was taken through this handle may be another's by now: what is kept here may be older than what that has written. */
  checkCertain(handle: Handle): void {
    if (this.#state.meta.isSessionDoubtful !== true) return;
    const opened = this.#state.handles.file(handle);
    for (const holding of this.#holdings.values()) {
      if (!mayHold(holding) || !holding.handles.has(opened)) continue;
      throw new FsError('EIO', 'the lock on this file may be lost: no server has answered for longer than it lasts', {
        remedy: 'It is read again once the servers can be reached; see `tatami status`.',
      });
    }
  }

  /** F_GETLK: the first lock that is in the way, or type unlock. Processes of other machines have no number here: 0. */
  async getlk(caller: Caller, handle: Handle, { kind, owner }: LockOwner, lock: FileLock): Promise<FileLock> {
    const { ino } = this.#state.handles.file(handle).inode;
    const { files } = await this.#state.query<'locks'>({ op: 'locks', ino, lastIno: ino, limit: 1 }, caller.signal);
    const session = this.#state.meta.sessionId;
    const found = conflictOf(files[0]?.locks ?? [], { ...lock, kind, owner, session });
    if (found === undefined) return { ...lock, type: 'unlock' };
    const { type, start, end } = found;
    return { type, start, end, pid: found.session === session ? found.pid : 0 };
  }

  /**
   * F_SETLK, F_SETLKW and flock(2). A signal ends the wait for others, and for servers that are away, but not a question that
   * is on its way: what was granted is told. EAGAIN, EDEADLK, EINTR, ENOLCK; EIO when the servers cannot be reached.
   */
  async setlk(
    caller: Caller,
    handle: Handle,
    { kind, owner }: LockOwner,
    lock: FileLock,
    wait: boolean,
  ): Promise<void> {
    const opened = this.#state.handles.file(handle);
    this.#state.writeBack.ended(opened.file, caller.pid);
    await this.#bounded(caller.signal, this.#state.writeBack.flush(opened.file));
    const request: OwnLockRequest = { kind, owner, ...lock };
    for (;;) {
      opened.checkLocks();
      if (opened.isReleased) throw new FsError('EBADF', 'the file was closed meanwhile');
      await this.#bounded(caller.signal, this.#find(opened, request)?.releasing);
      if (lock.type === 'unlock') return await this.#unlock(opened, request);
      const answer = await this.#tryLock(opened, request);
      if (answer === 'granted') return;
      if (answer === 'again') continue;
      // As the kernel does with local files: two readers that both want to write would else wait for each other for ever.
      if (kind === 'flock') await this.#unlock(opened, { ...request, ...WHOLE_FILE });
      if (!wait) throw new FsError('EAGAIN', 'another holds the lock');
      await this.#waitFor(caller.signal, opened.inode.ino, request);
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
    opened.isReleased = true;
    if (!opened.hasLocked) return;
    for (const holding of this.#holdings.values()) {
      if (holding.handles.delete(opened) && holding.handles.size === 0) this.#releaseLater(holding);
    }
  }

  /** Fails if it is not known whether it was granted, and is then given up with the rest. */
  async #tryLock(opened: FileHandle, lock: OwnLockRequest): Promise<'granted' | 'refused' | 'again'> {
    const { ino } = opened.inode;
    const era = this.#era;
    let holding = this.#holdingOf(opened, lock);
    holding.asking += 1;
    const stillThere = (): boolean => {
      if (era === this.#era) return true;
      // The session was lost meanwhile. The question may have been asked again under the next one, and granted.
      this.#asked(holding);
      holding = this.#holdingOf(opened, lock);
      holding.asking += 1;
      holding.uncertain = true;
      return false;
    };
    try {
      const askedAt = this.#state.inodes.stamp();
      const { attr } = await this.#state.mutate({ op: 'lock', ino, lock });
      if (!stillThere()) return 'again';
      holding.held = withRequest(holding.held, { ...lock, session: this.#state.meta.sessionId });
      if (attr !== undefined) await this.#refresh(opened, attr, askedAt);
      return 'granted';
    } catch (error) {
      if (error instanceof FsError && error.code === 'EAGAIN') return 'refused';
      const isAnswer = error instanceof FsError && error.cause === undefined;
      if (!isAnswer && stillThere()) holding.uncertain = true;
      throw error;
    } finally {
      this.#asked(holding);
      // Nobody is left who could give it up, or who may use it.
      if ([...holding.handles].every(({ locksLost }) => locksLost)) this.#releaseLater(holding);
    }
  }

  #asked(holding: Holding): void {
    holding.asking -= 1;
    if (holding.asking > 0) return;
    for (const told of holding.idle.splice(0)) told();
    this.#dropIfIdle(holding);
  }

  /** What is known of the file is as of now, and no answer to an earlier question changes that. */
  async #refresh(opened: FileHandle, attr: Attr, askedAt: number): Promise<void> {
    const { inodes, clock, limits, watched } = this.#state;
    const { notifier } = watched.kernel;
    const inode = inodes.accept(attr, askedAt, clock.monotonicMs() + limits.attrTimeoutMs, true);
    const { version } = inode.attr;
    if (inode.pageVersion === version) {
      await notifier?.invalidateAttributes(opened.inode.ino);
    } else {
      await notifier?.invalidateInode(opened.inode.ino);
      // Not before: an open meanwhile would keep pages that are still to be dropped.
      inode.pageVersion = version;
    }
  }

  async #waitFor(signal: CancelSignal | undefined, ino: Ino, lock: OwnLockRequest): Promise<void> {
    // Longer than the primary takes to say that nothing has changed.
    const timeoutMs = Math.max(stepTimeoutMs(this.#state.limits), ATTEMPT_TIMEOUT_MS);
    let answer;
    this.#waiting += 1;
    try {
      if (this.#waiting > WAITING_MAX_COUNT) return await this.#state.clock.sleep(ASK_AGAIN_MS, signal);
      const options = signal === undefined ? { timeoutMs } : { timeoutMs, signal };
      answer = await this.#state.meta.waitForLock(ino, lock, options);
    } catch (error) {
      throw toFsError(error, 'waiting for a lock');
    } finally {
      this.#waiting -= 1;
    }
    // Otherwise it is asked for again, also if nothing was heard for a while: that it may be had can have been missed.
    if (answer === 'deadlock') throw new FsError('EDEADLK', 'who holds the lock waits for this process');
  }

  async #unlock(opened: FileHandle, request: OwnLockRequest): Promise<void> {
    const holding = this.#find(opened, request);
    // Nothing was asked for, so nothing is held.
    if (holding === undefined) return;
    const era = this.#era;
    const lock = { ...request, type: 'unlock' } as const;
    await this.#state.mutate({ op: 'lock', ino: opened.inode.ino, lock });
    if (era !== this.#era) return;
    holding.held = withRequest(holding.held, { ...lock, session: this.#state.meta.sessionId });
    if (request.start === 0 && request.end === LOCK_END_MAX) holding.uncertain = false;
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

  #releaseLater(holding: Holding): void {
    if (mayHold(holding) || holding.asking > 0) this.#state.background(this.#release(holding));
  }

  async #releaseNow(holding: Holding): Promise<void> {
    const { kind, owner, pid, file } = holding;
    const { ino } = file.inode;
    const era = this.#era;
    const lock = { kind, owner, pid, type: 'unlock', ...WHOLE_FILE } as const;
    // What was written under it, through whichever handle, is committed before others may have it.
    await this.#state.writeBack.flush(file);
    for (let attempt = 0; era === this.#era; attempt++) {
      // A question on its way could be granted after it was given up.
      while (holding.asking > 0) await new Promise<void>((told) => holding.idle.push(told));
      if (era !== this.#era || !mayHold(holding)) return;
      try {
        await this.#state.meta.mutate({ op: 'lock', ino, lock }, { timeoutMs: stepTimeoutMs(this.#state.limits) });
        holding.held = [];
        holding.uncertain = false;
      } catch (error) {
        // The mount has ended, and its session with it.
        if (era !== this.#era || error instanceof CancelledError) return;
        this.#state.log.warn({ ino, error: String(error) }, 'a lock could not be given up yet');
        await this.#state.clock.sleep(pauseMs(attempt));
      }
    }
  }

  /** The promise within the deadline of an operation, or until a signal. */
  async #bounded(signal: CancelSignal | undefined, work: Promise<void> | undefined): Promise<void> {
    if (work === undefined) return;
    const { clock, limits } = this.#state;
    const bounded = withDeadline(clock, limits.timeoutMs, 'giving up a lock before', () => work);
    try {
      await interruptible(bounded, signal);
    } catch (error) {
      throw toFsError(error, 'setting a lock');
    }
  }

  #find({ inode }: FileHandle, { kind, owner }: OwnLockRequest): Holding | undefined {
    return this.#holdings.get(keyOf(inode.ino, kind, owner));
  }

  #holdingOf(opened: FileHandle, request: OwnLockRequest): Holding {
    const { kind, owner, pid } = request;
    let holding = this.#find(opened, request);
    if (holding === undefined) {
      const { file } = opened;
      const handles = new Set<FileHandle>();
      holding = {
        file,
        kind,
        owner,
        pid,
        held: [],
        uncertain: false,
        asking: 0,
        idle: [],
        handles,
        releasing: undefined,
      };
      this.#holdings.set(keyOf(opened.inode.ino, kind, owner), holding);
    }
    opened.hasLocked = true;
    opened.inode.isLockedHere = true;
    if (!opened.isReleased) holding.handles.add(opened);
    return holding;
  }

  #dropIfIdle(holding: Holding): void {
    if (holding.asking > 0 || mayHold(holding) || holding.releasing !== undefined) return;
    const key = keyOf(holding.file.inode.ino, holding.kind, holding.owner);
    if (this.#holdings.get(key) === holding) this.#holdings.delete(key);
  }

  /** Programs with locks are to ask here, and not to find in the kernel's pages what may be old. */
  #sessionDoubtful(): void {
    for (const holding of this.#holdings.values()) {
      if (mayHold(holding)) this.#state.dropPages(holding.file.inode);
    }
  }

  #sessionLost(): void {
    this.#era += 1;
    for (const holding of this.#holdings.values()) {
      if (!mayHold(holding)) continue;
      for (const opened of holding.handles) opened.locksLost = true;
      const { ino } = holding.file.inode;
      const path = this.#state.knownPath(ino) ?? `inode ${ino}`;
      this.#state.log.error({ path }, 'locks were lost with the session: what holds them fails until it is closed');
    }
    this.#holdings.clear();
  }
}

function mayHold({ held, uncertain }: Holding): boolean {
  return held.length > 0 || uncertain;
}

function keyOf(ino: Ino, kind: LockKind, owner: bigint): string {
  return `${ino} ${kind} ${owner}`;
}
