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
/**
 * Where wall clock and monotonic clock part by more than this within a lease, the machine was suspended, or its clock was
 * set: both end the lease. More than what a clock gains or loses that is being corrected (at most a twelfth).
 */
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

/**
 * Tells whether the machine slept: its wall clock has then gone on while the monotonic one stood still. A clock that is set
 * back may hide a sleep, and short sleeps add up; so the two may not part either way, nor bit by bit.
 */
export class SuspendWatch {
  /** Wall minus monotonic, as it was up to two leases ago and up to one. */
  #olderMs: number | undefined;
  #newerMs = 0;
  #newerAtMs = 0;

  /** To be asked before a lease is relied on. */
  wasSuspended(nowMs: number, wallNs: bigint): boolean {
    const aheadMs = Number(wallNs / 1_000_000n) - nowMs;
    const olderMs = this.#olderMs ?? aheadMs;
    const parted =
      Math.abs(aheadMs - olderMs) > SUSPENDED_MS ||
      (this.#olderMs !== undefined && Math.abs(aheadMs - this.#newerMs) > SUSPENDED_MS);
    if (parted || this.#olderMs === undefined) {
      this.#olderMs = aheadMs;
      this.#newerMs = aheadMs;
      this.#newerAtMs = nowMs;
    } else if (nowMs - this.#newerAtMs >= LEASE_MS) {
      this.#olderMs = this.#newerMs;
      this.#newerMs = aheadMs;
      this.#newerAtMs = nowMs;
    }
    return parted;
  }
}
