import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { beforeEach, describe, expect, it } from 'vitest';
import { all, sampleBytes } from '../../test/conformance/block-store.ts';
import { blockIdToHex, type BlockId } from '../ids.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';
import { MemoryStore } from './memory-store.ts';
import { decodeNode, encodeNode, encodeShortStream, NODE_HEADER_BYTES } from './stream-format.ts';
import { getStream, putStream, streamBlocks, streamLength } from './streams.ts';

let store: MemoryStore;
beforeEach(() => {
  store = new MemoryStore();
});

async function* chunksOf(data: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(chunkBytes);
  for (let at = 0; at < data.length; at += chunkBytes) {
    const part = data.subarray(at, at + chunkBytes);
    buffer.set(part);
    yield buffer.subarray(0, part.length);
  }
}

async function read(id: BlockId, options = {}): Promise<Buffer> {
  return Buffer.concat(await all(getStream(store, id, options)));
}

async function blockCount(): Promise<number> {
  return (await all(store.list())).length;
}

describe('putStream and getStream', () => {
  it.each([0, 1, 99, 100, 101, 200, 1000, 1001])('give back %i bytes, however they are chunked', async (length) => {
    const data = sampleBytes(length);
    const ids = new Set<string>();
    for (const chunkBytes of [1, 7, 100, 5000]) {
      const stored = await putStream(store, chunksOf(data, chunkBytes), { blockBytes: 100 });
      ids.add(blockIdToHex(stored.id));
      expect(stored.lengthBytes).toBe(length);
      expect((await read(stored.id)).equals(data)).toBe(true);
      expect(await streamLength(store, stored.id)).toBe(length);
    }
    expect(ids.size).toBe(1);
  });

  it('keep a short stream in one block, a longer one in blocks and their list', async () => {
    await putStream(store, [sampleBytes(100)], { blockBytes: 100 });
    expect(await blockCount()).toBe(1);
    const { id } = await putStream(store, [sampleBytes(250, 2)], { blockBytes: 100 });
    expect(await blockCount()).toBe(1 + 4);
    const needed = await all(streamBlocks(store, id));
    expect(needed[0]).toEqual(id);
    expect(needed).toHaveLength(4);
  });

  it('work with blocks of the largest size', async () => {
    const data = sampleBytes(BLOCK_MAX_BYTES);
    for (const length of [BLOCK_MAX_BYTES - NODE_HEADER_BYTES, BLOCK_MAX_BYTES]) {
      const { id } = await putStream(store, [data.subarray(0, length)], { blockBytes: BLOCK_MAX_BYTES });
      expect((await read(id)).equals(data.subarray(0, length))).toBe(true);
    }
    expect(await blockCount()).toBe(1 + 2);
  });

  it('grow a tree where one list is not enough, and find ranges in it', async () => {
    const data = sampleBytes(10_000);
    const { id } = await putStream(store, [data], { blockBytes: 1 });
    expect((await read(id)).equals(data)).toBe(true);
    for (const [offset, length] of [
      [0, 1],
      [4095, 2],
      [8191, 900],
      [9999, 5],
      [10_000, 1],
      [20_000, 1],
      [5, 0],
    ] as const)
      expect((await read(id, { offset, length })).equals(data.subarray(offset, offset + length))).toBe(true);
    const needed = await all(streamBlocks(store, id));
    expect(needed).toHaveLength(10_000 + 3 + 1);
    // Nothing else is there, and the stream needs all of it.
    const distinct = new Set(needed.map(blockIdToHex));
    expect(await blockCount()).toBe(distinct.size);
  });

  it('read only the blocks that a range touches', async () => {
    const { id } = await putStream(store, [sampleBytes(1000)], { blockBytes: 100 });
    const asked: number[] = [];
    const watched = {
      get: async (block: BlockId, options = {}) => {
        const data = await store.get(block, options);
        asked.push(data.length);
        return data;
      },
    };
    const pieces = await all(getStream(watched, id, { offset: 150, length: 200 }));
    expect(Buffer.concat(pieces).equals(sampleBytes(1000).subarray(150, 350))).toBe(true);
    expect(asked.slice(1)).toEqual([50, 100, 50]);
  });

  it('take what node streams give and feed what they take', async () => {
    const data = sampleBytes(3_000_000);
    const chunks = Array.from({ length: 46 }, (_, index) => data.subarray(index * 65_536, (index + 1) * 65_536));
    const { id } = await putStream(store, Readable.from(chunks));
    const hash = createHash('sha256');
    for await (const chunk of Readable.from(getStream(store, id))) hash.update(chunk as Uint8Array);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(data).digest('hex'));
  });

  it('have names that stay: the format is on disk', async () => {
    const short = await putStream(store, [Buffer.from('tatami')]);
    const long = await putStream(store, [Buffer.from('tatami')], { blockBytes: 2 });
    expect([short, long].map(({ id }) => blockIdToHex(id))).toEqual([
      '910f7d2fb2a47bc8eaf67a4d38a9d3563f25f9bf80254960f666d47e763bc468',
      '27e2c7774ddc4da18e3a9db053cbd66fb8c32a850c457b6bbdd369dc661e48a1',
    ]);
    expect(Buffer.from(await store.get(short.id)).toString('latin1')).toBe(
      'TtmS\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00tatami',
    );
    const [root, ...blocks] = await all(streamBlocks(store, long.id));
    const entry = (id: BlockId): string => `${blockIdToHex(id)}0200000000000000`;
    expect(Buffer.from(await store.get(root as BlockId)).toString('hex')).toBe(
      `54746d53010100000600000000000000${blocks.map(entry).join('')}`,
    );
  });

  it('ask their source for no more than there is room for', async () => {
    let given = 0;
    let stored = 0;
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const slow = {
      put: async (data: never) => {
        if (stored++ < 20) await gate;
        return await store.put(data);
      },
    };
    async function* source(): AsyncGenerator<Uint8Array> {
      for (; given < 40; given++) yield sampleBytes(100, given);
    }
    const putting = putStream(slow, source(), { blockBytes: 100, concurrency: 3 });
    await expect.poll(() => stored).toBe(3);
    expect(given).toBeLessThanOrEqual(4);
    open();
    expect((await putting).lengthBytes).toBe(4000);
  });

  it('fail with what the source fails with, and end it when the store fails', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield sampleBytes(500);
      throw new Error('the source broke');
    }
    await expect(putStream(store, broken(), { blockBytes: 100 })).rejects.toThrow('the source broke');
    let ended = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (let seed = 1; ; seed++) yield sampleBytes(100, seed);
      } finally {
        ended = true;
      }
    }
    const small = new MemoryStore({ capacityBytes: 5000 });
    await expect(putStream(small, endless(), { blockBytes: 100 })).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
    expect(ended).toBe(true);
  });

  it('fail, and can be left, while the source has nothing to give', async () => {
    let ended = false;
    const stalled = (items: readonly Uint8Array[]): AsyncIterable<Uint8Array> => {
      const rest = [...items];
      const next = async (): Promise<IteratorResult<Uint8Array>> => {
        const value = rest.shift();
        return value === undefined ? await new Promise<never>(() => undefined) : { done: false, value };
      };
      const end = async (): Promise<IteratorResult<Uint8Array>> => {
        ended = true;
        return await Promise.resolve({ done: true, value: undefined });
      };
      return { [Symbol.asyncIterator]: () => ({ next, return: end }) };
    };
    const small = new MemoryStore({ capacityBytes: 250 });
    const chunks = [1, 2, 3, 4].map((seed) => sampleBytes(100, seed));
    await expect(putStream(small, stalled(chunks), { blockBytes: 100 })).rejects.toMatchObject({
      code: 'ERR_NO_SPACE',
    });
    expect(ended).toBe(true);
    ended = false;
    const id = await store.put(sampleBytes(100));
    for await (const block of store.getMany(stalled([id]) as AsyncIterable<BlockId>)) {
      expect(block).toHaveLength(100);
      break;
    }
    expect(ended).toBe(true);
  });

  it('give up when told to', async () => {
    const giveUp = new AbortController();
    const { signal } = giveUp;
    const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) };
    const putting = putStream(store, silent, { signal });
    const { id } = await putStream(store, [sampleBytes(1000)], { blockBytes: 100 });
    const reading = getStream(store, id, { signal });
    expect((await reading.next()).done).toBe(false);
    giveUp.abort();
    await expect(putting).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    await expect(reading.next()).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
  });

  it('deliver what comes before a missing block, then say so', async () => {
    const { id } = await putStream(store, [sampleBytes(1000)], { blockBytes: 100 });
    const blocks = await all(streamBlocks(store, id));
    await store.delete(blocks[5] as BlockId);
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of getStream(store, id)) bytes += chunk.length;
    })();
    await expect(reading).rejects.toMatchObject({ code: 'ERR_BLOCK_NOT_FOUND' });
    expect(bytes).toBe(400);
  });

  it('refuse options that cannot be meant', async () => {
    for (const blockBytes of [0, -1, 1.5, BLOCK_MAX_BYTES + 1])
      await expect(putStream(store, [], { blockBytes })).rejects.toMatchObject({ code: 'ERR_STATE' });
    await expect(putStream(store, Readable.from(['text']))).rejects.toMatchObject({ code: 'ERR_STATE' });
    const { id } = await putStream(store, []);
    await expect(all(getStream(store, id, { offset: -1 }))).rejects.toMatchObject({ code: 'ERR_STATE' });
    await expect(all(getStream(store, id, { length: 0.5 }))).rejects.toMatchObject({ code: 'ERR_STATE' });
  });
});

describe('what is no stream', () => {
  const leaf = { id: new Uint8Array(32) as BlockId, lengthBytes: 5 };
  const spoilt = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
    const copy = new Uint8Array(bytes);
    copy[at] = value;
    return copy;
  };
  it.each([
    ['a block of its own', Buffer.from('just a block, and long enough'), 'ERR_FORMAT'],
    ['a short block', Buffer.from('Ttm'), 'ERR_FORMAT'],
    ['a newer format', spoilt(encodeShortStream(Buffer.from('x')), 4, 2), 'ERR_FORMAT'],
    ['a short stream of another length', spoilt(encodeShortStream(Buffer.from('x')), 8, 2), 'ERR_CORRUPT'],
    ['an impossible length', spoilt(encodeShortStream(Buffer.from('x')), 15, 255), 'ERR_CORRUPT'],
    ['entries that do not add up', spoilt(encodeNode(1, [leaf, leaf]), 8, 11), 'ERR_CORRUPT'],
    ['half an entry', encodeNode(1, [leaf]).subarray(0, 40), 'ERR_CORRUPT'],
    ['no entry', encodeNode(1, []), 'ERR_CORRUPT'],
    ['an entry of no bytes', encodeNode(1, [leaf, { ...leaf, lengthBytes: 0 }]), 'ERR_CORRUPT'],
    ['too deep a tree', encodeNode(9, [leaf]), 'ERR_CORRUPT'],
    ['an entry longer than a block', encodeNode(1, [{ ...leaf, lengthBytes: BLOCK_MAX_BYTES + 1 }]), 'ERR_CORRUPT'],
  ])('%s is refused', async (_, bytes, code) => {
    const id = await store.put(bytes);
    await expect(all(getStream(store, id))).rejects.toMatchObject({ code });
    expect(() => decodeNode(id, bytes)).toThrow();
  });

  it('a node whose parts are other than it says is refused', async () => {
    const data = await store.put(sampleBytes(5));
    const inner = await store.put(encodeNode(1, [{ id: data, lengthBytes: 5 }]));
    for (const root of [
      encodeNode(1, [{ id: data, lengthBytes: 4 }]),
      encodeNode(1, [{ id: data, lengthBytes: 6 }]),
      encodeNode(2, [{ id: inner, lengthBytes: 4 }]),
      encodeNode(3, [{ id: inner, lengthBytes: 5 }]),
    ]) {
      const id = await store.put(root);
      await expect(all(getStream(store, id))).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    }
  });
});
