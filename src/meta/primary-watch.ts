/**
 * A client's view of who is primary of each group: what waits at an old one is told when there is another, and other
 * nodes are asked for a newer catalog when one does not answer. So a fail-over costs a client little more than it costs
 * the group.
 */
import { Cancellation, type CancelSignal } from '../cancel.ts';
import type { CatalogService, Group } from '../catalog/types.ts';
import type { Env, Timer } from '../env.ts';
import type { Epoch, NodeId } from '../ids.ts';

/** A primary that has not answered for this long may have been replaced. */
const SLOW_MS = 500;

/** A group as it was in one epoch. */
export interface GroupEra {
  readonly epoch: Epoch;
  readonly primary: NodeId;
  /** Fires when another node is primary. */
  readonly moved: CancelSignal;
  /** Fires when anything of the group has changed. */
  readonly changed: CancelSignal;
}

interface Era extends GroupEra {
  readonly move: Cancellation;
  readonly change: Cancellation;
}

/** A question that is on its way to a primary. */
export interface Question {
  readonly primary: NodeId;
  readonly startedMs: number;
}

export class PrimaryWatch {
  readonly #env: Pick<Env, 'clock'>;
  readonly #catalog: CatalogService;
  readonly #eras = new Map<string, Era>();
  /** Oldest first. */
  readonly #questions = new Set<Question>();
  readonly #unsubscribe: () => void;
  #timer: Timer;
  #looking = false;

  constructor(env: Pick<Env, 'clock'>, catalog: CatalogService) {
    this.#env = env;
    this.#catalog = catalog;
    this.#unsubscribe = catalog.subscribe(() => this.#catalogChanged());
    this.#timer = this.#watchSlow();
  }

  /** The group as the newest catalog has it. */
  eraOf(group: Group): GroupEra {
    const known = this.#eras.get(group.id);
    if (known !== undefined && known.epoch === group.epoch) return known;
    const { epoch, primary } = group;
    const move = known?.primary === primary ? known.move : new Cancellation();
    const change = new Cancellation();
    const made = { epoch, primary, move, change, moved: move.signal, changed: change.signal };
    this.#eras.set(group.id, made);
    return made;
  }

  asked(primary: NodeId): Question {
    const question = { primary, startedMs: this.#env.clock.monotonicMs() };
    this.#questions.add(question);
    return question;
  }

  answered(question: Question): void {
    this.#questions.delete(question);
  }

  /** It cannot be reached, or is primary no longer: somebody else may know a newer catalog. */
  suspect(primary: NodeId): void {
    if (this.#looking || this.#catalog.lookForNewer === undefined) return;
    this.#looking = true;
    void this.#catalog.lookForNewer(primary).finally(() => (this.#looking = false));
  }

  close(): void {
    this.#timer.cancel();
    this.#unsubscribe();
  }

  #catalogChanged(): void {
    for (const group of this.#catalog.current().groups) {
      const old = this.#eras.get(group.id);
      if (old === undefined || old.epoch === group.epoch) continue;
      this.eraOf(group);
      old.change.abort();
      if (old.primary !== group.primary) old.move.abort();
    }
  }

  #watchSlow(): Timer {
    return this.#env.clock.setTimer(SLOW_MS, () => {
      const [oldest] = this.#questions;
      if (oldest !== undefined && this.#env.clock.monotonicMs() - oldest.startedMs >= SLOW_MS) {
        this.suspect(oldest.primary);
      }
      this.#timer = this.#watchSlow();
    });
  }
}

/** Fires when either does. Not AbortSignal.any: its links to a long-lived signal stay for the life of that signal. */
export function eitherSignal(
  a: CancelSignal,
  b: CancelSignal | undefined,
): { readonly signal: CancelSignal; readonly release: () => void } {
  if (b === undefined) return { signal: a, release: () => undefined };
  const either = new Cancellation();
  const stop = (): void => either.abort();
  a.addEventListener('abort', stop, { once: true });
  b.addEventListener('abort', stop, { once: true });
  if (a.aborted || b.aborted) stop();
  return {
    signal: either.signal,
    release: () => {
      a.removeEventListener('abort', stop);
      b.removeEventListener('abort', stop);
    },
  };
}
