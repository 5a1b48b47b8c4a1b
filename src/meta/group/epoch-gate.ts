/**
 * R6: messages of a lower epoch are refused; those of a higher one wait a little for the catalog that explains them,
 * which comes by way of the news on the very message.
 */
import type { Clock } from '../../env.ts';
import { StaleEpochError } from '../../errors.ts';
import type { Group } from '../../catalog/types.ts';
import type { Head } from './messages.ts';
import { ALL_RULES } from './rules.ts';
import type { GroupRules } from './rules.ts';

/** A message of a newer epoch waits this long for its catalog. */
export const CATALOG_WAIT_MS = 1_000;

interface Waiter {
  readonly epoch: number;
  readonly done: () => void;
}

export class EpochGate {
  readonly #clock: Clock;
  readonly #rules: GroupRules;
  readonly #waiters = new Set<Waiter>();
  #group: Group;
  #closed = false;

  constructor(clock: Clock, group: Group, rules = ALL_RULES) {
    this.#clock = clock;
    this.#rules = rules;
    this.#group = group;
  }

  changed(group: Group): void {
    this.#group = group;
    for (const waiter of this.#waiters) if (waiter.epoch <= group.epoch) waiter.done();
  }

  /** Resolves when the message may be acted on. StaleEpochError if it is of another epoch or history. */
  async pass(head: Head): Promise<void> {
    if (head.epoch > this.#group.epoch && !this.#closed) await this.#wait(head.epoch);
    this.check(head);
  }

  /** Whether pass would let it through at once. */
  isOpenTo(head: Head): boolean {
    const isOurs = head.epoch === this.#group.epoch || (!this.#rules.followerEpoch && head.epoch < this.#group.epoch);
    return isOurs && head.historyId === this.#group.historyId;
  }

  /** As pass, without waiting: for what took time after it had passed. */
  check(head: Head): void {
    if (this.isOpenTo(head)) return;
    const { id, epoch } = this.#group;
    throw new StaleEpochError(`group ${id} is at epoch ${epoch} here, the message at ${head.epoch}`, {
      info: { epoch },
    });
  }

  #wait(epoch: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        this.#waiters.delete(waiter);
        resolve();
      };
      const timer = this.#clock.setTimer(CATALOG_WAIT_MS, done);
      const waiter: Waiter = { epoch, done };
      this.#waiters.add(waiter);
    });
  }

  /** Nothing waits any more. */
  close(): void {
    this.#closed = true;
    for (const waiter of this.#waiters) waiter.done();
  }
}
