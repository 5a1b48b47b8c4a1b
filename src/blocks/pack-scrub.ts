/**
 * Looks through a pack store: packs against the index and every live byte against its hash, then the index against the
 * packs. Two walks, because each sees what the other cannot: the first meets records that the index lacks and data
 * that has rotted, the second rows that name a record which is no longer there.
 *
 * Nothing is decided by one look: the store is in use, so what seems wrong is looked up again after its bytes were read.
 */
import type { DiskFile } from '../env.ts';
import { CorruptionError } from '../errors.ts';
import type { BlockId, PoolId } from '../ids.ts';
import { KiB } from '../limits.ts';
import type { BufferPool } from './buffer-pool.ts';
import { verifyPages } from './identity.ts';
import { mergeBlock, mergeRenewal, mergeTombstone, tombstoneNeeded, type PackEntry } from './pack-entry.ts';
import type { PackFiles } from './pack-files.ts';
import type { IndexKeeper } from './pack-index-keeper.ts';
import {
  decodeRecordHead,
  PACK_HEADER_BYTES,
  RECORD_HEAD_MAX_BYTES,
  recordHeadBytes,
  type RecordHeader,
} from './pack-format.ts';
import { blockKeyOf, IndexDamagedError, type IndexEntry, type PackIndex } from './pack-index.ts';
import { scanPack, type Scanned } from './pack-scanner.ts';
import type { NewRecord } from './pack-writer.ts';
import type { PackExtent, ScrubFindings, ScrubTarget } from './scrub-target.ts';

/** What reading one record's head somewhere counts as: a disk that seeks takes as long as for this many bytes in a row. */
export const HEAD_COST_BYTES = 16 * KiB;
/** Gaps remembered of one piece; a pack with more is broken all over, and one is enough to say so. */
const GAPS_MAX = 64;

export interface PackScrubHost {
  readonly files: PackFiles;
  readonly index: PackIndex;
  readonly buffers: BufferPool;
  readonly salt: bigint;
  readonly endOf: (pack: number) => number;
  readonly append: (record: NewRecord) => Promise<void>;
}

/** Of one open store. */
export class PackScrub implements ScrubTarget {
  readonly #host: PackScrubHost;
  readonly #keeper: IndexKeeper;

  constructor(host: PackScrubHost, keeper: IndexKeeper) {
    this.#host = host;
    this.#keeper = keeper;
  }

  extents(): readonly PackExtent[] {
    const { files, endOf } = this.#host;
    return files.packs().map((pack) => ({ pack, endBytes: endOf(pack) }));
  }

  rowCount(): number {
    return this.#host.index.blockCount;
  }

  scrubPack(piece: PackPiece, pool: PoolId | undefined) {
    return scrubPackPiece(this.#host, piece, pool);
  }

  scrubRows(after: string | undefined, limit: number, pool: PoolId | undefined, gapPacks: ReadonlySet<number>) {
    return scrubIndexRows(this.#host, after, limit, pool, gapPacks);
  }

  wasDeleted(pool: PoolId, id: BlockId): boolean {
    return this.#host.index.get(pool, id)?.state === 'dead';
  }

  get indexUnchecked(): boolean {
    return this.#keeper.isUnchecked;
  }

  checkIndexFiles(): Promise<string | undefined> {
    return this.#keeper.checkFiles();
  }

  reindex(reason: string): Promise<void> {
    return this.#keeper.rebuild(reason);
  }

  get reindexed() {
    return this.#keeper.rebuilt;
  }
}

/** Findings while they grow. */
class Findings {
  costBytes = 0;
  blockCount = 0;
  blockBytes = 0;
  readonly suspects: { readonly pool: PoolId; readonly id: BlockId }[] = [];
  indexFault: string | undefined;
  readonly gaps: { readonly offset: number; readonly endOffset: number }[] = [];
  rewrittenCount = 0;

  suspect(pool: PoolId, id: BlockId): void {
    this.suspects.push({ pool, id });
  }
}

type FoundRecord = Extract<Scanned, { kind: 'record' }>;

// The packs

export interface PackPiece {
  readonly pack: number;
  readonly offset: number;
  readonly endBytes: number;
  readonly budgetBytes: number;
}

export async function scrubPackPiece(
  host: PackScrubHost,
  piece: PackPiece,
  pool: PoolId | undefined,
): Promise<(ScrubFindings & { readonly nextOffset: number }) | undefined> {
  const { files } = host;
  const { pack, budgetBytes } = piece;
  if (!files.has(pack)) return undefined;
  const endBytes = Math.min(piece.endBytes, host.endOf(pack));
  const offset = Math.max(PACK_HEADER_BYTES, piece.offset);
  const findings = new Findings();
  if (offset >= endBytes) return { ...findings, nextOffset: endBytes };
  let nextOffset = offset;
  try {
    await files.use(pack, async (file) => {
      for await (const found of scanPack({ file, pack, salt: host.salt }, offset, endBytes)) {
        if (found.kind === 'gap') noteGap(findings, found);
        else await lookAtRecord(host, file, pack, found, pool, findings);
        nextOffset = found.endOffset;
        if (findings.costBytes >= budgetBytes || nextOffset - offset >= budgetBytes) return;
      }
    });
  } catch (error) {
    // Compacted away just now: what it held was checked when it was copied. (Or somebody removed the file: its rows tell.)
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
    if (!(error instanceof IndexDamagedError)) throw error;
    // Once the index is rebuilt it goes on here.
    findings.indexFault ??= faultOf(error);
  }
  return { ...findings, nextOffset };
}

function noteGap(findings: Findings, { offset, endOffset }: { offset: number; endOffset: number }): void {
  findings.costBytes += endOffset - offset;
  if (findings.gaps.length < GAPS_MAX) findings.gaps.push({ offset, endOffset });
}

async function lookAtRecord(
  host: PackScrubHost,
  file: DiskFile,
  pack: number,
  found: FoundRecord,
  only: PoolId | undefined,
  findings: Findings,
): Promise<void> {
  const { header, offset, pageHashes } = found;
  const { pool, id, lengthBytes } = header;
  findings.costBytes += recordHeadBytes(lengthBytes);
  if (only !== undefined && pool !== only) return;
  const isHere = (): boolean => {
    const now = host.index.get(pool, id);
    return now?.state === 'live' && !now.damaged && now.pack === pack && now.offset === offset;
  };
  const missing = !isReflected(host.index.get(pool, id), header, pack, offset);
  // Replaced or deleted: nobody reads these bytes any more.
  if (header.type !== 'block' || !(missing || isHere())) {
    if (missing) findings.indexFault ??= `it lacks a ${header.type} at ${pack}:${offset}`;
    return;
  }
  const intact = await dataIsIntact(host, file, header, offset, pageHashes);
  findings.costBytes += lengthBytes;
  if (missing) {
    // Bytes that do not verify under a head that nobody knows were never completely written, or are lost: the gap, too.
    if (isReflected(host.index.get(pool, id), header, pack, offset)) return;
    if (intact) findings.indexFault ??= `it lacks the block at ${pack}:${offset}`;
    else noteGap(findings, { offset, endOffset: offset });
    return;
  }
  if (intact) {
    findings.blockCount++;
    findings.blockBytes += lengthBytes;
  } else if (isHere()) findings.suspect(pool, id);
}

/**
 * Whether merging the record in would change nothing. A tombstone or renewal of a block that the index does not know is
 * no fault: nothing is left for it to say.
 */
function isReflected(known: PackEntry | undefined, header: RecordHeader, pack: number, offset: number): boolean {
  if (known === undefined) return header.type !== 'block';
  const placed = { ...header, pack, offset };
  if (header.type === 'tombstone') return isSame(mergeTombstone(known, placed), known);
  if (header.type === 'renewal')
    return known.state !== 'live' || mergeRenewal(known, placed).generation === known.generation;
  return isSame(mergeBlock(known, placed), known);
}

function isSame(a: PackEntry, b: PackEntry): boolean {
  return (
    a === b ||
    (a.state === b.state &&
      a.seq === b.seq &&
      a.pack === b.pack &&
      a.offset === b.offset &&
      a.generation === b.generation &&
      a.shadows.length === b.shadows.length)
  );
}

async function dataIsIntact(
  host: PackScrubHost,
  file: DiskFile,
  { id, lengthBytes }: RecordHeader,
  offset: number,
  pageHashes: Uint8Array,
): Promise<boolean> {
  const lease = await host.buffers.take(lengthBytes);
  try {
    if ((await file.read(lease.bytes, offset + recordHeadBytes(lengthBytes))) < lengthBytes) return false;
    verifyPages(id, lengthBytes, pageHashes, 0, lease.bytes);
    return true;
  } catch (error) {
    if (error instanceof CorruptionError || (error as { code?: unknown }).code === 'EIO') return false;
    throw error;
  } finally {
    lease.release();
  }
}

// The index

export async function scrubIndexRows(
  host: PackScrubHost,
  after: string | undefined,
  limit: number,
  pool: PoolId | undefined,
  gapPacks: ReadonlySet<number>,
): Promise<ScrubFindings & { readonly next: string | undefined }> {
  const findings = new Findings();
  const from = after === undefined ? undefined : Buffer.from(after, 'hex').toString('latin1');
  let rows: IndexEntry[];
  try {
    rows = await host.index.entriesAfter(from, limit, pool);
  } catch (error) {
    if (!(error instanceof IndexDamagedError)) throw error;
    findings.indexFault = faultOf(error);
    return { ...findings, next: after };
  }
  const last = rows.at(-1);
  // In the order of the disk.
  rows.sort((a, b) => a.entry.pack - b.entry.pack || a.entry.offset - b.entry.offset);
  const head = new Uint8Array(RECORD_HEAD_MAX_BYTES);
  try {
    for (const row of rows) await lookAtRow(host, row, head, gapPacks, findings);
  } catch (error) {
    if (!(error instanceof IndexDamagedError)) throw error;
    findings.indexFault ??= faultOf(error);
    return { ...findings, next: after };
  }
  const next =
    last === undefined || rows.length < limit
      ? undefined
      : Buffer.from(blockKeyOf(last.pool, last.id), 'latin1').toString('hex');
  return { ...findings, next };
}

async function lookAtRow(
  host: PackScrubHost,
  { pool, id, entry }: IndexEntry,
  buffer: Uint8Array,
  gapPacks: ReadonlySet<number>,
  findings: Findings,
): Promise<void> {
  if (entry.state === 'stamp' || (entry.state === 'dead' && !tombstoneNeeded(entry))) return;
  if (entry.state === 'live' && entry.damaged) {
    findings.suspect(pool, id);
    return;
  }
  findings.costBytes += HEAD_COST_BYTES;
  const header = await readHead(host, entry, buffer);
  const now = host.index.get(pool, id);
  // Moved, replaced or deleted while we looked: the next walk sees it.
  if (now?.state !== entry.state || now.pack !== entry.pack || now.offset !== entry.offset) return;
  const type = entry.state === 'live' ? 'block' : 'tombstone';
  if (header !== undefined) {
    const isIt =
      header.type === type &&
      header.pool === pool &&
      Buffer.compare(header.id, id) === 0 &&
      header.seq === entry.seq &&
      header.lengthBytes === entry.lengthBytes;
    if (!isIt) findings.indexFault ??= `a row names ${entry.pack}:${entry.offset}, where another record stands`;
  } else if (entry.state === 'live') {
    findings.suspect(pool, id);
  } else {
    await rewrite(host, { type, pool, id, seq: entry.seq, generation: 0 });
    findings.rewrittenCount++;
  }
  if (now.state === 'live' && gapPacks.has(now.stampPack)) {
    await rewrite(host, { type: 'renewal', pool, id, seq: now.stampSeq, generation: now.generation });
    findings.rewrittenCount++;
  }
}

/** A copy, as compaction makes it: it says nothing new, so whatever is written meanwhile decides. */
async function rewrite(host: PackScrubHost, record: Omit<NewRecord, 'pageHashes' | 'data'>): Promise<void> {
  await host.append({ ...record, pageHashes: NO_BYTES, data: NO_BYTES });
}

const NO_BYTES = new Uint8Array(0);

/** The head that stands where the entry says; undefined if none does. */
async function readHead(host: PackScrubHost, entry: PackEntry, buffer: Uint8Array): Promise<RecordHeader | undefined> {
  if (!host.files.has(entry.pack)) return undefined;
  const bytes = buffer.subarray(0, recordHeadBytes(entry.lengthBytes));
  try {
    const count = await host.files.use(entry.pack, (file) => file.read(bytes, entry.offset));
    return decodeRecordHead(bytes.subarray(0, count), host.salt, entry.pack, entry.offset)?.header;
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === 'ENOENT' || code === 'EIO') return undefined;
    throw error;
  }
}

function faultOf({ cause }: IndexDamagedError): string {
  return cause instanceof Error ? cause.message : 'it cannot be read';
}
