import { describe, expect, it } from 'vitest';
import { MemoryDisk } from '../env-memory.ts';
import { asBlockId, type PoolId } from '../ids.ts';
import { PackIndex } from './pack-index.ts';
import { indexRecord } from './pack-recovery.ts';

const POOL = 1 as PoolId;
const ID = asBlockId(new Uint8Array(32).fill(7));
const SALT = 5n;

describe('PackIndex', () => {
  it('claims nothing of the index that takes its place which is not in that one', async () => {
    const disk = new MemoryDisk();
    const index = new PackIndex(await disk.openKv('/old'));
    const next = new PackIndex(await disk.openKv('/new'));
    await next.checkpoint(new Map([[1, 100]]), { nextSeq: 2, nextPack: 2 }, false);
    await next.claim(SALT);
    await next.flush(true);
    // What becomes durable while the new one is being finished goes into both.
    const placed = { seq: 2, generation: 3, pack: 1, offset: 100, lengthBytes: 1000 };
    for (const each of [index, next]) indexRecord(each, { type: 'block', pool: POOL, id: ID }, placed);
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    disk.setDelay(() => gate);
    const checkpoint = index.checkpoint(new Map([[1, 1200]]), { nextSeq: 3, nextPack: 2 }, false);
    await new Promise((resolve) => setImmediate(resolve));
    const adoption = index.adopt(next);
    go();
    await Promise.all([adoption, checkpoint]);
    disk.killProcess();
    const again = new PackIndex(await disk.openKv('/new'));
    const loaded = await again.load(SALT);
    // The next opening scans the pack from there on.
    if (loaded?.packs.get(1)?.indexedBytes !== 100) expect(again.get(POOL, ID)).toMatchObject(placed);
  });
});
