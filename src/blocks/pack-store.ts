import type { Env } from '../env.ts';
import type { PoolId } from '../ids.ts';
import { EngineStore } from './engine-store.ts';
import { PackEngine } from './pack-engine.ts';
import type { EngineUsage } from './types.ts';

export interface PackStoreOptions {
  /** Directory; made if missing. One process at a time. */
  readonly path: string;
  /** Default: the real one (createNodeEnv). */
  readonly env?: Pick<Env, 'disk' | 'clock' | 'random'>;
  /** Kept free on the disk. Default: max(256 MiB, 2%), at most a tenth of the disk. */
  readonly reserveBytes?: number;
  /** Bound of the pack files. Default: the disk. */
  readonly capacityBytes?: number;
}

/** All library stores have this name: a node's store (named after its node) is not opened by mistake. */
const STORE_ID = 'library';
const POOL = 1 as PoolId;

/**
 * A durable BlockStore in a directory: `await PackStore.open({ path })`. A put resolves when the block is on disk;
 * concurrent puts share the disk's syncs.
 */
export class PackStore extends EngineStore {
  private readonly packs: PackEngine;

  private constructor(engine: PackEngine) {
    super(engine, POOL);
    this.packs = engine;
  }

  /** Errors: EBUSY when another process has the directory; FormatError when it is something else's, or newer. */
  static async open(options: PackStoreOptions): Promise<PackStore> {
    const env = options.env ?? (await import('../env-node.ts')).createNodeEnv();
    const { disk, clock, random } = env;
    const { path, reserveBytes, capacityBytes } = options;
    return new PackStore(
      await PackEngine.open({ disk, clock, random, path, storeId: STORE_ID, reserveBytes, capacityBytes }),
    );
  }

  /** Space and damage; cheap. */
  usage(): EngineUsage {
    return this.packs.usage();
  }

  /** Gives back the space of deleted blocks; resolves with the bytes. Reads and writes go on meanwhile. */
  async compact(): Promise<number> {
    return await this.packs.compact();
  }
}
