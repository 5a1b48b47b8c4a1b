/**
 * Brings the blocks that this node holds to where placement wants them. After each change of placement (a node has come, is
 * being drained, is out because it was down for too long, or is back) it walks through its own blocks (repair-walk.ts). When
 * a walk finds nothing left to do it is settled with that placement, and remembers that on disk.
 *
 * A node that is being drained is settled only when every block on it is on all of its wanted holders, block by block, as
 * these said: then nothing depends on the node any more.
 *
 * Nodes that are down are waited for (absence.ts), but not where they may have left one copy alone: such blocks are copied
 * after seconds to the next node of their order ("rescue").
 *
 * When all that is done, copies that nobody wants here are given up (surplus.ts).
 */
import type { BlockService } from '../blocks/block-service.ts';
import { pgOf, wantedCopies } from '../catalog/placement.ts';
import type { BlockEngine } from '../blocks/types.ts';
import { REPAIR_AFTER_MS } from '../catalog/absence.ts';
import { Cancellation } from '../cancel.ts';
import { activeNodes, dataNodes, isDrained, stayingNodes } from '../catalog/membership.ts';
import type { Catalog, CatalogService, Pool } from '../catalog/types.ts';
import type { Clock, Kv, Timer } from '../env.ts';
import { CancelledError } from '../errors.ts';
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import { NODE_FULL_FRACTION } from '../limits.ts';
import type { Logger } from '../log.ts';
import type { Network } from '../net/types.ts';
import { wantedHolders } from './repair-plan.ts';
import type { CopyWork, NodeView, RepairView } from './repair-plan.ts';
import { bytesOf, sumOf, walkPool } from './repair-walk.ts';
import type { Amount, WalkOptions } from './repair-walk.ts';
import { Scarcity } from './scarcity.ts';
import type { ScarceReport } from './scarcity.ts';
import { SettledPlacements } from './settled-placements.ts';
import { giveUpSurplus } from './surplus.ts';

/** A change of the nodes often comes as several changes of the catalog: one walk is enough for them. */
const BEGIN_AFTER_MS = 500;
/**
 * Blocks that have enough copies, and only not where they belong, are moved when nodes have not come or gone for so long:
 * several often come one after the other, and the first would be given what goes on to the next.
 */
export const BALANCE_AFTER_MS = 15_000;
/** After a walk that left something open; doubles. */
const AGAIN_MIN_MS = 500;
const AGAIN_MAX_MS = 30_000;
const AGAIN_DRAINED_MAX_MS = 2_000;
/** What is looked at takes at most a third of the time: a walk waits for twice what the last one took. */
const PAUSE_FACTOR = 2;
/** A node that is down for longer is replaced by the next in each block's order, in walks that there are for other reasons. */
export const GONE_AFTER_MS = REPAIR_AFTER_MS;
/** Longer than a process takes to be started again: then a rescue would have been for nothing. */
export const RESCUE_AFTER_MS = 15_000;
/** Copies that are not wanted here any more are kept for that long at least: whoever comes may go again. Doubles. */
export const SURPLUS_AFTER_MS = 10_000;
const SURPLUS_AFTER_MAX_MS = 300_000;

export interface RepairerOptions {
  readonly self: NodeId;
  readonly engine: BlockEngine;
  readonly blocks: Pick<BlockService, 'copyTo' | 'oweTo' | 'putsEnded' | 'isBusy' | 'giveUp'>;
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
  /** Copies that this node would have to make and that wait, as the blocks have enough of them. Absent: none. */
  readonly postponedCount?: number;
  readonly postponedBytes?: number;
  /** Of the present walk: found and still to be copied from here, and how fast that goes. Absent between walks. */
  readonly leftBytes?: number;
  readonly bytesPerSecond?: number;
  /** Of pools whose blocks have fewer copies than the pool wants, or may have. Absent in reports of earlier versions. */
  readonly scarce?: readonly ScarceReport[];
  /** Copies made since the start. */
  readonly copiedCount: number;
  readonly copiedBytes: number;
  /** Copies that were not wanted here any more and were deleted, since the start. Absent in reports of earlier versions. */
  readonly givenUpCount?: number;
  readonly givenUpBytes?: number;
}

export class Repairer {
  readonly #o: RepairerOptions;
  readonly #settled: SettledPlacements;
  readonly #scarcity: Scarcity;
  readonly #downSinceMs = new Map<NodeId, number>();
  readonly #closing = new Cancellation();
  readonly #unsubscribe: (() => void)[] = [];
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** Something has changed since the walk began. */
  #again = false;
  #againMs = AGAIN_MIN_MS;
  /** Of the present walk. */
  #walk: { startMs: number; scannedCount: number; foundBytes: number; copiedBytes: number } | undefined;
  #missing = { count: 0, bytes: 0 };
  #postponed = { count: 0, bytes: 0 };
  /** What the present walk goes by; another ends it. */
  #walkingBy = '';
  #stopWalk = new Cancellation();
  /** When blocks may be moved that have copies enough. */
  #balanceDueMs = 0;
  #placementEpochs = '';
  #copied = { count: 0, bytes: 0 };
  #givenUp = { count: 0, bytes: 0 };
  /** Placements by which there is nothing left here to give up. */
  #trimmed = new Map<PoolId, number>();
  #surplusAfterMs = SURPLUS_AFTER_MS;
  #surplusDueMs = 0;
  /** What the last rescue that left nothing open was for. */
  #rescued = '';

  constructor(options: RepairerOptions) {
    this.#o = options;
    this.#settled = new SettledPlacements(options.kv);
    this.#scarcity = new Scarcity({
      isEmpty: () => options.engine.usage().blockCount === 0,
      isSettled: (pool) => this.#settled.has(pool),
    });
  }

  /** After the network listens. */
  async start(): Promise<void> {
    const { catalog, network, clock } = this.#o;
    await this.#settled.load();
    this.#scarcity.note(catalog.current());
    this.#unsubscribe.push(
      catalog.subscribe(() => {
        this.#noteCatalog();
        this.#wake(BEGIN_AFTER_MS);
      }),
      network.onPeerState((node, state) => {
        if (state === 'up') {
          this.#downSinceMs.delete(node);
          // What stood in for it may not be wanted any more.
          this.#trimmed = new Map();
          this.#wake(BEGIN_AFTER_MS);
        } else if (!this.#downSinceMs.has(node)) {
          this.#downSinceMs.set(node, clock.monotonicMs());
          // What is to be done for other reasons does not wait for that.
          this.#wake(this.#soonMs());
        }
      }),
    );
    this.#placementEpochs = placementEpochsOf(catalog.current());
    this.#wake(BEGIN_AFTER_MS);
  }

  #noteCatalog(): void {
    const current = this.#o.catalog.current();
    this.#scarcity.note(current);
    const epochs = placementEpochsOf(current);
    if (epochs !== this.#placementEpochs) {
      this.#placementEpochs = epochs;
      this.#balanceDueMs = this.#o.clock.monotonicMs() + BALANCE_AFTER_MS;
    }
    if (this.#running !== undefined && walkRuleOf(current) !== this.#walkingBy) {
      this.#stopWalk.abort(new CancelledError('the placement has changed, or balancing is paused or goes on'));
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#stopWalk.abort();
    this.#timer?.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    await this.#running;
  }

  settledEpoch(pool: PoolId): number {
    return this.#settled.epochOf(pool);
  }

  report(): RepairReport {
    const { pools } = this.#o.catalog.current();
    return {
      settled: pools.map((pool) => ({ pool: pool.id, epoch: this.settledEpoch(pool.id) })),
      ...this.#progress(),
      missingCount: this.#missing.count,
      missingBytes: this.#missing.bytes,
      ...(this.#postponed.count === 0
        ? {}
        : { postponedCount: this.#postponed.count, postponedBytes: this.#postponed.bytes }),
      scarce: this.#scarcity.report(pools),
      copiedCount: this.#copied.count,
      copiedBytes: this.#copied.bytes,
      givenUpCount: this.#givenUp.count,
      givenUpBytes: this.#givenUp.bytes,
    };
  }

  #progress(): Partial<RepairReport> {
    if (this.#walk === undefined) return {};
    const { startMs, scannedCount, foundBytes, copiedBytes } = this.#walk;
    const tookMs = Math.max(1, this.#o.clock.monotonicMs() - startMs);
    return {
      scannedCount,
      leftBytes: Math.max(0, foundBytes - copiedBytes),
      bytesPerSecond: Math.round((copiedBytes * 1_000) / tookMs),
    };
  }

  #wake(inMs: number): void {
    if (this.#closing.signal.aborted) return;
    this.#again = true;
    this.#surplusAfterMs = SURPLUS_AFTER_MS;
    this.#surplusDueMs = this.#o.clock.monotonicMs() + SURPLUS_AFTER_MS;
    if (this.#running !== undefined || !this.#hasWork()) return;
    this.#againMs = AGAIN_MIN_MS;
    this.#schedule(inMs);
  }

  #schedule(inMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#o.clock.setTimer(inMs, () => {
      this.#running = this.#walkAll().finally(() => (this.#running = undefined));
    });
  }

  #hasWork(): boolean {
    return this.#openPools().length > 0 || this.#downSinceMs.size > 0 || this.#untrimmedPools().length > 0;
  }

  #openPools(): Pool[] {
    const { catalog } = this.#o;
    return catalog.current().pools.filter((pool) => !this.#settled.has(pool));
  }

  #untrimmedPools(): Pool[] {
    const { pools } = this.#o.catalog.current();
    return pools.filter((pool) => (this.#trimmed.get(pool.id) ?? 0) < pool.placementEpoch);
  }

  /** Never rejects. */
  async #walkAll(): Promise<void> {
    const { clock, log } = this.#o;
    const startMs = clock.monotonicMs();
    this.#again = false;
    this.#walkingBy = walkRuleOf(this.#o.catalog.current());
    this.#stopWalk = new Cancellation();
    const postponed = { count: 0, bytes: 0 };
    const before = this.#copied.count;
    const found = { count: 0, bytes: 0 };
    const add = ({ count, bytes }: Amount): void => {
      found.count += count;
      found.bytes += bytes;
    };
    try {
      this.#walk = { startMs, scannedCount: 0, foundBytes: 0, copiedBytes: 0 };
      const rescue = this.#rescueDue();
      for (const pool of rescue.pools) add(await this.#rescue(pool, rescue.down));
      if (found.count === 0) this.#rescued = rescue.name;
      const open = this.#openPools();
      for (const pool of open) {
        const result = await this.#walkPool(pool);
        add(result.left);
        postponed.count += result.postponed.count;
        postponed.bytes += result.postponed.bytes;
      }
      this.#postponed = postponed;
      const isSurplusDue = clock.monotonicMs() >= this.#surplusDueMs;
      if (open.length === 0 && found.count === 0 && isSurplusDue) await this.#trim();
      this.#missing = found;
      if (this.#copied.count > before) {
        log.info({ copied: this.#copied.count - before, missing: found.count }, 'copied blocks to where they belong');
      }
    } catch (error) {
      this.#scarcity.breakOff();
      found.count++;
      if (!this.#stopWalk.signal.aborted) log.warn({ error: String(error) }, 'repair was interrupted; it starts over');
    }
    this.#walk = undefined;
    if (this.#closing.signal.aborted) return;
    const isDone = found.count === 0 && (this.#openPools().length === 0 || postponed.count > 0);
    if (isDone && !this.#again) {
      const later = [
        ...(postponed.count > 0 ? this.#balanceInMs() : []),
        ...(this.#mayRescueLater() ? [RESCUE_AFTER_MS + BEGIN_AFTER_MS] : []),
        ...(this.#untrimmedPools().length > 0
          ? [Math.max(BEGIN_AFTER_MS, this.#surplusDueMs - clock.monotonicMs())]
          : []),
      ];
      if (later.length > 0) this.#schedule(Math.min(...later));
      return;
    }
    const progressed = this.#copied.count > before;
    this.#againMs = progressed ? AGAIN_MIN_MS : Math.min(2 * this.#againMs, this.#longestPauseMs());
    const pauseMs = this.#again ? this.#soonMs() : this.#againMs;
    this.#schedule(Math.max(pauseMs, PAUSE_FACTOR * (clock.monotonicMs() - startMs)));
  }

  /** Nothing while balancing is paused: what ends the pause is a change of the catalog. */
  #balanceInMs(): number[] {
    const { catalog, clock } = this.#o;
    if (catalog.current().balancePaused === true) return [];
    return [Math.max(BEGIN_AFTER_MS, this.#balanceDueMs - clock.monotonicMs())];
  }

  /** Whoever drains a node waits for it, and what has been taken in again has its blocks still. */
  #mayBalance(catalog: Catalog): boolean {
    if (catalog.balancePaused === true) return false;
    return stayingNodes(catalog).length < dataNodes(catalog).length || this.#balanceInMs()[0] === BEGIN_AFTER_MS;
  }

  /** Somebody is down for whom no rescue was due yet. */
  #mayRescueLater(): boolean {
    return (
      this.#downSinceMs.size > 0 &&
      this.#rescueName(this.#activeOthers().filter((id) => this.#downSinceMs.has(id))) !== this.#rescued
    );
  }

  #activeOthers(): NodeId[] {
    const { catalog, self } = this.#o;
    return activeNodes(catalog.current())
      .map((node) => node.id)
      .filter((id) => id !== self);
  }

  #rescueName(down: readonly NodeId[]): string {
    return JSON.stringify([this.#o.catalog.current().epoch, ...down]);
  }

  /** Until what has changed during a walk is to be looked at. */
  #soonMs(): number {
    if (this.#openPools().length > 0) return BEGIN_AFTER_MS;
    return RESCUE_AFTER_MS + BEGIN_AFTER_MS;
  }

  /** Others work for a node that is being drained: it looks more often how far they are. */
  #longestPauseMs(): number {
    return isDrained(this.#o.catalog.current(), this.#o.self) ? AGAIN_DRAINED_MAX_MS : AGAIN_MAX_MS;
  }

  /** What lacked a copy and still does, as far as this node has to care. Settles the pool if that is nothing. */
  async #walkPool(pool: Pool): Promise<{ readonly left: Amount; readonly postponed: Amount }> {
    const { catalog, self, blocks } = this.#o;
    const current = catalog.current();
    // Puts that were checked against the placement before this one are not in the list yet.
    await blocks.putsEnded();
    const asked = new Map<NodeId, number>();
    const view = this.#view(current, pool, asked);
    const onlyScarce = !this.#mayBalance(current);
    this.#scarcity.begin(pool);
    const { missing, open, scarce, postponed } = await walkPool(this.#walkOptions(), view, asked, { onlyScarce });
    this.#scarcity.end(pool, scarce);
    // A drained node is done when the others have told that they have it all: what was just copied is asked for again.
    const result = !isDrained(current, self)
      ? { left: open, postponed }
      : onlyScarce
        ? { left: open, postponed: missing }
        : { left: missing, postponed };
    if (result.left.count === 0 && result.postponed.count === 0) await this.#settled.settle(pool);
    return result;
  }

  async #trim(): Promise<void> {
    const { engine, log } = this.#o;
    // What comes back meanwhile begins another.
    const trimmed = this.#trimmed;
    let keptCount = 0;
    let count = 0;
    for (const pool of this.#untrimmedPools()) {
      const result = await giveUpSurplus({ ...this.#o, signal: this.#closing.signal }, pool);
      const { givenUp } = result;
      count += givenUp.count;
      keptCount += result.keptCount;
      this.#givenUp = { count: this.#givenUp.count + givenUp.count, bytes: this.#givenUp.bytes + givenUp.bytes };
      if (result.keptCount === 0) trimmed.set(pool.id, pool.placementEpoch);
    }
    if (count > 0) {
      log.info({ count, kept: keptCount }, 'gave up copies that others hold');
      await engine.compact();
    }
    this.#surplusAfterMs =
      keptCount === 0 || count > 0 ? SURPLUS_AFTER_MS : Math.min(2 * this.#surplusAfterMs, SURPLUS_AFTER_MAX_MS);
    this.#surplusDueMs = this.#o.clock.monotonicMs() + this.#surplusAfterMs;
  }

  /** Pools of which blocks may be here alone because of nodes that have been down for some seconds and are not out. */
  #rescueDue(): { readonly pools: readonly Pool[]; readonly down: ReadonlySet<NodeId>; readonly name: string } {
    const { catalog, clock } = this.#o;
    const current = catalog.current();
    const nowMs = clock.monotonicMs();
    const isLongDown = (node: NodeId): boolean => nowMs - (this.#downSinceMs.get(node) ?? nowMs) >= RESCUE_AFTER_MS;
    const others = this.#activeOthers();
    const down = new Set(others.filter(isLongDown));
    const name = this.#rescueName([...down]);
    const mayBeAlone = (pool: Pool): boolean => {
      const wanted = wantedCopies(current, pool);
      return wanted > 1 && down.size >= wanted - 1;
    };
    const isNew = down.size > 0 && name !== this.#rescued && others.length > down.size;
    return { pools: isNew ? current.pools.filter(mayBeAlone) : [], down, name };
  }

  /** Blocks that are on no other of their wanted holders that is up get one copy more. What could not be copied. */
  async #rescue(pool: Pool, down: ReadonlySet<NodeId>): Promise<Amount> {
    const { catalog, self } = this.#o;
    const current = catalog.current();
    const view = this.#view(current, pool, new Map());
    // Passed over for now: then the next of the order are asked, too, whether they have it, and are given it if not.
    const without: RepairView = { ...view, viewOf: (node) => (down.has(node) ? 'gone' : view.viewOf(node)) };
    // Who is gone counts, too: nothing says that the next in order has got the copy that it should have.
    const before: RepairView = {
      ...view,
      viewOf: (node) => (view.viewOf(node) === 'gone' ? 'away' : view.viewOf(node)),
    };
    const alone = new Map<number, boolean>();
    const isAlone = (pg: number, id: BlockId): boolean => {
      const known = alone.get(pg);
      if (known !== undefined) return known;
      const isSo = wantedHolders(before, id).every((node) => node === self || before.viewOf(node) !== 'up');
      alone.set(pg, isSo);
      return isSo;
    };
    const done = new Set<string>();
    const selects = ({ copies, id }: CopyWork): boolean => {
      const key = Buffer.from(id).toString('latin1');
      if (copies > 1 || done.has(key)) return false;
      done.add(key);
      return true;
    };
    const wants = (id: BlockId): boolean => isAlone(pgOf(pool, id), id);
    return (await walkPool(this.#walkOptions(), without, new Map(), { wants, selects })).open;
  }

  #view(catalog: Catalog, pool: Pool, asked: ReadonlyMap<NodeId, number>): RepairView {
    return {
      self: this.#o.self,
      catalog,
      pool,
      viewOf: (node) => this.#viewOf(node),
      isSettled: (node) => (asked.get(node) ?? 0) >= pool.placementEpoch,
    };
  }

  #walkOptions(): WalkOptions {
    const walk = this.#walk;
    return {
      ...this.#o,
      signal: this.#stopWalk.signal,
      onScanned: (count) => {
        if (walk !== undefined) walk.scannedCount += count;
      },
      onFound: (tasks) => {
        if (walk !== undefined) walk.foundBytes += bytesOf(tasks);
        this.#scarcity.found(tasks);
      },
      onCopied: (task) => {
        if (walk !== undefined) walk.copiedBytes += task.lengthBytes;
        this.#scarcity.copied(task);
        this.#copied = sumOf(this.#copied, { count: 1, bytes: task.lengthBytes });
      },
    };
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

function placementEpochsOf({ pools }: Catalog): string {
  return pools.map(({ placementEpoch }) => placementEpoch).join();
}

/** Walks go by that. */
function walkRuleOf(catalog: Catalog): string {
  return `${catalog.balancePaused === true} ${placementEpochsOf(catalog)}`;
}
