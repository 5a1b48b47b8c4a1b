/**
 * Errors on the wire: {code, message, remedy, info} there, the same class here. An unknown code (of a newer peer)
 * becomes a plain TatamiError that keeps it.
 */
import {
  AuthError,
  BlockNotFoundError,
  CancelledError,
  ConflictError,
  CorruptionError,
  FormatError,
  FsError,
  InvariantError,
  NoSpaceError,
  NotPrimaryError,
  OverloadedError,
  PeerUnreachableError,
  RemovedError,
  SessionExpiredError,
  StaleBlocksError,
  StaleEpochError,
  StateError,
  TatamiError,
  TimeoutError,
  TooLargeError,
  UnavailableError,
  UsageError,
} from '../errors.ts';
import type { Errno, ErrorDetails } from '../errors.ts';

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly remedy?: string | undefined;
  readonly info?: Readonly<Record<string, unknown>> | undefined;
}

/** Code of an error that no class of ours describes: a bug in the peer's handler. */
export const INTERNAL_CODE = 'ERR_INTERNAL';

/** Longer messages are cut: an error is to be read, and must always fit a frame. */
const TEXT_MAX_CHARS = 4096;

type SimpleErrorClass = new (message: string, details?: ErrorDetails) => TatamiError;

const CLASS_BY_CODE: ReadonlyMap<string, SimpleErrorClass> = new Map<string, SimpleErrorClass>([
  ['ERR_STATE', StateError],
  ['ERR_INVARIANT', InvariantError],
  ['ERR_USAGE', UsageError],
  ['ERR_BLOCK_NOT_FOUND', BlockNotFoundError],
  ['ERR_CORRUPT', CorruptionError],
  ['ERR_FORMAT', FormatError],
  ['ERR_TOO_LARGE', TooLargeError],
  ['ERR_NO_SPACE', NoSpaceError],
  ['ERR_PEER_UNREACHABLE', PeerUnreachableError],
  ['ERR_TIMEOUT', TimeoutError],
  ['ERR_CANCELLED', CancelledError],
  ['ERR_OVERLOADED', OverloadedError],
  ['ERR_AUTH', AuthError],
  ['ERR_STALE_EPOCH', StaleEpochError],
  ['ERR_NOT_PRIMARY', NotPrimaryError],
  ['ERR_REMOVED', RemovedError],
  ['ERR_UNAVAILABLE', UnavailableError],
  ['ERR_SESSION_EXPIRED', SessionExpiredError],
  ['ERR_STALE_BLOCKS', StaleBlocksError],
  ['ERR_CONFLICT', ConflictError],
]);

/** What is told to the peer. Anything that is not a TatamiError becomes {@link INTERNAL_CODE}. */
export function toWireError(error: unknown): WireError {
  if (error instanceof TatamiError) {
    return {
      code: error.code,
      message: error.message.slice(0, TEXT_MAX_CHARS),
      remedy: error.remedy?.slice(0, TEXT_MAX_CHARS),
      info: error.info,
    };
  }
  const text = error instanceof Error ? error.message : String(error);
  return {
    code: INTERNAL_CODE,
    message: `internal error: ${text}`.slice(0, TEXT_MAX_CHARS),
    remedy: "This is a bug: see that node's log, and report it with the lines around this error.",
  };
}

/** Inverse of {@link toWireError}; checks every field, since a peer sent it. */
export function fromWireError(wire: { code: unknown; message: unknown; remedy: unknown; info: unknown }): TatamiError {
  const code = typeof wire.code === 'string' && wire.code !== '' ? wire.code : INTERNAL_CODE;
  const message = typeof wire.message === 'string' ? wire.message : code;
  const details: ErrorDetails = {
    ...(typeof wire.remedy === 'string' ? { remedy: wire.remedy } : {}),
    ...(isRecord(wire.info) ? { info: wire.info } : {}),
  };
  const known = CLASS_BY_CODE.get(code);
  if (known !== undefined) return new known(message, details);
  if (/^E[A-Z0-9]{1,15}$/.test(code)) return FsError.answered(code as Errno, message, details);
  return new TatamiError(code, message, details);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
