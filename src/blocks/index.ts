/**
 * `tatamifs/blocks`: content-addressed block stores as a library.
 *
 * - {@link MemoryStore}: in memory; for tests and small things.
 * - {@link PackStore}: on one disk, in pack files, durable by group commit.
 * - {@link ReplicatedStore}: spread over the nodes of a cluster; a put returns when two of them have it on disk.
 *
 * All are {@link BlockStore}s and mean the same: they pass one conformance suite. A block is 1 byte to 4 MiB and is
 * named by its content ({@link hashBlock}); what is read is verified against that name. Streams of any length are cut
 * into blocks and named by one id: {@link putStream}, {@link getStream}. docs/block-store.md has the manual.
 */
export { hashBlock } from './identity.ts';
export { MemoryStore } from './memory-store.ts';
export type { MemoryEngineOptions } from './memory-store.ts';
export type { PackStoreOptions } from './pack-store.ts';
export { PackStore } from './pack-store.ts';
export { getStream, putStream, streamBlocks, streamLength } from './streams.ts';
export type { GetStreamOptions, PutStreamOptions, StoredStream } from './streams.ts';
export { ReplicatedStore } from './replicated-store.ts';
export type { ReplicatedConnectOptions, ReplicatedStoreOptions } from './replicated-store.ts';
export type { BlockSource } from './block-source.ts';
export type { CancelSignal } from '../cancel.ts';
export type { Source } from './many.ts';
export type {
  BlockInfo,
  BlockStore,
  CompactOptions,
  EngineUsage,
  GetOptions,
  ManyOptions,
  WriteOptions,
} from './types.ts';
export { asBlockId, blockIdFromHex, blockIdToHex } from '../ids.ts';
export type { BlockId, PoolId } from '../ids.ts';
export type { ClusterLocation } from '../cluster-location.ts';
export type { Logger } from '../log.ts';
export {
  BlockNotFoundError,
  CancelledError,
  CorruptionError,
  FormatError,
  FsError,
  NoSpaceError,
  StateError,
  TatamiError,
  TooLargeError,
  UnavailableError,
} from '../errors.ts';
export { BLOCK_MAX_BYTES } from '../limits.ts';
