/**
 * What the operations of one mount share: tables and caches, the way to the servers, and the rules by which replies
 * change what is known here. The operations themselves are in name-ops, file-ops, data-ops, dir-ops and xattr-ops.
 */
import type { CancelSignal } from '../cancel.ts';
import type { Clock } from '../env.ts';
import { FsError, SessionExpiredError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import { FILE_MAX_BYTES } from '../limits.ts';
import type {
  Attr,
  Extent,
  MetaClient,
  Mutation,
  MutationResult,
  Query,
  QueryOf,
  QueryResults,
} from '../meta/types.ts';
import { AccessTimes } from './access-times.ts';
import { BlockCache } from './block-cache.ts';
import { ASK_TIMEOUT_MS } from './change-watch.ts';
import { ContestedNames } from './contested-names.ts';
import { Compactor } from './compactor.ts';
import { ExtentMemory } from './extent-map.ts';
import { FileData } from './file-data.ts';
import { toFsError } from './fs-errors.ts';
import { HandleTable, type FileHandle } from './handles.ts';
import { InodeTable, type Inode } from './inode-table.ts';
import { MadeNext } from './made-next.ts';
import { NameCache, keyOf, partsOf } from './name-cache.ts';
import { WholeDirectories } from './whole-directories.ts';
import { Nameless } from './nameless.ts';
import type { AttrReply, Entry } from './ops.ts';
import {
  blockSizeOf,
  DEFAULT_VFS_LIMITS,
  EXTENT_MEMORY_BYTES,
  EXTENT_WINDOW,
  SILENT_LOG,
  stepTimeoutMs,
  type VfsLimits,
  type VfsLog,
  type VfsOptions,
} from './options.ts';
import { Prefetch } from './prefetch.ts';
import { ReadPath } from './read-path.ts';
import { Removals } from './removals.ts';
import { mergeBeforeFlush } from './tail-merge.ts';
import { Watched } from './watched.ts';
import { WriteBack } from './write-back.ts';
import { WriteMemory } from './write-memory.ts';

/** Failed operations are told of this often at most. */
const REPORT_INTERVAL_MS = 5_000;
/** A report's path has no more names; the servers allow deeper trees. */
const PATH_DEPTH_MAX = 256;

export class MountState {
  readonly meta: MetaClient;
  readonly clock: Clock;
  readonly catalog: VfsOptions['catalog'];
  readonly space: VfsOptions['space'];
  readonly limits: VfsLimits;
  readonly log: VfsLog;
  readonly inodes = new InodeTable();
  readonly names = new NameCache();
  readonly contested = new ContestedNames();
  readonly accessTimes: AccessTimes;
  readonly whole = new WholeDirectories();
  readonly madeNext: MadeNext;
  readonly watched: Watched;
  readonly handles = new HandleTable();
  readonly removals = new Removals();
  readonly nameless: Nameless;
  /** On their way; an answer counts: it may have been given before the name was removed. */
  readonly opens = new Set<Promise<unknown>>();
  readonly cache: BlockCache;
  /** Other readers get nothing from the cache any more. */
  readonly endSharing: () => void;
  readonly memory: WriteMemory;
  readonly extentMemory = new ExtentMemory(EXTENT_MEMORY_BYTES);
  readonly writeBack: WriteBack;
  readonly readPath: ReadPath;
  readonly compactor: Compactor;
  readonly prefetch: Prefetch;
  /** Reads and writes of programs so far: tells whether any use the mount. */
  operations = 0;
  isClosed = false;
  /** Work that no caller waits for; close() does. */
  readonly #background = new Set<Promise<void>>();
  /** Files that lost written data, with their paths, of which no program was told yet. */
  readonly #lost = new Map<Ino, string>();

  constructor(options: VfsOptions) {
    this.meta = options.meta;
    this.clock = options.env.clock;
    this.catalog = options.catalog;
    this.space = options.space;
    this.log = options.log ?? SILENT_LOG;
    this.limits = { ...DEFAULT_VFS_LIMITS, ...options.limits };
    const { clock, meta, limits } = this;
    this.accessTimes = new AccessTimes(options.accessTimes ?? 'unchanged', {
      clock,
      tell: async (ino, atimeNs) => {
        const askedAt = this.inodes.stamp();
        const { attr } = await this.mutate({ op: 'accessed', ino, atimeNs });
        if (attr !== undefined && this.inodes.get(ino) !== undefined) this.changed(attr, askedAt);
      },
      background: (work) => this.background(work),
    });
    this.memory = new WriteMemory(limits.dirtyMaxBytes);
    this.cache = new BlockCache({
      maxBytes: limits.readCacheBytes,
      firstBytes: limits.readCacheFirstBytes,
      blocks: options.blocks,
      clock,
      timeoutMs: stepTimeoutMs(limits),
    });
    this.endSharing = options.blocks.offer?.(this.cache) ?? (() => undefined);
    this.readPath = new ReadPath({
      clock,
      cache: this.cache,
      readAtRandom: (handle, extent, from) => this.prefetch.readAtRandom(handle, extent, from),
      loadExtents: (file, offset, neededFrom) => this.loadExtents(file, offset, false, neededFrom),
      failed: (file, error) => this.background(this.#report(file.inode, error, 'a file cannot be read')),
      sawPieces: (file, offset, pieces) => this.compactor.sawPieces(file, offset, pieces),
    });
    this.prefetch = new Prefetch(this, options.blocks);
    this.compactor = new Compactor(this, options.blocks);
    this.writeBack = new WriteBack({
      meta,
      blocks: options.blocks,
      clock,
      limits,
      memory: this.memory,
      stamp: () => this.inodes.stamp(),
      committed: (...args) => this.#committed(...args),
      uncertain: (file) => {
        this.watched.tellOwn();
        file.extents.forget();
        file.inode.attrExpiresMs = 0;
      },
      becameClean: (file) => this.#dropIfIdle(file),
      moved: (file) => {
        file.extents.forget();
        this.dropPages(file.inode);
      },
      failed: (file, error) => {
        const { ino } = file.inode;
        this.#lost.set(ino, this.knownPath(ino) ?? `inode ${ino}`);
        file.errorTold = () => void this.#lost.delete(ino);
        // It keeps what was written, which is nowhere else.
        this.dropPages(file.inode);
        this.background(this.#report(file.inode, error, 'written data was lost'));
      },
      beforeFlush: (file, cut) => mergeBeforeFlush(this, file, cut),
    });
    this.madeNext = new MadeNext({
      ask: (query) => this.query<'madeNext'>(query),
      learner: (directory) => this.#learnerOf(directory),
      background: (work) => this.background(work),
    });
    this.watched = new Watched({
      clock,
      limits,
      catalog: this.catalog,
      inodes: this.inodes,
      names: this.names,
      whole: this.whole,
      ask: (query) => meta.query<'changes'>(query, { timeoutMs: ASK_TIMEOUT_MS }),
      session: () => meta.sessionId,
    });
    this.meta.onSessionLost?.(() => this.#sessionLost());
    this.nameless = new Nameless(this);
  }

  /** What was not committed under the old session is lost, and so are files that only it kept from being destroyed. */
  #sessionLost(): void {
    for (const inode of this.inodes.values()) if (inode.orphan) inode.gone = true;
    this.writeBack.failAll(
      new SessionExpiredError('this mount was not heard of by the servers for too long, and its session has expired'),
    );
  }

  // The servers

  /**
   * `under`: asked for through that open file, under whose locks it may be: not done if they are lost by now (it may have waited
   * in line), or the session is meanwhile.
   */
  async mutate(mutation: Mutation, under?: FileHandle): Promise<MutationResult> {
    under?.checkLocks();
    this.#changes += 1;
    try {
      return await this.meta.mutate(mutation, {
        timeoutMs: stepTimeoutMs(this.limits),
        fenced: under !== undefined,
      });
    } catch (error) {
      this.#mayBeGone(error, mutation);
      throw toFsError(error, mutation.op);
    }
  }

  async query<Op extends Query['op']>(query: QueryOf<Op>, signal?: CancelSignal): Promise<QueryResults[Op]> {
    const timeoutMs = stepTimeoutMs(this.limits);
    try {
      return await this.meta.query<Op>(query, signal === undefined ? { timeoutMs } : { timeoutMs, signal });
    } catch (error) {
      this.#mayBeGone(error, query);
      throw toFsError(error, query.op);
    }
  }

  /** Removed through another mount, perhaps: the names under which it was seen are not believed any more. */
  #mayBeGone(error: unknown, asked: Mutation | Query): void {
    if (!(error instanceof FsError) || error.code !== 'ENOENT') return;
    if ('parent' in asked) this.inodes.expire(asked.parent);
    if ('ino' in asked) this.contestNameOf(asked.ino);
  }

  /** The inode is gone that a name led to, or about to: the name is not believed, and its file kept for who is on the way to it. */
  contestNameOf(ino: Ino): void {
    this.inodes.expire(ino);
    const place = this.inodes.get(ino)?.place;
    if (place === undefined) return;
    this.contested.lost(place, this.clock.monotonicMs());
    // What was learned meanwhile may be what replaced it; but it is to be found at the servers, from where its open counts.
    this.names.forget(place);
    this.watched.kernel.changed({ inos: [ino], names: [partsOf(place)] });
  }

  /** Whether something was changed through this mount since the servers last said that all is on their disks. */
  get isUnsynced(): boolean {
    return this.#changes > this.#syncedChanges;
  }

  /** Everything acknowledged before is on disk at the servers when it resolves. */
  async sync(timeoutMs = stepTimeoutMs(this.limits)): Promise<void> {
    const changes = this.#changes;
    try {
      await this.meta.sync({ timeoutMs });
    } catch (error) {
      throw toFsError(error, 'fsync');
    }
    this.#syncedChanges = Math.max(this.#syncedChanges, changes);
  }
  #changes = 0;
  #syncedChanges = 0;

  // What replies tell

  /** Attributes that a query brought, asked for at stamp `askedAt`. */
  learn(attr: Attr, askedAt: number): Inode {
    const nowMs = this.clock.monotonicMs();
    return this.inodes.accept(attr, askedAt, nowMs + this.watched.attrValidMs(attr.ino, askedAt, nowMs), false);
  }

  /** Attributes after an own change that left the content as it is: if the version is another, somebody else wrote. */
  changed(attr: Attr, askedAt: number): Inode {
    return this.inodes.accept(attr, askedAt, this.clock.monotonicMs() + this.limits.attrTimeoutMs, true);
  }

  /** Attributes after an own change of the content, each of which makes a version. Pages that the kernel has saw it, too. */
  changedContent(attr: Attr, askedAt: number): Inode {
    const before = this.inodes.get(attr.ino)?.attr.version;
    const inode = this.changed(attr, askedAt);
    if (before !== undefined && attr.version === before + 1) {
      if (inode.pageVersion === before) inode.pageVersion = attr.version;
      if (inode.toldVersion === before) inode.toldVersion = attr.version;
    }
    return inode;
  }

  /** As changedContent, where the kernel itself drops pages once it has the answer: it may never get it (interrupted, or too late). */
  changedUnseen(attr: Attr, askedAt: number): Inode {
    const inode = this.changed(attr, askedAt);
    inode.forgetPages();
    return inode;
  }

  /** The inode was just seen under this name ({@link keyOf}), which may be believed until then. */
  learnName(key: string, inode: Inode, expiresMs: number, askedAt: number, nowMs: number): void {
    inode.place = key;
    if (expiresMs > nowMs && !this.contested.has(key, nowMs)) this.names.learn(key, inode.ino, expiresMs, askedAt);
  }

  #learnerOf(directory: Ino): (entries: QueryResults['madeNext']['entries']) => void {
    const askedAt = this.inodes.stamp();
    const namesAskedAt = this.names.stamp();
    return (entries) => {
      const nowMs = this.clock.monotonicMs();
      for (const { name, attr } of entries) {
        const inode = this.learn(attr, askedAt);
        const key = keyOf(directory, name);
        const validMs = this.watched.nameValidMs(directory, key, askedAt, namesAskedAt, nowMs);
        this.learnName(key, inode, nowMs + validMs, namesAskedAt, nowMs);
      }
    };
  }

  #committed(file: FileData, attr: Attr | undefined, extents: readonly Extent[], askedAt: number): void {
    this.#changes += 1;
    if (attr === undefined) {
      file.extents.forget();
      file.inode.attrExpiresMs = 0;
      return;
    }
    this.changedContent(attr, askedAt);
    file.extents.apply(attr.version, extents);
    this.compactor.committed(file, extents);
  }

  /** The kernel forgets what it keeps of the content, soon. */
  dropPages(inode: Inode): void {
    const dropped = this.watched.kernel.notifier?.invalidateInode(inode.ino);
    if (dropped === undefined) return;
    inode.pageVersion = undefined;
    this.background(dropped);
  }

  // What callers are told

  /** The servers' attributes, with what was written here and is not committed yet. */
  attrOf(inode: Inode): Attr {
    const { data } = inode;
    const readNs = this.accessTimes.of(inode.ino);
    const attr = readNs === undefined ? inode.attr : { ...inode.attr, atimeNs: readNs };
    if (data?.mtimeNs === undefined) return attr;
    const sizeBytes = data.sizeBytes();
    return {
      ...attr,
      sizeBytes,
      // At most: what is written again counts twice. Never nothing, as tar takes a file without blocks for one hole, and does not read it.
      storedBytes: Math.min(sizeBytes, attr.storedBytes + data.uncommittedBytes()),
      mtimeNs: data.mtimeNs,
      ctimeNs: data.changeNs > attr.ctimeNs ? data.changeNs : attr.ctimeNs,
    };
  }

  /** How long the kernel may believe them: of what is open, and may be written here, no longer than if nothing were watched. */
  attrTimeoutMs(inode: Inode): number {
    // What it has stored is not known before it is committed.
    if (inode.data?.mtimeNs !== undefined) return 0;
    const leftMs = Math.max(0, inode.attrExpiresMs - this.clock.monotonicMs());
    const isInUse = inode.openCount > 0 || inode.data !== undefined;
    const canBeTold = this.watched.kernel.notifier !== undefined;
    return canBeTold && !isInUse ? leftMs : Math.min(leftMs, this.limits.attrTimeoutMs);
  }

  attrReply(inode: Inode): AttrReply {
    inode.toldVersion = inode.attr.version;
    inode.toldSizeBytes = inode.attr.sizeBytes;
    return { attr: this.attrOf(inode), attrTimeoutMs: this.attrTimeoutMs(inode) };
  }

  /** `validMs`: how long its name may be believed. */
  entry(inode: Inode, validMs = this.limits.attrTimeoutMs): Entry {
    inode.toldVersion = inode.attr.version;
    inode.toldSizeBytes = inode.attr.sizeBytes;
    const entryTimeoutMs = this.watched.kernel.expiresNames ? validMs : Math.min(validMs, this.limits.attrTimeoutMs);
    return { attr: this.attrOf(inode), attrTimeoutMs: this.attrTimeoutMs(inode), entryTimeoutMs };
  }

  // Files

  /** The data side of an inode, made at the first use. */
  dataOf(inode: Inode): FileData {
    const { pool } = inode.attr;
    const memory = { written: this.memory, extents: this.extentMemory };
    inode.data ??= new FileData(inode, pool, blockSizeOf(this.catalog, pool), memory, (file) =>
      this.writeBack.flush(file),
    );
    return inode.data;
  }

  /**
   * Fetches the extents from `offset` on, and the attributes with them. `fresh`: no question asked before will do. `neededFrom`: what is
   * known from there on must stay.
   */
  loadExtents(file: FileData, offset: number, fresh = false, neededFrom = offset): Promise<void> {
    if (!fresh && file.loading !== undefined && file.loading.offset === offset) return file.loading.promise;
    const load = async (): Promise<void> => {
      const askedAt = this.inodes.stamp();
      const { ino } = file.inode;
      const reply = await this.query<'extents'>({
        op: 'extents',
        ino,
        offset,
        lengthBytes: FILE_MAX_BYTES - offset,
        limit: EXTENT_WINDOW,
      });
      this.learn(reply.attr, askedAt);
      file.extents.load(reply.attr.version, offset, reply.extents, reply.more, neededFrom);
    };
    const promise = load().finally(() => {
      if (file.loading?.promise === promise) file.loading = undefined;
    });
    file.loading = { offset, promise };
    return promise;
  }

  #dropIfIdle(file: FileData): void {
    const { inode } = file;
    if (inode.openCount > 0 || !file.isClean || inode.data !== file) return;
    inode.data = undefined;
    file.extents.forget();
  }

  /** The last handle is closed. */
  closedLast(inode: Inode): void {
    if (inode.orphan) return this.nameless.closed(inode);
    const file = inode.data;
    if (file === undefined) return;
    const flush = this.writeBack.flush(file);
    if (flush !== undefined) this.background(flush);
    this.#dropIfIdle(file);
  }

  // What nobody waits for

  background(work: Promise<unknown>): void {
    const tracked: Promise<void> = work.then(
      () => {
        this.#background.delete(tracked);
      },
      (error: unknown) => {
        this.#background.delete(tracked);
        this.log.error({ error: String(error) }, 'background work failed');
      },
    );
    this.#background.add(tracked);
  }

  async settled(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  /** Where this mount saw it last; undefined if it does not know. Asks nobody. */
  knownPath(ino: Ino): string | undefined {
    const names: string[] = [];
    for (let at = ino; at !== ROOT_INO;) {
      const place = this.inodes.get(at)?.place;
      if (place === undefined || names.length > PATH_DEPTH_MAX) return undefined;
      const { parent, name } = partsOf(place);
      names.push(Buffer.from(name).toString());
      at = parent;
    }
    return `/${names.reverse().join('/')}`;
  }

  /** A path of the inode for a report; its number where no path can be had. */
  async pathOf(ino: Ino): Promise<string> {
    const known = this.knownPath(ino);
    if (known !== undefined) return known;
    try {
      const { paths } = await this.meta.query<'paths'>({ op: 'paths', ino }, { timeoutMs: 2_000 });
      const path = paths[0];
      if (path !== undefined) return Buffer.from(path).toString();
    } catch {
      // The report goes out without it.
    }
    return `inode ${ino}`;
  }

  /**
   * An operation ended with an error. Those that tell a program about its own request (ENOENT and the like) are its own
   * affair; of EIO there may be thousands while nodes are away, so the log gets one in a while, with their number.
   */
  operationFailed(what: string, ino: Ino, error: unknown): void {
    if (!(error instanceof FsError) || error.code !== 'EIO') return;
    // What it was to change may be changed later.
    this.watched.tellOwn();
    const nowMs = this.clock.monotonicMs();
    this.#unreported += 1;
    if (nowMs < this.#reportAgainMs) return;
    const count = this.#unreported;
    this.#unreported = 0;
    this.#reportAgainMs = nowMs + REPORT_INTERVAL_MS;
    const path = this.knownPath(ino) ?? `inode ${ino}`;
    const remedy = error.remedy === undefined ? {} : { remedy: error.remedy };
    this.log.warn({ path, op: what, count, code: error.code, cause: error.message, ...remedy }, 'operations failed');
  }
  #unreported = 0;
  #reportAgainMs = -Infinity;

  async #report(inode: Inode, error: FsError, what: string): Promise<void> {
    const path = await this.pathOf(inode.ino);
    if (this.#lost.has(inode.ino)) this.#lost.set(inode.ino, path);
    const remedy = error.remedy === undefined ? {} : { remedy: error.remedy };
    this.log.error({ path, ino: inode.ino, code: error.code, cause: error.message, ...remedy }, what);
  }

  /** Paths of files that lost written data, of which no program was told. */
  lostPaths(): string[] {
    return [...this.#lost.values()];
  }
}
