/**
 * Random work on a disk that forgets what was not synced, with crashes, kills, failing syncs and lost indexes at random
 * points. After each: what was acknowledged holds, what was not is one thing or the other and stays it, and no byte is
 * ever wrong.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sampleBytes } from '../../test/conformance/block-store.ts';
import { MemoryDisk } from '../env-memory.ts';
import { NodeClock } from '../env-node.ts';
import type { Disk, Random } from '../env.ts';
import type { BlockId, PoolId } from '../ids.ts';
import { hashBlock, verifyPages } from './identity.ts';
import { PackEngine } from './pack-engine.ts';

const POOL = 7 as PoolId;
const PATH = '/store';
const PACK_BYTES = 150_000;

const BLOCKS = [1, 60, 500, 4000, 9000, 30_000, 65_536, 70_000].map((length, index) => {
  const data = sampleBytes(length, index + 1);
  return { data, ...hashBlock(data) };
});

interface Known {
  /** What reads must show now. */
  present: boolean;
  /** An operation was not acknowledged: after the next start it may be either. */
  unsure: boolean;
  /** Stamp that was acknowledged, and the highest that was asked for. */
  leastStamp: number;
  mostStamp: number;
}

type Step =
  | {
      readonly kind: 'work';
      readonly ops: readonly { readonly block: number; readonly op: 'put' | 'delete' | 'renew' }[];
      readonly turns: number | undefined;
    }
  | { readonly kind: 'compact'; readonly turns: number | undefined }
  | {
      readonly kind: 'crash' | 'kill' | 'close';
      readonly loseIndex: boolean;
      readonly anyKvOrder: boolean;
      readonly seed: number;
    }
  | { readonly kind: 'fault'; readonly op: 'datasync' | 'write' | 'truncate'; readonly code: 'EIO' | 'ENOSPC' };

/** A number: an interruption after so many turns follows; undefined: the work is waited for. */
const turns = fc.option(fc.nat(120), { nil: undefined, freq: 2 });
const restart = fc.record({
  kind: fc.constantFrom('crash' as const, 'crash' as const, 'kill' as const, 'close' as const),
  loseIndex: fc.boolean(),
  anyKvOrder: fc.boolean(),
  seed: fc.nat(),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('work' as const),
      ops: fc.uniqueArray(
        fc.record({
          block: fc.nat(BLOCKS.length - 1),
          op: fc.constantFrom('put' as const, 'put' as const, 'delete' as const, 'renew' as const),
        }),
        { minLength: 1, maxLength: 6, selector: ({ block }) => block },
      ),
      turns,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('compact' as const), turns }) },
  { weight: 3, arbitrary: restart },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('fault' as const),
      op: fc.constantFrom('datasync' as const, 'write' as const, 'truncate' as const),
      code: fc.constantFrom('EIO' as const, 'ENOSPC' as const),
    }),
  },
);

function randomFrom(seed: number): Random {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  const below = (bound: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
  return { below, bytes: (length) => Uint8Array.from({ length }, () => below(256)) };
}

/** The disk as one process sees it: once that is dead, nothing it still does reaches the disk. */
function mortal(disk: MemoryDisk): { disk: Disk; die(): void } {
  let dead = false;
  const never = (): Promise<never> => new Promise(() => undefined);
  const proxy = new Proxy(disk, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return (...given: unknown[]): unknown => (dead ? never() : Reflect.apply(member, target, given));
    },
  });
  return {
    disk: proxy,
    die: () => {
      dead = true;
    },
  };
}

class Run {
  readonly #disk = new MemoryDisk();
  readonly #known: Known[] = BLOCKS.map(() => ({ present: false, unsure: false, leastStamp: 0, mostStamp: 0 }));
  #stamp = 0;
  #process = mortal(this.#disk);
  #engine: PackEngine | undefined;
  #underWay: Promise<unknown>[] = [];
  #last: Promise<void>[] = [];
  readonly #faults: (() => void)[] = [];

  async start(): Promise<void> {
    this.#process = mortal(this.#disk);
    const clock = new NodeClock();
    this.#engine = await PackEngine.open({
      disk: this.#process.disk,
      clock,
      path: PATH,
      storeId: 'test',
      packMaxBytes: PACK_BYTES,
    });
    for (const [index, known] of this.#known.entries()) {
      const { id } = BLOCKS[index]!;
      const present = this.#engine.has(POOL, id) !== undefined;
      if (known.unsure) known.present = present;
      if (!present) known.leastStamp = known.mostStamp = 0;
      known.unsure = false;
    }
    await this.check();
  }

  async apply(step: Step): Promise<void> {
    const engine = this.#engine!;
    switch (step.kind) {
      case 'work':
        this.#stamp++;
        for (const { block, op } of step.ops) {
          const stamp = this.#stamp;
          // One at a time on one block, so that the test knows the outcome; all blocks at once.
          this.#last[block] = (this.#last[block] ?? Promise.resolve()).then(() =>
            this.#operate(engine, block, op, stamp),
          );
          this.#underWay.push(this.#last[block]);
        }
        return await this.#settle(step.turns);
      case 'compact':
        this.#underWay.push(engine.compact().catch(() => undefined));
        return await this.#settle(step.turns);
      case 'fault':
        this.#faults.push(this.#disk.failNext({ op: step.op, path: '/packs/', code: step.code }));
        return;
      default: {
        if (step.kind === 'close') await engine.close();
        this.#process.die();
        this.#engine = undefined;
        if (step.kind === 'crash') this.#disk.crash({ random: randomFrom(step.seed), anyKvOrder: step.anyKvOrder });
        else this.#disk.killProcess();
        this.#underWay = [];
        this.#last = [];
        for (const takeBack of this.#faults.splice(0)) takeBack();
        if (step.loseIndex) await this.#disk.remove(`${PATH}/index`);
        await this.start();
      }
    }
  }

  async #settle(turnCount: number | undefined): Promise<void> {
    if (turnCount === undefined) {
      await Promise.all(this.#underWay);
      this.#underWay = [];
      await this.check();
      return;
    }
    // Whatever comes next comes in the middle of this.
    for (let turn = 0; turn < turnCount; turn++) await Promise.resolve();
  }

  async #operate(engine: PackEngine, index: number, op: 'put' | 'delete' | 'renew', stamp: number): Promise<void> {
    if (engine !== this.#engine) return;
    const { id, pageHashes, data } = BLOCKS[index]!;
    const known = this.#known[index]!;
    const wasUnsure = known.unsure;
    known.unsure = true;
    known.mostStamp = Math.max(known.mostStamp, stamp);
    try {
      if (op === 'put') {
        await engine.put(POOL, id, pageHashes, data, stamp);
        Object.assign(known, { present: true, unsure: false });
        known.leastStamp = Math.max(known.leastStamp, stamp);
      } else if (op === 'delete') {
        const was = known.present;
        expect(await engine.delete(POOL, id)).toBe(was);
        Object.assign(known, { present: false, unsure: false, leastStamp: 0 });
      } else {
        // A failed delete leaves a block that is served but not renewed: whether it outlasts a restart is not known.
        if (await engine.renew(POOL, id, stamp)) {
          known.leastStamp = Math.max(known.leastStamp, stamp);
          known.unsure = false;
        } else if (!known.present) {
          known.unsure = engine.has(POOL, id) !== undefined || wasUnsure;
        }
      }
    } catch (error) {
      // Of a process that is no more: nobody listens.
      if (engine !== this.#engine) return;
      // A fault of the disk: not acknowledged, so unsure.
      if (error instanceof Error && error.name === 'AssertionError') throw error;
    }
  }

  /** Everything readable is as known, byte by byte. */
  async check(): Promise<void> {
    const engine = this.#engine!;
    const stamps = new Map<string, number>();
    for await (const info of engine.list(POOL)) stamps.set(hex(info.id), info.generation);
    let bytes = 0;
    for (const [index, known] of this.#known.entries()) {
      const { id, data } = BLOCKS[index]!;
      const run = await engine.read(POOL, id, 0, 64, true);
      const stamp = stamps.get(hex(id));
      if (known.unsure) {
        run?.release();
        if (run !== undefined) bytes += data.length;
        continue;
      }
      expect(run !== undefined, `block ${index} present`).toBe(known.present);
      expect(stamp !== undefined, `block ${index} listed`).toBe(known.present);
      if (run === undefined || stamp === undefined) continue;
      verifyPages(id, data.length, run.pageHashes, 0, run.data);
      expect(Buffer.compare(run.data, data)).toBe(0);
      run.release();
      bytes += data.length;
      expect(stamp).toBeGreaterThanOrEqual(known.leastStamp);
      expect(stamp).toBeLessThanOrEqual(this.#stamp);
    }
    expect(engine.usage()).toMatchObject({ blockCount: stamps.size, liveBytes: bytes, damaged: [] });
  }

  /** At the end all can be deleted and its space comes back. */
  async finish(): Promise<void> {
    await this.apply({ kind: 'crash', loseIndex: false, anyKvOrder: true, seed: 1 });
    const engine = this.#engine!;
    await Promise.all(BLOCKS.map(({ id }) => engine.delete(POOL, id)));
    for (let round = 0; round < 3; round++) await engine.compact();
    expect(engine.usage()).toMatchObject({ blockCount: 0, liveBytes: 0, damaged: [] });
    expect(engine.usage().fileBytes).toBeLessThan(10_000);
    await engine.close();
  }
}

function hex(id: BlockId): string {
  return Buffer.from(id).toString('hex');
}

describe('PackEngine through crashes', () => {
  it('keeps what it acknowledged', { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
        const run = new Run();
        await run.start();
        for (const one of steps) await run.apply(one);
        await run.finish();
      }),
      { numRuns: Number(process.env['TATAMI_RUNS'] ?? 60) },
    );
  });
});
