/**
 * What a node does about a copy of its own that is said to be damaged: it looks itself (a reader's word may be wrong, or
 * the network's fault), sets a really damaged copy aside, and stores the block again: from its own bytes if only the
 * record's head was damaged, else from another holder. What it found stays in the DamageLog.
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

/** Blocks waiting to be looked at. More reports than this are dropped; what is set aside comes again (RETRY_MS). */
const WAITING_MAX = 1024;
/** Copies that could not be healed (no other holder answered), or had no room in the line, are tried again this often. */
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
  readonly #waiting = new Map<string, Suspect>();
  readonly #closing = new AbortController();
  #worker: Promise<void> | undefined;
  #retry: Timer | undefined;

  constructor(options: DamageHealerOptions) {
    this.#options = options;
    this.#suspectAll();
  }

  /** Newest last. */
  records(): readonly DamageRecord[] {
    return this.#options.damage.all();
  }

  /** Looks at the copy in the background, one at a time: reading back whole blocks must not slow the node down. */
  suspect(pool: PoolId, id: BlockId): void {
    if (this.#closing.signal.aborted) return;
    if (this.#waiting.size < WAITING_MAX) this.#enqueue(pool, id, 'read', false);
    else this.#retryLater();
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
      waiters: before?.waiters ?? [],
    };
    this.#waiting.set(key, suspect);
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
    this.#retry?.cancel();
    await this.idle();
  }

  async #work(): Promise<void> {
    // Not within the caller: suspect() is called on hot paths.
    await Promise.resolve();
    for (const [key, suspect] of this.#waiting) {
      this.#waiting.delete(key);
      let outcome: HealOutcome = 'unhealed';
      try {
        outcome = await this.#check(key, suspect);
      } catch (error) {
        if (!this.#closing.signal.aborted) {
          this.#options.log.warn({ block: key, error: String(error) }, 'a damaged copy could not be healed yet');
          this.#retryLater();
        }
      }
      for (const tell of suspect.waiters) tell(outcome);
    }
    // In the same turn as the end of the loop: a suspect that comes next starts a new worker.
    this.#worker = undefined;
  }

  #retryLater(): void {
    this.#retry ??= this.#options.clock.setTimer(RETRY_MS, () => {
      this.#retry = undefined;
      this.#suspectAll();
    });
  }

  #suspectAll(): void {
    const { engine, damage } = this.#options;
    for (const { pool, id } of engine.usage().damaged) this.suspect(pool, id);
    for (const { pool, id, healed } of damage.all()) if (!healed) this.suspect(pool, id);
  }

  async #check(key: string, suspect: Suspect): Promise<HealOutcome> {
    const { pool, id, foundBy } = suspect;
    const { engine, damage, clock, self, log } = this.#options;
    const state = await this.#look(pool, id);
    const known = damage.get(pool, id);
    if (state === 'intact') {
      // Healed meanwhile by an ordinary put.
      if (known?.healed === false) await this.#healed(known);
      return 'intact';
    }
    if (state === 'absent' && !suspect.isMissed) {
      // Deleted, so nothing is left to be mended.
      if (known?.healed === false) await damage.remove(pool, id);
      return 'gone';
    }
    const record = known?.healed === false ? known : newRecord(self, suspect, clock.wallNs());
    if (state === 'damaged') {
      if (record !== known) {
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
