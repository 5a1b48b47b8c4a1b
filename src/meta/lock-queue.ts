/**
 * Those who wait for locks, at the primary, in the order in which they came. It grants nothing: it calls a waiter when
 * its lock may be had, which then asks for it as anybody would (mutation `lock`). So what is held is in the table alone,
 * and what is here may be lost with the primary: the waiters come back to the next one. Pure.
 *
 * Called waiters are counted as holders for a moment, so that of many who want the same lock one is called, not all.
 */
import type { Ino } from '../ids.ts';
import { excludes, isSameOwner, type HeldLock, type LockOwner, type LockRequest } from './locks.ts';

/** A waiter that was called has this long to take its lock before others are called. */
export const CALLED_MS = 500;
/** A waiter that does not ask again within this has gone away. */
export const WAITER_GONE_MS = 5_000;
/** Waiters of a group, at most; beyond it they are told to ask again later, which they would anyway. */
export const WAITERS_MAX_COUNT = 10_000;

export interface LockQueuePorts {
  /** Held now, as applied. */
  readonly locksOf: (ino: Ino) => readonly HeldLock[];
  readonly nowMs: () => number;
}

interface Waiter {
  readonly ino: Ino;
  readonly wanted: LockRequest;
  /** It was told to take its lock, at this time. */
  calledMs: number | undefined;
  /** When it was last here. */
  seenMs: number;
  /** While it listens. */
  call: (() => void) | undefined;
}

export class LockQueue {
  readonly #ports: LockQueuePorts;
  readonly #byFile = new Map<Ino, Waiter[]>();
  #count = 0;

  constructor(ports: LockQueuePorts) {
    this.#ports = ports;
  }

  /** Those that wait, or were called and have not come yet. */
  get waiterCount(): number {
    return this.#count;
  }

  /**
   * `free`: the lock may be had. `deadlock`: whoever holds it waits for this owner, directly or by way of others.
   * `held`: `call` is called, once, when it may be had; after {@link LockQueue.pause} no more, but the place is kept.
   */
  wait(ino: Ino, wanted: LockRequest, call: () => void): 'free' | 'deadlock' | 'held' {
    const nowMs = this.#ports.nowMs();
    this.#dropGone(ino, nowMs);
    const waiter = this.#find(ino, wanted) ?? this.#add(ino, wanted, nowMs);
    if (waiter === undefined) return 'held';
    waiter.seenMs = nowMs;
    waiter.calledMs = undefined;
    if (wanted.kind === 'posix' && this.#waitsForItself(waiter)) {
      this.leave(ino, wanted);
      return 'deadlock';
    }
    waiter.call = call;
    this.#callThose(ino, nowMs);
    return waiter.call === undefined ? 'free' : 'held';
  }

  /** It does not listen any more, but will ask again. `call`: of the question that ends; nothing to do if it has asked anew since. */
  pause(ino: Ino, wanted: LockRequest, call?: () => void): void {
    const waiter = this.#find(ino, wanted);
    if (waiter === undefined || isAskedAnew(waiter, call)) return;
    waiter.call = undefined;
    waiter.seenMs = this.#ports.nowMs();
  }

  /** It does not want the lock any more. `call` as for pause. */
  leave(ino: Ino, wanted: LockRequest, call?: () => void): void {
    const waiter = this.#find(ino, wanted);
    if (waiter === undefined || isAskedAnew(waiter, call)) return;
    this.#remove(waiter);
    // Others may have waited only because this one was called before them.
    if (waiter.calledMs !== undefined) this.#callThose(ino, this.#ports.nowMs());
  }

  /** What is held of the file has changed. */
  relocked(ino: Ino): void {
    const waiters = this.#byFile.get(ino);
    if (waiters === undefined) return;
    const held = this.#ports.locksOf(ino);
    for (const waiter of [...waiters]) {
      if (!held.some((lock) => isOf(lock, waiter.wanted))) continue;
      // Called or not: it may have come by itself, or another thread of the same process, and then it has it, too.
      this.#remove(waiter);
      waiter.call?.();
    }
    this.#callThose(ino, this.#ports.nowMs());
  }

  /** Looks after waiters that were called, or are gone; to be called every so often. */
  tick(): void {
    const nowMs = this.#ports.nowMs();
    // Others wait for who is gone only if it was called.
    for (const ino of [...this.#byFile.keys()]) if (this.#dropGone(ino, nowMs)) this.#callThose(ino, nowMs);
  }

  #callThose(ino: Ino, nowMs: number): void {
    const waiters = this.#byFile.get(ino);
    if (waiters === undefined) return;
    const held = this.#ports.locksOf(ino);
    const called = waiters.filter(({ calledMs }) => calledMs !== undefined && nowMs - calledMs < CALLED_MS);
    for (const waiter of [...waiters]) {
      if (waiter.call === undefined) continue;
      const { wanted } = waiter;
      if (held.some((lock) => excludes(lock, wanted))) continue;
      if (called.some((other) => excludes(heldBy(other.wanted), wanted))) continue;
      const { call } = waiter;
      waiter.call = undefined;
      waiter.calledMs = nowMs;
      called.push(waiter);
      call();
    }
  }

  /**
   * Whether one of those who exclude it waits for it; over any number of steps. Who only keeps a place does not count: it may
   * have been interrupted, and if it still wants the lock its next question finds the circle.
   */
  #waitsForItself(from: Waiter): boolean {
    const byOwner = new Map<string, Waiter[]>();
    for (const waiter of [...this.#byFile.values()].flat()) {
      if (waiter.wanted.kind !== 'posix' || waiter.call === undefined) continue;
      const key = ownerKey(waiter.wanted);
      const others = byOwner.get(key);
      if (others === undefined) byOwner.set(key, [waiter]);
      else others.push(waiter);
    }
    const held = new Map<Ino, readonly HeldLock[]>();
    const own = ownerKey(from.wanted);
    const looked = new Set<string>();
    const next: Waiter[] = [from];
    for (let waiter = next.pop(); waiter !== undefined; waiter = next.pop()) {
      const { ino, wanted } = waiter;
      const locks = held.get(ino) ?? this.#ports.locksOf(ino);
      held.set(ino, locks);
      for (const lock of locks) {
        if (!excludes(lock, wanted)) continue;
        const key = ownerKey(lock);
        if (key === own) return true;
        if (looked.has(key)) continue;
        looked.add(key);
        next.push(...(byOwner.get(key) ?? []));
      }
    }
    return false;
  }

  #find(ino: Ino, wanted: LockRequest): Waiter | undefined {
    return this.#byFile.get(ino)?.find((waiter) => isSameRequest(waiter.wanted, wanted));
  }

  #add(ino: Ino, wanted: LockRequest, nowMs: number): Waiter | undefined {
    if (this.#count >= WAITERS_MAX_COUNT) return undefined;
    const waiter: Waiter = { ino, wanted, calledMs: undefined, seenMs: nowMs, call: undefined };
    const waiters = this.#byFile.get(ino);
    if (waiters === undefined) this.#byFile.set(ino, [waiter]);
    else waiters.push(waiter);
    this.#count++;
    return waiter;
  }

  #remove(waiter: Waiter): void {
    const waiters = this.#byFile.get(waiter.ino)?.filter((other) => other !== waiter) ?? [];
    if (waiters.length > 0) this.#byFile.set(waiter.ino, waiters);
    else this.#byFile.delete(waiter.ino);
    this.#count--;
  }

  /** True if any was. */
  #dropGone(ino: Ino, nowMs: number): boolean {
    let dropped = false;
    for (const waiter of this.#byFile.get(ino) ?? []) {
      if (waiter.call !== undefined) continue;
      const goneMs = waiter.calledMs === undefined ? waiter.seenMs + WAITER_GONE_MS : waiter.calledMs + CALLED_MS;
      if (nowMs < goneMs) continue;
      this.#remove(waiter);
      dropped = true;
    }
    return dropped;
  }
}

function isAskedAnew({ call }: Waiter, ended: (() => void) | undefined): boolean {
  return ended !== undefined && call !== undefined && call !== ended;
}

function ownerKey({ session, owner }: LockOwner): string {
  return `${session} ${owner}`;
}

/** The lock that the request asks for is among those held. */
function isOf(lock: HeldLock, wanted: LockRequest): boolean {
  return (
    lock.kind === wanted.kind &&
    lock.type === wanted.type &&
    isSameOwner(lock, wanted) &&
    lock.start <= wanted.start &&
    lock.end >= wanted.end
  );
}

function heldBy(wanted: LockRequest): HeldLock {
  return { ...wanted, type: wanted.type === 'write' ? 'write' : 'read' };
}

function isSameRequest(a: LockRequest, b: LockRequest): boolean {
  return a.kind === b.kind && a.type === b.type && a.start === b.start && a.end === b.end && isSameOwner(a, b);
}
