/**
 * What every BlockStore must do. Each implementation runs this suite against fresh, empty stores; a store of your own
 * can too: call it inside a vitest file.
 */
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hashBlock } from '../../src/blocks/identity.ts';
import type { BlockStore } from '../../src/blocks/types.ts';
import { blockIdToHex, type BlockId } from '../../src/ids.ts';
import { BLOCK_MAX_BYTES, PAGE_BYTES } from '../../src/limits.ts';

/** Deterministic bytes that do not repeat from page to page. */
export function sampleBytes(length: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}

/** Everything that comes, as a list. */
export async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}

export interface ConformanceStore {
  readonly store: BlockStore;
  /** Closes the store and removes what it left. Called once a test; the test may have closed the store itself. */
  close(): Promise<void>;
}

/** Registers the suite. `open` makes a new empty store of a library's pool. */
export function blockStoreConformance(name: string, open: () => Promise<ConformanceStore>): void {
  describe(`${name} is a BlockStore`, () => {
    let opened: ConformanceStore;
    let store: BlockStore;
    beforeEach(async () => {
      opened = await open();
      store = opened.store;
    });
    afterEach(async () => {
      await opened.close();
    });

    const listed = async (): Promise<Map<string, number>> => {
      const found = new Map<string, number>();
      for await (const { id, lengthBytes } of store.list()) {
        expect(found.has(blockIdToHex(id))).toBe(false);
        found.set(blockIdToHex(id), lengthBytes);
      }
      return found;
    };

    it.each([
      1,
      2,
      31,
      PAGE_BYTES - 1,
      PAGE_BYTES,
      PAGE_BYTES + 1,
      3 * PAGE_BYTES,
      BLOCK_MAX_BYTES - 1,
      BLOCK_MAX_BYTES,
    ])('gives back %i bytes', async (length) => {
      const data = sampleBytes(length);
      const id = await store.put(data);
      expect(id).toEqual(hashBlock(data).id);
      expect(Buffer.compare(await store.get(id), data)).toBe(0);
    });

    it('accepts Buffers and views into larger buffers', async () => {
      const large = Buffer.from(sampleBytes(1000));
      const id = await store.put(large.subarray(10, 60));
      expect(Buffer.compare(await store.get(id), large.subarray(10, 60))).toBe(0);
    });

    it('names equal bytes equally and stores them once', async () => {
      const first = await store.put(sampleBytes(500));
      const second = await store.put(sampleBytes(500));
      expect(second).toEqual(first);
      expect(await listed()).toEqual(new Map([[blockIdToHex(first), 500]]));
    });

    it('keeps its own copy: later changes of the buffer change nothing', async () => {
      const data = sampleBytes(100);
      const id = await store.put(data);
      data.fill(0);
      const got = await store.get(id);
      expect(Buffer.compare(got, sampleBytes(100))).toBe(0);
      got.fill(0);
      expect(Buffer.compare(await store.get(id), sampleBytes(100))).toBe(0);
    });

    it('refuses empty and too large blocks', async () => {
      await expect(store.put(new Uint8Array(0))).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
      await expect(store.put(new Uint8Array(BLOCK_MAX_BYTES + 1))).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
      await expect(store.putMany([sampleBytes(1), new Uint8Array(0)])).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    });

    it('reads ranges, cut at the end', async () => {
      const length = 5 * PAGE_BYTES + 77;
      const data = sampleBytes(length);
      const id = await store.put(data);
      const edges = [
        0,
        1,
        PAGE_BYTES - 1,
        PAGE_BYTES,
        PAGE_BYTES + 1,
        3 * PAGE_BYTES,
        length - 1,
        length,
        length + 1,
        9 * PAGE_BYTES,
      ];
      for (const offset of edges) {
        for (const wanted of [0, 1, PAGE_BYTES, 2 * PAGE_BYTES + 1, length, Number.MAX_SAFE_INTEGER]) {
          const got = await store.get(id, { offset, length: wanted });
          expect(
            Buffer.compare(got, data.subarray(offset, Math.min(length, offset + wanted))),
            `${offset}+${wanted}`,
          ).toBe(0);
        }
        expect(Buffer.compare(await store.get(id, { offset }), data.subarray(offset))).toBe(0);
      }
    });

    it('says what it has and what it has not', async () => {
      const absent = hashBlock(sampleBytes(7)).id;
      expect(await store.has(absent)).toBe(false);
      expect(await store.delete(absent)).toBe(false);
      await expect(store.get(absent)).rejects.toMatchObject({ code: 'ERR_BLOCK_NOT_FOUND' });
      const id = await store.put(sampleBytes(8));
      expect(await store.has(id)).toBe(true);
      expect(await store.has(absent)).toBe(false);
    });

    it('deletes, and stores again what was deleted', async () => {
      const id = await store.put(sampleBytes(1000));
      const other = await store.put(sampleBytes(1000, 2));
      for (let round = 0; round < 3; round++) {
        expect(await store.delete(id)).toBe(true);
        expect(await store.has(id)).toBe(false);
        expect(await store.delete(id)).toBe(false);
        await expect(store.get(id)).rejects.toMatchObject({ code: 'ERR_BLOCK_NOT_FOUND' });
        expect([...(await listed()).keys()]).toEqual([blockIdToHex(other)]);
        expect(await store.put(sampleBytes(1000))).toEqual(id);
        expect(Buffer.compare(await store.get(id), sampleBytes(1000))).toBe(0);
      }
      expect((await listed()).size).toBe(2);
    });

    it('puts many, ids in order, equal ones and async sources included', async () => {
      const blocks = Array.from({ length: 60 }, (_, index) => sampleBytes(1 + index * 400, 1 + (index % 50)));
      blocks.push(blocks[3] as Uint8Array);
      const ids = await store.putMany(blocks);
      expect(ids.map(blockIdToHex)).toEqual(blocks.map((data) => blockIdToHex(hashBlock(data).id)));
      const got = await all(store.getMany(ids));
      got.forEach((data, index) => {
        expect(Buffer.compare(data, blocks[index] as Uint8Array)).toBe(0);
      });
      async function* source(): AsyncIterable<Uint8Array> {
        yield sampleBytes(3);
        await Promise.resolve();
        yield sampleBytes(4);
      }
      expect(await store.putMany(source())).toHaveLength(2);
      expect(await store.putMany([])).toEqual([]);
      expect(await all(store.getMany([]))).toEqual([]);
      expect(await store.deleteMany([])).toBe(0);
    });

    it('getMany fails at the place of one that is missing', async () => {
      const absent = hashBlock(sampleBytes(10)).id;
      const ids = await store.putMany([sampleBytes(9), sampleBytes(8), sampleBytes(7)]);
      const got: number[] = [];
      const reading = (async () => {
        for await (const data of store.getMany([ids[0]!, ids[1]!, absent, ids[2]!])) got.push(data.length);
      })();
      await expect(reading).rejects.toMatchObject({ code: 'ERR_BLOCK_NOT_FOUND' });
      expect(got).toEqual([9, 8]);
    });

    it('getMany takes ids from a stream, no more of them than are wanted, and ends it when the reader leaves', async () => {
      const ids = await store.putMany(Array.from({ length: 50 }, (_, index) => sampleBytes(100 + index)));
      let given = 0;
      let ended = false;
      async function* source(): AsyncGenerator<BlockId> {
        try {
          for (const id of ids) {
            given++;
            yield id;
          }
        } finally {
          ended = true;
        }
      }
      const got: number[] = [];
      for await (const data of store.getMany(source(), { concurrency: 3 })) {
        got.push(data.length);
        expect(given).toBeLessThanOrEqual(got.length + 3);
        if (got.length === 5) break;
      }
      expect(got).toEqual([100, 101, 102, 103, 104]);
      expect(ended).toBe(true);
    });

    it('putMany asks a stream for no more than is under way, and ends it at the first failure', async () => {
      let given = 0;
      let ended = false;
      async function* source(): AsyncGenerator<Uint8Array> {
        try {
          for (;;) yield given++ < 20 ? sampleBytes(10, given) : new Uint8Array(0);
        } finally {
          ended = true;
        }
      }
      await expect(store.putMany(source(), { concurrency: 4 })).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
      expect(ended).toBe(true);
      expect(given).toBeLessThanOrEqual(26);
      expect((await listed()).size).toBe(20);
    });

    it('putMany and deleteMany fail with what their source fails with', async () => {
      // eslint-disable-next-line require-yield
      async function* source(): AsyncGenerator<never> {
        throw new Error('the source broke');
      }
      await expect(store.putMany(source())).rejects.toThrow('the source broke');
      await expect(store.deleteMany(source())).rejects.toThrow('the source broke');
      await expect(all(store.getMany(source()))).rejects.toThrow('the source broke');
    });

    it('deletes many and says how many were there', async () => {
      const ids = await store.putMany(Array.from({ length: 40 }, (_, index) => sampleBytes(50 + index)));
      async function* source(): AsyncGenerator<BlockId> {
        yield* ids;
        yield hashBlock(sampleBytes(7)).id;
      }
      expect(await store.deleteMany(source())).toBe(40);
      // Where further copies follow by themselves, one that was on its way arrives: deleted again, it is gone.
      await expect
        .poll(
          async () => {
            await store.deleteMany(ids);
            return (await listed()).size;
          },
          { timeout: 60_000 },
        )
        .toBe(0);
    });

    it('puts a block that comes in chunks, from buffers that are used again', async () => {
      const data = sampleBytes(200_000);
      async function* chunks(): AsyncGenerator<Uint8Array> {
        const buffer = new Uint8Array(30_000);
        for (let at = 0; at < data.length; at += buffer.length) {
          const piece = data.subarray(at, at + buffer.length);
          buffer.set(piece);
          yield buffer.subarray(0, piece.length);
        }
      }
      expect(await store.put(chunks())).toEqual(hashBlock(data).id);
      expect(await store.put(Readable.from([data]))).toEqual(hashBlock(data).id);
      expect(await store.put([data.subarray(0, 5), data.subarray(5)])).toEqual(hashBlock(data).id);
      await expect(store.put([])).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    });

    it('ends a stream that is longer than a block', async () => {
      let given = 0;
      let ended = false;
      async function* endless(): AsyncGenerator<Uint8Array> {
        try {
          for (; ; given++) yield new Uint8Array(1_000_000);
        } finally {
          ended = true;
        }
      }
      await expect(store.put(endless())).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
      expect([given, ended]).toEqual([4, true]);
    });

    it('refuses what is no bytes, no id, no source', async () => {
      const text: unknown = 'text';
      await expect(store.put(text as Uint8Array)).rejects.toMatchObject({ code: 'ERR_STATE' });
      await expect(store.put(Readable.from(['text']))).rejects.toMatchObject({ code: 'ERR_STATE' });
      await expect(store.putMany([text as Uint8Array])).rejects.toMatchObject({ code: 'ERR_STATE' });
      await expect(store.deleteMany(7 as never)).rejects.toMatchObject({ code: 'ERR_STATE' });
      await expect(store.putMany(undefined as never)).rejects.toMatchObject({ code: 'ERR_STATE' });
      await expect(store.deleteMany([new Uint8Array(31) as BlockId])).rejects.toMatchObject({ code: 'ERR_STATE' });
      await expect(store.putMany([], { concurrency: 0 })).rejects.toMatchObject({ code: 'ERR_STATE' });
      await expect(all(store.getMany([text as BlockId]))).rejects.toMatchObject({ code: 'ERR_STATE' });
    });

    it('gives up waiting for a source that says nothing', async () => {
      const silent = (): AsyncIterable<never> => ({
        [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }),
      });
      for (const run of [
        (signal: AbortSignal) => store.put(silent(), { signal }),
        (signal: AbortSignal) => store.putMany(silent(), { signal }),
        (signal: AbortSignal) => store.deleteMany(silent(), { signal }),
        (signal: AbortSignal) => all(store.getMany(silent(), { signal })),
      ]) {
        const giveUp = new AbortController();
        const running = run(giveUp.signal);
        giveUp.abort();
        await expect(running).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
      }
    });

    it('works with many at once, equal ones among them', async () => {
      const ids = await Promise.all(
        Array.from({ length: 100 }, (_, index) => store.put(sampleBytes(2000, index % 40))),
      );
      expect((await listed()).size).toBe(40);
      const got = await Promise.all(ids.map((id) => store.get(id)));
      got.forEach((data, index) => {
        expect(Buffer.compare(data, sampleBytes(2000, index % 40))).toBe(0);
      });
      const deleted = await Promise.all(ids.map((id: BlockId) => store.delete(id)));
      expect(deleted.filter(Boolean)).toHaveLength(40);
      expect((await listed()).size).toBe(0);
    });

    it('takes notice of an aborted signal', async () => {
      const signal = AbortSignal.abort();
      await expect(store.put(sampleBytes(5), { signal })).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
      const id = await store.put(sampleBytes(5));
      await expect(store.get(id, { signal })).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
      await expect(all(store.getMany([id], { signal }))).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
      await expect(store.putMany([], { signal })).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
      await expect(store.deleteMany([id], { signal })).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
      expect(await store.has(id)).toBe(true);
    });

    it('refuses work after close; closing again is harmless', async () => {
      const id = await store.put(sampleBytes(5));
      await store.close();
      await store.close();
      await expect(store.put(sampleBytes(6))).rejects.toThrow();
      await expect(store.get(id)).rejects.toThrow();
      await expect(store.putMany([sampleBytes(6)])).rejects.toThrow();
      await expect(store.deleteMany([id])).rejects.toThrow();
      await expect((async () => all(store.getMany([id])))()).rejects.toThrow();
    });
  });
}
