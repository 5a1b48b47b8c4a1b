/**
 * What ends a command before its time: Ctrl-C, `kill`, the terminal closed, or nobody left who reads what it prints.
 * Commands that would leave something behind listen here; all others simply end.
 */
import { CancelledError } from '../errors.ts';
import { EXIT } from './exit-codes.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** A terminal gives Ctrl-C to all of a job at once, and some of them hand it on: that is one wish, not two. */
const SAME_WISH_MS = 1_000;

export interface Interruption {
  /** Its reason is a CancelledError. */
  readonly signal: AbortSignal;
  /** Stops listening: from then on signals end the program as usual. */
  end(): void;
}

const listening = new Set<(reason: CancelledError) => void>();

/** `insistent`: who asks again after a second is obeyed at once, whatever is left behind. */
export function listenForInterruption({ insistent = true } = {}): Interruption {
  const controller = new AbortController();
  let askedMs = Infinity;
  const abort = (reason: CancelledError): void => {
    if (!controller.signal.aborted) {
      askedMs = performance.now();
      controller.abort(reason);
    } else if (insistent && performance.now() - askedMs > SAME_WISH_MS) process.exit(EXIT.interrupted);
  };
  const onSignal = (name: string): void => abort(new CancelledError(`interrupted (${name})`));
  for (const name of SIGNALS) process.on(name, onSignal);
  listening.add(abort);
  return {
    signal: controller.signal,
    end() {
      for (const name of SIGNALS) process.off(name, onSignal);
      listening.delete(abort);
    },
  };
}

/** Nobody reads (EPIPE, as with `| head`), or the terminal is gone (EIO): there is nobody to tell either. */
export function endQuietlyWithoutReader(): void {
  const onError = ({ code }: NodeJS.ErrnoException): void => {
    if (code !== 'EPIPE' && code !== 'EIO') process.exitCode = 1;
    if (listening.size === 0) process.exit();
    for (const abort of [...listening]) abort(new CancelledError('nobody reads the output'));
  };
  process.stdout.on('error', onError);
  process.stderr.on('error', onError);
}
