/**
 * What the kernel was told that it may keep for longer than the attribute timeout, and telling it that this is not so any more. Of
 * that millions may be kept, far more than the mount itself knows, so only a bit for each number is noted, and for so long.
 */
import type { Clock } from '../env.ts';
import type { Ino } from '../ids.ts';
import type { QueryResults } from '../meta/types.ts';
import type { KernelNotifier } from './ops.ts';

/** Numbers that are a multiple of this apart share a bit: then the kernel is told for nothing. */
const BITS = 2 ** 22;
/**
 * A notification can overtake the answer that it is about: the program that waits for that takes it in when its turn comes. So each is
 * sent once more after this.
 */
const AGAIN_AFTER_MS = 1_000;

type Changes = Pick<QueryResults['changes'], 'inos' | 'names'>;

/** Numbers marked within the last `keptMs`, up to twice as long. Others are taken for one of these at times. */
export class MarkedLately {
  readonly #keptMs: number;
  #current = new Uint32Array(0);
  #before = new Uint32Array(0);
  #turnMs = -Infinity;

  constructor(keptMs: number) {
    this.#keptMs = keptMs;
  }

  mark(ino: number, nowMs: number): void {
    if (nowMs >= this.#turnMs) {
      const isRecent = nowMs < this.#turnMs + this.#keptMs;
      this.#before = isRecent ? this.#current : new Uint32Array(0);
      this.#current = new Uint32Array(BITS / 32);
      this.#turnMs = nowMs + this.#keptMs;
    }
    const bit = ino % BITS;
    this.#current[bit >>> 5]! |= 1 << (bit & 31);
  }

  has(ino: number): boolean {
    const bit = ino % BITS;
    return (((this.#current[bit >>> 5] ?? 0) | (this.#before[bit >>> 5] ?? 0)) & (1 << (bit & 31))) !== 0;
  }
}

export class KernelCache {
  /** Of the binding, if it has one. */
  notifier: KernelNotifier | undefined;
  readonly #clock: Clock;
  readonly #attributes: MarkedLately;
  /** By directory. */
  readonly #names: MarkedLately;

  constructor(clock: Clock, keptMs: number) {
    this.#clock = clock;
    this.#attributes = new MarkedLately(keptMs);
    this.#names = new MarkedLately(keptMs);
  }

  /** Its attributes may be kept. */
  keepsAttributes(ino: Ino, nowMs: number): void {
    if (this.notifier !== undefined) this.#attributes.mark(ino, nowMs);
  }

  mayKeepAttributes(ino: Ino): boolean {
    return this.#attributes.has(ino);
  }

  /** Whether names may be kept for as long as their watch goes on. */
  get expiresNames(): boolean {
    return this.notifier?.expiresNames === true;
  }

  keepsName(directory: Ino, nowMs: number): void {
    if (this.notifier !== undefined) this.#names.mark(directory, nowMs);
  }

  changed({ inos, names }: Changes): void {
    if (this.notifier === undefined) return;
    const kept = {
      inos: inos.filter((ino) => this.#attributes.has(ino)),
      names: this.expiresNames ? names.filter(({ parent }) => this.#names.has(parent)) : [],
    };
    if (kept.inos.length + kept.names.length === 0) return;
    this.#tell(kept);
    this.#clock.setTimer(AGAIN_AFTER_MS, () => this.#tell(kept));
  }

  #tell({ inos, names }: Changes): void {
    for (const { parent, name } of names) this.notifier?.invalidateEntry(parent, name);
    for (const ino of inos) void this.notifier?.invalidateAttributes(ino);
  }
}
