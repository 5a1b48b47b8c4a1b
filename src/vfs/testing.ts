/** What the tests of this folder share: one cluster in memory, on which several mounts can be opened. */
import { createHash } from 'node:crypto';
import type { BlockClient, BlockRef, PutReceipt } from '../blocks/types.ts';
import type { CancelSignal } from '../cancel.ts';
import type { Catalog, CatalogService, Pool } from '../catalog/types.ts';
import { PAGE_BYTES } from '../limits.ts';
import type { Clock, Timer } from '../env.ts';
import { BlockNotFoundError, CancelledError } from '../errors.ts';
import {
  asBlockId,
  blockIdToHex,
  type BlockId,
  type Epoch,
  type GroupId,
  type Ino,
  type PoolId,
  type SessionId,
  ROOT_INO,
} from '../ids.ts';
import { LocalMetaClient } from '../meta/local-client.ts';
import { MetaStore } from '../meta/meta-store.ts';
import { TestKv } from '../meta/testing.ts';
import type {
  AnswerForOrphans,
  MetaClient,
  Mutation,
  MutationResult,
  Query,
  QueryOf,
  QueryResults,
} from '../meta/types.ts';
import type { Caller, KernelNotifier } from './ops.ts';
import type { AccessTimeMode, VfsLimits, VfsLog } from './options.ts';
import { Vfs } from './vfs.ts';

export const ROOT: Caller = { uid: 0, gid: 0, pid: 1 };

/** A clock that moves when told. */
export class HandClock implements Clock {
  #nowMs = 1_000;
  #timers: { readonly atMs: number; readonly callback: () => void }[] = [];

  monotonicMs(): number {
    return this.#nowMs;
  }
  wallNs(): bigint {
    return 1_700_000_000_000_000_000n + BigInt(Math.floor(this.#nowMs * 1e6));
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return { cancel: () => (this.#timers = this.#timers.filter((other) => other !== timer)) };
  }
  sleep(delayMs: number, signal?: CancelSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = this.setTimer(delayMs, resolve);
      signal?.addEventListener('abort', () => {
        timer.cancel();
        reject(new CancelledError());
      });
    });
  }
  get timerCount(): number {
    return this.#timers.length;
  }

  /** Runs what is due within `ms`, letting promises go on in between. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      await turns();
      const next = this.#timers.filter((timer) => timer.atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
    }
    this.#nowMs = endMs;
    await turns();
  }
}

/** Lets everything that is ready run: rounds of the event loop, no time. */
export async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Blocks in a Map, with faults to inject. */
export class FakeBlocks implements BlockClient {
  readonly stored = new Map<string, Uint8Array>();
  readonly reads: { key: string; offset: number; length: number; priority: string }[] = [];
  /** Of each read at random: the blocks that may be next. */
  readonly besides: (readonly string[])[] = [];
  aheadCount?: () => number;
  generation = 1;
  puts = 0;
  putsInFlight = 0;
  putsInFlightMax = 0;
  readsInFlight = 0;
  readsInFlightMax = 0;
  /** Awaited before a put takes effect; throw to fail it. */
  beforePut: ((data: Uint8Array) => Promise<void> | void) | undefined;
  beforeRead: ((key: string, priority: string) => Promise<void> | void) | undefined;

  async put(
    _pool: PoolId,
    data: Uint8Array,
    options?: { readonly signal?: CancelSignal; readonly minGeneration?: number },
  ): Promise<PutReceipt> {
    this.puts += 1;
    this.putsInFlight += 1;
    this.putsInFlightMax = Math.max(this.putsInFlightMax, this.putsInFlight);
    try {
      const id = asBlockId(createHash('sha256').update(data).digest());
      await this.beforePut?.(data);
      if (!Buffer.from(createHash('sha256').update(data).digest()).equals(id))
        throw new Error('the buffer changed during put');
      this.stored.set(blockIdToHex(id), new Uint8Array(data));
      return { id, generation: Math.max(this.generation, options?.minGeneration ?? 0) };
    } finally {
      this.putsInFlight -= 1;
    }
  }

  async read(
    _pool: PoolId,
    id: BlockId,
    blockBytes: number,
    offset: number,
    target: Uint8Array,
    options?: { readonly signal?: CancelSignal; readonly priority?: 'foreground' | 'readahead' },
  ): Promise<void> {
    const data = await this.#read(id, offset, target.length, options?.priority);
    if (data.length !== blockBytes) throw new Error('wrong block length');
    target.set(data.subarray(offset, offset + target.length));
  }

  async readBlock(
    _pool: PoolId,
    id: BlockId,
    blockBytes: number,
    options?: {
      readonly signal?: CancelSignal;
      readonly priority?: 'foreground' | 'readahead';
      readonly beside?: Iterable<BlockRef>;
    },
  ): Promise<Uint8Array> {
    if (options?.beside !== undefined) this.#noteBeside(options.beside);
    return new Uint8Array(await this.#read(id, 0, blockBytes, options?.priority));
  }

  async readPages(
    _pool: PoolId,
    id: BlockId,
    blockBytes: number,
    firstPage: number,
    pageCount: number,
    options?: {
      readonly signal?: CancelSignal;
      readonly priority?: 'foreground' | 'readahead';
      readonly beside?: Iterable<BlockRef>;
    },
  ): Promise<Uint8Array[]> {
    this.#noteBeside(options?.beside ?? []);
    const offset = firstPage * PAGE_BYTES;
    const end = Math.min(blockBytes, offset + pageCount * PAGE_BYTES);
    const data = await this.#read(id, offset, end - offset, options?.priority);
    const pages: Uint8Array[] = [];
    for (let at = offset; at < end; at += PAGE_BYTES) pages.push(data.slice(at, Math.min(end, at + PAGE_BYTES)));
    return pages;
  }

  /** Counts the blocks. */
  renewed = 0;
  /** May take blocks away, or fail. */
  beforeRenew: ((ids: readonly BlockId[]) => Promise<void> | void) | undefined;
  async renew(
    _pool: PoolId,
    ids: readonly BlockId[],
    options?: { readonly minGeneration?: number },
  ): Promise<(PutReceipt | undefined)[]> {
    await this.beforeRenew?.(ids);
    this.renewed += ids.length;
    const generation = Math.max(this.generation, options?.minGeneration ?? 0);
    return ids.map((id) => (this.stored.has(blockIdToHex(id)) ? { id, generation } : undefined));
  }

  /** As memory that is used again at once would look to who still reads it. */
  recycle(block: Uint8Array): void {
    block.fill(0xdb);
  }

  #noteBeside(beside: Iterable<BlockRef>): void {
    this.besides.push(Array.from(beside, (ref) => blockIdToHex(ref.id)));
  }

  async #read(id: BlockId, offset: number, length: number, priority = 'foreground'): Promise<Uint8Array> {
    const key = blockIdToHex(id);
    this.reads.push({ key, offset, length, priority });
    this.readsInFlight += 1;
    this.readsInFlightMax = Math.max(this.readsInFlightMax, this.readsInFlight);
    try {
      await this.beforeRead?.(key, priority);
      const data = this.stored.get(key);
      if (data === undefined) throw new BlockNotFoundError(`no block ${key}`);
      return data;
    } finally {
      this.readsInFlight -= 1;
    }
  }

  async locate(): Promise<[]> {
    return [];
  }
  async close(): Promise<void> {}
}

/** Records calls, and can be told to fail or wait. */
export class WatchedMeta implements MetaClient {
  readonly sessionId: SessionId;
  readonly mutations: Mutation[] = [];
  readonly queries: Query[] = [];
  syncs = 0;
  readonly #inner: MetaClient;
  beforeMutate: ((mutation: Mutation) => Promise<void> | void) | undefined;
  /** It does not tell yet which of the removed files it has open. */
  owesAnswers = false;
  beforeKeep: ((open: readonly Ino[]) => Promise<void> | void) | undefined;
  beforeSync: (() => Promise<void> | void) | undefined;
  afterMutate: ((mutation: Mutation) => Promise<void> | void) | undefined;
  beforeQuery: ((query: Query) => Promise<void> | void) | undefined;
  afterQuery: ((query: Query) => Promise<void> | void) | undefined;

  constructor(inner: MetaClient) {
    this.#inner = inner;
    this.sessionId = inner.sessionId;
  }
  async mutate(mutation: Mutation, options?: { readonly signal?: CancelSignal }): Promise<MutationResult> {
    this.mutations.push(mutation);
    await this.beforeMutate?.(mutation);
    const result = await this.#inner.mutate(mutation, options);
    await this.afterMutate?.(mutation);
    return result;
  }
  async query<Op extends Query['op']>(
    query: QueryOf<Op>,
    options?: { readonly signal?: CancelSignal },
  ): Promise<QueryResults[Op]> {
    this.queries.push(query);
    await this.beforeQuery?.(query);
    const result = await this.#inner.query<Op>(query, options);
    await this.afterQuery?.(query);
    return result;
  }
  waitForLock(...args: Parameters<MetaClient['waitForLock']>): ReturnType<MetaClient['waitForLock']> {
    return this.#inner.waitForLock(...args);
  }
  async sync(): Promise<void> {
    this.syncs += 1;
    await this.beforeSync?.();
    await this.#inner.sync();
  }
  async close(): Promise<void> {
    await this.#inner.close();
  }
  onUnlinked(answer: AnswerForOrphans): void {
    this.#inner.onUnlinked?.(async (inos, keep) => {
      if (this.owesAnswers) return;
      await answer(inos, async (open) => {
        await this.beforeKeep?.(open);
        await keep(open);
      });
    });
  }
  onSessionLost(callback: () => void): void {
    this.#lostCallbacks.push(callback);
  }
  /** As when the servers have not heard of the mount for too long. */
  loseSession(): void {
    for (const callback of this.#lostCallbacks) callback();
  }
  readonly #lostCallbacks: (() => void)[] = [];
  isSessionDoubtful = false;
  onSessionDoubtful(callback: () => void): void {
    this.#doubtCallbacks.push(callback);
  }
  /** As when no server has answered for a lease. */
  doubtSession(): void {
    this.isSessionDoubtful = true;
    for (const callback of this.#doubtCallbacks) callback();
  }
  readonly #doubtCallbacks: (() => void)[] = [];
  /** Commits so far. */
  get commits(): Extract<Mutation, { op: 'commit' }>[] {
    return this.mutations.filter((mutation) => mutation.op === 'commit');
  }
}

export interface TestMount {
  readonly vfs: Vfs;
  readonly meta: WatchedMeta;
  readonly logged: { readonly level: string; readonly facts: object; readonly message: string }[];
}

export class TestCluster {
  readonly clock = new HandClock();
  readonly blocks = new FakeBlocks();
  readonly catalog: Pick<CatalogService, 'current' | 'lookForNewer'>;
  /** Pools that the mounts hear of when they ask for a newer catalog. */
  readonly newPools: Pool[] = [];
  readonly #store: MetaStore;
  #mounts = 0;

  private constructor(store: MetaStore, blockSizeBytes: number) {
    this.#store = store;
    const pool = {
      id: 1 as PoolId,
      name: 'files',
      kind: 'filesystem' as const,
      copies: 2,
      blockSizeBytes,
      pgCount: 128,
      domain: 'node' as const,
      upmap: {},
      placementEpoch: 1 as Epoch,
    };
    let catalog: Catalog = {
      formatVersion: 1,
      clusterId: '0'.repeat(32),
      epoch: 1 as Epoch,
      nodes: [],
      voters: [],
      pools: [pool],
      groups: [],
      tablets: [{ firstIno: ROOT_INO, group: 'g0' as GroupId }],
    };
    this.catalog = {
      current: () => catalog,
      lookForNewer: async () => {
        catalog = { ...catalog, pools: [...catalog.pools, ...this.newPools.splice(0)] };
      },
    };
  }

  static async start(blockSizeBytes = 64 * 1024): Promise<TestCluster> {
    return new TestCluster(await MetaStore.open({ kv: new TestKv() }), blockSizeBytes);
  }

  /** The servers have not heard of the mount for too long: its session ends there, and the mount is told. */
  async expire({ meta }: TestMount): Promise<void> {
    await LocalMetaClient.open({ store: this.#store, wallNs: () => this.clock.wallNs(), sessionId: meta.sessionId });
    meta.loseSession();
  }

  /** Another mount of the same files. Metadata takes `metaDelay` before it answers, if given. */
  async mount(limits: Partial<VfsLimits> = {}, accessTimes?: AccessTimeMode): Promise<TestMount> {
    this.#mounts += 1;
    const sessionId = this.#mounts.toString(16).padStart(32, '0') as SessionId;
    let ticks = 0n;
    const wallNs = (): bigint => this.clock.wallNs() + (ticks += 1n);
    const meta = new WatchedMeta(await LocalMetaClient.open({ store: this.#store, wallNs, sessionId }));
    const logged: TestMount['logged'] = [];
    const note = (level: string) => (facts: object, message: string) => void logged.push({ level, facts, message });
    const log: VfsLog = { debug: note('debug'), warn: note('warn'), error: note('error') };
    const vfs = new Vfs({
      meta,
      blocks: this.blocks,
      catalog: this.catalog,
      env: { clock: this.clock },
      log,
      space: async () => ({ totalBytes: 2_000_000, freeBytes: 1_000_000 }),
      limits: { inlineMaxBytes: 1024, watchedMs: 0, ...limits },
      ...(accessTimes !== undefined && { accessTimes }),
    });
    return { vfs, meta, logged };
  }
}

/** What a mount tells the kernel to drop. */
export class WatchedKernel implements KernelNotifier {
  readonly expiresNames = true;
  readonly dropped: string[] = [];

  async invalidateInode(ino: Ino): Promise<void> {
    this.dropped.push(`pages of ${ino}`);
  }
  async invalidateAttributes(ino: Ino): Promise<void> {
    this.dropped.push(`attributes of ${ino}`);
  }
  async store(ino: Ino, offset: number): Promise<boolean> {
    this.dropped.push(`content of ${ino} at ${offset}`);
    return true;
  }
  invalidateEntry(): void {}
}

export function name(text: string): Uint8Array {
  return Buffer.from(text);
}

/** Bytes of a read, in one buffer. */
export async function readAll(vfs: Vfs, handle: number, offset: number, size: number): Promise<Buffer> {
  const result = await vfs.read(ROOT, handle, offset, size);
  const data = Buffer.concat(result.chunks);
  result.release?.();
  return data;
}

/** Bytes that differ from place to place and from seed to seed. */
export function pattern(length: number, seed: number): Buffer {
  const data = Buffer.allocUnsafe(length);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let index = 0; index < length; index += 1) {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    data[index] = state;
  }
  return data;
}
