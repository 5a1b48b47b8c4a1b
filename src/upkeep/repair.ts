/**
 * Brings the blocks that this node holds to where placement wants them: the driver of repair-plan.ts. After each change of
 * placement it walks through its own blocks, a batch at a time, asks their wanted holders whether they have them, and copies
 * what they lack. When a walk finds nothing left to do it is settled with that placement, and remembers that on disk.
 *
 * A node that is being drained is settled only when every block on it is on all of its wanted holders, block by block, as
 * these said: then nothing depends on the node any more.
 */
import { IDS_PER_MESSAGE_MAX, blockMethods, parseHasReply } from '../blocks/block-messages.ts';
import type { BlockService } from '../blocks/block-service.ts';
import type { BlockEngine } from '../blocks/types.ts';
import { isDrained } from '../catalog/membership.ts';
import type { CatalogService, Pool } from '../catalog/types.ts';
import type { Clock, Kv, Timer } from '../env.ts';
import { FormatError } from '../errors.ts';
import type { NodeId, PoolId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS, NODE_FULL_FRACTION } from '../limits.ts';
import type { Logger } from '../log.ts';
import type { Network } from '../net/types.ts';
import { planCopies, whomToAsk } from './repair-plan.ts';
import type { CopyWork, HeldBlock, NodeView, RepairView } from './repair-plan.ts';

/** A change of the nodes often comes as several changes of the catalog: one walk is enough for them. */
const BEGIN_AFTER_MS = 500;
/** After a walk that left something open; doubles. */
const AGAIN_MIN_MS = 500;
const AGAIN_MAX_MS = 30_000;
const AGAIN_DRAINED_MAX_MS = 2_000;
/** What is looked at takes at most a third of the time: a walk waits for twice what the last one took. */
const PAUSE_FACTOR = 2;
/** Blocks that are looked at together: a question of some 35 KiB to each node, and little to remember. */
const BATCH_COUNT = 1_000;
/** Copies on their way at once: they keep the disks busy and leave room for readers and writers. */
const COPIES_AT_ONCE = 4;
/** A node that is down for longer is replaced by the next in each block's order. */
export const GONE_AFTER_MS = 600_000;

export interface RepairerOptions {
  readonly self: NodeId;
  readonly engine: BlockEngine;
  readonly blocks: Pick<BlockService, 'copyTo' | 'oweTo' | 'putsEnded'>;
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly clock: Clock;
  /** For the settled placements (keys `r...`). The caller closes it. */
  readonly kv: Kv;
  readonly log: Logger;
}

/** Part of a node's report. */
export interface RepairReport {
  /** The latest placement of each pool with which this node has finished: the pool's `placementEpoch`. */
  readonly settled: readonly { readonly pool: number; readonly epoch: number }[];
  /** Blocks looked at in the present walk; undefined between walks. */
  readonly scannedCount?: number;
  /** Blocks here that lacked a copy elsewhere when they were last looked at; of a walk that is not through, less is known. */
  readonly missingCount: number;
  readonly missingBytes: number;
  /** Copies made since the start. */
  readonly copiedCount: number;
  readonly copiedBytes: number;
}

const KEY_PREFIX = 0x72;
const VALUE_VERSION = 1;

export class Repairer {
  readonly #o: RepairerOptions;
  readonly #settled = new Map<PoolId, number>();
  readonly #downSinceMs = new Map<NodeId, number>();
  readonly #closing = new AbortController();
  readonly #unsubscribe: (() => void)[] = [];
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** Something has changed since the walk began. */
  #again = false;
  #againMs = AGAIN_MIN_MS;
  #scannedCount: number | undefined;
  #missing = { count: 0, bytes: 0 };
  #copied = { count: 0, bytes: 0 };

  constructor(options: RepairerOptions) {
    this.#o = options;
  }

  /** After the network listens. */
  async start(): Promise<void> {
    const { kv, catalog, network, clock } = this.#o;
    const range = { gte: Uint8Array.of(KEY_PREFIX), lt: Uint8Array.of(KEY_PREFIX + 1) };
    for await (const [key, value] of kv.scan(range)) this.#settled.set(...decodeSettled(key, value));
    this.#unsubscribe.push(
      catalog.subscribe(() => this.#wake(BEGIN_AFTER_MS)),
      network.onPeerState((node, state) => {
        if (state === 'up') this.#downSinceMs.delete(node);
        else if (!this.#downSinceMs.has(node)) this.#downSinceMs.set(node, clock.monotonicMs());
        if (state === 'up') this.#wake(BEGIN_AFTER_MS);
      }),
    );
    this.#wake(BEGIN_AFTER_MS);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#timer?.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    await this.#running;
  }

  settledEpoch(pool: PoolId): number {
    return this.#settled.get(pool) ?? 0;
  }

  report(): RepairReport {
    const { pools } = this.#o.catalog.current();
    return {
      settled: pools.map((pool) => ({ pool: pool.id, epoch: this.settledEpoch(pool.id) })),
      ...(this.#scannedCount === undefined ? {} : { scannedCount: this.#scannedCount }),
      missingCount: this.#missing.count,
      missingBytes: this.#missing.bytes,
      copiedCount: this.#copied.count,
      copiedBytes: this.#copied.bytes,
    };
  }

  #wake(inMs: number): void {
    if (this.#closing.signal.aborted) return;
    this.#again = true;
    if (this.#running !== undefined || this.#openPools().length === 0) return;
    this.#againMs = AGAIN_MIN_MS;
    this.#schedule(inMs);
  }

  #schedule(inMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#o.clock.setTimer(inMs, () => {
      this.#running = this.#walkAll().finally(() => (this.#running = undefined));
    });
  }

  #openPools(): Pool[] {
    const { catalog } = this.#o;
    return catalog.current().pools.filter((pool) => this.settledEpoch(pool.id) < pool.placementEpoch);
  }

  /** Never rejects. */
  async #walkAll(): Promise<void> {
    const { clock, log } = this.#o;
    const startMs = clock.monotonicMs();
    this.#again = false;
    const before = this.#copied.count;
    try {
      this.#scannedCount = 0;
      const found = { count: 0, bytes: 0 };
      for (const pool of this.#openPools()) {
        const missing = await this.#walk(pool);
        found.count += missing.count;
        found.bytes += missing.bytes;
      }
      this.#missing = found;
      if (this.#copied.count > before) {
        log.info({ copied: this.#copied.count - before, missing: found.count }, 'copied blocks to where they belong');
      }
    } catch (error) {
      if (!this.#closing.signal.aborted) log.warn({ error: String(error) }, 'repair was interrupted; it starts over');
    }
    this.#scannedCount = undefined;
    if (this.#closing.signal.aborted || this.#openPools().length === 0) return;
    const progressed = this.#copied.count > before;
    this.#againMs = progressed ? AGAIN_MIN_MS : Math.min(2 * this.#againMs, this.#longestPauseMs());
    const pauseMs = this.#again ? BEGIN_AFTER_MS : this.#againMs;
    this.#schedule(Math.max(pauseMs, PAUSE_FACTOR * (clock.monotonicMs() - startMs)));
  }

  /** Others work for a node that is being drained: it looks more often how far they are. */
  #longestPauseMs(): number {
    return isDrained(this.#o.catalog.current(), this.#o.self) ? AGAIN_DRAINED_MAX_MS : AGAIN_MAX_MS;
  }

  /** What lacked a copy and still does, as far as this node has to care. Settles the pool if that is nothing. */
  async #walk(pool: Pool): Promise<{ count: number; bytes: number }> {
    const { catalog, self, engine, blocks } = this.#o;
    const current = catalog.current();
    // Puts that were checked against the placement before this one are not in the list yet.
    await blocks.putsEnded();
    const mustAll = isDrained(current, self);
    const left = { count: 0, bytes: 0 };
    const asked = new Map<NodeId, number>();
    const view: RepairView = {
      self,
      catalog: current,
      pool,
      viewOf: (node) => this.#viewOf(node),
      isSettled: (node) => (asked.get(node) ?? 0) >= pool.placementEpoch,
    };
    let batch: HeldBlock[] = [];
    const flush = async (): Promise<void> => {
      const open = await this.#mend(view, batch, asked, mustAll);
      left.count += open.count;
      left.bytes += open.bytes;
      this.#scannedCount = (this.#scannedCount ?? 0) + batch.length;
      batch = [];
      this.#closing.signal.throwIfAborted();
    };
    for await (const { id, lengthBytes, generation } of engine.list(pool.id)) {
      batch.push({ id, lengthBytes, generation });
      if (batch.length >= BATCH_COUNT) await flush();
    }
    if (batch.length > 0) await flush();
    if (left.count === 0) await this.#settle(pool);
    return left;
  }

  async #mend(
    view: RepairView,
    batch: readonly HeldBlock[],
    settled: Map<NodeId, number>,
    mustAll: boolean,
  ): Promise<{ count: number; bytes: number }> {
    const holders = batch.map(() => new Set<NodeId>());
    const silent = new Set<NodeId>();
    await Promise.all(
      [...whomToAsk(view, batch)].map(async ([node, indexes]) => {
        try {
          for (let at = 0; at < indexes.length; at += IDS_PER_MESSAGE_MAX) {
            const part = indexes.slice(at, at + IDS_PER_MESSAGE_MAX);
            const header = { pool: view.pool.id, ids: part.map((index) => batch[index]?.id) };
            const options = { timeoutMs: ATTEMPT_TIMEOUT_MS, signal: this.#closing.signal };
            const reply = await this.#o.network.call(node, blockMethods.has, header, options);
            parseHasReply(reply.header, part.length).forEach((length, index) => {
              if (length !== null) holders[part[index] ?? 0]?.add(node);
            });
            settled.set(node, settledIn(reply.header));
          }
        } catch {
          silent.add(node);
        }
      }),
    );
    // Whoever did not answer is as one that is away, for now.
    const now: RepairView = { ...view, viewOf: (node) => (silent.has(node) ? 'away' : view.viewOf(node)) };
    const plan = planCopies(now, batch, (index) => holders[index] ?? new Set());
    const failed = await this.#copyAll(view.pool, plan.work);
    const owed = await this.#o.blocks.oweTo(view.pool.id, plan.owed);
    if (!mustAll) {
      const open = [...failed, ...(owed ? [] : plan.owed)];
      return { count: open.length, bytes: open.reduce((sum, work) => sum + work.lengthBytes, 0) };
    }
    // A drained node is done when the others have told that they have it all: what was just copied is asked for again.
    return { count: plan.missingCount, bytes: plan.missingBytes };
  }

  /** Those that could not be made. */
  async #copyAll(pool: Pool, work: readonly CopyWork[]): Promise<CopyWork[]> {
    const failed: CopyWork[] = [];
    const queue = work.values();
    const lanes = Array.from({ length: Math.min(COPIES_AT_ONCE, work.length) }, async () => {
      for (const task of queue) {
        this.#closing.signal.throwIfAborted();
        if (await this.#o.blocks.copyTo(task.to, pool, task.id, task.generation)) {
          this.#copied = { count: this.#copied.count + 1, bytes: this.#copied.bytes + task.lengthBytes };
        } else {
          failed.push(task);
        }
      }
    });
    await Promise.all(lanes);
    return failed;
  }

  async #settle(pool: Pool): Promise<void> {
    await this.#o.kv.batch([encodeSettled(pool.id, pool.placementEpoch)], { sync: true });
    this.#settled.set(pool.id, pool.placementEpoch);
  }

  #viewOf(node: NodeId): NodeView {
    if (node === this.#o.self) return 'up';
    const { state, news } = this.#o.network.peer(node);
    if (state === 'down') {
      const sinceMs = this.#downSinceMs.get(node);
      return sinceMs !== undefined && this.#o.clock.monotonicMs() - sinceMs > GONE_AFTER_MS ? 'gone' : 'away';
    }
    return (news?.fullPermille ?? 0) > NODE_FULL_FRACTION * 1000 ? 'full' : 'up';
  }
}

function settledIn(header: unknown): number {
  const { settledEpoch } = header as { settledEpoch?: unknown };
  return typeof settledEpoch === 'number' ? settledEpoch : 0;
}

function encodeSettled(pool: PoolId, epoch: number): { key: Uint8Array; value: Uint8Array } {
  const key = new Uint8Array(5);
  key[0] = KEY_PREFIX;
  new DataView(key.buffer).setUint32(1, pool);
  const value = new Uint8Array(9);
  value[0] = VALUE_VERSION;
  new DataView(value.buffer).setFloat64(1, epoch);
  return { key, value };
}

function decodeSettled(key: Uint8Array, value: Uint8Array): [PoolId, number] {
  if (key.length !== 5 || value.length !== 9 || value[0] !== VALUE_VERSION) {
    throw new FormatError('what repair has settled is written in another format', {
      remedy: 'Use the newer version of tatamifs that wrote it.',
    });
  }
  const pool = new DataView(key.buffer, key.byteOffset).getUint32(1) as PoolId;
  return [pool, new DataView(value.buffer, value.byteOffset).getFloat64(1)];
}
