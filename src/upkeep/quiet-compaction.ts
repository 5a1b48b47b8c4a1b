/**
 * Gives back space that is not worth the trouble while a node is in use: after a sweep packs more than half dead are
 * rewritten, so up to half of a store may be dead. When nothing has changed in it for a while and nobody waits for its
 * disk, it is rewritten until a tenth at most is; and no longer than nobody waits.
 */
import type { BlockEngine } from '../blocks/types.ts';
import type { Clock, Timer } from '../env.ts';
import type { Logger } from '../log.ts';

/** Of what the packs hold. A byte given back then costs nine bytes written at the most. */
export const QUIET_DEAD_SHARE = 0.09;
/** A store in which nothing has changed for so long is not in use. */
export const QUIET_AFTER_MS = 60_000;
const LOOK_INTERVAL_MS = 15_000;

export interface QuietCompactionOptions {
  readonly engine: Pick<BlockEngine, 'usage' | 'compact'>;
  /** Whether somebody waits for the disk. */
  readonly isBusy: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

export class QuietCompaction {
  readonly #o: QuietCompactionOptions;
  #timer: Timer | undefined;
  /** As of the last look: everything that is written, deletions too, makes files longer. */
  #fileBytes = -1;
  #quietSinceMs = 0;
  /** There is nothing more to do until something changes. */
  #isDone = false;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: QuietCompactionOptions) {
    this.#o = options;
  }

  start(): void {
    this.#later();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#running;
  }

  #later(): void {
    if (this.#closed) return;
    this.#timer = this.#o.clock.setTimer(LOOK_INTERVAL_MS, () => {
      this.#running = this.#look().finally(() => this.#later());
    });
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { engine, clock, log } = this.#o;
    const nowMs = clock.monotonicMs();
    const { fileBytes } = engine.usage();
    if (fileBytes !== this.#fileBytes || this.#o.isBusy()) {
      if (fileBytes !== this.#fileBytes) this.#isDone = false;
      this.#fileBytes = fileBytes;
      this.#quietSinceMs = nowMs;
      return;
    }
    if (this.#isDone || nowMs - this.#quietSinceMs < QUIET_AFTER_MS) return;
    let gaveWay = false;
    try {
      const mayGoOn = (): boolean => !(gaveWay ||= this.#closed || this.#o.isBusy());
      const freedBytes = await engine.compact({ deadShare: QUIET_DEAD_SHARE, mayGoOn });
      if (freedBytes > 0) log.info({ freedBytes }, 'packs were rewritten while nothing else was to be done');
    } catch (error) {
      log.warn({ error: String(error) }, 'packs cannot be rewritten; it is tried again when something has changed');
    }
    this.#isDone = !gaveWay;
    this.#fileBytes = engine.usage().fileBytes;
    this.#quietSinceMs = clock.monotonicMs();
  }
}
