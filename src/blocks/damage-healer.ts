/**
 * What a node does about a copy of its own that is said to be damaged: it looks itself (a reader's word may be wrong, or
 * the network's fault), sets a really damaged copy aside, and stores the block again: from its own bytes if only the
 * record's head was damaged, else from another holder. What it found stays in the DamageLog.
 *
 * What could not be healed is tried again in rounds, all of it in each. There may be much of that, and each may take long (its
 * other holders are down): so what is new goes before, and is never dropped for it.
 */
import type { Clock, Timer } from '../env.ts';
import { BlockNotFoundError, CancelledError, CorruptionError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES, PAGE_BYTES } from '../limits.ts';
import { hashBlock, verifyBlock } from './identity.ts';
import type { DamageFinder, DamageRecord } from './block-messages.ts';
import type { BlockReader } from './block-reader.ts';
import type { BlockLog } from './block-service.ts';
import type { DamageLog } from './damage-log.ts';
import type { Generations } from './generations.ts';
import type { BlockEngine } from './types.ts';

/** Reports waiting to be looked at. More than this are dropped; what is set aside comes again (RETRY_MS). */
const WAITING_MAX = 1024;
/** From when all was looked at until the next round, if some could not be healed or had no room in the line. */
const RETRY_MS = 30_000;
const FETCH_TIMEOUT_MS = 10_000;

/** `gone`: there is no such copy, and none is missed. */
export type HealOutcome = 'intact' | 'healed' | 'unhealed' | 'gone';

interface Suspect {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly foundBy: DamageFinder;
  /** Should be here and is not: what damage left no trace of. */
  readonly isMissed: boolean;
  /** Of a round: it could not be healed before. */
  readonly isRetry: boolean;
  readonly waiters: ((outcome: HealOutcome) => void)[];
}

export interface DamageHealerOptions {
  readonly engine: BlockEngine;
  /** Must not ask this node itself. */
  readonly reader: Pick<BlockReader, 'readWhole'>;
  readonly generations: Generations;
  readonly damage: DamageLog;
  readonly clock: Clock;
  readonly self: NodeId;
  readonly log: BlockLog;
  /** Told of each copy that is found to be damaged, and again when it is healed. */
  readonly onDamage?: (record: DamageRecord) => void;
}

export class DamageHealer {
  readonly #options: DamageHealerOptions;
  /** New reports, by block. */
  readonly #waiting = new Map<string, Suspect>();
  /** What is left of the present round, by block. */
  readonly #round = new Map<string, Suspect>();
  /** Unhealed copies that were told of: there may be more than the log keeps. */
  readonly #told = new Set<string>();
  readonly #closing = new AbortController();
  #worker: Promise<void> | undefined;
  #isRoundDue = false;
  #retry: Timer | undefined;

  constructor(options: DamageHealerOptions) {
    this.#options = options;
    this.#beginRound();
  }

  /** Newest last. */
  records(): readonly DamageRecord[] {
    return this.#options.damage.all();
  }

  /** Looks at the copy in the background, one at a time: reading back whole blocks must not slow the node down. */
  suspect(pool: PoolId, id: BlockId): void {
    if (this.#closing.signal.aborted) return;
    if (this.#waiting.size < WAITING_MAX) this.#enqueue(pool, id, 'read', false);
    else this.#isRoundDue = true;
  }

  /** As suspect, and tells what came of it. `isMissed`: a copy that is not here is fetched. */
  async heal(pool: PoolId, id: BlockId, foundBy: DamageFinder, isMissed = false): Promise<HealOutcome> {
    if (this.#closing.signal.aborted) throw new CancelledError('the node is stopping');
    const suspect = this.#enqueue(pool, id, foundBy, isMissed);
    return await new Promise((resolve) => suspect.waiters.push(resolve));
  }

  #enqueue(pool: PoolId, id: BlockId, foundBy: DamageFinder, isMissed: boolean): Suspect {
    const key = keyOf(pool, id);
    const before = this.#waiting.get(key);
    const suspect = {
      ...{ pool, id, foundBy },
      isMissed: isMissed || before?.isMissed === true,
      isRetry: false,
      waiters: before?.waiters ?? [],
    };
    this.#waiting.set(key, suspect);
    this.#round.delete(key);
    this.#worker ??= this.#work();
    return suspect;
  }

  /** Resolves when nothing is being looked at. */
  async idle(): Promise<void> {
    while (this.#worker !== undefined) await this.#worker;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const { waiters } of this.#waiting.values()) for (const tell of waiters) tell('unhealed');
    this.#waiting.clear();
    this.#round.clear();
    this.#retry?.cancel();
    await this.idle();
  }

  async #work(): Promise<void> {
    // Not within the caller: suspect() is called on hot paths.
    await Promise.resolve();
    let stillUnhealedCount = 0;
    for (let suspect = this.#next(); suspect !== undefined; suspect = this.#next()) {
      const key = keyOf(suspect.pool, suspect.id);
      let outcome: HealOutcome = 'unhealed';
      try {
        outcome = await this.#check(key, suspect);
      } catch (error) {
        this.#isRoundDue = true;
        if (suspect.isRetry) stillUnhealedCount++;
        else if (!this.#closing.signal.aborted) {
          this.#options.log.warn({ block: key, error: String(error) }, 'a damaged copy could not be healed yet');
        }
      }
      for (const tell of suspect.waiters) tell(outcome);
    }
    // In the same turn as the end of the loop: a suspect that comes next starts a new worker.
    this.#worker = undefined;
    if (this.#closing.signal.aborted) return;
    if (stillUnhealedCount > 0) {
      this.#options.log.warn({ count: stillUnhealedCount }, 'damaged copies could still not be healed');
    }
    if (this.#isRoundDue) this.#retryLater();
  }

  #next(): Suspect | undefined {
    for (const line of [this.#waiting, this.#round]) {
      for (const [key, suspect] of line) {
        line.delete(key);
        return suspect;
      }
    }
    return undefined;
  }

  #retryLater(): void {
    this.#retry ??= this.#options.clock.setTimer(RETRY_MS, () => {
      this.#retry = undefined;
      this.#isRoundDue = false;
      this.#beginRound();
    });
  }

  #beginRound(): void {
    const { engine, damage } = this.#options;
    const open = [...engine.usage().damaged, ...damage.all().filter(({ healed }) => !healed)];
    for (const { pool, id } of open) {
      const key = keyOf(pool, id);
      if (this.#waiting.has(key)) continue;
      this.#round.set(key, { pool, id, foundBy: 'read', isMissed: false, isRetry: true, waiters: [] });
    }
    for (const key of this.#told) if (!this.#round.has(key) && !this.#waiting.has(key)) this.#told.delete(key);
    if (this.#round.size > 0) this.#worker ??= this.#work();
  }

  async #check(key: string, suspect: Suspect): Promise<HealOutcome> {
    const { pool, id, foundBy } = suspect;
    const { engine, damage, clock, self, log } = this.#options;
    const state = await this.#look(pool, id);
    const known = damage.get(pool, id);
    if (state === 'intact') {
      // Healed meanwhile by an ordinary put.
      this.#told.delete(key);
      if (known?.healed === false) await this.#healed(known);
      return 'intact';
    }
    if (state === 'absent' && !suspect.isMissed) {
      // Deleted, so nothing is left to be mended.
      this.#told.delete(key);
      if (known?.healed === false) await damage.remove(pool, id);
      return 'gone';
    }
    const record = known?.healed === false ? known : newRecord(self, suspect, clock.wallNs());
    if (state === 'damaged') {
      if (record !== known && !this.#told.has(key)) {
        this.#told.add(key);
        log.warn({ block: key, foundBy }, 'a block on this disk is damaged; fetching it from another node');
        await damage.put(record);
        this.#options.onDamage?.(record);
      }
      await engine.markDamaged(pool, id);
    }
    let data: Uint8Array;
    try {
      data = (await engine.salvage?.(pool, id)) ?? (await this.#fetch(pool, id));
    } catch (error) {
      // A copy that is missed by the books of another node, which has just deleted it.
      if (state === 'absent' && error instanceof BlockNotFoundError) return 'gone';
      throw error;
    }
    const { pageHashes } = hashBlock(data);
    await this.#options.generations.write(pool, id, 0, (generation) =>
      engine.put(pool, id, pageHashes, data, generation),
    );
    await this.#healed(record);
    log.info({ block: key }, 'a damaged block was healed');
    return 'healed';
  }

  async #fetch(pool: PoolId, id: BlockId): Promise<Uint8Array> {
    return await this.#options.reader.readWhole(pool, id, {
      signal: this.#closing.signal,
      timeoutMs: FETCH_TIMEOUT_MS,
    });
  }

  async #healed(record: DamageRecord): Promise<void> {
    const { damage, clock } = this.#options;
    this.#told.delete(keyOf(record.pool, record.id));
    const healed = { ...record, healed: true, healedAtNs: clock.wallNs() };
    await damage.put(healed);
    this.#options.onDamage?.(healed);
  }

  async #look(pool: PoolId, id: BlockId): Promise<'intact' | 'damaged' | 'absent'> {
    const { engine } = this.#options;
    try {
      // With the page list: readers of single pages need that, too.
      const run = await engine.read(pool, id, 0, BLOCK_MAX_BYTES / PAGE_BYTES, true);
      if (run === undefined) {
        const known = engine.usage().damaged.some((one) => one.pool === pool && Buffer.compare(one.id, id) === 0);
        return known ? 'damaged' : 'absent';
      }
      try {
        verifyBlock(id, run.data);
        return 'intact';
      } finally {
        run.release();
      }
    } catch (error) {
      if (error instanceof CorruptionError) return 'damaged';
      throw error;
    }
  }
}

function newRecord(node: NodeId, { pool, id, foundBy }: Suspect, foundAtNs: bigint): DamageRecord {
  return { node, pool, id, foundAtNs, healed: false, foundBy };
}

function keyOf(pool: PoolId, id: BlockId): string {
  return `${pool}/${blockIdToHex(id)}`;
}
