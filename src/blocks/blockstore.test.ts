import { NotFoundError } from 'interface-store';
import { base32 } from 'multiformats/bases/base32';
import { CID } from 'multiformats/cid';
import * as Digest from 'multiformats/hashes/digest';
import { sha256, sha512 } from 'multiformats/hashes/sha2';
import { beforeEach, describe, expect, it } from 'vitest';
import { all, sampleBytes } from '../../test/conformance/block-store.ts';
import { createMemoryEnv, MemoryDisk } from '../env-memory.ts';
import { createNodeEnv } from '../env-node.ts';
import type { Random } from '../env.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';
import { CID_BLOCK_MAX_BYTES, TatamiBlockstore, type TatamiBlockstoreOptions } from './blockstore.ts';
import { readTrailer, writeTrailer } from './cid-trailer.ts';
import { MemoryStore } from './memory-store.ts';
import { PackStore } from './pack-store.ts';

const RAW = 0x55;
const DAG_PB = 0x70;

async function cidOf(data: Uint8Array, codec = RAW): Promise<CID> {
  return CID.createV1(codec, await sha256.digest(data));
}

async function read(blockstore: TatamiBlockstore, cid: CID, options = {}): Promise<Buffer> {
  return Buffer.concat(await all(blockstore.get(cid, options)));
}

function storedForm(data: Uint8Array, cid: CID): Uint8Array {
  const { bytes } = cid.multihash;
  const block = new Uint8Array(data.length + bytes.length + 6);
  block.set(data);
  writeTrailer(block, bytes);
  return block;
}

let store: MemoryStore;
let blockstore: TatamiBlockstore;
beforeEach(async () => {
  store = new MemoryStore();
  blockstore = await TatamiBlockstore.open({ store });
});

describe('names', () => {
  it('finds a block by its multihash, whatever version and codec say', async () => {
    const data = sampleBytes(1000);
    const multihash = await sha256.digest(data);
    const v0 = CID.createV0(multihash);
    await blockstore.put(CID.createV1(DAG_PB, multihash), data);
    for (const cid of [v0, CID.createV1(RAW, multihash), CID.createV1(0x71, multihash)]) {
      expect(await blockstore.has(cid)).toBe(true);
      expect((await read(blockstore, cid)).equals(data)).toBe(true);
    }
    await blockstore.put(v0, data);
    expect(await all(store.list())).toHaveLength(1);
    await blockstore.delete(v0);
    expect(await blockstore.has(CID.createV1(DAG_PB, multihash))).toBe(false);
    expect(await all(store.list())).toHaveLength(0);
  });

  it('gives back the CID that it was given', async () => {
    const data = sampleBytes(10);
    const cid = await cidOf(data, DAG_PB);
    expect(await blockstore.put(cid, data)).toBe(cid);
    expect(await all(blockstore.putMany([{ cid, bytes: data }]))).toEqual([cid]);
  });

  it('keeps empty blocks, and blocks up to the limit', async () => {
    for (const length of [0, 1, CID_BLOCK_MAX_BYTES]) {
      const data = sampleBytes(length);
      const cid = await cidOf(data);
      await blockstore.put(cid, data);
      expect((await read(blockstore, cid)).equals(data)).toBe(true);
    }
    const data = sampleBytes(CID_BLOCK_MAX_BYTES + 1);
    await expect(blockstore.put(await cidOf(data), data)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    await expect(blockstore.put(await cidOf(data), [data])).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    expect(CID_BLOCK_MAX_BYTES).toBeLessThan(BLOCK_MAX_BYTES);
  });

  it('never stores what an identity CID holds', async () => {
    const data = Buffer.from('in the CID');
    const cid = CID.createV1(RAW, Digest.create(0, data));
    await blockstore.put(cid, data);
    expect(await all(store.list())).toHaveLength(0);
    expect(await blockstore.has(cid)).toBe(true);
    expect((await read(blockstore, cid)).equals(data)).toBe(true);
    await blockstore.delete(cid);
    expect(await blockstore.has(cid)).toBe(true);
    expect(await all(blockstore.getAll())).toEqual([]);
    await expect(blockstore.put(cid, Buffer.from('other'))).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
  });

  it('refuses what is no CID', async () => {
    for (const call of [
      () => blockstore.put('bafy' as never, sampleBytes(1)),
      () => blockstore.has(null as never),
      () => blockstore.delete(undefined as never),
      () => all(blockstore.get({} as never)),
    ])
      await expect(call()).rejects.toMatchObject({ code: 'ERR_STATE' });
  });

  it('refuses a multihash that is longer than any hash', async () => {
    const cid = CID.createV1(RAW, Digest.create(0x999, sampleBytes(300)));
    await expect(blockstore.put(cid, sampleBytes(1))).rejects.toMatchObject({ code: 'ERR_STATE' });
  });
});

describe('verification', () => {
  it('refuses bytes that the CID does not name, unless the caller has checked', async () => {
    const cid = await cidOf(sampleBytes(10));
    await expect(blockstore.put(cid, sampleBytes(11))).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    expect(await blockstore.has(cid)).toBe(false);
    const trusting = await TatamiBlockstore.open({ store: new MemoryStore(), verify: 'never' });
    await trusting.put(cid, sampleBytes(11));
    expect((await read(trusting, cid)).equals(sampleBytes(11))).toBe(true);
  });

  it('knows the usual hash functions, and digests cut short', async () => {
    const data = sampleBytes(50);
    const full = (await sha512.digest(data)).digest;
    for (const length of [20, 32, 64]) {
      const cid = CID.createV1(RAW, Digest.create(sha512.code, full.subarray(0, length)));
      await blockstore.put(cid, data);
      await expect(
        blockstore.put(CID.createV1(RAW, Digest.create(sha512.code, full.slice(1))), data),
      ).rejects.toThrow();
    }
    const blake3 = 'd74981efa70a0c880b8d8c1985d075dbcbf679b99a5f9914e5aaf96b831a9e24';
    const cid = CID.createV1(RAW, Digest.create(0x1e, Buffer.from(blake3, 'hex')));
    await blockstore.put(cid, Buffer.from('hello world'));
    await expect(blockstore.put(CID.createV1(DAG_PB, Digest.create(0x1e, Buffer.alloc(32))), data)).rejects.toThrow();
  });

  it('takes other hash functions from the caller, and stores what it cannot check', async () => {
    const sum = { code: 0x300001, digest: (data: Uint8Array) => Digest.create(0x300001, Uint8Array.of(data.length)) };
    const cid = CID.createV1(RAW, sum.digest(sampleBytes(9)));
    await blockstore.put(cid, sampleBytes(8));
    expect((await read(blockstore, cid)).length).toBe(8);
    const knowing = await TatamiBlockstore.open({ store: new MemoryStore(), hashers: [sum] });
    await expect(knowing.put(cid, sampleBytes(8))).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    await knowing.put(cid, sampleBytes(9));
  });

  it('checks what another program stored when it is first read, and with "always" each time', async () => {
    const [good, bad] = [await cidOf(sampleBytes(10)), await cidOf(sampleBytes(11))];
    await store.put(storedForm(sampleBytes(10), good));
    await store.put(storedForm(sampleBytes(12), bad));
    await blockstore.refresh();
    expect((await read(blockstore, good)).equals(sampleBytes(10))).toBe(true);
    await expect(read(blockstore, bad)).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    expect(await blockstore.has(bad)).toBe(false);
    await blockstore.refresh();
    expect(await blockstore.has(bad)).toBe(false);
    await blockstore.put(bad, sampleBytes(11));
    expect((await read(blockstore, bad)).equals(sampleBytes(11))).toBe(true);
    expect(await all(blockstore.list())).toHaveLength(2);
    const wary = await TatamiBlockstore.open({ store: new MemoryStore(), verify: 'always' });
    await wary.put(good, sampleBytes(10));
    expect((await read(wary, good)).equals(sampleBytes(10))).toBe(true);
  });

  it('refuses options that cannot be meant', async () => {
    const verify = 'sometimes' as unknown as 'always';
    await expect(TatamiBlockstore.open({ store, verify })).rejects.toMatchObject({ code: 'ERR_STATE' });
  });
});

describe('many', () => {
  it('lists with a filter, before anything is read, and passes over blocks without a CID', async () => {
    await store.put(sampleBytes(500));
    const cids: CID[] = [];
    for (let length = 1; length <= 20; length++) {
      const cid = await cidOf(sampleBytes(length));
      cids.push(await blockstore.put(cid, sampleBytes(length)));
    }
    const lengths = (await all(blockstore.list())).map(({ lengthBytes }) => lengthBytes);
    expect(lengths.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    const wanted = new Set(cids.slice(0, 3).map((cid) => base32.encode(cid.multihash.bytes)));
    const filter = (cid: CID): boolean => wanted.has(base32.encode(cid.multihash.bytes));
    const pairs = await all(blockstore.getAll({ filter }));
    expect(pairs).toHaveLength(3);
    for (const { cid, bytes } of pairs) {
      expect([cid.version, cid.code]).toEqual([1, RAW]);
      const [data] = await all(bytes as AsyncIterable<Uint8Array>);
      expect(data?.length).toBeLessThanOrEqual(3);
    }
  });

  it('getMany goes on after a missing block, whose bytes say so', async () => {
    const [here, gone, there] = await Promise.all([10, 11, 12].map((length) => cidOf(sampleBytes(length))));
    for (const [cid, length] of [
      [here, 10],
      [there, 12],
    ] as const)
      await blockstore.put(cid as CID, sampleBytes(length));
    const found: (number | string)[] = [];
    for await (const { bytes } of blockstore.getMany([here, gone, there] as CID[])) {
      try {
        for await (const data of bytes) found.push(data.length);
      } catch (error) {
        expect(error).toBeInstanceOf(NotFoundError);
        found.push('missing');
      }
    }
    expect(found).toEqual([10, 'missing', 12]);
  });

  it('putMany and deleteMany are bounded and keep the order', async () => {
    let given = 0;
    async function* source() {
      for (; given < 50; given++) {
        const data = sampleBytes(1 + (given % 40));
        yield { cid: await cidOf(data), bytes: data };
      }
    }
    const cids: CID[] = [];
    for await (const cid of blockstore.putMany(source(), { concurrency: 4 })) {
      cids.push(cid);
      expect(given).toBeLessThanOrEqual(cids.length + 5);
    }
    expect(cids).toHaveLength(50);
    expect(await all(blockstore.deleteMany(cids))).toEqual(cids);
    expect(await all(store.list())).toHaveLength(0);
  });

  it('gives up with the reason that the caller gave', async () => {
    const reason = new Error('enough');
    const signal = AbortSignal.abort(reason);
    const cid = await cidOf(sampleBytes(1));
    for (const call of [
      () => blockstore.put(cid, sampleBytes(1), { signal }),
      () => blockstore.has(cid, { signal }),
      () => blockstore.delete(cid, { signal }),
      () => all(blockstore.get(cid, { signal })),
      () => all(blockstore.getAll({ signal })),
      () => blockstore.refresh({ signal }),
    ])
      await expect(call()).rejects.toBe(reason);
    const giveUp = new AbortController();
    const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) };
    const putting = blockstore.put(cid, silent, { signal: giveUp.signal });
    const many = all(blockstore.getMany(silent, { signal: giveUp.signal }));
    giveUp.abort(reason);
    await expect(putting).rejects.toBe(reason);
    await expect(many).rejects.toBe(reason);
  });

  it('ends with the same state in store and index, however puts and deletes cross', async () => {
    const data = sampleBytes(100);
    const cid = await cidOf(data);
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        Array.from({ length: 6 }, (_, index) =>
          (index + round) % 2 === 0 ? blockstore.put(cid, data) : blockstore.delete(cid),
        ),
      );
      expect(await blockstore.has(cid)).toBe((await all(store.list())).length === 1);
    }
  });
});

describe('the index', () => {
  const { clock, random } = createNodeEnv();
  const open = async (disk: MemoryDisk, options: Partial<TatamiBlockstoreOptions> = {}): Promise<TatamiBlockstore> => {
    const pack = await PackStore.open({ path: '/store', env: createMemoryEnv({ clock, random, disk }) });
    return await TatamiBlockstore.open({ store: pack, ...options });
  };
  const numbered = async (count: number, from = 0) =>
    await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const data = sampleBytes(1 + ((from + index) % 500), 1 + from + index);
        return { cid: await cidOf(data), bytes: data };
      }),
    );

  it('is found again after an orderly close, without looking at any block', async () => {
    const disk = new MemoryDisk();
    const pairs = await numbered(600);
    let opened = await open(disk);
    await all(opened.putMany(pairs));
    await opened.close();
    await opened.close();
    await expect(opened.has(pairs[0]!.cid)).rejects.toMatchObject({ code: 'ERR_STATE' });
    opened = await open(disk);
    for (const { cid, bytes } of pairs.slice(0, 50)) expect((await read(opened, cid)).equals(bytes)).toBe(true);
    expect(await all(opened.list())).toHaveLength(600);
    await opened.close();
  });

  it('is made anew from the blocks when it is lost', async () => {
    const disk = new MemoryDisk();
    const pairs = await numbered(100);
    let opened = await open(disk);
    await all(opened.putMany(pairs));
    await opened.close();
    await disk.remove('/store/cids');
    opened = await open(disk);
    for (const { cid, bytes } of pairs) expect((await read(opened, cid)).equals(bytes)).toBe(true);
    await opened.close();
  });

  it('has all that was put, and nothing that was deleted, after losses of power', async () => {
    const disk = new MemoryDisk();
    let seed = 7;
    const chance: Random = {
      bytes: (length) => sampleBytes(length, seed++),
      below: (bound) => (seed = (seed * 48_271) % 2_147_483_647) % bound,
    };
    const kept = new Map<string, { cid: CID; bytes: Uint8Array }>();
    const gone = new Map<string, CID>();
    for (let round = 0; round < 8; round++) {
      const opened = await open(disk);
      for (const { cid, bytes } of kept.values()) expect((await read(opened, cid)).equals(bytes)).toBe(true);
      for (const cid of gone.values()) expect(await opened.has(cid)).toBe(false);
      const pairs = await numbered(80, round * 50);
      for await (const cid of opened.putMany(pairs)) gone.delete(cid.toString());
      for (const pair of pairs) kept.set(pair.cid.toString(), pair);
      const doomed = [...kept.values()].filter(() => chance.below(3) === 0).map(({ cid }) => cid);
      for await (const cid of opened.deleteMany(doomed)) {
        kept.delete(cid.toString());
        gone.set(cid.toString(), cid);
      }
      if (round % 4 === 3) await opened.close();
      disk.crash({ random: chance, anyKvOrder: true });
    }
  });

  it('of a newer version is refused', async () => {
    const disk = new MemoryDisk();
    await (await open(disk)).close();
    const kv = await disk.openKv('/store/cids');
    await kv.batch([{ key: Uint8Array.of(0x73), value: Uint8Array.of(2, 1) }], { sync: true });
    await kv.close();
    await expect(open(disk)).rejects.toMatchObject({ code: 'ERR_FORMAT' });
  });
});

describe('the trailer', () => {
  it('is on disk: multihash, its length, version, magic', async () => {
    await blockstore.put(await cidOf(Buffer.from('hello world')), Buffer.from('hello world'));
    const [info] = await all(store.list());
    const block = await store.get(info!.id);
    expect(Buffer.from(block).toString('hex')).toBe(
      `${Buffer.from('hello world').toString('hex')}1220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9220154746d43`,
    );
  });

  it.each([
    ['nothing', ''],
    ['less than one', '0154746d43'],
    ['no magic', '122000000000220154746d44'],
    ['a length beyond its start', '1220220154746d43'],
  ])('%s is none', (_, hex) => {
    expect(readTrailer(Buffer.from(hex, 'hex'))).toBeUndefined();
  });

  it('of a newer version is refused where it is read, and passed over in lists', async () => {
    expect(() => readTrailer(Buffer.from('1200020254746d43', 'hex'))).toThrow(/newer|format 2/);
    await store.put(Buffer.from('1200020254746d43', 'hex'));
    await store.put(Buffer.from('ffffff030154746d43', 'hex'));
    await blockstore.refresh();
    expect(await all(blockstore.list())).toEqual([]);
  });
});
