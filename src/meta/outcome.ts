/**
 * What applying a command yields, equal on every replica: the mutation's result or the reason why it was refused.
 * Kept per (session, request id) so that a retry gets the same answer.
 */
import type { TatamiError } from '../errors.ts';
import { FsError, OverloadedError, SessionExpiredError, StaleBlocksError, StateError, type Errno } from '../errors.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readAttr, writeAttr } from './codec.ts';
import type { MutationResult } from './types.ts';

export type RefusalCode = Errno | 'ERR_SESSION_EXPIRED' | 'ERR_STALE_BLOCKS' | 'ERR_STATE' | 'ERR_OVERLOADED';

export type Outcome =
  { readonly ok: true; readonly result: MutationResult } | { readonly ok: false; readonly code: RefusalCode };

/**
 * Thrown inside a command to refuse it. One instance per code, made once: no stack is collected on paths that clients
 * take often (EEXIST, ENOENT).
 */
export class Refusal extends Error {
  readonly code: RefusalCode;
  constructor(code: RefusalCode) {
    super(code);
    this.code = code;
  }
}

const refusals = new Map<RefusalCode, Refusal>();

/** Ends the command with this outcome; nothing of what it wrote is kept. */
export function refuse(code: RefusalCode): never {
  let refusal = refusals.get(code);
  if (refusal === undefined) {
    refusal = new Refusal(code);
    refusals.set(code, refusal);
  }
  throw refusal;
}

/** The error that the client's caller sees. */
export function outcomeError(code: RefusalCode): TatamiError {
  switch (code) {
    case 'ERR_SESSION_EXPIRED':
      return new SessionExpiredError('this session is unknown to the group or has expired', {
        remedy:
          'A mount begins another by itself and goes on; what it had not yet written is lost, and named in its log.',
      });
    case 'ERR_STALE_BLOCKS':
      return new StaleBlocksError('the blocks were put before the last garbage collection began; put them again');
    case 'ERR_STATE':
      return new StateError('this request was answered before and its result is no longer kept');
    case 'ERR_OVERLOADED':
      return new OverloadedError('the session has too many requests whose results it has not acknowledged');
    default:
      return FsError.answered(code);
  }
}

const WITH_ATTR = 1;
const WITH_PARENT = 2;
const WITH_NEW_PARENT = 4;
const WITH_VICTIM = 8;
const WITH_CREATED = 16;
const CREATED = 32;
const REFUSED = 64;

export function writeOutcome(w: ByteWriter, outcome: Outcome): void {
  if (!outcome.ok) {
    w.u8(REFUSED).text(outcome.code);
    return;
  }
  const { attr, parentAttr, newParentAttr, victim, created } = outcome.result;
  w.u8(
    (attr === undefined ? 0 : WITH_ATTR) |
      (parentAttr === undefined ? 0 : WITH_PARENT) |
      (newParentAttr === undefined ? 0 : WITH_NEW_PARENT) |
      (victim === undefined ? 0 : WITH_VICTIM) |
      (created === undefined ? 0 : WITH_CREATED) |
      (created === true ? CREATED : 0),
  );
  if (attr !== undefined) writeAttr(w, attr);
  if (parentAttr !== undefined) writeAttr(w, parentAttr);
  if (newParentAttr !== undefined) writeAttr(w, newParentAttr);
  if (victim !== undefined) writeAttr(w, victim);
}

export function readOutcome(r: ByteReader): Outcome {
  const flags = r.u8();
  if (flags === REFUSED) return { ok: false, code: r.text() as RefusalCode };
  if (flags > 63) r.fail('an outcome has unknown parts');
  // Filled in, not spread together: that takes longer than reading the attributes.
  const result: { -readonly [Key in keyof MutationResult]: MutationResult[Key] } = {};
  if ((flags & WITH_ATTR) !== 0) result.attr = readAttr(r);
  if ((flags & WITH_PARENT) !== 0) result.parentAttr = readAttr(r);
  if ((flags & WITH_NEW_PARENT) !== 0) result.newParentAttr = readAttr(r);
  if ((flags & WITH_VICTIM) !== 0) result.victim = readAttr(r);
  if ((flags & WITH_CREATED) !== 0) result.created = (flags & CREATED) !== 0;
  return { ok: true, result };
}

const writer = new ByteWriter();

/** For the wire: compact, versioned by the message that carries it. */
export function encodeOutcome(outcome: Outcome): Uint8Array {
  writeOutcome(writer.reset(), outcome);
  return writer.finish();
}

export function decodeOutcome(bytes: Uint8Array): Outcome {
  const r = new ByteReader(bytes, 'an outcome');
  const outcome = readOutcome(r);
  r.end();
  return outcome;
}
