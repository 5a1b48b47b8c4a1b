/**
 * Opening a store: finds its packs and brings the index up to date.
 *
 * The index says up to which offset of each pack it is complete. From there to the file's end the pack is scanned. Of
 * that part, what lies below the highest `syncedBytes` that any of its records tells was durable: a gap there is damage
 * and is reported. What lies beyond may be torn anywhere (unsynced pages reach the disk in any order): records whose
 * header and data verify are kept, the rest was acknowledged to nobody.
 */
import type { Disk, DiskFile } from '../env.ts';
import { CorruptionError } from '../errors.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';
import type { Logger } from '../log.ts';
import { isUnreadable } from '../disk-errors.ts';
import { PAGE_HASH_BYTES, pageCountOf, verifyPages } from './identity.ts';
import { mergeBlock, mergeRenewal, mergeTombstone, type PackEntry, type PlacedRecord } from './pack-entry.ts';
import type { PackFiles } from './pack-files.ts';
import {
  decodePackHeader,
  PACK_HEADER_BYTES,
  parsePackFileName,
  recordHeadBytes,
  RECORD_HEADER_BYTES,
  type RecordHeader,
} from './pack-format.ts';
import {
  blockKeyOf,
  parseBlockKey,
  type BlockKey,
  type Checkpoint,
  type PackIndex,
  type PackRow,
} from './pack-index.ts';
import { scanPack, type ScanSource } from './pack-scanner.ts';

const MERGES = { block: mergeBlock, tombstone: mergeTombstone, renewal: mergeRenewal } as const;

/** Puts one durable record into the index. Returns the block's key. */
export function indexRecord(
  index: PackIndex,
  header: Pick<RecordHeader, 'type' | 'pool' | 'id'>,
  placed: PlacedRecord,
): BlockKey {
  const known = index.get(header.pool, header.id);
  const key = blockKeyOf(header.pool, header.id);
  index.update(key, known, MERGES[header.type](known, placed));
  return key;
}

export interface Recovered {
  readonly nextSeq: number;
  readonly nextPack: number;
  /** The newest pack, if it can be appended to, and where. */
  readonly resume: { readonly pack: number; readonly sizeBytes: number } | undefined;
}

export interface RecoveryOptions {
  readonly disk: Disk;
  readonly dir: string;
  readonly files: PackFiles;
  readonly index: PackIndex;
  /** What the index knew; undefined: it is new, and empty. */
  readonly loaded: { readonly checkpoint: Checkpoint; readonly packs: ReadonlyMap<number, PackRow> } | undefined;
  readonly salt: bigint;
  readonly packMaxBytes: number;
  readonly log: Logger;
}

export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const { disk, dir, files, index, loaded, salt, log } = options;
  const rows = loaded?.packs ?? new Map<number, PackRow>();
  const packs = (await disk.readdir(dir)).flatMap((name) => parsePackFileName(name) ?? []);
  // Otherwise all rows are counted, and mended: with packs that are gone, or all that was ever written, to be read.
  let exact = loaded !== undefined && index.isCounted;
  const touched = new Set<BlockKey>();
  let nextSeq = loaded?.checkpoint.nextSeq ?? 1;
  let nextPack = loaded?.checkpoint.nextPack ?? 1;
  let resume: Recovered['resume'];
  let unknownPacks = false;
  if (loaded === undefined && packs.length > 0)
    log.warn({ packs: packs.length }, 'the block index is missing or unusable: rebuilding it from the packs');

  const indexed = new Map<number, number>();
  for (const pack of packs) {
    const row = rows.get(pack);
    const tail = await recoverPack(options, pack, row, loaded === undefined ? undefined : touched);
    if (row === undefined) unknownPacks = true;
    nextSeq = Math.max(nextSeq, tail.maxSeq + 1);
    nextPack = Math.max(nextPack, pack + 1);
    indexed.set(pack, tail.sizeBytes);
    files.setSize(pack, tail.sizeBytes);
    resume = tail.appendable && tail.sizeBytes < options.packMaxBytes ? { pack, sizeBytes: tail.sizeBytes } : undefined;
  }
  for (const pack of rows.keys()) {
    nextPack = Math.max(nextPack, pack + 1);
    if (indexed.has(pack)) continue;
    // Either a compaction ended between unlinking the file and forgetting it, or somebody removed it. The count tells.
    exact = false;
    await index.forgetPack(pack);
  }
  // The process that made them may have died before it made their names durable, or was about to.
  if (unknownPacks) await disk.syncDir(dir);
  const exists = (pack: number): boolean => indexed.has(pack);
  if (exact && index.neededPacks().every(exists)) {
    for (const key of touched) {
      const { pool, id } = parseBlockKey(key);
      const entry = index.get(pool, id);
      if (entry !== undefined) index.update(key, entry, mendEntry(entry, exists));
    }
  } else {
    let lostCount = 0;
    await index.recount((entry) => {
      const mended = mendEntry(entry, exists);
      if (mended?.damaged === true && !entry.damaged) lostCount++;
      return mended;
    });
    if (lostCount > 0) log.error({ blocks: lostCount }, 'pack files are missing: their blocks count as damaged');
  }
  await index.claim(salt);
  await index.checkpoint(indexed, { nextSeq, nextPack }, false);
  return { nextSeq, nextPack, resume };
}

/** What an entry is once all packs have been seen; undefined: nothing is left of it. */
export function mendEntry(entry: PackEntry, exists: (pack: number) => boolean): PackEntry | undefined {
  if (entry.state === 'stamp') return undefined;
  let next = entry;
  if (!entry.shadows.every(exists)) next = { ...next, shadows: entry.shadows.filter(exists) };
  if (entry.stampPack !== 0 && !exists(entry.stampPack)) next = { ...next, stampPack: 0 };
  if (entry.state === 'dead') return next.shadows.length === 0 ? undefined : next;
  if (entry.pack !== 0 && !exists(entry.pack)) next = { ...next, pack: 0, offset: 0, damaged: true };
  return next;
}

interface Tail {
  readonly maxSeq: number;
  /** Where the pack ends, for us. */
  readonly sizeBytes: number;
  /** Nothing torn or cut at its end. */
  readonly appendable: boolean;
}

async function recoverPack(
  options: RecoveryOptions,
  pack: number,
  row: PackRow | undefined,
  touched: Set<BlockKey> | undefined,
): Promise<Tail> {
  const { disk, files } = options;
  const from = Math.max(PACK_HEADER_BYTES, row?.indexedBytes ?? 0);
  const cutBytes = row?.cutBytes;
  const file = await disk.open(files.path(pack), 'write');
  try {
    const fileBytes = await file.sizeBytes();
    const end = Math.min(fileBytes, cutBytes ?? fileBytes);
    const intact = cutBytes === undefined;
    if (fileBytes > end) await removeCutPart(options, file, pack, end);
    if (end === from) {
      if (row === undefined) await file.datasync();
      return { maxSeq: 0, sizeBytes: end, appendable: intact };
    }
    if (end < from) {
      if (fileBytes > PACK_HEADER_BYTES || from > PACK_HEADER_BYTES) {
        options.log.error(
          { pack, fileBytes, indexedBytes: from },
          'a pack file is shorter than it was: blocks in it are damaged',
        );
      }
      return { maxSeq: 0, sizeBytes: end, appendable: false };
    }
    await checkHeader(options, file, pack);
    const { maxSeq, torn } = await indexPart(
      { ...options, touched },
      { file, pack, salt: options.salt },
      { from, end },
    );
    // What was found is in the system's memory for sure, on disk perhaps: before the index claims it, it must be.
    await file.datasync();
    return { maxSeq, sizeBytes: end, appendable: intact && !torn };
  } finally {
    await file.close();
  }
}

/**
 * What a failed sync left behind a pack's end must not come back should the index, which knows of the cut, be lost: its
 * operations were reported as failed, and what was done since counts on what we answer now.
 */
async function removeCutPart({ log }: RecoveryOptions, file: DiskFile, pack: number, end: number): Promise<void> {
  try {
    await file.truncate(end);
    await file.datasync();
  } catch (error) {
    // The index still knows.
    log.warn({ pack, error: String(error) }, 'the unusable end of a pack file could not be removed');
  }
}

async function checkHeader(options: RecoveryOptions, file: DiskFile, pack: number): Promise<void> {
  const bytes = new Uint8Array(PACK_HEADER_BYTES);
  await file.read(bytes, 0).catch((error: unknown) => {
    if (!isUnreadable(error)) throw error;
  });
  const header = decodePackHeader(bytes);
  if (header === undefined) {
    // Its records stand for themselves: their checksums are bound to this store, this pack and their places.
    options.log.warn({ pack }, 'a pack file has a damaged header');
  } else if (header.salt !== options.salt || header.pack !== pack) {
    options.log.error(
      { pack, storeId: header.storeId },
      'a pack file is of another store, or renamed: nothing in it is used',
    );
  }
}

interface Seen {
  readonly header: RecordHeader;
  readonly offset: number;
  readonly endOffset: number;
}

export interface PackPart {
  readonly from: number;
  readonly end: number;
  /** Known to be durable up to here; default: up to `from`. */
  readonly durableBytes?: number;
  /** Was this record, which does not verify and may never have been durable, known to be there? Default: nothing was. */
  readonly wasKnown?: (header: RecordHeader, offset: number) => boolean;
}

/** Puts the records of a part of a pack into the index. */
export async function indexPart(
  host: {
    readonly index: PackIndex;
    readonly log: Logger;
    /** Gets the keys of what was found. */
    readonly touched?: Set<BlockKey> | undefined;
  },
  source: ScanSource,
  { from, end, durableBytes = from, wasKnown = () => false }: PackPart,
): Promise<{ maxSeq: number; torn: boolean }> {
  const { index, log, touched } = host;
  const { pack } = source;
  const records: Seen[] = [];
  const gaps: { offset: number; endOffset: number }[] = [];
  let syncedBytes = durableBytes;
  let maxSeq = 0;
  for await (const found of scanPack(source, from, end)) {
    if (found.kind === 'gap') {
      gaps.push(found);
      continue;
    }
    const { header, offset, endOffset } = found;
    records.push({ header, offset, endOffset });
    syncedBytes = Math.max(syncedBytes, header.syncedBytes);
    maxSeq = Math.max(maxSeq, header.seq);
  }
  let tornBytes = 0;
  for (const { offset, endOffset } of gaps) {
    if (offset < syncedBytes) {
      log.error(
        { pack, offset, endOffset: Math.min(endOffset, syncedBytes) },
        'a pack file is damaged: blocks stored there are lost on this node',
      );
    }
    tornBytes += Math.max(0, endOffset - Math.max(offset, syncedBytes));
  }
  const scratch = { buffer: Buffer.alloc(0) };
  for (const { header, offset, endOffset } of records) {
    const isSure = endOffset <= syncedBytes || wasKnown(header, offset);
    if (!isSure && !(await dataVerifies(source, header, offset, scratch))) {
      tornBytes += endOffset - offset;
      continue;
    }
    const key = indexRecord(index, header, { ...header, pack, offset });
    touched?.add(key);
    if (index.flushDue) await index.flush(false);
  }
  if (tornBytes > 0)
    log.info({ pack, bytes: tornBytes }, 'dropped what was not completely written before the last stop');
  return { maxSeq, torn: tornBytes > 0 };
}

async function dataVerifies(
  source: ScanSource,
  header: RecordHeader,
  offset: number,
  scratch: { buffer: Buffer },
): Promise<boolean> {
  if (header.type !== 'block') return true;
  const listBytes = pageCountOf(header.lengthBytes) * PAGE_HASH_BYTES;
  if (scratch.buffer.length === 0)
    scratch.buffer = Buffer.allocUnsafeSlow(recordHeadBytes(BLOCK_MAX_BYTES) + BLOCK_MAX_BYTES);
  const bytes = scratch.buffer.subarray(0, listBytes + header.lengthBytes);
  try {
    if ((await source.file.read(bytes, offset + RECORD_HEADER_BYTES)) < bytes.length) return false;
    verifyPages(header.id, header.lengthBytes, bytes.subarray(0, listBytes), 0, bytes.subarray(listBytes));
    return true;
  } catch (error) {
    if (error instanceof CorruptionError || (error as { code?: unknown }).code === 'EIO') return false;
    throw error;
  }
}
