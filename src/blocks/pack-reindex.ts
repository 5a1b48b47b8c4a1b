/**
 * Rebuilds the index of a store that is open. The new one is made beside the old one from all records of all packs, while
 * each record that becomes durable goes into both; then it takes the old one's place in one step. Whatever stops this
 * half-way, the old one, or the packs at the next opening, are still there: an index without its STORE row is not used.
 */
import type { Disk } from '../env.ts';
import type { Logger } from '../log.ts';
import type { PackEntry } from './pack-entry.ts';
import { INDEX_KV_OPTIONS, nextIndexPath } from './pack-open.ts';
import type { PackFiles } from './pack-files.ts';
import { PACK_HEADER_BYTES, type RecordHeader } from './pack-format.ts';
import { blockKeyOf, PackIndex, type Checkpoint } from './pack-index.ts';
import { indexPart, mendEntry } from './pack-recovery.ts';

export interface ReindexHost {
  readonly disk: Disk;
  readonly files: PackFiles;
  readonly index: PackIndex;
  /** Directory of the index in use. */
  readonly indexPath: string;
  readonly salt: bigint;
  readonly log: Logger;
  /** Durable end of a pack, for us: what is beyond does not count. */
  readonly endOf: (pack: number) => number;
  /** Packs of this process: all of them up to their ends is durable for sure. */
  readonly isOwn: (pack: number) => boolean;
  /** From this call on every record that becomes durable goes into `next` too; undefined: no more. */
  readonly mirror: (next: PackIndex | undefined) => void;
  readonly next: () => Checkpoint;
  readonly stopped: () => boolean;
}

/** Resolves with the directory of the new index; undefined if the store is being closed. No compaction may run meanwhile. */
export async function rebuildIndex(host: ReindexHost): Promise<string | undefined> {
  const { disk, files, index, log } = host;
  const path = nextIndexPath(host.indexPath);
  await disk.remove(path);
  const next = new PackIndex(await disk.openKv(path, INDEX_KV_OPTIONS));
  try {
    await next.inherit(index);
    // What became durable before this line is within the ends that are looked up after it.
    host.mirror(next);
    const ends = new Map(files.packs().map((pack) => [pack, host.endOf(pack)]));
    for (const [pack, end] of ends) {
      if (host.stopped()) return await giveUp(host, next, path);
      await files.use(pack, (file) =>
        indexPart(
          { index: next, log },
          { file, pack, salt: host.salt },
          {
            from: PACK_HEADER_BYTES,
            end,
            ...(host.isOwn(pack) ? { durableBytes: end } : {}),
            wasKnown: (header, offset) => knows(index, header, pack, offset),
          },
        ),
      );
    }
    await mend(next, (pack) => files.has(pack));
    carryDamage(index, next);
    await next.checkpoint(ends, host.next(), false);
    await next.claim(host.salt);
    await next.flush(true);
    // Syncs may have failed since it was begun. From the last look to the end there is no wait.
    for (let more = next.inherit(index); more !== undefined; more = next.inherit(index)) await more;
    if (host.stopped()) return await giveUp(host, next, path);
  } catch (error) {
    await giveUp(host, next, path);
    throw error;
  }
  // What was found to be damaged since.
  carryDamage(index, next);
  host.mirror(undefined);
  await index.adopt(next).catch((error: unknown) => log.warn({ error: String(error) }, 'the old block index'));
  await disk.remove(host.indexPath);
  return path;
}

async function giveUp(host: ReindexHost, next: PackIndex, path: string): Promise<undefined> {
  host.mirror(undefined);
  await next.close().catch(() => undefined);
  await host.disk.remove(path).catch(() => undefined);
}

/** A copy of which nothing is left but that it is damaged: any record of it is newer. */
const UNKNOWN: PackEntry = {
  state: 'live',
  seq: 0,
  pack: 0,
  offset: 0,
  lengthBytes: 0,
  generation: 0,
  stampSeq: 0,
  stampPack: 0,
  damaged: true,
  shadows: [],
};

/** Whether the old index has the record, as far as it can be read. */
function knows(index: PackIndex, { pool, id, seq }: RecordHeader, pack: number, offset: number): boolean {
  const entry = safely(() => index.get(pool, id));
  return entry?.state === 'live' && entry.pack === pack && entry.offset === offset && entry.seq === seq;
}

async function mend(next: PackIndex, exists: (pack: number) => boolean): Promise<void> {
  for await (const { pool, id } of next.entries()) {
    // As it is now: records go on coming.
    const entry = next.get(pool, id);
    if (entry !== undefined) next.update(blockKeyOf(pool, id), entry, mendEntry(entry, exists));
    if (next.flushDue) await next.flush(false);
  }
}

/** Which copies are damaged is in no pack. One whose record cannot be read any more is told of all the same. */
function carryDamage(from: PackIndex, to: PackIndex): void {
  for (const { pool, id } of from.damaged()) {
    const known = safely(() => from.get(pool, id));
    const entry = to.get(pool, id);
    if (entry === undefined) {
      to.update(blockKeyOf(pool, id), undefined, { ...(known ?? UNKNOWN), pack: 0, offset: 0, damaged: true });
    } else if (entry.state === 'live' && !entry.damaged) {
      const isSame = known === undefined || (known.pack === entry.pack && known.offset === entry.offset);
      if (isSame) to.update(blockKeyOf(pool, id), entry, { ...entry, damaged: true });
    }
  }
}

function safely<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
