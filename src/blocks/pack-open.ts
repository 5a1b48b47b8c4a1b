/** The parts of a store that are looked at first: whose it is, and whether its index can be used. */
import { createHash } from 'node:crypto';
import type { Clock, Disk, Kv, Random } from '../env.ts';
import { CorruptionError, FormatError } from '../errors.ts';
import { MiB } from '../limits.ts';
import type { Logger } from '../log.ts';
import { isUnreadable } from '../disk-errors.ts';
import {
  decodePackHeader,
  encodePackHeader,
  PACK_HEADER_BYTES,
  packFileName,
  parsePackFileName,
  type PackHeader,
} from './pack-format.ts';
import { PackIndex, type Checkpoint, type PackRow } from './pack-index.ts';

const INDEX_CACHE_BYTES = 16 * MiB;
const INDEX_WRITE_BUFFER_BYTES = 4 * MiB;
/** Files of the index read before it is opened: a quarter of a second, some 600,000 blocks. */
const CHECKED_AT_OPEN_BYTES = 64 * MiB;

export interface StoreFileOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random?: Random | undefined;
  readonly path: string;
  readonly storeId: string;
}

/** Returns the store's salt. Makes STORE in a new store; mends it from a pack's header if it is lost. */
export async function openStoreFile(options: StoreFileOptions, packDir: string, log: Logger): Promise<bigint> {
  const { disk, path, storeId } = options;
  const file = `${path}/STORE`;
  if (await disk.exists(file)) {
    const { header, unreadable } = await readHeader(() => disk.readFile(file));
    if (header !== undefined) return checkOwner(header, options);
    log.error({ file, error: unreadable?.message }, 'the file STORE is damaged: restoring it from the packs');
  }
  const packs = (await disk.readdir(packDir)).flatMap((name) => parsePackFileName(name) ?? []);
  const salt = packs.length === 0 ? newSalt(options) : await saltOfPacks(options, packDir, packs);
  await disk.writeFileAtomic(file, encodePackHeader({ storeId, salt, pack: 0 }));
  return salt;
}

/** From the first header that can be read: one bad place on the disk does not hide what all packs say. */
async function saltOfPacks(options: StoreFileOptions, packDir: string, packs: readonly number[]): Promise<bigint> {
  let firstUnreadable: { readonly pack: string; readonly cause: Error } | undefined;
  for (const number of packs) {
    const pack = `${packDir}/${packFileName(number)}`;
    const { header, unreadable } = await readHeader(() => readStart(options.disk, pack));
    if (header !== undefined) return checkOwner(header, options);
    if (unreadable !== undefined) firstUnreadable ??= { pack, cause: unreadable };
  }
  const { path } = options;
  if (firstUnreadable !== undefined) {
    const { pack, cause } = firstUnreadable;
    throw new CorruptionError(`${path}: the file STORE is missing or damaged, and the disk cannot read ${pack}`, {
      cause,
      remedy:
        'Look at the system log for errors of this disk. If it stays so, set the directory aside and let this node be ' +
        'filled from the others.',
    });
  }
  throw new CorruptionError(`${path}: the file STORE and the headers of all packs are missing or damaged`, {
    remedy: 'Set the directory aside and let this node be filled from the others.',
  });
}

/** Neither: what was read is no header. */
interface FoundHeader {
  readonly header?: PackHeader | undefined;
  /** What the disk said. */
  readonly unreadable?: Error;
}

async function readHeader(read: () => Promise<Uint8Array>): Promise<FoundHeader> {
  try {
    return { header: decodePackHeader(await read()) };
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    return { unreadable: error as Error };
  }
}

async function readStart(disk: Disk, path: string): Promise<Uint8Array> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = new Uint8Array(PACK_HEADER_BYTES);
    await file.read(bytes, 0);
    return bytes;
  } finally {
    await file.close();
  }
}

function checkOwner(header: PackHeader, { path, storeId }: StoreFileOptions): bigint {
  if (header.storeId === storeId) return header.salt;
  throw new FormatError(`${path} holds the block store ${header.storeId}, not ${storeId}`, {
    remedy: 'Start with the data directory that belongs to this node, or with an empty one.',
    info: { found: header.storeId, expected: storeId },
  });
}

function newSalt({ clock, random, storeId }: StoreFileOptions): bigint {
  if (random !== undefined) return Buffer.from(random.bytes(8)).readBigUInt64LE();
  const seed = `${storeId} ${clock.wallNs()} ${clock.monotonicMs()}`;
  return createHash('sha256').update(seed).digest().readBigUInt64LE();
}

export interface OpenedIndex {
  readonly index: PackIndex;
  /** Its directory. */
  readonly path: string;
  readonly loaded: { readonly checkpoint: Checkpoint; readonly packs: ReadonlyMap<number, PackRow> } | undefined;
  /** Its files were too large to be looked at now: to be done in the background. */
  readonly unchecked: boolean;
}

export const INDEX_KV_OPTIONS = {
  cacheBytes: INDEX_CACHE_BYTES,
  writeBufferBytes: INDEX_WRITE_BUFFER_BYTES,
  // Hashes do not compress, and what is not compressed can be checked (Disk.checkKv).
  compression: false,
} as const;

/** `index`, and `index-1`, `index-2`, ... after each time that it was rebuilt while open. */
const INDEX_NAME = /^index(?:-(\d{1,9}))?$/;
const numberOf = (name: string): number => Number(INDEX_NAME.exec(name)?.[1] ?? 0);

/** Says that the store was closed in order; gone while it is open. */
const CLOSED_NAME = 'CLOSED';

/** Where the next index is built. */
export function nextIndexPath(current: string): string {
  const slash = current.lastIndexOf('/');
  return `${current.slice(0, slash)}/index-${numberOf(current.slice(slash + 1)) + 1}`;
}

/** Call when the index is closed. Its absence only means a closer look at the next opening. */
export async function markClosed(disk: Disk, path: string): Promise<void> {
  await disk.writeFileAtomic(`${path}/${CLOSED_NAME}`, new TextEncoder().encode('closed in order\n'));
}

/**
 * Opens the newest index that can be used; those that cannot are deleted, as everything in them is in the packs too.
 * A damaged file can end the process that reads it, so its files are looked at first: wholly after a process that did
 * not end in order (it may have ended by just that), else as far as nobody has to wait for it.
 */
export async function openIndex(disk: Disk, path: string, salt: bigint, log: Logger): Promise<OpenedIndex> {
  const names = (await disk.readdir(path)).filter((name) => INDEX_NAME.test(name));
  names.sort((a, b) => numberOf(b) - numberOf(a));
  const wasClosed = await disk.exists(`${path}/${CLOSED_NAME}`);
  if (wasClosed) await disk.unlink(`${path}/${CLOSED_NAME}`);
  let opened: OpenedIndex | undefined;
  for (const name of names) {
    const directory = `${path}/${name}`;
    opened ??= await openUsable(disk, directory, salt, log, wasClosed ? CHECKED_AT_OPEN_BYTES : Infinity);
    if (opened?.path !== directory) await disk.remove(directory);
  }
  if (opened !== undefined) return opened;
  const directory = `${path}/index`;
  const index = new PackIndex(await disk.openKv(directory, INDEX_KV_OPTIONS));
  return { index, path: directory, loaded: undefined, unchecked: false };
}

async function openUsable(
  disk: Disk,
  path: string,
  salt: bigint,
  log: Logger,
  checkedBytes: number,
): Promise<OpenedIndex | undefined> {
  const check = await disk.checkKv?.(path, checkedBytes);
  if (check?.damage !== undefined) {
    log.error({ path, ...check.damage }, 'the block index is damaged');
    return undefined;
  }
  let kv: Kv;
  try {
    kv = await disk.openKv(path, INDEX_KV_OPTIONS);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EBUSY') throw error;
    log.error({ path, error: String(error) }, 'the block index cannot be opened');
    return undefined;
  }
  const index = new PackIndex(kv);
  const unchecked = check?.looked === false;
  try {
    const loaded = await index.load(salt);
    if (loaded !== undefined || (await index.isEmpty())) return { index, path, loaded, unchecked };
  } catch (error) {
    log.error({ path, error: String(error) }, 'the block index cannot be read');
  }
  await index.close();
  return undefined;
}
