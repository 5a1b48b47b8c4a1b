/**
 * Where each block is: rows in the env's Kv, and in memory only what is not yet in it.
 *
 * The index is a cache of the packs. Rows are written lazily and unsynced; a *checkpoint* says up to which offset of
 * each pack they are complete, and recovery scans the packs from there. Deleting the whole index costs a scan of all
 * record headers, nothing else. (What is lost with it: which blocks were known to be damaged. They are found again.)
 *
 * It may also be damaged while it is open. Rows carry checksums (index-row.ts), so what it says is right or an
 * IndexDamagedError; `onDamage` is told, rebuilds it beside, and {@link PackIndex.adopt} puts the new one in its place.
 */
import type { Kv, KvOp } from '../env.ts';
import { CorruptionError, UnavailableError } from '../errors.ts';
import { BLOCK_ID_BYTES, type BlockId, type PoolId } from '../ids.ts';
import { openRow, sealRow } from './index-row.ts';
import { decodeEntry, encodeEntry, neededBytes, type PackEntry } from './pack-entry.ts';

/** 2: rows have checksums; 3: counts are written with the rows. An index of another version is rebuilt. */
export const INDEX_FORMAT_VERSION = 3;

/** Rows held back in memory before they are written together. */
const FLUSH_ROWS = 512;

const BLOCK_PREFIX = 0x62; // 'b' pool id -> PackEntry
const DAMAGE_PREFIX = 0x64; // 'd' pool id -> nothing; the blocks whose entry says damaged
const PACK_PREFIX = 0x70; // 'p' pack -> PackRow
const NEEDED_PREFIX = 0x6e; // 'n' pack -> bytes that its live records need
const BATCH_PREFIX = 0x66; // 'f' number -> nothing; a batch of rows that may not be durable yet
/**
 * 'k' -> what the rows add up to: number of the batch that it came with, of the last synced one, blocks, bytes. Written in one
 * batch with the rows that change it, so it is right whenever all batches are there: a power failure can take any that were
 * not synced, and each of those has left its number.
 */
const COUNTS_KEY = Uint8Array.of(0x6b);
const CHECKPOINT_KEY = Uint8Array.of(0x63); // 'c' -> Checkpoint
const STORE_KEY = Uint8Array.of(0x73); // 's' -> version, salt

const BLOCK_KEY_BYTES = 5 + BLOCK_ID_BYTES;

/** Bytes of a block's row key, one character each: fast to make and to look up. */
export type BlockKey = string;

export interface PackRow {
  /**
   * Invariant: the rows of all records before this offset are durable in the index, and the records themselves in the
   * pack. Written only after a synced batch that covers them.
   */
  readonly indexedBytes: number;
  /** Where the pack ends whatever its file holds, because a sync of it failed; undefined: it ends with its file. */
  readonly cutBytes: number | undefined;
}

export interface Checkpoint {
  readonly nextSeq: number;
  /** Numbers of packs are never used twice, also if the newest is gone. */
  readonly nextPack: number;
}

/** The index cannot tell now: it is being rebuilt. Who asks another node or later gets an answer. */
export class IndexDamagedError extends UnavailableError {
  constructor(cause: unknown) {
    super('the block index of this node is damaged: it is being rebuilt from the packs', {
      cause,
      remedy: 'Nothing: it mends itself. Look at the disk if it happens again.',
    });
  }
}

export interface IndexEntry {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly entry: PackEntry;
}

const scratch = Buffer.alloc(BLOCK_KEY_BYTES);

function fillScratch(prefix: number, pool: PoolId, id: BlockId): void {
  scratch[0] = prefix;
  scratch.writeUInt32BE(pool, 1);
  scratch.set(id, 5);
}

export function blockKeyOf(pool: PoolId, id: BlockId): BlockKey {
  fillScratch(BLOCK_PREFIX, pool, id);
  return scratch.toString('latin1', 0, BLOCK_KEY_BYTES);
}

/** Inverse of {@link blockKeyOf}. */
export function parseBlockKey(key: BlockKey): { pool: PoolId; id: BlockId } {
  return parseRowKey(Buffer.from(key, 'latin1'));
}

function parseRowKey(row: Uint8Array): { pool: PoolId; id: BlockId } {
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength);
  return { pool: view.getUint32(1) as PoolId, id: new Uint8Array(row.subarray(5, BLOCK_KEY_BYTES)) as BlockId };
}

function rowKey(prefix: number, key: BlockKey): Uint8Array {
  const row = Buffer.from(key, 'latin1');
  row[0] = prefix;
  return row;
}

function numberKey(prefix: number, number: number): Uint8Array {
  const key = Buffer.alloc(5);
  key[0] = prefix;
  key.writeUInt32BE(number, 1);
  return key;
}

const packKey = (pack: number): Uint8Array => numberKey(PACK_PREFIX, pack);
const neededKey = (pack: number): Uint8Array => numberKey(NEEDED_PREFIX, pack);
/** Numbers start over after 2^32: those of batches that are not durable are never so far apart. */
const batchKey = (batch: number): Uint8Array => numberKey(BATCH_PREFIX, batch >>> 0);

function prefixRange(prefix: number, pool?: PoolId): { gte: Uint8Array; lt: Uint8Array } {
  if (pool === undefined) return { gte: Uint8Array.of(prefix), lt: Uint8Array.of(prefix + 1) };
  const gte = Buffer.alloc(5);
  gte[0] = prefix;
  gte.writeUInt32BE(pool, 1);
  if (pool === 0xffffffff) return { gte, lt: Uint8Array.of(prefix + 1) };
  const lt = Buffer.from(gte);
  lt.writeUInt32BE(pool + 1, 1);
  return { gte, lt };
}

export class PackIndex {
  #kv: Kv;
  /** Told of each thing that shows that the Kv below is damaged. */
  onDamage: (error: unknown) => void = () => undefined;
  /** Rows newer than the Kv's; null: the row is to be deleted. */
  #overlay = new Map<BlockKey, PackEntry | null>();
  /** Blocks whose 'd' row may be wrong. */
  #damageChanged = new Set<BlockKey>();
  #damaged = new Set<BlockKey>();
  #damagedList: { pool: PoolId; id: BlockId }[] | undefined;
  /** Bytes of each pack that its live records need. Only a hint for choosing what to compact. */
  #needed = new Map<number, number>();
  #cuts = new Map<number, number>();
  /** Packs whose 'n' row may be wrong. */
  #neededChanged = new Set<number>();
  #blockCount = 0;
  #liveBytes = 0;
  /** The counts are those of all rows. */
  #isCounted = true;
  #batch = 0;
  #durableBatch = 0;
  #flushing: Promise<void> = Promise.resolve();
  readonly #account = { pack: this.#addNeeded.bind(this) };

  constructor(kv: Kv) {
    this.#kv = kv;
  }

  get blockCount(): number {
    return this.#blockCount;
  }

  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Rows that are only in memory. */
  get pendingCount(): number {
    return this.#overlay.size;
  }

  get flushDue(): boolean {
    return this.#overlay.size >= FLUSH_ROWS;
  }

  /** Whether the counts are right. False: rows were lost, and {@link recount} is due. */
  get isCounted(): boolean {
    return this.#isCounted;
  }

  neededBytesOf(pack: number): number {
    return Math.max(0, this.#needed.get(pack) ?? 0);
  }

  /** Packs in which live records are, by the rows. */
  neededPacks(): number[] {
    return [...this.#needed].flatMap(([pack, bytes]) => (bytes > 0 ? [pack] : []));
  }

  damaged(): readonly { readonly pool: PoolId; readonly id: BlockId }[] {
    this.#damagedList ??= [...this.#damaged].map(parseBlockKey);
    return this.#damagedList;
  }

  get(pool: PoolId, id: BlockId): PackEntry | undefined {
    fillScratch(BLOCK_PREFIX, pool, id);
    if (this.#overlay.size > 0) {
      const pending = this.#overlay.get(scratch.toString('latin1', 0, BLOCK_KEY_BYTES));
      if (pending !== undefined) return pending ?? undefined;
    }
    try {
      const row = this.#kv.get(scratch);
      // The checksum's own scratch buffer is another one: this key stays.
      return row === undefined ? undefined : decodeEntry(openRow(scratch, row));
    } catch (error) {
      throw this.#broken(error);
    }
  }

  /** Where a pack ends whatever its file holds, if it was cut. */
  cutOf(pack: number): number | undefined {
    return this.#cuts.get(pack);
  }

  #broken(error: unknown): IndexDamagedError {
    if (error instanceof IndexDamagedError) return error;
    this.onDamage(error);
    return new IndexDamagedError(error);
  }

  /** `known` is what get returns now; `next` undefined deletes the row. */
  update(key: BlockKey, known: PackEntry | undefined, next: PackEntry | undefined): void {
    if (known === next) return;
    if (known !== undefined) this.#count(known, -1);
    if (next !== undefined) this.#count(next, 1);
    const damaged = next?.damaged === true;
    if (damaged !== this.#damaged.has(key)) {
      if (damaged) this.#damaged.add(key);
      else this.#damaged.delete(key);
      this.#damagedList = undefined;
      this.#damageChanged.add(key);
    }
    this.#overlay.set(key, next ?? null);
  }

  #count(entry: PackEntry, sign: 1 | -1): void {
    if (entry.state === 'live' && !entry.damaged) {
      this.#blockCount += sign;
      this.#liveBytes += sign * entry.lengthBytes;
    }
    neededBytes(entry, sign === 1 ? this.#account.pack : (pack, bytes) => this.#addNeeded(pack, -bytes));
  }

  #addNeeded(pack: number, bytes: number): void {
    this.#needed.set(pack, (this.#needed.get(pack) ?? 0) + bytes);
    this.#neededChanged.add(pack);
  }

  /** Writes what is only in memory. With `sync` all rows written until now are durable on return. */
  async flush(sync: boolean): Promise<void> {
    const flush = this.#flushing.then(() => this.#flushNow(sync));
    this.#flushing = flush.catch(() => undefined);
    await flush;
  }

  async #flushNow(sync: boolean): Promise<void> {
    const pending = [...this.#overlay];
    const damageChanged = [...this.#damageChanged];
    if (pending.length === 0 && damageChanged.length === 0 && !sync) return;
    const ops: KvOp[] = [];
    for (const [key, entry] of pending) {
      const row = rowKey(BLOCK_PREFIX, key);
      ops.push(entry === null ? { key: row } : { key: row, value: sealRow(row, encodeEntry(entry)) });
    }
    for (const key of damageChanged) {
      const row = rowKey(DAMAGE_PREFIX, key);
      ops.push(this.#damaged.has(key) ? { key: row, value: sealRow(row, NOTHING) } : { key: row });
    }
    const neededChanged = [...this.#neededChanged];
    const batch = this.#batch + 1;
    ops.push(...this.#countOps(batch, neededChanged, sync));
    this.#damageChanged.clear();
    this.#neededChanged.clear();
    const kv = this.#kv;
    try {
      await this.#write(ops, sync);
    } catch (error) {
      for (const key of damageChanged) this.#damageChanged.add(key);
      for (const pack of neededChanged) this.#neededChanged.add(pack);
      throw error;
    }
    // Another index was put in its place meanwhile: what was written is in the old one.
    if (kv !== this.#kv) return;
    this.#batch = batch;
    if (sync) this.#durableBatch = batch;
    for (const [key, entry] of pending) {
      // A newer one stays for the next flush.
      if (this.#overlay.get(key) === entry) this.#overlay.delete(key);
    }
  }

  /** The counts as they are with this batch. */
  #countOps(batch: number, neededChanged: readonly number[], sync: boolean): KvOp[] {
    if (!this.#isCounted) return [{ key: COUNTS_KEY }];
    const ops: KvOp[] = neededChanged.map((pack) => {
      const bytes = this.#needed.get(pack);
      return bytes === undefined ? { key: neededKey(pack) } : sealed(neededKey(pack), encodeNumbers([bytes]));
    });
    const durable = sync ? batch : this.#durableBatch;
    ops.push(sealed(COUNTS_KEY, encodeNumbers([batch, durable, this.#blockCount, this.#liveBytes])));
    if (!sync) ops.push(sealed(batchKey(batch), NOTHING));
    else for (let old = this.#durableBatch + 1; old < batch; old++) ops.push({ key: batchKey(old) });
    return ops;
  }

  async #write(ops: readonly KvOp[], sync: boolean): Promise<void> {
    try {
      await this.#kv.batch(ops, { sync });
    } catch (error) {
      throw error instanceof CorruptionError ? this.#broken(error) : error;
    }
  }

  /** Rows of a pool, or of all, each once, from one snapshot that has all updates made before the call. */
  async *entries(pool?: PoolId): AsyncGenerator<IndexEntry> {
    await this.flush(false);
    const kv = this.#kv;
    try {
      for await (const [row, value] of kv.scan(prefixRange(BLOCK_PREFIX, pool))) {
        yield { ...parseRowKey(row), entry: decodeEntry(openRow(row, value)) };
      }
    } catch (error) {
      throw kv === this.#kv ? this.#broken(error) : new IndexDamagedError(error);
    }
  }

  /** The next rows after a block's (from the front without one), at most `limit`, of a pool or of all. */
  async entriesAfter(after: BlockKey | undefined, limit: number, pool?: PoolId): Promise<IndexEntry[]> {
    await this.flush(false);
    const range = prefixRange(BLOCK_PREFIX, pool);
    const gte = after === undefined ? range.gte : Buffer.concat([rowKey(BLOCK_PREFIX, after), Uint8Array.of(0)]);
    const found: IndexEntry[] = [];
    const kv = this.#kv;
    try {
      for await (const [row, value] of kv.scan({ ...range, gte, limit })) {
        found.push({ ...parseRowKey(row), entry: decodeEntry(openRow(row, value)) });
      }
    } catch (error) {
      throw kv === this.#kv ? this.#broken(error) : new IndexDamagedError(error);
    }
    return found;
  }

  // Checkpoints

  /**
   * Makes durable that the packs are indexed up to the given offsets (taken before the call; what is indexed meanwhile
   * does no harm). `last`: nothing follows.
   */
  async checkpoint(indexed: ReadonlyMap<number, number>, next: Checkpoint, last: boolean): Promise<void> {
    // First the rows, durably; only then the claim that they are there: in the index of that moment.
    let kv: Kv;
    do {
      kv = this.#kv;
      await this.flush(true);
    } while (kv !== this.#kv);
    const ops: KvOp[] = [];
    for (const [pack, indexedBytes] of indexed)
      ops.push(sealed(packKey(pack), this.#encodePackRow(pack, indexedBytes)));
    ops.push(sealed(CHECKPOINT_KEY, Buffer.from(JSON.stringify(next))));
    // Unsynced is enough but at the end: an older checkpoint only means a longer scan.
    await this.#write(ops, last);
  }

  /** Durably ends a pack at `cutBytes`. */
  async cut(pack: number, cutBytes: number): Promise<void> {
    this.#cuts.set(pack, cutBytes);
    await this.#write([sealed(packKey(pack), this.#encodePackRow(pack, 0))], true);
  }

  async forgetPack(pack: number): Promise<void> {
    this.#cuts.delete(pack);
    this.#needed.delete(pack);
    this.#neededChanged.delete(pack);
    await this.#write([{ key: packKey(pack) }, { key: neededKey(pack) }], false);
  }

  #encodePackRow(pack: number, indexedBytes: number): Uint8Array {
    const row: PackRow = { indexedBytes, cutBytes: this.#cuts.get(pack) };
    return Buffer.from(JSON.stringify(row));
  }

  /** Undefined if this index is new, damaged, or another store's. */
  async load(salt: bigint): Promise<{ checkpoint: Checkpoint; packs: Map<number, PackRow> } | undefined> {
    try {
      return await this.#load(salt);
    } catch (error) {
      if (error instanceof CorruptionError) return undefined;
      throw error;
    }
  }

  async #load(salt: bigint): Promise<{ checkpoint: Checkpoint; packs: Map<number, PackRow> } | undefined> {
    const store = this.#kv.get(STORE_KEY);
    const expected = storeRow(salt);
    if (store === undefined || Buffer.compare(store, expected) !== 0) return undefined;
    const row = this.#kv.get(CHECKPOINT_KEY);
    const checkpoint = parseCheckpoint(row && openRow(CHECKPOINT_KEY, row));
    if (checkpoint === undefined) return undefined;
    const packs = new Map<number, PackRow>();
    for await (const [key, value] of this.#kv.scan(prefixRange(PACK_PREFIX))) {
      const row = parsePackRow(openRow(key, value));
      if (row === undefined) return undefined;
      const pack = Buffer.from(key).readUInt32BE(1);
      packs.set(pack, row);
      if (row.cutBytes !== undefined) this.#cuts.set(pack, row.cutBytes);
    }
    for await (const [key, value] of this.#kv.scan(prefixRange(DAMAGE_PREFIX))) {
      openRow(key, value);
      this.#damaged.add(blockKeyOf(...poolAndId(key)));
    }
    await this.#loadCounts();
    return { checkpoint, packs };
  }

  async #loadCounts(): Promise<void> {
    for await (const [key, value] of this.#kv.scan(prefixRange(NEEDED_PREFIX))) {
      const [bytes = 0] = decodeNumbers(openRow(key, value), 1);
      this.#needed.set(Buffer.from(key).readUInt32BE(1), bytes);
    }
    const row = this.#kv.get(COUNTS_KEY);
    if (row === undefined) {
      this.#isCounted = false;
      return;
    }
    const counts = decodeNumbers(openRow(COUNTS_KEY, row), 4);
    [this.#batch, this.#durableBatch, this.#blockCount, this.#liveBytes] = counts;
    for (let number = this.#durableBatch + 1; number <= this.#batch; number++) {
      if (this.#kv.get(batchKey(number)) === undefined) this.#isCounted = false;
    }
  }

  /** Whether there is no row at all. */
  async isEmpty(): Promise<boolean> {
    for await (const row of this.#kv.scan({ gte: Uint8Array.of(0), lt: Uint8Array.of(0xff), limit: 1 }))
      return row === undefined;
    return true;
  }

  /** Makes this index the given store's. */
  async claim(salt: bigint): Promise<void> {
    await this.#write([{ key: STORE_KEY, value: storeRow(salt) }], false);
  }

  /**
   * Puts a newer index, complete and durable, in the place of this one; at once, so that nothing comes between. Resolves
   * when the old Kv is closed: lists that were reading it end with IndexDamagedError.
   */
  async adopt(next: PackIndex): Promise<void> {
    const old = this.#kv;
    const flushing = [this.#flushing, next.#flushing];
    this.#kv = next.#kv;
    this.#overlay = next.#overlay;
    this.#damageChanged = next.#damageChanged;
    this.#damaged = next.#damaged;
    this.#damagedList = undefined;
    this.#needed = next.#needed;
    this.#neededChanged = next.#neededChanged;
    this.#cuts = next.#cuts;
    this.#isCounted = next.#isCounted;
    this.#batch = next.#batch;
    this.#durableBatch = next.#durableBatch;
    this.#blockCount = next.#blockCount;
    this.#liveBytes = next.#liveBytes;
    this.#flushing = Promise.all(flushing).then(() => undefined);
    await this.#flushing;
    await old.close();
  }

  /** Takes over, for an index that is being built, what stands in no pack: durably on return. Undefined if it has it all. */
  inherit(from: PackIndex): Promise<void> | undefined {
    const cuts = [...from.#cuts].filter(([pack, cutBytes]) => this.#cuts.get(pack) !== cutBytes);
    return cuts.length === 0 ? undefined : this.#cutAll(cuts);
  }

  async #cutAll(cuts: readonly (readonly [number, number])[]): Promise<void> {
    for (const [pack, cutBytes] of cuts) await this.cut(pack, cutBytes);
  }

  /** Counts everything anew; `mend` may change rows on the way (undefined deletes). */
  async recount(mend: (entry: PackEntry) => PackEntry | undefined): Promise<void> {
    await this.flush(false);
    // Should the process end before it is through, the next one counts.
    this.#isCounted = false;
    const packs = [...this.#needed.keys()];
    this.#needed.clear();
    this.#damaged.clear();
    this.#damagedList = undefined;
    this.#blockCount = 0;
    this.#liveBytes = 0;
    for await (const { pool, id, entry } of this.entries()) {
      const key = blockKeyOf(pool, id);
      this.#count(entry, 1);
      if (entry.damaged) this.#damaged.add(key);
      this.update(key, entry, mend(entry));
      if (this.flushDue) await this.flush(false);
    }
    for (const pack of [...packs, ...this.#needed.keys()]) this.#neededChanged.add(pack);
    this.#isCounted = true;
  }

  async close(): Promise<void> {
    await this.#flushing;
    await this.#kv.close();
  }
}

function poolAndId(row: Uint8Array): [PoolId, BlockId] {
  const { pool, id } = parseRowKey(row);
  return [pool, id];
}

/** Under the 'd' rows. */
const NOTHING = new Uint8Array(0);

function sealed(key: Uint8Array, payload: Uint8Array): KvOp {
  return { key, value: sealRow(key, payload) };
}

function storeRow(salt: bigint): Uint8Array {
  const row = Buffer.alloc(9);
  row[0] = INDEX_FORMAT_VERSION;
  row.writeBigUInt64LE(salt, 1);
  return row;
}

function encodeNumbers(numbers: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(8 * numbers.length);
  numbers.forEach((number, index) => bytes.writeDoubleLE(number, 8 * index));
  return bytes;
}

function decodeNumbers(bytes: Uint8Array, count: 1): [number];
function decodeNumbers(bytes: Uint8Array, count: 4): [number, number, number, number];
function decodeNumbers(bytes: Uint8Array, count: number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length !== 8 * count) throw new CorruptionError('the block index has a row of another length');
  return Array.from({ length: count }, (_, index) => view.getFloat64(8 * index, true));
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function parseJson(bytes: Uint8Array | undefined): Record<string, unknown> | undefined {
  if (bytes === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function parseCheckpoint(bytes: Uint8Array | undefined): Checkpoint | undefined {
  const value = parseJson(bytes);
  if (value === undefined) return undefined;
  // Earlier versions did not write the pack's.
  const { nextSeq, nextPack = 1 } = value;
  return isCount(nextSeq) && isCount(nextPack) ? { nextSeq, nextPack } : undefined;
}

function parsePackRow(bytes: Uint8Array): PackRow | undefined {
  const value = parseJson(bytes);
  if (value === undefined) return undefined;
  const { indexedBytes, cutBytes } = value;
  if (!isCount(indexedBytes) || (cutBytes !== undefined && !isCount(cutBytes))) return undefined;
  return { indexedBytes, cutBytes };
}
