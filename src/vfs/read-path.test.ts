import { expect, it } from 'vitest';
import type { Ino, PoolId } from '../ids.ts';
import type { Attr } from '../meta/types.ts';
import { BlockCache } from './block-cache.ts';
import { ExtentMemory } from './extent-map.ts';
import { FileData } from './file-data.ts';
import { Inode } from './inode-table.ts';
import { ReadPath } from './read-path.ts';
import { FakeBlocks, HandClock } from './testing.ts';
import { WriteMemory } from './write-memory.ts';

const BLOCK = 64 * 1024;

/** Whatever else happens between the answer and the look at it: to a reader, extents that were forgotten would be holes. */
it.each(Array.from({ length: 12 }, (_, steps) => steps))(
  'a read is right though what was learned of the extents is forgotten %i steps later',
  async (steps) => {
    const clock = new HandClock();
    const data = new Uint8Array(100).fill(7);
    const memory = { written: new WriteMemory(4 * BLOCK), extents: new ExtentMemory(1e6) };
    const attr = { sizeBytes: 100, version: 5, type: 'file' } as Attr;
    const file = new FileData(new Inode(9 as Ino, attr), 1 as PoolId, BLOCK, memory, () => undefined);
    let asked = 0;
    const path = new ReadPath({
      clock,
      cache: new BlockCache({ maxBytes: 4 * BLOCK, blocks: new FakeBlocks(), clock, timeoutMs: 1000 }),
      readAtRandom: () => {},
      loadExtents: async () => {
        file.extents.load(5, 0, [{ kind: 'inline', offset: 0, lengthBytes: 100, data }], false);
        if (asked++ > 0) return;
        const later = async () => {
          for (let step = 0; step < steps; step++) await Promise.resolve();
          file.extents.forget();
        };
        void later();
      },
      failed: () => {},
      sawPieces: () => {},
    });
    expect(await path.readStored(file, 0, 100)).toEqual(Buffer.from(data));
  },
);
