/**
 * How long what the servers told may be believed, here and in the kernel, and what follows when they tell that others have
 * changed it. Why so: docs/decisions/0017-what-others-change.md.
 */
import { groupInos } from '../catalog/document.ts';
import type { CatalogService } from '../catalog/types.ts';
import type { Clock } from '../env.ts';
import type { Ino, SessionId } from '../ids.ts';
import type { QueryOf, QueryResults } from '../meta/types.ts';
import { ChangeWatch } from './change-watch.ts';
import type { InodeTable } from './inode-table.ts';
import { KernelCache } from './kernel-cache.ts';
import { partsOf, type NameCache } from './name-cache.ts';
import type { VfsLimits } from './options.ts';
import type { WholeDirectories } from './whole-directories.ts';

export interface WatchedPorts {
  readonly clock: Clock;
  readonly limits: Pick<VfsLimits, 'attrTimeoutMs' | 'watchedMs'>;
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly inodes: InodeTable;
  readonly names: NameCache;
  readonly whole: WholeDirectories;
  readonly ask: (query: QueryOf<'changes'>) => Promise<QueryResults['changes']>;
  readonly session: () => SessionId;
}

export class Watched {
  readonly kernel: KernelCache;
  readonly #ports: WatchedPorts;
  readonly #watch: ChangeWatch;
  /** Changes of what was asked for at this stamp, and later, are told. */
  #watchedFrom = Infinity;

  constructor(ports: WatchedPorts) {
    this.#ports = ports;
    const { clock, limits, catalog, inodes, ask, session } = ports;
    this.kernel = new KernelCache(clock, limits.watchedMs);
    this.#watch = new ChangeWatch(
      {
        clock,
        ask,
        session,
        groups: () => groupInos(catalog.current()),
        begun: () => (this.#watchedFrom = inodes.nextStamp()),
        changed: (changes) => this.#changed(changes),
        missed: () => this.#missed(),
        silent: () => this.#silent(),
      },
      { keptMs: limits.watchedMs, attrTimeoutMs: limits.attrTimeoutMs },
    );
  }

  /** How long attributes may be believed that a query brought, asked for at stamp `askedAt`, from when they came. */
  attrValidMs(ino: Ino, askedAt: number, nowMs: number): number {
    const { inodes, limits } = this.#ports;
    this.#watch.want(nowMs);
    if (inodes.isChangedElsewhereSince(ino, askedAt)) return 0;
    if (!this.#isSince(askedAt, nowMs)) return limits.attrTimeoutMs;
    this.kernel.keepsAttributes(ino, nowMs);
    return limits.watchedMs;
  }

  /** As attrValidMs, of a name. `key`: keyOf; `namesAskedAt`: stamp of the names then. */
  nameValidMs(parent: Ino, key: string, askedAt: number, namesAskedAt: number, nowMs: number): number {
    const { names, limits } = this.#ports;
    if (names.isChangedSince(key, namesAskedAt)) return 0;
    if (!this.#isSince(askedAt, nowMs)) return limits.attrTimeoutMs;
    this.kernel.keepsName(parent, nowMs);
    return limits.watchedMs;
  }

  #isSince(askedAt: number, nowMs: number): boolean {
    return askedAt >= this.#watchedFrom && this.#watch.isHeardAt(nowMs);
  }

  /** It is not known here whether an own change was made, or will be: see {@link ChangeWatch.tellOwn}. */
  tellOwn(): void {
    this.#watch.tellOwn();
  }

  close(): void {
    this.#watch.close();
  }

  #changed(changes: Pick<QueryResults['changes'], 'inos' | 'names'>): void {
    const { inodes, names, whole } = this.#ports;
    for (const ino of changes.inos) inodes.changedElsewhere(ino);
    for (const { parent, name } of changes.names) {
      names.change(parent, name);
      whole.forget(parent);
    }
    this.kernel.changed(changes);
  }

  /** Something that is kept may have changed. What the kernel was told long ago it keeps until its time is over. */
  #missed(): void {
    const { inodes, names } = this.#ports;
    this.#changed({ inos: [...inodes.values()].map(({ ino }) => ino), names: [...names.keys()].map(partsOf) });
  }

  /** Whatever is asked for now is asked of the servers. */
  #silent(): void {
    const { inodes, names } = this.#ports;
    for (const inode of inodes.values()) inode.attrExpiresMs = 0;
    names.expire();
  }
}
