/**
 * Messages between the members of a group, and the checks of what arrives. Field by field in docs/protocol.md,
 * "Metadata groups". The names are those of the 2007 note. SyncPush, which comes with every change, is in push-codec.ts.
 */
import { FormatError } from '../../errors.ts';
import type { Epoch, Seq } from '../../ids.ts';
import type { EpochEnds } from './log-files.ts';
import type { LogEntry } from './log-record.ts';

export const groupMethods = {
  /** Primary to secondary and learners: entries, or none (a beacon). */
  syncPush: 'group.syncPush',
  /** Member to primary: a full copy, in pieces. */
  syncPull: 'group.syncPull',
  /** Primary to secondary, once when it starts: where its log ends, and entries that the primary lacks. */
  tail: 'group.tail',
  /** Participant to primary: is there a secondary? */
  secondaryQuery: 'group.secondaryQuery',
  /** Secondary to primary: its process is about to end. */
  leave: 'group.leave',
  status: 'group.status',
  /** Anyone: what the copy there is worth. */
  copyState: 'group.copyState',
  /** An operator's client to the node whose copy shall begin a new history (R9). */
  force: 'group.force',
} as const;

/** What every message between members carries (R6). */
export interface Head {
  readonly group: string;
  readonly epoch: number;
  readonly historyId: string;
}

export interface SyncPush extends Head {
  /** The entry before the first of `entries`. */
  readonly prevSeq: number;
  readonly prevEpoch: number;
  readonly entries: readonly LogEntry[];
  readonly committedSeq: number;
  /**
   * On disk at the primary up to here. Members keep their logs from there on: what a primary loses with the power it
   * can take back from its secondary.
   */
  readonly syncedSeq: number;
  /** Have it on disk before the reply (fsync). */
  readonly sync: boolean;
  /** The primary's log no longer reaches back to where this member stands: take a full copy. */
  readonly copy: boolean;
}

export type SyncPushReply =
  | { readonly status: 'logged'; readonly lastSeq: number; readonly syncedSeq: number }
  /** prevSeq is not here, or of another epoch. */
  | { readonly status: 'mismatch'; readonly ends: EpochEnds }
  /** A full copy is under way. */
  | { readonly status: 'copying' };

/** Answers to SecondaryQuery: the first asker is told to be it, later ones that there is one. */
export type SecondaryAnswer = 'SecondaryAppoint' | 'SecondaryPresent';

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new FormatError(`${what}: not a message of this protocol`);
}

function integer(value: unknown, name: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new FormatError(`${name} must be a whole number, not negative`);
}

function text(value: unknown, name: string): string {
  if (typeof value === 'string' && value.length <= 255) return value;
  throw new FormatError(`${name} must be text`);
}

function list(value: unknown, name: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new FormatError(`${name} must be a list`);
}

function bytes(value: unknown, name: string): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new FormatError(`${name} must be bytes`);
}

export function parseHead(header: unknown): Head {
  const h = fields(header, 'message of a group');
  return {
    group: text(h['group'], 'group'),
    epoch: integer(h['epoch'], 'epoch'),
    historyId: text(h['historyId'], 'historyId'),
  };
}

/** Entries of a tail travel as [epoch, command] pairs; seqs and previous epochs follow from the message. */
export function packEntries(entries: readonly LogEntry[]): unknown[] {
  return entries.map((entry) => [entry.epoch, entry.command]);
}

function parseEntries(value: unknown, prevSeq: number, prevEpoch: number): LogEntry[] {
  const entries: LogEntry[] = [];
  let last = prevEpoch;
  for (const item of list(value, 'entries')) {
    const [epoch, command] = list(item, 'entry');
    const own = integer(epoch, 'epoch of an entry');
    if (own < last) throw new FormatError('epochs of entries fall');
    const seq = (prevSeq + entries.length + 1) as Seq;
    entries.push({
      seq,
      epoch: own as Epoch,
      prevEpoch: last as Epoch,
      command: bytes(command, 'command'),
      decoded: undefined,
    });
    last = own;
  }
  return entries;
}

export function parseEnds(value: unknown): EpochEnds {
  const ends = list(value, 'ends').map((item) => {
    const [epoch, lastSeq] = list(item, 'end');
    return [integer(epoch, 'epoch'), integer(lastSeq, 'lastSeq')] as const;
  });
  if (ends.length === 0) throw new FormatError('ends must not be empty');
  return ends;
}

export interface TailRequest extends Head {
  /** Entries from here on are wanted; 0 for none. */
  readonly fromSeq: number;
}

export interface TailReply {
  readonly ends: EpochEnds;
  readonly entries: readonly LogEntry[];
}

export function parseTailRequest(header: unknown): TailRequest {
  return { ...parseHead(header), fromSeq: integer(fields(header, groupMethods.tail)['fromSeq'], 'fromSeq') };
}

export function parseTailReply(header: unknown, fromSeq: number): TailReply {
  const h = fields(header, 'reply to group.tail');
  const prevEpoch = integer(h['prevEpoch'], 'prevEpoch');
  return { ends: parseEnds(h['ends']), entries: parseEntries(h['entries'], Math.max(0, fromSeq - 1), prevEpoch) };
}

export interface SyncPullReply {
  readonly cursor: string | null;
  readonly appliedSeq: number;
  readonly appliedEpoch: number;
  readonly items: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[];
}

export function parseSyncPullReply(header: unknown): SyncPullReply {
  const h = fields(header, 'reply to group.syncPull');
  const items = list(h['items'], 'items').map((item) => {
    const [key, value] = list(item, 'row');
    return { key: bytes(key, 'key'), value: bytes(value, 'value') };
  });
  return {
    cursor: h['cursor'] === null ? null : text(h['cursor'], 'cursor'),
    appliedSeq: integer(h['appliedSeq'], 'appliedSeq'),
    appliedEpoch: integer(h['appliedEpoch'], 'appliedEpoch'),
    items,
  };
}

export function parseCursor(header: unknown): string | null {
  const cursor = fields(header, groupMethods.syncPull)['cursor'];
  return cursor === null || cursor === undefined ? null : text(cursor, 'cursor');
}
