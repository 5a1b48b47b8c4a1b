/**
 * What the index knows of one block, and how records change it.
 *
 * The merge functions are the whole meaning of the record format: the index of a store is the merge of all records of
 * all its packs, **in any order, each any number of times**. Recovery leans on that (it scans again what may already be
 * indexed), and so does compaction (its copies keep their seq and so say nothing new). `seq` decides between a block
 * record and a tombstone; stamps only grow within one life of a block.
 */
import { CorruptionError } from '../errors.ts';
import { RECORD_HEADER_BYTES, recordBytes } from './pack-format.ts';

export interface PackEntry {
  /**
   * - `live`: the block record at (pack, offset) is the block.
   * - `dead`: the tombstone at (pack, offset) decided. Kept as long as a pack may hold a block record below it.
   * - `stamp`: only a renewal was seen. Occurs within recovery, which may read the renewal before the block.
   */
  readonly state: 'live' | 'dead' | 'stamp';
  /** Of the deciding record; 0 for `stamp`. */
  readonly seq: number;
  /** Where the deciding record is; 0 for `stamp`, and for a damaged block whose pack was given back. */
  readonly pack: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly generation: number;
  /** The renewal that set `generation`; 0 if the block record itself did. */
  readonly stampSeq: number;
  readonly stampPack: number;
  /** The copy does not match its id, or cannot be read: set aside, not served. */
  readonly damaged: boolean;
  /**
   * Packs that hold older block records of this id (deleted, replaced, or copied elsewhere), without repetition.
   * Invariant: every pack with a block record of this id is `pack` of a live entry or in here, until it is unlinked.
   */
  readonly shadows: readonly number[];
}

/** A record as the merge sees it. */
export interface PlacedRecord {
  readonly seq: number;
  readonly pack: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly generation: number;
}

const NOTHING: PackEntry = {
  state: 'stamp',
  seq: 0,
  pack: 0,
  offset: 0,
  lengthBytes: 0,
  generation: 0,
  stampSeq: 0,
  stampPack: 0,
  damaged: false,
  shadows: [],
};

function withShadow(shadows: readonly number[], pack: number): readonly number[] {
  return pack === 0 || shadows.includes(pack) ? shadows : [...shadows, pack];
}

/** Stamp of an entry whose deciding record becomes one with `seq` and `generation`. */
function stampAfter(
  entry: PackEntry,
  seq: number,
  generation: number,
): Pick<PackEntry, 'generation' | 'stampSeq' | 'stampPack'> {
  return entry.stampSeq > seq && entry.generation > generation
    ? { generation: entry.generation, stampSeq: entry.stampSeq, stampPack: entry.stampPack }
    : { generation, stampSeq: 0, stampPack: 0 };
}

export function mergeBlock(known: PackEntry | undefined, record: PlacedRecord): PackEntry {
  const entry = known ?? NOTHING;
  const { seq, pack, offset, lengthBytes, generation } = record;
  if (seq < entry.seq) return { ...entry, shadows: withShadow(entry.shadows, pack) };
  const stamp = stampAfter(entry, seq, generation);
  if (entry.state !== 'live') return { ...entry, ...stamp, state: 'live', seq, pack, offset, lengthBytes };
  if (seq > entry.seq) {
    const shadows = withShadow(entry.shadows, entry.pack);
    return { ...entry, ...stamp, seq, pack, offset, lengthBytes, damaged: false, shadows };
  }
  // Two copies of one record, by compaction. The later place wins, as the other is about to be unlinked.
  if (pack === entry.pack && offset === entry.offset)
    return generation > entry.generation ? { ...entry, ...stamp } : entry;
  const better = generation > entry.generation ? stamp : {};
  const moves = pack > entry.pack || (pack === entry.pack && offset > entry.offset);
  if (!moves) return { ...entry, ...better, shadows: withShadow(entry.shadows, pack) };
  // A copy of a higher generation than the entry's own record carries the stamp itself.
  const carried = generation >= entry.generation ? { generation, stampSeq: 0, stampPack: 0 } : {};
  return { ...entry, ...carried, pack, offset, damaged: false, shadows: withShadow(entry.shadows, entry.pack) };
}

export function mergeTombstone(known: PackEntry | undefined, record: PlacedRecord): PackEntry {
  const entry = known ?? NOTHING;
  const { seq, pack, offset } = record;
  if (seq < entry.seq) return entry;
  if (seq === entry.seq && (pack < entry.pack || (pack === entry.pack && offset <= entry.offset))) return entry;
  const shadows = entry.state === 'live' ? withShadow(entry.shadows, entry.pack) : entry.shadows;
  return {
    ...entry,
    ...stampAfter(entry, seq, 0),
    state: 'dead',
    seq,
    pack,
    offset,
    lengthBytes: 0,
    damaged: false,
    shadows,
  };
}

export function mergeRenewal(known: PackEntry | undefined, record: PlacedRecord): PackEntry {
  const entry = known ?? NOTHING;
  const { seq, pack, generation } = record;
  if (seq < entry.seq) return entry;
  const copy = generation === entry.generation && seq === entry.stampSeq && pack > entry.stampPack;
  if (generation <= entry.generation && !copy) return entry;
  return { ...entry, generation, stampSeq: seq, stampPack: pack };
}

/** Forgets a pack that is no more (or that a damage made useless). */
export function withoutPack(entry: PackEntry, pack: number): PackEntry {
  let next = entry;
  if (entry.shadows.includes(pack)) next = { ...next, shadows: entry.shadows.filter((one) => one !== pack) };
  if (entry.stampPack === pack) next = { ...next, stampPack: 0 };
  return next;
}

/**
 * Whether a compaction of the tombstone's pack must copy it: its own pack's block records go together with it.
 */
export function tombstoneNeeded(entry: PackEntry): boolean {
  return entry.state === 'dead' && entry.shadows.some((pack) => pack !== entry.pack);
}

/** Calls `add` with the bytes that this entry needs in each pack. */
export function neededBytes(entry: PackEntry, add: (pack: number, bytes: number) => void): void {
  if (entry.state === 'live') {
    if (!entry.damaged) add(entry.pack, recordBytes(entry.lengthBytes));
    if (entry.stampPack !== 0) add(entry.stampPack, RECORD_HEADER_BYTES);
  } else if (tombstoneNeeded(entry)) {
    add(entry.pack, RECORD_HEADER_BYTES);
  }
}

const ENTRY_VERSION = 1;
const FIXED_BYTES = 48;
const STATE_CODES = { live: 1, dead: 2, stamp: 3 } as const;
const STATES = [undefined, 'live', 'dead', 'stamp'] as const;

/** Value of an index row. */
export function encodeEntry(entry: PackEntry): Uint8Array {
  const bytes = new Uint8Array(FIXED_BYTES + 4 * entry.shadows.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, ENTRY_VERSION);
  view.setUint8(1, STATE_CODES[entry.state]);
  view.setUint8(2, entry.damaged ? 1 : 0);
  view.setUint32(4, entry.pack, true);
  view.setUint32(8, entry.offset, true);
  view.setUint32(12, entry.lengthBytes, true);
  view.setFloat64(16, entry.seq, true);
  view.setFloat64(24, entry.generation, true);
  view.setFloat64(32, entry.stampSeq, true);
  view.setUint32(40, entry.stampPack, true);
  view.setUint32(44, entry.shadows.length, true);
  entry.shadows.forEach((pack, index) => view.setUint32(FIXED_BYTES + 4 * index, pack, true));
  return bytes;
}

/** Throws CorruptionError for what encodeEntry cannot have written. */
export function decodeEntry(bytes: Uint8Array): PackEntry {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const state = bytes.length >= FIXED_BYTES && bytes[0] === ENTRY_VERSION ? STATES[bytes[1] ?? 0] : undefined;
  if (state === undefined || bytes.length !== FIXED_BYTES + 4 * view.getUint32(44, true)) {
    throw new CorruptionError('the block index has a damaged row', {
      remedy: 'Stop the node and delete the folder "index" of its block store: it is rebuilt from the packs.',
    });
  }
  const shadows: number[] = [];
  for (let at = FIXED_BYTES; at < bytes.length; at += 4) shadows.push(view.getUint32(at, true));
  return {
    state,
    seq: view.getFloat64(16, true),
    pack: view.getUint32(4, true),
    offset: view.getUint32(8, true),
    lengthBytes: view.getUint32(12, true),
    generation: view.getFloat64(24, true),
    stampSeq: view.getFloat64(32, true),
    stampPack: view.getUint32(40, true),
    damaged: bytes[2] === 1,
    shadows,
  };
}
