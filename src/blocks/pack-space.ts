/** How much room is left for blocks: the disk's free space less the reserve, and the store's own bound. */
import type { Clock, Disk } from '../env.ts';
import { DISK_RESERVE_BYTES, DISK_RESERVE_FRACTION, MiB } from '../limits.ts';

/** The disk is asked again after this long, or after this many bytes written, whichever comes first. */
const REFRESH_MS = 1_000;
const REFRESH_BYTES = 64 * MiB;
/** On a disk so small that the usual reserve would leave nothing, the reserve is this part of it. */
const SMALL_DISK_RESERVE_FRACTION = 0.1;

export interface PackSpaceOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly path: string;
  readonly reserveBytes?: number | undefined;
  readonly capacityBytes?: number | undefined;
}

export class PackSpace {
  readonly #options: PackSpaceOptions;
  #totalBytes = 0;
  /** As the disk said, less what was admitted since. */
  #freeBytes = 0;
  /** Admitted and not yet known to be written. */
  #underWayBytes = 0;
  #refreshedMs = Number.NEGATIVE_INFINITY;
  #admittedBytes = 0;
  #refreshing: Promise<void> | undefined;

  constructor(options: PackSpaceOptions) {
    this.#options = options;
  }

  get stale(): boolean {
    return this.#admittedBytes >= REFRESH_BYTES || this.#options.clock.monotonicMs() - this.#refreshedMs >= REFRESH_MS;
  }

  get reserveBytes(): number {
    const usual = Math.max(DISK_RESERVE_BYTES, DISK_RESERVE_FRACTION * this.#totalBytes);
    return this.#options.reserveBytes ?? Math.floor(Math.min(usual, SMALL_DISK_RESERVE_FRACTION * this.#totalBytes));
  }

  /** Room for blocks beside `fileBytes` of packs. */
  roomBytes(fileBytes: number): number {
    const capacity = this.#options.capacityBytes ?? Number.MAX_SAFE_INTEGER;
    return Math.max(0, Math.min(this.#freeBytes - this.reserveBytes, capacity - fileBytes - this.#underWayBytes));
  }

  /** Of the disk or of the store, whichever is less; the reserve excluded. */
  capacityBytes(): number {
    return Math.max(
      0,
      Math.min(this.#options.capacityBytes ?? Number.MAX_SAFE_INTEGER, this.#totalBytes - this.reserveBytes),
    );
  }

  /** What the disk has left, reserve included: compaction may use it, as it gives back more. */
  get diskFreeBytes(): number {
    return this.#freeBytes;
  }

  /** Sets `bytes` aside for a write. Call `settle` when it is done or failed. */
  admit(bytes: number): void {
    this.#freeBytes -= bytes;
    this.#admittedBytes += bytes;
    this.#underWayBytes += bytes;
  }

  settle(bytes: number): void {
    this.#underWayBytes -= bytes;
  }

  /** The disk's answer is no longer believed: it was full, or space was given back. */
  invalidate(): void {
    this.#refreshedMs = Number.NEGATIVE_INFINITY;
  }

  async refresh(): Promise<void> {
    this.#refreshing ??= this.#ask().finally(() => (this.#refreshing = undefined));
    await this.#refreshing;
  }

  async #ask(): Promise<void> {
    const { disk, clock, path } = this.#options;
    const { totalBytes, freeBytes } = await disk.space(path);
    this.#totalBytes = totalBytes;
    this.#freeBytes = freeBytes - this.#underWayBytes;
    this.#admittedBytes = 0;
    this.#refreshedMs = clock.monotonicMs();
  }
}
