/**
 * Which slots of files are worth a compaction, and when: those that have got many small pieces, once nobody has written there
 * for a while, or at the latest some time after they got so many. Where it was in vain, because the slot is in pieces again soon, both times
 * double: else a database that is written all the time would be written anew as a whole all the time. Pure bookkeeping, bounded; what
 * it forgets is found by whoever reads the file in order.
 */
import type { Ino } from '../ids.ts';
import type { Slot } from './compact-plan.ts';

export interface CompactTimes {
  /** A slot with as many small pieces as this is a candidate. */
  readonly piecesMin: number;
  /** For so long nobody has written to it. */
  readonly quietMs: number;
  /** Or it is a candidate for so long. */
  readonly latestMs: number;
  /** In pieces again within this after a compaction: that was in vain. */
  readonly againMs: number;
  /** The times double so often at most. */
  readonly vainMax: number;
  /** Slots remembered. */
  readonly slotsMax: number;
  /** A slot that changes again and again while it is compacted is left alone after so many. */
  readonly attemptsMax: number;
}

export interface QueuedSlot extends Slot {
  readonly ino: Ino;
}

export interface TakenSlot extends QueuedSlot {
  readonly pieces: number;
  /** So often it was taken and given back. */
  readonly attempts: number;
  /** So many compactions in a row were in vain. */
  readonly vain: number;
}

interface Entry extends QueuedSlot {
  pieces: number;
  readonly attempts: number;
  readonly vain: number;
  candidateMs: number;
  writtenMs: number;
}

export class CompactQueue {
  readonly #times: CompactTimes;
  /** The least recently changed first. */
  readonly #entries = new Map<string, Entry>();
  readonly #candidates = new Map<string, Entry>();
  /** When a slot was taken last, and how many before were in vain. The one taken last at the end. */
  readonly #taken = new Map<string, { readonly atMs: number; readonly vain: number }>();

  constructor(times: CompactTimes) {
    this.#times = times;
  }

  /** Slots that wait to be compacted. */
  get candidateCount(): number {
    return this.#candidates.size;
  }

  get slotCount(): number {
    return this.#entries.size;
  }

  /** So many pieces, none of them the whole slot, were committed. */
  wrote(slot: QueuedSlot, pieces: number, nowMs: number): void {
    const key = keyOf(slot);
    const entry = this.#entries.get(key) ?? {
      ...{ ino: slot.ino, offset: slot.offset, lengthBytes: slot.lengthBytes },
      ...{ pieces: 0, candidateMs: nowMs, writtenMs: nowMs, attempts: 0, vain: this.#vainOf(key, nowMs) },
    };
    entry.pieces += pieces;
    entry.writtenMs = nowMs;
    this.#put(key, entry, nowMs);
  }

  /** Somebody has read it, and found as many pieces. Since when nobody writes is not known. */
  sawPieces(slot: QueuedSlot, pieces: number, nowMs: number): void {
    const known = this.#entries.get(keyOf(slot));
    if (known !== undefined && known.pieces >= pieces) return;
    this.wrote(slot, pieces - (known?.pieces ?? 0), nowMs);
  }

  /** It is one piece, or nothing, now. */
  forget(slot: QueuedSlot): void {
    const key = keyOf(slot);
    this.#entries.delete(key);
    this.#candidates.delete(key);
  }

  /** The next one that is due, which the queue forgets. */
  take(nowMs: number): TakenSlot | undefined {
    const { quietMs, latestMs } = this.#times;
    for (const entry of this.#candidates.values()) {
      const { writtenMs, candidateMs, vain } = entry;
      const patience = 2 ** vain;
      if (nowMs - writtenMs < quietMs * patience && nowMs - candidateMs < latestMs * patience) continue;
      this.forget(entry);
      this.#remember(keyOf(entry), nowMs, vain);
      return entry;
    }
    return undefined;
  }

  #remember(key: string, atMs: number, vain: number): void {
    this.#taken.delete(key);
    this.#taken.set(key, { atMs, vain });
    if (this.#taken.size <= this.#times.slotsMax) return;
    for (const oldest of this.#taken.keys()) {
      this.#taken.delete(oldest);
      return;
    }
  }

  #vainOf(key: string, nowMs: number): number {
    const taken = this.#taken.get(key);
    if (taken === undefined) return 0;
    return nowMs - taken.atMs < this.#times.againMs ? Math.min(taken.vain + 1, this.#times.vainMax) : 0;
  }

  /** A slot that was taken has changed meanwhile, or could not be compacted now. */
  later(taken: TakenSlot, nowMs: number): void {
    const attempts = taken.attempts + 1;
    if (attempts >= this.#times.attemptsMax) return;
    const key = keyOf(taken);
    const pieces = Math.max(taken.pieces, this.#entries.get(key)?.pieces ?? 0);
    this.#candidates.delete(key);
    this.#put(key, { ...taken, pieces, attempts, candidateMs: nowMs, writtenMs: nowMs }, nowMs);
  }

  #put(key: string, entry: Entry, nowMs: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (entry.pieces >= this.#times.piecesMin) {
      if (!this.#candidates.has(key)) entry.candidateMs = nowMs;
      this.#candidates.set(key, entry);
    }
    if (this.#entries.size <= this.#times.slotsMax) return;
    const [oldest] = this.#entries.values();
    if (oldest !== undefined) this.forget(oldest);
  }
}

function keyOf({ ino, offset }: QueuedSlot): string {
  return `${ino}:${offset}`;
}
