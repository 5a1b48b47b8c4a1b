/** The parts of a store that are looked at first: whose it is, and whether its index can be used. */
import { createHash } from 'node:crypto';
import type { Clock, Disk, Kv, Random } from '../env.ts';
import { CorruptionError, FormatError } from '../errors.ts';
import { MiB } from '../limits.ts';
import type { Logger } from '../log.ts';
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
    const header = decodePackHeader(await disk.readFile(file));
    if (header !== undefined) return checkOwner(header, options);
    log.error({ file }, 'the file STORE is damaged: restoring it from the packs');
  }
  const packs = (await disk.readdir(packDir)).flatMap((name) => parsePackFileName(name) ?? []);
  let salt: bigint | undefined;
  for (const pack of packs) {
    const header = await readPackHeader(disk, `${packDir}/${packFileName(pack)}`);
    if (header === undefined) continue;
    salt = checkOwner(header, options);
    break;
  }
  if (salt === undefined) {
    if (packs.length > 0) {
      throw new CorruptionError(`${path}: the file STORE and the headers of all packs are missing or damaged`, {
        remedy: 'Set the directory aside and let this node be filled from the others.',
      });
    }
    salt = newSalt(options);
  }
  await disk.writeFileAtomic(file, encodePackHeader({ storeId, salt, pack: 0 }));
  return salt;
}

async function readPackHeader(disk: Disk, path: string): Promise<PackHeader | undefined> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = new Uint8Array(PACK_HEADER_BYTES);
    await file.read(bytes, 0);
    return decodePackHeader(bytes);
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
  readonly loaded: { readonly checkpoint: Checkpoint; readonly packs: ReadonlyMap<number, PackRow> } | undefined;
}

/** Opens the index; one that cannot be used is deleted, as everything in it is in the packs too. */
export async function openIndex(disk: Disk, path: string, salt: bigint, log: Logger): Promise<OpenedIndex> {
  const options = { cacheBytes: INDEX_CACHE_BYTES, writeBufferBytes: INDEX_WRITE_BUFFER_BYTES };
  let kv: Kv;
  try {
    kv = await disk.openKv(path, options);
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    log.error({ path, error: error.message }, 'the block index is damaged');
    await disk.remove(path);
    kv = await disk.openKv(path, options);
  }
  const index = new PackIndex(kv);
  const loaded = await index.load(salt);
  if (loaded !== undefined || (await index.isEmpty())) return { index, loaded };
  await index.close();
  await disk.remove(path);
  return { index: new PackIndex(await disk.openKv(path, options)), loaded: undefined };
}
