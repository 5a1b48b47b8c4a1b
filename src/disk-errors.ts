/** What an error of the disk (or of the system, on the way to it) says about what to do next. */

/** The system was short of something that others give back: it says nothing about the disk. */
const PASSING: readonly unknown[] = ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'];

/** Whether the same may succeed later, though nobody mends the disk. */
export function mayPass(error: unknown): boolean {
  return PASSING.includes(codeOf(error));
}

/** Also where that is what another error came from. */
export function isFull(error: unknown): boolean {
  const code = codeOf(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') return true;
  return error instanceof Error && error.cause !== undefined && isFull(error.cause);
}

/** Whether the disk says that it cannot read what is there. */
export function isUnreadable(error: unknown): boolean {
  return codeOf(error) === 'EIO';
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null | undefined)?.code;
}
