import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { MemoryDisk } from '../../env-memory.ts';
import { CorruptionError, StateError } from '../../errors.ts';
import type { Epoch, Seq } from '../../ids.ts';
import { SILENT_LOGGER } from '../../log.ts';
import { GroupLog } from './log-files.ts';
import type { LogEntry } from './log-record.ts';
import { SEGMENT_HEADER_BYTES, decodeRecord, encodeRecords, findRecord } from './log-record.ts';

let disk: MemoryDisk;
beforeEach(() => {
  disk = new MemoryDisk();
});

const SMALL = { segmentBytes: 1_000, recentMaxBytes: 500 };

function open(bounds: { segmentBytes?: number; recentMaxBytes?: number } = {}): Promise<GroupLog> {
  return GroupLog.open({ disk, path: '/log', log: SILENT_LOGGER, ...bounds });
}

function entries(from: number, count: number, epoch = 1, prevEpoch = from === 1 ? 0 : epoch): LogEntry[] {
  return Array.from({ length: count }, (_, index) => ({
    seq: (from + index) as Seq,
    epoch: epoch as Epoch,
    prevEpoch: (index === 0 ? prevEpoch : epoch) as Epoch,
    command: Buffer.from(`command ${from + index} of epoch ${epoch}`),
  }));
}

async function readAll(log: GroupLog): Promise<string[]> {
  const texts: string[] = [];
  for (let seq = log.firstSeq; seq <= log.lastSeq;) {
    const read = await log.read(seq, 200);
    expect(read.length).toBeGreaterThan(0);
    for (const entry of read) {
      expect(entry.seq).toBe(seq++);
      texts.push(Buffer.from(entry.command).toString());
    }
  }
  return texts;
}

describe('log records', () => {
  it('come back as they were, and no flipped bit goes unnoticed', () => {
    const bytes = encodeRecords(entries(5, 3, 7, 6), 4);
    const first = decodeRecord(bytes, 0)!;
    expect(first).toMatchObject({ entry: { seq: 5, epoch: 7, prevEpoch: 6 }, syncedSeq: 4, at: 0 });
    expect(decodeRecord(bytes, first.end)!.entry).toMatchObject({ seq: 6, epoch: 7, prevEpoch: 7 });
    for (let at = 0; at < first.end; at++) {
      const damaged = Uint8Array.from(bytes);
      damaged[at]! ^= 0x10;
      expect(decodeRecord(damaged, 0)).toBeUndefined();
      expect(findRecord(damaged, 0)!.entry.seq).toBe(6);
    }
    for (let length = 0; length < first.end; length++) {
      expect(decodeRecord(bytes.subarray(0, length), 0)).toBeUndefined();
    }
  });
});

describe('GroupLog', () => {
  it('appends, reads from memory and from disk, and goes on after it was opened again', async () => {
    const log = await open(SMALL);
    expect([log.firstSeq, log.lastSeq, log.lastEpoch]).toEqual([1, 0, 0]);
    for (let at = 1; at <= 50; at += 5) await log.append(entries(at, 5));
    const all = await readAll(log);
    expect(all).toHaveLength(50);
    expect(log.readNow(1, 100)).toBeUndefined();
    expect(log.readNow(50, 100)).toHaveLength(1);
    expect((await log.read(3, 1_000_000, 6)).map((entry) => entry.seq)).toEqual([3, 4, 5, 6]);
    expect(await log.read(51, 100)).toEqual([]);
    await log.close();
    const again = await open(SMALL);
    expect(again.lastSeq).toBe(50);
    expect(await readAll(again)).toEqual(all);
    await again.append(entries(51, 1, 2, 1));
    expect(again.epochEnds()).toEqual([
      [0, 0],
      [1, 50],
      [2, 51],
    ]);
    expect([0, 1, 50, 51, 52].map((seq) => again.epochAt(seq))).toEqual([0, 1, 1, 2, undefined]);
  });

  it('refuses entries that do not follow', async () => {
    const log = await open();
    await log.append(entries(1, 2, 3, 0));
    expect(() => log.append(entries(4, 1, 3))).toThrow(StateError);
    expect(() => log.append(entries(3, 1, 2))).toThrow(StateError);
    expect(() => log.append(entries(3, 1, 4, 2))).toThrow(StateError);
  });

  it('makes one write of many calls, and one sync', async () => {
    const ops: string[] = [];
    disk.setDelay((op) => {
      ops.push(op);
      return undefined;
    });
    const log = await open();
    ops.length = 0;
    const allowAnother = disk.failNext({ op: 'write', after: 1 });
    const written = [1, 2, 3, 4, 5].map((seq) => log.append(entries(seq, 1)));
    expect(log.writtenSeq).toBe(0);
    await Promise.all([...written, log.sync(), log.sync()]);
    allowAnother();
    expect(ops).toEqual(['datasync']);
    expect([log.writtenSeq, log.syncedSeq]).toEqual([5, 5]);
  });

  it('writes at once where nothing is to be waited for, and while it waits for the disk', async () => {
    const log = await open({ segmentBytes: 1_000 });
    expect(log.appendNow(entries(1, 2))).toBe(true);
    expect([log.lastSeq, log.writtenSeq]).toEqual([2, 2]);
    // Behind others in line, or with more than is written at once, it leaves everything as it was.
    const queued = log.append(entries(3, 1));
    expect(log.appendNow(entries(4, 1))).toBe(false);
    expect(log.lastSeq).toBe(3);
    await queued;
    const large = entries(4, 1).map((entry) => ({ ...entry, command: new Uint8Array(100_000) }));
    expect(log.appendNow(large)).toBe(false);

    let finish = (): void => undefined;
    disk.setDelay((op) => (op === 'datasync' ? new Promise<void>((resolve) => (finish = resolve)) : undefined));
    const synced = log.sync();
    // The sync has to have begun.
    await new Promise((resolve) => setImmediate(resolve));
    expect(log.appendNow(entries(4, 1))).toBe(true);
    await log.append(entries(5, 1));
    expect([log.writtenSeq, log.syncedSeq]).toEqual([5, 0]);
    disk.setDelay(undefined);
    finish();
    // What came meanwhile is not taken for being on disk.
    expect(await synced).toBe(3);
    expect(log.syncedSeq).toBe(3);
    expect(await log.sync()).toBe(5);
    disk.crash();
    const again = await open({ segmentBytes: 1_000 });
    expect(again.lastSeq).toBe(5);
  });

  it('takes nothing more after a failed write, at once or later', async () => {
    const log = await open();
    disk.failNext({ op: 'write' });
    expect(() => log.appendNow(entries(1, 1))).toThrow('fault injected');
    expect(() => log.appendNow(entries(2, 1))).toThrow(CorruptionError);
    await expect(log.append(entries(2, 1))).rejects.toThrow(CorruptionError);
  });

  it('cuts its end off, over segments, and stays cut', async () => {
    const log = await open(SMALL);
    await log.append(entries(1, 10));
    for (let at = 11; at <= 60; at += 5) await log.append(entries(at, 5, 2, at === 11 ? 1 : 2));
    await log.truncateAfter(8);
    expect(log.epochEnds()).toEqual([
      [0, 0],
      [1, 8],
    ]);
    await log.append(entries(9, 2, 3, 1));
    disk.crash();
    const again = await open(SMALL);
    expect(again.lastSeq).toBe(8);
    expect(await readAll(again)).toHaveLength(8);
  });

  it('drops its beginning by segments, and knows the epoch before it', async () => {
    const log = await open(SMALL);
    for (let at = 1; at <= 60; at += 5) await log.append(entries(at, 5));
    await log.append(entries(61, 5, 2, 1));
    expect(log.keepFromSeq(0)).toBeGreaterThan(1);
    expect(log.keepFromSeq(1e9)).toBe(1);
    await log.dropBelow(40);
    const { firstSeq } = log;
    expect(firstSeq).toBeGreaterThan(1);
    expect(firstSeq).toBeLessThanOrEqual(40);
    expect(log.epochEnds()[0]).toEqual([1, 60]);
    expect(log.epochAt(firstSeq - 1)).toBe(1);
    expect(log.epochAt(firstSeq - 2)).toBeUndefined();
    await expect(log.read(firstSeq - 1, 10)).rejects.toThrow(StateError);
    await log.close();
    const again = await open(SMALL);
    expect(again.firstSeq).toBe(firstSeq);
    expect(again.epochEnds()).toEqual(log.epochEnds());
  });

  it('begins anew after a full copy', async () => {
    const log = await open(SMALL);
    for (let at = 1; at <= 60; at += 5) await log.append(entries(at, 5));
    await log.reset(1_000, 7);
    disk.crash();
    const again = await open(SMALL);
    expect([again.firstSeq, again.lastSeq, again.lastEpoch]).toEqual([1_001, 1_000, 7]);
    await again.append(entries(1_001, 1, 8, 7));
    expect(again.epochEnds()).toEqual([
      [7, 1_000],
      [8, 1_001],
    ]);
  });

  it('takes nothing more after a failed write or sync', async () => {
    const log = await open();
    await log.append(entries(1, 3));
    disk.failNext({ op: 'datasync' });
    await expect(log.sync()).rejects.toThrow(/EIO/);
    await expect(log.append(entries(4, 1))).rejects.toThrow(CorruptionError);
    await expect(log.sync()).rejects.toThrow(/restart the node|takes nothing more/);
    // Nor is it closed in order.
    await expect(log.close()).rejects.toThrow(CorruptionError);
  });

  it('tells damage before what was synced from a torn end', async () => {
    const path = '/log/00000000000001.log';
    const write = async () => {
      disk = new MemoryDisk();
      const log = await open();
      await log.append(entries(1, 5));
      await log.sync();
      await log.append(entries(6, 5));
      await log.close();
      return decodeRecord(await disk.readFile(path), SEGMENT_HEADER_BYTES)!.end - SEGMENT_HEADER_BYTES;
    };
    const size = await write();
    // Entry 3 was on disk when entry 6 was written.
    disk.corrupt(path, SEGMENT_HEADER_BYTES + 2 * size + 20);
    await expect(open()).rejects.toThrow(CorruptionError);
    await write();
    // Nothing says that entry 8 ever was.
    disk.corrupt(path, SEGMENT_HEADER_BYTES + 7 * size + 20);
    expect((await open()).lastSeq).toBe(7);
    await write();
    for (const at of [0, 10, 20, 30]) {
      disk.corrupt(path, at, 1);
      await expect(open()).rejects.toThrow(CorruptionError);
      disk.corrupt(path, at, 1);
    }
    expect((await open()).lastSeq).toBe(10);
  });

  it('reports a missing segment, and forgets one that was never begun', async () => {
    const log = await open(SMALL);
    for (let at = 1; at <= 60; at += 5) await log.append(entries(at, 5));
    await log.close();
    const names = await disk.readdir('/log');
    expect(names.length).toBeGreaterThan(2);
    const empty = await disk.open(`/log/${(61).toString(16).padStart(14, '0')}.log`, 'exclusive');
    await empty.write([new Uint8Array(10)], 0);
    await empty.close();
    expect((await open(SMALL)).lastSeq).toBe(60);
    expect(await disk.readdir('/log')).toEqual(names);
    await disk.unlink(`/log/${names[1]!}`);
    await expect(open(SMALL)).rejects.toThrow(/missing/);
  });

  it('survives power failures anywhere: what was synced is there, what is there is right', async () => {
    type Step = { append: number } | { sync: true } | { truncate: number } | { drop: number } | { crash: number };
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ append: fc.integer({ min: 1, max: 8 }) }) },
      { weight: 3, arbitrary: fc.constant({ sync: true as const }) },
      { weight: 1, arbitrary: fc.record({ truncate: fc.nat(20) }) },
      { weight: 1, arbitrary: fc.record({ drop: fc.nat(20) }) },
      { weight: 2, arbitrary: fc.record({ crash: fc.nat() }) },
    ) as fc.Arbitrary<Step>;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        disk = new MemoryDisk();
        let log = await open(SMALL);
        /** What the log must be, from entry 1 on. */
        let model: LogEntry[] = [];
        let synced = 0;
        let epoch = 1;
        for (const one of steps) {
          if ('append' in one) {
            const next = entries(model.length + 1, one.append, epoch, model.at(-1)?.epoch ?? 0);
            await log.append(next);
            model.push(...next);
          } else if ('sync' in one) {
            synced = await log.sync();
          } else if ('truncate' in one) {
            const after = Math.max(log.firstSeq - 1, model.length - one.truncate);
            await log.truncateAfter(after);
            model = model.slice(0, after);
            synced = Math.min(synced, after);
            // As after any cut: what comes next is of a newer epoch.
            epoch++;
          } else if ('drop' in one) {
            await log.dropBelow(Math.max(1, synced - one.drop));
          } else {
            let state = one.crash;
            const below = (bound: number) => (state = (state * 1_103_515_245 + 12_345) % 2_147_483_648) % bound;
            disk.crash({ random: { below, bytes: (length) => new Uint8Array(length) } });
            log = await open(SMALL);
            expect(log.lastSeq).toBeGreaterThanOrEqual(synced);
            expect(log.lastSeq).toBeLessThanOrEqual(model.length);
            model = model.slice(0, log.lastSeq);
            epoch++;
          }
        }
        const expected = model.slice(log.firstSeq - 1).map((entry) => Buffer.from(entry.command).toString());
        expect(await readAll(log)).toEqual(expected);
        expect(log.lastSeq).toBe(model.length);
        expect(log.firstSeq).toBeLessThanOrEqual(synced + 1);
      }),
      { numRuns: 150 },
    );
  });
});
