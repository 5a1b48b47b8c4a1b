/** Sees to it that an open store has an index that can be used: takes records in, and rebuilds it when it turns out damaged. */
import type { Clock, Disk } from '../env.ts';
import type { Logger } from '../log.ts';
import type { PackFiles } from './pack-files.ts';
import type { PlacedRecord } from './pack-entry.ts';
import type { RecordHeader } from './pack-format.ts';
import { IndexDamagedError, type Checkpoint, type PackIndex } from './pack-index.ts';
import type { OpenedIndex } from './pack-open.ts';
import { indexRecord, type Recovered } from './pack-recovery.ts';
import { rebuildIndex } from './pack-reindex.ts';

/** After a rebuild that failed the next damage seen starts another, but not before this. */
const AGAIN_MS = 10_000;
/** A file of the open index that looks damaged may be one that is being written: so much later it is looked at again. */
const LOOK_AGAIN_MS = 2_000;

export interface IndexKeeperHost {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly files: PackFiles;
  readonly index: PackIndex;
  readonly salt: bigint;
  readonly log: Logger;
  readonly opened: OpenedIndex;
  readonly recovered: Recovered;
  /** Durable end of a pack. */
  readonly endOf: (pack: number) => number;
  readonly next: () => Checkpoint;
  readonly compacting: () => Promise<unknown> | undefined;
  readonly stopped: () => boolean;
}

export class IndexKeeper {
  readonly #host: IndexKeeperHost;
  #rebuilding: Promise<void> | undefined;
  /** The index that is being built: gets every record, too. */
  #mirror: PackIndex | undefined;
  #path: string;
  #count: number;
  #reason: string | undefined;
  #failedMs: number | undefined;

  constructor(host: IndexKeeperHost) {
    this.#host = host;
    const { opened, recovered, index } = host;
    this.#path = opened.path;
    this.#count = opened.loaded === undefined && recovered.nextPack > 1 ? 1 : 0;
    this.#reason = this.#count > 0 ? 'it was missing or damaged when the store was opened' : undefined;
    index.onDamage = (error) => this.#damaged(error);
  }

  /** While it is, what the index does not know may be there all the same. */
  get isRebuilding(): boolean {
    return this.#rebuilding !== undefined;
  }

  get isKnownDamaged(): boolean {
    return this.#failedMs !== undefined;
  }

  /** The index was too large to be looked at when the store was opened. */
  get isUnchecked(): boolean {
    return this.#host.opened.unchecked && this.#path === this.#host.opened.path;
  }

  /** How often, since the store was opened or at its opening, and why the last time. */
  get rebuilt(): { readonly count: number; readonly reason: string | undefined; readonly running: boolean } {
    return { count: this.#count, reason: this.#reason, running: this.isRebuilding };
  }

  /** Never rejects. */
  async settled(): Promise<void> {
    await this.#rebuilding?.catch(() => undefined);
  }

  /** A record has become durable. What a damaged index cannot take, the one that is built in its place finds in the pack. */
  add(record: Pick<RecordHeader, 'type' | 'pool' | 'id'>, placed: PlacedRecord): void {
    this.#addTo(this.#host.index, record, placed);
    if (this.#mirror !== undefined) this.#addTo(this.#mirror, record, placed);
  }

  #addTo(index: PackIndex, record: Pick<RecordHeader, 'type' | 'pool' | 'id'>, placed: PlacedRecord): void {
    try {
      indexRecord(index, record, placed);
    } catch (error) {
      if (!(error instanceof IndexDamagedError)) throw error;
      // Then the new one is not complete, and its making ends.
      if (index === this.#mirror) this.#mirror = undefined;
    }
  }

  /** What is wrong with the files of the index, if anything. */
  async checkFiles(): Promise<string | undefined> {
    const { disk, clock } = this.#host;
    const look = async () => (await disk.checkKv?.(this.#path, Number.POSITIVE_INFINITY))?.damage;
    const first = await look();
    if (first === undefined) return undefined;
    await clock.sleep(LOOK_AGAIN_MS);
    const second = await look();
    if (second?.file !== first.file || second.fileBytes !== first.fileBytes) return undefined;
    return `${second.file}: ${second.fault}`;
  }

  /** Rebuilds the index while the store is in use; callers share one run. */
  async rebuild(reason: string): Promise<void> {
    this.#rebuilding ??= this.#rebuild(reason).finally(() => (this.#rebuilding = undefined));
    await this.#rebuilding;
  }

  #damaged(error: unknown): void {
    const { clock, stopped } = this.#host;
    if (stopped() || this.isRebuilding) return;
    if (this.#failedMs !== undefined && clock.monotonicMs() - this.#failedMs < AGAIN_MS) return;
    // How it ends is told by the log and by those who ask for what it does not know.
    this.rebuild(error instanceof Error ? error.message : String(error)).catch(() => undefined);
  }

  async #rebuild(reason: string): Promise<void> {
    const { log, recovered, clock, compacting, stopped, index } = this.#host;
    log.error({ reason }, 'the block index is damaged: rebuilding it from the packs');
    let mirrored: PackIndex | undefined;
    try {
      // Packs must not go while an index is built from them.
      await compacting()?.catch(() => undefined);
      const path = await rebuildIndex({
        ...this.#host,
        indexPath: this.#path,
        isOwn: (pack) => pack >= recovered.nextPack || pack === recovered.resume?.pack,
        mirror: (next) => (this.#mirror = mirrored = next),
        stopped: () => stopped() || this.#mirror !== mirrored,
      });
      if (path === undefined) {
        if (stopped()) return;
        throw new IndexDamagedError(new Error('a record could not be put into the new index'));
      }
      this.#path = path;
      this.#count++;
      this.#reason = reason;
      this.#failedMs = undefined;
      log.info({ blocks: index.blockCount }, 'the block index was rebuilt');
    } catch (error) {
      this.#failedMs = clock.monotonicMs();
      log.error({ error: String(error) }, 'the block index could not be rebuilt');
      throw error;
    }
  }
}
