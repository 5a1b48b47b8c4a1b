/**
 * Virtual time: a heap of what is to happen, and clocks of hosts that look at it, each with its own error.
 */
import type { CancelSignal } from '../../src/cancel.ts';
import type { Clock, Timer } from '../../src/env.ts';
import { CancelledError, StateError } from '../../src/errors.ts';

/** Something that is to happen, unless it is cancelled before. */
class Event implements Timer {
  readonly atMs: number;
  /** Breaks ties: what was asked first happens first. */
  readonly order: number;
  readonly label: string;
  readonly size: number;
  run: (() => void) | undefined;

  constructor(atMs: number, order: number, label: string, size: number, run: () => void) {
    this.atMs = atMs;
    this.order = order;
    this.label = label;
    this.size = size;
    this.run = run;
  }

  cancel(): void {
    this.run = undefined;
  }
}

/** What is to happen when. Time stands still until `advance`. */
export class SimTime {
  #nowMs = 0;
  #order = 0;
  /** A binary heap by (atMs, order). */
  readonly #heap: Event[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** When the next event is due; undefined if there is none. */
  get nextMs(): number | undefined {
    this.#dropCancelled();
    return this.#heap[0]?.atMs;
  }

  /** `label` and `size` tell in the trace what it was. There should be few labels. */
  at(atMs: number, label: string, run: () => void, size = 0): Timer {
    if (Number.isNaN(atMs)) throw new StateError(`event ${label} at NaN`);
    const event = new Event(Math.max(atMs, this.#nowMs), this.#order++, label, size, run);
    this.#push(event);
    return event;
  }

  after(delayMs: number, label: string, run: () => void, size = 0): Timer {
    return this.at(this.#nowMs + Math.max(delayMs, 0), label, run, size);
  }

  /** Goes to the next event and runs it; what it was, or undefined if there is none. */
  advance(): { readonly label: string; readonly size: number } | undefined {
    this.#dropCancelled();
    const event = this.#pop();
    if (!event?.run) return undefined;
    this.#nowMs = event.atMs;
    const { run } = event;
    event.run = undefined;
    run();
    return event;
  }

  /** Time passes without an event. */
  skipTo(ms: number): void {
    const nextMs = this.nextMs;
    if (nextMs !== undefined && nextMs < ms) throw new StateError('an event would be skipped');
    this.#nowMs = Math.max(this.#nowMs, ms);
  }

  #dropCancelled(): void {
    while (this.#heap.length > 0 && this.#heap[0]?.run === undefined) this.#pop();
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(event, heap[parent] as Event)) break;
      heap[index] = heap[parent] as Event;
      index = parent;
    }
    heap[index] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!last || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!isBefore(heap[child] as Event, last)) break;
      heap[index] = heap[child] as Event;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

export interface ClockError {
  /** How far the wall clock is off. */
  readonly offsetMs?: number;
  /** How much too fast the host's clocks run: 0.001 gains a millisecond a second. */
  readonly drift?: number;
}

/** 2026-01-01, so that time stamps look like time stamps. */
const WALL_START_MS = 1_767_225_600_000;
const NS_PER_MS = 1_000_000;

/** Runs work of a process, or keeps it until the process runs again. */
export type Gate = (work: () => void) => void;

/** The clock of one process on one host. */
export class SimClock implements Clock {
  readonly #time: SimTime;
  readonly #timerLabel: string;
  readonly #rate: number;
  readonly #gate: Gate;
  #offsetMs: number;
  /** True time for which the monotonic clock stood still, as that of a machine that sleeps does. */
  #lostMs = 0;
  #stoodStillAtMs: number | undefined;
  #dead = false;

  constructor(time: SimTime, label: string, error: ClockError = {}, gate: Gate = (work) => work()) {
    this.#time = time;
    this.#timerLabel = `${label} timer`;
    this.#rate = 1 + (error.drift ?? 0);
    this.#offsetMs = error.offsetMs ?? 0;
    this.#gate = gate;
  }

  monotonicMs(): number {
    return ((this.#stoodStillAtMs ?? this.#time.nowMs) - this.#lostMs) * this.#rate;
  }

  /** The machine sleeps: its monotonic clock stands still, its wall clock does not. */
  sleepMachine(): void {
    this.#stoodStillAtMs ??= this.#time.nowMs;
  }

  wakeMachine(): void {
    if (this.#stoodStillAtMs === undefined) return;
    this.#lostMs += this.#time.nowMs - this.#stoodStillAtMs;
    this.#stoodStillAtMs = undefined;
  }

  wallNs(): bigint {
    const sinceStartMs = this.#time.nowMs * this.#rate + this.#offsetMs;
    return BigInt(WALL_START_MS) * BigInt(NS_PER_MS) + BigInt(Math.round(sinceStartMs * NS_PER_MS));
  }

  /** Somebody sets the host's clock. */
  stepWall(byMs: number): void {
    this.#offsetMs += byMs;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    if (Number.isNaN(delayMs)) throw new StateError('a timer needs a delay in milliseconds, not NaN');
    const own = this.monotonicMs() + Math.max(delayMs, 0);
    let timer: Timer | undefined;
    let cancelled = false;
    const arm = (): void => {
      // Rounding must not make it early by the host's own clock: "at least" is promised.
      let atMs = own / this.#rate + this.#lostMs;
      while ((atMs - this.#lostMs) * this.#rate < own) atMs += Math.max(atMs, 1) * Number.EPSILON;
      timer = this.#time.at(atMs, this.#timerLabel, () =>
        this.#gate(() => {
          if (this.#dead || cancelled) return;
          // The clock stood still meanwhile.
          if (this.monotonicMs() < own) arm();
          else callback();
        }),
      );
    };
    arm();
    return {
      cancel: () => {
        cancelled = true;
        timer?.cancel();
      },
    };
  }

  sleep(delayMs: number, signal?: CancelSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(new CancelledError());
        return;
      }
      const cancelled = (): void => {
        timer.cancel();
        reject(new CancelledError());
      };
      const timer = this.setTimer(delayMs, () => {
        signal?.removeEventListener('abort', cancelled);
        resolve();
      });
      signal?.addEventListener('abort', cancelled, { once: true });
    });
  }

  /** The process is dead: no timer of it fires any more. */
  die(): void {
    this.#dead = true;
  }
}
