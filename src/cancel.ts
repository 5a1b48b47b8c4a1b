/**
 * Cancelling what is under way. As AbortController and AbortSignal, and every AbortSignal serves where a CancelSignal is
 * asked for; but Node's are EventTargets, and to make one and listen to it for each request cost a mount a sixth of its
 * processor time.
 */
import { setMaxListeners } from 'node:events';
import { CancelledError } from './errors.ts';

/** What the code here asks of an AbortSignal. */
export interface CancelSignal {
  /** It has fired. */
  readonly aborted: boolean;
  /** What it was cancelled with; undefined before. */
  readonly reason: unknown;
  /** Throws the reason if it has fired. */
  throwIfAborted(): void;
  /** `listener` must not throw. Not called if it has fired already: look at `aborted`, too. */
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void;
  /** No-op if it does not listen. */
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** A signal together with what fires it. */
export class Cancellation implements CancelSignal {
  #aborted = false;
  #reason: unknown;
  #listeners: Set<() => void> | undefined;

  /** Itself, for those who may only listen. */
  get signal(): CancelSignal {
    return this;
  }

  get aborted(): boolean {
    return this.#aborted;
  }

  get reason(): unknown {
    return this.#reason;
  }

  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason;
  }

  /** Calls the listeners, in the order in which they came. Idempotent: the first reason stays. */
  abort(reason?: unknown): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#reason = reason ?? new CancelledError();
    // What a listener removes is not called any more.
    if (this.#listeners !== undefined) for (const listener of this.#listeners) listener();
    this.#listeners = undefined;
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    if (!this.#aborted) (this.#listeners ??= new Set()).add(listener);
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    this.#listeners?.delete(listener);
  }
}

/** Many may listen to it at once, each until its end: no warning is wanted of that. */
export function allowManyListeners(signal: CancelSignal): void {
  if (signal instanceof AbortSignal) setMaxListeners(0, signal);
}

/** What to fail with because of it: its reason if that is an error. */
export function cancelError(signal: CancelSignal | undefined): Error {
  return signal?.reason instanceof Error ? signal.reason : new CancelledError();
}

/** For what nobody can cancel. */
export const NEVER: CancelSignal = {
  aborted: false,
  reason: undefined,
  throwIfAborted: () => undefined,
  addEventListener: () => undefined,
  removeEventListener: () => undefined,
};
