/**
 * Collects garbage by itself (gc.ts): the node that is primary of the first group does so every now and then, if something
 * was changed since or is still to be freed, and at once when a disk is getting full. Two that both believe to be it are safe, only wasteful.
 *
 * When it was last done is kept on disk at the node that did it. A new primary that has never done it begins soon.
 */
import type { Catalog, CatalogService } from '../catalog/types.ts';
import { COLLECT_EVERY_MS } from '../catalog/collection.ts';
import { Cancellation, type CancelSignal } from '../cancel.ts';
import type { Clock, Kv, Timer } from '../env.ts';
import { FormatError } from '../errors.ts';
import type { GroupId } from '../ids.ts';
import type { Logger } from '../log.ts';
import type { GcResult } from './gc.ts';

/** How often it is looked whether a collection is due. */
const LOOK_EVERY_MS = 5_000;
/** A new primary waits for so long: whoever starts a cluster or fails over has other things to do. */
const FIRST_AFTER_MS = 30_000;
/** From there on space is wanted sooner than in an hour. */
const URGENT_PERMILLE = 850;
/** A full disk whose data is all in use is not looked through again and again. */
const URGENT_EVERY_MS = 300_000;
/** After one that failed. */
const AGAIN_MS = 60_000;
/** What a collection itself adds to the group's log: a session, the barrier, the session's end. */
export const OWN_ENTRIES = 3;

export interface CollectorOptions {
  readonly catalog: Pick<CatalogService, 'current'>;
  readonly clock: Clock;
  /** For the last one (key `c`). The caller closes it. */
  readonly kv: Kv;
  readonly log: Logger;
  /** Where this node is the serving primary of the group: its latest log position. */
  readonly servedSeq: (group: GroupId) => number | undefined;
  /** The fullest node, as far as is known. */
  readonly fullestPermille: () => number;
  /** Collects once, over connections of its own. */
  readonly collect: (signal: CancelSignal) => Promise<GcResult>;
}

/** Part of a node's report. */
export interface CollectorReport extends GcResult {
  /** When this node last brought a collection to its end, in milliseconds since the Unix epoch; the rest is about that one. */
  readonly atMs: number;
  readonly tookMs: number;
}

const KEY = Uint8Array.of(0x63);
const VALUE_VERSION = 1;

export class Collector {
  readonly #o: CollectorOptions;
  readonly #closing = new Cancellation();
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #last: CollectorReport | undefined;
  /** Of the first group, after the last one. */
  #seqThen: number | undefined;
  #dueMs: number;
  #urgentDueMs: number;
  #wasPrimary = false;

  constructor(options: CollectorOptions) {
    this.#o = options;
    this.#dueMs = this.#urgentDueMs = options.clock.monotonicMs() + FIRST_AFTER_MS;
    const value = options.kv.get(KEY);
    if (value !== undefined) this.#last = decode(value);
  }

  /** After the network listens. */
  start(): void {
    this.#schedule();
  }

  report(): CollectorReport | undefined {
    return this.#last;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#timer?.cancel();
    await this.#running;
  }

  #schedule(): void {
    if (this.#closing.aborted) return;
    this.#timer = this.#o.clock.setTimer(LOOK_EVERY_MS, () => {
      this.#running = this.#look().finally(() => {
        this.#running = undefined;
        this.#schedule();
      });
    });
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { catalog, clock, log, servedSeq } = this.#o;
    const current = catalog.current();
    const [group] = current.groups;
    const seq = group === undefined ? undefined : servedSeq(group.id);
    if (seq === undefined) {
      this.#wasPrimary = false;
      return;
    }
    const nowMs = clock.monotonicMs();
    if (!this.#wasPrimary) {
      this.#wasPrimary = true;
      this.#seqThen = undefined;
      const wallMs = Number(clock.wallNs() / 1_000_000n);
      const agoMs = this.#last === undefined ? Infinity : Math.max(0, wallMs - this.#last.atMs);
      this.#dueMs = nowMs + Math.max(FIRST_AFTER_MS, everyMs(current) - agoMs);
      this.#urgentDueMs = nowMs + FIRST_AFTER_MS;
    }
    // A shorter interval counts from when it is set.
    this.#dueMs = Math.min(this.#dueMs, nowMs + everyMs(current));
    if (!this.#isDue(current, nowMs, seq)) return;
    try {
      const result = await this.#o.collect(this.#closing);
      this.#last = { ...result, atMs: Number(clock.wallNs() / 1_000_000n), tookMs: clock.monotonicMs() - nowMs };
      this.#dueMs = clock.monotonicMs() + everyMs(current);
      this.#urgentDueMs = clock.monotonicMs() + URGENT_EVERY_MS;
      // What was too young has its time next time, whether anything is changed until then or not; and so has what was
      // changed on the way, which may have been seen as it was before.
      const seqNow = servedSeq((group as { id: GroupId }).id);
      const wasChanged = seqNow === undefined || seqNow - seq > OWN_ENTRIES;
      const isThrough = result.skippedNodes.length === 0 && result.pendingCount === 0 && !wasChanged;
      this.#seqThen = isThrough ? seqNow : undefined;
      await this.#o.kv.batch([{ key: KEY, value: encode(this.#last) }], { sync: true });
      if (result.reclaimedCount > 0)
        log.info({ copies: result.reclaimedCount, bytes: result.reclaimedBytes }, 'freed what no file uses');
    } catch (error) {
      this.#dueMs = this.#urgentDueMs = clock.monotonicMs() + AGAIN_MS;
      if (!this.#closing.aborted) log.warn({ error: String(error) }, 'garbage collection did not come to its end');
    }
  }

  #isDue(current: Catalog, nowMs: number, seq: number): boolean {
    if (current.collectEveryMs === null) return false;
    const isUrgent = this.#o.fullestPermille() >= URGENT_PERMILLE && nowMs >= this.#urgentDueMs;
    // Other groups' changes are not seen from here.
    const isUnchanged = seq === this.#seqThen && current.groups.length === 1;
    return !isUnchanged && (isUrgent || nowMs >= this.#dueMs);
  }
}

/** Where it is never done, nothing comes of this. */
function everyMs(catalog: Catalog): number {
  return catalog.collectEveryMs ?? COLLECT_EVERY_MS;
}

function encode(report: CollectorReport): Uint8Array {
  return Uint8Array.of(VALUE_VERSION, ...new TextEncoder().encode(JSON.stringify(report)));
}

/** What is no record of this version is forgotten: it is for people, and for not collecting too often. */
function decode(value: Uint8Array): CollectorReport | undefined {
  if (value[0] !== VALUE_VERSION) {
    throw new FormatError('the record of the last garbage collection is of another format', {
      remedy: 'Use the newer version of tatamifs that wrote it.',
    });
  }
  return JSON.parse(new TextDecoder().decode(value.subarray(1))) as CollectorReport;
}
