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
/**
 * A timer that comes later than this says that it was we who were away (a busy core, a collection of garbage): answers
 * may lie in the sockets, unread, and are given the time to be read.
 */
const LATE_MS = 5;

export interface RaceOptions<T> {
  readonly clock: Clock;
  readonly nodes: readonly NodeId[];
  /** Must reject soon after `signal` fires. `wait`: the next is asked only when so long has passed from now. */
  readonly attempt: (node: NodeId, signal: CancelSignal, wait: (ms: number) => void) => Promise<T>;
  /** How long to wait for this node before the next is asked as well. */
  readonly hedgeAfterMs: (node: NodeId) => number;
  /** Asked when that time has passed: false to go on waiting. */
  readonly mayHedge: (node: NodeId, askedMs: number) => boolean;
  /** Another node, asked after this one because it was slow, has answered first. */
  readonly overtaken?: (node: NodeId) => void;
  readonly signal?: CancelSignal | undefined;
}

export type RaceResult<T> =
  | { readonly ok: true; readonly value: T; readonly node: NodeId }
  | { readonly ok: false; readonly errors: ReadonlyMap<NodeId, unknown> };

interface Runner {
  readonly cancellation: Cancellation;
  isSlow: boolean;
}

/** Resolves with the first good answer, or with every node's error. Rejects only when the caller's signal fires. */
export function raceHolders<T>(options: RaceOptions<T>): Promise<RaceResult<T>> {
  const { clock, nodes, signal } = options;
  return new Promise((resolve, reject) => {
    const errors = new Map<NodeId, unknown>();
    const running = new Map<NodeId, Runner>();
    let next = 0;
    let timer: Timer | undefined;
    let settled = false;

    const settle = (): void => {
      settled = true;
      timer?.cancel();
      signal?.removeEventListener('abort', onAbort);
      for (const { cancellation } of running.values()) {
        cancellation.abort(new CancelledError('another holder answered first'));
      }
      running.clear();
    };
    const onAbort = (): void => {
      settle();
      reject(cancelError(signal));
    };
    const arm = (node: NodeId, runner: Runner, askedMs: number, waitMs: number): void => {
      timer?.cancel();
      const dueMs = clock.monotonicMs() + waitMs;
      timer = clock.setTimer(waitMs, () => {
        if (settled || next >= nodes.length || running.size >= ATTEMPTS_AT_ONCE_MAX) return;
        if (running.get(node) !== runner) return;
        const lateMs = clock.monotonicMs() - dueMs;
        if (lateMs > LATE_MS) {
          arm(node, runner, askedMs, Math.min(waitMs, lateMs));
          return;
        }
        runner.isSlow = true;
        if (options.mayHedge(node, askedMs)) askNext();
      });
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
      const cancellation = new Cancellation();
      const runner: Runner = { cancellation, isSlow: false };
      running.set(node, runner);
      const askedMs = clock.monotonicMs();
      arm(node, runner, askedMs, options.hedgeAfterMs(node));
      const wait = (ms: number): void => {
        // Whoever was asked later decides now.
        if (!settled && running.get(node) === runner && nodes[next - 1] === node) arm(node, runner, askedMs, ms);
      };
      options.attempt(node, cancellation.signal, wait).then(
        (value) => {
          if (settled) return;
          running.delete(node);
          for (const [other, { isSlow }] of running) if (isSlow) options.overtaken?.(other);
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
    };

    if (signal?.aborted === true) {
      onAbort();
      return;
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    askNext();
  });
}
