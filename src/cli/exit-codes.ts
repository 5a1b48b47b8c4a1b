/** Exit codes of `tatami`, as `tatami --help` lists them. */
import { TatamiError } from '../errors.ts';

export const EXIT = {
  ok: 0,
  /** The operation failed; the message says why. */
  failed: 1,
  /** Wrong arguments, files or configuration: nothing was changed. */
  usage: 2,
  /** The cluster, or too much of it, cannot be reached. */
  unavailable: 3,
  /** It worked, and what it reports is not well: degraded, damaged, missing. */
  unhealthy: 4,
  interrupted: 130,
} as const;

const UNAVAILABLE_CODES = new Set(['ERR_PEER_UNREACHABLE', 'ERR_TIMEOUT', 'ERR_UNAVAILABLE', 'ERR_NOT_PRIMARY']);
const USAGE_CODES = new Set(['ERR_USAGE', 'ERR_AUTH', 'ERR_FORMAT']);

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof TatamiError)) return EXIT.failed;
  if (UNAVAILABLE_CODES.has(error.code)) return EXIT.unavailable;
  if (USAGE_CODES.has(error.code)) return EXIT.usage;
  return error.code === 'ERR_CANCELLED' ? EXIT.interrupted : EXIT.failed;
}
