/**
 * Asks holders of a block one after the other until one gives a good answer: the next is asked when one fails, and
 * also when one is slow (hedging), so that a node that hangs costs a fraction of a second and not a timeout. The first
 * good answer wins and the others are cancelled.
 */
import { cancelError, Cancellation, type CancelSignal } from '../cancel.ts';
import { CancelledError } from '../errors.ts';
import type { Clock, Timer } from '../env.ts';
import type { NodeId } from '../ids.ts';

/** Answers awaited at once for one block. */
const ATTEMPTS_AT_ONCE_MAX = 3;

export interface RaceOptions<T> {
  readonly clock: Clock;
  readonly nodes: readonly NodeId[];
  /** Must reject soon after `signal` fires. */
  readonly attempt: (node: NodeId, signal: CancelSignal) => Promise<T>;
  /** How long to wait for this node before the next is asked as well. */
  readonly hedgeAfterMs: (node: NodeId) => number;
  /** Asked when that time has passed: false to go on waiting. */
  readonly mayHedge: (node: NodeId) => boolean;
  readonly signal?: CancelSignal | undefined;
}

export type RaceResult<T> =
  | { readonly ok: true; readonly value: T; readonly node: NodeId }
  | { readonly ok: false; readonly errors: ReadonlyMap<NodeId, unknown> };

/** Resolves with the first good answer, or with every node's error. Rejects only when the caller's signal fires. */
export function raceHolders<T>(options: RaceOptions<T>): Promise<RaceResult<T>> {
  const { clock, nodes, signal } = options;
  return new Promise((resolve, reject) => {
    const errors = new Map<NodeId, unknown>();
    const running = new Map<NodeId, Cancellation>();
    let next = 0;
    let timer: Timer | undefined;
    let settled = false;

    const settle = (): void => {
      settled = true;
      timer?.cancel();
      signal?.removeEventListener('abort', onAbort);
      for (const controller of running.values()) controller.abort(new CancelledError('another holder answered first'));
      running.clear();
    };
    const onAbort = (): void => {
      settle();
      reject(cancelError(signal));
    };
    const askNext = (): void => {
      const node = nodes[next];
      if (node === undefined) {
        if (running.size === 0) {
          settle();
          resolve({ ok: false, errors });
        }
        return;
      }
      next++;
      const controller = new Cancellation();
      running.set(node, controller);
      options.attempt(node, controller.signal).then(
        (value) => {
          if (settled) return;
          running.delete(node);
          settle();
          resolve({ ok: true, value, node });
        },
        (error: unknown) => {
          if (settled) return;
          running.delete(node);
          errors.set(node, error);
          askNext();
        },
      );
      timer?.cancel();
      timer = clock.setTimer(options.hedgeAfterMs(node), () => {
        if (settled || next >= nodes.length || running.size >= ATTEMPTS_AT_ONCE_MAX || !running.has(node)) return;
        if (options.mayHedge(node)) askNext();
      });
    };

    if (signal?.aborted === true) {
      onAbort();
      return;
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    askNext();
  });
}
