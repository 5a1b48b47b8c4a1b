/**
 * R5: the right to answer, and when another may take it over. Pure.
 *
 * A primary answers only while less than LEASE_MS has passed since it *sent* the latest push that its secondary
 * acknowledged. The secondary proposes itself only when nothing has *arrived* for GRACE_MS, and a new primary serves
 * only TAKEOVER_WAIT_MS after it last acknowledged anything to an older one. Sent is before acknowledged, so whatever the
 * network delays, the old lease has run out before the new one begins, if no clock runs more than half as fast again as
 * another. (Leases as in GFS and Chubby; sent-time renewal as in PacificA.)
 */
import { invariant } from '../../errors.ts';

/** Short, as a fail-over takes about twice this; long, as a healthy process under load pauses for less. */
export const LEASE_MS = 1_000;
/** How much faster one monotonic clock may run than another. */
const CLOCK_RATIO = 1.5;
export const TAKEOVER_WAIT_MS = CLOCK_RATIO * LEASE_MS;
/** Seven beacons: no healthy primary is silent for that long, so nobody is deposed lightly. */
export const GRACE_MS = 1_750;
/** A wall clock that outruns the monotonic one by more than this was suspended, or was set: both end the lease. */
const SUSPENDED_MS = 300;

invariant(GRACE_MS >= CLOCK_RATIO * LEASE_MS, 'R5', 'grace is at least 1.5 leases');

export class Lease {
  #untilMs = -Infinity;
  #droppedMs = -Infinity;

  /** What was sent at `sentMs` was acknowledged by whoever grants this lease. Answers may overtake each other. */
  granted(sentMs: number): void {
    if (sentMs > this.#droppedMs) this.#untilMs = Math.max(this.#untilMs, sentMs + LEASE_MS);
  }

  /** Whoever granted it no longer does. */
  drop(): void {
    this.#untilMs = -Infinity;
  }

  /** The machine slept: answers to what was sent before are still to be read, and only by its clock they are fresh. */
  slept(nowMs: number): void {
    this.drop();
    this.#droppedMs = nowMs;
  }

  holds(nowMs: number): boolean {
    return nowMs < this.#untilMs;
  }
}

/** Tells whether the machine slept: its wall clock has then gone on while the monotonic one stood still. */
export class SuspendWatch {
  /** Wall minus monotonic, as last seen. */
  #aheadMs: number | undefined;

  /** To be asked before a lease is relied on. */
  wasSuspended(nowMs: number, wallNs: bigint): boolean {
    const aheadMs = Number(wallNs / 1_000_000n) - nowMs;
    const before = this.#aheadMs;
    this.#aheadMs = aheadMs;
    return before !== undefined && aheadMs - before > SUSPENDED_MS;
  }
}
