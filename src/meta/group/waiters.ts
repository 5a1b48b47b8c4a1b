/** Callers at the primary that wait: for the outcome of a command, or for everything to be on disk. */
import type { Outcome } from '../outcome.ts';

interface OutcomeWaiter {
  resolve(outcome: Outcome): void;
  reject(error: Error): void;
}

interface SyncWaiter {
  readonly seq: number;
  resolve(): void;
  reject(error: Error): void;
}

export class Waiters {
  readonly #outcomes = new Map<number, OutcomeWaiter>();
  #syncs: SyncWaiter[] = [];

  get count(): number {
    return this.#outcomes.size + this.#syncs.length;
  }
  get hasSyncs(): boolean {
    return this.#syncs.length > 0;
  }

  outcomeOf(seq: number): Promise<Outcome> {
    return new Promise((resolve, reject) => this.#outcomes.set(seq, { resolve, reject }));
  }

  applied(seq: number, outcome: Outcome): void {
    const waiter = this.#outcomes.get(seq);
    if (waiter === undefined) return;
    this.#outcomes.delete(seq);
    waiter.resolve(outcome);
  }

  syncOf(seq: number): Promise<void> {
    return new Promise((resolve, reject) => this.#syncs.push({ seq, resolve, reject }));
  }

  /** `isSynced` tells whether everything up to a seq is on disk everywhere. */
  settleSyncs(isSynced: (seq: number) => boolean): void {
    this.#syncs = this.#syncs.filter((waiter) => {
      if (!isSynced(waiter.seq)) return true;
      waiter.resolve();
      return false;
    });
  }

  rejectAll(error: Error): void {
    const outcomes = [...this.#outcomes.values()];
    this.#outcomes.clear();
    for (const waiter of [...outcomes, ...this.#syncs.splice(0)]) waiter.reject(error);
  }
}
