/**
 * Deadlines for work that waits in line: of many things, each gets its time from when it was asked for or, if that is
 * later, from the latest success of any of them. So a slow line is no failure, and a line that stands still fails as
 * a whole after one deadline, not after one for each that stands in it. Pure.
 */
export class ProgressClock {
  readonly #timeoutMs: number;
  #progressMs = -Infinity;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Something got through. */
  progress(nowMs: number): void {
    this.#progressMs = Math.max(this.#progressMs, nowMs);
  }

  /** Of what was asked for at `askedMs`, to be taken when its turn has come. */
  deadlineOf(askedMs: number): number {
    return Math.max(askedMs, this.#progressMs) + this.#timeoutMs;
  }
}
