/**
 * Open pack files of nodes on this machine, each for a while, through the page cache and past it.
 *
 * Invariant: a file is held open for at most FILE_AGE_MAX_MS, so that the space of an unlinked pack comes back.
 */
import { CorruptionError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import type { CatalogService } from '../catalog/types.ts';
import { DIRECT_BYTES, type Clock, type Disk, type DiskFile, type Timer } from '../env.ts';
import { payloadPool } from '../net/buffer-pool.ts';
import { decodePackHeader, packFileName, PACK_HEADER_BYTES } from './pack-format.ts';
import type { BlockPlace } from './types.ts';

const FILES_MAX = 64;
const FILE_AGE_MAX_MS = 10_000;

export interface NearPacksOptions {
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly clock: Clock;
  readonly disk: Pick<Disk, 'open'>;
}

interface OpenPack {
  readonly key: string;
  readonly opening: Promise<DiskFile>;
  readonly openedMs: number;
  userCount: number;
  dropped: boolean;
}

export class NearPacks {
  readonly #o: NearPacksOptions;
  readonly #files = new Map<string, OpenPack>();
  #timer: Timer | undefined;

  constructor(options: NearPacksOptions) {
    this.#o = options;
  }

  /**
   * Fills `bytes` from `position` of the node's pack; returns the byte count.
   *
   * @throws what the disk does (ENOENT: the pack is gone; EINVAL: it cannot be read directly); CorruptionError if it is not that node's pack
   */
  async read(node: NodeId, place: BlockPlace, bytes: Uint8Array, position: number, isDirect: boolean): Promise<number> {
    const file = this.#pin(node, place, isDirect);
    try {
      return await (await file.opening).read(bytes, position);
    } catch (error) {
      this.#drop(file);
      throw error;
    } finally {
      file.userCount--;
      this.#closeIfUnused(file);
    }
  }

  /** What is being read goes on; the files are closed after it. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    const files = [...this.#files.values()];
    for (const file of files) this.#drop(file);
    await Promise.all(files.map((file) => file.opening.catch(() => undefined)));
  }

  #pin(node: NodeId, { directory, pack }: BlockPlace, isDirect: boolean): OpenPack {
    const nowMs = this.#o.clock.monotonicMs();
    const path = `${directory}/${packFileName(pack)}`;
    const key = isDirect ? `direct ${path}` : path;
    let file = this.#files.get(key);
    if (file !== undefined && nowMs - file.openedMs >= FILE_AGE_MAX_MS) {
      this.#drop(file);
      file = undefined;
    }
    if (file === undefined) {
      file = { key, opening: this.#open(node, path, pack, isDirect), openedMs: nowMs, userCount: 0, dropped: false };
      this.#files.set(key, file);
      for (const oldest of this.#files.values()) {
        if (this.#files.size <= FILES_MAX) break;
        this.#drop(oldest);
      }
      this.#timer ??= this.#o.clock.setTimer(FILE_AGE_MAX_MS, () => this.#dropOld());
    }
    file.userCount++;
    return file;
  }

  /** A pack of that very store: another machine, or another container, may have the same path. */
  async #open(node: NodeId, path: string, pack: number, isDirect: boolean): Promise<DiskFile> {
    const file = await this.#o.disk.open(path, isDirect ? 'direct' : 'read');
    try {
      const bytes = isDirect ? payloadPool.takeAligned(DIRECT_BYTES) : new Uint8Array(PACK_HEADER_BYTES);
      const count = await file.read(bytes, 0);
      const header = count < PACK_HEADER_BYTES ? undefined : decodePackHeader(bytes.subarray(0, PACK_HEADER_BYTES));
      if (isDirect) payloadPool.giveBack(bytes);
      const storeId = this.#o.catalog.current().nodes.find(({ id }) => id === node)?.storeId;
      if (header?.storeId !== storeId || header?.pack !== pack) {
        throw new CorruptionError(`${path} is not the pack of node ${node}`);
      }
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  #dropOld(): void {
    const nowMs = this.#o.clock.monotonicMs();
    for (const file of this.#files.values()) if (nowMs - file.openedMs >= FILE_AGE_MAX_MS) this.#drop(file);
    this.#timer = this.#files.size === 0 ? undefined : this.#o.clock.setTimer(FILE_AGE_MAX_MS, () => this.#dropOld());
  }

  #drop(file: OpenPack): void {
    if (this.#files.get(file.key) === file) this.#files.delete(file.key);
    file.dropped = true;
    this.#closeIfUnused(file);
  }

  #closeIfUnused(file: OpenPack): void {
    if (!file.dropped || file.userCount > 0) return;
    // Nothing is lost by a failing close of a file that was only read.
    file.opening.then((open) => open.close()).catch(() => undefined);
  }
}
