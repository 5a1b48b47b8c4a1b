/** The stores that the `blocks` benchmark compares, behind one narrow interface. */
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PackStore, ReplicatedStore, type BlockId, type BlockStore } from '../src/blocks/index.ts';
import { eachOf, inOrder } from '../src/blocks/many.ts';

/** Blocks under way at once in stores that leave that to the caller; blockstore-fs' own default. */
const AT_ONCE = 50;

/** A store that holds the given blocks, addressed by their place in the list. */
export interface Contender {
  /** All of them, as many at once as the store likes. */
  putMany(blocks: readonly Uint8Array[]): Promise<void>;
  /** One, and nothing else meanwhile. */
  put(block: Uint8Array, index: number): Promise<void>;
  /** Resolves with its length. */
  get(index: number): Promise<number>;
  /** All of the given ones, as many at once as the store likes; resolves with the bytes read. */
  getMany(indexes: readonly number[]): Promise<number>;
  deleteMany(indexes: readonly number[]): Promise<void>;
  close(): Promise<void>;
}

export interface ContenderKind {
  readonly name: string;
  /** What a finished put has reached, for the table. */
  readonly durability: 'synced' | 'not synced';
  open(directory: string): Promise<Contender>;
}

function overBlockStore(store: BlockStore): Contender {
  let ids: BlockId[] = [];
  const idsOf = (indexes: readonly number[]): BlockId[] => indexes.map((index) => ids[index] as BlockId);
  return {
    async putMany(blocks) {
      ids = await store.putMany(blocks);
    },
    async put(block, index) {
      ids[index] = await store.put(block);
    },
    get: async (index) => (await store.get(ids[index] as BlockId)).length,
    async getMany(indexes) {
      let bytes = 0;
      for await (const data of store.getMany(idsOf(indexes))) bytes += data.length;
      return bytes;
    },
    deleteMany: async (indexes) => void (await store.deleteMany(idsOf(indexes))),
    close: () => store.close(),
  };
}

export const packStore: ContenderKind = {
  name: 'PackStore',
  durability: 'synced',
  open: async (directory) => overBlockStore(await PackStore.open({ path: directory, reserveBytes: 0 })),
};

/** On the nodes of a running cluster; its pool is empty again when all is deleted. */
export function replicatedStore(dataDirectory: string): ContenderKind {
  return {
    name: 'ReplicatedStore',
    durability: 'synced',
    open: async () => overBlockStore(await ReplicatedStore.connect({ data: dataDirectory, label: 'bench' })),
  };
}

/** What people write who need no store: a file a block, named by its SHA-256 beforehand. */
export function plainFiles(durability: 'synced' | 'not synced'): ContenderKind {
  return {
    name: 'plain files',
    durability,
    open: async (directory) => {
      await mkdir(directory, { recursive: true });
      const folder = await open(directory, 'r');
      const pathOf = (index: number): string => join(directory, `block-${index}`);
      const put = async (block: Uint8Array, index: number): Promise<void> => {
        if (durability === 'not synced') {
          await writeFile(pathOf(index), block);
          return;
        }
        const path = pathOf(index);
        const file = await open(`${path}.tmp`, 'w');
        try {
          await file.writeFile(block);
          await file.datasync();
        } finally {
          await file.close();
        }
        await rename(`${path}.tmp`, path);
        await folder.sync();
      };
      return {
        putMany: (blocks) => eachOf(blocks, { maxCount: AT_ONCE }, put),
        put,
        get: async (index) => (await readFile(pathOf(index))).length,
        async getMany(indexes) {
          let bytes = 0;
          for await (const data of inOrder(indexes, { maxCount: AT_ONCE }, (index) => readFile(pathOf(index))))
            bytes += data.length;
          return bytes;
        },
        async deleteMany(indexes) {
          await eachOf(indexes, { maxCount: AT_ONCE }, (index) => unlink(pathOf(index)));
          if (durability === 'synced') await folder.sync();
        },
        close: () => folder.close(),
      };
    },
  };
}

/** What `interface-blockstore` says, as far as it is used here. */
interface Blockstore<Cid> {
  put(cid: Cid, bytes: Uint8Array): Cid | Promise<Cid>;
  putMany(pairs: readonly { readonly cid: Cid; readonly bytes: Uint8Array }[]): AsyncIterable<Cid> | Iterable<Cid>;
  get(cid: Cid): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  getMany(
    cids: readonly Cid[],
  ): AsyncIterable<{ readonly bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array> }> | Iterable<never>;
  deleteMany(cids: readonly Cid[]): AsyncIterable<Cid> | Iterable<Cid>;
  close(): Promise<void>;
}

function overBlockstore<Cid>(blockstore: Blockstore<Cid>, cidOf: (block: Uint8Array) => Cid): Contender {
  const cids: Cid[] = [];
  const cidsOf = (indexes: readonly number[]): Cid[] => indexes.map((index) => cids[index] as Cid);
  const lengthOf = async (bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<number> => {
    let length = 0;
    for await (const chunk of bytes) length += chunk.length;
    return length;
  };
  return {
    async putMany(blocks) {
      const pairs = blocks.map((bytes) => ({ cid: cidOf(bytes), bytes }));
      for await (const cid of blockstore.putMany(pairs)) cids.push(cid);
    },
    async put(block, index) {
      const cid = cidOf(block);
      await blockstore.put(cid, block);
      cids[index] = cid;
    },
    get: (index) => lengthOf(blockstore.get(cids[index] as Cid)),
    async getMany(indexes) {
      let bytes = 0;
      for await (const pair of blockstore.getMany(cidsOf(indexes))) bytes += await lengthOf(pair.bytes);
      return bytes;
    },
    async deleteMany(indexes) {
      for await (const _ of blockstore.deleteMany(cidsOf(indexes)));
    },
    close: () => blockstore.close(),
  };
}

/**
 * The stores of the IPFS world, ours and the usual one, with SHA-256 CIDs, the making of which counts for both. Undefined
 * where their packages are not installed: they are no dependencies of tatamifs.
 */
export async function ipfsStores(): Promise<{ ours: ContenderKind; theirs: ContenderKind } | undefined> {
  let packages;
  try {
    packages = await Promise.all([
      import('blockstore-fs'),
      import('multiformats/cid'),
      import('multiformats/hashes/digest'),
      import('../src/blocks/blockstore.ts'),
    ]);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
  const [{ FsBlockstore }, { CID }, Digest, { TatamiBlockstore }] = packages;
  const cidOf = (block: Uint8Array) =>
    CID.createV1(0x55, Digest.create(0x12, createHash('sha256').update(block).digest()));
  return {
    ours: {
      name: 'TatamiBlockstore',
      durability: 'synced',
      open: async (directory) => {
        const store = await PackStore.open({ path: directory, reserveBytes: 0 });
        // As blockstore-fs, which does not check either.
        return overBlockstore(await TatamiBlockstore.open({ store, verify: 'never' }), cidOf);
      },
    },
    theirs: {
      name: 'blockstore-fs',
      durability: 'not synced',
      open: async (directory) => {
        await mkdir(directory, { recursive: true });
        const blockstore = new FsBlockstore(directory);
        await blockstore.open();
        // Its putMany passes on whole blocks as well as put does, which its types do not say.
        return overBlockstore(blockstore as unknown as Blockstore<ReturnType<typeof cidOf>>, cidOf);
      },
    },
  };
}
