import { describe, expect, it } from 'vitest';
import { LEASE_MS, Lease, SuspendWatch } from './lease.ts';

describe('a lease', () => {
  it('is not held before anything was acknowledged', () => {
    expect(new Lease().holds(0)).toBe(false);
  });

  it('counts from the sending of what was acknowledged, not from the answer', () => {
    const lease = new Lease();
    lease.granted(5_000);
    expect(lease.holds(5_000 + LEASE_MS - 1)).toBe(true);
    expect(lease.holds(5_000 + LEASE_MS)).toBe(false);
  });

  it('is not shortened by an older answer that comes late', () => {
    const lease = new Lease();
    lease.granted(5_000);
    lease.granted(4_000);
    expect(lease.holds(5_900)).toBe(true);
  });

  it('ends at once when it is dropped', () => {
    const lease = new Lease();
    lease.granted(5_000);
    lease.drop();
    expect(lease.holds(5_001)).toBe(false);
  });

  it('is not renewed, after its machine slept, by answers to what was sent before', () => {
    const lease = new Lease();
    lease.granted(5_000);
    lease.slept(5_010);
    lease.granted(5_009);
    lease.granted(5_010);
    expect(lease.holds(5_011)).toBe(false);
    lease.granted(5_011);
    expect(lease.holds(5_012)).toBe(true);
  });
});

describe('a machine that was suspended', () => {
  it('is found by its wall clock, once', () => {
    const watch = new SuspendWatch();
    expect(watch.wasSuspended(1_000, 1_000_000_000_000n)).toBe(false);
    expect(watch.wasSuspended(1_250, 1_000_250_000_000n)).toBe(false);
    expect(watch.wasSuspended(1_500, 1_060_500_000_000n)).toBe(true);
    expect(watch.wasSuspended(1_750, 1_060_750_000_000n)).toBe(false);
  });

  it('is suspected where the wall clock is set back, which may hide it', () => {
    const watch = new SuspendWatch();
    watch.wasSuspended(1_000, 1_000_000_000_000n);
    expect(watch.wasSuspended(1_250, 990_250_000_000n)).toBe(true);
    expect(watch.wasSuspended(1_500, 990_500_000_000n)).toBe(false);
  });

  it('is told where it was short, and came again within a lease', () => {
    const watch = new SuspendWatch();
    const told = [0, 1, 2, 3].map((count) =>
      watch.wasSuspended(1_000 + 250 * count, BigInt(1_000_000 + 450 * count) * 1_000_000n),
    );
    expect(told).toEqual([false, false, true, false]);
  });

  it('is not taken for a clock that is being corrected', () => {
    const watch = new SuspendWatch();
    for (let nowMs = 1_000; nowMs < 60_000; nowMs += 100) {
      expect(watch.wasSuspended(nowMs, BigInt(Math.round(1_000_000 + nowMs * 1.083)) * 1_000_000n)).toBe(false);
    }
  });
});
