/** From the layers' conditions to the errno that a program sees; the one place where vfs decides it. */
import {
  CancelledError,
  FsError,
  NoSpaceError,
  OverloadedError,
  PeerUnreachableError,
  StaleEpochError,
  TatamiError,
  TimeoutError,
  UnavailableError,
} from '../errors.ts';

/** An FsError is passed on as it is; what a file operation cannot express becomes EIO, with the cause kept. */
export function toFsError(error: unknown, what: string): FsError {
  if (error instanceof FsError) return error;
  const message = error instanceof Error ? `${what}: ${error.message}` : `${what}: ${String(error)}`;
  const remedy = error instanceof TatamiError ? error.remedy : undefined;
  const details = remedy === undefined ? { cause: error } : { cause: error, remedy };
  if (error instanceof NoSpaceError) return new FsError('ENOSPC', message, details);
  if (error instanceof CancelledError) return new FsError('EINTR', message, details);
  return new FsError('EIO', message, details);
}

/** Conditions that may pass by themselves: tried again until the deadline. */
export function mayPass(error: unknown): boolean {
  return (
    error instanceof UnavailableError ||
    error instanceof PeerUnreachableError ||
    error instanceof OverloadedError ||
    error instanceof StaleEpochError ||
    error instanceof TimeoutError
  );
}

/** Pause before the next attempt of what may pass: soon at first, then at most once a second. */
export function pauseMs(attempt: number): number {
  return Math.min(1_000, 50 * 2 ** Math.min(attempt, 5));
}
