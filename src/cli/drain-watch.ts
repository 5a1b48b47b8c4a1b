/** Shows how a node is drained until it is: a bar on a terminal, plain lines elsewhere. */
import { setTimeout as sleep } from 'node:timers/promises';
import { drainProgress } from '../upkeep/drain.ts';
import type { DrainProgress } from '../upkeep/drain.ts';
import type { ClusterStatus } from '../upkeep/status.ts';
import { bytes, note, progress, rate } from './output.ts';
import type { Progress } from './output.ts';

const LOOK_INTERVAL_MS = 500;
/** A plain line at least this often, so that a log shows that it goes on. */
const LINE_INTERVAL_MS = 10_000;

export interface DrainWatchOptions {
  readonly id: string;
  readonly label: string;
  readonly read: () => Promise<ClusterStatus>;
  readonly signal: AbortSignal;
  /** False: nothing is shown. */
  readonly shown: boolean;
}

/** Resolves with the last state seen: drained, unless the signal fired. */
export async function watchDrain(options: DrainWatchOptions): Promise<DrainProgress> {
  const view = options.shown ? new DrainView(options.label) : undefined;
  try {
    for (;;) {
      const now = drainProgress(await options.read(), options.id);
      view?.show(now);
      if (now.drained || options.signal.aborted) return now;
      await sleep(LOOK_INTERVAL_MS, undefined, { signal: options.signal }).catch(() => undefined);
    }
  } finally {
    view?.end();
  }
}

class DrainView {
  readonly #label: string;
  #bar: Progress | undefined;
  #total = 0;
  #said = '';
  #saidMs = -Infinity;
  /** Of the first look that knew what is left: rate and time left are counted from there. */
  #first: { readonly atMs: number; readonly bytesLeft: number } | undefined;

  constructor(label: string) {
    this.#label = label;
  }

  show(now: DrainProgress): void {
    if (process.stderr.isTTY && now.bytesLeft !== undefined && now.bytesLeft > 0) {
      this.#bar ??= progress(this.#label, (this.#total = now.bytesLeft), bytes);
      this.#bar.update(Math.max(0, this.#total - now.bytesLeft));
      return;
    }
    this.end();
    const line = now.drained ? '' : `${this.#label}: waits for ${now.waitingFor.join(', ')}${this.#pace(now)}`;
    const nowMs = performance.now();
    if (line === '' || line === this.#said || (this.#said !== '' && nowMs - this.#saidMs < LINE_INTERVAL_MS)) return;
    note(line);
    this.#said = line;
    this.#saidMs = nowMs;
  }

  #pace({ bytesLeft }: DrainProgress): string {
    if (bytesLeft === undefined || bytesLeft === 0) return '';
    const nowMs = performance.now();
    this.#first ??= { atMs: nowMs, bytesLeft };
    const elapsedMs = nowMs - this.#first.atMs;
    const done = this.#first.bytesLeft - bytesLeft;
    const pace =
      done > 0 ? `, ${rate(done, elapsedMs)}, ${Math.ceil((elapsedMs * bytesLeft) / done / 1000)} s left` : '';
    return ` (${bytes(bytesLeft)}${pace})`;
  }

  end(): void {
    this.#bar?.end();
    this.#bar = undefined;
  }
}
