/**
 * Gives back the space of dead records: packs more than half dead are rewritten; in quiet times also others, until little
 * of what the packs hold is dead.
 *
 * What a pack still has to say (live blocks, tombstones that hold down block records of other packs, the latest
 * renewals) is appended to the active pack like any other record, **with its old seq**: if the block is deleted or
 * stored again meanwhile, that has a higher seq and wins whatever the order on disk. So no step needs a lock, and a
 * crash between any two leaves copies that the merge of records ignores. Order that matters: copies durable, index
 * durable, old file unlinked, directory durable, and only then are tombstones let go that held down its records.
 */
import { CorruptionError, NoSpaceError } from '../errors.ts';
import { MiB, PACK_MAX_BYTES } from '../limits.ts';
import type { Logger } from '../log.ts';
import type { BufferPool } from './buffer-pool.ts';
import { hashBlock } from './identity.ts';
import { tombstoneNeeded, withoutPack, type PackEntry } from './pack-entry.ts';
import type { PackFiles } from './pack-files.ts';
import { PACK_HEADER_BYTES, recordHeadBytes, recordBytes } from './pack-format.ts';
import { blockKeyOf, type PackIndex } from './pack-index.ts';
import { scanPack, type Scanned } from './pack-scanner.ts';
import type { NewRecord } from './pack-writer.ts';

/** Bytes of copies under way: keeps the disk streaming and leaves most of its queue to others. */
const COPY_BYTES = 8 * MiB;
/** And records. */
const COPY_RECORDS = 256;
/** The disk must have this much more than the copies need: the index grows too. */
const MARGIN_BYTES = 4 * MiB;

/** On tiny disks; a pack always takes at least one block. */
const PACK_LEAST_BYTES = 8 * MiB;

/**
 * Size of packs on a disk that keeps `reserveBytes` back. Invariant: the live half of a pack fits the reserve, so that a
 * full disk can always be compacted.
 */
export function packBytesFor(reserveBytes: number): number {
  if (PACK_MAX_BYTES / 2 + MARGIN_BYTES <= reserveBytes) return PACK_MAX_BYTES;
  return Math.min(PACK_MAX_BYTES, Math.max(PACK_LEAST_BYTES, reserveBytes - MARGIN_BYTES));
}

const NO_BYTES = new Uint8Array(0);

export interface CompactionHost {
  readonly files: PackFiles;
  readonly index: PackIndex;
  readonly buffers: BufferPool;
  readonly salt: bigint;
  readonly log: Logger;
  readonly activePack: () => number | undefined;
  readonly append: (record: NewRecord) => Promise<void>;
  /** Ends the active pack, so that it can be compacted too. */
  readonly seal: () => Promise<void>;
  readonly checkpoint: () => Promise<void>;
  /** What the disk has left, reserve included. */
  readonly diskFreeBytes: () => Promise<number>;
  readonly markDamaged: (known: PackEntry, record: NewRecord) => void;
  readonly stopped: () => boolean;
}

type Found = Extract<Scanned, { kind: 'record' }>;

/** Returns the bytes given back. `deadShare`: as in CompactOptions. */
export async function compactPacks(host: CompactionHost, deadShare?: number): Promise<number> {
  const { files, index, log } = host;
  const isVictim = (pack: number): boolean => deadShareOf(host, pack) > (deadShare ?? 0.5);
  const active = host.activePack();
  if (active !== undefined && isVictim(active)) await host.seal();
  const victims = files
    .packs()
    .filter((pack) => pack !== host.activePack() && isVictim(pack))
    .sort((a, b) =>
      deadShare === undefined
        ? index.neededBytesOf(a) - index.neededBytesOf(b) || a - b
        : deadShareOf(host, b) - deadShareOf(host, a) || a - b,
    );
  let freedBytes = 0;
  let skipped = 0;
  for (const pack of victims) {
    if (host.stopped() || (deadShare !== undefined && isTidy(host, deadShare))) break;
    const needed = index.neededBytesOf(pack);
    if (needed > 0 && (await host.diskFreeBytes()) < needed + MARGIN_BYTES) {
      // Others with less to copy came first; what they gave back may do for the next run.
      log.warn({ pack, neededBytes: needed }, 'no room to rewrite a pack; it is left for the next compaction');
      skipped++;
      continue;
    }
    const sizeBytes = files.sizeBytes(pack);
    const copiedBytes = await compactPack(host, pack);
    if (copiedBytes === undefined) continue;
    freedBytes += sizeBytes - copiedBytes;
    log.debug({ pack, sizeBytes, copiedBytes }, 'a pack was compacted');
  }
  if (skipped > 0 && skipped === victims.length) {
    throw new NoSpaceError(`no room to rewrite any of ${skipped} packs that are mostly dead`, {
      remedy: 'Free some space on this disk by other means.',
    });
  }
  return Math.max(0, freedBytes);
}

/** 1 for a pack that holds nothing. */
function deadShareOf({ files, index }: CompactionHost, pack: number): number {
  const contentBytes = files.sizeBytes(pack) - PACK_HEADER_BYTES;
  return contentBytes <= 0 ? 1 : 1 - index.neededBytesOf(pack) / contentBytes;
}

function isTidy({ files, index }: CompactionHost, deadShare: number): boolean {
  const neededBytes = files.packs().reduce((sum, pack) => sum + index.neededBytesOf(pack), 0);
  return files.totalBytes - neededBytes <= deadShare * files.totalBytes;
}

/** Bytes copied; undefined if it was given up half way, which is harmless. */
async function compactPack(host: CompactionHost, pack: number): Promise<number | undefined> {
  const { files, index } = host;
  const copies = new Copies();
  /** Keys of block records in this pack: whose entries may name it. */
  const keysHere = new Map<string, Pick<NewRecord, 'pool' | 'id'>>();
  let damagedRegion = false;
  try {
    await files.use(pack, async (file) => {
      const source = { file, pack, salt: host.salt };
      for await (const found of scanPack(source, PACK_HEADER_BYTES, files.sizeBytes(pack))) {
        if (host.stopped() || copies.failure !== undefined) return;
        if (found.kind === 'gap') {
          damagedRegion = true;
          continue;
        }
        // Only block records: what a tombstone or renewal here still has to say is copied, and its entry follows.
        if (found.header.type === 'block') keysHere.set(blockKeyOf(found.header.pool, found.header.id), found.header);
        await copyIfNeeded(host, pack, found, copies);
      }
    });
  } catch (error) {
    // It is gone, by an earlier run that failed behind that, say: all of it is unseen.
    if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
    damagedRegion = true;
  } finally {
    await copies.settle();
  }
  try {
    if (damagedRegion) await copyUnseen(host, pack, keysHere, copies);
  } finally {
    await copies.settle();
  }
  if (copies.failure !== undefined) throw copies.failure.error;
  if (host.stopped()) return undefined;
  await host.checkpoint();
  for (const { pool, id } of keysHere.values()) {
    // A last look: nothing may point into the pack when it goes.
    const entry = index.get(pool, id);
    if (entry?.state === 'live' && entry.pack === pack && !entry.damaged) return undefined;
  }
  await files.remove(pack);
  for (const [key, { pool, id }] of keysHere) {
    const known = index.get(pool, id);
    if (known !== undefined) index.update(key, known, released(known, pack));
  }
  await index.forgetPack(pack);
  return copies.bytes;
}

/** The entry once the pack is gone; undefined if nothing is left to remember. */
function released(entry: PackEntry, pack: number): PackEntry | undefined {
  const next = withoutPack(entry, pack);
  if (next.state === 'dead') return next.shadows.length === 0 ? undefined : next;
  return next.pack === pack ? { ...next, pack: 0, offset: 0 } : next;
}

async function copyIfNeeded(host: CompactionHost, pack: number, found: Found, copies: Copies): Promise<void> {
  const { header, offset, pageHashes } = found;
  const entry = host.index.get(header.pool, header.id);
  if (entry === undefined) return;
  const { pool, id } = header;
  if (header.type === 'block') {
    if (entry.state !== 'live' || entry.pack !== pack || entry.offset !== offset || entry.damaged) return;
    await copyBlock(host, pack, header, entry, copies);
  } else if (header.type === 'tombstone') {
    if (entry.pack !== pack || entry.offset !== offset || !tombstoneNeeded(entry)) return;
    await copies.add(host, {
      type: 'tombstone',
      pool,
      id,
      seq: entry.seq,
      generation: 0,
      pageHashes: NO_BYTES,
      data: NO_BYTES,
    });
  } else {
    if (entry.state !== 'live' || entry.stampPack !== pack || entry.stampSeq !== header.seq) return;
    await copies.add(host, {
      type: 'renewal',
      pool,
      id,
      seq: header.seq,
      generation: header.generation,
      pageHashes,
      data: NO_BYTES,
    });
  }
}

/** By the index's word; what is there is verified. */
async function copyBlock(
  host: CompactionHost,
  pack: number,
  { pool, id }: Pick<NewRecord, 'pool' | 'id'>,
  entry: PackEntry,
  copies: Copies,
): Promise<void> {
  const { offset, lengthBytes, seq, generation } = entry;
  const lease = await host.buffers.take(lengthBytes);
  const block = { type: 'block', pool, id, seq, generation, data: lease.bytes } as const;
  let pageHashes: Uint8Array;
  try {
    const count = await host.files.use(pack, (file) => file.read(lease.bytes, offset + recordHeadBytes(lengthBytes)));
    if (count < lengthBytes) throw new CorruptionError('the pack file is too short');
    // A rewrite must not turn damage on disk into a fresh record with valid checksums.
    const found = hashBlock(lease.bytes);
    if (Buffer.compare(found.id, id) !== 0) throw new CorruptionError('it does not match its id');
    ({ pageHashes } = found);
  } catch (error) {
    lease.release();
    const { code } = error as { code?: unknown };
    if (!(error instanceof CorruptionError) && code !== 'EIO' && code !== 'ENOENT') throw error;
    host.markDamaged(entry, { ...block, pageHashes: NO_BYTES, data: NO_BYTES });
    return;
  }
  await copies.add(host, { ...block, pageHashes }, lease.release);
}

/** The scan could not read a part of the pack: of what the index has there, what is intact is copied, the rest is damaged. */
async function copyUnseen(
  host: CompactionHost,
  pack: number,
  keysHere: Map<string, Pick<NewRecord, 'pool' | 'id'>>,
  copies: Copies,
): Promise<void> {
  for await (const { pool, id } of host.index.entries()) {
    if (host.stopped() || copies.failure !== undefined) return;
    const key = blockKeyOf(pool, id);
    const entry = host.index.get(pool, id);
    if (entry === undefined) continue;
    const names = entry.pack === pack || entry.shadows.includes(pack) || entry.stampPack === pack;
    if (!names) continue;
    keysHere.set(key, { pool, id });
    if (entry.state !== 'live' || entry.pack !== pack || entry.damaged) continue;
    await copyBlock(host, pack, { pool, id }, entry, copies);
  }
}

/** Copies under way: bounded, and the first failure kept. */
class Copies {
  failure: { readonly error: unknown } | undefined;
  /** All that was appended. */
  bytes = 0;
  #underWayBytes = 0;
  readonly #underWay = new Set<Promise<void>>();

  async add(host: CompactionHost, record: NewRecord, release?: () => void): Promise<void> {
    const bytes = recordBytes(record.data.length);
    this.bytes += bytes;
    this.#underWayBytes += bytes;
    const copy = host
      .append(record)
      .then(
        () => undefined,
        (error: unknown) => {
          this.failure ??= { error };
        },
      )
      .finally(() => {
        release?.();
        this.#underWayBytes -= bytes;
        this.#underWay.delete(copy);
      });
    this.#underWay.add(copy);
    while (this.#underWayBytes >= COPY_BYTES || this.#underWay.size >= COPY_RECORDS) await Promise.race(this.#underWay);
  }

  async settle(): Promise<void> {
    await Promise.all(this.#underWay);
  }
}
