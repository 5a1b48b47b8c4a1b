import { describe, expect, it, vi } from 'vitest';
import { Cancellation, allowManyListeners, cancelError, type CancelSignal } from './cancel.ts';
import { CancelledError } from './errors.ts';

describe('Cancellation', () => {
  it('does what an AbortController does', () => {
    const make: [string, () => { abort(reason?: unknown): void; signal: CancelSignal }][] = [
      ['node', () => new AbortController()],
      ['own', () => new Cancellation()],
    ];
    const stories = make.map(([, create]) => {
      const told: string[] = [];
      const controller = create();
      const { signal } = controller;
      const listen = (name: string, then?: () => void): (() => void) => {
        const listener = (): void => {
          told.push(name);
          then?.();
        };
        signal.addEventListener('abort', listener, { once: true });
        return listener;
      };
      const twice = listen('a');
      signal.addEventListener('abort', twice, { once: true });
      signal.removeEventListener('abort', listen('taken away before'));
      listen('b', () => signal.removeEventListener('abort', takenAwayMeanwhile));
      const takenAwayMeanwhile = listen('taken away meanwhile');
      listen('c', () => controller.abort(new Error('second')));
      told.push(String(signal.aborted), String(signal.reason));
      signal.throwIfAborted();
      controller.abort(new Error('first'));
      controller.abort(new Error('third'));
      listen('too late');
      told.push(String(signal.aborted), String(signal.reason));
      expect(() => signal.throwIfAborted()).toThrow('first');
      return told;
    });
    expect(stories[1]).toEqual(stories[0]);
    expect(stories[1]).toEqual(['false', 'undefined', 'a', 'b', 'c', 'true', 'Error: first']);
  });

  it('fails with CancelledError unless told otherwise', () => {
    const cancellation = new Cancellation();
    cancellation.abort();
    expect(() => cancellation.throwIfAborted()).toThrow(CancelledError);
    expect(cancelError(cancellation)).toBe(cancellation.reason);
    expect(cancelError(AbortSignal.abort('no error'))).toBeInstanceOf(CancelledError);
    expect(cancelError(undefined)).toBeInstanceOf(CancelledError);
  });
});

describe('allowManyListeners', () => {
  it('keeps Node from warning of a leak', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const { signal } = new AbortController();
    allowManyListeners(signal);
    allowManyListeners(new Cancellation());
    for (let i = 0; i < 20; i++) signal.addEventListener('abort', () => undefined);
    await Promise.resolve();
    expect(warned).not.toHaveBeenCalled();
    warned.mockRestore();
  });
});
