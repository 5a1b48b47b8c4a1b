/** The pack files of a store: their sizes, and a bounded number of open handles for readers. */
import type { Disk, DiskFile } from '../env.ts';
import { packFileName } from './pack-format.ts';

/** Open handles kept: file descriptors are a shared, limited good. */
const OPEN_FILES_MAX = 64;

interface Handle {
  readonly opening: Promise<DiskFile>;
  /** Readers that use it now. Invariant: closed only when 0. */
  pinCount: number;
}

export class PackFiles {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #sizes = new Map<number, number>();
  /** In order of last use. */
  readonly #handles = new Map<number, Handle>();
  readonly #removing = new Map<number, () => void>();
  #totalBytes = 0;

  constructor(disk: Disk, dir: string) {
    this.#disk = disk;
    this.#dir = dir;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  get directory(): string {
    return this.#dir;
  }

  path(pack: number): string {
    return `${this.#dir}/${packFileName(pack)}`;
  }

  packs(): number[] {
    return [...this.#sizes.keys()];
  }

  has(pack: number): boolean {
    return this.#sizes.has(pack);
  }

  sizeBytes(pack: number): number {
    return this.#sizes.get(pack) ?? 0;
  }

  setSize(pack: number, sizeBytes: number): void {
    this.#totalBytes += sizeBytes - this.sizeBytes(pack);
    this.#sizes.set(pack, sizeBytes);
  }

  /** Runs `use` with the pack's file open for reading. Errors as from Disk.open. */
  async use<T>(pack: number, use: (file: DiskFile) => Promise<T>): Promise<T> {
    const handle = this.#pin(pack);
    try {
      return await use(await handle.opening);
    } catch (error) {
      // A handle that did not open, or gives errors, is not kept.
      if (this.#handles.get(pack) === handle && handle.pinCount === 1) this.#drop(pack, handle);
      throw error;
    } finally {
      handle.pinCount--;
      if (handle.pinCount === 0) {
        this.#removing.get(pack)?.();
        this.#evict();
        this.#dropRemoved(pack);
      }
    }
  }

  /** Waits for the last reader, then unlinks the file, durably. Who still comes after this call finds it, or ENOENT. */
  async remove(pack: number): Promise<void> {
    let handle = this.#handles.get(pack);
    while (handle !== undefined && handle.pinCount > 0) {
      await new Promise<void>((resolve) => this.#removing.set(pack, resolve));
      this.#removing.delete(pack);
      handle = this.#handles.get(pack);
    }
    if (handle !== undefined) this.#drop(pack, handle);
    try {
      await this.#disk.unlink(this.path(pack));
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
    }
    await this.#disk.syncDir(this.#dir);
    this.#totalBytes -= this.sizeBytes(pack);
    this.#sizes.delete(pack);
    this.#dropRemoved(pack);
  }

  async close(): Promise<void> {
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    await Promise.all(handles.map((handle) => handle.opening.then((file) => file.close()).catch(() => undefined)));
  }

  #pin(pack: number): Handle {
    let handle = this.#handles.get(pack);
    if (handle === undefined) {
      handle = { opening: this.#disk.open(this.path(pack), 'read'), pinCount: 0 };
    } else {
      this.#handles.delete(pack);
    }
    this.#handles.set(pack, handle);
    handle.pinCount++;
    return handle;
  }

  #evict(): void {
    if (this.#handles.size <= OPEN_FILES_MAX) return;
    for (const [pack, handle] of this.#handles) {
      if (handle.pinCount > 0) continue;
      this.#drop(pack, handle);
      if (this.#handles.size <= OPEN_FILES_MAX) return;
    }
  }

  /** An open handle keeps the space of a file that is gone. */
  #dropRemoved(pack: number): void {
    const handle = this.#handles.get(pack);
    if (handle !== undefined && handle.pinCount === 0 && !this.#sizes.has(pack)) this.#drop(pack, handle);
  }

  #drop(pack: number, handle: Handle): void {
    this.#handles.delete(pack);
    // Nothing is lost by a failing close of a file that was only read.
    handle.opening.then((file) => file.close()).catch(() => undefined);
  }
}
