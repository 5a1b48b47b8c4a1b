/**
 * Branded identifiers. A brand costs nothing at run time and keeps an inode number from being passed as an epoch.
 */
import { StateError } from './errors.ts';

declare const brand: unique symbol;
/** @internal How it is done. */
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** 32 bytes: BLAKE3-256 over the concatenated BLAKE3-256 of the block's 64 KiB pages (see blocks/identity.ts). */
export type BlockId = Brand<Uint8Array, 'BlockId'>;
/** Inode number, 1 <= ino <= 2^53-1. The root directory is {@link ROOT_INO}. */
export type Ino = Brand<number, 'Ino'>;
/** Name of a node, unique in a cluster: 1 to 64 characters of `[a-z0-9-]`. */
export type NodeId = Brand<string, 'NodeId'>;
/** Name of a metadata group, for example `g0`. */
export type GroupId = Brand<string, 'GroupId'>;
/** Number of a pool, 1 <= pool <= 2^32-1. Block identity is (pool, id). */
export type PoolId = Brand<number, 'PoolId'>;
/** Version of the catalog, or of one group; only ever grows. */
export type Epoch = Brand<number, 'Epoch'>;
/** Position in a group's log; the first entry has seq 1. */
export type Seq = Brand<number, 'Seq'>;
/** A client's session with the cluster: 32 hexadecimal characters. */
export type SessionId = Brand<string, 'SessionId'>;
/** Random name of one continuous history of a group (R9): 16 hexadecimal characters. */
export type HistoryId = Brand<string, 'HistoryId'>;

export const ROOT_INO = 1 as Ino;
export const BLOCK_ID_BYTES = 32;

/** The 32 bytes as an id, not copied. StateError for another length; whether such a block exists is not asked. */
export function asBlockId(bytes: Uint8Array): BlockId {
  if (bytes.length !== BLOCK_ID_BYTES)
    throw new StateError(`a block id has ${BLOCK_ID_BYTES} bytes, not ${bytes.length}`);
  return bytes as BlockId;
}

/** Lower-case hexadecimal form, the one shown to people and used as a map key. */
export function blockIdToHex(id: BlockId): string {
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('hex');
}

/** Inverse of {@link blockIdToHex}. StateError unless given exactly 64 hexadecimal characters. */
export function blockIdFromHex(hex: string): BlockId {
  if (!/^[0-9a-f]{64}$/.test(hex)) throw new StateError(`not a block id: ${hex.slice(0, 80)}`);
  return new Uint8Array(Buffer.from(hex, 'hex')) as BlockId;
}
