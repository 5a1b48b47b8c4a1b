import { describe, expect, it } from 'vitest';
import { pattern, POOL, VirtualClock } from '../../test/support/fake-block-cluster.ts';
import { MemoryDisk } from '../env-memory/disk.ts';
import { UnavailableError } from '../errors.ts';
import { blockIdToHex, type BlockId, type NodeId } from '../ids.ts';
import { SILENT_LOGGER } from '../log.ts';
import { DamageHealer } from './damage-healer.ts';
import { DamageLog } from './damage-log.ts';
import type { DamageRecord } from './block-messages.ts';
import { Generations } from './generations.ts';
import { hashBlock } from './identity.ts';
import { MemoryEngine } from './memory-engine.ts';

const self = 'n1' as NodeId;
/** More than wait in line, and more than the log remembers. */
const MANY = 1_500;

/** A node's copies, of which many are set aside, and what other nodes have of them. */
class Bench {
  readonly clock = new VirtualClock();
  readonly engine = new MemoryEngine();
  readonly ids: BlockId[] = [];
  /** What others have, by id. */
  readonly elsewhere = new Map<string, Uint8Array>();
  /** Blocks that were asked for elsewhere, by their number. */
  readonly asked: number[] = [];
  readonly told: DamageRecord[] = [];
  onAsked: (number: number) => void = () => undefined;
  healer!: DamageHealer;

  /** Numbers are given in the order in which the store lists them. */
  async store(): Promise<number> {
    const data = pattern(40, this.ids.length);
    const { id, pageHashes } = hashBlock(data);
    await this.engine.put(POOL, id, pageHashes, data, 0);
    return this.ids.push(id) - 1;
  }

  async storeDamaged(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.engine.markDamaged(POOL, this.ids[await this.store()]!);
  }

  async start(): Promise<void> {
    const { engine, clock } = this;
    const kv = await new MemoryDisk().openKv('/kv');
    this.healer = new DamageHealer({
      ...{ engine, clock, self, log: SILENT_LOGGER },
      generations: new Generations(kv, engine),
      damage: await DamageLog.open(kv, clock, self),
      reader: {
        readWhole: (_, id) => {
          const number = this.ids.findIndex((one) => Buffer.compare(one, id) === 0);
          this.asked.push(number);
          this.onAsked(number);
          const data = this.elsewhere.get(blockIdToHex(id));
          return data === undefined ? Promise.reject(new UnavailableError('nobody answers')) : Promise.resolve(data);
        },
      },
      onDamage: (record) => this.told.push(record),
    });
  }

  othersHave(number: number): void {
    this.elsewhere.set(blockIdToHex(this.ids[number]!), pattern(40, number));
  }

  isIntact(number: number): boolean {
    return this.engine.has(POOL, this.ids[number]!) !== undefined;
  }
}

describe('DamageHealer', () => {
  it('comes to every damaged copy, however many before it cannot be healed', async () => {
    const b = new Bench();
    await b.storeDamaged(MANY);
    b.othersHave(MANY - 1);
    await b.start();
    await b.healer.idle();
    expect(b.isIntact(MANY - 1)).toBe(true);
    b.othersHave(MANY - 2);
    b.clock.step();
    await b.healer.idle();
    expect(b.isIntact(MANY - 2)).toBe(true);
    await b.healer.close();
  });

  it('looks at new damage before what could not be healed', async () => {
    const b = new Bench();
    await b.storeDamaged(MANY);
    const fresh = await b.store();
    b.othersHave(fresh);
    await b.start();
    b.onAsked = () => {
      b.onAsked = () => undefined;
      void b.engine.markDamaged(POOL, b.ids[fresh]!);
      b.healer.suspect(POOL, b.ids[fresh]!);
    };
    await b.healer.idle();
    expect(b.asked.slice(0, 3)).toEqual([0, fresh, 1]);
    expect(b.isIntact(fresh)).toBe(true);
    // Each once.
    expect(b.asked).toHaveLength(MANY + 1);
    await b.healer.close();
  });

  it('tells of each damaged copy once, also of more than the log remembers', async () => {
    const b = new Bench();
    await b.storeDamaged(MANY);
    await b.start();
    for (let round = 0; round < 3; round++) {
      await b.healer.idle();
      b.clock.step();
    }
    await b.healer.idle();
    expect(b.asked.length).toBeGreaterThan(2 * MANY);
    expect(b.told).toHaveLength(MANY);
    await b.healer.close();
  });

  it('ends at once though much is waiting', async () => {
    const b = new Bench();
    await b.storeDamaged(MANY);
    await b.start();
    b.onAsked = () => void b.healer.close();
    await b.healer.idle();
    expect(b.asked).toEqual([0]);
  });
});
