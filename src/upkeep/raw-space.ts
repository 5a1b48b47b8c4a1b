/**
 * The space of a cluster, copies not divided out. Nodes on one disk share what it has left, and others may keep things
 * there too: so each disk's free space counts once, and used is what the cluster's own files take. Pure.
 */

/** The part of a node's report that says how much room it has. */
export interface SpaceReport {
  /** Nodes that tell the same one share the disk. */
  readonly diskId: string;
  /** Of its block files. */
  readonly fileBytes: number;
  /** Room for more blocks, its reserve excluded. */
  readonly freeBytes: number;
}

export interface RawSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

export function rawSpace(reports: readonly SpaceReport[]): RawSpace {
  const free = new Map<string, number>();
  let usedBytes = 0;
  for (const { diskId, fileBytes, freeBytes } of reports) {
    usedBytes += fileBytes;
    free.set(diskId, Math.max(free.get(diskId) ?? 0, freeBytes));
  }
  const freeBytes = [...free.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { totalBytes: usedBytes + freeBytes, freeBytes };
}
