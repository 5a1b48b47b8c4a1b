/**
 * The other process of the benchmark `many-blocks`. `fill DIR COUNT`: a store that says it has so many blocks: its index is
 * whole, its packs are holes. `open DIR COUNT END`: opens it, looks blocks up, prints JSON, and closes it or (`kill`) does not.
 */
import { createHash } from 'node:crypto';
import { ftruncateSync, openSync, closeSync, readFileSync, writeSync } from 'node:fs';
import { createNodeEnv } from '../src/env-node.ts';
import type { BlockId, PoolId } from '../src/ids.ts';
import { KiB, MiB } from '../src/limits.ts';
import { SILENT_LOGGER } from '../src/log.ts';
import { encodePackHeader, PACK_HEADER_BYTES, packFileName, recordBytes } from '../src/blocks/pack-format.ts';
import { blockKeyOf } from '../src/blocks/pack-index.ts';
import { markClosed, openIndex, openStoreFile } from '../src/blocks/pack-open.ts';
import { PackStore } from '../src/blocks/pack-store.ts';

const BLOCK_BYTES = 64 * KiB;
const RECORD_BYTES = recordBytes(BLOCK_BYTES);
const PACK_BYTES = 256 * MiB;
const PER_PACK = Math.floor((PACK_BYTES - PACK_HEADER_BYTES) / RECORD_BYTES);
const LOOKUPS = 50_000;
const POOL = 1 as PoolId;

function idOf(index: number): BlockId {
  return new Uint8Array(createHash('sha256').update(String(index)).digest()) as BlockId;
}

const INDEX_BITS = 24n;

/** All numbers below `count` in the order of their ids, in which LevelDB takes rows many times as fast. */
function inOrderOfIds(count: number): Uint32Array {
  if (count > 2 ** Number(INDEX_BITS)) throw new Error(`at most ${2 ** Number(INDEX_BITS)} blocks`);
  const keys = new BigUint64Array(count);
  for (let i = 0; i < count; i++) {
    const start = Buffer.from(idOf(i).subarray(0, 8)).readBigUInt64BE() >> INDEX_BITS;
    keys[i] = (start << INDEX_BITS) | BigInt(i);
  }
  keys.sort();
  return Uint32Array.from(keys, (key) => Number(key & ((1n << INDEX_BITS) - 1n)));
}

async function fill(path: string, count: number): Promise<void> {
  await (await PackStore.open({ path })).close();
  const { disk, clock, random } = createNodeEnv();
  const storeId = 'library';
  const packs = `${path}/packs`;
  const salt = await openStoreFile({ disk, clock, random, path, storeId }, packs, SILENT_LOGGER);
  const { index } = await openIndex(disk, path, salt, SILENT_LOGGER);
  const ends = new Map<number, number>();
  for (const i of inOrderOfIds(count)) {
    const id = idOf(i);
    const pack = 1 + Math.floor(i / PER_PACK);
    const offset = PACK_HEADER_BYTES + (i % PER_PACK) * RECORD_BYTES;
    ends.set(pack, Math.max(offset + RECORD_BYTES, ends.get(pack) ?? 0));
    index.update(blockKeyOf(POOL, id), undefined, {
      ...{ state: 'live', seq: i + 1, pack, offset, lengthBytes: BLOCK_BYTES, generation: 0 },
      ...{ stampSeq: 0, stampPack: 0, damaged: false, shadows: [] },
    });
    if (index.flushDue) await index.flush(false);
  }
  for (const [pack, end] of ends) {
    const fd = openSync(`${packs}/${packFileName(pack)}`, 'w');
    writeSync(fd, encodePackHeader({ storeId, salt, pack }));
    ftruncateSync(fd, end);
    closeSync(fd);
  }
  await index.claim(salt);
  await index.checkpoint(ends, { nextSeq: count + 1, nextPack: Math.max(0, ...ends.keys()) + 1 }, true);
  await index.close();
  await markClosed(disk, path);
}

/** Without pages of files that are mapped: LevelDB maps the index, and the system takes those back when it wants to. */
function residentMiB(): number {
  const kib = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return (Number(kib) * KiB) / MiB;
}

async function open(path: string, count: number, end: string): Promise<void> {
  const startedMs = performance.now();
  const store = await PackStore.open({ path });
  const openMs = performance.now() - startedMs;
  const lookedMs = performance.now();
  for (let i = 0; i < LOOKUPS; i++) {
    // Every second one is not there.
    const index = Math.floor(((i * 0.618_033_988_7) % 1) * count);
    const has = await store.has(idOf(i % 2 === 0 ? index : count + index));
    if (has !== (i % 2 === 0)) throw new Error(`block ${index} is ${has ? '' : 'not '}there`);
  }
  const lookupsPerSecond = (LOOKUPS * 1_000) / (performance.now() - lookedMs);
  const { blockCount } = store.usage();
  process.stdout.write(`${JSON.stringify({ openMs, lookupsPerSecond, residentMiB: residentMiB(), blockCount })}\n`);
  if (end === 'kill') process.kill(process.pid, 'SIGKILL');
  await store.close();
}

const [mode, path = '', count = '', end = ''] = process.argv.slice(2);
await (mode === 'fill' ? fill(path, Number(count)) : open(path, Number(count), end));
