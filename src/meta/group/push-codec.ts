/**
 * SyncPush and its reply as bytes: they come with every change, so they are written and read by fixed layouts
 * (docs/protocol.md, "Messages between members"). What arrives is checked; FormatError for what cannot be.
 */
import { FormatError } from '../../errors.ts';
import type { Epoch, Seq } from '../../ids.ts';
import { ByteReader, ByteWriter, TextMemo } from '../bytes.ts';
import type { EpochEnds } from './log-files.ts';
import type { LogEntry } from './log-record.ts';
import type { SyncPush, SyncPushReply } from './messages.ts';

const VERSION = 1;
const SYNC = 1;
const COPY = 2;

const writer = new ByteWriter();
const groups = new TextMemo();
const histories = new TextMemo();

/** Entries travel as epoch and command; seqs and previous epochs follow from the message. */
export function encodeSyncPush(push: SyncPush): Uint8Array {
  const w = writer.reset().u8(VERSION).text(push.group).u53(push.epoch).text(push.historyId);
  w.u53(push.prevSeq).u53(push.prevEpoch).u53(push.committedSeq).u53(push.syncedSeq);
  w.u8((push.sync ? SYNC : 0) | (push.copy ? COPY : 0)).u32(push.entries.length);
  for (const { epoch, command } of push.entries) w.u53(epoch).bytes32(command);
  return w.finish();
}

/** The commands are views of the header's bytes. */
export function parseSyncPush(header: unknown): SyncPush {
  const r = reader(header, 'group.syncPush');
  const group = groups.of(r.bytes16(), 'latin1');
  const epoch = r.u53();
  const historyId = histories.of(r.bytes16(), 'latin1');
  const prevSeq = r.u53();
  const prevEpoch = r.u53();
  const committedSeq = r.u53();
  const syncedSeq = r.u53();
  const flags = r.u8();
  if (flags > (SYNC | COPY)) r.fail('it has unknown flags');
  const entries = readEntries(r, prevSeq, prevEpoch);
  r.end();
  const sync = (flags & SYNC) !== 0;
  const copy = (flags & COPY) !== 0;
  return { group, epoch, historyId, prevSeq, prevEpoch, entries, committedSeq, syncedSeq, sync, copy };
}

function readEntries(r: ByteReader, prevSeq: number, prevEpoch: number): LogEntry[] {
  const entries: LogEntry[] = [];
  let last = prevEpoch as Epoch;
  // Each takes bytes of its own, so a false count ends in FormatError before it costs memory.
  for (let left = r.u32(); left > 0; left--) {
    const epoch = r.u53() as Epoch;
    if (epoch < last) r.fail('epochs of entries fall');
    const seq = (prevSeq + entries.length + 1) as Seq;
    entries.push({ seq, epoch, prevEpoch: last, command: r.bytes32(), decoded: undefined });
    last = epoch;
  }
  return entries;
}

const STATUSES = ['logged', 'mismatch', 'copying'] as const satisfies readonly SyncPushReply['status'][];

export function encodeSyncPushReply(reply: SyncPushReply): Uint8Array {
  const w = writer.reset().u8(VERSION).u8(STATUSES.indexOf(reply.status));
  switch (reply.status) {
    case 'logged':
      w.u53(reply.lastSeq).u53(reply.syncedSeq);
      break;
    case 'mismatch':
      w.u32(reply.ends.length);
      for (const [epoch, lastSeq] of reply.ends) w.u53(epoch).u53(lastSeq);
      break;
    case 'copying':
      break;
  }
  return w.finish();
}

export function parseSyncPushReply(header: unknown): SyncPushReply {
  const r = reader(header, 'the reply to group.syncPush');
  const status = STATUSES[r.u8()] ?? r.fail('it has an unknown status');
  let reply: SyncPushReply;
  switch (status) {
    case 'logged':
      reply = { status, lastSeq: r.u53(), syncedSeq: r.u53() };
      break;
    case 'mismatch':
      reply = { status, ends: readEnds(r) };
      break;
    case 'copying':
      reply = { status };
      break;
  }
  r.end();
  return reply;
}

function readEnds(r: ByteReader): EpochEnds {
  const ends: [number, number][] = [];
  for (let left = r.u32(); left > 0; left--) ends.push([r.u53(), r.u53()]);
  if (ends.length === 0) r.fail('its ends must not be empty');
  return ends;
}

function reader(header: unknown, what: string): ByteReader {
  if (!(header instanceof Uint8Array)) throw new FormatError(`${what} must be bytes`);
  const r = new ByteReader(header, what);
  r.version(VERSION);
  return r;
}
