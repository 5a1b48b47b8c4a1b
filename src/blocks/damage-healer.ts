/**
 * What a node does about a copy of its own that is said to be damaged: it looks itself (a reader's word may be wrong, or
 * the network's fault), sets a really damaged copy aside, fetches the block from another holder and stores it again.
 * Keeps a record for `status`.
 */
import { CorruptionError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES, PAGE_BYTES } from '../limits.ts';
import { hashBlock, verifyBlock } from './identity.ts';
import type { Clock, Timer } from '../env.ts';
import type { DamageRecord } from './block-messages.ts';
import type { BlockReader } from './block-reader.ts';
import type { Generations } from './generations.ts';
import type { BlockEngine } from './types.ts';
import type { BlockLog } from './block-service.ts';

/** Blocks waiting to be looked at. More reports than this are dropped: their blocks are reported again when read. */
const WAITING_MAX = 1024;
const RECORDS_MAX = 1024;
/** Copies that could not be healed (no other holder answered) are tried again this often. */
const RETRY_MS = 30_000;
const FETCH_TIMEOUT_MS = 10_000;

interface Suspect {
  readonly pool: PoolId;
  readonly id: BlockId;
}

export interface DamageHealerOptions {
  readonly engine: BlockEngine;
  /** Must not ask this node itself. */
  readonly reader: Pick<BlockReader, 'readWhole'>;
  readonly generations: Generations;
  readonly clock: Clock;
  readonly self: NodeId;
  readonly log: BlockLog;
}

export class DamageHealer {
  readonly #options: DamageHealerOptions;
  readonly #waiting = new Map<string, Suspect>();
  readonly #records = new Map<string, DamageRecord>();
  readonly #closing = new AbortController();
  #worker: Promise<void> | undefined;
  #retry: Timer | undefined;

  constructor(options: DamageHealerOptions) {
    this.#options = options;
    for (const { pool, id } of options.engine.usage().damaged) this.suspect(pool, id);
  }

  /** Newest last. */
  records(): readonly DamageRecord[] {
    return [...this.#records.values()];
  }

  /** Looks at the copy in the background, one at a time: reading back whole blocks must not slow the node down. */
  suspect(pool: PoolId, id: BlockId): void {
    if (this.#closing.signal.aborted || this.#waiting.size >= WAITING_MAX) return;
    this.#waiting.set(keyOf(pool, id), { pool, id });
    this.#worker ??= this.#work();
  }

  /** Resolves when nothing is being looked at. */
  async idle(): Promise<void> {
    while (this.#worker !== undefined) await this.#worker;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#waiting.clear();
    this.#retry?.cancel();
    await this.idle();
  }

  async #work(): Promise<void> {
    // Not within the caller: suspect() is called on hot paths.
    await Promise.resolve();
    for (const [key, suspect] of this.#waiting) {
      this.#waiting.delete(key);
      try {
        await this.#check(key, suspect);
      } catch (error) {
        if (this.#closing.signal.aborted) break;
        this.#options.log.warn({ block: key, error: String(error) }, 'a damaged copy could not be healed yet');
        this.#retry ??= this.#options.clock.setTimer(RETRY_MS, () => this.#retryAll());
      }
    }
    // In the same turn as the end of the loop: a suspect that comes next starts a new worker.
    this.#worker = undefined;
  }

  #retryAll(): void {
    this.#retry = undefined;
    for (const record of this.#records.values()) if (!record.healed) this.suspect(record.pool, record.id);
  }

  async #check(key: string, { pool, id }: Suspect): Promise<void> {
    const { engine } = this.#options;
    const state = await this.#look(pool, id);
    if (state === 'intact') {
      // Healed meanwhile by an ordinary put.
      const record = this.#records.get(key);
      if (record !== undefined && !record.healed) this.#record(key, { ...record, healed: true });
      return;
    }
    if (state === 'absent') return;
    if (this.#records.get(key)?.healed !== false) {
      this.#record(key, { node: this.#options.self, pool, id, foundAtNs: this.#options.clock.wallNs(), healed: false });
      this.#options.log.warn({ block: key }, 'a block on this disk is damaged; fetching it from another node');
    }
    await engine.markDamaged(pool, id);
    const data = await this.#options.reader.readWhole(pool, id, {
      signal: this.#closing.signal,
      timeoutMs: FETCH_TIMEOUT_MS,
    });
    const { pageHashes } = hashBlock(data);
    await this.#options.generations.write(pool, id, 0, (generation) =>
      engine.put(pool, id, pageHashes, data, generation),
    );
    const record = this.#records.get(key);
    if (record !== undefined) this.#record(key, { ...record, healed: true });
    this.#options.log.info({ block: key }, 'a damaged block was healed');
  }

  async #look(pool: PoolId, id: BlockId): Promise<'intact' | 'damaged' | 'absent'> {
    const { engine } = this.#options;
    try {
      const run = await engine.read(pool, id, 0, BLOCK_MAX_BYTES / PAGE_BYTES, false);
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

  #record(key: string, record: DamageRecord): void {
    this.#records.delete(key);
    this.#records.set(key, record);
    if (this.#records.size <= RECORDS_MAX) return;
    for (const oldest of this.#records.keys()) {
      this.#records.delete(oldest);
      return;
    }
  }
}

function keyOf(pool: PoolId, id: BlockId): string {
  return `${pool}/${blockIdToHex(id)}`;
}
