/** How often the cluster frees by itself the blocks that no file uses (upkeep/collector.ts): what the catalog says about it. */

/** Where the catalog says nothing. */
export const COLLECT_EVERY_MS = 3_600_000;
/** Each collection reads all extents: more often would be for nothing. */
export const COLLECT_EVERY_MIN_MS = 10_000;
/** 30 days. */
export const COLLECT_EVERY_MAX_MS = 2_592_000_000;
