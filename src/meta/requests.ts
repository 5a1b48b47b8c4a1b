/**
 * Headers of `meta.mutate` and `meta.query` as bytes: these two come for every operation on a file, and a map of named
 * fields takes several times as long to write and to read. Field by field in docs/protocol.md.
 */
import { FormatError } from '../errors.ts';
import { ByteReader, ByteWriter, TextMemo } from './bytes.ts';
import type { Ino, SessionId } from '../ids.ts';
import { readSessionId, writeSessionId } from './codec.ts';
import { decodeCommand, stampCommand, writeClientCommand, type ClientCommand, type Command } from './commands.ts';
import { readLockRequest, writeLockRequest, type LockRequest } from './locks.ts';
import { readQuery, writeQuery } from './query-request.ts';
import type { Mutation, OwnLockRequest, Query } from './types.ts';

const VERSION = 1;
const writer = new ByteWriter();
/** A node is asked about the same group over and over. */
const groups = new TextMemo();

export type MutateHead = Pick<ClientCommand, 'session' | 'requestId' | 'ackedBelow'>;

/** The client writes the whole command of the log; only its time is left to the primary. */
export function encodeMutateRequest(group: string, head: MutateHead, mutation: Mutation): Uint8Array {
  const { session, requestId, ackedBelow } = head;
  const command = { kind: 'client', session, requestId, ackedBelow, nowNs: 0n, mutation } as const;
  writeClientCommand(writer.reset().u8(VERSION).text(group), command);
  return writer.finish();
}

export function decodeMutateRequest(header: unknown): { readonly group: string; readonly bytes: Uint8Array } {
  const { r, group } = open(header, 'a change');
  return { group, bytes: r.rest() };
}

/**
 * The command in the bytes of a request; the primary's time is written into them, and they go into the log as they are
 * then. Throws FormatError for what is not a whole, well-formed client command: it must never get into the log, where
 * every replica would stumble over it.
 */
export function takeClientCommand(bytes: Uint8Array, nowNs: bigint): ClientCommand {
  stampCommand(bytes, nowNs);
  const command = readAsked(bytes);
  if (command.kind !== 'client') throw new FormatError('a client may only ask for changes of its own');
  return command;
}

function readAsked(bytes: Uint8Array): Command {
  try {
    return decodeCommand(bytes);
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError(`this node does not know what it is asked for: ${cause.message}`, {
      cause,
      remedy: 'Mount or program may be of another version than the nodes: run the same one everywhere.',
    });
  }
}

export function encodeQueryRequest(group: string, query: Query): Uint8Array {
  writeQuery(writer.reset().u8(VERSION).text(group), query);
  return writer.finish();
}

/** Throws FormatError. */
export function decodeQueryRequest(header: unknown): { readonly group: string; readonly query: Query } {
  const { r, group } = open(header, 'a query');
  const query = readQuery(r);
  r.end();
  return { group, query };
}

export function encodeLockWait(group: string, session: SessionId, ino: Ino, lock: OwnLockRequest): Uint8Array {
  const w = writeSessionId(writer.reset().u8(VERSION).text(group), session).u53(ino);
  writeLockRequest(w, lock);
  return w.finish();
}

/** Throws FormatError. */
export function decodeLockWait(header: unknown): {
  readonly group: string;
  readonly ino: Ino;
  readonly wanted: LockRequest;
} {
  const { r, group } = open(header, 'a question for a lock');
  const session = readSessionId(r);
  const ino = r.u53() as Ino;
  const lock = readLockRequest(r);
  r.end();
  return { group, ino, wanted: { ...lock, session } };
}

function open(header: unknown, what: string): { readonly r: ByteReader; readonly group: string } {
  if (!(header instanceof Uint8Array)) throw new FormatError(`${what} must be bytes`);
  const r = new ByteReader(header, what);
  r.version(VERSION);
  return { r, group: groups.of(r.bytes16(), 'latin1') };
}
