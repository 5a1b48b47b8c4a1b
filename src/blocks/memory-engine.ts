/** The reference engine: blocks in a map. For tests, examples and throw-away stores; durable as long as the process. */
import { NoSpaceError, StateError } from '../errors.ts';
import { blockIdToHex, type BlockId, type PoolId } from '../ids.ts';
import { PAGE_BYTES } from '../limits.ts';
import type { BlockEngine, BlockInfo, CompactOptions, EngineUsage, PageRun } from './types.ts';

interface Held {
  readonly id: BlockId;
  readonly pageHashes: Uint8Array;
  readonly data: Uint8Array;
  generation: number;
  damaged: boolean;
}

/** How much a store in memory may hold. */
export interface MemoryEngineOptions {
  /** Bytes of blocks; beyond it NoSpaceError. Default: no bound. */
  readonly capacityBytes?: number;
}

export class MemoryEngine implements BlockEngine {
  private readonly pools = new Map<PoolId, Map<string, Held>>();
  private readonly capacityBytes: number;
  private readonly state = { blockCount: 0, liveBytes: 0, closed: false };

  constructor(options: MemoryEngineOptions = {}) {
    this.capacityBytes = options.capacityBytes ?? Number.MAX_SAFE_INTEGER;
  }

  // Not async functions: a store in memory needs no more than one promise a call.
  put(
    pool: PoolId,
    id: BlockId,
    pageHashes: Uint8Array,
    data: Uint8Array,
    generation: number,
  ): Promise<{ existed: boolean }> {
    return settle(() => {
      this.checkOpen();
      let blocks = this.pools.get(pool);
      if (blocks === undefined) this.pools.set(pool, (blocks = new Map<string, Held>()));
      const key = blockIdToHex(id);
      const held = blocks.get(key);
      if (held !== undefined && !held.damaged) {
        held.generation = Math.max(held.generation, generation);
        return { existed: true };
      }
      if (this.state.liveBytes + data.length > this.capacityBytes) {
        throw new NoSpaceError('the memory store is full', {
          remedy: 'Delete blocks, or open it with a larger capacityBytes.',
        });
      }
      const stamp = Math.max(held?.generation ?? 0, generation);
      blocks.set(key, {
        id: id.slice() as BlockId,
        pageHashes: pageHashes.slice(),
        data: data.slice(),
        generation: stamp,
        damaged: false,
      });
      this.count(1, data.length);
      return { existed: false };
    });
  }

  read(
    pool: PoolId,
    id: BlockId,
    firstPage: number,
    pageCount: number,
    wantHashes: boolean,
  ): Promise<(PageRun & { release(): void }) | undefined> {
    return settle(() => {
      this.checkOpen();
      const held = this.intact(pool, id);
      if (held === undefined) return undefined;
      return {
        blockBytes: held.data.length,
        pageHashes: wantHashes ? held.pageHashes : held.pageHashes.subarray(0, 0),
        firstPage,
        data: held.data.subarray(firstPage * PAGE_BYTES, (firstPage + pageCount) * PAGE_BYTES),
        release: () => undefined,
      };
    });
  }

  has(pool: PoolId, id: BlockId): number | undefined {
    this.checkOpen();
    return this.intact(pool, id)?.data.length;
  }

  renew(pool: PoolId, id: BlockId, generation: number): Promise<boolean> {
    return settle(() => {
      this.checkOpen();
      const held = this.intact(pool, id);
      if (held === undefined) return false;
      held.generation = Math.max(held.generation, generation);
      return true;
    });
  }

  delete(pool: PoolId, id: BlockId): Promise<boolean> {
    return settle(() => {
      this.checkOpen();
      const key = blockIdToHex(id);
      const held = this.pools.get(pool)?.get(key);
      if (held === undefined) return false;
      this.pools.get(pool)?.delete(key);
      if (!held.damaged) this.count(-1, -held.data.length);
      return true;
    });
  }

  async *list(pool: PoolId): AsyncIterable<BlockInfo & { readonly generation: number }> {
    this.checkOpen();
    for (const held of [...(this.pools.get(pool)?.values() ?? [])]) {
      if (!held.damaged) yield { id: held.id, lengthBytes: held.data.length, generation: held.generation };
    }
  }

  markDamaged(pool: PoolId, id: BlockId): Promise<void> {
    return settle(() => {
      this.checkOpen();
      const held = this.intact(pool, id);
      if (held === undefined) return;
      held.damaged = true;
      this.count(-1, -held.data.length);
    });
  }

  usage(): EngineUsage {
    const damaged: { pool: PoolId; id: BlockId }[] = [];
    for (const [pool, blocks] of this.pools) {
      for (const held of blocks.values()) if (held.damaged) damaged.push({ pool, id: held.id });
    }
    const { capacityBytes } = this;
    const { blockCount, liveBytes } = this.state;
    return {
      blockCount,
      liveBytes,
      fileBytes: liveBytes,
      freeBytes: Math.max(0, capacityBytes - liveBytes),
      capacityBytes,
      damaged,
    };
  }

  compact(_options?: CompactOptions): Promise<number> {
    return Promise.resolve(0);
  }

  close(): Promise<void> {
    this.state.closed = true;
    this.pools.clear();
    return Promise.resolve();
  }

  private intact(pool: PoolId, id: BlockId): Held | undefined {
    const held = this.pools.get(pool)?.get(blockIdToHex(id));
    return held === undefined || held.damaged ? undefined : held;
  }

  private count(blocks: number, bytes: number): void {
    this.state.blockCount += blocks;
    this.state.liveBytes += bytes;
  }

  private checkOpen(): void {
    if (this.state.closed) throw new StateError('the memory engine is closed');
  }
}

/** A promise of what `work` returns or throws. */
function settle<T>(work: () => T): Promise<T> {
  return new Promise((resolve) => resolve(work()));
}
