/**
 * Tells packets that are fresh from those that are old or were seen before. Pure. A packet is fresh if its time stamp is
 * near ours and its counter is new for its sender; for each sender the highest counter and a bitmap of the 64 below it
 * are kept (as IPsec does), so packets may overtake each other. A sender that was silent for longer than the time
 * stamps are good for can be forgotten: its old packets are refused by their time.
 */
import type { PacketStamp } from './discovery-packets.ts';

/** Clocks of one cluster may differ by this much. */
export const STAMP_WINDOW_MS = 30_000;
/** Senders remembered; only who has the cluster key gets in here. */
const SENDERS_MAX_COUNT = 4_096;
const BITMAP_BITS = 64n;
const BITMAP_MASK = (1n << BITMAP_BITS) - 1n;

interface Sender {
  highest: bigint;
  /** Bit i: counter highest - i was seen. */
  seen: bigint;
  latestWallMs: number;
}

export class ReplayWindow {
  readonly #senders = new Map<bigint, Sender>();

  /** Fresh packets are remembered. */
  check(stamp: PacketStamp, nowWallMs: number): 'fresh' | 'old' | 'replayed' {
    if (Math.abs(stamp.wallMs - nowWallMs) > STAMP_WINDOW_MS) return 'old';
    const sender = this.#senders.get(stamp.instance);
    if (sender === undefined) {
      if (this.#senders.size >= SENDERS_MAX_COUNT) this.#forgetSilent(nowWallMs);
      if (this.#senders.size >= SENDERS_MAX_COUNT) return 'replayed';
      this.#senders.set(stamp.instance, { highest: stamp.counter, seen: 1n, latestWallMs: stamp.wallMs });
      return 'fresh';
    }
    const ahead = stamp.counter - sender.highest;
    if (ahead > 0n) {
      sender.seen = ahead >= BITMAP_BITS ? 1n : ((sender.seen << ahead) | 1n) & BITMAP_MASK;
      sender.highest = stamp.counter;
    } else {
      const bit = 1n << -ahead;
      if (-ahead >= BITMAP_BITS || (sender.seen & bit) !== 0n) return 'replayed';
      sender.seen |= bit;
    }
    sender.latestWallMs = Math.max(sender.latestWallMs, stamp.wallMs);
    return 'fresh';
  }

  #forgetSilent(nowWallMs: number): void {
    for (const [instance, { latestWallMs }] of this.#senders) {
      if (nowWallMs - latestWallMs > 2 * STAMP_WINDOW_MS) this.#senders.delete(instance);
    }
  }
}
