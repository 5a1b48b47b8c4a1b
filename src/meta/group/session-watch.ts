/**
 * The primary's memory of when it last heard of each session. Liveness is not in the table: a new or restarted primary
 * gives every session a full lease first. Pure.
 */
import type { SessionId } from '../../ids.ts';
import type { SessionInfo } from '../meta-store.ts';

export class SessionWatch {
  readonly #heardMs = new Map<SessionId, number>();
  readonly #expiring = new Set<SessionId>();

  heard(id: SessionId, nowMs: number): void {
    this.#heardMs.set(id, nowMs);
  }

  /** Sessions whose lease has run out, each once; those not heard of since the start begin their lease now. */
  expired(open: readonly SessionInfo[], nowMs: number): SessionId[] {
    const due: SessionId[] = [];
    const known = new Set<SessionId>();
    for (const { id, leaseMs } of open) {
      known.add(id);
      const heardMs = this.#heardMs.get(id);
      if (heardMs === undefined) this.#heardMs.set(id, nowMs);
      else if (nowMs - heardMs > leaseMs && !this.#expiring.has(id)) {
        this.#expiring.add(id);
        due.push(id);
      }
    }
    for (const id of this.#heardMs.keys()) if (!known.has(id)) this.#heardMs.delete(id);
    for (const id of this.#expiring) if (!known.has(id)) this.#expiring.delete(id);
    return due;
  }

  /** Ending it did not work: it is due again. */
  notEnded(id: SessionId): void {
    this.#expiring.delete(id);
  }

  /** This process did not run from `sinceMs` to now: it could not hear anybody, and that time does not count. */
  stalled(sinceMs: number, nowMs: number): void {
    for (const [id, heardMs] of this.#heardMs) this.#heardMs.set(id, Math.min(nowMs, heardMs + nowMs - sinceMs));
  }

  /** A new primary starts all leases anew. */
  clear(): void {
    this.#heardMs.clear();
    this.#expiring.clear();
  }
}
