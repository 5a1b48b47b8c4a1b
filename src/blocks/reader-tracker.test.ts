import { describe, expect, it } from 'vitest';
import { storm } from '../../bench/storm-model.ts';
import { ReaderTracker, type ReaderAsk } from './reader-tracker.ts';

const MiB = 1 << 20;
const ask = (reader: number, changes: Partial<ReaderAsk> = {}): ReaderAsk => ({
  ...{
    key: 'b',
    reader: address(reader),
    cacheBytes: 128 * MiB,
    readBytes: 0,
    direct: false,
    gone: [],
    slow: [],
    underWay: 2,
  },
  ...changes,
});
const address = (reader: number) => `10.0.0.${reader}:7000`;

describe('who is sent to whom', () => {
  it('the first reader is given the block, the next is sent to it, and the third to whoever has less to do', () => {
    const tracker = new ReaderTracker();
    expect(tracker.ask(ask(1), 0)).toEqual({ readerCount: 0, peers: [] });
    expect(tracker.ask(ask(2), 0)).toEqual({ readerCount: 1, peers: [address(1)] });
    expect(tracker.ask(ask(3), 0)).toEqual({ readerCount: 2, peers: [address(2), address(1)] });
  });

  it('nobody is sent away while there is little to do, or who asks for the block itself', () => {
    const tracker = new ReaderTracker();
    tracker.ask(ask(1, { underWay: 0 }), 0);
    expect(tracker.ask(ask(2, { underWay: 1 }), 0).peers).toEqual([]);
    expect(tracker.ask(ask(3, { direct: true }), 0).peers).toEqual([]);
    // A block that many want is not given to each of them; and who was busy a moment ago will be again.
    expect(tracker.ask(ask(4, { underWay: 0 }), 0).peers).not.toEqual([]);
    expect(tracker.ask(ask(5, { underWay: 0 }), 5_500).peers).toEqual([]);
    expect(tracker.ask(ask(6, { underWay: 2 }), 6_000).peers).not.toEqual([]);
    expect(tracker.ask(ask(7, { underWay: 0 }), 6_500).peers).not.toEqual([]);
  });

  it('nor to itself, to another machine’s loopback, or to those who were found without', () => {
    const tracker = new ReaderTracker();
    tracker.ask(ask(1), 0);
    expect(tracker.ask(ask(1), 0).peers).toEqual([]);
    tracker.ask(ask(1, { key: 'c', reader: '127.0.0.1:7000' }), 0);
    expect(tracker.ask(ask(2, { key: 'c' }), 0).peers).toEqual([]);
    expect(tracker.ask(ask(3, { gone: [address(1)] }), 0).peers).toEqual([]);
  });

  it('nor to whom may be waiting for it, directly or not: they would wait for each other', () => {
    const tracker = new ReaderTracker();
    tracker.ask(ask(1), 0);
    expect(tracker.ask(ask(2), 0).peers).toEqual([address(1)]);
    expect(tracker.ask(ask(3, { slow: [address(1)] }), 0).peers).toEqual([address(2)]);
    // 1 did not get it, and asks again: 2 waits for it, and 3 for 2.
    expect(tracker.ask(ask(1), 100)).toEqual({ readerCount: 0, peers: [] });
    // 2 comes back from 1; 3 waits for 2 only.
    expect(tracker.ask(ask(2, { slow: [address(1)] }), 100).peers).toEqual([]);
    // After a while they have it.
    expect(tracker.ask(ask(1), 15_100).peers).toContain(address(3));
  });

  it('who was sent to others a moment ago is sent to them whether the holder is busy or not', () => {
    const tracker = new ReaderTracker();
    tracker.ask(ask(1), 0);
    tracker.ask(ask(2), 0);
    tracker.ask(ask(1, { key: 'c', underWay: 0 }), 2_000);
    expect(tracker.ask(ask(3, { key: 'c', underWay: 0 }), 2_000).peers).toEqual([]);
    tracker.ask(ask(1, { key: 'd', underWay: 0 }), 2_000);
    expect(tracker.ask(ask(2, { key: 'd', underWay: 0 }), 2_000).peers).toEqual([address(1)]);
    tracker.ask(ask(1, { key: 'e', underWay: 0 }), 7_000);
    expect(tracker.ask(ask(2, { key: 'e', underWay: 0 }), 7_000).peers).toEqual([]);
  });

  it('what was read long ago, or before more than a cache holds, is not there any more', () => {
    const tracker = new ReaderTracker();
    tracker.ask(ask(1), 0);
    expect(tracker.ask(ask(2), 60_000).peers).toEqual([]);
    const other = new ReaderTracker();
    for (let i = 0; i < 33; i++) other.ask(ask(1, { key: `k${i}`, readBytes: i * 4 * MiB }), 0);
    expect(other.ask(ask(2, { key: 'k0' }), 0).peers).toEqual([]);
    expect(other.ask(ask(2, { key: 'k20' }), 0).peers).toEqual([address(1)]);
  });

  it('a reader of whom others come back again and again is not named for a while', () => {
    const tracker = new ReaderTracker();
    for (let i = 0; i < 4; i++) tracker.ask(ask(1, { key: `k${i}` }), 0);
    for (let i = 0; i < 3; i++) tracker.ask(ask(2, { key: `k${i}`, direct: true, gone: [address(1)] }), 0);
    expect(tracker.ask(ask(3, { key: 'k3' }), 0).peers).toEqual([]);
    expect(tracker.ask(ask(4, { key: 'k3' }), 2_001).peers).toContain(address(1));
  });

  it('remembers so many readers and blocks and no more', () => {
    const tracker = new ReaderTracker();
    for (let i = 0; i < 2_000; i++) tracker.ask(ask(i), 0);
    expect(tracker.ask(ask(2_000), 0).readerCount).toBeLessThanOrEqual(1_024);
    expect(tracker.readerCount).toBe(1_024);
    for (let i = 0; i < 9_000; i++) tracker.ask(ask(1, { key: `k${i}` }), 0);
    expect(tracker.blockCount).toBe(8_192);
    expect(tracker.readerCount).toBe(8_192);
    const small = new ReaderTracker(4_096);
    for (let i = 0; i < 6_000; i++) small.ask(ask(i % 1_000, { key: `k${Math.floor(i / 1_000)}` }), 0);
    expect(small.readerCount).toBe(4_000);
    expect(small.blockCount).toBe(4);
  });

  it('a direct request is served unless the holder is crowded and others have the block', () => {
    const tracker = new ReaderTracker();
    tracker.ask(ask(1, { underWay: 100 }), 0);
    expect(tracker.ask(ask(2, { direct: true, underWay: 15 }), 0).peers).toEqual([]);
    expect(tracker.ask(ask(3, { direct: true, underWay: 16 }), 0).peers).not.toEqual([]);
    expect(tracker.ask(ask(4, { key: 'c', direct: true, underWay: 100 }), 0).peers).toEqual([]);
  });
});

/** Two holders that send 50 MB/s each. */
const aloneBytesPerMs = 100_000;

describe('a file that many read at once, by calculation', () => {
  it.each([
    [8, 128],
    [100, 32],
    [400, 16],
  ])('%i readers: it leaves the holders at most twice, and all are done in time', (readers, blocks) => {
    const shared = storm({ readers, holders: 2, blocks, sharing: true });
    expect(shared.holderFiles).toBeLessThanOrEqual(2);
    expect(shared.bytesPerMs / aloneBytesPerMs).toBeGreaterThan(2);
    expect(shared.mostSentFiles).toBeLessThan(4);
  });

  it('a tenth of the readers cannot be reached by others: all get it all the same', () => {
    const shared = storm({ readers: 100, holders: 2, blocks: 32, sharing: true, deafPercent: 10 });
    expect(shared.bytesPerMs / aloneBytesPerMs).toBeGreaterThan(2);
  });

  it('readers that begin one after the other', () => {
    const shared = storm({ readers: 100, holders: 2, blocks: 32, sharing: true, startSpreadMs: 5_000 });
    expect(shared.bytesPerMs / aloneBytesPerMs).toBeGreaterThan(2);
  });
});
