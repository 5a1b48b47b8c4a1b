import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FormatError } from '../../errors.ts';
import type { Epoch, Seq } from '../../ids.ts';
import type { SyncPush, SyncPushReply } from './messages.ts';
import { encodeSyncPush, encodeSyncPushReply, parseSyncPush, parseSyncPushReply } from './push-codec.ts';

const commands = fc.array(fc.tuple(fc.nat({ max: 3 }), fc.uint8Array({ maxLength: 50 })), { maxLength: 5 });
const pushes: fc.Arbitrary<SyncPush> = fc
  .record({
    group: fc.constantFrom('g0', 'g1'),
    epoch: fc.maxSafeNat(),
    historyId: fc.constantFrom('h1', 'h2'),
    prevSeq: fc.nat(),
    prevEpoch: fc.nat(),
    commands,
    committedSeq: fc.maxSafeNat(),
    syncedSeq: fc.maxSafeNat(),
    sync: fc.boolean(),
    copy: fc.boolean(),
  })
  .map(({ commands: given, ...push }) => {
    let prevEpoch = push.prevEpoch as Epoch;
    const entries = given.map(([step, command], index) => {
      const epoch = (prevEpoch + step) as Epoch;
      const entry = { seq: (push.prevSeq + index + 1) as Seq, epoch, prevEpoch, command: new Uint8Array(command) };
      prevEpoch = epoch;
      return entry;
    });
    return { ...push, entries };
  });
const replies: fc.Arbitrary<SyncPushReply> = fc.oneof(
  fc.record({ status: fc.constant('logged' as const), lastSeq: fc.maxSafeNat(), syncedSeq: fc.maxSafeNat() }),
  fc.record({
    status: fc.constant('mismatch' as const),
    ends: fc.array(fc.tuple(fc.maxSafeNat(), fc.maxSafeNat()), { minLength: 1, maxLength: 4 }),
  }),
  fc.record({ status: fc.constant('copying' as const) }),
);

it('a push survives its encoding, and nothing less or more than it is taken for one', () => {
  fc.assert(
    fc.property(pushes, fc.nat(), (push, cut) => {
      const bytes = new Uint8Array(encodeSyncPush(push));
      const read = parseSyncPush(bytes);
      const entries = read.entries.map(({ seq, epoch, prevEpoch, command }) => ({
        ...{ seq, epoch, prevEpoch },
        command: new Uint8Array(command),
      }));
      expect({ ...read, entries }).toEqual(push);
      expect(() => parseSyncPush(bytes.subarray(0, cut % bytes.length))).toThrow(FormatError);
      expect(() => parseSyncPush(Buffer.concat([bytes, Uint8Array.of(0)]))).toThrow(FormatError);
    }),
    { numRuns: 60 },
  );
});

it('so does a reply', () => {
  fc.assert(
    fc.property(replies, fc.nat(), (reply, cut) => {
      const bytes = new Uint8Array(encodeSyncPushReply(reply));
      expect(parseSyncPushReply(bytes)).toEqual(reply);
      expect(() => parseSyncPushReply(bytes.subarray(0, cut % bytes.length))).toThrow(FormatError);
      expect(() => parseSyncPushReply(Buffer.concat([bytes, Uint8Array.of(0)]))).toThrow(FormatError);
    }),
    { numRuns: 60 },
  );
});

it('falling epochs, unknown flags and what is not bytes are refused', () => {
  const head = { group: 'g', epoch: 5, historyId: 'h', prevSeq: 0, prevEpoch: 4, committedSeq: 0, syncedSeq: 0 };
  const entry = { seq: 1 as Seq, epoch: 3 as Epoch, prevEpoch: 4 as Epoch, command: new Uint8Array() };
  const falling = encodeSyncPush({ ...head, entries: [entry], sync: false, copy: false });
  expect(() => parseSyncPush(falling)).toThrow(FormatError);
  const flagged = new Uint8Array(encodeSyncPush({ ...head, entries: [], sync: false, copy: false }));
  flagged[flagged.length - 5] = 4;
  expect(() => parseSyncPush(flagged)).toThrow(FormatError);
  for (const bad of [undefined, null, 1, 'x', {}, [], new Uint8Array(), Uint8Array.of(9)]) {
    expect(() => parseSyncPush(bad)).toThrow(FormatError);
    expect(() => parseSyncPushReply(bad)).toThrow(FormatError);
  }
  // A reply that names no ends.
  expect(() => parseSyncPushReply(Uint8Array.of(1, 1, 0, 0, 0, 0))).toThrow(FormatError);
});
