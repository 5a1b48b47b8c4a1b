/**
 * Commands: what the group's log holds. A client's mutation is wrapped by the primary with the time; inode numbers come
 * from the table's counter. As bytes: version, kind, fields. A client's command goes into the log entry as it came
 * (requests.ts), so the primary need not encode it again.
 */
import { FormatError } from '../errors.ts';
import type { SessionId } from '../ids.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readSessionId, writeSessionId } from './codec.ts';
import { readMutation, writeMutation } from './mutation-codec.ts';
import type { Mutation } from './types.ts';

export interface ClientCommand {
  readonly kind: 'client';
  readonly session: SessionId;
  /** Unique in the session, grows from 1. */
  readonly requestId: number;
  /** The client has the answers of all requests below. */
  readonly ackedBelow: number;
  /** The primary's wall clock. */
  readonly nowNs: bigint;
  readonly mutation: Mutation;
}

export type Command =
  | ClientCommand
  /** Opening a session that is open changes nothing. */
  | {
      readonly kind: 'openSession';
      readonly session: SessionId;
      readonly nowNs: bigint;
      readonly leaseMs: number;
      readonly label: string;
      /** It tells which files it has open that lose their names elsewhere. Sessions of older programs do not, and are not asked. */
      readonly answers?: true;
    }
  /** Ends the session: its orphans are destroyed, its results forgotten. */
  | { readonly kind: 'expireSession'; readonly session: SessionId }
  /** From here on, commits of blocks put under an older collection generation are refused. */
  | { readonly kind: 'gcBarrier'; readonly generation: number }
  /** Removes up to `maxRows` rows that no inode owns any more; proposed by the primary while MetaStore.deadCount > 0. */
  | { readonly kind: 'reclaim'; readonly maxRows: number }
  | { readonly kind: 'noop' };

const COMMAND_VERSION = 1;
const KINDS = [
  'client',
  'openSession',
  'expireSession',
  'gcBarrier',
  'reclaim',
  'noop',
  'openAnsweringSession',
] as const;

const writer = new ByteWriter();

function start(kind: (typeof KINDS)[number]): ByteWriter {
  return writer.reset().u8(COMMAND_VERSION).u8(KINDS.indexOf(kind));
}

/** Where the time of a client command lies: after version, kind, session, request id and ackedBelow. */
const CLIENT_TIME_AT = 2 + 16 + 8 + 8;

/** The bytes of a client command; the primary puts its time in with {@link stampCommand}. */
export function writeClientCommand(w: ByteWriter, command: ClientCommand): void {
  writeSessionId(w.u8(COMMAND_VERSION).u8(KINDS.indexOf('client')), command.session)
    .u53(command.requestId)
    .u53(command.ackedBelow)
    .i64(command.nowNs);
  writeMutation(w, command.mutation);
}

/** Sets the time of an encoded client command. FormatError if the bytes are too few to be one. */
export function stampCommand(bytes: Uint8Array, nowNs: bigint): void {
  if (bytes.length < CLIENT_TIME_AT + 8) throw new FormatError('a command cannot be read: it ends too early');
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).setBigInt64(CLIENT_TIME_AT, nowNs, true);
}

export function encodeCommand(command: Command): Uint8Array {
  const w = start(command.kind === 'openSession' && command.answers === true ? 'openAnsweringSession' : command.kind);
  switch (command.kind) {
    case 'client':
      writeClientCommand(w.reset(), command);
      break;
    case 'openSession':
      writeSessionId(w, command.session).i64(command.nowNs).u53(command.leaseMs).text(command.label);
      break;
    case 'expireSession':
      writeSessionId(w, command.session);
      break;
    case 'gcBarrier':
      w.u53(command.generation);
      break;
    case 'reclaim':
      w.u32(command.maxRows);
      break;
    case 'noop':
      break;
  }
  return w.finish();
}

/** Throws FormatError for what is not a whole, well-formed command. Byte fields are views of `bytes`. */
export function decodeCommand(bytes: Uint8Array): Command {
  const r = new ByteReader(bytes, 'a command');
  r.version(COMMAND_VERSION);
  const command = readCommand(r);
  r.end();
  return command;
}

function readCommand(r: ByteReader): Command {
  const kind = KINDS[r.u8()] ?? r.fail('it is of an unknown kind');
  switch (kind) {
    case 'client':
      return {
        kind,
        session: readSessionId(r),
        requestId: r.u53(),
        ackedBelow: r.u53(),
        nowNs: r.i64(),
        mutation: readMutation(r),
      };
    case 'openSession':
      return { kind, session: readSessionId(r), nowNs: r.i64(), leaseMs: r.u53(), label: r.text() };
    case 'openAnsweringSession':
      return {
        kind: 'openSession',
        session: readSessionId(r),
        nowNs: r.i64(),
        leaseMs: r.u53(),
        label: r.text(),
        answers: true,
      };
    case 'expireSession':
      return { kind, session: readSessionId(r) };
    case 'gcBarrier':
      return { kind, generation: r.u53() };
    case 'reclaim':
      return { kind, maxRows: r.u32() };
    case 'noop':
      return { kind };
  }
}
