/**
 * What a scrub needs of a store on one disk: to look at it piece by piece, and to mend what only the store itself can
 * mend. PackEngine implements it (pack-scrub.ts); what came out is for the Scrubber to act on.
 */
import type { BlockId, PoolId } from '../ids.ts';

/** How far the packs reach now. Pack files only grow, and new ones have higher numbers. */
export interface PackExtent {
  readonly pack: number;
  /** Durable end of it. */
  readonly endBytes: number;
}

/** What one piece of the work found. */
export interface ScrubFindings {
  /** Bytes read, or what reading cost: for the throttle and for progress. */
  readonly costBytes: number;
  /** Live blocks whose bytes were read and checked. */
  readonly blockCount: number;
  readonly blockBytes: number;
  /** Live copies whose record or bytes do not verify: to be healed. */
  readonly suspects: readonly { readonly pool: PoolId; readonly id: BlockId }[];
  /** The first sign, if any, that the index is not what the packs say: it is to be rebuilt. */
  readonly indexFault: string | undefined;
  /** Places where no record can be read: what stood there is unknown, unless the index knows. */
  readonly gaps: readonly { readonly offset: number; readonly endOffset: number }[];
  /** Records that the index knows, lost in a gap, written again. */
  readonly rewrittenCount: number;
}

export interface ScrubTarget {
  extents(): readonly PackExtent[];
  /** Rows of the index, about. */
  rowCount(): number;
  /**
   * Reads the pack's records from `offset` on, at least one and about `budgetBytes` of them, up to `endBytes`; of `pool`
   * or of all. `nextOffset` is the end of what was looked at. Undefined: there is no such pack (any more).
   */
  scrubPack(
    piece: { readonly pack: number; readonly offset: number; readonly endBytes: number; readonly budgetBytes: number },
    pool: PoolId | undefined,
  ): Promise<(ScrubFindings & { readonly nextOffset: number }) | undefined>;
  /**
   * Looks up, for the next `limit` rows of the index after `after`, the records that they name. Stamps whose renewal
   * stood in one of `gapPacks` are written again. `next` undefined: that was the end.
   */
  scrubRows(
    after: string | undefined,
    limit: number,
    pool: PoolId | undefined,
    gapPacks: ReadonlySet<number>,
  ): Promise<ScrubFindings & { readonly next: string | undefined }>;
  /** Deleted here, as far as is remembered: not to be fetched again. */
  wasDeleted(pool: PoolId, id: BlockId): boolean;
  /** Whether the files of the index are what was written; what is wrong, if anything. */
  checkIndexFiles(): Promise<string | undefined>;
  /** The index was too large to be looked at when the store was opened. */
  readonly indexUnchecked: boolean;
  /** Rebuilds the index from the packs while the store is in use; callers share one run. */
  reindex(reason: string): Promise<void>;
  /** How often the index was rebuilt since the store was opened, or at its opening, and why the last time. */
  readonly reindexed: { readonly count: number; readonly reason: string | undefined; readonly running: boolean };
}
