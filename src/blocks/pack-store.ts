import type { Disk, Env, Kv } from '../env.ts';
import { UsageError } from '../errors.ts';
import type { PoolId } from '../ids.ts';
import { EngineStore } from './engine-store.ts';
import { PackEngine } from './pack-engine.ts';
import type { CompactOptions, EngineUsage } from './types.ts';

/** Where a {@link PackStore} is, and how much it may take. */
export interface PackStoreOptions {
  /** Directory; made if missing. One process at a time. */
  readonly path: string;
  /**
   * The world it lives in, for tests with simulated disks. Default: the real one.
   *
   * @internal
   */
  readonly env?: Pick<Env, 'disk' | 'clock' | 'random'>;
  /** Kept free on the disk. Default: max(256 MiB, 2%), at most a tenth of the disk. */
  readonly reserveBytes?: number;
  /** Bound of the pack files; beyond it NoSpaceError. Default: the disk. */
  readonly capacityBytes?: number;
}

/** All library stores have this name: a node's store (named after its node) is not opened by mistake. */
const STORE_ID = 'library';
const POOL = 1 as PoolId;
/** Less would write a hundred bytes for each that is given back. */
const DEAD_SHARE_LEAST = 0.01;

/**
 * A durable {@link BlockStore} in a directory: `await PackStore.open({ path })`. A put resolves when the block is on disk;
 * concurrent puts share the disk's syncs (group commit). Blocks are appended to pack files of up to 256 MiB and found by an
 * index in LevelDB, which is rebuilt from them if lost (as in Bitcask and Haystack; docs/formats.md has the bytes).
 */
export class PackStore extends EngineStore {
  private readonly packs: PackEngine;
  private readonly disk: Disk;
  private readonly path: string;

  private constructor(engine: PackEngine, disk: Disk, path: string) {
    super(engine, POOL);
    this.packs = engine;
    this.disk = disk;
    this.path = path;
  }

  /**
   * Opens the store, or makes it. After a crash everything that a put had resolved for is there.
   *
   * @throws an error with code EBUSY when another process has the directory; FormatError when it is something else's, or
   * newer.
   */
  static async open(options: PackStoreOptions): Promise<PackStore> {
    const env = options.env ?? (await import('../env-node.ts')).createNodeEnv();
    const { disk, clock, random } = env;
    const { path, reserveBytes, capacityBytes } = options;
    const engine = await PackEngine.open({ disk, clock, random, path, storeId: STORE_ID, reserveBytes, capacityBytes });
    return new PackStore(engine, disk, path);
  }

  /**
   * A table of its own in the store's directory, for what is kept beside the blocks; whoever opens it closes it.
   *
   * @internal
   */
  async openSideKv(name: 'cids'): Promise<Kv> {
    return await this.disk.openKv(`${this.path}/${name}`);
  }

  /** Space and damage, by the books: cheap. */
  usage(): EngineUsage {
    return this.packs.usage();
  }

  /**
   * Gives back the space of deleted blocks; resolves with the bytes. Reads and writes go on meanwhile. By default packs more
   * than half dead are rewritten; `{ deadShare: 0.1 }` leaves a tenth at the most, and writes more for it.
   */
  async compact(options: CompactOptions = {}): Promise<number> {
    const { deadShare = 0.5 } = options;
    if (!(deadShare >= DEAD_SHARE_LEAST && deadShare < 1)) {
      throw new UsageError(`deadShare is from ${DEAD_SHARE_LEAST} to less than 1, not ${deadShare}`, {
        remedy: 'Give the share of the packs that may stay dead, such as 0.1.',
      });
    }
    return await this.packs.compact(options);
  }
}
