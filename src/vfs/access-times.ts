/**
 * When files were read (atime), for mounts that keep it: by the rule of `relatime`, as Linux does on local disks. A read moves
 * the time only if it would else not be later than the last change, or is a day old. Noted here and told to the servers
 * later, many at once; this mount shows the new time at once, others once it is told. A crash of this machine loses what was not told.
 */
import type { Clock, Timer } from '../env.ts';
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { Attr } from '../meta/types.ts';
import type { AccessTimeMode } from './options.ts';

/** Noted times are told so long after the first of them. */
export const TELL_AFTER_MS = 5_000;
/** More than these are told sooner. */
const NOTED_MAX = 4_096;
const TELLING_AT_ONCE = 16;
const DAY_NS = 86_400_000_000_000n;

export interface AccessTimePorts {
  readonly clock: Clock;
  /** Tells the servers. */
  tell(ino: Ino, atimeNs: bigint): Promise<void>;
  /** Work that nobody waits for. */
  background(work: Promise<unknown>): void;
}

export class AccessTimes {
  /** False: reads change no times, and nothing is noted. */
  readonly kept: boolean;
  readonly #ports: AccessTimePorts;
  readonly #noted = new Map<Ino, bigint>();
  /** Being told right now. */
  readonly #onTheWay = new Map<Ino, Promise<void>>();
  #timer: Timer | undefined;

  readonly #directories: boolean;

  constructor(mode: AccessTimeMode, ports: AccessTimePorts) {
    this.kept = mode !== 'unchanged';
    this.#directories = mode === 'relative';
    this.#ports = ports;
  }

  /** It was read now. `attr`: as callers are told it. */
  read(attr: Attr): void {
    if (!this.kept || (attr.type === 'directory' && !this.#directories)) return;
    const nowNs = this.#ports.clock.wallNs();
    if (!this.isDue(attr, nowNs)) return;
    // This machine's clock may be behind that of the servers, which stamped the change: it was read after that.
    this.#noted.set(attr.ino, later(nowNs, later(attr.mtimeNs, attr.ctimeNs) + 1n));
    if (this.#noted.size >= NOTED_MAX) this.#ports.background(this.flush());
    else this.#flushLater();
  }

  isDue({ atimeNs, mtimeNs, ctimeNs }: Attr, nowNs = this.#ports.clock.wallNs()): boolean {
    if (!this.kept) return false;
    return atimeNs <= mtimeNs || atimeNs <= ctimeNs || nowNs - atimeNs >= DAY_NS;
  }

  /** The time of its last read, if the servers do not know that yet. */
  of(ino: Ino): bigint | undefined {
    return this.#noted.size === 0 ? undefined : this.#noted.get(ino);
  }

  /** A program sets the time itself: what was noted must not come after that. */
  async giveUp(ino: Ino): Promise<void> {
    this.#noted.delete(ino);
    await this.#onTheWay.get(ino);
  }

  /** Tells the servers what was noted so far. What fails is not tried again: the next read notes it anew. */
  async flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const waiting = this.#noted.keys();
    const worker = async (): Promise<void> => {
      for (const ino of waiting) await this.#tell(ino);
    };
    await Promise.all(Array.from({ length: TELLING_AT_ONCE }, worker));
  }

  async #tell(ino: Ino): Promise<void> {
    const atimeNs = this.#noted.get(ino);
    if (atimeNs === undefined || this.#onTheWay.has(ino)) return;
    const telling = this.#ports.tell(ino, atimeNs).catch((error: unknown) => {
      // Removed, or no server answers.
      if (!(error instanceof FsError)) throw error;
    });
    this.#onTheWay.set(ino, telling);
    try {
      await telling;
    } finally {
      this.#onTheWay.delete(ino);
      if (this.#noted.get(ino) === atimeNs) this.#noted.delete(ino);
      // Changed and read again meanwhile.
      else if (this.#noted.has(ino)) this.#flushLater();
    }
  }

  #flushLater(): void {
    this.#timer ??= this.#ports.clock.setTimer(TELL_AFTER_MS, () => this.#ports.background(this.flush()));
  }
}

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
