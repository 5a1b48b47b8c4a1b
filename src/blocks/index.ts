/**
 * `tatamifs/blocks`: content-addressed block stores as a library.
 *
 * - {@link MemoryStore}: in memory; for tests and small things.
 * - {@link PackStore}: on one disk, in pack files, durable by group commit.
 * - {@link ReplicatedStore}: spread over the nodes of a cluster; a put returns when two of them have it on disk.
 *
 * All are {@link BlockStore}s and mean the same: they pass one conformance suite. A block is 1 byte to 4 MiB and is
 * named by its content ({@link hashBlock}); what is read is verified against that name.
 */
export { hashBlock } from './identity.ts';
export { MemoryStore } from './memory-store.ts';
export type { MemoryEngineOptions } from './memory-store.ts';
export type { PackStoreOptions } from './pack-store.ts';
export { PackStore } from './pack-store.ts';
export { ReplicatedStore } from './replicated-store.ts';
export type { ReplicatedConnectOptions, ReplicatedStoreOptions } from './replicated-store.ts';
export type { BlockSource } from './block-source.ts';
export type { Source } from './many.ts';
export type { BlockInfo, BlockStore, EngineUsage, GetOptions, ManyOptions, WriteOptions } from './types.ts';
export { asBlockId, blockIdFromHex, blockIdToHex } from '../ids.ts';
export type { BlockId, PoolId } from '../ids.ts';
export type { ClusterLocation } from '../cluster-location.ts';
export type { Logger } from '../log.ts';
export {
  BlockNotFoundError,
  CancelledError,
  CorruptionError,
  FsError,
  NoSpaceError,
  TatamiError,
  TooLargeError,
  UnavailableError,
} from '../errors.ts';
export { BLOCK_MAX_BYTES } from '../limits.ts';
